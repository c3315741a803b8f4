"""Files that are not on this machine, `s3://bucket/model.szd.safetensors` and the like, through fsspec.

fsspec finds the file system by the part before "://" and its settings in its own configuration, or for S3 where AWS's
tools look (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID ...).

Written files are spooled to local disk (TMPDIR) and uploaded when they are whole, in parts where the store can: a
failed upload leaves no object, and an object that was there stays. Archives are read by range requests, a frame at a
time.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from ..archive import Archive
from ..errors import ArchiveError, CorruptFrame, Error
from ..frame_reader import FrameReader
from ..safetensors_file import Header, check_layout, parse_header
from ..source import Array

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LOCAL = ("file://", "local://")
_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory"})
"""Where an object appears when it is whole. Elsewhere a file is uploaded under another name and moved."""
MAX_HEADER_BYTES = 100_000_000
FIRST_READ = 64 << 10
"""Bytes of an archive that are fetched first: its header, nearly always."""
PART_BYTES = 16 << 20
MAX_PARTS = 9_000
PARTS_AT_A_TIME = 4


def is_remote(path: object) -> TypeGuard[str]:
    """Whether a path is a URL of something that is not a local file."""
    return isinstance(path, str) and _URL.match(path) is not None and not path.startswith(_LOCAL)


class Url:
    """A URL where the command line has a path: what it asks of a pathlib.Path, no more."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        return self._url

    @property
    def name(self) -> str:
        """The last part."""
        return self._url.rstrip("/").rpartition("/")[2]

    def with_name(self, name: str) -> Url:
        """The URL of another file in the same folder."""
        return Url(self._url.rstrip("/").rpartition("/")[0] + "/" + name)

    def exists(self) -> bool:
        """Whether there is a file."""
        place = _Place(self._url)
        with place.errors():
            return bool(place.system.exists(place.path))

    def unlink(self) -> None:
        """Remove the file."""
        place = _Place(self._url)
        with place.errors():
            place.system.rm_file(place.path)


class _Place:
    """A file system of fsspec's and a path in it."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise ArchiveError(f"{url} needs fsspec; install it with: pip install 'szdnn[remote]'") from None
        self.url = url
        with self.errors():
            self.system, self.path = url_to_fs(url)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name or "object"

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what libraries of stores raise into an ArchiveError that names the URL; OSError stays what it is."""
        try:
            yield
        except (Error, OSError):
            raise
        except Exception as error:
            raise ArchiveError(f"{self.url}: {type(error).__name__}: {error}") from error

    def _protocols(self) -> tuple[str, ...]:
        protocol = self.system.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def put(self, local: Path) -> None:
        """Upload a file, whole or not at all."""
        options: dict[str, Any] = {}
        if "s3" in self._protocols():
            part = max(PART_BYTES, -(-local.stat().st_size // MAX_PARTS))
            options = {"chunksize": part, "max_concurrency": PARTS_AT_A_TIME}
        if not _STORES.isdisjoint(self._protocols()):
            self.system.put_file(str(local), self.path, **options)
            return
        temporary = f"{self.path}.{secrets.token_hex(4)}.tmp"
        try:
            self.system.put_file(str(local), temporary)
            self.system.mv(temporary, self.path)
        except BaseException:
            with suppress(Exception):
                self.system.rm_file(temporary)
            raise


def place_of(path: str | os.PathLike[str] | Url) -> Path | Url:
    """A path or URL as what it is."""
    return path if isinstance(path, Url) else Url(path) if is_remote(path) else Path(path)


class Folder:
    """A folder on local disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @staticmethod
    def of(path: str | os.PathLike[str] | Url) -> Folder:
        """The folder at a path or URL."""
        place = place_of(path)
        return RemoteFolder(str(place)) if isinstance(place, Url) else Folder(place)

    def __str__(self) -> str:
        return str(self._path)

    def make(self) -> None:
        """Let there be such a folder."""
        self._path.mkdir(parents=True, exist_ok=True)

    def file(self, name: str) -> Path | Url:
        """A file in it."""
        return self._path / name

    def files(self) -> Iterable[Path | Url]:
        """The files in it."""
        return self._path.iterdir()

    def read(self, name: str) -> bytes:
        """The bytes of a file in it. Raises FileNotFoundError."""
        return (self._path / name).read_bytes()

    def archive(self, name: str) -> Archive:
        """An archive in it."""
        return Archive(self._path / name)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        (self._path / name).unlink(missing_ok=True)

    def rename(self, path: Path | Url, name: str) -> Path | Url:
        """Give a file in it another name; the new path."""
        assert isinstance(path, Path)
        return path.replace(self._path / name)


class RemoteFolder(Folder):
    """A folder at a URL, or what a store has for one: a prefix."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._place = _Place(self._url)

    def __str__(self) -> str:
        return self._url

    def make(self) -> None:
        """See `Folder.make`."""
        with self._place.errors():
            self._place.system.makedirs(self._place.path, exist_ok=True)

    def file(self, name: str) -> Url:
        """See `Folder.file`."""
        return Url(f"{self._url}/{name}")

    def files(self) -> Iterable[Path | Url]:
        """See `Folder.files`."""
        with self._place.errors():
            self._place.system.invalidate_cache(self._place.path)
            try:
                found = self._place.system.ls(self._place.path, detail=False)
            except FileNotFoundError:  # a prefix that nothing has
                found = []
        return [self.file(PurePosixPath(path).name) for path in found]

    def read(self, name: str) -> bytes:
        """See `Folder.read`."""
        with self._place.errors():
            data: bytes = self._place.system.cat_file(f"{self._place.path}/{name}")
            return data

    def archive(self, name: str) -> Archive:
        """See `Folder.archive`."""
        return RemoteArchive(str(self.file(name)))

    def remove(self, name: str) -> None:
        """See `Folder.remove`."""
        with suppress(FileNotFoundError):
            self.file(name).unlink()

    def rename(self, path: Path | Url, name: str) -> Url:
        """See `Folder.rename`."""
        new = self.file(name)
        with self._place.errors():
            self._place.system.mv(f"{self._place.path}/{path.name}", f"{self._place.path}/{name}")
        return new


@contextmanager
def open_for_write(url: str) -> Iterator[Path]:
    """A local path to write a file to, which is uploaded to `url` when the block ends and forgotten if it fails.

    Raises ArchiveError and OSError; the object that was at `url`, or that there was none, is then as it was.
    """
    place = _Place(url)
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        local = Path(folder, place.name)
        yield local
        with place.errors():
            place.put(local)


@contextmanager
def local_target(target: Path | Url | str) -> Iterator[Path]:
    """The path to write for a target: itself, or for a URL as `open_for_write` has it."""
    if isinstance(target, Url) or is_remote(target):
        with open_for_write(str(target)) as local:
            yield local
    else:
        yield Path(target)


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A temporary local copy of the file at `url`, of the same name. Raises ArchiveError and OSError."""
    place = _Place(url)
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        local = Path(folder, place.name)
        with place.errors():
            place.system.get_file(place.path, str(local))
        yield local


class RemoteArchive(Archive):
    """An archive at a URL: a lazy mapping from tensor name to decoded array; see `szdnn.Archive`.

    Opening fetches the header and the skeleton, reading a tensor its frame. Raises as Archive does, OSError for what
    the store refuses.
    """

    def __init__(self, url: str, *, max_bytes: int | None = None, threads: int | None = None) -> None:
        self._place = _Place(url)
        self.url = url
        with self._place.errors():
            size = self._place.system.info(self._place.path)["size"]
        if size is None:
            raise ArchiveError(f"{url}: the server does not tell its size; fetch it first")
        self._size = int(size)
        self._head = b""
        self._head = self._fetch(0, min(self._size, FIRST_READ))
        FrameReader.__init__(self, memoryview(self._head), max_bytes, threads)
        self.path = Path(self._place.name)
        self._open(self._header())

    def _header(self) -> Header:
        try:
            length = int.from_bytes(self._head[:8], "little")
            if not 0 < length <= min(MAX_HEADER_BYTES, self._size - 8):
                raise ValueError(f"a header of {length} bytes in {self._size}")
            header = parse_header(self._fetch(0, length + 8))
            check_layout(header, self._size)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptFrame(f"{self.url} is not a whole archive: header: {error!r}") from None
        return header

    def _fetch(self, start: int, stop: int) -> bytes:
        """Bytes of the object, by a range request where they are not there already."""
        if stop <= len(self._head):
            return self._head[start:stop]
        with self._place.errors():
            data: bytes = self._place.system.cat_file(self._place.path, start=start, end=stop)
        if len(data) != stop - start:
            raise CorruptFrame(f"{self.url}: {len(data)} bytes came for {stop - start}; was it replaced meanwhile?")
        return data

    def _bytes(self, start: int, stop: int) -> Array:
        return np.frombuffer(self._fetch(start, stop), np.uint8) if stop > start else np.empty(0, np.uint8)

    @property
    def place(self) -> str:
        """See `FrameReader.place`."""
        return self.url

    @property
    def folder(self) -> Url:
        """See `FrameReader.folder`."""
        return Url(self.url)

    @property
    def size(self) -> int:
        """The bytes of the object."""
        return self._size
