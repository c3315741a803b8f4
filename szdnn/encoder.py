"""From a tensor and a target to a frame: predictor, tiles, blocks on threads, and the smaller of the lossy and
lossless frames."""

from __future__ import annotations

import functools
import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import CODES, COMPLEX_CODES, FLOAT_CODES
from .bounds import Abs
from .buffers import Room, joined
from .choose import TRIED_WITH_REFERENCE, cheapest, reference_bits
from .frame_parts import (
    Encoded,
    LargeTiles,
    Part,
    block_digest,
    encoded,
    fill,
    single_frame,
    total,
    write_header,
)
from .grid import Grid, find_grid
from .halves import step_share
from .new_header import new_header, set_predictor, set_shape, set_tiles, shorten_bound
from .reference import Values
from .resolve import Target, set_geometric, set_linear
from .threads import drain, run_threads, thread_count
from .tiles import INTERPOLATED_TILE, folded_dims, interpolated_tile

LOSSLESS_TILE_BYTES = 1 << 31
SMALL = 1 << 12
LONGER_HEADER = 64
MOST_BEYOND = 64  # that a frame is larger than its values
LONG_DECIMAL = 10**6
FAST_EFFORT = 1
TRIAL_EFFORT = 7
DOUBLE = 3  # the code of float64
MIXING_EFFORT = 8
UNMIXED = ("interpolation", "repeat")  # predictors that the mixing coder does not know
# Of so few bits a value, default tiles hold too little code for many lanes of rANS.
FEW_BITS = 1.0


class Choices(NamedTuple):
    """The caller's options."""

    effort: int
    predictor: str
    coder: str
    threads: int | None


class FrameMaker:
    """Makes frames of one tensor; `values` and `reference` are C-contiguous, `code` is the dtype's."""

    def __init__(
        self,
        values: NDArray[Any],
        code: int,
        stats: Any,
        choices: Choices,
        reference: NDArray[Any] | None = None,
    ) -> None:
        self.values, self.code, self.stats, self.choices = values, code, stats, choices
        self.reference = reference
        self.grids: dict[float, Grid | None] = {}  # by eps
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
        plain = self.encode(header, Room(buffer))
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
                small or reference_bits(self, plain)[1] * self.values.size < 10 * lossy.bytes
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
        if self.lag:  # the frame that knows is another one
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
        lattice = self.lattice(target)
        if lattice is None or self.values.size == 0 or self.stats.constant:
            return None
        allowed, bits = self._allowed(lattice), math.inf
        if len(allowed) > 1 and (self.choices.effort == MIXING_EFFORT or self.choices.effort < TRIAL_EFFORT):
            allowed, bits = cheapest(self, lattice, allowed)
        if len(allowed) == 1:
            return self.justified(lattice, allowed[0], self.final(lattice, allowed[0], bits), room)
        tried = {name: self.justified(lattice, name, self.predicted(lattice, name)) for name in allowed}
        best = min(tried, key=lambda name: tried[name].bytes)
        if self.choices.effort < MIXING_EFFORT:
            return tried[best]
        mixed = min((name for name in tried if name not in UNMIXED), key=lambda name: tried[name].bytes)
        final = self.justified(lattice, mixed, self.final(lattice, mixed, bits))
        return min(tried[best], final, key=lambda encoded: encoded.bytes)

    def justified(
        self, lattice: _native.Header, predictor: str, header: _native.Header, room: Room | None = None
    ) -> Encoded:
        """The frame of a header of that predictor; where it is too short for the memory that it takes to decode, one
        without context mixing, and with tiles as large as its length justifies."""
        made = self.encode(header, room)
        volume = min(INTERPOLATED_TILE, self.values.size)
        while not _native.is_justified(header, made.bytes):
            volume //= 2
            header = self.predicted(lattice, predictor if volume else "none")
            if predictor == "interpolation" and volume:
                dims = folded_dims(self.values.shape)
                set_tiles(header, dims, interpolated_tile(dims, volume))
            made = self.encode(header, room)
        return made

    def of_sample(self, values: NDArray[Any]) -> FrameMaker:
        """The same for some of the values; without the reference."""
        return FrameMaker(values, self.code, self.stats, self.choices)

    def with_shape(self, lattice: _native.Header) -> _native.Header:
        """The lattice of another tensor's header for the values here."""
        header = lattice.copy()
        set_shape(header, self.values.shape)
        return header

    def lattice(self, target: Target) -> _native.Header | None:
        """A header with the lattice that meets the target; None where there is none."""
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
            grid = self._grid(target)
            if not set_linear(header.c, self.code, target, self.values, grid):
                return None
            if header.c.kind == _native.LINEAR32 and not grid and target.fineness == 1:
                share = step_share(self.code, self.values, header.c.eps)
                header.c.step = float(np.float32(header.c.step * share))
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
        if named == "auto" and not self.interpolable(lattice):
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

    def predicted(self, lattice: _native.Header, predictor: str) -> _native.Header:
        """The header with a predictor and the tiles that suit it."""
        header = lattice.copy()
        if predictor == "reference":
            assert self.reference is not None
            header.set_reference(CODES[self.reference.dtype])
        else:
            set_predictor(header, self.values.shape, predictor)
        if predictor == "repeat":
            header.c.lag = self.lag
        return header

    def final(self, lattice: _native.Header, predictor: str, bits: float = math.inf) -> _native.Header:
        """With context mixing where the effort asks for it (not with a coder that was named), and with long tiles for
        that, or of so few bits a value."""
        header = self.predicted(lattice, predictor)
        if self.choices.effort >= MIXING_EFFORT and self.choices.coder == "auto" and predictor not in UNMIXED:
            header.c.mixed = 1
        long = header.c.mixed or bits < FEW_BITS
        if long and header.c.predictor in (0, _native.REFERENCE) and not header.c.has_axis:
            self._lengthen_tiles(header)
        return header

    def _lengthen_tiles(self, header: _native.Header) -> None:
        """Tiles of several default ones, which hold whole rows: the mixing coder learns as it goes, and rANS needs bits
        for its lanes."""
        header.complete()
        edge = min(self.values.size, _native.LONG_TILE // _native.DEFAULT_TILE * header.c.tile[0])
        set_tiles(header, (self.values.size,), (edge,))

    def interpolable(self, lattice: _native.Header) -> bool:
        """Interpolation is for linear lattices, and has a rANS coder of its own."""
        return lattice.c.kind != _native.GEOMETRIC and not lattice.c.has_axis and self.choices.coder != "huffman"

    def encode(self, header: _native.Header, room: Room | None = None) -> Encoded:
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
        frame = single_frame(header, data) or joined([write_header(header, blocks), data])
        if room:
            room.begin(len(frame))
            room.finish(_native.as_bytes(frame))
        return encoded(header, [frame], blocks, room)

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
        without, differences = reference_bits(self, header)
        if not tried and differences >= without * 0.99:
            return self._lossless_plain(target)
        made = self.encode(self.predicted(header, "reference"))
        if forced and made.bytes <= self.values.nbytes + MOST_BEYOND:
            return made.parts
        if not tried and made.bytes * 8 < without * self.values.size * 0.99:
            return made.parts
        return min(made.parts, self._lossless_plain(target), key=total)

    def _lossless_plain(self, target: Target) -> list[Part]:
        plain = self.encode(self._lossless_header(target)).parts
        if not self._is_float() and self.values.size > 1:
            header = self._lossless_header(target)
            header.c.predictor = _native.PREDICTORS["lorenzo"]
            plain = min(plain, self.encode(header).parts, key=total)
        if self.values.size and self.lag:
            header = self.predicted(self._lossless_header(target), "repeat")
            plain = min(plain, self.encode(header).parts, key=total)
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
