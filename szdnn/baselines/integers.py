"""Streams of non-negative integers as bytes, by one of several coders: what pruning, sharing and lattices leave to code.

`packed` takes as many bits a number as the largest needs; `huffman` is the C core's; `lzw` is in this package; the
others see the numbers as bytes, each byte of a number in a plane of its own when they need more than one.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..errors import ArgumentError, CorruptFrame
from . import bits, lzw

Integers = NDArray[np.int64]
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
_ESCAPE = 192
"""Huffman's symbols: below, the number itself; from there, 192 + the number of bits of what exceeds it."""


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=22, write_content_size=True, write_checksum=False).compress(data)


def _unzstd(data: bytes, size: int) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)


def _unzlib(data: bytes, size: int) -> bytes:
    return zlib.decompressobj().decompress(data, size + 1)


def _unbz2(data: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, size + 1)


def _unxz(data: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_XZ).decompress(data, size + 1)


BYTE_CODERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes, int], bytes]]] = {
    "zlib": (lambda data: zlib.compress(data, 9), _unzlib),
    "bzip2": (lambda data: bz2.compress(data, 9), _unbz2),
    "xz": (lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=_XZ), _unxz),
    "zstd": (_zstd, _unzstd),
    "lzw": (lzw.encode, lzw.decode),
}
CODERS = ("packed", "huffman", *BYTE_CODERS)


def encode(numbers: Integers, coder: str) -> bytes:
    """The numbers [n] >= 0 as bytes; how many there are is not stored. Raises ArgumentError for another coder."""
    if numbers.size and numbers.min() < 0:
        raise ArgumentError(f"{coder}: the integers must not be negative, and {numbers.min()} is among them")
    if coder not in CODERS:
        raise ArgumentError(f"no coder {coder!r} for integers; there are {', '.join(CODERS)}")
    if not numbers.size:
        return b""
    if coder == "huffman":
        return _huffman(numbers)
    largest = int(numbers.max())
    if coder == "packed":
        each = bits.width(largest)
        return bytes([each]) + bits.pack(numbers.astype(np.uint64), each)
    planes = -(-bits.width(largest) // 8) or 1
    split = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :planes]
    return bytes([planes]) + BYTE_CODERS[coder][0](split.T.tobytes())


def decode(data: bytes, count: int, coder: str) -> Integers:
    """The `count` numbers that were encoded. Raises CorruptFrame for anything else."""
    if coder not in CODERS:
        raise CorruptFrame(f"no coder {coder!r} for integers")
    if not count:
        return _nothing(data)
    if not data:
        raise CorruptFrame(f"{coder}: no bytes for {count} integers")
    if coder == "huffman":
        return _unhuffman(data, count)
    if coder == "packed":
        return bits.unpack_even(data[1:], count, min(data[0], 64)).astype(np.int64)
    planes = data[0]
    if not 1 <= planes <= 8:
        raise CorruptFrame(f"{coder}: integers of {planes} bytes")
    try:
        raw = BYTE_CODERS[coder][1](data[1:], count * planes)
    except CorruptFrame:
        raise
    except Exception as error:  # each library has its own exceptions for damage
        raise CorruptFrame(f"{coder}: {error}") from None
    if len(raw) != count * planes:
        raise CorruptFrame(f"{coder}: {len(raw)} bytes, not {count} integers of {planes} bytes")
    wide = np.zeros((count, 8), np.uint8)
    wide[:, :planes] = np.frombuffer(raw, np.uint8).reshape(planes, count).T
    return wide.view("<u8").ravel().astype(np.int64)


def _nothing(data: bytes) -> Integers:
    if data:
        raise CorruptFrame(f"{len(data)} bytes for no integers")
    return np.zeros(0, np.int64)


def _huffman(numbers: Integers) -> bytes:
    """Length of the codes (4 bytes), the codes, then what the symbols leave out."""
    excess = np.maximum(numbers - _ESCAPE + 1, 1)
    width = np.frexp(excess.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2): exact below 2^53
    large = numbers >= _ESCAPE
    symbols = np.where(large, _ESCAPE + width, numbers).astype(np.uint8)
    codes = _native.huffman_encode(symbols)
    low = (excess - (np.int64(1) << width))[large].astype(np.uint64)
    if not large.any():
        return b"\0" + codes
    return b"\1" + len(codes).to_bytes(4, "little") + codes + bits.pack(low, width[large])


def _unhuffman(data: bytes, count: int) -> Integers:
    if data[0] == 0:
        return _native.huffman_decode(data[1:], count).astype(np.int64)
    end = 5 + int.from_bytes(data[1:5], "little")
    symbols = _native.huffman_decode(data[5:end], count).astype(np.int64)
    large = symbols >= _ESCAPE
    width = symbols[large] - _ESCAPE
    symbols[large] = (np.int64(1) << width) + bits.unpack(data[end:], width).astype(np.int64) + _ESCAPE - 1
    return symbols
