"""Restoring what is intact of a damaged archive: whole tensors, and the intact blocks of damaged ones."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import _native, codec, files, small
from . import skeleton as skeletons
from .archive import Archive
from .archive_layout import SKELETON, SMALL
from .atomic import atomic_file
from .bases import open_base
from .checkpoint import file_kind, source_writer
from .decoder import Frame
from .errors import ArchiveError, CorruptFrame, Error, ReferenceMismatch
from .frame_reader import FrameFile, FrameReader
from .reference import Reference
from .safetensors_file import Header, map_bytes, parse_header
from .source import Array, TensorSpec
from .tasks import Progress

Fill = Literal["zero", "nan"]
Box = tuple[slice, ...]
_LEAF = 4096
"""Values of a damaged part that is given up once both its ends are lost."""
_MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class Loss:
    """What is lost of a tensor.

    reason: the error that was found first.
    ranges: first and last index of what is lost, the last excluded, in the tensor's values in C order.
    size: the number of values in the tensor.
    """

    reason: str
    ranges: tuple[tuple[int, int], ...]
    size: int

    @property
    def values(self) -> int:
        """The number of values lost."""
        return sum(stop - start for start, stop in self.ranges)


@dataclass(frozen=True)
class SalvageReport:
    """What came out of a damaged archive.

    intact: the names of tensors that are whole.
    damaged: what is lost of the others.
    notes: what else is lost.
    """

    intact: tuple[str, ...]
    damaged: dict[str, Loss]
    notes: tuple[str, ...]
    raw_bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is lost."""
        return not self.damaged and not self.notes


def salvage(
    path: Path,
    target: Path,
    *,
    fill: Fill = "zero",
    reference: Any = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SalvageReport:
    """Restore the file that a damaged archive or frame was made of, as far as its blocks are intact.

    fill: what lost values become; integers and booleans are zero in any case.
    reference: what an archive of differences was saved with, as for szdnn.open. What is lost of it is lost here.

    An archive whose skeleton is damaged becomes a .safetensors file of its tensors from 16 KiB on. Raises ArchiveError
    when not even the header can be read, UnsupportedFrame, OSError.
    """
    start = time.perf_counter()
    with open_damaged(path, threads) as frames:
        if reference is not None:
            frames.set_reference(open_base(reference, opener=_open_base))
        salvaged = Salvaged(frames, fill, progress)
        with atomic_file(target) as file:
            source_writer(frames.skeleton)(file, frames.skeleton, salvaged)
        intact = tuple(name for name in frames if name not in salvaged.losses)
        notes = tuple(frames.notes) if isinstance(frames, Wreck) else ()
        return SalvageReport(intact, salvaged.losses, notes, frames.raw_bytes, time.perf_counter() - start)


def open_damaged(path: Path, max_bytes: int | None = None, threads: int | None = None) -> FrameReader:
    """Open an archive or frame as far as it can be read. Raises as `salvage` does."""
    if file_kind(path) == "frame":
        return FrameFile(path, max_bytes=max_bytes, threads=threads)
    return Wreck(path, threads, max_bytes)


def _open_base(path: Path) -> Any:
    """What a damaged archive holds differences to, which may be damaged too."""
    return open_damaged(path) if files.is_archive(path) else files.open_tensors(path)


class Wreck(Archive):
    """An archive that may be damaged or cut short; bytes that are missing read as zeros, which no checksum fits.

    notes: what is lost beside tensors.
    """

    base_opener = staticmethod(_open_base)

    def __init__(self, path: Path, threads: int | None, max_bytes: int | None = None) -> None:
        header = _header_of(path)
        FrameReader.__init__(self, path, max_bytes, threads)
        self.notes: list[str] = []
        try:
            self._open(header)
        except BaseException:
            self.close()
            raise

    def _bytes(self, start: int, stop: int) -> Array:
        assert self._file is not None
        end = min(stop, self.size)
        if end == stop:
            return map_bytes(self._file, start, stop)
        present = map_bytes(self._file, start, end) if start < end else np.empty(0, np.uint8)
        return np.concatenate([present, np.zeros(stop - max(start, end), np.uint8)])

    def _read_skeleton(self, metadata: dict[str, str]) -> None:
        end = max(stop for _, stop in self._places.values())
        if end > self.size:
            self.notes.append(f"the file is cut short: {self.size} bytes of {end}")
        try:
            super()._read_skeleton(metadata)
        except Error as error:
            self.notes.append(str(error))
            self._read_what_is_left()

    def _read_what_is_left(self) -> None:
        """Without the index of small tensors: the others. Without the skeleton: tensors alone, as safetensors."""
        own = [name for name in self._places if name not in (SKELETON, SMALL)]
        self._members: dict[str, small.Member] = {}
        try:
            self.skeleton = skeletons.unpack(self._bytes(*self._places[SKELETON]).tobytes())
            self.specs = skeletons.specs_of(self.skeleton)
            if not set(own) <= self.specs.keys():
                raise CorruptFrame("the names in the header are not those in the skeleton")
        except Error:
            self.specs = dict(self._specs_of_frames(own))
            self.skeleton = {"kind": "safetensors", "suffix": ".safetensors", "metadata": {}}
            self.skeleton["tensors"] = skeletons.pack_specs(self.specs)
            self.notes.append("what the file held beside tensors, and its small tensors, are lost")

    def _specs_of_frames(self, names: list[str]) -> Iterator[tuple[str, TensorSpec]]:
        for name in names:
            try:
                info = Frame(self._bytes(*self._places[name]))
            except Error as error:
                self.notes.append(f"{name} is lost: {error}")
                continue
            yield name, TensorSpec(info.dtype, info.shape)

    def frame(self, name: str) -> Array:
        """See `Archive.frame`. Raises CorruptFrame for a small tensor without an index."""
        if name not in self._members and name not in self._places:
            raise CorruptFrame("the index of small tensors is damaged")
        return super().frame(name)

    def part(self, name: str) -> tuple[Array, int | None]:
        """The frame that holds a tensor, and for one of a group its first value in it."""
        member = self._members.get(name)
        return self.frame(name), member.first if member and not member.is_alone else None


def _header_of(path: Path) -> Header:
    """The header of a file that may be cut short. Raises ArchiveError when it can't be read."""
    with path.open("rb") as file:
        raw = file.read(8)
        size = int.from_bytes(raw, "little")
        try:
            if size > _MAX_HEADER:
                raise ValueError("its length")
            header = parse_header(raw + file.read(size))
            stop = len(header.raw)
            for entry in header.entries.values():
                if entry.start != stop or entry.stop < stop:
                    raise ValueError("its offsets")
                stop = entry.stop
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ArchiveError(f"{path}: its header is damaged, so nothing in it can be found: {error!r}") from None
    if not header.entries:
        raise ArchiveError(f"{path} holds nothing")
    return header


class Salvaged(Mapping[str, Array]):
    """The tensors of a damaged archive, with what is lost filled.

    losses: what is lost of each tensor that was read and is damaged.
    """

    def __init__(self, frames: FrameReader, fill: Fill, progress: Progress | None = None) -> None:
        self._frames = frames
        self._fill = fill
        self._progress = progress
        self.losses: dict[str, Loss] = {}

    def __getitem__(self, name: str) -> Array:
        spec = self._frames.specs[name]
        try:
            array = self._frames[name]
        except Error as error:
            array, ranges = self._recover(name, spec)
            self.losses[name] = Loss(str(error), ranges, spec.size)
        if self._progress:
            self._progress(name, spec.nbytes)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def _recover(self, name: str, spec: TensorSpec) -> tuple[Array, tuple[tuple[int, int], ...]]:
        value = math.nan if self._fill == "nan" and "float" in spec.dtype.name else 0
        out = np.zeros(spec.shape, spec.dtype) if value == 0 else np.full(spec.shape, value, spec.dtype)
        try:
            frame, first = (
                self._frames.part(name) if isinstance(self._frames, Wreck) else (self._frames.frame(name), None)
            )
            info = Frame(frame)  # and not codec.info, which looks into the first block
        except Error:
            return out, ((0, spec.size),)
        if first is None:
            if (info.dtype, info.shape) != (spec.dtype, spec.shape):
                return out, ((0, spec.size),)
            reference = self._reference(name, info)
            return out, tuple(recover(lambda box: codec.read(frame, box, reference=reference), out))
        flat = out.reshape(-1)
        if info.dtype != spec.dtype or len(info.shape) != 1 or info.shape[0] < first + spec.size:
            return out, ((0, spec.size),)
        group = self._reference(name, info)

        def read(box: Box) -> Array:
            return codec.read(frame, slice(box[0].start + first, box[0].stop + first), reference=group)

        return out, tuple(recover(read, flat))

    def _reference(self, name: str, frame: Frame) -> Reference | None:
        """What a frame holds differences to; None where that is not at hand, so that all of it is lost."""
        if frame.header.c.predictor != _native.REFERENCE:
            return None
        try:
            return self._frames.reference_of(name)
        except (Error, OSError):
            return None


def recover(read: Callable[[Box], Array], out: Array) -> list[tuple[int, int]]:
    """Fill `out` with all parts that `read` can read; the ranges of its values in C order that it can't.

    Parts are halved, along the first axis that can be, until they are intact, or lost at both ends and small.
    """
    lost: list[tuple[int, int]] = []
    parts = [tuple(slice(0, extent) for extent in out.shape)]
    parts = _eighths(parts[0])
    while parts:
        box = parts.pop(0)
        size = math.prod(part.stop - part.start for part in box)
        if size == 0:
            continue
        if _try(read, box, out):
            continue
        if size == 1 or (size <= _LEAF and not any(_try(read, corner, out) for corner in _corners(box))):
            start = _flat(tuple(part.start for part in box), out.shape)
            if lost and lost[-1][1] == start:
                start = lost.pop()[0]
            lost.append((start, _flat(tuple(part.stop - 1 for part in box), out.shape) + 1))
            continue
        parts[:0] = _halves(box)
    return lost


def _try(read: Callable[[Box], Array], box: Box, out: Array) -> bool:
    try:
        out[box] = read(box)
    except (CorruptFrame, ReferenceMismatch):
        return False
    return True


def _eighths(box: Box) -> list[Box]:
    """Reading more than a quarter of a tensor decodes all of it, so no attempt begins with more."""
    parts = [box]
    for _ in range(3):
        parts = [half for part in parts for half in _halves(part)]
    return parts


def _halves(box: Box) -> list[Box]:
    axis = next((a for a, part in enumerate(box) if part.stop - part.start > 1), None)
    if axis is None:
        return [box]
    part = box[axis]
    middle = (part.start + part.stop) // 2
    ends: list[Any] = [slice(part.start, middle), slice(middle, part.stop)]
    return [(*box[:axis], end, *box[axis + 1 :]) for end in ends]


def _corners(box: Box) -> list[Box]:
    return [
        tuple(slice(part.start, part.start + 1) for part in box),
        tuple(slice(part.stop - 1, part.stop) for part in box),
    ]


def _flat(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(index, shape)) if index else 0
