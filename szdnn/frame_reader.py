"""Frames read lazily by tensor name: what archives and bare frames have in common, and bare frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from . import _native, codec
from .decoder import Blocks, Frame
from .errors import CorruptFrame, Error, LimitError, ReferenceMismatch
from .pages import mapped_span, released
from .reference import Reference
from .safetensors_file import map_bytes
from .source import Array, Json, TensorSpec

if TYPE_CHECKING:
    from .bases import Base
    from .integrations.remote import Url


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the tensor's name before the message of an error that comes up in the block."""
    try:
        yield
    except Error as error:
        error.args = (f"{name}: {error}",)
        raise


class FrameReader(Mapping[str, Array]):
    """A lazy mapping from tensor name to decoded array. Use it as a context manager.

    Frames are read, checked and decoded when asked for. With `max_bytes`, a tensor larger than that is LimitError
    before it is decoded. `skeleton` tells what else the source file held, `specs` each tensor's dtype and shape.
    """

    skeleton: dict[str, Json]
    specs: dict[str, TensorSpec]

    def __init__(self, source: Path | memoryview, max_bytes: int | None, threads: int | None) -> None:
        self.path = source if isinstance(source, Path) else Path("archive in memory")
        self._data = None if isinstance(source, Path) else np.frombuffer(source, np.uint8)
        self._file: BinaryIO | None = source.open("rb") if isinstance(source, Path) else None
        self._max_bytes = max_bytes
        self._threads = threads
        self._base: Base | None = None
        self.chain: tuple[str, ...] = ()
        """The `place` of each archive that holds differences to this one, and through which it was found."""

    base_opener: Callable[[Path], Any] | None = None
    """What opens the file that this holds differences to; None: as any supported file."""

    @property
    def place(self) -> str:
        """What tells this file from others."""
        return str(self.path.resolve())

    @property
    def folder(self) -> Path | Url | None:
        """Where to look for what this holds differences to; None in memory."""
        return self.path.parent if self._data is None else None

    def set_reference(self, base: Base | None) -> None:
        """Take this for the state that frames hold differences to, rather than what the archive's record names; it is
        closed with the archive."""
        self._base = base

    @property
    def base(self) -> Base:
        """The state that frames hold differences to. Raises ReferenceMismatch where it is not at hand."""
        if self._base is None:
            from .bases import beside  # which opens archives itself

            self._base = beside(self)
        return self._base

    def reference_of(self, name: str) -> Reference:
        """What the frame that holds a tensor holds differences to. Raises ReferenceMismatch where it is missing."""
        return self._reference([name])

    def _reference(self, names: Sequence[str]) -> Reference:
        found = self.base.reference(names, [self.specs[name].shape for name in names])
        if found is None:
            raise ReferenceMismatch(f"the reference {self.base.name} has no such tensor of this shape")
        return found

    def _decoded(self, frame: Array, spec: TensorSpec, names: Sequence[str], max_bytes: int | None) -> Array:
        """The values of a frame that holds these tensors; differences are decoded over the memory of what they are
        to."""
        info = codec.info(frame)
        self._check(info, spec)
        if info.reference is None:
            return np.asarray(codec.decompress(frame, max_bytes=max_bytes, threads=self._threads))
        if max_bytes is not None and info.raw_bytes > max_bytes:
            raise LimitError(f"decodes to {info.raw_bytes} bytes, more than max_bytes={max_bytes}")
        reference = self._reference(names)
        values = reference.whole()
        out = values if reference.spare and values.dtype == info.dtype and values.flags.writeable else None
        with self._naming_base():
            return np.asarray(codec.decompress(frame, reference=values, out=out, threads=self._threads))

    @contextmanager
    def _naming_base(self) -> Iterator[None]:
        try:
            yield
        except ReferenceMismatch as error:
            error.args = (f"{error} (the reference is {self.base.name})",)
            raise

    def parts(self, name: str) -> Reference:
        """A tensor as a reference, of which only what is asked for is decoded."""
        frame = Frame(self.frame(name))
        is_difference = frame.header.c.predictor == _native.REFERENCE
        return Blocks(frame, self._reference([name]) if is_difference else None)

    def _bytes(self, start: int, stop: int) -> Array:
        """Bytes of the file, mapped, or of the memory."""
        if self._file is not None:
            return map_bytes(self._file, start, stop)
        assert self._data is not None
        return self._data[start:stop]

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self.path.stat().st_size if self._data is None else self._data.size

    @abstractmethod
    def frame(self, name: str) -> Array:
        """The bytes of the frame of `name`, mapped from the file."""

    def info(self, name: str) -> codec.FrameInfo:
        """What the frame of `name` says about itself."""
        with naming(name):
            return codec.info(self.frame(name))

    def __getitem__(self, name: str) -> Array:
        frame, spec = self.frame(name), self.specs[name]
        with naming(name), released(mapped_span(frame)):
            return self._decoded(frame, spec, [name], self._max_bytes)

    def read(self, name: str, slices: Any = ...) -> Array:
        """A part of a tensor by basic indexing, decoding only the blocks it touches."""
        frame, spec = self.frame(name), self.specs[name]
        with naming(name):
            info = codec.info(frame)
            self._check(info, spec)
            reference = None if info.reference is None else self._reference([name])
            with self._naming_base():
                limit = self._max_bytes
                part = codec.read(frame, slices, reference=reference, max_bytes=limit, threads=self._threads)
            return np.asarray(part)

    def _check(self, info: codec.FrameInfo, spec: TensorSpec) -> None:
        if (info.dtype, info.shape) != (spec.dtype, spec.shape):
            raise CorruptFrame(
                f"the frame holds {info.dtype}{list(info.shape)}; the archive says {spec.dtype}{list(spec.shape)}"
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def raw_bytes(self) -> int:
        """The bytes of all tensors once decoded."""
        return sum(spec.nbytes for spec in self.specs.values())

    @property
    def metadata(self) -> dict[str, str]:
        """The source's own metadata."""
        return dict(self.skeleton.get("metadata", {}))

    def check_digest(self) -> None:
        """Check what no frame's own checksums cover; nothing for a bare frame."""

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.close()
        if self._base is not None:
            self._base.close()
            self._base = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class FrameFile(FrameReader):
    """A file that is one bare frame (.szd), as an archive of one tensor called "array"."""

    def __init__(self, path: Path | str, *, max_bytes: int | None = None, threads: int | None = None) -> None:
        super().__init__(Path(path), max_bytes, threads)
        self.skeleton = {"kind": "npy", "suffix": ".npy"}
        try:
            info = Frame(self._bytes(0, self.size))  # and not codec.info, which looks into the first block
        except BaseException:
            self.close()
            raise
        self.specs = {"array": TensorSpec(info.dtype, info.shape)}

    def frame(self, name: str) -> Array:
        """See `FrameReader.frame`."""
        if name not in self.specs:
            raise KeyError(name)
        return self._bytes(0, self.size)
