"""SZ2 and SPERR, through hdf5plugin: one chunk of an HDF5 file in memory, of which only the chunk's bytes count.

Both filters leave shape and dtype to HDF5, whose few hundred bytes are not counted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module, squeezed


class HDF5Filter(Rival):
    """A compression filter of hdf5plugin with an absolute bound."""

    package = "hdf5plugin h5py"
    modules = ("h5py", "hdf5plugin")

    def __init__(self, name: str, filter_class: str, ranks: range) -> None:
        self.name = name
        self.filter_class = filter_class
        self.ranks = ranks

    def fold(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape the filter sees: no unit axes."""
        return squeezed(shape)

    def _filter(self, eps: float) -> Any:
        return getattr(module("hdf5plugin"), self.filter_class)(absolute=eps)

    def compress(self, array: Array, eps: float) -> bytes:
        """The one chunk as the filter wrote it."""
        array = array.reshape(self.fold(array.shape))
        with module("h5py").File("bench.h5", "w", driver="core", backing_store=False) as file:
            data = file.create_dataset("x", data=array, chunks=array.shape, compression=self._filter(eps))
            return bytes(data.id.read_direct_chunk((0,) * data.ndim)[1])

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The chunk put into a fresh file and read through the filter (the streams carry their own bound)."""
        folded = self.fold(shape)
        with module("h5py").File("bench.h5", "w", driver="core", backing_store=False) as file:
            target = file.create_dataset("x", folded, dtype, chunks=folded, compression=self._filter(1.0))
            target.id.write_direct_chunk((0,) * len(folded), data)
            return np.asarray(target[...]).reshape(shape)


class Sperr(HDF5Filter):
    """SPERR takes 2-D and 3-D arrays without unit axes: others are reshaped in the way that suits it best."""

    def accepts(self, array: Array) -> bool:
        """Any array that folds to two or three axes."""
        return super().accepts(array) and len(self.fold(array.shape)) > 1

    def fold(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Unit axes dropped, leading axes joined, one axis cut in two as evenly as it divides."""
        axes = squeezed(shape)
        if len(axes) > 3:
            return (math.prod(axes[:-2]), *axes[-2:])
        if len(axes) == 1 and axes[0] > 1:
            rows = next(k for k in range(math.isqrt(axes[0]), 0, -1) if axes[0] % k == 0)
            return (rows, axes[0] // rows) if rows > 1 else axes
        return axes


RIVALS: tuple[Rival, ...] = (HDF5Filter("sz2", "SZ", range(1, 5)), Sperr("sperr", "Sperr", range(1, 9)))
