"""Kills processes with SIGKILL at random moments of a save over an existing archive, and looks at what is left."""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import szdnn
from bench import campaign as records

State = dict[str, NDArray[Any]]
BOUND = szdnn.Rel(1e-3)


def configure(parser: argparse.ArgumentParser) -> None:
    """--kills, --seed, --megabytes, --reference, --folder."""
    parser.add_argument("--kills", type=int, default=500, help="how often (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=float, default=4.0, help="size of the state (default 4)")
    parser.add_argument("--reference", action="store_true", help="save differences to a third archive")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--csv", type=Path, help="put the counts into this file")


def run(args: argparse.Namespace) -> int:
    """Counts of what was found; 1 if ever anything but the old or the new archive, whole."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found = campaign(Path(folder), args.kills, args.seed, args.megabytes, args.reference)
    for what in ("old", "new", "broken", "left behind"):
        print(f"{what:<12} {found[what]:>5}")
    print(f"{args.kills} kills over a save of {found['save ms']} ms")
    if args.csv:
        whole, broken = found["old"] + found["new"], found["broken"]
        note = f"{found['old']} old, {found['new']} new archives, {found['left behind']} files left behind"
        findings = [records.Finding("kill", "saves killed", "szdnn", args.kills, "kills", whole, broken, 0, note)]
        records.record(args.csv, findings)
    return int(found["broken"] > 0)


def campaign(folder: Path, kills: int, seed: int, megabytes: float, reference: bool = False) -> Counter[str]:
    """Kill so often; how often the old archive was there, the new one, something broken, and files left behind.

    reference: whether what is saved holds differences to another archive in the folder.
    """
    dice, path = random.Random(seed), folder / "state.szd.safetensors"
    base = folder / "base.szd.safetensors" if reference else None
    states = [_state(seed, megabytes), _near(_state(seed, megabytes)) if reference else _state(seed + 1, megabytes)]
    if base is not None:
        szdnn.save(base, states[0], BOUND)
    expected = [szdnn.loads(szdnn.dumps(s, BOUND, reference=base), reference=base) for s in states]
    current = 0
    found: Counter[str] = Counter()
    for number in range(kills):
        if number % 25 == 0:  # anew, since other work on the machine comes and goes
            duration = sorted(_whole_save(path, states[i], base) for i in (1 - current, current, current))[1]
            found["save ms"] = round(duration * 1000)
        child = _begin_save(path, states[1 - current], base)
        time.sleep(dice.uniform(0, 1.3 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        now = _which(path, expected)
        found["broken" if now is None else "old" if now == current else "new"] += 1
        if now is None:
            szdnn.save(path, states[current], BOUND, reference=base)
        current = current if now is None else now
        for left in folder.iterdir():
            if left not in (path, base):
                found["left behind"] += 1
                left.unlink()
    return found


def _whole_save(path: Path, state: State, base: Path | None) -> float:
    """How long a save that is left alone takes, in seconds."""
    start = time.perf_counter()
    os.waitpid(_begin_save(path, state, base), 0)
    return time.perf_counter() - start


def _state(seed: int, megabytes: float) -> State:
    """Matrices, a vector and small tensors."""
    rng = np.random.default_rng(seed)
    rows = max(int(megabytes * 1e6 / 4 / 4 / 512), 4)
    state: State = {f"layer{i}.weight": rng.normal(size=(rows, 512)).astype(np.float32) for i in range(4)}
    state |= {f"layer{i}.bias": rng.normal(size=16).astype(np.float32) for i in range(8)}
    return {**state, "seed": np.array([seed])}


def _near(state: State) -> State:
    """The state after a little training."""
    rng = np.random.default_rng(99)
    return {name: (x + rng.normal(0, 1e-3, x.shape)).astype(x.dtype) for name, x in state.items()} | {
        "seed": state["seed"] + 1
    }


def _begin_save(path: Path, state: State, base: Path | None) -> int:
    """Begin to save in a process of its own; its number."""
    child = os.fork()
    if child == 0:
        try:
            szdnn.save(path, state, BOUND, reference=base)
        finally:
            os._exit(0)
    return child


def _which(path: Path, expected: list[State]) -> int | None:
    """Which state the archive holds, None when it is not whole or holds another."""
    try:
        if not szdnn.verify(path).ok:
            return None
        state = szdnn.load(path)
    except (szdnn.Error, OSError):
        return None
    for i, one in enumerate(expected):
        if state.keys() == one.keys() and all(state[name].tobytes() == one[name].tobytes() for name in one):
            return i
    return None
