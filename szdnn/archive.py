"""Archives: frames under the tensors' own names in a valid .safetensors file, written atomically and read lazily.

Every tensor is one U8 entry that holds its frame. `__metadata__` carries `format: szdnn`, the archive's version and the
source's own metadata; the entry `__szdnn__.skeleton` holds the rest of the state (see `szdnn.skeleton`).
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from . import codec
from . import skeleton as skeletons
from .errors import ArchiveError, CorruptFrame, Error, UnsupportedFrame
from .safetensors_file import map_bytes, read_header
from .source import Array, Json

FORMAT = "szdnn"
VERSION = 0
_OWN_METADATA = {"format": FORMAT, "version": str(VERSION)}
SKELETON = skeletons.RESERVED_PREFIX + "skeleton"
FRAME_SLACK = 4096
"""More than a frame can take beyond its tensor's raw bytes."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A new binary file, readable too, that becomes `path` when the block ends and vanishes if it fails.

    It is written beside `path` (beside its target, if that is a link), synced, and renamed over it; so `path` is at
    every moment the old file or the whole new one. Raises ArchiveError if `path` is something other than a file.
    """
    path = Path(os.path.realpath(path))
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise ArchiveError(f"{path} is not a regular file")
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb+") as file:
            yield file
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows has no such thing
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ArchiveWriter:
    """Writes an archive to an open, seekable file, a frame at a time, never holding more than one.

    The header is as long as it can get with frames of the largest size, filled in by `finish`, and padded with spaces.
    `sizes` gives for each tensor, in the order of `add`, the uncompressed bytes.
    """

    def __init__(
        self, file: BinaryIO, sizes: Mapping[str, int], skeleton: dict[str, Json], metadata: Mapping[str, str]
    ) -> None:
        reserved = [name for name in sizes if name != skeletons.entry_name(name)]
        if reserved:
            raise ArchiveError(f"an archive can't have a tensor of the name {reserved[0]!r}")
        self._file = file
        self._sizes = dict(sizes)
        self._metadata = {**metadata, **_OWN_METADATA}
        self._places: dict[str, tuple[int, int]] = {}
        blob = skeletons.pack({**skeleton, "names": list(sizes), "metadata": dict(metadata)})
        most = sum(size + FRAME_SLACK for size in sizes.values()) + len(blob)
        self._reserved = len(_header(self._metadata, dict.fromkeys([SKELETON, *sizes], (most, most))))
        self._end = self._reserved
        file.seek(self._end)
        self._append(SKELETON, blob)

    def _append(self, name: str, data: bytes | memoryview) -> None:
        self._file.seek(self._end)
        self._file.write(data)
        start = self._end - self._reserved
        self._places[name] = (start, start + len(data))
        self._end += len(data)

    def add(self, name: str, frame: bytes | memoryview) -> None:
        """Append the frame of the tensor `name`, one of `sizes`, once."""
        if name not in self._sizes or name in self._places:
            raise ArchiveError(f"unexpected tensor {name!r}")
        if len(frame) > self._sizes[name] + FRAME_SLACK:
            raise ArchiveError(f"{name}: a frame of {len(frame)} bytes for {self._sizes[name]}")
        self._append(name, frame)

    def read(self, name: str) -> bytes:
        """The frame of an added tensor as it now stands in the file."""
        start, stop = self._places[name]
        self._file.seek(self._reserved + start)
        return self._file.read(stop - start)

    def finish(self) -> int:
        """Write the header, when all tensors have been added; the size of the archive in bytes."""
        missing = self._sizes.keys() - self._places.keys()
        if missing:
            raise ArchiveError(f"the tensor {min(missing)!r} was not added")
        header = _header(self._metadata, self._places)
        header += b" " * (self._reserved - len(header))
        self._file.seek(0)
        self._file.write((len(header) - 8).to_bytes(8, "little") + header[8:])
        return self._end


def _header(metadata: Mapping[str, str], places: Mapping[str, tuple[int, int]]) -> bytes:
    """A .safetensors header for U8 entries, with room for its length, padded to whole eights."""
    fields: dict[str, Json] = {"__metadata__": dict(metadata)}
    for name, (start, stop) in places.items():
        length = stop - start or stop  # no frame is empty: start == stop stands for the largest number there can be
        fields[name] = {"dtype": "U8", "shape": [length], "data_offsets": [start, stop]}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return bytes(8) + text + b" " * (-len(text) % 8)


class FrameReader(Mapping[str, Array]):
    """A lazy mapping from tensor name to decoded array over the frames in a file. Use it as a context manager.

    Frames are read, checked and decoded when asked for. With `max_bytes`, a tensor larger than that is LimitError
    before it is decoded. `skeleton` tells what else the source file held.
    """

    skeleton: dict[str, Json]

    def __init__(self, path: Path, places: dict[str, tuple[int, int]], max_bytes: int | None, threads: int | None):
        self.path = path
        self._places = places
        self._max_bytes = max_bytes
        self._threads = threads
        self._file = path.open("rb")

    def frame(self, name: str) -> Array:
        """The bytes of the frame of `name`, mapped from the file."""
        return map_bytes(self._file, *self._places[name])

    def info(self, name: str) -> codec.FrameInfo:
        """What the frame of `name` says about itself."""
        with naming(name):
            return codec.info(self.frame(name))

    def __getitem__(self, name: str) -> Array:
        frame = self.frame(name)
        with naming(name):
            return np.asarray(codec.decompress(frame, max_bytes=self._max_bytes, threads=self._threads))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def metadata(self) -> dict[str, str]:
        """The source's own metadata."""
        return dict(self.skeleton.get("metadata", {}))

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class FrameFile(FrameReader):
    """A file that is one bare frame (.szd), as an archive of one tensor called "array"."""

    def __init__(self, path: Path | str, *, max_bytes: int | None = None, threads: int | None = None) -> None:
        path = Path(path)
        super().__init__(path, {"array": (0, path.stat().st_size)}, max_bytes, threads)
        self.skeleton = {"kind": "npy", "suffix": ".npy"}


class Archive(FrameReader):
    """An archive open for reading: a lazy mapping from tensor name to decoded array.

    Opening checks the header through the safetensors library and reads the skeleton. Raises ArchiveError, CorruptFrame
    or UnsupportedFrame when the file is not a whole archive, OSError when it can't be read.
    """

    def __init__(self, path: Path | str, *, max_bytes: int | None = None, threads: int | None = None) -> None:
        path = Path(path)
        header = read_header(path)
        if header.metadata.get("format") != FORMAT:
            raise ArchiveError(f"{path} is a .safetensors file but not an szdnn archive")
        self.version = header.metadata.get("version", "")
        if self.version != str(VERSION):
            raise UnsupportedFrame(f"{path} has archive version {self.version[:20]!r}; this szdnn reads {VERSION}")
        if any(entry.dtype != "U8" or len(entry.shape) != 1 for entry in header.entries.values()):
            raise CorruptFrame(f"{path}: an entry is not a row of U8")
        places = {name: (entry.start, entry.stop) for name, entry in header.entries.items()}
        super().__init__(path, places, max_bytes, threads)
        try:
            self.skeleton = self._read_skeleton(header.metadata)
        except BaseException:
            self.close()
            raise

    def _read_skeleton(self, metadata: dict[str, str]) -> dict[str, Json]:
        if SKELETON not in self._places:
            raise CorruptFrame(f"{self.path} has no {SKELETON} entry")
        skeleton = skeletons.unpack(self.frame(SKELETON).tobytes())
        del self._places[SKELETON]
        unknown = [name for name in self._places if name.startswith(skeletons.RESERVED_PREFIX)]
        if unknown:
            raise UnsupportedFrame(f"{self.path} has an entry {unknown[0]}, made by a newer szdnn")
        if skeleton.get("names") != list(self._places):
            raise CorruptFrame(f"{self.path}: the names in the header are not those in the skeleton")
        own = skeleton.get("metadata")
        if not isinstance(own, dict) or {**own, **_OWN_METADATA} != metadata:
            raise CorruptFrame(f"{self.path}: the metadata in the header is not that in the skeleton")
        return skeleton


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the tensor's name before the message of an error that comes up in the block."""
    try:
        yield
    except Error as error:
        error.args = (f"{name}: {error}",)
        raise
