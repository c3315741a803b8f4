"""A weight layer's bytes: some numbers, then some byte strings."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CorruptFrame


def join(numbers: Sequence[int], parts: Sequence[bytes]) -> bytes:
    """Numbers >= 0 and the parts' lengths in 7 bits a byte, then the parts."""
    return b"".join([*(_varint(n) for n in [*numbers, *map(len, parts)]), *parts])


def split(data: bytes, numbers: int, parts: int) -> tuple[list[int], list[bytes]]:
    """So many numbers and parts. Raises CorruptFrame when the data are not just these."""
    found, at = [], 0
    for _ in range(numbers + parts):
        value, at = _read_varint(data, at)
        found.append(value)
    pieces = []
    for length in found[numbers:]:
        pieces.append(data[at : at + length])
        at += length
    if at != len(data):
        raise CorruptFrame(f"a layer of {len(data)} bytes says that it has {at}")
    return found[:numbers], pieces


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            break
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise CorruptFrame("a layer's numbers end early")
