"""Rivals under a pointwise relative bound: SZ2's own mode, and any codec with an absolute bound behind a logarithm."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from bench.rivals import everyone
from bench.rivals.base import Array, Rival, module
from bench.rivals.hdf5 import HDF5Filter

_HEADER = struct.Struct("<dII")
_ROUNDING = 2.0**-23
"""Room in the logarithm for rounding the decoded value to float32."""


class SZ2Pointwise(HDF5Filter):
    """SZ2's mode PW_REL."""

    pointwise = True

    def _filter(self, eps: float) -> Any:
        return module("hdf5plugin").SZ(pointwise_relative=eps)


class Logarithms(Rival):
    """log2|x| in float64, handed to a codec with an absolute bound; zeros and signs on a side channel.

    y = 2^l is within r of x for l - log2|x| from log2(1 - r) to log2(1 + r): half that width is the codec's bound, and
    what it decodes is moved to the middle. Where zeros are, only the other values' logarithms are coded, as 1-D;
    otherwise the array's shape is kept. The side channel is a bit a value that says whether it is zero, and a bit for
    each other value's sign, each left out when there is nothing to tell, else through zstd at its highest level; 16
    bytes say the bound and the two lengths.
    """

    pointwise = True

    def __init__(self, inner: Rival) -> None:
        self.inner = inner
        self.name = f"log+{inner.name}"
        self.package = f"{inner.package} zstandard"
        self.modules = (*inner.modules, "zstandard")

    def accepts(self, array: Array) -> bool:
        """What the codec takes once it is logarithms."""
        if not np.isfinite(array).all() or not array.any():
            return False
        return self.inner.accepts(self._logarithms(array))

    @staticmethod
    def _logarithms(array: Array) -> Array:
        kept = array if array.all() else array[array != 0]
        logarithms: Array = np.log2(np.abs(kept.astype(np.float64)))
        return logarithms

    @staticmethod
    def _span(r: float) -> tuple[float, float]:
        """The codec's bound, and how far the middle lies from log2|x|."""
        low, high = math.log2(1 - r), math.log2(1 + r)
        return (high - low) / 2 - _ROUNDING, (high + low) / 2

    def compress(self, array: Array, eps: float) -> bytes:
        """Lengths, zeros, signs, the codec's stream."""
        bound, _ = self._span(eps)
        stream = self.inner.compress(self._logarithms(array), bound)
        zeros = _pack(array == 0)
        signs = _pack(np.signbit(array[array != 0]))
        return b"".join([_HEADER.pack(eps, len(zeros), len(signs)), zeros, signs, stream])

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The three parts put together again."""
        eps, zero_bytes, sign_bytes = _HEADER.unpack_from(data)
        at = _HEADER.size
        count = math.prod(shape)
        zeros = _unpack(data[at : at + zero_bytes], count)
        kept = count - int(zeros.sum())
        negative = _unpack(data[at + zero_bytes : at + zero_bytes + sign_bytes], kept)
        inner_shape = shape if kept == count else (kept,)
        stream = data[at + zero_bytes + sign_bytes :]
        logarithms = self.inner.decompress(stream, inner_shape, np.dtype(np.float64)).ravel()
        magnitudes = np.exp2(logarithms + self._span(eps)[1])
        values = np.zeros(count, dtype=dtype)
        values[~zeros] = np.where(negative, -magnitudes, magnitudes)
        return values.reshape(shape)


def _pack(bits: Array) -> bytes:
    """Bits through zstd; nothing when none is set."""
    if not bits.any():
        return b""
    return bytes(module("zstandard").ZstdCompressor(level=22).compress(np.packbits(bits).tobytes()))


def _unpack(data: bytes, count: int) -> Array:
    if not data:
        return np.zeros(count, dtype=bool)
    raw = module("zstandard").ZstdDecompressor().decompress(data)
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=count).astype(bool)


def rivals() -> list[Rival]:
    """SZ2, then every lossy rival behind a logarithm."""
    inner = [rival for rival in everyone() if not rival.lossless]
    return [SZ2Pointwise("sz2-pw", "SZ", range(1, 5)), *map(Logarithms, inner)]
