"""Archives: frames under the tensors' own names in a valid .safetensors file, written in one go and read lazily.

Every tensor is one U8 entry that holds its frame, but for those under 16 KiB, which share the entry `__szdnn__.small`
(see `szdnn.small`). The entry `__szdnn__.skeleton` holds the rest of the state (see `szdnn.skeleton`): the tensors'
names, dtypes and shapes in their order, the source's metadata, the plan and the count of lossy generations.
`__metadata__` carries `format: szdnn`, the archive's version, the source's own metadata and a digest: the SHA-256 of
all entries' bytes in their order, then of the JSON list of their `[name, start, stop]`.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import codec, small
from . import skeleton as skeletons
from .archive_layout import FORMAT, SKELETON, SMALL, VERSION, own_metadata, places_text
from .errors import ArchiveError, ArgumentError, CorruptFrame, LimitError, UnsupportedFrame
from .frame_reader import FrameReader, naming
from .plan import Plan
from .reference import Reference, Values
from .safetensors_file import Header, check_layout, header_of_file, parse_header
from .source import Array, TensorSpec

_KEPT_GROUPS = 4


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
        super().__init__(where, max_bytes, threads)
        try:
            if isinstance(where, Path):
                self._file, header = header_of_file(self._file or where.open("rb"), where)
            else:
                header = _header_in(where)
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
        if not isinstance(source, dict) or {**source, **own_metadata(self.digest)} != metadata:
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
        total.update(places_text({n: (a - self._start, b - self._start) for n, (a, b) in self._places.items()}))
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
