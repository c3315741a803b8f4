"""Positions of the weights that pruning left: relative indices with zero fillers, and rows or columns of SciPy's.

Han et al. 2016, section 2: the distance to the weight before in b bits; where a distance is larger, a filler zero is
stored between. Here an index says how many zeros come before its entry: 0 to 2^b - 1, and a filler takes 2^b places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, CorruptFrame

Array = NDArray[Any]
Integers = NDArray[np.int64]
MOST_BITS = 32


def relative(kept: Integers, bits: int) -> tuple[Integers, NDArray[np.bool_]]:
    """Relative indices in `bits` bits of ascending positions [n], and for each whether it is a weight, not a filler."""
    if not 1 <= bits <= MOST_BITS:
        raise ArgumentError(f"relative indices of {bits} bits; 1 to {MOST_BITS} are possible")
    span = 1 << bits
    zeros = np.diff(kept, prepend=-1) - 1
    fillers = zeros // span
    ends = np.cumsum(fillers + 1)
    indices = np.full(int(ends[-1]) if ends.size else 0, span - 1, np.int64)
    is_weight = np.zeros(indices.size, np.bool_)
    indices[ends - 1] = zeros % span
    is_weight[ends - 1] = True
    return indices, is_weight


def positions(indices: Integers, size: int) -> Integers:
    """Where in a tensor of `size` values the entries (fillers too) stand. Raises CorruptFrame beyond its end."""
    found = np.cumsum(indices + 1) - 1
    if found.size and (found[-1] >= size or indices.min() < 0):
        raise CorruptFrame(f"a sparse index of {size} values points at {int(found[-1])}")
    return found


def cheapest_bits(kept: Integers, value_bits: float) -> int:
    """The width of index at which indices and entries of so many bits, fillers' among them, take least room."""
    zeros = np.diff(kept, prepend=-1) - 1

    def cost(bits: int) -> float:
        return float((zeros // (1 << bits) + 1).sum()) * (bits + value_bits)

    return min(range(1, 17), key=cost)


def compressed(kept: NDArray[np.bool_], layout: str) -> tuple[Integers, Integers, Integers]:
    """SciPy's "csr" or "csc" of the kept places: where in the flattened tensor they are in the order of storage, their column
    (row) numbers, and the starts of rows (columns).

    The matrix has the tensor's first dimension as rows.
    """
    import scipy.sparse

    at = np.flatnonzero(kept)
    matrix = scipy.sparse.coo_matrix((at, np.unravel_index(at, _matrix_shape(kept.shape))), _matrix_shape(kept.shape))
    found = matrix.tocsr() if layout == "csr" else matrix.tocsc()
    return found.data.astype(np.int64), found.indices.astype(np.int64), found.indptr.astype(np.int64)


def order_of(numbers: Integers, starts: Integers, shape: tuple[int, ...], layout: str) -> Integers:
    """The places that `compressed` gives first, of the others. Raises CorruptFrame when they don't fit the shape."""
    import scipy.sparse

    make = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}[layout]
    rows, columns = _matrix_shape(shape)
    try:
        found = make((np.ones(numbers.size, np.int8), numbers, starts), shape=(rows, columns))
        found.check_format()
    except ValueError as error:
        raise CorruptFrame(f"{layout}: {error}") from None
    lines = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    order: Integers = lines * columns + numbers if layout == "csr" else numbers * columns + lines
    return order


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    rows = shape[0] if shape else 1
    return rows, int(np.prod(shape[1:], dtype=np.int64))
