"""LZW (Welch, "A technique for high-performance data compression", 1984) of bytes.

Codes are as wide as the dictionary needs at that moment, least significant bit first; the dictionary holds at most 2^16
strings and is kept from then on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFrame
from . import bits

MOST = 1 << 16
"""Strings in the dictionary, the 256 single bytes among them."""


def encode(data: bytes) -> bytes:
    """LZW codes of the bytes; no bytes take none."""
    table = {bytes([value]): value for value in range(256)}
    codes, held = [], b""
    for value in data:
        longer = held + bytes([value])
        if longer in table:
            held = longer
            continue
        codes.append(table[held])
        if len(table) < MOST:
            table[longer] = len(table)
        held = bytes([value])
    if held:
        codes.append(table[held])
    return bits.pack(np.array(codes, np.uint64), _widths(len(codes)))


def decode(data: bytes, size: int) -> bytes:
    """The `size` bytes that were encoded. Raises CorruptFrame for anything that encode does not make of so many bytes."""
    table = [bytes([value]) for value in range(256)]
    parts: list[bytes] = []
    made, previous = 0, b""
    for code in _codes(data) if size else []:
        if made >= size:
            break
        if code < len(table):
            string = table[code]
        elif code == len(table) and previous and len(table) < MOST:
            string = previous + previous[:1]  # the string that this very code completes
        else:
            raise CorruptFrame(f"LZW: code {code} at output byte {made} of {size}, but there are {len(table)} strings")
        if previous and len(table) < MOST:
            table.append(previous + string[:1])
        parts.append(string)
        made, previous = made + len(string), string
    if made != size or len(data) != -(-int(_widths(len(parts)).sum()) // 8):
        raise CorruptFrame(f"LZW: {len(data)} bytes of codes are not those of {size} bytes")
    return b"".join(parts)


def _widths(count: int) -> NDArray[np.int64]:
    """The width of each of the first `count` codes: at the i-th, the encoder's dictionary holds 256 + i strings."""
    held = np.minimum(256 + np.arange(count, dtype=np.int64), MOST)
    return np.ceil(np.log2(held)).astype(np.int64)


def _codes(data: bytes) -> list[int]:
    most = len(data) * 8 // 8
    widths = _widths(most)
    ends = np.cumsum(widths)
    count = int(np.searchsorted(ends, len(data) * 8, side="right"))
    return bits.unpack(data, widths[:count]).tolist()
