"""Bases: the states that archives hold differences to, found, opened, and read a tensor at a time.

An archive records the base it was made with: a file name relative to its own folder, as a hint, and the base's digest.
What decides is the digest in each frame. A base may itself hold differences to another one, and so on.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import files, small
from .archive import Archive
from .buffers import Bytes
from .errors import ArchiveError, Error, ReferenceMismatch
from .folder import INDEX_SUFFIX, BaseOf, Listing, ShardedArchive, is_folder
from .frame_reader import FrameReader
from .integrations.remote import Url, is_remote
from .reference import Reference, Values
from .source import Array, Json, Source, TensorSpec
from .state import StateSource

MAX_LINKS = 100
"""Archives in a chain at most, each holding differences to the next."""
_HINT = re.compile(r"(\.\./)?([^/\\\0]+/)*[^/\\\0]+")


class Base:
    """A state by tensor name, read when asked for. A context manager.

    tensors: from name to array; an open archive's are decoded.
    path: its file or folder, None for a state in memory.
    """

    def __init__(
        self, tensors: Mapping[str, Array], specs: Mapping[str, TensorSpec], path: Path | None, close: Callable[[], Any]
    ) -> None:
        self.tensors, self.specs, self.path = tensors, specs, path
        self._close = close
        self.target: Path | None = None
        """The file that is to hold differences to it, if that is known."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path) if self.path is not None else "given"

    @property
    def links(self) -> int:
        """How many archives in a row hold differences, this one included."""
        record = self.tensors.skeleton.get("reference") if isinstance(self.tensors, FrameReader) else None
        links = record.get("links") if isinstance(record, dict) else 0
        return links if type(links) is int and links > 0 else int(record is not None)

    def record(self) -> dict[str, Json]:
        """What an archive says of its base. Raises ArchiveError for too long a chain."""
        if self.links >= MAX_LINKS:
            raise ArchiveError(
                f"the reference {self.name} is the last of a chain of {self.links}: save this without one"
            )
        digest = self.tensors.digest if isinstance(self.tensors, Archive) else None
        return {"file": _hint(self.path, self.target), "digest": digest, "links": self.links + 1}

    def reference(self, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Reference | None:
        """The tensor of a name, or those of several in a row; None unless all are there with these shapes, and of
        one dtype."""
        specs = [self.specs[name] for name in names if name in self.specs]
        if [spec.shape for spec in specs] != [*shapes] or len({spec.dtype for spec in specs}) != 1:
            return None
        if len(names) > 1:
            with _telling(self):
                return Values(small.join([np.asarray(self.tensors[name]) for name in names]), spare=True)
        return _Tensor(self, names[0])

    def close(self) -> None:
        """Release what was opened for it."""
        self._close()

    def __enter__(self) -> Base:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Tensor(Reference):
    """A tensor of a base, of which no more is read or decoded than is asked for."""

    def __init__(self, base: Base, name: str) -> None:
        self._base, self._name = base, name
        spec = base.specs[name]
        self.dtype, self.shape = spec.dtype.newbyteorder("="), spec.shape
        self.spare = not isinstance(base.tensors, Source)
        self._parts: Reference | None = None
        self._lock = threading.Lock()

    def part(self, start: int, stop: int) -> Bytes:
        """See `Reference.part`."""
        with self._lock, _telling(self._base):
            if self._parts is None:
                tensors = self._base.tensors
                self._parts = (
                    tensors.parts(self._name) if isinstance(tensors, (FrameReader, ShardedArchive, _Files)) else None
                )
                self._parts = self._parts or Values(tensors[self._name])
            return self._parts.part(start, stop)

    def whole(self) -> Array:
        """See `Reference.whole`."""
        with _telling(self._base):
            return np.asarray(self._base.tensors[self._name])


@contextmanager
def _telling(base: Base) -> Iterator[None]:
    """Say of errors that they came up in the base."""
    try:
        yield
    except Error as error:
        error.args = (f"in the reference {base.name}: {error}",)
        raise


def _hint(path: Path | None, target: Path | None) -> str | None:
    """Where the base is as seen from the archive's folder; its bare name where that is too far away to be told."""
    if path is None:
        return None
    if target is not None and path.exists():
        relative = Path(os.path.relpath(path.resolve(), target.resolve().parent)).as_posix()
        if _HINT.fullmatch(relative) and relative.count("../") <= 1:
            return relative
    return path.name


def open_base(reference: Any, chain: tuple[str, ...] = (), opener: Callable[[Path], Any] | None = None) -> Base:
    """Open what the public functions take for a reference: a path (a file of any supported type, compressed or not, a
    folder or index of shards), a URL, an open archive, or a state of tensors.

    chain: the archives that lead here. opener: what opens files. Raises ArchiveError, OSError.
    """
    if isinstance(reference, Base):
        return reference
    if isinstance(reference, (FrameReader, ShardedArchive, Source)):
        return Base(reference, reference.specs, Path(reference.path), lambda: None)
    if isinstance(reference, Url) or is_remote(reference):
        remote = files.open_frames(str(reference))
        remote.chain = chain
        return Base(remote, remote.specs, Path(Url(str(reference)).name), remote.close)
    if not isinstance(reference, (str, os.PathLike)):
        source = StateSource(reference)
        return Base(source, source.specs, None, source.close)
    path = Path(reference)
    if is_folder(path):
        shards = _Files(path)
        return Base(shards, shards.specs, path, shards.close)
    opened: Any = (opener or files.open_tensors)(path)
    if isinstance(opened, FrameReader):
        opened.chain = chain
    return Base(opened, opened.specs, path, opened.close)


class _Files(Mapping[str, Array]):
    """The tensors of all checkpoint files of a folder or index, compressed or not."""

    def __init__(self, path: Path) -> None:
        listing = Listing.of(path)
        self._places: dict[str, Any] = {}
        self._opened: list[Any] = []
        try:
            for name in listing.models:
                self._opened.append(files.open_tensors(listing.root / name))
                self._places |= dict.fromkeys(self._opened[-1], self._opened[-1])
        except BaseException:
            self.close()
            raise
        self.specs = {name: place.specs[name] for name, place in self._places.items()}

    def parts(self, name: str) -> Reference | None:
        """A tensor a part at a time, where that is of use."""
        place = self._places[name]
        return place.parts(name) if isinstance(place, FrameReader) else None

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self._places[name][name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        for opened in self._opened:
            opened.close()


def beside(frames: FrameReader) -> Base:
    """The base that an archive's own record names, in the place it hints at. Raises ReferenceMismatch, saying what is
    missing, ArchiveError and OSError where it can't be opened."""
    record = frames.skeleton.get("reference")
    hint = record.get("file") if isinstance(record, dict) else None
    folder = frames.folder
    if not isinstance(hint, str) or not _HINT.fullmatch(hint) or hint.count("../") > 1 or folder is None:
        named = f" ({hint})" if isinstance(hint, str) and folder is None else ""
        raise ReferenceMismatch(
            f"this holds differences to another state{named}: give that as the reference (reference=, --reference)"
        )
    chain = (*frames.chain, frames.place)
    path: Any = folder.with_name(hint) if isinstance(folder, Url) else folder / hint
    if not path.exists():
        raise ReferenceMismatch(
            f"this holds differences to {hint}, which is not there ({path}): give it as the reference "
            "(reference=, --reference)"
        )
    place = str(path) if isinstance(path, Url) else str(path.resolve())
    if place in chain or len(chain) > MAX_LINKS:
        raise ReferenceMismatch(f"this holds differences to {hint}, and so on in a circle, or over {MAX_LINKS} links")
    return open_base(path, chain, frames.base_opener)


def base_for(name: str, reference: Any) -> Any:
    """The part of a folder's reference that is for the file `name` in that folder: the file of that name, or all."""
    is_local = isinstance(reference, (str, os.PathLike)) and not is_remote(reference)
    if not is_local or not Path(reference).is_dir():
        return reference
    own = Path(reference) / name
    return own if own.is_file() and not name.endswith(INDEX_SUFFIX) else reference


@contextmanager
def opened_for(reference: Any, target: Path | None) -> Iterator[Base | None]:
    """The base of an archive that is to be the file `target`; None for None."""
    if reference is None:
        yield None
        return
    with open_base(reference) as base:
        base.target = target
        yield base


def files_of_base(reference: Path | Url | str | None) -> BaseOf | None:
    """For each file of a folder, what it holds differences to; None for None."""
    if reference is None:
        return None
    return lambda name, target: opened_for(base_for(name, reference), target)
