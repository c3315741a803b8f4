"""What one would write by hand: rint(x / 2 eps) as integers, handed to a lossless compressor.

The bound is not checked, so rounding breaks it for about one float32 value in a million.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival

_HEADER = struct.Struct("<dB")
_WIDTHS: list[np.dtype[Any]] = [np.dtype(f"i{size}") for size in (1, 2, 4, 8)]


class Integers(Rival):
    """Quantises, narrows to the smallest integer type and leaves the coding to a subclass."""

    narrowest = 0

    @abstractmethod
    def encode(self, codes: Array) -> bytes:
        """Compress 1-D integers."""

    @abstractmethod
    def decode(self, data: memoryview, dtype: np.dtype[Any]) -> Array:
        """The 1-D integers."""

    def compress(self, array: Array, eps: float) -> bytes:
        """Step, width and the coded integers."""
        scaled = np.rint(array.ravel() * array.dtype.type(1 / (2 * eps)))
        peak = max(abs(float(scaled.max())), abs(float(scaled.min())))
        width = next(i for i, kind in enumerate(_WIDTHS) if i >= self.narrowest and peak <= np.iinfo(kind).max)
        return _HEADER.pack(2 * eps, width) + self.encode(scaled.astype(_WIDTHS[width]))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Integers times the step."""
        step, width = _HEADER.unpack_from(data)
        codes = self.decode(memoryview(data)[_HEADER.size :], _WIDTHS[width])
        values: Array = np.multiply(codes, dtype.type(step), dtype=dtype)
        return values.reshape(shape)
