"""The lattice step for float16 and bfloat16 values whose own spacing is near the bound."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .resolve import UNIT_ROUNDOFF, sample_of

_LEAST_NORMAL = {0: -14, 1: -126}  # its exponent, by dtype code
_COARSE = 1 / 64  # of eps: spacings below half of that carry next to nothing beyond the bound
_OUTLIER_BITS = 10.0  # what a value that is stored as it is takes about, beyond its place and what it spares
_LEAST_GAIN = 0.02  # bits a value
_FIELD_BITS = 128  # of the header, for a step that is not 2 eps
_LEAST_SHARE = 0.5


def _half_spacing(code: int, magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the distance of a dtype's numbers in each one's octave."""
    octaves: NDArray[np.float64] = np.ldexp(1.0, np.maximum(np.frexp(magnitudes)[1] - 1, _LEAST_NORMAL[code]))
    return octaves * UNIT_ROUNDOFF[code]


def _log2(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """To eight digits, of numbers above 0: not libm's, whose last bits are each machine's own, and frames are not."""
    mantissas, exponents = np.frexp(x)
    z = (mantissas - 1) / (mantissas + 1)
    series = z * sum(z ** (2 * k) / (2 * k + 1) for k in range(8))
    found: NDArray[np.float64] = exponents + series * (2 / 0.6931471805599453)
    return found


def step_share(code: int, values: NDArray[Any], eps: float) -> float:
    """The part of 2 eps that the step should be, from 1/2 to 1.

    code: the dtype's; of others than these two 1 is returned. values: C-contiguous, of any shape. eps > 0: the absolute
    bound.

    A reconstruction is rounded to the dtype, whose numbers lie a spacing apart, and the value itself is one of them.
    So the error is a multiple of the spacing, and the value is lost to the bound where it rounds to the first multiple
    beyond eps. With u = half a spacing that begins at u (2 k + 1), k the largest integer with 2 k u <= eps: a lattice
    whose own errors end there loses none, at the price of log2(2 eps / step) bits a value.
    """
    if code not in _LEAST_NORMAL or values.size == 0:
        return 1.0
    some = np.abs(sample_of(values))
    half = _half_spacing(code, some[some > 0])
    if half.max(initial=0.0) < _COARSE * eps:
        return 1.0
    half, counts = np.unique(half / eps, return_counts=True)
    begins = np.where(half < 1, (2 * np.floor(1 / (2 * half)) + 1) * half, half)
    within = begins[(begins >= _LEAST_SHARE) & (begins < 1)] * (1 - 2.0**-10)
    shares = np.append(np.maximum(within, _LEAST_SHARE), 1.0)
    each = np.maximum(0, 1 - begins[:, None] / shares) * counts[:, None]
    lost = each.sum(axis=0) / some.size
    places = -lost * _log2(np.where(lost > 0, lost, 1.0)) - (1 - lost) * _log2(1 - lost)
    costs = _OUTLIER_BITS * lost + places - _log2(shares)
    best = int(np.argmin(costs))
    gain = costs[-1] - costs[best]
    return float(shares[best]) if gain > max(_LEAST_GAIN, _FIELD_BITS / values.size) else 1.0
