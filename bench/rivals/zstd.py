"""Zstandard, on the quantised integers and on the floats as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module
from bench.rivals.integers import Integers

LEVEL = 3


class ZstdIntegers(Integers):
    """Quantised integers at level 3."""

    name = "zstd-ints"
    package = "zstandard"
    modules = ("zstandard",)

    def encode(self, codes: Array) -> bytes:
        """One zstd frame."""
        return bytes(module("zstandard").ZstdCompressor(level=LEVEL).compress(codes.data))

    def decode(self, data: memoryview, dtype: np.dtype[Any]) -> Array:
        """The frame's integers."""
        return np.frombuffer(module("zstandard").ZstdDecompressor().decompress(data), dtype=dtype)


class ZstdFloats(Rival):
    """The raw floats at level 3, lossless."""

    name = "zstd"
    package = "zstandard"
    modules = ("zstandard",)
    lossless = True

    def accepts(self, array: Array) -> bool:
        """Every dtype: it sees bytes."""
        return array.size > 0

    def compress(self, array: Array, eps: float) -> bytes:
        """One zstd frame."""
        return bytes(module("zstandard").ZstdCompressor(level=LEVEL).compress(array.ravel().view(np.uint8).data))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The frame's floats."""
        return np.frombuffer(module("zstandard").ZstdDecompressor().decompress(data), dtype=dtype).reshape(shape)


RIVALS: tuple[Rival, ...] = (ZstdIntegers(), ZstdFloats())
