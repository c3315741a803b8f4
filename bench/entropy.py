"""The order-0 entropy of the quantised values: what an ideal memoryless coder would need, tables not counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def order0_bits(array: NDArray[Any], eps: float) -> float:
    """Bits of the whole array's rint(x / 2 eps) under its own histogram."""
    codes = np.rint(array.astype(np.float64).ravel() / (2 * eps)).astype(np.int64)
    codes -= codes.min()
    counts = np.bincount(codes) if codes.max() < 2**24 else np.unique(codes, return_counts=True)[1]
    counts = counts[counts > 0]
    return float(codes.size * np.log2(codes.size) - np.sum(counts * np.log2(counts)))
