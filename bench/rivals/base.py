"""The one interface behind which every compressor is measured."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Rival(ABC):
    """A compressor of float arrays under an absolute error bound, a pointwise relative one, or a lossless one.

    Packages are imported on first use, so that a rival that is not installed can be listed as absent.
    """

    name: str
    package: str
    modules: tuple[str, ...]
    lossless: bool = False
    pointwise: bool = False
    ranks: range = range(1, 5)

    def available(self) -> bool:
        """Whether the packages are installed and importable here."""
        try:
            for module in self.modules:
                importlib.import_module(module)
        except (ImportError, OSError):
            return False
        return True

    def accepts(self, array: Array) -> bool:
        """Whether the compressor takes this dtype and shape; other arrays must not reach it: some rivals crash."""
        return array.dtype in (np.float32, np.float64) and array.ndim in self.ranks and array.size > 0

    @abstractmethod
    def compress(self, array: Array, eps: float) -> bytes:
        """The complete byte string; eps is absolute; of a value's size where `pointwise`; ignored where `lossless`."""

    @abstractmethod
    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The array; shape and dtype are given, since some rivals do not store them."""


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without unit axes, which some rivals pad to whole blocks."""
    return tuple(n for n in shape if n > 1) or (1,)


def module(name: str) -> Any:
    """A third-party module, typed loosely: most rivals ship no annotations."""
    return importlib.import_module(name)
