"""Periodic checkpoints of a training loop: compressed in the background, the last few kept, resumed after a crash.

    with Checkpointer("runs/a", szdnn.Rel(1e-4), keep=3, every=500) as checkpoints:
        done = 0
        if (found := checkpoints.restore()) is not None:
            model.load_state_dict(found.state["model"])
            optimizer.load_state_dict(found.state["optimizer"])
            done = found.step
        for step in range(done + 1, steps + 1):
            train_one_step()
            checkpoints.step(step, lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()})

A checkpoint is an archive, `step-0000000500.szd.safetensors`, that szdnn.load and the command line read as any other.
With `reference=True` most hold only the differences to the one before, and are called
`step-0000001000.on-0000000500.szd.safetensors`: the name says which it needs, so that this one is kept as long, without
opening either.

In distributed training, one rank saves (a replicated model); for sharded models see `szdnn.integrations.dcp`.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import szdnn

from ..bounds import Bound
from ..errors import ArgumentError, CorruptFrame, Error, ReferenceMismatch, UnsupportedFrame
from ..files import SaveReport
from ..plan import Plan
from .remote import Folder, Url, place_of
from .snapshot import Copier

_NAME = re.compile(r"step-([0-9]{10,})(?:\.on-([0-9]{10,}))?\.szd\.safetensors")


@dataclass(frozen=True)
class Entry:
    """A checkpoint file: its step, and the step of the one it can't be read without, if it holds differences."""

    path: Path | Url
    step: int
    base: int | None = None

    @classmethod
    def of(cls, path: Path | Url) -> Entry | None:
        """What a file's name says; None for other files."""
        match = _NAME.fullmatch(path.name)
        return cls(path, int(match[1]), int(match[2]) if match[2] else None) if match else None


def entry_name(step: int, base: int | None = None) -> str:
    """The file name of the checkpoint of a step."""
    return f"step-{step:010d}" + (f".on-{base:010d}" if base is not None else "") + ".szd.safetensors"


def superfluous(entries: Sequence[Entry], keep: int) -> list[Entry]:
    """The entries beyond the newest `keep` that none of these needs, directly or through others."""
    by_step = {entry.step: entry for entry in entries}
    needed: set[int] = set()
    for step in sorted(by_step)[-keep:]:
        link: int | None = step
        while link is not None and link in by_step and link not in needed:
            needed.add(link)
            link = by_step[link].base
    return [entry for entry in entries if entry.step not in needed]


def chain_of(entries: Sequence[Entry], entry: Entry) -> list[Entry] | None:
    """An entry and all it can't be read without, the newest first; None where one of them is missing."""
    by_step = {other.step: other for other in entries}
    chain = [entry]
    while (step := chain[-1].base) is not None:
        if step not in by_step or by_step[step] in chain:
            return None
        chain.append(by_step[step])
    return chain


@dataclass(frozen=True)
class Restored:
    """A checkpoint that was read: its step, its state, its file, and how often its values went through lossy
    compression."""

    step: int
    state: Any
    path: Path | Url
    generations: int


@dataclass
class Times:
    """Where the time of the training loop went, in seconds.

    copied: copying states, which blocks the loop. waited: waiting for the checkpoint before, which blocks it too, and
    is nothing where checkpoints are further apart than they take. saved: compressing and writing, in the background.
    """

    saves: int = 0
    copied: float = 0.0
    waited: float = 0.0
    saved: float = 0.0


class Checkpointer:
    """Saves checkpoints of a training loop to a folder and finds the newest one again. A context manager.

    folder: a path, or a URL that fsspec knows.
    bound: a bound for every tensor, by the default rules of `szdnn.plan`, or a Plan.
    keep: how many checkpoints stay, and what they can't be read without; None: all.
    reference: keep the differences to the checkpoint before, which is read again for that, where it is intact.
        Restoring reads the whole chain.
    links: differences in a row at most; then comes a checkpoint that stands alone.
    every: for `step`: a number of steps, or the time between two checkpoints.
    background: save in a thread, from a copy of the state; the memory of one copy is kept for the next. Otherwise
        `step` and `save` return when the checkpoint is on disk.
    effort, threads: as for szdnn.compress; threads=1 leaves most of the processor to the loop.

    One process at a time may use a folder. What goes wrong in the background is raised by the next call of any method,
    for the last checkpoint by `close`. Not for several threads at once.
    """

    def __init__(
        self,
        folder: Path | Url | str,
        bound: Bound | Plan,
        *,
        keep: int | None = 3,
        every: int | timedelta = 1,
        background: bool = True,
        reference: bool = False,
        links: int = 8,
        effort: int = 3,
        threads: int | None = None,
    ) -> None:
        if keep is not None and (type(keep) is not int or keep < 1):
            raise ArgumentError(f"keep must be a positive integer or None, not {keep!r}")
        if not (isinstance(every, timedelta) or (type(every) is int and every > 0)):
            raise ArgumentError(f"every must be a positive number of steps or a timedelta, not {every!r}")
        if type(links) is not int or links < 1:
            raise ArgumentError(f"links must be a positive integer, not {links!r}")
        self._folder = Folder.of(folder)
        self.folder = place_of(folder)
        self.plan = Plan.of(bound)
        self.links = links if reference else 0
        self.keep, self.every = keep, every
        self.effort, self.threads = effort, threads
        self.times = Times()
        self.generations = 0
        """How often the values of the state went through lossy compression before they came into this process."""
        self._folder.make()
        self._damaged: set[str] = set()
        self._seen = 0
        self._last = time.monotonic()
        self._copier = Copier()
        self._pool = ThreadPoolExecutor(1, "szdnn-checkpoint") if background else None
        self._running: Future[SaveReport] | None = None
        self._report: SaveReport | None = None

    def entries(self) -> list[Entry]:
        """The checkpoints in the folder, oldest first."""
        found = (Entry.of(path) for path in self._folder.files())
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.step)

    def restore(self, step: int | None = None) -> Restored | None:
        """The newest checkpoint that is intact, or that of `step`; None where there is none.

        Damaged ones are passed over with a warning and stay where they are. Every checksum is checked. Raises
        FileNotFoundError for a `step` that is not there, and what szdnn.load raises where that one is damaged.
        """
        self.wait()
        entries = [entry for entry in self.entries() if step in (None, entry.step)]
        if step is not None:
            if not entries:
                raise FileNotFoundError(f"{self._folder} has no checkpoint of step {step}")
            return self._restored(entries[-1])
        for entry in reversed(entries):
            try:
                return self._restored(entry)
            except (Error, OSError) as error:
                self._damaged.add(str(entry.path))
                warnings.warn(f"{entry.path} is passed over: {error}", RuntimeWarning, stacklevel=2)
        return None

    def _restored(self, entry: Entry) -> Restored:
        place = entry.path if isinstance(entry.path, Path) else str(entry.path)
        with szdnn.open(place) as archive:
            assert isinstance(archive, szdnn.Archive)
            generations = archive.generations
        state = szdnn.load(place)
        self.generations, self._seen = generations, entry.step
        return Restored(entry.step, state, entry.path, generations)

    def step(self, step: int, state: object | Callable[[], object]) -> bool:
        """Save if it is time to, after `step` steps in all; whether it was.

        state: what to save, or a function that returns it, which is called only then.
        """
        self._check()
        if isinstance(self.every, timedelta):
            due = time.monotonic() - self._last >= self.every.total_seconds()
        else:
            due = step // self.every > self._seen // self.every
        if due:
            self.save(step, state)
        self._seen = max(self._seen, step)
        return due

    def save(self, step: int, state: object | Callable[[], object]) -> None:
        """Save the state after `step` steps now. Waits for the checkpoint before, if that is still being written.

        Raises ArgumentError for a step that is no number from 0 on; without a background also what szdnn.save raises.
        """
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ArgumentError(f"step must be an integer from 0 on, not {step!r}")
        self._last = time.monotonic()
        self.wait()
        start = time.monotonic()
        self.times.waited += start - self._last
        value = state() if callable(state) else state
        if self._pool is None:
            self._report = self._write(step, value)
            return
        copied = self._copier.copy(value)
        self._running = self._pool.submit(self._write, step, copied)
        self.times.copied += time.monotonic() - start

    def _write(self, step: int, state: object) -> SaveReport:
        start = time.monotonic()
        try:
            path, report = self._save(step, state, self._base(step))
        finally:
            self._copier.release()
        self._damaged.discard(str(path))
        for entry in self.entries():  # what this one replaces may have another name
            if entry.step == step and str(entry.path) != str(path):
                self._folder.remove(entry.path.name)
        self._prune()
        self.times.saves += 1
        self.times.saved += time.monotonic() - start
        return report

    def _base(self, step: int) -> Entry | None:
        """The newest checkpoint before `step` on which another link may be put; None where it is time for one that
        stands alone."""
        usable = [e for e in self.entries() if e.step < step and str(e.path) not in self._damaged]
        if not self.links or not usable:
            return None
        chain = chain_of(usable, usable[-1])
        return usable[-1] if chain is not None and len(chain) <= self.links else None

    def _save(self, step: int, state: object, base: Entry | None) -> tuple[Path | Url, SaveReport]:
        path = self._folder.file(entry_name(step, base.step if base else None))
        place = path if isinstance(path, Path) else str(path)
        try:
            report = szdnn.save(
                place, state, self.plan, reference=base and base.path, effort=self.effort, threads=self.threads,
                generations=self.generations,
            )  # fmt: skip
        except (CorruptFrame, ReferenceMismatch, UnsupportedFrame, FileNotFoundError) as error:
            if base is None:
                raise
            self._damaged.add(str(base.path))
            warnings.warn(f"{base.path} is not built upon: {error}", RuntimeWarning, stacklevel=2)
            return self._save(step, state, None)
        if base is not None and not any(tensor.info.reference for tensor in report.tensors):
            return self._folder.rename(path, entry_name(step)), report
        return path, report

    def _prune(self) -> None:
        """Remove what is beyond `keep`. Damaged checkpoints do not count, and stay."""
        if self.keep is not None:
            for entry in superfluous([e for e in self.entries() if str(e.path) not in self._damaged], self.keep):
                self._folder.remove(entry.path.name)

    def _check(self) -> None:
        """Raise what went wrong in the background."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> SaveReport | None:
        """Wait until the last checkpoint is on disk; what became of it, None where there was none. Raises what
        szdnn.save raised in the background."""
        if self._running is not None:
            running, self._running = self._running, None
            self._report = running.result()
        return self._report

    def close(self) -> None:
        """Wait for the last checkpoint and end the thread. Raises what szdnn.save raised in the background."""
        try:
            self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"the last checkpoint was not saved either: {failure!r}")
