"""One process of the soak: takes case after case, runs the codec, judges, and reports tallies."""

from __future__ import annotations

import time
import traceback
import warnings
from dataclasses import dataclass, field, replace
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.soak_case import VARIANTS, Case, draw
from bench.soak_check import check, native
from bench.soak_judge import Judge, load

Array = NDArray[Any]

# The only bound that may be out of reach, which BoundError says: the others can always fall back on lossless.
_MAY_REFUSE = ("Bits",)
_REPORT_SECONDS = 1.0


@dataclass
class Tally:
    """Counts since the last report."""

    cases: int = 0
    values: int = 0
    raw_bytes: int = 0
    frame_bytes: int = 0
    codec_s: float = 0.0
    refused: int = 0
    by_dtype: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, int] = field(default_factory=dict)
    by_source: dict[str, int] = field(default_factory=dict)
    by_predictor: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Sum up."""
        for name in ("cases", "values", "raw_bytes", "frame_bytes", "codec_s", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("by_dtype", "by_kind", "by_source", "by_predictor"):
            mine = getattr(self, name)
            for key, count in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + count
        self.violations += other.violations


@dataclass
class Orders:
    """What a process is told: its cases are first, first + stride ... of the seed, until `stop` is set.

    judge: where the judge was built.
    """

    seed: int
    first: int
    stride: int
    folder: Path
    judge: Path
    stop: Event
    current: Synchronized[int]
    reports: Queue[Tally]


def work(orders: Orders) -> None:
    """Process body."""
    signal(SIGINT, SIG_IGN)
    judge, tally, told = load(orders.judge), Tally(), time.monotonic()
    index = orders.first
    while not orders.stop.is_set():
        orders.current.value = index
        for case in draw(orders.seed, index):
            run_case(case, tally, orders.folder, judge)
        index += orders.stride
        if tally.violations or time.monotonic() - told > _REPORT_SECONDS:
            orders.reports.put(tally)
            tally, told = Tally(), time.monotonic()
    orders.reports.put(tally)


def run_case(case: Case, tally: Tally, folder: Path, judge: Judge) -> None:
    """Compress, decompress, judge; a violation is stored as a reproducer."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning out of the codec is a finding, too
        problems, frame = _attempt(case, tally, judge)
    tally.cases += 1
    tally.values += case.array.size
    tally.raw_bytes += case.array.nbytes
    tally.frame_bytes += len(frame)
    for counts, key in ((tally.by_dtype, case.array.dtype.name), (tally.by_kind, case.kind)):
        counts[key] = counts.get(key, 0) + case.array.size
    tally.by_source[case.maker] = tally.by_source.get(case.maker, 0) + case.array.size
    if problems:
        path = _store(case, frame, problems, folder)
        tally.violations.append(f"{case.describe()}\n  " + "\n  ".join(problems) + f"\n  stored in {path}")


def _attempt(case: Case, tally: Tally, judge: Judge) -> tuple[list[str], bytes]:
    import szdnn

    frame = b""
    start = time.perf_counter()
    try:
        frame = _compress(case, case.threads)
        decoded = szdnn.decompress(frame, reference=case.reference, threads=case.threads)
        tally.codec_s += time.perf_counter() - start
        info = szdnn.info(frame)
        problems = check(judge, case, decoded, info.eps)
        tally.by_predictor[info.predictor] = tally.by_predictor.get(info.predictor, 0) + case.array.size
        problems += _judge_frame(case, frame)
        if case.index % (8 * VARIANTS) == 8 * case.variant:
            problems += _repeat(case, frame, decoded)
    except szdnn.BoundError as error:
        tally.refused += 1
        problems = [] if case.kind in _MAY_REFUSE and not frame else [f"refused: {error}"]
    except Exception:  # whatever it is, it is a finding
        problems = [traceback.format_exc(limit=-3)]
    return problems + _judge_environment(), frame


def _compress(case: Case, threads: int) -> bytes:
    import szdnn

    bound = szdnn.Lossless() if case.kind == "Lossless" else getattr(szdnn, case.kind)(case.amount)
    options: dict[str, Any] = {
        "effort": case.effort, "predictor": case.predictor, "coder": case.coder, "reference": case.reference,
    }  # fmt: skip
    return bytes(szdnn.compress(case.array, bound, threads=threads, **options))


def _judge_frame(case: Case, frame: bytes) -> list[str]:
    """Never much larger than the raw values; Bits keeps its word."""
    problems = []
    if len(frame) > case.array.nbytes + 72:
        problems.append(f"{len(frame)} bytes of frame for {case.array.nbytes} bytes of values")
    if case.kind == "Bits" and 8 * len(frame) > case.amount * case.array.size:
        problems.append(f"{len(frame)} bytes exceed the promised {case.amount} bits/value")
    return problems


def _repeat(case: Case, frame: bytes, decoded: Array) -> list[str]:
    """Same bytes and same bits with other thread counts, from a C-ordered copy, and into a buffer."""
    import szdnn

    problems = []
    for threads in {1, 2, 4} - {case.threads}:
        if _compress(case, threads) != frame:
            problems.append(f"another frame with {threads} threads than with {case.threads}")
        if not _same(szdnn.decompress(frame, reference=case.reference, threads=threads), decoded):
            problems.append(f"another array with {threads} threads than with {case.threads}")
    plain = native(case.array).copy()
    if bytes(_compress(replace(case, array=plain), 1)) != frame:
        problems.append("another frame for a C-ordered native copy")
    out = np.empty_like(plain)
    szdnn.decompress(frame, out=out, reference=case.reference)
    return problems if _same(out, decoded) else [*problems, "another array through out="]


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _judge_environment() -> list[str]:
    """The codec must leave denormals switched on and rounding to nearest for its caller."""
    tiny = np.array([5e-324, 1.5], dtype=np.float64)
    kept = (tiny * np.array([1.0, 1.0]))[0] != 0
    third = np.array([1.0]) / np.array([3.0])
    nearest = float(third[0]) == 1 / 3 and float(-third[0]) == -1 / 3
    return [] if kept and nearest else ["the floating-point environment was left changed"]


def _store(case: Case, frame: bytes, problems: list[str], folder: Path) -> Path:
    """Everything needed to look at the case again: bytes of the values, description, frame."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"violation-{case.seed}-{case.index}.{case.variant}.npz"
    text = np.array([case.describe(), *problems])
    patterns = native(case.array).reshape(-1).view(np.uint8)
    np.savez_compressed(
        path, bits=patterns, dtype=np.array(case.array.dtype.name), frame=np.frombuffer(frame, np.uint8), text=text
    )
    return path
