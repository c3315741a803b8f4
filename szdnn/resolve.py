"""From a bound and a tensor to a lattice: which eps, which arithmetic, which header members.

Nothing here uses libm, so that one input gives the same bytes on every machine.
"""

from __future__ import annotations

import math
import struct
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import CODES, FLOAT_CODES
from .bounds import PSNR, RMSE, Abs, Bits, Bound, Lossless, PointwiseRel, Rel, Std
from .errors import BoundError
from .grid import Grid

KINDS: dict[type[Bound], int] = {Abs: 1, Rel: 2, Std: 3, PointwiseRel: 4, PSNR: 5, RMSE: 6, Bits: 7}
FLAG_WIDE, FLAG_RANGE, FLAG_ROBUST = 1, 2, 4

SAMPLE = 4096
SHORT_EPS_VALUES = 1 << 15  # a bound of 13 digits costs them less than the bytes of more
LEAST_PART = 1 << 18
WIDE_RATIO = 1000.0
# Lattice integers up to 2^13 steps in float32: beyond, the rounding of q * step would push one value in 2^11
# past the bound.
LINEAR32_LIMIT = 2.0**13
LINEAR64_LIMIT = 2.0**26
MAX_WIDE_BITS = 20
EPS_MIN, EPS_MAX = 2.0**-1000, 2.0**1000
FLOAT32_MAX = float(np.finfo(np.float32).max)
UNIT_ROUNDOFF = {0: 2.0**-11, 1: 2.0**-8, 2: 2.0**-24, 3: 2.0**-53}


class Target(NamedTuple):
    """What the encoder is to do: eps (absolute), or r (pointwise), or neither (lossless)."""

    bound: Bound
    eps: float | None = None
    pointwise: float | None = None
    flags: int = 0
    span: tuple[float, float] | None = None
    axis_eps: NDArray[np.float64] | None = None

    @property
    def fineness(self) -> int:
        """By how much the lattice's step is finer than 2 eps."""
        return self.bound.fineness if isinstance(self.bound, Abs) else 1


def float_below(exact: Fraction) -> float:
    """The largest double not above a rational number > 0."""
    return _ratio_below(exact.numerator, exact.denominator)


def _ratio_below(numerator: int, denominator: int) -> float:
    """The same for a quotient of whole numbers, in lowest terms or not."""
    try:
        nearest = numerator / denominator  # to nearest
    except OverflowError:
        return float(np.finfo(np.float64).max)
    top, bottom = nearest.as_integer_ratio()
    return math.nextafter(nearest, 0.0) if top * denominator > numerator * bottom else nearest


def _finite(flat: NDArray[Any]) -> NDArray[np.float64]:
    """The finite values as float64; a signalling NaN among the others raises no warning."""
    with np.errstate(invalid="ignore"):
        wide = flat.astype(np.float64)
    return wide[np.isfinite(wide)]


def sample_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """The finite ones of about SAMPLE evenly spaced values."""
    flat = values.reshape(-1)
    return _finite(flat[:: max(1, flat.size // SAMPLE)])


def _smallest(values: NDArray[np.float64], rank: int) -> float:
    """The value that `rank` others are at or below."""
    return float(np.partition(values, rank)[rank])


def _is_wide(values: NDArray[Any], width: float) -> bool:
    """Whether the range is over 1000 times the span from the 0.1% to the 99.9% quantile of a sample."""
    if values.size < 100:
        return False
    if _native.is_spread(CODES[values.dtype], values, width / WIDE_RATIO):
        return False  # those lie inside these quantiles, as sure as need be for a hint
    picked = sample_of(values)
    skip = max(1, picked.size // 1000)
    if picked.size <= 2 * skip:
        return False
    return width > WIDE_RATIO * (_smallest(picked, picked.size - 1 - skip) - _smallest(picked, skip))


def _robust_span(values: NDArray[Any]) -> tuple[float, float]:
    finite = _finite(values.reshape(-1))
    if finite.size == 0:
        return 0.0, 0.0
    lo, hi = np.quantile(finite, [0.001, 0.999], method="inverted_cdf")
    return float(lo), float(hi)


def _resolve_rel(bound: Rel, values: NDArray[Any], stats: Any) -> Target:
    flags = 0
    lo, hi = stats.min, stats.max
    if bound.range == "robust":
        (lo, hi), flags = _robust_span(values), FLAG_ROBUST | FLAG_RANGE
    elif bound.range is not None:
        (lo, hi), flags = bound.range, FLAG_RANGE
    if not lo < hi:
        return Target(bound, flags=flags, span=(lo, hi))
    # Of whole numbers: fractions would be reduced at each step, and take longer than a small tensor.
    (high, over), (low, under), (r, of) = hi.as_integer_ratio(), lo.as_integer_ratio(), bound.r.as_integer_ratio()
    width, whole = high * under - low * over, over * under
    if not flags and _is_wide(values, _ratio_below(width, whole)):
        flags |= FLAG_WIDE
    return Target(bound, eps=_ratio_below(r * width, of * whole), flags=flags, span=(lo, hi))


def power_of_two_near(value: float) -> float:
    """The power of two just above a value >= 0, kept so far from the ends of the range that quotients by it
    are exact enough."""
    return math.ldexp(1.0, max(-1000, min(1000, math.frexp(value)[1])))


def deviation(code: int, values: NDArray[Any], stats: Any) -> float:
    """The standard deviation of the finite values, rounded down by 2^-40.

    Two passes (Chan, Golub, LeVeque 1983, the corrected one): the sum of the differences from a rounded mean
    is not zero, and counts where values differ by few units in the last place.
    """
    if stats.finite == 0 or stats.min == stats.max:
        return 0.0
    unit = power_of_two_near(max(abs(stats.min), abs(stats.max)))
    total, _ = _native.moments(code, values, unit, 0.0)
    differences, squares = _native.moments(code, values, unit, float(total / stats.finite))
    variance = squares / stats.finite - (differences / stats.finite) ** 2
    return math.sqrt(max(variance, Fraction(0))) * unit * (1 - 2.0**-40)


def _resolve_std(bound: Std, code: int, values: NDArray[Any], stats: Any) -> Target:
    spread = deviation(code, values, stats)
    if not (spread > 0 and math.isfinite(spread)):
        return Target(bound)
    flags = FLAG_WIDE if _is_wide(values, stats.max - stats.min) else 0
    eps = float_below(Fraction(bound.c) * Fraction(spread))
    return Target(bound, eps=eps if eps > 0 else None, flags=flags)


def _resolve_axis(bound: Abs, values: NDArray[Any]) -> Target:
    eps = bound.vector()
    axis = bound.axis if bound.axis is not None else 0
    if not -values.ndim <= axis < values.ndim:
        raise BoundError(f"Abs: axis {axis} is out of range for a tensor of {values.ndim} dimensions")
    if values.shape[axis] != eps.size:
        raise BoundError(f"Abs: {eps.size} bounds along axis {axis}, which has {values.shape[axis]} indices")
    return Target(bound, axis_eps=np.array([min(e, EPS_MAX) for e in eps.tolist()], dtype=np.float64))


def check_dtype(bound: Bound, code: int, dtype: np.dtype[Any]) -> None:
    """Only the four float dtypes have lossy bounds."""
    if not isinstance(bound, Bound) or type(bound) is Bound:
        raise BoundError(f"expected a bound such as szdnn.Rel(1e-3), not {bound!r}")
    if code not in FLOAT_CODES and not isinstance(bound, Lossless):
        raise BoundError(f"{type(bound).__name__} does not apply to dtype {dtype}: only Lossless() does")


def resolve(bound: Bound, code: int, values: NDArray[Any], stats: Any) -> Target:
    """The target of a bound that needs no search (Abs, Rel, Std, PointwiseRel, Lossless)."""
    if isinstance(bound, Abs):
        return _resolve_axis(bound, values) if bound.axis is not None else Target(bound, eps=float(bound.eps))  # type: ignore[arg-type]
    if isinstance(bound, Rel):
        return _resolve_rel(bound, values, stats)
    if isinstance(bound, Std):
        return _resolve_std(bound, code, values, stats)
    if isinstance(bound, PointwiseRel):
        return Target(bound, pointwise=bound.r)
    return Target(bound)


def points_per_octave(r: float) -> int:
    """The least n whose lattice 2^(i/n) has every x within a factor 1 + r of its nearest point, rounding aside."""
    with localcontext() as context:
        context.prec = 40
        exact = Decimal(2).ln() / (2 * (1 + Decimal(r)).ln())
        return max(1, math.ceil(exact))


def _least_magnitude(flat: NDArray[Any]) -> float:
    """The least magnitude above zero of the finite values; inf without any. Part by part: they are widened."""
    least = math.inf
    for start in range(0, flat.size, LEAST_PART):
        part = np.abs(_finite(flat[start : start + LEAST_PART]))
        least = min(least, float(part[part > 0].min(initial=math.inf)))
    return least


def set_geometric(header: Any, code: int, r: float, values: NDArray[Any], stats: Any) -> bool:
    """Fills the geometric members; False where no such lattice fits 32 bits, or none is needed."""
    roundoff = UNIT_ROUNDOFF[code]
    points = points_per_octave(r - roundoff if r > 2 * roundoff else r) if r > 2.0**-30 else 2**31
    # The smallest magnitudes but one in a thousand: a few tiny ones shall not move zero far from the rest.
    sample = np.abs(sample_of(values))
    sample = sample[sample > 0]
    low = _smallest(sample, sample.size // 1000) if sample.size > 1000 else _least_magnitude(values.reshape(-1))
    if low == math.inf:
        return False
    octave = max(math.frexp(low)[1] - 2, -1022)
    if points * 1100 * 4 > 2**31:
        return False
    header.kind, header.points_per_octave, header.first_index = _native.GEOMETRIC, points, points * octave
    header.has_signs = int(stats.min < 0)
    header.pointwise = r
    return True


def float32_below(eps: float) -> float:
    """The largest float32 not above eps: half the lattice step of a plain float32 frame under Abs(eps)."""
    nearest: float = struct.unpack("<f", struct.pack("<f", min(eps, FLOAT32_MAX)))[0]
    if nearest <= eps:
        return nearest
    below: float = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", nearest))[0] - 1))[0]
    return below


def short_eps(eps: float) -> float:
    """The largest double not above eps > 0 of which a small frame stores three bytes."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", eps))
    short: float = struct.unpack("<d", struct.pack("<Q", bits >> 40 << 40))[0]
    return short or eps


def set_linear(header: Any, code: int, target: Target, values: NDArray[Any], grid: Grid | None) -> bool:
    """Fills the linear members for an absolute bound; False where it is too fine for a lattice to be of use.

    grid: what the values lie on.
    """
    eps = min(target.eps or 0.0, EPS_MAX)
    if eps > 0 and values.size <= SHORT_EPS_VALUES and not isinstance(target.bound, Abs):
        eps = short_eps(eps)
    if eps / target.fineness < EPS_MIN:
        return False
    # Half the step; fineness is a power of two, so dividing by it is exact.
    half, half32 = eps / target.fineness, float32_below(eps) / target.fineness
    if grid:
        half = half32 = grid.step / 2
        header.snap = grid.parts
    header.eps = eps
    limit = LINEAR32_LIMIT if code == 2 else LINEAR32_LIMIT * 256
    reach = math.inf
    if isinstance(target.bound, Rel) and target.span and not target.flags & FLAG_RANGE:
        reach = 2 * max(map(abs, target.span))  # the values' own range
    if not reach <= limit * 4 * half32:
        # Beyond a robust maximum values become outliers; one spike shall not cost the others their bits.
        near = code != 3 and _native.reach_within(code, values, limit * 2 * half32)
        reach = limit * 4 * half32 if near else 2 * _native.reach(code, values)
    if code != 3 and 2.0**-120 < half32 < 2.0**120 and reach <= limit * 4 * half32:
        header.kind, header.step = _native.LINEAR32, 2 * half32
        return True
    octaves = math.frexp(reach / (2 * half) / LINEAR64_LIMIT)[1] if reach / (2 * half) < math.inf else 1100
    if octaves > MAX_WIDE_BITS:
        return False
    header.kind, header.step, header.wide_bits = _native.LINEAR64, 2 * half, max(0, octaves)
    return True
