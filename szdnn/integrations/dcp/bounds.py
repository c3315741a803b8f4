"""Bounds of sharded tensors: what one rank knows of its shard, and what all ranks together make of it.

Rel, Std and PSNR depend on all values of a tensor. Each rank summarises its shards, the coordinator joins the
summaries, and every shard is then compressed within a bound that no longer depends on the shard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _native
from ...arrays import as_array, dtype_code
from ...bounds import PSNR, RMSE, Abs, Bound, Lossless, Rel, Std
from ...resolve import float_below, power_of_two_near

_LARGEST = float(np.finfo(np.float64).max)
ROBUST_TAIL = Fraction(1, 1000)
"""The share of values outside either end of a robust range."""


@dataclass(frozen=True)
class Summary:
    """What a shard's finite values contribute to the bound of its tensor.

    count, low, high: of the finite values; low > high where there are none.
    mean, squares: their mean and the sum of squared distances from it (only for Std).
    lowest, highest: as many of the smallest and of the largest as a robust range can need, float64 (only for that).
    """

    count: int
    low: float
    high: float
    mean: Fraction = Fraction(0)
    squares: Fraction = Fraction(0)
    lowest: NDArray[np.float64] | None = None
    highest: NDArray[np.float64] | None = None


def needs_summary(bound: Bound) -> bool:
    """Whether a bound depends on all values of a tensor, so that a shard alone doesn't tell."""
    return isinstance(bound, (Std, PSNR)) or (isinstance(bound, Rel) and not isinstance(bound.range, tuple))


def summarize(shard: Any, bound: Bound, total: int) -> Summary:
    """The summary of one shard (array or tensor of a float dtype) of a tensor that has `total` values."""
    values = as_array(shard)
    code = dtype_code(values.dtype)
    stats = _native.stats(code, values)
    if stats.finite == 0:
        return Summary(0, math.inf, -math.inf)
    mean, squares = _moments(code, values, stats) if isinstance(bound, Std) else (Fraction(0), Fraction(0))
    lowest = highest = None
    if isinstance(bound, Rel) and bound.range == "robust":
        lowest, highest = _tails(values, total)
    return Summary(stats.finite, stats.min, stats.max, mean, squares, lowest, highest)


def _moments(code: int, values: NDArray[Any], stats: Any) -> tuple[Fraction, Fraction]:
    """Mean, and sum of squared distances from it, by two passes (Chan, Golub, LeVeque 1983)."""
    unit = power_of_two_near(max(abs(stats.min), abs(stats.max)))
    total, _ = _native.moments(code, values, unit, 0.0)
    centre = float(total / stats.finite)
    differences, squares = _native.moments(code, values, unit, centre)
    scale = Fraction(unit)
    mean = (Fraction(centre) + differences / stats.finite) * scale
    return mean, max(squares - differences**2 / stats.finite, Fraction(0)) * scale**2


def _tails(values: NDArray[Any], total: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shard's smallest and largest finite values, as many as the quantiles of `total` values can reach."""
    with np.errstate(invalid="ignore"):
        wide = values.reshape(-1).astype(np.float64)
    wide = np.sort(wide[np.isfinite(wide)])
    reach = math.ceil(ROBUST_TAIL * total) + 1
    return wide[:reach], wide[-reach:]


def whole_bound(bound: Bound, summaries: Sequence[Summary]) -> Bound:
    """The bound of a tensor as one that holds for each of its shards alone, from the summaries of all of them.

    Rel becomes Rel with the tensor's range, Std becomes Abs, PSNR becomes RMSE; all lossless where the tensor is
    constant.
    """
    count = sum(summary.count for summary in summaries)
    low = min((summary.low for summary in summaries), default=math.inf)
    high = max((summary.high for summary in summaries), default=-math.inf)
    if count == 0 or low >= high:
        return Lossless()
    if isinstance(bound, Std):
        eps = float_below(Fraction(bound.c) * Fraction(_deviation(summaries, count, max(abs(low), abs(high)))))
        return Abs(eps) if eps > 0 else Lossless()
    if isinstance(bound, PSNR):
        # The factor is more than the rounding of pow and the product can be off by.
        error = float(min(Fraction(high) - Fraction(low), Fraction(_LARGEST))) * 10 ** (-bound.db / 20) * (1 - 2.0**-40)
        return RMSE(error) if error > 0 else Lossless()
    if not isinstance(bound, Rel):
        return bound
    if bound.range == "robust":
        low, high = _robust_range(summaries, count)
    return Rel(bound.r, range=(low, high)) if low < high else Lossless()


def _deviation(summaries: Sequence[Summary], count: int, largest: float) -> float:
    """The standard deviation of all values, rounded down by 2^-40 (parts joined as Chan, Golub, LeVeque 1983 do)."""
    mean = sum((summary.mean * summary.count for summary in summaries), Fraction(0)) / count
    squares = sum((s.squares + s.count * (s.mean - mean) ** 2 for s in summaries), Fraction(0))
    unit = power_of_two_near(largest)
    return math.sqrt(squares / count / Fraction(unit) ** 2) * unit * (1 - 2.0**-40)


def _robust_range(summaries: Sequence[Summary], count: int) -> tuple[float, float]:
    """The 0.1 and 99.9% quantiles of all values, as NumPy's "inverted_cdf" defines them."""
    parts = [(s.lowest, s.highest) for s in summaries if s.lowest is not None and s.highest is not None]
    lowest, highest = (np.sort(np.concatenate(ends)) for ends in zip(*parts, strict=True))
    from_below = math.ceil(count * ROBUST_TAIL)  # the quantile's rank, counted from 1
    from_above = count - math.ceil(count * (1 - ROBUST_TAIL))
    return float(lowest[from_below - 1]), float(highest[len(highest) - 1 - from_above])


def shard_bound(bound: Bound, offsets: Sequence[int], sizes: Sequence[int]) -> Bound:
    """The bound of the shard at `offsets` of `sizes`: for Abs along an axis, the part of its vector."""
    if not isinstance(bound, Abs) or bound.axis is None or not -len(sizes) <= bound.axis < len(sizes):
        return bound
    start = offsets[bound.axis]
    return Abs(bound.vector()[start : start + sizes[bound.axis]], axis=bound.axis)
