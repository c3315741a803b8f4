"""fpzip in its lossless mode (its lossy mode truncates mantissas and has no absolute bound)."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module


class Fpzip(Rival):
    """The stream carries shape and dtype."""

    name = "fpzip"
    package = "fpzip"
    modules = ("fpzip",)
    lossless = True

    def compress(self, array: Array, eps: float) -> bytes:
        """One stream, all bits kept."""
        return bytes(module("fpzip").compress(array, precision=0, order="C"))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The stream's array (fpzip returns it as 4-D)."""
        return np.asarray(module("fpzip").decompress(data, order="C")).reshape(shape)


RIVALS: tuple[Rival, ...] = (Fpzip(),)
