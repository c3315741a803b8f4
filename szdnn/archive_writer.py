"""Writes archives: frames one after the other behind a header that is filled in last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from . import skeleton as skeletons
from . import small
from .archive_layout import SKELETON, SMALL, own_metadata, places_text
from .errors import ArchiveError
from .safetensors_file import map_bytes
from .source import Array, Json, TensorSpec

FRAME_SLACK = 4096
"""More than a frame can take beyond its tensor's raw bytes."""
_MOVED_BYTES = 1 << 20
_NO_DIGEST = "0" * 64


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
        return _header({**self._metadata, **own_metadata(digest)}, places)

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
        self._hash.update(places_text(self._places))
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
