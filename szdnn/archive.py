"""Archives: frames under the tensors' own names in a valid .safetensors file, written in one go and read lazily.

Every tensor is one U8 entry that holds its frame, but for those under 16 KiB, which share the entry `__szdnn__.small`
(see `szdnn.small`). The entry `__szdnn__.skeleton` holds the rest of the state (see `szdnn.skeleton`): the tensors'
names, dtypes and shapes in their order, the source's metadata, the plan and the count of lossy generations.
`__metadata__` carries `format: szdnn`, the archive's version, the source's own metadata and a digest: the SHA-256 of
all entries' bytes in their order, then of the JSON list of their `[name, start, stop]`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from . import _native, codec, small
from . import skeleton as skeletons
from .decoder import Blocks, Frame
from .errors import (
    ArchiveError,
    ArgumentError,
    CorruptFrame,
    Error,
    LimitError,
    ReferenceMismatch,
    UnsupportedFrame,
)
from .pages import mapped_span, released
from .plan import Plan
from .reference import Reference, Values
from .safetensors_file import Header, check_layout, map_bytes, parse_header, read_header
from .source import Array, Json, TensorSpec

if TYPE_CHECKING:
    from .bases import Base
    from .integrations.remote import Url

FORMAT = "szdnn"
VERSION = 0
SKELETON = skeletons.RESERVED_PREFIX + "skeleton"
SMALL = skeletons.RESERVED_PREFIX + "small"
FRAME_SLACK = 4096
"""More than a frame can take beyond its tensor's raw bytes."""
_MOVED_BYTES = 1 << 20
_KEPT_GROUPS = 4
_NO_DIGEST = "0" * 64


def _own_metadata(digest: str) -> dict[str, str]:
    return {"format": FORMAT, "version": str(VERSION), "digest": digest}


class ArchiveWriter:
    """Writes an archive to an open, seekable file that is readable too, a frame at a time, never holding more than one.

    First the groups of small tensors (`add_group` for each of `szdnn.small.groups`), then the others (`add`), then
    `finish`. The header is as long as it can get with frames of the largest size, and padded with spaces.

    specs: dtype and shape of every tensor, in their order.
    grouped: the names of those that come in groups.
    skeleton: the rest of the state, as JSON.
    """

    def __init__(
        self,
        file: BinaryIO,
        specs: Mapping[str, TensorSpec],
        grouped: Iterable[str],
        skeleton: dict[str, Json],
        metadata: Mapping[str, str],
    ) -> None:
        reserved = [name for name in specs if name != skeletons.entry_name(name)]
        if reserved:
            raise ArchiveError(f"an archive can't have a tensor of the name {reserved[0]!r}")
        self._file, self._metadata, self._hash = file, dict(metadata), hashlib.sha256()
        self._ids = {name: i for i, name in enumerate(specs)}
        self._waiting = set(grouped)
        self._sizes = {name: spec.nbytes for name, spec in specs.items() if name not in self._waiting}
        self._places: dict[str, tuple[int, int]] = {}
        self._lengths: list[int] = []
        self._members: list[list[int]] = []
        blob = skeletons.pack({**skeleton, "tensors": skeletons.pack_specs(specs), "metadata": self._metadata})
        most = sum(spec.nbytes + FRAME_SLACK for spec in specs.values()) + len(blob)
        names = [SKELETON, *([SMALL] if self._waiting else []), *self._sizes]
        self._reserved = len(self._header(dict.fromkeys(names, (most, most)), _NO_DIGEST))
        self._end = self._reserved
        file.seek(self._end)
        self._append(SKELETON, blob)

    def _header(self, places: Mapping[str, tuple[int, int]], digest: str) -> bytes:
        return _header({**self._metadata, **_own_metadata(digest)}, places)

    def _append(self, name: str, data: bytes | memoryview) -> tuple[int, int]:
        """Write at the end, as what is new of the entry `name`."""
        self._file.seek(self._end)
        self._file.write(data)
        self._hash.update(data)
        start = self._end - self._reserved
        stop = start + len(data)
        self._places[name] = (self._places.get(name, (start, start))[0], stop)
        self._end += len(data)
        return start, stop

    def add_group(self, group: small.Group, frame: bytes | memoryview) -> tuple[int, int]:
        """Append the frame of a group; its place, for `read`."""
        if not self._waiting.issuperset(group.names) or self._places.keys() - {SKELETON, SMALL}:
            raise ArchiveError(f"unexpected group of {group.names[:1]}")
        self._waiting.difference_update(group.names)
        self._lengths.append(len(frame))
        self._members.append([self._ids[name] for name in group.names])
        place = self._append(SMALL, frame)
        if not self._waiting:
            self._append(SMALL, small.pack_index(self._lengths, self._members))
        return place

    def add(self, name: str, frame: bytes | memoryview) -> tuple[int, int]:
        """Append the frame of the tensor `name`, once; its place, for `read`."""
        if name not in self._sizes or name in self._places:
            raise ArchiveError(f"unexpected tensor {name!r}")
        if self._waiting:
            raise ArchiveError("the groups of small tensors come first")
        if len(frame) > self._sizes[name] + FRAME_SLACK:
            raise ArchiveError(f"{name}: a frame of {len(frame)} bytes for {self._sizes[name]}")
        return self._append(name, frame)

    def read(self, place: tuple[int, int]) -> bytes | Array:
        """The frame of an added tensor or group as it now stands in the file, mapped where it is a real file."""
        start, stop = (self._reserved + offset for offset in place)
        self._file.flush()
        if hasattr(self._file, "getvalue"):  # in memory
            self._file.seek(start)
            return self._file.read(stop - start)
        return map_bytes(self._file, start, stop)

    def _final_header(self) -> bytes:
        missing = [*(self._sizes.keys() - self._places.keys()), *self._waiting]
        if missing:
            raise ArchiveError(f"the tensor {min(missing)!r} was not added")
        self._hash.update(_places_text(self._places))
        return self._header(self._places, self._hash.hexdigest())

    def finish(self) -> int:
        """Write the header, when all tensors have been added; the size of the archive in bytes.

        What is written behind a padded header is moved up where that is little.
        """
        if self._end <= _MOVED_BYTES:
            data = self.finish_bytes()
            self._file.seek(0)
            self._file.write(data)
            self._file.truncate()
            return len(data)
        header = self._final_header()
        header += b" " * (self._reserved - len(header))
        self._file.seek(0)
        self._file.write(_with_length(header))
        return self._end

    def finish_bytes(self) -> bytes:
        """The whole archive, its header not padded, when all tensors have been added to a file in memory."""
        header = self._final_header()
        self._file.seek(self._reserved)
        return _with_length(header) + self._file.read(self._end - self._reserved)


def _places_text(places: Mapping[str, tuple[int, int]]) -> bytes:
    return json.dumps([[name, *place] for name, place in places.items()], separators=(",", ":")).encode()


def _with_length(header: bytes) -> bytes:
    return (len(header) - 8).to_bytes(8, "little") + header[8:]


def _header(metadata: Mapping[str, str], places: Mapping[str, tuple[int, int]]) -> bytes:
    """A .safetensors header for U8 entries, with room for its length, padded to whole eights."""
    fields: dict[str, Json] = {"__metadata__": dict(metadata)}
    for name, (start, stop) in places.items():
        length = stop - start or stop  # no frame is empty: start == stop stands for the largest number there can be
        fields[name] = {"dtype": "U8", "shape": [length], "data_offsets": [start, stop]}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return bytes(8) + text + b" " * (-len(text) % 8)


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
        self._file = source.open("rb") if isinstance(source, Path) else None
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

    def frame(self, name: str) -> Array:
        """The bytes of the frame of `name`, mapped from the file."""
        raise NotImplementedError

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


class Archive(FrameReader):
    """An archive open for reading: a lazy mapping from tensor name to decoded array.

    source: a file's path, or the bytes of an archive.
    max_bytes: tensors of more bytes are LimitError before they are decoded, and so is JSON of more (and of over 1 MB).
    threads: how many at most decode one tensor.

    Opening checks the header (a file's through the safetensors library) and reads the skeleton. Raises ArchiveError,
    CorruptFrame or UnsupportedFrame when this is not a whole archive, OSError when it can't be read.
    """

    def __init__(
        self, source: Path | str | bytes | memoryview, *, max_bytes: int | None = None, threads: int | None = None
    ) -> None:
        where = Path(source) if isinstance(source, (str, Path)) else memoryview(source).cast("B")
        header = read_header(where) if isinstance(where, Path) else _header_in(where)
        super().__init__(where, max_bytes, threads)
        try:
            self._open(header)
        except BaseException:
            self.close()
            raise

    def _open(self, header: Header) -> None:
        path, entries = self.path, header.entries
        if header.metadata.get("format") != FORMAT:
            raise ArchiveError(f"{path} is a .safetensors file but not an szdnn archive")
        self.version = header.metadata.get("version", "")
        if self.version != str(VERSION):
            raise UnsupportedFrame(f"{path} has archive version {self.version[:20]!r}; this szdnn reads {VERSION}")
        if any(entry.dtype != "U8" or len(entry.shape) != 1 for entry in entries.values()):
            raise CorruptFrame(f"{path}: an entry is not a row of U8")
        unknown = [n for n in entries if n.startswith(skeletons.RESERVED_PREFIX) and n not in (SKELETON, SMALL)]
        if unknown:
            raise UnsupportedFrame(f"{path} has an entry {unknown[0]}, made by a newer szdnn")
        if SKELETON not in entries:
            raise CorruptFrame(f"{path} has no {SKELETON} entry")
        self.digest = header.metadata.get("digest", "")
        """SHA-256 of the archive's content, in hexadecimal: equal for archives that hold the same."""
        self._start = len(header.raw)
        self._places = {name: (entry.start, entry.stop) for name, entry in entries.items()}
        self._groups: dict[int, Array] = {}
        self._lock = threading.Lock()
        self._read_skeleton(header.metadata)

    def _read_skeleton(self, metadata: dict[str, str]) -> None:
        self.skeleton = skeletons.unpack(self._bytes(*self._places[SKELETON]).tobytes(), self._max_bytes)
        self.specs = skeletons.specs_of(self.skeleton)
        self._members: dict[str, small.Member] = {}
        if SMALL in self._places:
            self._members = small.read_index(
                self._bytes(*self._places[SMALL]), list(self.specs.items()), self._max_bytes
            )
        own = [name for name in self.specs if name not in self._members]
        if own != [name for name in self._places if name not in (SKELETON, SMALL)]:
            raise CorruptFrame(f"{self.path}: the names in the header are not those in the skeleton")
        source = self.skeleton.get("metadata")
        if not isinstance(source, dict) or {**source, **_own_metadata(self.digest)} != metadata:
            raise CorruptFrame(f"{self.path}: the metadata in the header is not that in the skeleton")

    @property
    def generations(self) -> int:
        """How many times the values have been through lossy compression, as far as those who saved them said."""
        count = self.skeleton.get("generations", 0)
        return count if type(count) is int else 0

    @property
    def plan(self) -> Plan | None:
        """The plan that the archive was made by."""
        return Plan.from_dict(self.skeleton["plan"]) if "plan" in self.skeleton else None

    def parts(self, name: str) -> Reference:
        """See `FrameReader.parts`."""
        return Values(self[name]) if self.is_small(name) else super().parts(name)

    def is_small(self, name: str) -> bool:
        """Whether the tensor shares its frame with others."""
        return name in self._members and not self._members[name].is_alone

    def frame(self, name: str) -> Array:
        """The bytes of the frame of `name`, mapped from the file; for a small tensor, of the frame it shares."""
        if name not in self._members:
            return self._bytes(*self._places[name])
        start = self._places[SMALL][0]
        first, stop = self._members[name].frame
        return self._bytes(start + first, start + stop)

    def info(self, name: str) -> codec.FrameInfo:
        """What the frame of `name` says about itself; for a small tensor its part of the frame it shares."""
        info = super().info(name)
        if not self.is_small(name):
            return info
        spec = self.specs[name]
        return replace(info, shape=spec.shape, raw_bytes=spec.nbytes, frame_bytes=self._members[name].share)

    def __getitem__(self, name: str) -> Array:
        return self._small(name) if self.is_small(name) else super().__getitem__(name)

    def read(self, name: str, slices: Any = ...) -> Array:
        """A part of a tensor by basic indexing, decoding only the blocks it touches."""
        if not self.is_small(name):
            return super().read(name, slices)
        items = slices if isinstance(slices, tuple) else (slices,)
        if not all(item is None or item is ... or isinstance(item, (slice, int, np.integer)) for item in items):
            raise ArgumentError(f"slices may hold integers, slices, ... and None, not {slices!r}")
        try:
            return np.array(self._small(name)[slices])
        except IndexError as error:
            raise ArgumentError(str(error)) from None

    def _small(self, name: str) -> Array:
        spec, member = self.specs[name], self._members[name]
        if self._max_bytes is not None and spec.nbytes > self._max_bytes:
            raise LimitError(f"{name}: decodes to {spec.nbytes} bytes, more than max_bytes={self._max_bytes}")
        with naming(name):
            return member.take(self._group(member, spec))

    def _group(self, member: small.Member, spec: TensorSpec) -> Array:
        """A decoded group; the last few are kept, since its members are often read one after the other."""
        found = self._groups.get(member.group)
        if found is None:
            start = self._places[SMALL][0]
            frame = self._bytes(start + member.frame[0], start + member.frame[1])
            names = self._group_names(member.group)
            values = sum(self.specs[name].size for name in names)
            found = self._decoded(frame, TensorSpec(spec.dtype, (values,)), names, None)
            with self._lock:
                while len(self._groups) >= _KEPT_GROUPS:
                    del self._groups[next(iter(self._groups))]
                self._groups[member.group] = found
        return found

    def reference_of(self, name: str) -> Reference:
        """See `FrameReader.reference_of`."""
        return self._reference(self._group_names(self._members[name].group) if self.is_small(name) else [name])

    def _group_names(self, group: int) -> list[str]:
        """The members of a group, in their order."""
        return [name for name, member in self._members.items() if member.group == group]

    def check_digest(self) -> None:
        """Compute the digest anew, reading the whole file. Raises CorruptFrame where it is another."""
        total = hashlib.sha256()
        for start, stop in self._places.values():
            for at in range(start, stop, 1 << 24):
                total.update(self._bytes(at, min(at + (1 << 24), stop)).data)
        total.update(_places_text({n: (a - self._start, b - self._start) for n, (a, b) in self._places.items()}))
        if total.hexdigest() != self.digest:
            raise CorruptFrame(f"{self.path}: its content does not have the digest that its header says")


def _header_in(data: memoryview) -> Header:
    """The header of an archive in memory. Raises CorruptFrame when it is damaged."""
    try:
        size = int.from_bytes(data[:8], "little")
        if size + 8 > len(data):
            raise ValueError(f"{len(data)} bytes are less than its header")
        header = parse_header(bytes(data[: size + 8]))
        check_layout(header, len(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFrame(f"the data is not a whole archive: header: {error!r}") from None
    return header


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the tensor's name before the message of an error that comes up in the block."""
    try:
        yield
    except Error as error:
        error.args = (f"{name}: {error}",)
        raise
