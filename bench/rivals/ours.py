"""szdnn itself, behind the rivals' interface."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module

DEFAULT_EFFORT = 3


class Szdnn(Rival):
    """Error-bounded mode, one thread."""

    package = "szdnn"
    modules = ("szdnn",)

    def accepts(self, array: Array) -> bool:
        """Every dtype and shape."""
        return True

    def __init__(self, effort: int = DEFAULT_EFFORT) -> None:
        self.effort = effort
        self.name = "szdnn" if effort == DEFAULT_EFFORT else f"szdnn-e{effort}"

    def compress(self, array: Array, eps: float) -> bytes:
        """One frame."""
        szdnn = module("szdnn")
        return bytes(szdnn.compress(array, szdnn.Abs(eps), effort=self.effort, threads=1))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The frame's array."""
        decoded: Array = module("szdnn").decompress(data, threads=1)
        return decoded


class SzdnnLossless(Szdnn):
    """Lossless mode."""

    lossless = True

    def __init__(self, effort: int = DEFAULT_EFFORT) -> None:
        super().__init__(effort)
        self.name += "-lossless"

    def compress(self, array: Array, eps: float) -> bytes:
        """One frame."""
        szdnn = module("szdnn")
        return bytes(szdnn.compress(array, szdnn.Lossless(), effort=self.effort, threads=1))


def codecs(efforts: list[int]) -> list[Rival]:
    """szdnn at each effort, with and without loss."""
    return [*(Szdnn(effort) for effort in efforts), *(SzdnnLossless(effort) for effort in efforts)]
