"""Judges one decoded array against its original and bound, with arithmetic of its own (bench.exact)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import exact
from bench.soak_case import Case

Array = NDArray[Any]

# Standard deviations and mean squares are computed in long double: relative error far below this.
_SLACK = 1e-12


def native(array: Array) -> Array:
    """The values that must come back: C order, native byte order."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)


def judge(case: Case, decoded: Array, resolved_eps: float | None) -> list[str]:
    """What is wrong; an empty list when all promises hold. resolved_eps is what the frame says its bound is."""
    x = native(case.array)
    if decoded.shape != x.shape or decoded.dtype != x.dtype:
        return [f"returned {decoded.shape} {decoded.dtype}"]
    x, y = x.ravel(), np.ascontiguousarray(decoded).ravel()
    if case.kind == "Lossless":
        return _count("values changed under Lossless", exact.bits(x) != exact.bits(y))
    finite = np.isfinite(exact.widen(x))
    problems = _count("NaN or Inf changed", exact.changed_special(x, y))
    problems += _count("zeros changed", exact.changed_zero(x, y, exact_sign=case.kind == "PointwiseRel"))
    wide_x, wide_y = exact.widen(x)[finite], exact.widen(y)[finite]
    problems += _count("finite values became NaN or infinite", ~np.isfinite(wide_y))
    return problems or _judge_finite(case, wide_x, wide_y, resolved_eps)


def _count(what: str, bad: Array) -> list[str]:
    places = np.flatnonzero(bad)
    return [f"{places.size} {what}, first at {places[0]}"] if places.size else []


def _judge_finite(case: Case, x: Array, y: Array, resolved_eps: float | None) -> list[str]:
    if x.size == 0:
        return []
    if case.kind == "PointwiseRel":
        bad = exact.beyond_pointwise(x, y, case.amount)
        flipped = np.signbit(x) != np.signbit(y)
        return _count(f"values beyond {case.amount!r} * |x|", bad) + _count("signs changed", flipped)
    if case.kind in ("RMSE", "PSNR"):
        return _judge_mean_square(case, x, y)
    if case.kind == "Bits":
        return _within(x, y, resolved_eps) if resolved_eps is not None else []
    limit = _limit(case, x)
    problems = []
    if resolved_eps is not None and resolved_eps > limit:
        problems.append(f"the frame's eps {resolved_eps!r} is above the bound's {limit!r}")
    return problems + _within(x, y, min(limit, resolved_eps) if resolved_eps is not None else limit)


def _within(x: Array, y: Array, eps: float) -> list[str]:
    return _count(f"values beyond eps = {eps!r}", exact.beyond(x, y, eps))


def _limit(case: Case, x: Array) -> float:
    """The absolute bound that the case's bound stands for."""
    if case.kind == "Abs":
        return case.amount
    if case.kind == "Rel":
        return exact.round_down(Fraction(case.amount) * exact.value_range(x))
    scaled, exponent = _scaled(x)
    centred = scaled - scaled.mean()
    variance = (np.sum(centred * centred) - np.sum(centred) ** 2 / x.size) / x.size
    deviation = np.ldexp(np.sqrt(max(variance, np.longdouble(0))), exponent)
    return float(np.longdouble(case.amount) * deviation * (1 + _SLACK))


def _scaled(x: Array) -> tuple[Array, int]:
    """The values as long doubles, divided by a power of two so that the largest is below 1."""
    exponent = int(np.frexp(np.max(np.abs(x)))[1])
    return np.ldexp(x.astype(np.longdouble), -exponent), exponent


def _judge_mean_square(case: Case, x: Array, y: Array) -> list[str]:
    difference = x.astype(np.longdouble) - y.astype(np.longdouble)
    peak = np.max(np.abs(difference))
    if peak == 0:
        return []
    rmse = peak * np.sqrt(np.mean((difference / peak) ** 2))
    limit = np.longdouble(case.amount)
    if case.kind == "PSNR":
        span = np.longdouble(x.max()) - np.longdouble(x.min())
        limit = span / np.longdouble(10) ** (limit / 20)
    return [] if rmse <= limit * (1 + _SLACK) else [f"root mean square error {rmse} above {limit}"]
