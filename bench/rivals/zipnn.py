"""ZipNN, lossless, one thread. It needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module


class ZipNN(Rival):
    """NumPy arrays in, the stream with dtype and shape out."""

    name = "zipnn"
    package = "zipnn"
    modules = ("zipnn",)
    lossless = True

    def accepts(self, array: Array) -> bool:
        """Whole-byte float dtypes it knows."""
        return array.dtype == np.float32 and array.ndim > 0 and array.size > 0

    def _codec(self) -> Any:
        return module("zipnn").ZipNN(input_format="numpy", bytearray_dtype="float32", threads=1)

    def compress(self, array: Array, eps: float) -> bytes:
        """One stream."""
        return bytes(self._codec().compress(array))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The stream's array."""
        return np.asarray(self._codec().decompress(data)).reshape(shape)


RIVALS: tuple[Rival, ...] = (ZipNN(),)
