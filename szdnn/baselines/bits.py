"""Numbers of few bits in a row, least significant bit first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFrame

Numbers = NDArray[np.uint64]
_AT_ONCE = 1 << 18
"""Numbers that are spread into single bits at a time."""


def width(largest: int) -> int:
    """The bits that 0 to `largest` take."""
    return max(0, int(largest)).bit_length()


def pack(numbers: NDArray[np.uint64], widths: int | NDArray[np.int64]) -> bytes:
    """The numbers [n], each with its width [n] or all with one; at most 64 bits a number, the last byte filled with zeros."""
    each = np.broadcast_to(np.asarray(widths, np.int64), numbers.shape)
    parts = []
    for start in range(0, numbers.size, _AT_ONCE):
        part, of = numbers[start : start + _AT_ONCE].astype(np.uint64), each[start : start + _AT_ONCE]
        column = np.arange(int(of.max(initial=0)))
        spread = (part[:, None] >> column.astype(np.uint64)) & np.uint64(1)
        parts.append(spread.astype(np.uint8)[column[None, :] < of[:, None]])
    return np.packbits(np.concatenate(parts), bitorder="little").tobytes() if parts else b""


def unpack(data: bytes, widths: NDArray[np.int64]) -> Numbers:
    """The numbers of these widths [n]. Raises CorruptFrame when the data end before them."""
    ends = np.cumsum(widths)
    if widths.size and int(ends[-1]) > 8 * len(data):
        raise CorruptFrame(f"{len(data)} bytes hold fewer than {widths.size} numbers")
    numbers = np.zeros(widths.size, np.uint64)
    string = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    for bit in range(int(widths.max(initial=0))):
        wide = np.flatnonzero(widths > bit)
        numbers[wide] |= string[ends[wide] - widths[wide] + bit].astype(np.uint64) << np.uint64(bit)
    return numbers


def unpack_even(data: bytes, count: int, each: int) -> Numbers:
    """`count` numbers of one width, and nothing after them. Raises CorruptFrame."""
    if len(data) != -(-count * each // 8):
        raise CorruptFrame(f"{len(data)} bytes are not {count} numbers of {each} bits")
    return unpack(data, np.full(count, each, np.int64))
