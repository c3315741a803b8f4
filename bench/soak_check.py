"""Judges one decoded array against its original and bound, with arithmetic of its own (tests/native/judge.c)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import exact
from bench.soak_case import Case
from bench.soak_judge import Judge, Spread

Array = NDArray[Any]

# Standard deviations and mean squares are computed in long double: relative error far below this.
_SLACK = 1e-12


def native(array: Array) -> Array:
    """The values that must come back: C order, native byte order."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)


def check(judge: Judge, case: Case, decoded: Array, resolved_eps: float | None) -> list[str]:
    """What is wrong; an empty list when all promises hold. resolved_eps is what the frame says its bound is."""
    x = native(case.array)
    if decoded.shape != x.shape or decoded.dtype != x.dtype:
        return [f"returned {decoded.shape} {decoded.dtype}"]
    x, y = x.ravel(), np.ascontiguousarray(decoded).ravel()
    if case.kind == "Lossless":
        return _changed(x, y)
    if case.kind == "PointwiseRel":
        return judge.within(x, y, case.amount, pointwise=True)
    if case.kind in ("RMSE", "PSNR"):
        return judge.within(x, y, np.inf) or _check_mean_square(judge, case, x, y)
    if case.kind == "Bits":
        return judge.within(x, y, np.inf if resolved_eps is None else resolved_eps)
    limit = case.amount if case.kind == "Abs" else _limit(case, judge.spread(x))
    if resolved_eps is None:
        return judge.within(x, y, limit)
    above = [f"the frame's eps {resolved_eps!r} is above the bound's {limit!r}"] if resolved_eps > limit else []
    return above + judge.within(x, y, min(limit, resolved_eps))


def _changed(x: Array, y: Array) -> list[str]:
    bytes_x, bytes_y = x.view(np.uint8), y.view(np.uint8)
    if np.array_equal(bytes_x, bytes_y):
        return []
    places = np.flatnonzero(bytes_x != bytes_y) // x.dtype.itemsize
    return [f"{np.unique(places).size} values changed under Lossless, first at {places[0]}"]


def _limit(case: Case, spread: Spread) -> float:
    """The absolute bound that Rel or Std stand for."""
    if not spread.finite:
        return np.inf
    if case.kind == "Rel":
        return exact.round_down(Fraction(case.amount) * (Fraction(spread.hi) - Fraction(spread.lo)))
    return float(np.longdouble(case.amount) * np.longdouble(spread.deviation) * (1 + _SLACK))


def _check_mean_square(judge: Judge, case: Case, x: Array, y: Array) -> list[str]:
    rmse, limit = np.longdouble(judge.rms_error(x, y)), np.longdouble(case.amount)
    if case.kind == "PSNR":
        spread = judge.spread(x)
        if not spread.finite:
            return []
        limit = (np.longdouble(spread.hi) - np.longdouble(spread.lo)) / np.longdouble(10) ** (limit / 20)
    return [] if rmse <= limit * (1 + _SLACK) else [f"root mean square error {rmse} above {limit}"]
