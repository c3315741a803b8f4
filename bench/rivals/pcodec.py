"""pcodec, on the quantised integers and on the floats as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module
from bench.rivals.integers import Integers


class PcodecIntegers(Integers):
    """Quantised integers of at least 16 bits (8-bit ones are an extension off by default)."""

    name = "pcodec-ints"
    package = "pcodec"
    modules = ("pcodec",)
    narrowest = 1

    def encode(self, codes: Array) -> bytes:
        """One standalone file."""
        return bytes(module("pcodec").standalone.simple_compress(codes, module("pcodec").ChunkConfig()))

    def decode(self, data: memoryview, dtype: np.dtype[Any]) -> Array:
        """The file's integers."""
        return np.asarray(module("pcodec").standalone.simple_decompress(bytes(data)))


class PcodecFloats(Rival):
    """The floats themselves, lossless."""

    name = "pcodec"
    package = "pcodec"
    modules = ("pcodec",)
    lossless = True

    def compress(self, array: Array, eps: float) -> bytes:
        """One standalone file."""
        return bytes(module("pcodec").standalone.simple_compress(array.ravel(), module("pcodec").ChunkConfig()))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The file's floats."""
        return np.asarray(module("pcodec").standalone.simple_decompress(data)).reshape(shape)


RIVALS: tuple[Rival, ...] = (PcodecIntegers(), PcodecFloats())
