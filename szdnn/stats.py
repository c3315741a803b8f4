"""Statistics of a tensor, on several threads where it is large."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .threads import run_threads, thread_count

PART = 1 << 20
"""Values that are worth a thread of their own."""


class Stats(NamedTuple):
    """As szd_stats: how many values are finite, the extremes of these, whether all values are the same bits."""

    finite: int
    min: float
    max: float
    constant: bool


class Statistics:
    """The same, found when asked for: many bounds need to know only whether all values are the same.

    values: C-contiguous, of a float dtype; code: the dtype's.
    """

    def __init__(self, code: int, values: NDArray[Any], threads: int | None) -> None:
        self._code, self._values, self._threads = code, values, threads
        self._found: Stats | None = None

    def look(self) -> Stats:
        """All of it, by a pass over the values unless there was one."""
        if self._found is None:
            self._found = stats_of(self._code, self._values, self._threads)
        return self._found

    @property
    def constant(self) -> bool:
        """Whether all values are the same bits; that they are not, the first few tell of most tensors."""
        found = self._found
        return found.constant if found else _native.is_constant(self._code, self._values)

    @property
    def finite(self) -> int:
        """How many values are finite."""
        return self.look().finite

    @property
    def min(self) -> float:
        """The least of the finite values, 0 without any."""
        return self.look().min

    @property
    def max(self) -> float:
        """The largest of the finite values, 0 without any."""
        return self.look().max


def stats_of(code: int, values: NDArray[Any], threads: int | None) -> Stats:
    """Of a C-contiguous array of a float dtype. The result does not depend on the number of threads."""
    flat = values.reshape(-1)
    count = thread_count(threads, flat.size // PART)
    if count == 1:
        one = _native.stats(code, flat)
        return Stats(one.finite, one.min, one.max, bool(one.constant))
    edges = [flat.size * i // count for i in range(count + 1)]
    parts: list[Any] = [None] * count

    def work(i: int) -> None:
        parts[i] = _native.stats(code, flat[edges[i] : edges[i + 1]])

    run_threads(work, count)
    return merged(parts, [flat[edge : edge + 1] for edge in edges[:-1]])


def merged(parts: list[Any], firsts: list[NDArray[Any]]) -> Stats:
    """The statistics of parts side by side; `firsts` holds each part's first value."""
    found = [p for p in parts if p.finite]
    same = all(np.array_equal(first.view(np.uint8), firsts[0].view(np.uint8)) for first in firsts)
    return Stats(
        finite=sum(p.finite for p in parts),
        min=min((p.min for p in found), default=0.0),
        max=max((p.max for p in found), default=0.0),
        constant=same and all(p.constant for p in parts),
    )
