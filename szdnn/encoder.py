"""From a tensor and a target to a frame: predictor, tiles, blocks on threads, and the smaller of the lossy and
lossless frames."""

from __future__ import annotations

import functools
import math
import os
import struct
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import CODES, COMPLEX_CODES, FLOAT_CODES
from .bounds import PSNR, RMSE, Abs, Bits, Lossless, PointwiseRel, Rel, Std
from .buffers import Room
from .grid import Grid, find_grid
from .reference import Values
from .resolve import FLAG_RANGE, FLAG_ROBUST, KINDS, Target, set_geometric, set_linear

# Predicted tiles hold half as many values as plain ones: the decoder keeps a whole one, and half a megabyte
# stays in cache.
PREDICTED_TILE = 1 << 17
INTERPOLATED_TILE = 1 << 20
INTERPOLATED_MULTIPLE = 16  # so that coarse looks at tiles fit together, up to level 4
LOSSLESS_TILE_BYTES = 1 << 31
SMALL = 1 << 12
SMALLEST_PREDICTED = 64
# Up to so many values a frame is made with and without the reference, and the smaller one kept; beyond, a sample tells.
TRIED_WITH_REFERENCE = 1 << 14
NEXT_TO_NOTHING = 1 / 16  # bits a value
FEW, MOSTLY = 1024, 31 / 32
LONGER_HEADER = 64
MOST_BEYOND = 64  # that a frame is larger than its values
LONG_DECIMAL = 10**6
SINGLE_START = 1024  # more than the start and the checksum of a frame of the layout for small ones
FAST_EFFORT = 1
TRIAL_EFFORT = 7
DOUBLE = 3  # the code of float64
MIXING_EFFORT = 8
UNMIXED = ("interpolation", "repeat")  # predictors that the mixing coder does not know
# Of so few bits a value, default tiles hold too little code for many lanes of rANS.
FEW_BITS = 1.0
# Whether interpolation is worth a trial: correlation is looked for in so many values, along axes at least so long.
RELATED_VALUES, RELATED_AXIS = 1 << 11, 8
# Of so many values on, the order of the axes is chosen, too; the other one where a sample takes so much less.
ORDERED_VALUES, CLEARLY = 1 << 22, 0.95
SAMPLE_SHARE, SAMPLE_LEAST, SAMPLE_MOST, SAMPLE_BOXES = 64, 1 << 13, 1 << 17, 2
REGRESSION_EDGES = {1: 64, 2: 12, 3: 6, 4: 6}
REGRESSION_FRACTION_BITS = 4


Part = bytes | NDArray[np.uint8]
"""A header or a block."""


class Choices(NamedTuple):
    """The caller's options."""

    effort: int
    predictor: str
    coder: str
    threads: int | None


class Encoded(NamedTuple):
    """A frame; `saving`: how much smaller at least its blocks are than lossless ones of the same tiles.

    parts: header and blocks, or nothing where they went into the caller's buffer or were only counted.
    """

    parts: list[Part]
    bytes: int
    saving: int
    same_tiles: bool


def thread_count(threads: int | None, blocks: int) -> int:
    """As many threads as asked for (None: the processors this process may use), never more than blocks."""
    if threads is None and blocks > 1:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(threads or 1, blocks))


@functools.lru_cache(256)
def folded_dims(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as 1 to 4 axes for prediction: axes of extent 1 dropped, leading ones folded together."""
    dims = [extent for extent in shape if extent != 1]
    while len(dims) > 4:
        dims[:2] = [dims[0] * dims[1]]
    return tuple(dims) or (1,)


@functools.lru_cache(256)
def tile_for(dims: tuple[int, ...], volume: int, multiple: int = 1) -> tuple[int, ...]:
    """A tile of at most `volume` values, as near to a cube as the dims allow; along axes that are cut, its edges are
    multiples of `multiple` where that is less than they could be, and its tiles about equal."""
    tile = [1] * len(dims)
    rest = volume
    for done, axis in enumerate(sorted(range(len(dims)), key=lambda a: dims[a])):
        left = len(dims) - done
        edge = round(rest ** (1 / left))
        while edge**left > rest:
            edge -= 1
        tile[axis] = max(1, min(dims[axis], edge))
        if multiple <= tile[axis] < dims[axis]:
            equal = -(-dims[axis] // -(-dims[axis] // tile[axis]))
            tile[axis] = min(-(-equal // multiple) * multiple, tile[axis] // multiple * multiple)
        rest //= tile[axis]
    return tuple(tile)


def _bound_value(target: Target) -> float:
    bound = target.bound
    match bound:
        case Abs():
            return max(bound.eps, default=1.0) if isinstance(bound.eps, tuple) else bound.eps
        case Rel() | PointwiseRel():
            return bound.r
        case Std():
            return bound.c
        case PSNR():
            return bound.db
        case RMSE():
            return bound.v
        case Bits():
            return bound.b
    return 0.0


@functools.lru_cache(256)
def decimal_parts(value: float) -> tuple[int, int]:
    """(digits, exponent) of the shortest decimal that is this double."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    number = int("".join(map(str, digits)))
    return -number if sign else number, int(exponent)


def shorten_bound(header: _native.Header) -> None:
    """A lossless frame keeps its bound to six digits, rounded down, and no range: it shall not grow by more
    than 8 bytes."""
    c = header.c
    while abs(c.bound_digits) >= 10**6:
        c.bound_digits, c.bound_exponent = c.bound_digits // 10, c.bound_exponent + 1
    c.bound_flags &= ~(FLAG_RANGE | FLAG_ROBUST)


def new_header(code: int, shape: tuple[int, ...], target: Target) -> _native.Header:
    """A header with dtype, shape and bound; kind lossless, default tiles."""
    header = _native.Header()
    c = header.c
    c.dtype, c.rank = code, len(shape)
    for axis, extent in enumerate(shape):
        c.shape[axis] = extent
    if not isinstance(target.bound, Lossless):
        c.bound_kind, c.bound_flags = KINDS[type(target.bound)], target.flags
        c.bound_digits, c.bound_exponent = decimal_parts(_bound_value(target))
        if target.flags & FLAG_RANGE and target.span:
            c.bound_lo, c.bound_hi = target.span
    return header


def set_tiles(header: _native.Header, dims: tuple[int, ...], tile: tuple[int, ...]) -> None:
    """Tiles other than the default."""
    c = header.c
    c.tile_rank = len(dims)
    for axis, (extent, edge) in enumerate(zip(dims, tile, strict=True)):
        c.dims[axis], c.tile[axis] = extent, edge


def set_predictor(header: _native.Header, shape: tuple[int, ...], predictor: str) -> None:
    """A predictor with the tiles that suit it."""
    if predictor == "none":
        return
    c = header.c
    c.predictor = _native.PREDICTORS[predictor]
    if predictor == "repeat":
        elements = math.prod(shape) * (2 if c.dtype in COMPLEX_CODES else 1)
        set_tiles(header, (elements,), (min(elements, _native.REPEAT_TILE),))
        return
    dims = folded_dims(shape)
    volume = INTERPOLATED_TILE if predictor == "interpolation" else PREDICTED_TILE
    multiple = INTERPOLATED_MULTIPLE if predictor == "interpolation" else 1
    set_tiles(header, dims, tile_for(dims, volume, multiple))
    if predictor == "interpolation":
        c.wide_bits = 0  # residuals are small where lattice integers are not
    if predictor == "regression":
        c.edge, c.fraction_bits = REGRESSION_EDGES[len(dims)], REGRESSION_FRACTION_BITS


def sample_boxes(values: NDArray[Any]) -> list[NDArray[Any]]:
    """About 1 in SAMPLE_SHARE of the values, from SAMPLE_LEAST to SAMPLE_MOST, in boxes on a diagonal."""
    dims = folded_dims(values.shape)
    folded = values.reshape(dims)
    volume = max(SAMPLE_LEAST, min(SAMPLE_MOST, values.size // SAMPLE_SHARE))
    if volume >= values.size:
        return [folded]
    count = SAMPLE_BOXES if volume >= SAMPLE_BOXES * SAMPLE_LEAST else 1
    edges = tile_for(dims, volume // count)
    starts = [[(d - e) * (2 * i + 1) // (2 * count) for d, e in zip(dims, edges, strict=True)] for i in range(count)]
    return [
        np.ascontiguousarray(folded[tuple(slice(at, at + e) for at, e in zip(start, edges, strict=True))])
        for start in starts
    ]


class FrameMaker:
    """Makes frames of one tensor; `values` and `reference` are C-contiguous, `code` is the dtype's."""

    def __init__(
        self,
        values: NDArray[Any],
        code: int,
        stats: Any,
        choices: Choices,
        reference: NDArray[Any] | None = None,
        grids: dict[float, Grid | None] | None = None,
    ) -> None:
        self.values, self.code, self.stats, self.choices = values, code, stats, choices
        self.reference = reference
        self.grids = {} if grids is None else grids  # by eps; a sample's are those of the whole
        self.bits = math.inf  # a value, of the predictor that was chosen, by a sample
        self.options = _native.options(choices.coder, fast=choices.effort == FAST_EFFORT)

    def make(self, target: Target) -> list[Part]:
        """The parts of the smallest frame that meets the target: header, then blocks."""
        lossy = self._lossy(target)
        if lossy is None:
            return self.lossless(target)
        if self._surely_smaller(lossy, target) or self._lossless_exceeds(lossy.bytes, target):
            return lossy.parts
        exact = self.lossless(target)
        return lossy.parts if lossy.bytes <= total(exact) else exact

    def make_into(self, target: Target, buffer: NDArray[np.uint8]) -> int:
        """The same frame into a buffer; its size, which is larger than the buffer where it did not fit."""
        if self.choices.effort >= TRIAL_EFFORT or not self._is_float() or self.reference is not None:
            return fill(buffer, self.make(target))
        lossy = self._lossy(target, Room(buffer))
        if lossy is None:
            return self._lossless_into(target, buffer)
        if self._surely_smaller(lossy, target) or self._lossless_exceeds(lossy.bytes, target):
            return lossy.bytes
        exact = self._lossless_into(target, None)
        return lossy.bytes if lossy.bytes <= exact else self._lossless_into(target, buffer)

    def _is_float(self) -> bool:
        return self.code in FLOAT_CODES | COMPLEX_CODES

    def _lossless_into(self, target: Target, buffer: NDArray[np.uint8] | None) -> int:
        """As `lossless`, for floats; without a buffer only the size."""
        header = self._lossless_header(target)
        if self.lag:
            return fill(np.empty(0, np.uint8) if buffer is None else buffer, self.lossless(target))
        plain = self._encode(header, Room(buffer))
        if self._incompressible(plain.bytes, header.c.blocks):
            large = self._large_tiles(target)
            if large.bytes < plain.bytes:
                return large.bytes if buffer is None else large.into(buffer)
        return plain.bytes

    def _surely_smaller(self, lossy: Encoded, target: Target) -> bool:
        """Whether no lossless frame can be smaller.

        With its tiles, block by block: the lossy blocks' savings pay for the longer header. Otherwise by the
        bits that are stored raw for certain.
        """
        if self.reference is not None:
            plain = self._lossless_header(target)
            small = self.values.size < SMALL
            if self.fits_reference(plain) and (
                small or self._reference_bits(plain)[1] * self.values.size < 10 * lossy.bytes
            ):
                return False
        if self.lag:  # a lossless frame that knows may be far smaller
            return False
        if lossy.same_tiles:
            return lossy.saving >= LONGER_HEADER
        if self.values.size < SMALL:
            return False
        header = self._lossless_header(target)
        header.complete()
        return _native.lossless_floor(header, self.values, lossy.bytes) >= lossy.bytes

    def _lossless_exceeds(self, limit: int, target: Target) -> bool:
        """Whether the lossless frame is larger than that: so many of its blocks are made until they tell."""
        if limit >= self.values.nbytes or self.values.size <= _native.DEFAULT_TILE or self.reference is not None:
            return False
        header = self._lossless_header(target)
        header.complete()
        sizes = [int(header.c.header_bytes)]
        waiting = deque(range(header.c.blocks))

        def work(_: int) -> None:
            encoder = _native.Encoder(header, self.options, self.values)
            for block in drain(waiting):
                if sum(sizes) > limit:
                    break
                sizes.append(encoder.encode(block, keep=False).data.size)

        run_threads(work, thread_count(self.choices.threads, header.c.blocks))
        return sum(sizes) > limit

    def _lossy(self, target: Target, room: Room | None = None) -> Encoded | None:
        lattice = self._lattice(target)
        if lattice is None or self.values.size == 0 or self.stats.constant:
            return None
        allowed = self._allowed(lattice)
        if len(allowed) > 1 and (self.choices.effort == MIXING_EFFORT or self.choices.effort < TRIAL_EFFORT):
            allowed = self._cheapest(lattice, allowed, target)
        if len(allowed) == 1:
            return self._justified(lattice, allowed[0], self._final(lattice, allowed[0]), room)
        tried = {name: self._justified(lattice, name, self._predicted(lattice, name)) for name in allowed}
        best = min(tried, key=lambda name: tried[name].bytes)
        if self.choices.effort < MIXING_EFFORT:
            return tried[best]
        mixed = min((name for name in tried if name not in UNMIXED), key=lambda name: tried[name].bytes)
        final = self._justified(lattice, mixed, self._final(lattice, mixed))
        return min(tried[best], final, key=lambda encoded: encoded.bytes)

    def _justified(
        self, lattice: _native.Header, predictor: str, header: _native.Header, room: Room | None = None
    ) -> Encoded:
        """The frame of a header of that predictor; where it is too short for the memory that it takes to decode, one
        without context mixing, and with tiles as large as its length justifies."""
        made = self._encode(header, room)
        volume = min(INTERPOLATED_TILE, self.values.size)
        while not _native.is_justified(header, made.bytes):
            volume //= 2
            header = self._predicted(lattice, predictor if volume else "none")
            if predictor == "interpolation" and volume:
                dims = folded_dims(self.values.shape)
                set_tiles(header, dims, tile_for(dims, volume, INTERPOLATED_MULTIPLE if volume >> 12 else 1))
            made = self._encode(header, room)
        return made

    def _lattice(self, target: Target) -> _native.Header | None:
        header = new_header(self.code, self.values.shape, target)
        if target.axis_eps is not None:
            header.c.kind = _native.LINEAR64
            header.c.eps = float(target.axis_eps.max()) if target.axis_eps.size else 1.0
            header.c.step = 2 * header.c.eps / target.fineness
            axis = target.bound.axis % self.values.ndim  # type: ignore[attr-defined]
            header.set_axis_eps(axis, target.axis_eps)
            return header
        if target.pointwise is not None:
            return header if set_geometric(header.c, self.code, target.pointwise, self.values, self.stats) else None
        if target.eps is not None:
            if not set_linear(header.c, self.code, target, self.values, self._grid(target)):
                return None
            if isinstance(target.bound, Abs) and header.c.bound_digits >= LONG_DECIMAL and header.c.eps == target.eps:
                header.c.bound_digits = header.c.bound_exponent = 0  # the frame says that it is eps
            return header
        return None

    def _grid(self, target: Target) -> Grid | None:
        """What the values lie on, looked for once for each eps."""
        eps = target.eps or 0.0
        if target.fineness > 1 or not eps > 0:
            return None
        if eps not in self.grids:
            self.grids[eps] = find_grid(self.values, eps, self.code != DOUBLE)
        return self.grids[eps]

    def _allowed(self, lattice: _native.Header) -> list[str]:
        """The predictors to choose from."""
        named = self.choices.predictor
        if named == "interpolation" and lattice.c.kind == _native.GEOMETRIC:
            named = "auto"
        own = ["none"] if lattice.c.has_axis else list(_native.PREDICTORS)
        if named == "auto" and not self._interpolable(lattice):
            own = [name for name in own if name != "interpolation"]
        if "repeat" in own and (named not in ("auto", "repeat") or lattice.c.wide_bits or not self.lag):
            own.remove("repeat")
        fitting = [*own, *(["reference"] if self.fits_reference(lattice) else [])]
        return fitting if named == "auto" else [named] if named in fitting else ["none"]

    @functools.cached_property
    def lag(self) -> int:
        """How far back, in elements, the tensor is found to repeat itself; 0 if it is not."""
        if self.choices.effort < 2 or self.choices.predictor not in ("auto", "repeat"):
            return 0
        elements = self.values.size * (2 if self.code in COMPLEX_CODES else 1)
        return _native.find_lag(self.code, self.values, elements)

    def fits_reference(self, header: _native.Header) -> bool:
        """Whether frames of this kind can be predicted from the reference."""
        if self.reference is None or self.choices.predictor not in ("auto", "reference"):
            return False
        code = CODES[self.reference.dtype]
        return code == self.code if header.c.kind == _native.LOSSLESS else code in FLOAT_CODES

    def _predicted(self, lattice: _native.Header, predictor: str) -> _native.Header:
        header = lattice.copy()
        if predictor == "reference":
            assert self.reference is not None
            header.set_reference(CODES[self.reference.dtype])
        else:
            set_predictor(header, self.values.shape, predictor)
        if predictor == "repeat":
            header.c.lag = self.lag
        return header

    def _final(self, lattice: _native.Header, predictor: str) -> _native.Header:
        """With context mixing where the effort asks for it (not with a coder that was named)."""
        header = self._predicted(lattice, predictor)
        if self.choices.effort >= MIXING_EFFORT and self.choices.coder == "auto" and predictor not in UNMIXED:
            header.c.mixed = 1
        if (header.c.mixed or self.bits < FEW_BITS) and header.c.predictor in (0, _native.REFERENCE):
            self._lengthen_tiles(header)
        return header

    def _lengthen_tiles(self, header: _native.Header) -> None:
        """Tiles of several default ones, which hold whole rows: the mixing coder learns as it goes, and rANS needs bits
        for its lanes."""
        header.complete()
        if not header.c.has_axis:
            edge = min(self.values.size, _native.LONG_TILE // _native.DEFAULT_TILE * header.c.tile[0])
            set_tiles(header, (self.values.size,), (edge,))

    def _interpolable(self, lattice: _native.Header) -> bool:
        """Interpolation is for linear lattices, and has a rANS coder of its own."""
        return lattice.c.kind != _native.GEOMETRIC and not lattice.c.has_axis and self.choices.coder != "huffman"

    def _cheapest(self, lattice: _native.Header, allowed: list[str], target: Target) -> list[str]:
        """The one that is cheapest by the entropy of a sample; no prediction unless another saves at least a
        hundredth. For short tensors both that and the reference."""
        best, self.bits = self._cheapest_own(lattice, target) if "lorenzo" in allowed else ("none", math.inf)
        if "repeat" in allowed:
            header = self._predicted(lattice, "repeat")
            header.complete()
            plain, repeated = _native.Encoder(header, self.options, self.values).estimate_repeat()
            if repeated < min(self.bits, plain) * 0.99:
                best = "repeat" if best == "none" else self._smallest(lattice, "repeat", best)
                self.bits = repeated
        if "reference" not in allowed:
            return [best]
        if self.values.size <= TRIED_WITH_REFERENCE:
            return [best, "reference"]
        without, differences = self._reference_bits(lattice)
        if differences >= min(self.bits, without) * 0.99:
            return [best]
        self.bits = differences
        return ["reference"]

    def _smallest(self, lattice: _native.Header, *names: str) -> str:
        """The predictor whose frame is the smallest; where several leave next to nothing, samples do not tell."""
        headers = {name: self._predicted(lattice, name) for name in names}  # each once, in the same order always
        sizes = {name: self._justified(lattice, name, header, Room(None)).bytes for name, header in headers.items()}
        return min(sizes, key=lambda name: sizes[name])

    def _cheapest_own(self, lattice: _native.Header, target: Target) -> tuple[str, float]:
        """The cheapest predictor without the reference, and its bits a value. Interpolation is tried on a sample where
        another predictor pays, or neighbours are alike: most weights are spared that."""
        if self.choices.effort < 2 or self.values.size < SMALLEST_PREDICTED:
            return "none", math.inf
        header = self._predicted(lattice, "regression")
        header.complete()
        sampler = _native.Encoder(header, self.options, self.values)
        bits = sampler.estimate()
        best = min(("lorenzo", "regression"), key=lambda name: bits[name])
        best = best if bits[best] < bits["none"] * 0.99 else "none"
        interpolable = self._interpolable(lattice) and (
            best != "none" or sampler.neighbours_alike(RELATED_VALUES, RELATED_AXIS)
        )
        if bits[best] < NEXT_TO_NOTHING and not (best == "none" and self._mostly_one_point(lattice)):
            others = ("lorenzo", "interpolation") if interpolable else ("lorenzo",)
            return self._smallest(lattice, best, *others), bits[best]
        if not interpolable:
            return best, bits[best]
        cost, other, *more = self._sample_costs(target, self._ways(best))
        if more and more[0] < cost * CLEARLY:
            cost = more[0]
            self.options = _native.options(self.choices.coder, backward=True)
        return ("interpolation", bits[best] * cost / other) if cost < other else (best, bits[best])

    def _mostly_one_point(self, lattice: _native.Header) -> bool:
        """Whether values far from each other are nearly all the same lattice point, as zeros are; runs and steps are
        not."""
        within = 0.0 if lattice.c.kind == _native.GEOMETRIC else lattice.c.step / 2
        with np.errstate(invalid="ignore", over="ignore"):
            few = np.sort(self.values.reshape(-1)[:: max(1, self.values.size // FEW)])
            return bool(np.count_nonzero(np.abs(few - few[few.size // 2]) <= within) > MOSTLY * few.size)

    def _ways(self, other: str) -> list[tuple[str, bool]]:
        """Predictors to be tried on a sample, and whether the axes come in backward order: interpolation, the other
        one, and of large arrays interpolation backward."""
        large = self.values.size >= ORDERED_VALUES and len(folded_dims(self.values.shape)) > 1
        return [("interpolation", False), (other, False), *([("interpolation", True)] if large else [])]

    def _sample_costs(self, target: Target, ways: list[tuple[str, bool]]) -> list[int]:
        """The bytes that the blocks of a few boxes spread over the tensor take, by predictor and order of axes."""
        costs = [0] * len(ways)
        for box in sample_boxes(self.values):
            maker = FrameMaker(box, self.code, self.stats, self.choices, grids=self.grids)
            lattice = maker._lattice(target)
            if lattice is not None:
                for i, (predictor, backward) in enumerate(ways):
                    maker.options = _native.options(self.choices.coder, lattice_only=True, backward=backward)
                    header = maker._predicted(lattice, predictor)
                    costs[i] += maker._encode(header).bytes - int(header.c.header_bytes)
        return costs

    def _reference_bits(self, plain: _native.Header) -> tuple[float, float]:
        """The estimated bits a value without and with the reference."""
        header = self._predicted(plain, "reference")
        header.complete()
        return _native.Encoder(header, self.options, self.values, self.reference).estimate_reference()

    def _encode(self, header: _native.Header, room: Room | None = None) -> Encoded:
        """The frame of a header: its parts, or into the room."""
        header.complete()
        if header.c.blocks <= 1:
            return self._encode_block(header, room)
        if room:
            room.begin(header.c.header_bytes)
        count = header.c.blocks
        blocks = [(0, 0, 0)] * count  # of each the size, CRC and saving
        data: list[Part] = [b""] * (0 if room else count)
        waiting = deque(range(count))  # threads draw the blocks from it
        base = Values(self.reference) if header.c.predictor == _native.REFERENCE else None
        digests = [0] * count

        def work(_: int) -> None:
            encoder = _native.Encoder(header, self.options, self.values, base.whole() if base else None)
            for block in drain(waiting):
                if base:
                    digests[block] = block_digest(header, base, block)
                made = encoder.encode(block, keep=room is None)
                blocks[block] = (made.data.size, made.crc, made.saving)
                if room:
                    room.put(block, made.data)
                else:
                    data[block] = made.data

        run_threads(work, thread_count(self.choices.threads, count))
        if base:
            header.set_digests(digests)
        start = write_header(header, blocks)
        if room:
            room.finish(_native.as_bytes(start))
        return encoded(header, [start, *data], blocks, room)

    def _encode_block(self, header: _native.Header, room: Room | None) -> Encoded:
        """The frame of a header that has one block, or none."""
        blocks = []
        data: Part = b""
        if header.c.blocks:
            base = Values(self.reference) if header.c.predictor == _native.REFERENCE else None
            encoder = _native.Encoder(header, self.options, self.values, base.whole() if base else None)
            made = encoder.encode(0, keep=False)
            blocks, data = [(made.data.size, made.crc, made.saving)], made.data
            if base:
                header.set_digests([block_digest(header, base, 0)])
        single = single_frame(header, data)
        parts: list[Part] = [write_header(header, blocks), bytes(data)] if single is None else [single]
        if room:
            room.begin(len(parts[0]))
            for part in parts[1:]:
                room.put(0, _native.as_bytes(part))
            room.finish(_native.as_bytes(parts[0]))
        return encoded(header, parts, blocks, room)

    def lossless(self, target: Target) -> list[Part]:
        """The smallest lossless frame; if nothing compresses, the raw values in as few blocks as can be."""
        header = self._lossless_header(target)
        if self.fits_reference(header) and self.values.size and not self.stats.constant:
            return self._lossless_difference(header, target)
        return self._lossless_plain(target)

    def _lossless_difference(self, header: _native.Header, target: Target) -> list[Part]:
        """With the reference, unless a sample, or else the frame itself, tells that it does not pay; where it was asked
        for, unless that is beyond what a frame may take at most."""
        forced = self.choices.predictor == "reference"
        tried = forced or self.values.size <= TRIED_WITH_REFERENCE or self.choices.effort >= TRIAL_EFFORT
        without, differences = self._reference_bits(header)
        if not tried and differences >= without * 0.99:
            return self._lossless_plain(target)
        made = self._encode(self._predicted(header, "reference"))
        if forced and made.bytes <= self.values.nbytes + MOST_BEYOND:
            return made.parts
        if not tried and made.bytes * 8 < without * self.values.size * 0.99:
            return made.parts
        return min(made.parts, self._lossless_plain(target), key=total)

    def _lossless_plain(self, target: Target) -> list[Part]:
        plain = self._encode(self._lossless_header(target)).parts
        if not self._is_float() and self.values.size > 1:
            header = self._lossless_header(target)
            header.c.predictor = _native.PREDICTORS["lorenzo"]
            plain = min(plain, self._encode(header).parts, key=total)
        if self.values.size and self.lag:
            header = self._predicted(self._lossless_header(target), "repeat")
            plain = min(plain, self._encode(header).parts, key=total)
        if not self._incompressible(total(plain), len(plain) - 1):
            return plain
        large = self._large_tiles(target)
        if large.bytes >= total(plain):
            return plain
        plain.clear()
        return large.parts()

    def _incompressible(self, size: int, blocks: int) -> bool:
        """Whether fewer blocks might be smaller."""
        return blocks > 1 and (size >= self.values.nbytes or self.stats.constant)

    def _lossless_header(self, target: Target) -> _native.Header:
        header = new_header(self.code, self.values.shape, target)
        shorten_bound(header)
        return header

    def _large_tiles(self, target: Target) -> LargeTiles:
        header = self._lossless_header(target)
        header.complete()
        elements, width = header.c.elements, header.c.element_bytes
        set_tiles(header, (elements,), (min(elements, LOSSLESS_TILE_BYTES // width),))
        header.complete()
        return LargeTiles(header, self.values.reshape(-1).view(np.uint8), bool(self.stats.constant))


@dataclass(frozen=True)
class LargeTiles:
    """A frame of as few blocks as can be, raw or constant."""

    header: _native.Header
    flat: NDArray[np.uint8]
    constant: bool

    @functools.cached_property
    def single(self) -> bytes | None:
        """The whole frame, where it is one constant block."""
        first = self.flat[: self.header.c.element_bytes]
        if not self.constant or self.header.c.blocks != 1:
            return None
        return single_frame(self.header, b"\2" + first[:: 1 if sys.byteorder == "little" else -1].tobytes())

    @property
    def bytes(self) -> int:
        """Its size."""
        if self.single:
            return len(self.single)
        c = self.header.c
        values = c.blocks * c.element_bytes if self.constant else self.flat.size
        return int(c.header_bytes + c.blocks + values)

    def parts(self) -> list[Part]:
        """The frame in one piece."""
        made = np.empty(self.bytes, dtype=np.uint8)
        self.into(made)
        return [made]

    def into(self, buffer: NDArray[np.uint8]) -> int:
        """Puts the frame into a buffer if it fits; its size."""
        if self.bytes > buffer.size:
            return self.bytes
        if self.single:
            return fill(buffer, [self.single])
        c = self.header.c
        width, edge, at = c.element_bytes, c.tile[0] * c.element_bytes, int(c.header_bytes)
        blocks = []
        for start in range(0, self.flat.size, edge):
            part = self.flat[start : start + (width if self.constant else edge)]
            block = buffer[at : at + 1 + part.size]
            block[0] = 2 if self.constant else 3
            block[1:] = part
            if sys.byteorder == "big":
                block[1:].reshape(-1, width)[:] = part.reshape(-1, width)[:, ::-1]
            blocks.append((block.size, _native.crc32c(block), 0))
            at += block.size
        buffer[: c.header_bytes] = _native.as_bytes(write_header(self.header, blocks))
        return at


def fill(buffer: NDArray[np.uint8], parts: list[Part]) -> int:
    """The parts one after the other into a buffer, if they fit; their size."""
    size = total(parts)
    at = 0
    for part in parts if size <= buffer.size else []:
        buffer[at : at + len(part)] = _native.as_bytes(part)
        at += len(part)
    return size


def drain(waiting: deque[int]) -> Iterator[int]:
    """Takes numbers until there are none; any number of threads may share the queue."""
    while True:
        try:
            yield waiting.popleft()
        except IndexError:
            return


def run_threads(work: Any, threads: int) -> None:
    """Runs work(i) on `threads` threads and raises the first exception of any."""
    if threads == 1:
        work(0)
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work, i) for i in range(1, threads)]
        work(0)  # this thread takes its share
        for result in others:
            result.result()


def block_digest(header: _native.Header, base: Values, block: int) -> int:
    """The digest of the reference's elements at a block's places."""
    (origin,), (extent,) = header.tile_of(block)
    return _native.digest(header.c.reference_dtype, base.part(origin, origin + extent), origin, extent)


def encoded(
    header: _native.Header, parts: list[Part], blocks: list[tuple[int, int, int]], room: Room | None
) -> Encoded:
    """What came of a header: its frame's parts, which are in the room if there is one, and its blocks."""
    same_tiles = not header.c.predictor and not header.c.mixed and header.c.tile[0] <= _native.DEFAULT_TILE
    size = room.size if room else total(parts)
    return Encoded([] if room else parts, size, sum(block[2] for block in blocks), same_tiles)


def single_frame(header: _native.Header, block: Part) -> bytes | None:
    """The whole frame in the layout of small ones, where it fits that."""
    if len(block) > _native.MAX_SINGLE - SINGLE_START:
        return None
    small = header.copy()
    small.c.single = 1
    small.complete()
    return small.frame_single(_native.as_bytes(block)).tobytes() if small.c.single else None


def write_header(header: _native.Header, blocks: list[tuple[int, int, int]]) -> bytes:
    """The header with the index of these blocks, of each the size, CRC and saving."""
    index = b"".join(struct.pack("<II", size, crc) for size, crc, _ in blocks)
    out = np.empty(header.c.header_bytes, dtype=np.uint8)
    header.write(np.frombuffer(index, dtype=np.uint8) if index else np.empty(0, dtype=np.uint8), out)
    return out.tobytes()


def total(parts: list[Part]) -> int:
    """The frame's size in bytes."""
    return sum(map(len, parts))
