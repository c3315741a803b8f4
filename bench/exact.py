"""Exact comparisons of a decoded array with its original, independent of the codec's own.

Correctly rounded subtraction is monotonic: fl(x - x') below a float64 bound proves |x - x'| below it, fl above proves
it above. Only where both are equal does the rounding error (TwoSum) decide. Bounds that are no float64, such as r*|x|,
are settled with rational numbers wherever the rounded figures are within two ulps of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def widen(array: Array) -> NDArray[np.float64]:
    """The same values as float64, which holds f16, bf16, f32 and f64 exactly."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        wide: NDArray[np.float64] = np.asarray(array).astype(np.float64)
    return wide


def bits(array: Array) -> Array:
    """The raw bit patterns, as unsigned integers."""
    contiguous = np.ascontiguousarray(array)
    return contiguous.view(f"u{contiguous.dtype.itemsize}")


def _subtract(x: Array, y: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """fl(x - y) and its exact rounding error (Knuth's TwoSum)."""
    with np.errstate(all="ignore"):
        difference = x - y
        z = difference - x
        error = (x - (difference - z)) - (y + z)
    return difference, error


def beyond(x: Array, y: Array, eps: float) -> Mask:
    """Where |x - y| > eps in real arithmetic; x and y finite float64 values."""
    difference, error = _subtract(x, y)
    magnitude = np.abs(difference)
    with np.errstate(all="ignore"):
        over: Mask = magnitude > eps
        tie: Mask = (magnitude == eps) & (np.sign(difference) * error > 0)
    return over | tie


def beyond_pointwise(x: Array, y: Array, r: float) -> Mask:
    """Where |x - y| > r*|x| in real arithmetic; x and y finite float64 values."""
    with np.errstate(all="ignore"):
        magnitude = np.abs(x - y)
        limit = r * np.abs(x)
        over: Mask = magnitude > limit
        near = np.nextafter(magnitude, np.inf) >= np.nextafter(limit, -np.inf)
        near &= np.nextafter(magnitude, -np.inf) <= np.nextafter(limit, np.inf)
    near &= magnitude > 0
    if near.any():
        over[near] = settle_pointwise(x[near], y[near], r)
    return over


def settle_pointwise(x: Array, y: Array, r: float) -> Mask:
    """beyond_pointwise by rational numbers throughout, each distinct pair once."""
    pairs, inverse = np.unique(np.stack([x, y], axis=1), axis=0, return_inverse=True)
    ratio = Fraction(r)
    over = [abs(Fraction(float(a)) - Fraction(float(b))) > ratio * abs(Fraction(float(a))) for a, b in pairs]
    result: Mask = np.array(over, dtype=bool)[inverse.reshape(-1)]
    return result


def changed_zero(x: Array, y: Array, exact_sign: bool = False) -> Mask:
    """Where a zero of x did not stay zero (or, with exact_sign, did not stay the same zero)."""
    differs = bits(x) != bits(y) if exact_sign else widen(y) != 0
    changed: Mask = (widen(x) == 0) & differs
    return changed


def _violations(x: Array, y: Array, beyond_bound: Callable[[Array, Array], Mask]) -> int:
    """How many values break the promise: what is not finite has to stay as it is, the rest within the bound."""
    wide_x, wide_y = widen(x).ravel(), widen(y).ravel()
    finite = np.isfinite(wide_x)
    bad = ~finite & (bits(x).ravel() != bits(y).ravel())
    bad |= finite & ~np.isfinite(wide_y)
    both = finite & np.isfinite(wide_y)
    bad[both] |= beyond_bound(wide_x[both], wide_y[both])
    return int(np.count_nonzero(bad))


def violations(x: Array, y: Array, eps: float) -> int:
    """How many values break the promise under an absolute bound, all rules together."""
    return _violations(x, y, lambda a, b: beyond(a, b, eps))


def violations_pointwise(x: Array, y: Array, r: float) -> int:
    """How many values break the promise under a pointwise relative bound, all rules together."""
    return _violations(x, y, lambda a, b: beyond_pointwise(a, b, r))


def value_range(x: Array) -> Fraction:
    """max - min of the finite values, exactly."""
    wide = widen(x)
    finite = wide[np.isfinite(wide)]
    if finite.size == 0:
        return Fraction(0)
    return Fraction(float(finite.max())) - Fraction(float(finite.min()))


def round_down(value: Fraction) -> float:
    """The largest float64 that is not above a non-negative rational number."""
    try:
        nearest = float(value)
    except OverflowError:
        return float(np.finfo(np.float64).max)
    return nearest if Fraction(nearest) <= value else float(np.nextafter(nearest, -np.inf))


def relative_eps(x: Array, r: float) -> float:
    """The absolute bound that r times the range of the finite values stands for, rounded down."""
    return round_down(Fraction(r) * value_range(x))
