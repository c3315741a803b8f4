"""What every readable file looks like to the rest: a lazy, ordered mapping from tensor name to array."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from . import pages
from .errors import ArchiveError

Array = np.ndarray[Any, Any]
Json = Any


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's dtype and shape, known before its values are read."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes the values take uncompressed."""
        return self.size * self.dtype.itemsize


class Source(Mapping[str, Array]):
    """A checkpoint or array file, open for reading.

    Iterating gives the tensor names in the order they are best read; `source[name]` reads one tensor, of dtype
    and shape `specs[name]`, and keeps no reference to it. Use it as a context manager.
    """

    kind: str
    """Which reader and writer: "safetensors", "npy", "npz" or "torch"."""
    is_model: bool = True
    """Whether the default rules of `szdnn.plan` apply; plain arrays take the bound they are given."""

    def __init__(self, path: Path, specs: dict[str, TensorSpec], metadata: dict[str, str] | None = None) -> None:
        self.path = path
        self.specs = specs
        self.metadata = metadata or {}

    @abstractmethod
    def skeleton(self) -> dict[str, Json]:
        """Everything but the tensors, as JSON: what the writer of the same `kind` needs to rebuild the file."""

    @abstractmethod
    def __getitem__(self, name: str) -> Array: ...

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    @contextmanager
    def reading(self, name: str) -> Iterator[Array]:
        """One tensor while it is read; its pages of a mapped file do not pile up in the process."""
        array = self[name]
        with pages.released(pages.mapped_span(array)):
            yield array

    @property
    def nbytes(self) -> int:
        """The uncompressed bytes of all tensors."""
        return sum(spec.nbytes for spec in self.specs.values())

    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def take(tensors: Mapping[str, Array], name: str) -> Array:
    """`tensors[name]`; ArchiveError where a skeleton tells of a tensor that its archive lacks."""
    try:
        return tensors[name]
    except KeyError:
        raise ArchiveError(f"the archive has no tensor {name!r}") from None


def write_array(file: Any, array: Array) -> None:
    """Write an array's bytes to a binary file in C order, copying only what is not contiguous."""
    if array.size:
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
