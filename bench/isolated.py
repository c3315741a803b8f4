"""Runs trials that may crash, hang or eat the machine's memory, in child processes; a dead child costs one trial."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import mmap
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Trial = Callable[[int], str]
"""The verdict on trial number i."""

_STUCK_SECONDS = 20.0
_MEMORY = 2 << 30
_WIDTH = 8


@dataclass
class Verdicts:
    """How often each verdict was given; in how many trials the process died (crashed) or had to be killed (hung)."""

    counts: dict[str, int] = field(default_factory=dict)
    crashed: int = 0
    hung: int = 0

    def of(self, *names: str) -> int:
        """How often one of these."""
        return sum(self.counts.get(name, 0) for name in names)


class _Shard:
    """Trials start ... stop - 1, in one child after the other; the child's progress is in shared memory."""

    def __init__(self, start: int, stop: int, names: tuple[str, ...]) -> None:
        self._stop, self._names = stop, names
        self._shared = mmap.mmap(-1, _WIDTH * (1 + len(names)))
        self._put(0, start)
        self._seen, self._since = start, time.monotonic()
        self.pid = 0

    def _get(self, place: int) -> int:
        value: int = struct.unpack_from("<q", self._shared, _WIDTH * place)[0]
        return value

    def _put(self, place: int, value: int) -> None:
        struct.pack_into("<q", self._shared, _WIDTH * place, value)

    @property
    def done(self) -> bool:
        """Whether no trial is left."""
        return self._get(0) >= self._stop

    @property
    def stuck(self) -> bool:
        """Whether one trial has taken too long."""
        current = self._get(0)
        if current != self._seen:
            self._seen, self._since = current, time.monotonic()
        return time.monotonic() - self._since > _STUCK_SECONDS

    def begin(self, trial: Trial) -> None:
        """Go on in a new child."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._since = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                _quiet()
                self._work(trial)
                code = 0
            os._exit(code)

    def _work(self, trial: Trial) -> None:
        for number in range(self._get(0), self._stop):
            place = 1 + self._names.index(trial(number))
            self._put(place, self._get(place) + 1)
            self._put(0, number + 1)

    def skip(self) -> None:
        """Leave out the trial that the last child was in."""
        self._put(0, self._get(0) + 1)

    def add_to(self, verdicts: Verdicts) -> None:
        """Add the counts."""
        for place, name in enumerate(self._names, 1):
            verdicts.counts[name] = verdicts.counts.get(name, 0) + self._get(place)


def _quiet() -> None:
    """No output, no core files, no memory without end, Ctrl-C left to the parent; the default for deadly signals."""
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run(trial: Trial, count: int, names: tuple[str, ...], jobs: int = 1) -> Verdicts:
    """Trials 0 ... count - 1 in `jobs` processes; `names` are the verdicts that there are."""
    edges = [count * j // jobs for j in range(jobs + 1)]
    shards = [_Shard(start, stop, names) for start, stop in itertools.pairwise(edges)]
    verdicts = Verdicts()
    running = [shard for shard in shards if not shard.done]
    try:
        for shard in running:
            shard.begin(trial)
        while running:
            time.sleep(0.002)
            running = [shard for shard in running if not _look_after(shard, trial, verdicts)]
    finally:
        for shard in running:
            os.kill(shard.pid, signal.SIGKILL)
            os.waitpid(shard.pid, 0)
    for shard in shards:
        shard.add_to(verdicts)
    return verdicts


def _look_after(shard: _Shard, trial: Trial, verdicts: Verdicts) -> bool:
    """Whether the shard is through; a dead child is replaced, one that is stuck is killed first."""
    pid, _ = os.waitpid(shard.pid, os.WNOHANG)
    if pid == 0:
        if not shard.stuck:
            return False
        os.kill(shard.pid, signal.SIGKILL)
        os.waitpid(shard.pid, 0)
        verdicts.hung += 1
        shard.skip()
    elif not shard.done:
        verdicts.crashed += 1
        shard.skip()
    if shard.done:
        return True
    shard.begin(trial)
    return False
