"""Error bounds as frozen values. What each promises holds for every value after rounding to the stored dtype."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BoundError

FINENESSES = (1, 2, 4, 8, 16)
Range = tuple[float, float] | Literal["robust"] | None


def _positive(value: object, name: str) -> float:
    """A finite float above zero; denormals are allowed."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BoundError(f"{name} must be a real number, not {type(value).__name__}")
    number = float(value)
    # By the bits, since a comparison takes denormals for zero where the processor has been told to.
    if not 0 < struct.unpack("<Q", struct.pack("<d", number))[0] < 0x7FF0000000000000:
        raise BoundError(
            f"{name} must be finite and greater than zero, not {value!r}; use Lossless() for an exact result"
        )
    return number


class Bound:
    """The base of all bounds."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, init=False)
class Abs(Bound):
    """|x - x'| <= eps for every value.

    eps: a finite number > 0; or, with `axis`, a vector of them of length shape[axis] (integer axis, negative
    counts from the end).
    fineness: 1, 2, 4, 8 or 16; the lattice's step is 2 eps / fineness. At 1 it is the coarsest, and the frame the
        smallest, with which every value can be met. A finer one is for values that were moved onto its points, within
        eps of the originals, beforehand: they are stored as they are (`szdnn.tune`, compensation).
    Raises BoundError for anything else.
    """

    eps: float | tuple[float, ...]
    axis: int | None = None
    fineness: int = 1

    def __init__(self, eps: float | ArrayLike, axis: int | None = None, fineness: int = 1) -> None:
        if axis is None:
            if np.ndim(eps) != 0:
                raise BoundError("Abs: eps is a vector; say along which axis, Abs(eps, axis=...)")
            value: float | tuple[float, ...] = _positive(
                eps if isinstance(eps, Real) else np.asarray(eps).item(), "Abs: eps"
            )
        else:
            if isinstance(axis, bool) or not isinstance(axis, int):
                raise BoundError(f"Abs: axis must be an integer, not {axis!r}")
            if np.ndim(eps) != 1:
                raise BoundError("Abs: with an axis, eps must be a vector with one bound for each index along it")
            value = tuple(_positive(float(e), "Abs: each eps") for e in np.asarray(eps, dtype=np.float64))
        if isinstance(fineness, bool) or fineness not in FINENESSES:
            raise BoundError(f"Abs: fineness must be one of {FINENESSES}, not {fineness!r}")
        object.__setattr__(self, "eps", value)
        object.__setattr__(self, "axis", axis)
        object.__setattr__(self, "fineness", int(fineness))

    def vector(self) -> NDArray[np.float64]:
        """The bounds along the axis, float64, shape (shape[axis],)."""
        return np.asarray(self.eps, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Rel(Bound):
    """Value-range relative: |x - x'| <= r * (max - min), over the finite values (SZ's REL).

    range: (lo, hi) to use instead of the tensor's own minimum and maximum, or "robust" for the span from the
    0.1% to the
    99.9% quantile. A constant tensor has range 0 and is kept losslessly. Raises BoundError for r <= 0, NaN, infinite.
    """

    r: float
    range: Range = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "r", _positive(self.r, "Rel: r"))
        if self.range is None or self.range == "robust":
            return
        try:
            lo, hi = (float(v) for v in self.range)
        except (TypeError, ValueError):
            raise BoundError(f'Rel: range must be (lo, hi), "robust" or None, not {self.range!r}') from None
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise BoundError(f"Rel: range must be finite with lo < hi, not {self.range!r}")
        object.__setattr__(self, "range", (lo, hi))


@dataclass(frozen=True, slots=True)
class Std(Bound):
    """|x - x'| <= c * the standard deviation of the finite values (population, float64)."""

    c: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", _positive(self.c, "Std: c"))


@dataclass(frozen=True, slots=True)
class PointwiseRel(Bound):
    """|x - x'| <= r * |x| for each value, its sign kept; zeros come back as the same zeros (SZ's PW_REL). 0 < r < 1."""

    r: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "r", _positive(self.r, "PointwiseRel: r"))
        if self.r >= 1:
            raise BoundError(f"PointwiseRel: r must be below 1, not {self.r!r}")


@dataclass(frozen=True, slots=True)
class PSNR(Bound):
    """Peak signal-to-noise ratio of at least `db` decibels: 20 log10((max - min) / RMSE), over the finite values."""

    db: float

    def __post_init__(self) -> None:
        if isinstance(self.db, bool) or not isinstance(self.db, Real) or not math.isfinite(self.db):
            raise BoundError(f"PSNR: db must be a finite number, not {self.db!r}")
        object.__setattr__(self, "db", float(self.db))
        if not -300 <= self.db <= 6000:
            raise BoundError(f"PSNR: {self.db!r} dB is out of range; use Lossless() for an exact result")


@dataclass(frozen=True, slots=True)
class RMSE(Bound):
    """Root mean square error of at most `v`, over the finite values."""

    v: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "v", _positive(self.v, "RMSE: v"))


@dataclass(frozen=True, slots=True)
class Bits(Bound):
    """The whole frame, header and all, takes at most `b` bits a value; the error is the least found under that."""

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", _positive(self.b, "Bits: b"))


@dataclass(frozen=True, slots=True)
class Lossless(Bound):
    """Every bit comes back, of any dtype."""
