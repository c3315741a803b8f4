"""ZipNN, lossless, one thread. It needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module


class ZipNN(Rival):
    """float32 as NumPy array, the stream with dtype and shape; half floats as bytes, shape and dtype left outside.

    It takes no bfloat16 or float16 arrays, and works in place on bytes: they are a copy.
    """

    name = "zipnn"
    package = "zipnn"
    modules = ("zipnn",)
    lossless = True

    def accepts(self, array: Array) -> bool:
        """The float dtypes it knows."""
        return array.dtype.name in ("float32", "bfloat16", "float16") and array.ndim > 0 and array.size > 0

    @staticmethod
    def _codec(dtype: np.dtype[Any]) -> Any:
        form = "numpy" if dtype == np.float32 else "byte"
        return module("zipnn").ZipNN(input_format=form, bytearray_dtype=dtype.name, threads=1)

    def compress(self, array: Array, eps: float) -> bytes:
        """One stream."""
        return bytes(self._codec(array.dtype).compress(array if array.dtype == np.float32 else array.tobytes()))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The stream's array."""
        decoded = self._codec(dtype).decompress(data)
        values = np.asarray(decoded) if dtype == np.float32 else np.frombuffer(decoded, dtype=dtype)
        return values.reshape(shape)


RIVALS: tuple[Rival, ...] = (ZipNN(),)
