"""The least bits a weight: Shannon's lower bound on the rate at a mean squared error.

R(D) >= h - log2(2 pi e D) / 2, with h the differential entropy in bits (Cover and Thomas, Elements of information
theory, problem 10.8), for a source of independent draws from the layer's distribution. h is estimated by m-spacings
(Vasicek 1976). Weights that are exactly zero are an atom: telling the decoder for free which they are can only lower
the rate, so that with a share q of others R(D) >= q (h - log2(2 pi e D / q) / 2). A method that beats the bound has
used what is not in the distribution: order, correlation, or other weights (training moves them, and the error to the
original then says little).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Source:
    """A layer's distribution. entropy: h in bits of the values that are not zero; share: how many are not; deviation:
    of all.
    """

    entropy: float
    share: float
    deviation: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Source:
        """What a layer's finite values are drawn from."""
        flat = np.asarray(values, np.float64).ravel()
        flat = flat[np.isfinite(flat)]
        others = flat[flat != 0]
        share = len(others) / len(flat) if len(flat) else 0.0
        return cls(entropy(others), share, float(flat.std()) if len(flat) else 0.0)

    def least_bits(self, square_error: float) -> float:
        """Bits a weight at a mean squared error, at least 0; infinite for no error unless all weights are zero."""
        if self.share == 0 or self.entropy == -math.inf:
            return 0.0
        if square_error <= 0:
            return math.inf
        if not math.isfinite(square_error):
            return 0.0
        return max(0.0, self.share * (self.entropy - 0.5 * math.log2(2 * math.pi * math.e * square_error / self.share)))


def entropy(values: NDArray[np.float64]) -> float:
    """Differential entropy in bits, by Vasicek's m-spacings with m = sqrt(n); -inf for values that are all equal."""
    n = len(values)
    if n < 4:
        return -math.inf
    ordered = np.sort(values)
    m = max(1, round(math.sqrt(n)))
    index = np.arange(n)
    low, high = np.maximum(index - m, 0), np.minimum(index + m, n - 1)
    spacing = ordered[high] - ordered[low]
    if not spacing.any():
        return -math.inf
    tiny = np.min(spacing[spacing > 0])
    return float(np.mean(np.log2(np.maximum(spacing, tiny) * n / (high - low))))
