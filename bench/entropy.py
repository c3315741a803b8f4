"""Ideal codes: what a memoryless coder would need that knows the histogram, tables not counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def lattice(array: NDArray[Any], eps: float) -> NDArray[np.int64]:
    """rint(x / 2 eps), flat."""
    codes: NDArray[np.int64] = np.rint(array.astype(np.float64).ravel() / (2 * eps)).astype(np.int64)
    return codes


def pointwise_lattice(array: NDArray[Any], r: float) -> NDArray[np.int64]:
    """The numbers of the widest cells that one decoded value can serve; zero's is 0, signs are kept.

    y is within r of x, |x - y| <= r |x|, for x from y / (1 + r) to y / (1 - r): cells' edges are a factor
    (1 + r) / (1 - r) apart.
    """
    x = array.astype(np.float64).ravel()
    found = np.zeros(x.size, dtype=np.int64)
    magnitude = np.abs(x[x != 0])
    cells = np.floor(np.log2(magnitude) / np.log2((1 + r) / (1 - r))).astype(np.int64)
    cells -= cells.min(initial=0) - 1
    found[x != 0] = np.where(x[x != 0] < 0, -cells, cells)
    return found


def histogram_bits(codes: NDArray[np.int64]) -> float:
    """Bits of all integers under their own histogram: the order-0 entropy times their number."""
    codes = codes - codes.min(initial=0)
    counts = np.bincount(codes) if codes.max(initial=0) < 2**24 else np.unique(codes, return_counts=True)[1]
    counts = counts[counts > 0]
    return float(codes.size * np.log2(max(codes.size, 1)) - np.sum(counts * np.log2(counts)))


def order0_bits(array: NDArray[Any], eps: float) -> float:
    """Bits of the whole array's lattice integers."""
    return histogram_bits(lattice(array, eps))
