"""ZFP in its fixed-accuracy mode, through zfpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module, squeezed


class ZFP(Rival):
    """The stream carries shape and dtype; unit axes are dropped before, since ZFP pads each axis to four."""

    name = "zfp"
    package = "zfpy"
    modules = ("zfpy",)

    def compress(self, array: Array, eps: float) -> bytes:
        """One stream with its header."""
        return bytes(module("zfpy").compress_numpy(array.reshape(squeezed(array.shape)), tolerance=eps))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The stream's array."""
        return np.asarray(module("zfpy").decompress_numpy(data)).reshape(shape)


RIVALS: tuple[Rival, ...] = (ZFP(),)
