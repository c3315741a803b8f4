"""From a frame to a tensor, whole or in part."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import COMPLEX_CODES, DTYPES
from .encoder import run_threads, thread_count
from .errors import ArgumentError, CorruptFrame, LimitError


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

    def payload(self, block: int) -> _native.Bytes:
        """A block's bytes, their CRC checked."""
        start, end = self.span(block)
        payload = self.bytes[start:end]
        if payload.size == 0 or _native.crc32c(payload) != int(self._crcs[block]):
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


def _elements_of(frame: Frame, array: NDArray[Any]) -> NDArray[Any]:
    """A C-contiguous array as flat bytes."""
    return array.reshape(-1).view(np.uint8)


def decode_into(frame: Frame, out: NDArray[Any], threads: int | None) -> None:
    """Decodes all blocks into `out`: C-contiguous, native, of the frame's dtype and shape."""
    header = frame.header
    count, width = header.c.blocks, header.c.element_bytes
    strides = _strides(header.dims)
    flat = _elements_of(frame, out)
    numbers = itertools.count()

    def work(_: int) -> None:
        decoder = _native.Decoder(header)
        while (block := next(numbers)) < count:
            origin, _extent = header.tile_of(block)
            first = sum(o * s for o, s in zip(origin, strides, strict=True)) * width
            decoder.decode(block, frame.payload(block), flat, first, strides)

    if count:
        run_threads(work, thread_count(threads, count))


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


def decode(frame: Frame, out: NDArray[Any] | None, threads: int | None) -> NDArray[Any]:
    """The whole tensor; straight into `out` where its memory order allows."""
    if out is None:
        out = new_output(frame)
        decode_into(frame, out, threads)
    elif out.flags.c_contiguous and out.dtype == frame.dtype:
        decode_into(frame, out, threads)
    else:
        whole = new_output(frame)
        decode_into(frame, whole, threads)
        out[...] = whole
    return out


# ---- parts of a tensor ----


def normalize(slices: Any, shape: tuple[int, ...]) -> tuple[list[range], list[bool], tuple[Any, ...]]:
    """Basic indexing as, for each axis, the range of indices in rising order and whether an integer chose it.

    The third value undoes negative steps and adds new axes: an index for the array of the ranges (integers'
    axes removed).
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


def _flat_indices(ranges: list[range], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The C-order positions of the selected values, in rising order."""
    flat = np.zeros((1,), dtype=np.int64)
    for indices, extent in zip(ranges, shape, strict=True):
        along = np.arange(indices.start, indices.stop, indices.step, dtype=np.int64)
        flat = (flat[:, None] * extent + along[None, :]).reshape(-1)
    return flat


def _pick(frame: Frame, elements: NDArray[np.int64]) -> NDArray[Any]:
    """The elements at these C-order positions; decodes only the tiles they lie in."""
    header = frame.header
    dims, edges, width = header.dims, header.tile, header.c.element_bytes
    where = np.unravel_index(elements, dims)
    number = np.zeros(elements.shape, dtype=np.int64)
    for axis, edge in enumerate(edges):
        number = number * -(-dims[axis] // edge) + where[axis] // edge
    order = np.argsort(number, kind="stable")
    blocks, starts = np.unique(number[order], return_index=True)
    picked = np.empty(elements.shape, dtype=f"V{width}")
    if elements.size == 0:
        return picked
    decoder = _native.Decoder(header)
    for block, group in zip(blocks.tolist(), np.split(order, starts[1:]), strict=True):
        origin, extent = header.tile_of(block)
        tile = np.empty(int(np.prod(extent)) * width, dtype=np.uint8)
        decoder.decode(block, frame.payload(block), tile, 0, _strides(extent))
        inside = np.ravel_multi_index(tuple(w[group] - o for w, o in zip(where, origin, strict=True)), extent)
        picked[group] = tile.view(f"V{width}")[inside]
    return picked


def read_part(frame: Frame, slices: Any, threads: int | None) -> NDArray[Any]:
    """decompress(frame)[slices], decoding only what is needed."""
    ranges, chosen, after = normalize(slices, frame.shape)
    count = int(np.prod([len(r) for r in ranges], dtype=object)) if ranges else 1
    values = int(np.prod(frame.shape, dtype=object)) if frame.shape else 1
    if 4 * count >= values:
        part = decode(frame, None, threads)[tuple(slice(r.start, r.stop, r.step) for r in ranges)]
    else:
        positions = _flat_indices(ranges, frame.shape)
        if frame.header.c.dtype in COMPLEX_CODES:
            positions = (positions[:, None] * 2 + np.arange(2)).reshape(-1)
        part = _pick(frame, positions).view(frame.dtype)
    part = part.reshape([len(r) for r, single in zip(ranges, chosen, strict=True) if not single])
    return np.array(part[after], order="C", copy=True).reshape(part[after].shape)
