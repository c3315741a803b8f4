"""A header, its index and blocks put together to a frame, in pieces or in the caller's buffer."""

from __future__ import annotations

import functools
import struct
import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .buffers import Room
from .reference import Values

SINGLE_START = 1024  # more than the start and the checksum of a frame of the layout for small ones
LONG_TILES_SAVE = 16  # lossless blocks of default tiles are taken to be smaller than longer ones by a part in so many

Part = bytes | NDArray[np.uint8]
"""A header or a block."""


class Encoded(NamedTuple):
    """A frame; `saving`: how much smaller at least its blocks are than lossless ones of the same tiles.

    parts: header and blocks, or nothing where they went into the caller's buffer or were only counted.
    """

    parts: list[Part]
    bytes: int
    saving: int
    same_tiles: bool


def total(parts: list[Part]) -> int:
    """The frame's size in bytes."""
    return sum(map(len, parts))


def fill(buffer: NDArray[np.uint8], parts: list[Part]) -> int:
    """The parts one after the other into a buffer, if they fit; their size."""
    size = total(parts)
    at = 0
    for part in parts if size <= buffer.size else []:
        buffer[at : at + len(part)] = _native.as_bytes(part)
        at += len(part)
    return size


def write_header(header: _native.Header, blocks: list[tuple[int, int, int]]) -> bytes:
    """The header with the index of these blocks, of each the size, CRC and saving."""
    index = b"".join(struct.pack("<II", size, crc) for size, crc, _ in blocks)
    out = np.empty(header.c.header_bytes, dtype=np.uint8)
    header.write(np.frombuffer(index, dtype=np.uint8) if index else np.empty(0, dtype=np.uint8), out)
    return out.tobytes()


def single_frame(header: _native.Header, block: Part) -> bytes | None:
    """The whole frame in the layout of small ones, where it fits that."""
    if len(block) > _native.MAX_SINGLE - SINGLE_START:
        return None
    small = header.copy()
    small.c.single = 1
    small.complete()
    return small.frame_single(_native.as_bytes(block)).tobytes() if small.c.single else None


def block_digest(header: _native.Header, base: Values, block: int) -> int:
    """The digest of the reference's elements at a block's places."""
    (origin,), (extent,) = header.tile_of(block)
    return _native.digest(header.c.reference_dtype, base.part(origin, origin + extent), origin, extent)


def encoded(
    header: _native.Header, parts: list[Part], blocks: list[tuple[int, int, int]], room: Room | None
) -> Encoded:
    """What came of a header: its frame's parts, which are in the room if there is one, and its blocks."""
    same_tiles = not header.c.predictor and not header.c.mixed
    size, saving = room.size if room else total(parts), sum(block[2] for block in blocks)
    if header.c.tile[0] > _native.DEFAULT_TILE:
        saving -= size // LONG_TILES_SAVE
    return Encoded([] if room else parts, size, saving, same_tiles)


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
