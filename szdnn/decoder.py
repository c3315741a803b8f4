"""From a frame to a tensor, whole or in part."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import COMPLEX_CODES, DTYPES
from .buffers import Bytes
from .errors import ArgumentError, CorruptFrame, LimitError
from .reference import Reference, Values, checked
from .threads import drain, run_threads, thread_count

MOST_LEVEL = 31
POSITIONS = 1 << 18


class Frame:
    """A parsed frame: header, and where its blocks lie. Raises CorruptFrame, UnsupportedFrame."""

    def __init__(self, data: Any) -> None:
        self.bytes = _native.as_bytes(data)
        self.header = _native.Header.read(self.bytes)
        c = self.header.c
        self.dtype: np.dtype[Any] = DTYPES[c.dtype]
        self.shape = self.header.shape
        if c.elements == 0:
            self._check_empty()
        end = c.header_bytes - 4
        self._crcs: Sequence[int] | NDArray[Any]
        self._ends: Sequence[int] | NDArray[Any]
        if c.single:  # one checksum over everything, which the header's reader checked
            self._crcs, self._ends = (), (self.bytes.size - 4,)
            return
        if c.blocks == 1:  # so it is with most tensors, and arrays of one number are slow
            self._crcs, self._ends = (
                (int.from_bytes(self.bytes[end - 4 : end].tobytes(), "little"),),
                (self.bytes.size,),
            )
            return
        index = self.bytes[end - _native.INDEX_ENTRY * c.blocks : end].view("<u4").reshape(-1, 2)
        self._crcs = index[:, 1]
        self._ends = c.header_bytes + np.cumsum(index[:, 0], dtype=np.uint64)

    def _check_empty(self) -> None:
        try:
            np.empty(self.shape, dtype=np.uint8)
        except (ValueError, MemoryError):
            raise CorruptFrame(f"frame: NumPy cannot represent the shape {self.shape}") from None

    @property
    def raw_bytes(self) -> int:
        """Size of the decoded values."""
        return int(self.header.c.elements * self.header.c.element_bytes)

    def span(self, block: int) -> tuple[int, int]:
        """Where a block's bytes lie in the frame."""
        start = int(self._ends[block - 1]) if block else int(self.header.c.header_bytes)
        return start, int(self._ends[block])

    def payload(self, block: int) -> Bytes:
        """A block's bytes, their CRC checked."""
        start, end = self.span(block)
        payload = self.bytes[start:end]
        if payload.size == 0 or (not self.header.c.single and _native.crc32c(payload) != int(self._crcs[block])):
            raise CorruptFrame(f"block {block} (bytes {start} to {end} of the frame): its checksum does not match")
        return payload

    def check_limit(self, max_bytes: int | None) -> None:
        """Refuses an output that is larger than the caller allows, before it is allocated."""
        if max_bytes is not None and self.raw_bytes > max_bytes:
            raise LimitError(f"the frame decodes to {self.raw_bytes} bytes, more than max_bytes={max_bytes}")


def _strides(dims: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for extent in reversed(dims[1:]):
        strides.insert(0, strides[0] * extent)
    return tuple(strides)


def decode_into(
    frame: Frame, out: NDArray[Any], threads: int | None, reference: Reference | None, level: int = 0
) -> None:
    """Decodes all blocks into `out`: C-contiguous, native, of the frame's dtype and shape. With a level, which must
    be `seen_alone`, every 2^level-th value along each axis."""
    base = checked(frame.header, frame.shape, reference)
    header = frame.header
    count, width, tile = header.c.blocks, header.c.element_bytes, header.c.tile[0]
    strides = _strides(tuple(-(-extent >> level) for extent in header.dims) if level else header.dims)
    flat = out.reshape(-1).view(np.uint8)
    waiting = deque(range(count))

    def work(_: int) -> None:
        decoder = _native.Decoder(header, level)
        for block in drain(waiting):
            if len(strides) == 1:
                first = block * tile >> level
            else:
                origin, _extent = header.tile_of(block)
                first = sum((o >> level) * s for o, s in zip(origin, strides, strict=True))
            # Frames with a reference are cut as rows of values.
            part = None if base is None else base.part(first, min(first + tile, header.dims[0]))
            decoder.decode(block, frame.payload(block), flat, first * width, strides, part)

    if count:
        run_threads(work, min(thread_count(threads, count), justified_threads(frame)))


def justified_threads(frame: Frame) -> int:
    """How many threads' scratch memory a frame of this size justifies: together at most 1 MB and twice the frame. An
    interpolated tile is worked out beside the output: there its size counts, too."""
    interpolated = frame.header.c.predictor == _native.PREDICTORS["interpolation"]
    justified = (1 << 20) + 2 * frame.bytes.size + (frame.raw_bytes if interpolated else 0)
    return max(1, justified // _native.decode_scratch(frame.header))


def new_output(frame: Frame) -> NDArray[Any]:
    """An array for the whole tensor."""
    try:
        return np.empty(frame.shape, dtype=frame.dtype)
    except (MemoryError, ValueError) as error:
        raise LimitError(f"the frame's {frame.raw_bytes} bytes cannot be allocated: {error}") from None


def usable_output(frame: Frame, out: Any) -> NDArray[Any]:
    """Checks the caller's array."""
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"out must be a NumPy array, not {type(out).__name__}")
    if out.shape != frame.shape or out.dtype.newbyteorder("=") != frame.dtype:
        raise ArgumentError(f"out is {out.dtype}{list(out.shape)}, the frame {frame.dtype}{list(frame.shape)}")
    if not out.flags.writeable:
        raise ArgumentError("out is read-only")
    return out


def decode(
    frame: Frame, out: NDArray[Any] | None, threads: int | None, reference: Reference | None = None
) -> NDArray[Any]:
    """The whole tensor; straight into `out` where its memory order allows."""
    if out is None:
        out = new_output(frame)
        decode_into(frame, out, threads, reference)
    elif out.flags.c_contiguous and out.dtype == frame.dtype:
        decode_into(frame, out, threads, reference)
    else:
        whole = new_output(frame)
        decode_into(frame, whole, threads, reference)
        out[...] = whole
    return out


def seen_alone(frame: Frame, level: int) -> bool:
    """Whether every 2^level-th value can be decoded without the others: an interpolated frame whose tiles fit."""
    header = frame.header
    if header.c.predictor != _native.PREDICTORS["interpolation"] or level > MOST_LEVEL:
        return False
    axes = [extent for extent in frame.shape if extent != 1]
    fit = all(d <= t or t % (1 << level) == 0 for d, t in zip(header.dims, header.tile, strict=True))
    return fit and axes == [extent for extent in header.dims if extent != 1]


def decode_level(
    frame: Frame, level: int, max_bytes: int | None, threads: int | None, reference: Reference | None
) -> NDArray[Any]:
    """decompress(frame)[::2**level, ...] along every axis."""
    step = 1 << min(level, 62)
    shape = tuple(-(-extent // step) for extent in frame.shape)
    size = math.prod(shape) * frame.dtype.itemsize
    if not seen_alone(frame, level):
        frame.check_limit(max_bytes)
        whole = decode(frame, None, threads, reference)
        return np.ascontiguousarray(whole[tuple(slice(None, None, step) for _ in shape)]).reshape(shape)
    if max_bytes is not None and size > max_bytes:
        raise LimitError(f"reading level {level} takes {size} bytes, more than max_bytes={max_bytes}")
    out = np.empty(shape, dtype=frame.dtype)
    decode_into(frame, out, threads, reference, level)
    return out


# ---- parts of a tensor ----


class Blocks(Reference):
    """The tensor of a frame as a reference, of which only those blocks are decoded that are asked for.

    reference: what the frame itself holds differences to.
    """

    spare = True

    def __init__(self, frame: Frame, reference: Reference | None) -> None:
        self._frame, self._reference = frame, reference
        self.dtype, self.shape = frame.dtype, frame.shape
        self._tiles = _Tiles(frame, reference)
        self._lock = threading.Lock()
        self._values: Values | None = None

    def part(self, start: int, stop: int) -> Bytes:
        """See `Reference.part`."""
        with self._lock:
            if len(self._frame.header.dims) > 1:
                self._values = self._values or Values(self.whole())
                return self._values.part(start, stop)
            (edge,) = self._frame.header.tile
            touched = range(start // edge, -(-stop // edge))
            ends = [(max(start - block * edge, 0), min(stop - block * edge, edge)) for block in touched]
            parts = [self._tiles[block][a:b].view(np.uint8) for block, (a, b) in zip(touched, ends, strict=True)]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def whole(self) -> NDArray[Any]:
        """See `Reference.whole`."""
        return decode(self._frame, None, None, self._reference)


def normalize(slices: Any, shape: tuple[int, ...]) -> tuple[list[range], list[bool], tuple[Any, ...]]:
    """Basic indexing as, for each axis, the range of indices in rising order and whether an integer chose it.

    The third value undoes negative steps and adds new axes: an index for the array of the ranges, without the
    axes of integers.
    """
    items = list(slices) if isinstance(slices, tuple) else [slices]
    if sum(item is Ellipsis for item in items) > 1:
        raise ArgumentError("only one ellipsis is allowed in slices")
    named = sum(item is not None and item is not Ellipsis for item in items)
    if named > len(shape):
        raise ArgumentError(f"too many indices: {named} for a tensor of {len(shape)} dimensions")
    if Ellipsis not in [item if item is Ellipsis else 0 for item in items]:
        items.append(Ellipsis)
    expanded: list[Any] = []
    for item in items:
        expanded.extend([slice(None)] * (len(shape) - named) if item is Ellipsis else [item])
    return _ranges(expanded, shape)


def _ranges(items: list[Any], shape: tuple[int, ...]) -> tuple[list[range], list[bool], tuple[Any, ...]]:
    ranges: list[range] = []
    chosen: list[bool] = []
    after: list[Any] = []
    for item in items:
        if item is None:
            after.append(None)
            continue
        extent = shape[len(ranges)]
        if isinstance(item, slice):
            indices = range(*item.indices(extent))
            backwards = indices.step < 0
            ranges.append(indices[::-1] if backwards else indices)
            chosen.append(False)
            after.append(slice(None, None, -1) if backwards else slice(None))
            continue
        ranges.append(_single(item, extent, len(ranges)))
        chosen.append(True)
    return ranges, chosen, tuple(after)


def _single(item: Any, extent: int, axis: int) -> range:
    try:
        if isinstance(item, (bool, np.bool_)):
            raise TypeError
        index = item.__index__()
    except (AttributeError, TypeError):
        raise ArgumentError(f"slices may hold integers, slices, ... and None, not {item!r}") from None
    if not -extent <= index < extent:
        raise ArgumentError(f"index {index} is out of range for axis {axis} of extent {extent}")
    index %= extent
    return range(index, index + 1)


def _axis_indices(ranges: list[range], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The C-order positions that a product of ranges selects from an array of this shape, in rising order."""
    flat = np.zeros((1,), dtype=np.int64)
    for indices, extent in zip(ranges, shape, strict=True):
        along = np.arange(indices.start, indices.stop, indices.step, dtype=np.int64)
        flat = (flat[:, None] * extent + along[None, :]).reshape(-1)
    return flat


def _group_axes(shape: tuple[int, ...], dims: tuple[int, ...]) -> list[tuple[int, int]]:
    """Which axes of the shape (from, to) make up each axis of the dims that tiles are cut from."""
    groups: list[tuple[int, int]] = []
    end = len(shape)
    for extent in reversed(dims[1:]):
        start, product = end, 1
        while product != extent or start == end:
            start -= 1
            product *= shape[start]
        groups.insert(0, (start, end))
        end = start
    return [(0, end), *groups]


class _Tiles:
    """Decoded tiles of one frame; the last one is kept, since neighbouring parts often share it."""

    def __init__(self, frame: Frame, reference: Reference | None) -> None:
        self._frame, self._decoder = frame, _native.Decoder(frame.header)
        self._reference = checked(frame.header, frame.shape, reference)
        self._kept: tuple[int, NDArray[Any]] = (-1, np.empty(0))

    def __getitem__(self, block: int) -> NDArray[Any]:
        """The tile as an array of its elements."""
        if self._kept[0] != block:
            width = self._frame.header.c.element_bytes
            origin, extent = self._frame.header.tile_of(block)
            base = None if self._reference is None else self._reference.part(origin[0], origin[0] + extent[0])
            raw = np.empty(int(np.prod(extent)) * width, dtype=np.uint8)
            self._decoder.decode(block, self._frame.payload(block), raw, 0, _strides(extent), base)
            self._kept = (block, raw.view(f"V{width}").reshape(extent))
        return self._kept[1]


def _copy_tiles(frame: Frame, tiles: _Tiles, wanted: list[NDArray[np.int64]], out: NDArray[Any]) -> None:
    """out[i, j ...] = the element at (wanted[0][i], wanted[1][j] ...) of the dims, tile by tile."""
    dims, edges = frame.header.dims, frame.header.tile
    across = [-(-extent // edge) for extent, edge in zip(dims, edges, strict=True)]
    touched = [np.unique(indices // edge) for indices, edge in zip(wanted, edges, strict=True)]
    for place in itertools.product(*(axis.tolist() for axis in touched)):
        block = int(np.ravel_multi_index(place, across))
        here = [slice(*np.searchsorted(w, (p * e, (p + 1) * e))) for w, p, e in zip(wanted, place, edges, strict=True)]
        inside = [w[s] - p * e for w, s, p, e in zip(wanted, here, place, edges, strict=True)]
        out[tuple(here)] = tiles[block][np.ix_(*inside)]


def _read_ranges(frame: Frame, ranges: list[range], reference: Reference | None) -> NDArray[Any]:
    """The values of a product of ranges, in C order, as one row; decodes only the tiles they lie in."""
    shape, header = frame.shape, frame.header
    if header.c.dtype in COMPLEX_CODES:  # tiles are cut from the parts
        shape, ranges = (*shape, 2), [*ranges, range(2)]
    groups = _group_axes(shape, header.dims)
    wanted = [_axis_indices(ranges[start:end], shape[start:end]) for start, end in groups[1:]]
    lead_start, lead_end = groups[0]
    rows = int(np.prod([len(r) for r in ranges[lead_start:lead_end]], dtype=object))
    out = np.empty((rows, *(w.size for w in wanted)), dtype=f"V{header.c.element_bytes}")
    tiles, done = _Tiles(frame, reference), 0
    for part in _split_ranges(ranges[lead_start:lead_end]):
        first = _axis_indices(part, shape[lead_start:lead_end])
        _copy_tiles(frame, tiles, [first, *wanted], out[done : done + first.size])
        done += first.size
    return out.reshape(-1).view(frame.dtype)


def _split_ranges(ranges: list[range]) -> Iterator[list[range]]:
    """Cuts a product of ranges into consecutive ones of at most POSITIONS members, so that lists of positions
    stay short."""
    count = math.prod(len(r) for r in ranges)
    if count <= POSITIONS:
        if count:
            yield ranges
        return
    axis = next(a for a, r in enumerate(ranges) if len(r) > 1)
    inner = count // len(ranges[axis])
    step = max(1, POSITIONS // inner)
    for start in range(0, len(ranges[axis]), step):
        yield from _split_ranges([*ranges[:axis], ranges[axis][start : start + step], *ranges[axis + 1 :]])


def read_part(
    frame: Frame, slices: Any, max_bytes: int | None, threads: int | None, reference: Reference | None, level: int = 0
) -> NDArray[Any]:
    """decompress(frame)[slices], decoding only what is needed; with a level of its coarse look."""
    if level:
        coarse = decode_level(frame, level, max_bytes, threads, reference)
        ranges, chosen, after = normalize(slices, coarse.shape)
        part = coarse[tuple(slice(r.start, r.stop, r.step) for r in ranges)]
        part = part.reshape([len(r) for r, single in zip(ranges, chosen, strict=True) if not single])
        return np.array(part[after], order="C", copy=True).reshape(part[after].shape)
    ranges, chosen, after = normalize(slices, frame.shape)
    count = math.prod(len(r) for r in ranges)
    whole = 4 * count >= math.prod(frame.shape)
    tile = math.prod(frame.header.tile) * frame.header.c.element_bytes
    need = frame.raw_bytes if whole else max(count * frame.dtype.itemsize, tile if count else 0)
    if max_bytes is not None and need > max_bytes:
        raise LimitError(f"reading this takes {need} bytes, more than max_bytes={max_bytes}")
    if whole:
        part = decode(frame, None, threads, reference)[tuple(slice(r.start, r.stop, r.step) for r in ranges)]
    elif count == 0:
        part = np.empty(0, dtype=frame.dtype)
    else:
        part = _read_ranges(frame, ranges, reference)
    part = part.reshape([len(r) for r, single in zip(ranges, chosen, strict=True) if not single])
    return np.array(part[after], order="C", copy=True).reshape(part[after].shape)
