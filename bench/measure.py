"""Interleaved measurements: in every repetition all codecs take their turn on each array, in one process.

Sizes are those of complete byte strings. Times are CPU times of the whole process, so helper threads count. The first
pass warms caches and memory, is not timed, and is the one whose results are compared with the originals.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench import exact
from bench.rivals.base import Rival

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One array and the bound it is compressed under: absolute, or relative to each value for pointwise codecs."""

    array: Array
    eps: float


@dataclass
class Series:
    """What one codec did with all jobs: totals of sizes, and total times of each repetition."""

    codec: Rival
    values: int = 0
    raw_bytes: int = 0
    size: int = 0
    worst: float = 0.0
    violations: int = 0
    zeros: int = 0
    zeros_changed: int = 0
    compress_s: list[float] = field(default_factory=list)
    decompress_s: list[float] = field(default_factory=list)
    failure: str = ""


def run(codecs: Sequence[Rival], jobs: Sequence[Job], reps: int) -> list[Series]:
    """Measure every codec on every job, `reps` timed passes after one that checks."""
    series = [Series(codec) for codec in codecs]
    for one in series:
        refused = [job.array for job in jobs if not one.codec.accepts(job.array)]
        if refused:
            one.failure = f"does not take {refused[0].ndim}-D {refused[0].dtype}"
    for repetition in range(reps + 1):
        _one_pass(series, jobs, repetition)
    return series


def _one_pass(series: list[Series], jobs: Sequence[Job], repetition: int) -> None:
    for one in series:
        if repetition:
            one.compress_s.append(0.0)
            one.decompress_s.append(0.0)
    for number, job in enumerate(jobs):
        # In shuffled order: who always follows another instruction set of the same code finds warm caches.
        order = random.Random(f"{repetition} {number}")
        for one in order.sample(series, len(series)):
            if not one.failure:
                _one_job(one, job, timed=repetition > 0)


def _one_job(one: Series, job: Job, timed: bool) -> None:
    codec, array = one.codec, job.array
    try:
        data, compress_s = _clock(lambda: codec.compress(array, job.eps))
        decoded, decompress_s = _clock(lambda: codec.decompress(data, array.shape, array.dtype))
    except Exception as error:  # a rival may raise anything; it is reported in the table
        one.failure = f"fails on {array.ndim}-D {array.shape}: {error}"
        return
    if timed:
        one.compress_s[-1] += compress_s
        one.decompress_s[-1] += decompress_s
    else:
        one.values += array.size
        one.raw_bytes += array.nbytes
        one.size += len(data)
        _check(one, job, decoded)


def _clock(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _check(one: Series, job: Job, decoded: Array) -> None:
    """Largest error / bound in float64, and the counts of values beyond it and of zeros lost, by exact comparison."""
    if decoded.shape != job.array.shape or decoded.dtype != job.array.dtype:
        one.failure = f"returned {decoded.shape} {decoded.dtype} for {job.array.shape} {job.array.dtype}"
    elif one.codec.lossless:
        one.violations += int(np.count_nonzero(exact.bits(decoded) != exact.bits(job.array)))
    else:
        wide = exact.widen(job.array)
        error, limit = np.abs(wide - exact.widen(decoded)), np.asarray(job.eps)
        if one.codec.pointwise:
            error, limit = error[wide != 0], job.eps * np.abs(wide[wide != 0])
        judge = exact.violations_pointwise if one.codec.pointwise else exact.violations
        one.worst = max(one.worst, float((error / limit).max(initial=0.0)))
        one.violations += judge(job.array, decoded, job.eps)
        one.zeros += int(np.count_nonzero(wide == 0))
        one.zeros_changed += int(np.count_nonzero(exact.changed_zero(job.array, decoded)))


def speed(raw_bytes: int, seconds: list[float]) -> float:
    """Median MB/s of the raw data over the repetitions."""
    return statistics.median(raw_bytes / 1e6 / max(s, 1e-9) for s in seconds)


def speed_ratio(mine: list[float], theirs: list[float]) -> float:
    """How many times faster, as the median of the ratios within each repetition."""
    return statistics.median(b / max(a, 1e-9) for a, b in zip(mine, theirs, strict=True))
