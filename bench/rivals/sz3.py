"""SZ3, through pysz: its default, its algorithm without prediction, and the best of its algorithms."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module


class SZ3(Rival):
    """One of SZ3's algorithms; the default is interpolation and Lorenzo, chosen by SZ3."""

    package = "pysz"
    modules = ("pysz",)

    def __init__(self, name: str, algorithm: str | None = None) -> None:
        self.name = name
        self.algorithm = algorithm

    def compress(self, array: Array, eps: float) -> bytes:
        """One SZ3 stream (it carries its own configuration)."""
        return self._compress(array, eps, self.algorithm)

    def _compress(self, array: Array, eps: float, algorithm: str | None) -> bytes:
        pysz = module("pysz")
        config = pysz.szConfig()
        config.errorBoundMode = pysz.szErrorBoundMode.ABS
        config.absErrorBound = eps
        if algorithm is not None:
            config.cmprAlgo = getattr(pysz.szAlgorithm, algorithm)
        stream, _ = pysz.sz.compress(array, config)
        return bytes(stream.tobytes())

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The stream's array."""
        decoded, _ = module("pysz").sz.decompress(np.frombuffer(data, dtype=np.uint8), dtype, shape)
        return np.asarray(decoded)


class BestSZ3(SZ3):
    """Tries all of SZ3's lossy algorithms and keeps the smallest stream; its time is that of all tries."""

    algorithms = ("LORENZO_REG", "INTERP_LORENZO", "INTERP", "NOPRED")

    def __init__(self) -> None:
        super().__init__("sz3-best")

    def compress(self, array: Array, eps: float) -> bytes:
        """The smallest stream."""
        return min((self._compress(array, eps, algorithm) for algorithm in self.algorithms), key=len)


RIVALS: tuple[Rival, ...] = (SZ3("sz3"), SZ3("sz3-nopred", "NOPRED"), BestSZ3())
