"""A plain copy: the speed that no compressor passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival


class Memcpy(Rival):
    """Bytes out, array back, one copy each."""

    name = "memcpy"
    package = "numpy"
    modules = ("numpy",)
    lossless = True

    def accepts(self, array: Array) -> bool:
        """Every dtype and shape."""
        return True

    def compress(self, array: Array, eps: float) -> bytes:
        """The raw bytes."""
        return array.tobytes()

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A fresh array."""
        return np.frombuffer(data, dtype=dtype).reshape(shape).copy()


# No rival: measured beside all of them.
LIMIT: tuple[Rival, ...] = (Memcpy(),)
