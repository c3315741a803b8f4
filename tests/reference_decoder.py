"""A slow decoder of the szdnn frame, written from csrc/FORMAT.md alone.

It shares no code with the compressor and is meant to be read next to the specification, the sections ("§") of which
the comments cite. Numbers are plain Python integers; numpy is used for floating-point arithmetic and for the resulting
array only, ml_dtypes for the number formats which numpy lacks.

    python reference_decoder.py FRAME_FILE ARRAY.npy [REFERENCE.npy]
"""

from __future__ import annotations

import bisect
import itertools
import math
import struct
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

MAGIC = b"\xf5SZD"  # §2
SINGLE_MAGIC = b"\xf5s"  # §2, small frames
VERSION = 0  # §2
LOSSLESS, LINEAR32, LINEAR64, GEOMETRIC = range(4)  # §2, the kinds
BOUND, LATTICE, GEOMETRY, TILES, PREDICTOR, AXIS, MIXED, AXIS_TABLE = range(1, 9)  # §2, the ids of the fields
NO_PREDICTOR, LORENZO, REGRESSION, REFERENCE, INTERPOLATION, REPEAT = range(6)  # §2, field 5


class Damaged(ValueError):
    """The frame is not one which an encoder can have written."""


class WrongReference(ValueError):
    """The reference is missing or not the one the frame was made with."""


class Unsupported(ValueError):
    """The frame was made by a newer version of the format."""


def require(condition: bool, what: str) -> None:
    """Reject the frame as damaged unless the condition holds."""
    if not condition:
        raise Damaged(what)


# ---------------------------------------------------------------------------------------------------------------------
# §1 Conventions
# ---------------------------------------------------------------------------------------------------------------------


def unzigzag(u: int) -> int:
    """§1: 0, 1, 2, 3, 4 ... -> 0, -1, 1, -2, 2 ..."""
    return (u >> 1) ^ -(u & 1)


def unzigzag32(u: int) -> int:
    """The inverse zigzag, where the specification asks for a 32-bit signed number."""
    require(u < 1 << 32, "a signed number does not fit 32 bits")
    return unzigzag(u)


def wrap32(v: int) -> int:
    """§1: lattice integers are modulo 2^32, in two's complement."""
    return ((v + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@cache
def crc_table() -> list[int]:
    """§1: the effect of each byte on a CRC-32C."""
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


def crc32c(data: bytes) -> int:
    """§1: CRC-32C (Castagnoli)."""
    table = crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Bits:
    """§1: a bit string, read from the least significant bit of each byte up."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0  # in bits

    def take(self, count: int) -> int:
        """A number of `count` bits, its least significant bit first."""
        end = self.position + count
        require(end <= 8 * len(self.data), "a bit string is too short")
        first, shift = divmod(self.position, 8)
        chunk = int.from_bytes(self.data[first : ceil_div(end, 8)], "little")
        self.position = end
        return (chunk >> shift) & ((1 << count) - 1)

    def exp_golomb(self, g: int) -> int:
        """EG(g): z zero bits, a one, then the low z + g bits of u + 2^g."""
        z = 0
        while not self.take(1):
            z += 1
            require(z + g <= 63, "an Exp-Golomb code is too long")
        low = self.take(z + g)
        return (1 << (z + g)) + low - (1 << g)

    def end(self) -> int:
        """The number of bytes begun; the unused bits of the last one must be zero."""
        require(self.take(-self.position % 8) == 0, "padding bits are not zero")
        return self.position // 8

    def close(self) -> None:
        """Nothing may be left but the padding of the last byte."""
        require(self.end() == len(self.data), "a bit string is too long")


class Reader:
    """§1: reads the numbers of which headers and blocks are made."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def left(self) -> int:
        """The number of bytes not yet read."""
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        require(count <= self.left(), "the data ends too early")
        self.position += count
        return self.data[self.position - count : self.position]

    def close(self) -> None:
        """Nothing may be left."""
        require(self.left() == 0, "there is more data than expected")

    def uint(self, size: int) -> int:
        """A little-endian unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def u8(self) -> int:
        """One byte."""
        return self.uint(1)

    def f64(self) -> float:
        """An IEEE binary64."""
        return float(struct.unpack("<d", self.take(8))[0])

    def varint(self) -> int:
        """Unsigned LEB128 in its shortest form, below 2^64."""
        value = 0
        for index in range(10):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                require(byte != 0 or index == 0, "a varint is longer than needed")
                require(value < 1 << 64, "a varint exceeds 64 bits")
                return value
        raise Damaged("a varint is longer than 10 bytes")

    def svarint32(self) -> int:
        """The varint of the zigzag of a 32-bit signed number."""
        return unzigzag32(self.varint())

    def coded_numbers(self, count: int) -> list[int]:
        """§6, §7: u8 g, varint bytes, a bit string of that many bytes with `count` numbers EG(g)."""
        g = self.u8()
        require(g <= 40, "the order of an Exp-Golomb code is above 40")
        bits = Bits(self.take(self.varint()))
        numbers = [bits.exp_golomb(g) for _ in range(count)]
        bits.close()
        return numbers


# ---------------------------------------------------------------------------------------------------------------------
# §2 Frame: the element types
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ElementType:
    """§2: one line of the table of dtypes. A complex value is two float elements."""

    array: np.dtype[Any]
    size: int
    per_value: int
    is_float: bool

    def unsigned(self) -> np.dtype[Any]:
        """The unsigned integer of an element's size."""
        return np.dtype(f"<u{self.size}")


def element_types() -> dict[int, ElementType]:
    """§2: the table of dtypes, by code."""
    table = {}
    floats = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
    for code, name in enumerate(floats):
        table[code] = ElementType(np.dtype(name), np.dtype(name).itemsize, 1, True)
    for code, text in enumerate(("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "?"), 16):
        table[code] = ElementType(np.dtype(text), np.dtype(text).itemsize, 1, False)
    float8 = ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu", "e4m3", "e3m4", "e4m3b11fnuz")
    for code, text in enumerate(float8, 32):
        table[code] = ElementType(np.dtype(getattr(ml_dtypes, "float8_" + text)), 1, 1, False)
    table[48] = ElementType(np.dtype(np.complex64), 4, 2, True)
    table[49] = ElementType(np.dtype(np.complex128), 8, 2, True)
    return table


ELEMENT_TYPES = element_types()
FLOAT64 = ELEMENT_TYPES[3]


# ---------------------------------------------------------------------------------------------------------------------
# §2 Frame: the header
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Header:
    """§2: what the header says, with the defaults of the fields which are absent."""

    dtype: ElementType
    shape: tuple[int, ...]
    kind: int
    elements: int = 0
    low_bits: int = 0  # w of field 2
    eps: float = 0.0  # of field 2
    step: float = 0.0  # of field 2
    points: int = 0  # n of field 3
    first: int = 0  # of field 3
    signs: bool = False  # of field 3
    dims: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    predictor: int = NO_PREDICTOR
    edge: int = 0  # of field 5
    fraction: int = 0  # F of field 5
    parts: int = 0  # of field 5
    lag: int = 0  # of field 5
    reference_dtype: ElementType | None = None  # of field 5
    digests: tuple[int, ...] = ()  # of field 5
    axis: int = 0  # of field 6
    axis_steps: tuple[float, ...] = ()  # of field 6; none without it
    mixed: bool = False  # field 7


def positive(value: float, what: str) -> float:
    """The value, if it is finite and > 0 (which a NaN is not)."""
    require(0 < value < math.inf, what + " is not finite and positive")
    return value


def parse_header(data: bytes) -> tuple[Header, list[tuple[int, int]]]:
    """§2: the header (its CRC checked and cut off) and the block index: (length, CRC) of each block."""
    reader = Reader(data)
    reader.take(5)  # magic and version: seen by split_header
    reader.varint()  # header_bytes: too
    code = reader.u8()
    if code not in ELEMENT_TYPES:
        raise Unsupported(f"unknown dtype {code}")
    shape = parse_shape(reader, ELEMENT_TYPES[code])
    kind = reader.u8()
    check_kind(kind, code)
    header = Header(ELEMENT_TYPES[code], shape, kind)
    header.elements = math.prod(shape) * header.dtype.per_value
    use_fields(header, collect_fields(reader))
    require(reader.left() == 8 * count_blocks(header), "the block index has a wrong length")
    return header, [(reader.uint(4), reader.uint(4)) for _ in range(count_blocks(header))]


def check_kind(kind: int, code: int) -> None:
    """§2: the kinds, and which dtypes they need."""
    if kind > GEOMETRIC:
        raise Unsupported(f"unknown kind {kind}")
    require(kind == LOSSLESS or code <= 3, "a lattice of a dtype which has none")
    require(kind != LINEAR32 or code != 3, "a float32 lattice of float64")


def parse_single(frame: bytes) -> tuple[Header, list[bytes]]:
    """§2, small frames: the header and the block, if there is one; the checksum of all is checked."""
    reader = Reader(frame[:-4])
    reader.take(2)
    version = reader.u8()
    if version != VERSION:
        raise Unsupported(f"unknown version {version}")
    require(reader.uint(2) + 1 == len(frame), "the frame has another length")
    require(crc32c(frame[:-4]) == int.from_bytes(frame[-4:], "little"), "the frame is damaged")
    kind, code = divmod(reader.u8(), 64)
    flags = reader.u8()
    rank = reader.u8() if flags & 15 == 15 else flags & 15
    require(rank <= 64, "the rank is above 64")
    extents = [reader.varint() for _ in range(rank)]
    if code not in ELEMENT_TYPES:
        raise Unsupported(f"unknown dtype {code}")
    shape = checked_shape(extents, ELEMENT_TYPES[code])
    check_kind(kind, code)
    header = Header(ELEMENT_TYPES[code], shape, kind, mixed=bool(flags & 64))
    header.elements = math.prod(shape) * header.dtype.per_value
    require(kind != LOSSLESS or not header.mixed, "mixed residuals in a lossless frame")
    parameter = read_short_bound(reader) if flags & 16 else 0.0
    require(kind in (LINEAR32, LINEAR64) or not flags & 128, "a short lattice where there is none")
    if kind in (LINEAR32, LINEAR64):
        read_short_lattice(header, reader, 3 if flags & 128 else reader.u8(), parameter)
    elif kind == GEOMETRIC:
        header.points, header.first = reader.varint(), reader.svarint32()
        require(1 <= header.points < 1 << 31, "the points per octave are out of range")
        signs = reader.u8()
        require(signs & 15 <= 1, "the signs flag is out of range")
        header.signs = bool(signs & 15)
        positive(read_number(reader, signs >> 4, parameter), "the relative bound")
    set_default_tiles(header)
    if flags & 32:
        for identifier, content in collect_fields(reader, TILES, PREDICTOR).items():
            inner = Reader(content)
            (parse_tiles if identifier == TILES else parse_predictor)(header, inner)
            inner.close()
    check_tiles(header)
    blocks = count_blocks(header)
    require(blocks <= 1 and (blocks == 1) == (reader.left() > 0), "the block is missing, or more than one")
    return header, [reader.take(reader.left())] if blocks else []


def read_short_bound(reader: Reader) -> float:
    """§2, small frames: the bound's parameter, 0 if no number in a frame may be said to be that."""
    first = reader.u8()
    if first == 128:
        return 0.0
    if first & 128:
        require(first >> 4 & 7 != 0, "the kind of the bound is unknown")
        return 1 / float(10 ** (first & 15))
    kind, flags = first & 15, first >> 4
    require(1 <= kind <= 7, "the kind of the bound is unknown")
    decimal = reader.u8()
    digits, exponent = decimal >> 4, -(decimal & 15)
    require(digits > 0 or decimal == 0, "the bound's parameter is zero")
    if not decimal:
        digits, coded = unzigzag(reader.varint()), reader.varint()
        require(coded <= 1000, "the bound's exponent is out of range")
        exponent = unzigzag(coded)
    reader.take(16 if flags & 2 else 0)
    if not (1 <= digits <= 1 << 53 and -22 <= exponent <= 22):
        return 0.0
    return float(digits) / float(10**-exponent) if exponent < 0 else float(digits) * float(10**exponent)


def read_number(reader: Reader, count: int, parameter: float) -> float:
    """§2, small frames: the highest bytes of a float64; of none, the bound's parameter."""
    require(count <= 8, "a number has more than eight bytes")
    if count == 0:
        return parameter
    return float(struct.unpack("<d", bytes(8 - count) + reader.take(count))[0])


def read_short_lattice(header: Header, reader: Reader, flags: int, parameter: float) -> None:
    """§2, small frames: the lattice of kinds 1 and 2."""
    require(flags < 64, "unknown flags of a lattice")
    eps = header.eps = positive(read_number(reader, flags & 15, parameter), "eps")
    header.low_bits = reader.u8() if flags & 16 else 0
    require(header.low_bits <= (20 if header.kind == LINEAR64 else 0), "too many low bits")
    set_step(header, eps, reader.f64() if flags & 32 else None)


def parse_shape(reader: Reader, dtype: ElementType) -> tuple[int, ...]:
    """§2: rank and shape."""
    rank = reader.u8()
    require(rank <= 64, "the rank is above 64")
    return checked_shape([reader.varint() for _ in range(rank)], dtype)


def checked_shape(extents: list[int], dtype: ElementType) -> tuple[int, ...]:
    """§2: the shape, if it is not too large."""
    shape = tuple(extents)
    raw_bytes = math.prod(extent for extent in shape if extent) * dtype.per_value * dtype.size
    require(raw_bytes <= 1 << 60, "the tensor is too large")
    return shape


def collect_fields(reader: Reader, least: int = BOUND, most: int = AXIS_TABLE) -> dict[int, bytes]:
    """§2: the content of each field, by id."""
    fields: dict[int, bytes] = {}
    last = least - 1
    while identifier := reader.u8():
        if identifier > AXIS_TABLE:
            raise Unsupported(f"unknown field {identifier}")
        require(last < identifier <= most, "the fields are not in ascending order, or not allowed here")
        last = identifier
        fields[identifier] = reader.take(reader.varint())
    return fields


def use_fields(header: Header, fields: dict[int, bytes]) -> None:
    """§2, Fields: check which are there, and put what they say into the header."""
    require((LATTICE in fields) == (header.kind in (LINEAR32, LINEAR64)), "field 2 goes with kinds 1 and 2")
    require((GEOMETRY in fields) == (header.kind == GEOMETRIC), "field 3 goes with kind 3")
    for axis in {AXIS, AXIS_TABLE} & fields.keys():
        require(header.kind == LINEAR64 and TILES not in fields, f"field {axis} is out of place")
    require(not {AXIS, AXIS_TABLE} <= fields.keys(), "fields 6 and 8 together")
    set_default_tiles(header)
    parsers = {
        BOUND: parse_bound,
        LATTICE: parse_lattice,
        GEOMETRY: parse_geometry,
        TILES: parse_tiles,
        PREDICTOR: parse_predictor,
        AXIS: parse_axis,
        MIXED: parse_mixed,
        AXIS_TABLE: parse_axis_table,
    }
    for identifier, content in fields.items():
        reader = Reader(content)
        parsers[identifier](header, reader)
        reader.close()
    check_tiles(header)


def check_tiles(header: Header) -> None:
    """§2, Fields: what the predictor allows."""
    predicted = header.predictor in (LORENZO, REGRESSION, INTERPOLATION) and header.kind != LOSSLESS
    require(header.predictor != REFERENCE or len(header.digests) == count_blocks(header), "the digests are too few")
    predicted_limit = 1 << 20 if header.predictor in (INTERPOLATION, REPEAT) else 1 << 17
    predicted = predicted or header.predictor == REPEAT
    limit = predicted_limit if predicted else (1 << 31) // header.dtype.size
    require(math.prod(header.tile) <= limit, "the tiles are too large")
    if header.predictor in (INTERPOLATION, REPEAT):
        require(not header.axis_steps and not header.mixed, "fields that do not go with the predictor")
        require(header.low_bits == 0, "low bits do not go with the predictor")
    if header.predictor == REGRESSION:
        blocks = math.prod(ceil_div(extent, header.edge) for extent in header.tile)
        coefficients = blocks * (len(header.tile) + 1)
        require(coefficients <= max(1024, math.prod(header.tile) // 8), "too many coefficients")


def parse_bound(_header: Header, reader: Reader) -> None:
    """§2, field 1: not needed for decoding; only its form is checked."""
    kind_and_flags = reader.u8()
    kind, flags = kind_and_flags & 15, kind_and_flags >> 4
    require(1 <= kind <= 7 and flags <= 7, "unknown kind or flags of the bound")
    reader.varint()
    require(reader.varint() <= 1000, "the bound's exponent is out of range")
    reader.take(16 if flags & 2 else 0)


def parse_mixed(header: Header, _reader: Reader) -> None:
    """§2, field 7: says by its presence that residuals may be mixed."""
    require(header.kind != LOSSLESS, "field 7 in a lossless frame")
    header.mixed = True


def parse_lattice(header: Header, reader: Reader) -> None:
    """§2, field 2: the step of the linear lattices, and the number of low bits."""
    eps = header.eps = positive(reader.f64(), "eps")
    header.low_bits = reader.u8()
    require(header.low_bits <= (20 if header.kind == LINEAR64 else 0), "too many low bits")
    set_step(header, eps, reader.f64() if reader.left() else None)


def set_step(header: Header, eps: float, given: float | None) -> None:
    """§2, field 2: the lattice's step, given or not."""
    step = 2 * (eps if header.kind == LINEAR64 else float32_below(eps)) if given is None else given
    header.step = positive(step, "the step")
    require(header.kind == LINEAR64 or to_float32(step) == step, "the step is not a float32")


def to_float32(value: float) -> float:
    """The nearest float32."""
    with np.errstate(all="ignore"):
        return float(np.float32(value))


def float32_below(value: float) -> float:
    """§2, field 2: the largest float32 which is at most the (positive) value."""
    with np.errstate(all="ignore"):
        nearest = np.float32(value)
        below = nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(0))
    return float(below)


def parse_geometry(header: Header, reader: Reader) -> None:
    """§2, field 3: the geometric lattice. The bound r is for information."""
    header.points = reader.varint()
    require(1 <= header.points < 1 << 31, "the points per octave are out of range")
    header.first = reader.svarint32()
    signs = reader.u8()
    require(signs <= 1, "the signs flag is out of range")
    header.signs = bool(signs)
    positive(reader.f64(), "the relative bound")


def set_default_tiles(header: Header) -> None:
    """§2, field 4: what holds in its absence."""
    header.dims = (header.elements,)
    header.tile = (min(max(header.elements, 1), (1 << 18) - (1 << 18) % row_length(header.shape)),)


def row_length(shape: tuple[int, ...]) -> int:
    """§2, field 4: `row`."""
    row = 1
    for extent in reversed(shape[1:]):
        if extent == 0 or row * extent > 1 << 14:
            break
        row *= extent
    return row


def parse_tiles(header: Header, reader: Reader) -> None:
    """§2, field 4: as what array the elements are seen, and the tiles it is cut into."""
    rank = reader.u8()
    require(1 <= rank <= 4, "the rank of the tiles is out of range")
    header.dims = tuple(reader.varint() for _ in range(rank))
    header.tile = tuple(reader.varint() for _ in range(rank))
    require(math.prod(header.dims) == header.elements, "the dims do not match the number of elements")
    fits = all(1 <= tile <= max(dim, 1) for tile, dim in zip(header.tile, header.dims, strict=True))
    require(fits, "the tiles do not fit")
    require(math.prod(dim for dim in header.dims if dim) <= 1 << 60, "the dims are too large")


def parse_predictor(header: Header, reader: Reader) -> None:
    """§2, field 5 (after field 4, upon which it depends)."""
    header.predictor = reader.u8()
    require(LORENZO <= header.predictor <= REPEAT, "unknown predictor")
    if header.predictor == REFERENCE:
        parse_reference(header, reader)
        return
    if header.predictor == REPEAT:
        header.lag = reader.varint()
        require(1 <= header.lag <= 1 << 17 and len(header.dims) == 1, "the lag is out of range")
        return
    if header.kind == LOSSLESS:
        require(header.predictor == LORENZO, "kind 0 knows only predictor 1")
        require(not header.dtype.is_float and len(header.dims) == 1, "kind 0 cannot have a predictor here")
    if header.predictor == INTERPOLATION:
        require(header.kind in (LINEAR32, LINEAR64), "interpolation is for kinds 1 and 2")
        if reader.left():
            header.parts = reader.u8()
            require(1 <= header.parts <= 15, "the parts of a step are out of range")
    if header.predictor == REGRESSION:
        header.edge = reader.u8()
        header.fraction = reader.u8()
        require(2 <= header.edge <= 64 and header.fraction <= 12, "the regression is out of range")


def parse_reference(header: Header, reader: Reader) -> None:
    """§2, field 5: the reference's dtype, and a digest for each block."""
    code = reader.u8()
    require(code in ELEMENT_TYPES, "unknown dtype of the reference")
    header.reference_dtype = ELEMENT_TYPES[code]
    same = header.reference_dtype == header.dtype
    require(same if header.kind == LOSSLESS else code <= 3, "the reference's dtype does not fit")
    require(len(header.dims) == 1, "a reference with tiles of several axes")
    require(reader.left() % 8 == 0, "field 5 has a wrong length")
    header.digests = tuple(reader.uint(8) for _ in range(reader.left() // 8))


def parse_axis(header: Header, reader: Reader) -> None:
    """§2, field 6: a step of its own for each index along an axis of the shape."""
    header.axis = reader.u8()
    require(header.axis < len(header.shape), "there is no such axis")
    require(reader.left() == 8 * header.shape[header.axis], "field 6 has a wrong length")
    header.axis_steps = parse_steps(header, reader, header.shape[header.axis])


def parse_axis_table(header: Header, reader: Reader) -> None:
    """§2, field 8: the same from a table."""
    header.axis = reader.u8()
    require(header.axis < len(header.shape), "there is no such axis")
    count = 1 + reader.u8()
    require(reader.left() == 8 * count + header.shape[header.axis], "field 8 has a wrong length")
    steps = parse_steps(header, reader, count)
    indices = [reader.u8() for _ in range(header.shape[header.axis])]
    require(all(index < count for index in indices), "an index beyond the table of field 8")
    header.axis_steps = tuple(steps[index] for index in indices)


def parse_steps(header: Header, reader: Reader, count: int) -> tuple[float, ...]:
    """Steps from bounds."""
    ratio = header.step / header.eps
    steps = [ratio * positive(reader.f64(), "eps") for _ in range(count)]
    return tuple(positive(step, "a step") for step in steps)


# ---------------------------------------------------------------------------------------------------------------------
# §3 Tiles and blocks
# ---------------------------------------------------------------------------------------------------------------------


def strides(dims: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis are in C order."""
    result = [1] * len(dims)
    for axis in range(len(dims) - 1, 0, -1):
        result[axis - 1] = result[axis] * dims[axis]
    return result


def count_blocks(header: Header) -> int:
    """§3: one for each tile; none without elements."""
    return math.prod(ceil_div(dim, tile) for dim, tile in zip(header.dims, header.tile, strict=True))


def tile_boxes(dims: Sequence[int], tile: Sequence[int]) -> Iterator[tuple[range, ...]]:
    """§3: the tiles in C order of their grid, those at the far edges smaller. §7 cuts a tile in the same way."""
    if 0 in dims:  # no elements, no tiles, however long the other axes are
        return iter(())
    ranges = [
        [range(start, min(start + size, dim)) for start in range(0, dim, size)]
        for dim, size in zip(dims, tile, strict=True)
    ]
    return itertools.product(*ranges)


def indices(box: tuple[range, ...], dims: Sequence[int]) -> list[int]:
    """§3: the place in the whole array of each element of a box, in the box's C order."""
    steps = strides(dims)
    offsets = ([i * step for i in axis] for axis, step in zip(box, steps, strict=True))
    return [sum(position) for position in itertools.product(*offsets)]


def decode_block(
    header: Header, block: bytes, box: tuple[range, ...], places: list[int], reference: NDArray[Any] | None
) -> list[int]:
    """§3: the elements of a block as unsigned numbers. `places` are their indices in the whole tensor."""
    reader = Reader(block)
    mode = reader.u8()
    if mode == 0 or 16 <= mode <= 40 or 48 <= mode <= 72:
        require(header.kind != LOSSLESS, "a lattice block in a lossless frame")
        elements = decode_lattice(header, mode, reader, tuple(len(axis) for axis in box), places, reference)
    elif mode == 1 and header.kind == LOSSLESS and header.predictor == REFERENCE:
        assert reference is not None
        numbers = decode_planes(integer_of(header.dtype), reader, len(places))
        elements = add_patterns(header.dtype, numbers, reference[places].tolist())
    elif mode == 1 and header.kind == LOSSLESS and header.predictor == REPEAT:
        elements = read_repeated_planes(header.dtype, reader, len(places), header.lag)
    elif mode == 1:
        differenced = header.kind == LOSSLESS and header.predictor == LORENZO
        composite = PLAIN if header.predictor == REPEAT else ANY
        elements = decode_planes(header.dtype, reader, len(places), differenced, composite)
    elif mode == 2:
        elements = [reader.uint(header.dtype.size)] * len(places)
    elif mode == 3:
        elements = [reader.uint(header.dtype.size) for _ in places]
    else:
        raise Damaged(f"unknown block mode {mode}")
    reader.close()
    return elements


# ---------------------------------------------------------------------------------------------------------------------
# §4 Symbol stream
# ---------------------------------------------------------------------------------------------------------------------


CLASSES, SPARSE = 4, 6  # §4, the coders with other streams inside
Composite = tuple[int, ...]  # which of these may be used
PLAIN: Composite = ()
ANY: Composite = (CLASSES, SPARSE)


def decode_symbols(reader: Reader, n: int, composite: Composite = PLAIN) -> list[int]:
    """§4: n symbols of 8 bits."""
    if n == 0:
        return []
    coder = reader.u8()
    if coder == 0:
        return [reader.u8()] * n
    if coder == 1:
        return list(reader.take(n))
    if coder == 2:
        lengths = read_table(reader, read_lengths)
        return decode_huffman(Bits(reader.take(reader.varint())), lengths, n)
    if coder == 3:
        frequencies = read_table(reader, lambda bits: read_frequencies(bits, 128).frequencies)
        return decode_plain_rans(reader, frequencies, n)
    require(coder in composite, "a coder that is unknown or not for this stream")
    require(n <= 1 << 20, "too many symbols for this coder")
    if coder == SPARSE:
        return decode_sparse(reader, n)
    require(n <= 1 << 18 or reader.left() >= 256, "too few bytes for as many symbols")
    return decode_classes(reader, n)


def read_table(reader: Reader, read: Callable[[Bits], T]) -> T:
    """§4: a table is a bit string which ends at the next byte border."""
    bits = Bits(reader.data[reader.position : reader.position + 1024])  # no table is as long as that
    table = read(bits)
    reader.position += bits.end()
    return table


def read_change(bits: Bits, previous: int) -> int:
    """§4: a number from 0 to 12, as its difference from the previous one."""
    value = previous + unzigzag(bits.exp_golomb(0))
    require(0 <= value <= 12, "a table holds a number out of range")
    return value


def read_lengths(bits: Bits) -> dict[int, int]:
    """§4, length table: the code length of each symbol from lo to hi; 0 if it is not used."""
    lo, hi = bits.take(8), bits.take(8)
    require(lo < hi, "the symbols of a table are out of order")
    lengths = {}
    length = 8
    for symbol in range(lo, hi + 1):
        length = lengths[symbol] = read_change(bits, length)
    total = sum(4096 >> length for length in lengths.values() if length)
    require(total == 4096, "the Huffman code is not complete")
    return lengths


@dataclass(frozen=True)
class FrequencyTable:
    """§4: the frequencies of lo ... hi, which add up to 4096, and the symbol from which they are described."""

    top: int
    frequencies: dict[int, int]


def read_frequencies(bits: Bits, expected: int) -> FrequencyTable:
    """§4, frequency table."""
    top = expected + unzigzag(bits.exp_golomb(2))
    lo = top - bits.exp_golomb(2)
    hi = top + bits.exp_golomb(2)
    require(0 <= lo <= top <= hi <= 255 and lo < hi, "the symbols of a table are out of range")
    m = bits.take(4)
    if m == 15:
        others = interpolated_frequencies(bits, lo, top, hi)
    elif m == 14:
        others = modelled_frequencies(bits, lo, top, hi)
    else:
        others = explicit_frequencies(bits, lo, top, hi, m)
    rest = 4096 - sum(others.values())
    require(rest >= 1, "the frequencies exceed 4096")
    return FrequencyTable(top, {symbol: others.get(symbol, rest) for symbol in range(lo, hi + 1)})


def explicit_frequencies(bits: Bits, lo: int, top: int, hi: int, m: int) -> dict[int, int]:
    """§4, m below 14: the frequency of each symbol but top."""
    frequencies = {}
    length = 6
    for symbol in range(lo, hi + 1):
        if symbol != top:
            length = read_change(bits, length)
            frequencies[symbol] = read_frequency(bits, length, m)
    require(frequencies.get(lo) != 0 and frequencies.get(hi) != 0, "the first or last symbol is not used")
    return frequencies


def read_frequency(bits: Bits, length: int, m: int) -> int:
    """§4: a frequency of which the bit length is known; only the m bits below the highest are stored."""
    if length <= 1:
        return length
    t = min(length - 1, m)
    return (1 << (length - 1)) + (bits.take(t) << (length - 1 - t))


KNOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)


def interpolated_frequencies(bits: Bits, lo: int, top: int, hi: int) -> dict[int, int]:
    """§4, m = 15: the frequency of each symbol but top, from a broken line through log2 f."""
    p, g = bits.take(2), bits.take(2)
    right = read_knots(bits, g, hi - top, [])
    left = read_knots(bits, g, top - lo, right)
    logs = {top: 0}
    for direction, knots in ((1, right), (-1, left)):
        for distance, log in knot_line(knots, 6 - p):
            logs[top + direction * distance] = log
    highest = max(logs.values())
    weights = {symbol: weight_of(highest - log) for symbol, log in logs.items()}
    spare, total = 4096 - len(logs), sum(weights.values())
    return {symbol: 1 + weight * spare // total for symbol, weight in weights.items() if symbol != top}


def read_knots(bits: Bits, g: int, reach: int, other: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """§4, m = 15: (d, v) of the knots of one side, after those of the other side if these were read before."""
    distances = [d for d in KNOTS if d < reach] + [reach] if reach else []
    knots: list[tuple[int, int]] = []
    for j, distance in enumerate(distances):
        mirrored = j < len(other) and other[j][0] == distance
        guess = other[j][1] if mirrored else extrapolate([(0, 0), *knots], distance)
        coded = bits.exp_golomb(g)
        require(coded <= 16384, "a knot is too far from its guess")
        value = guess + unzigzag(coded)
        require(-4096 <= value <= 4096, "a knot is out of range")
        knots.append((distance, value))
    return knots


def extrapolate(knots: list[tuple[int, int]], distance: int) -> int:
    """§4, m = 15: the line through the last two knots, (0, 0) being the first of all; 0 where there is only that."""
    if len(knots) < 2:
        return 0
    (d0, v0), (d1, v1) = knots[-2:]
    return v1 + (v1 - v0) * (distance - d1) // (d1 - d0)


def knot_line(knots: list[tuple[int, int]], shift: int) -> Iterator[tuple[int, int]]:
    """§4, m = 15: (distance, l) of each symbol of a side, l in 1/256 of log2."""
    d0 = k0 = 0
    for d1, v1 in knots:
        k1 = v1 << shift
        for i in range(1, d1 - d0 + 1):
            yield d0 + i, k0 + (k1 - k0) * i // (d1 - d0)
        d0, k0 = d1, k1


@cache
def power_of_two(f: int) -> int:
    """§4: 2^15 2^(f / 256), rounded down."""
    power = 1 << (256 * 15 + f)
    for _ in range(8):  # its 256th root, rounded down
        power = math.isqrt(power)
    return power


def weight_of(e: int) -> int:
    """§4, m = 15: 2^23 / 2^(e / 256), the fraction's power of two rounded down to 15 bits."""
    return (power_of_two(-e % 256) << 8) >> ceil_div(e, 256)


def modelled_frequencies(bits: Bits, lo: int, top: int, hi: int) -> dict[int, int]:
    """§4, m = 14: the frequency of each symbol but top, from the density of a generalised Gaussian."""
    shape, scale, offset = (4, 5, 6, 7, 8, 10, 13, 16)[bits.take(3)], bits.take(7), bits.take(3) - 2
    require(offset <= 2, "the centre of a table is out of range")

    def density(u: int) -> int:
        x = shape * ((u**256).bit_length() - 1 - 32 * (scale - 16)) >> 3 if u else -4096
        return 0 if x >= 1280 else weight_of((power_of_two(x % 256) << 8) >> (15 - (x >> 8)))

    weights = {}
    for symbol in range(lo, hi + 1):
        places = [density(abs(4 * (symbol - top) + offset + i)) for i in (-2, -1, 0, 1, 2)]
        weights[symbol] = sum(w * d for w, d in zip((1, 2, 2, 2, 1), places, strict=True))
    spare, total = 4096 - len(weights), sum(weights.values())
    return {symbol: 1 + weight * spare // total for symbol, weight in weights.items() if symbol != top}


def canonical_codes(lengths: dict[int, int]) -> dict[tuple[int, int], int]:
    """§4: the symbol of each (length, code): sorted by length, then symbol, counting up."""
    codes = {}
    code = last = 0
    for length, symbol in sorted((length, symbol) for symbol, length in lengths.items() if length):
        code <<= length - last
        codes[length, code] = symbol
        code += 1
        last = length
    return codes


def decode_huffman(bits: Bits, lengths: dict[int, int], n: int) -> list[int]:
    """§4: codes come with their most significant bit first."""
    codes = canonical_codes(lengths)
    symbols = []
    for _ in range(n):
        length = code = 0
        while (length, code) not in codes:  # ends: the code is complete
            code = 2 * code + bits.take(1)
            length += 1
        symbols.append(codes[length, code])
    bits.close()
    return symbols


def decode_plain_rans(reader: Reader, frequencies: dict[int, int], n: int) -> list[int]:
    """§4, coder 3 from the number of lanes on."""
    symbols, states = decode_rans(reader, [(frequencies, n)])
    require(all(x == 1 << 16 for x in states), "a rANS state does not end as it should")
    return symbols


def decode_short_rans(reader: Reader, n: int) -> list[int]:
    """§6, short blocks: a frequency table, and all that is left is a payload of one lane."""
    frequencies = read_table(reader, partial(read_frequencies, expected=128)).frequencies
    stream = RansStream(Reader(reader.take(reader.left())), 1)
    symbols = list(stream.draw(frequencies, n))
    stream.payload.close()
    require(stream.states == [1 << 16], "a rANS state does not end as it should")
    return symbols


def decode_rans(reader: Reader, runs: list[tuple[dict[int, int], int]]) -> tuple[list[int], list[int]]:
    """§4, from the number of lanes on: the symbols of each run of (frequencies, count), and the states at the end."""
    log_lanes = reader.u8()
    require(log_lanes <= 6, "too many lanes")
    stream = RansStream(Reader(reader.take(reader.varint())), 1 << log_lanes)
    symbols = [symbol for frequencies, count in runs for symbol in stream.draw(frequencies, count)]
    stream.payload.close()
    return symbols, stream.states


class RansStream:
    """§4, rANS payload."""

    def __init__(self, payload: Reader, lanes: int) -> None:
        self.payload = payload
        self.states = read_table(payload, lambda bits: read_states(bits, lanes))
        self.drawn = 0

    def draw(self, frequencies: dict[int, int], count: int) -> list[int]:
        """The next symbols."""
        states, symbols = self.states, []
        symbol_of_slot = [symbol for symbol, frequency in frequencies.items() for _ in range(frequency)]
        below = dict(zip(frequencies, itertools.accumulate(frequencies.values(), initial=0), strict=False))
        for _ in range(count):
            lane = self.drawn % len(states)
            slot = states[lane] % 4096
            symbol = symbol_of_slot[slot]
            x = frequencies[symbol] * (states[lane] >> 12) + slot - below[symbol]
            states[lane] = x if x >= 1 << 16 else (x << 16) + self.payload.uint(2)
            symbols.append(symbol)
            self.drawn += 1
        return symbols


def read_states(bits: Bits, lanes: int) -> list[int]:
    """§4, rANS payload: the states, each from 2^16 to 2^32 - 1."""
    states = []
    for _ in range(lanes):
        length = 16 + bits.take(4)
        states.append((1 << length) + bits.take(length))
    return states


def decode_classes(reader: Reader, n: int) -> list[int]:
    """§4, coder 4: a table for each class, which is the sum of a row's and a column's level."""
    width = reader.varint()
    require(8 <= width <= 1 << 14 and n % width == 0, "the symbols do not form rows")
    height = n // width
    nibbles = reader.u8()
    row_levels, column_levels = 1 + nibbles % 16, 1 + nibbles // 16
    require(row_levels <= 8 and column_levels <= 8, "there are too many levels")
    require(row_levels > 1 or column_levels > 1, "there is only one class")
    level_bytes = reader.varint()
    require(level_bytes <= height + width + 4096, "the levels take too many bytes")
    row_counts, column_counts = read_table(
        reader,
        lambda bits: (read_level_counts(bits, row_levels, height), read_level_counts(bits, column_levels, width)),
    )
    counts = [0] * (row_levels + column_levels - 1)
    for (r, rows), (c, columns) in itertools.product(enumerate(row_counts), enumerate(column_counts)):
        counts[r + c] += rows * columns
    tables = read_class_tables(reader, counts)
    runs = [(table, counts[k]) for k, table in tables.items() if not isinstance(table, int)]
    symbols, states = decode_rans(reader, runs)
    levels = Reader(carried_bytes(states, level_bytes) + reader.take(max(0, level_bytes - 2 * len(states))))
    row_level = read_levels(levels, row_counts)
    column_level = read_levels(levels, column_counts)
    levels.close()
    return arrange(symbols, tables, counts, row_level, column_level)


def read_level_counts(bits: Bits, levels: int, total: int) -> list[int]:
    """§4, coder 4, step 3: how many of `total` rows or columns have each level."""
    counts = [bits.exp_golomb(7) for _ in range(levels - 1)]
    counts.append(total - sum(counts))
    require(counts[-1] >= 0, "there are more levels than rows or columns")
    return counts


def read_class_tables(reader: Reader, counts: list[int]) -> dict[int, int | dict[int, int]]:
    """§4, coder 4, step 4: for each class that has symbols the value of all of them, or their frequencies."""
    tables: dict[int, int | dict[int, int]] = {}
    expected = 128
    for k, count in enumerate(counts):
        if count == 0:
            continue
        coder = reader.u8()
        require(coder in (0, 3), "unknown coder of a class")
        if coder == 0:
            tables[k] = reader.u8()
        else:
            table = read_table(reader, partial(read_frequencies, expected=expected))
            expected, tables[k] = table.top, table.frequencies
    return tables


def carried_bytes(states: list[int], count: int) -> bytes:
    """§4, coder 4, step 5: what the final states carry, the first `count` bytes of it at most; the rest is zero."""
    require(all(x < 1 << 17 for x in states), "a rANS state does not end as it should")
    carried = b"".join(struct.pack("<H", x - (1 << 16)) for x in states)
    require(not any(carried[count:]), "the final rANS states carry too much")
    return carried[:count]


def read_levels(reader: Reader, counts: list[int]) -> list[int]:
    """§4, coder 4: the level of each row or column, of which there are as many as announced."""
    total = sum(counts)
    if len(counts) == 1:
        return [0] * total
    levels = decode_symbols(reader, total)
    require([levels.count(level) for level in range(len(counts))] == counts, "the levels are not those announced")
    return levels


def arrange(
    symbols: list[int], tables: dict[int, int | dict[int, int]], counts: list[int], rows: list[int], columns: list[int]
) -> list[int]:
    """§4, coder 4: the symbols, which come class by class, in their order in the block."""
    following: dict[int, Iterator[int]] = {}
    start = 0
    for k, table in tables.items():
        if isinstance(table, int):
            following[k] = itertools.repeat(table)
        else:
            following[k] = iter(symbols[start : start + counts[k]])
            start += counts[k]
    return [next(following[r + c]) for r in rows for c in columns]


def decode_sparse(reader: Reader, n: int) -> list[int]:
    """§4, coder 6: the commonest symbol but for the others, which come after gaps."""
    commonest, shift, count = reader.u8(), reader.u8(), reader.varint()
    require(shift <= 12, "the gaps have too many raw bits")
    require(count <= n // 4, "there are too many gaps")
    gaps = [0]  # each as its symbols say, the last one not ended yet
    for symbol in decode_symbols(reader, count):
        gaps[-1] += symbol
        if symbol != 255:
            gaps.append(0)
    require(gaps.pop() == 0, "the last gap does not end")
    low = Bits(reader.take(ceil_div(len(gaps) * shift, 8)))
    places = [(gap << shift) + low.take(shift) for gap in gaps]
    low.close()
    require(sum(places) + len(places) <= n, "the gaps do not fit")
    symbols = []
    for gap, other in zip(places, decode_symbols(reader, len(places)), strict=True):
        symbols += [commonest] * gap + [other]
    return symbols + [commonest] * (n - len(symbols))


# ---------------------------------------------------------------------------------------------------------------------
# §5 Planes
# ---------------------------------------------------------------------------------------------------------------------


def decode_planes(
    dtype: ElementType, reader: Reader, m: int, differenced: bool = False, composite: Composite = ANY
) -> list[int]:
    """§5: m elements as unsigned numbers."""
    form = reader.u8()
    if form == 0:
        return [reader.uint(dtype.size) for _ in range(m)]
    if form == 1:
        return decode_bytes(dtype, reader, m, differenced)
    if form == 2:
        require(dtype.is_float, "a split form of integers")
        return decode_split(dtype.size, reader, m, composite)
    require(form == 3, "unknown form of planes")
    entries = [reader.uint(dtype.size) for _ in range(reader.u8() + 1)]
    symbols = decode_symbols(reader, m)
    require(max(symbols) < len(entries), "a symbol beyond the dictionary")
    return [entries[symbol] for symbol in symbols]


def decode_bytes(dtype: ElementType, reader: Reader, m: int, differenced: bool) -> list[int]:
    """§5.1: a symbol stream for each byte of the elements."""
    planes = [decode_symbols(reader, m) for _ in range(dtype.size)]
    numbers = [int.from_bytes(bytes(element), "little") for element in zip(*planes, strict=True)]
    if dtype.is_float:
        top = 8 * dtype.size - 1
        return [(u >> 1) | ((u & 1) << top) for u in numbers]
    return undo_differences(numbers, 8 * dtype.size) if differenced else numbers


SEGMENT = 512  # §5.2


def decode_split(size: int, reader: Reader, m: int, composite: Composite) -> list[int]:
    """§5.2: symbols for the top bits of the magnitudes, the other bits raw."""
    flags = reader.u8()
    sparse, signs, k = bool(flags & 1), flags >> 1 & 1, flags >> 2
    top = reader.u8()
    low = 8 * size - 1 - top
    require(k <= 7 and (k == 0 or (size > 2 and not sparse)), "bad flags")
    require(1 <= top <= min(16, 8 * size - 1) and low >= k, "bad number of top bits")
    base = reader.varint()
    require(base < 1 << 32, "the base is too large")
    zeros = decode_symbols(reader, ceil_div(m, SEGMENT))
    require(max(zeros) <= low - k, "too many zero bits")
    raw = Reader(reader.take(reader.varint()))
    escapes = read_split_escapes(reader, m, top)
    last = decode_symbols(reader, m) if k else [0] * m
    require(max(last) < 1 << k, "a symbol for the last bits is too large")
    symbols = decode_symbols(reader, m, composite)
    require(all(symbols[position] == sparse for position in escapes), "an escape has another symbol")
    elements = []
    for start in range(0, m, SEGMENT):
        drop = zeros[start // SEGMENT]
        kept = [i for i in range(start, min(start + SEGMENT, m)) if symbols[i] or not sparse]
        numbers = dict(zip(kept, read_slices(raw, len(kept), low - k - drop + signs), strict=True))
        for i in range(start, min(start + SEGMENT, m)):
            number = numbers.get(i, 0) << (k + drop)
            t = (base + symbols[i] - sparse) % (1 << top) if symbols[i] > sparse else escapes.get(i, 0)
            sign, rest = number >> low, number & ((1 << low) - 1)
            elements.append((sign << (8 * size - 1)) | (t << low) | rest | last[i])
    raw.close()
    return elements


def read_slices(reader: Reader, n: int, width: int) -> list[int]:
    """§5.2, step 4: n numbers of `width` bits."""
    numbers = [0] * n
    widths = [8] * (width // 8) + [bits for bits in (4, 2, 1) if width & bits]
    shift = 0
    for bits in widths:
        data = reader.take(ceil_div(n * bits, 8))
        for place in range(len(data) * 8 // bits):
            value = (data[place % len(data)] >> (bits * (place // len(data)))) & ((1 << bits) - 1)
            if place < n:
                numbers[place] |= value << shift
            else:
                require(value == 0, "the padding of a slice is not zero")
        shift += bits
    return numbers


def read_packed(reader: Reader, n: int, width: int) -> list[int]:
    """§6, step 2: n numbers of `width` bits, segments of slices."""
    return [v for start in range(0, n, 512) for v in read_slices(reader, min(512, n - start), width)]


def read_split_escapes(reader: Reader, m: int, top: int) -> dict[int, int]:
    """§5.2, step 5: the top bits that no symbol stands for, by position."""
    count = reader.varint()
    require(count <= m, "there are more escapes than elements")
    if count == 0:
        return {}
    positions = read_positions(reader, count, m)
    tops = [reader.uint(2) for _ in range(count)]
    require(max(tops) < 1 << top, "an escape is too large")
    return dict(zip(positions, tops, strict=True))


def read_positions(reader: Reader, count: int, n: int) -> list[int]:
    """§5.2 and §6.1: rising positions below n, each as the gap from the one before, less 1."""
    gaps = reader.coded_numbers(count)
    positions = list(itertools.accumulate((gap + 1 for gap in gaps), initial=-1))[1:]
    require(positions[-1] < n, "a position lies beyond the last element")
    return positions


def undo_differences(numbers: Iterable[int], bits: int) -> list[int]:
    """§5.1: each number is the zigzag of the difference from the one before, modulo 2^bits."""
    mask = (1 << bits) - 1
    return list(itertools.accumulate((unzigzag(u) & mask for u in numbers), lambda a, b: (a + b) & mask))


# ---------------------------------------------------------------------------------------------------------------------
# §6 Lattice blocks
# ---------------------------------------------------------------------------------------------------------------------


def decode_lattice(
    header: Header,
    mode: int,
    reader: Reader,
    extent: tuple[int, ...],
    places: list[int],
    reference: NDArray[Any] | None,
) -> list[int]:
    """§6: the elements of a lattice block. `extent` is the size of its tile."""
    n = len(places)
    if mode:
        allowed = header.low_bits == 0 and header.predictor in (NO_PREDICTOR, LORENZO, REFERENCE)
        require(allowed, "a short block in a frame that has none")
    outliers = {} if mode else read_outliers(header.dtype, reader, n)
    if header.predictor == INTERPOLATION:
        values = to_dtype(Interpolation(header, reader, extent).values.reshape(-1), header.dtype)
        elements = values.view(header.dtype.unsigned()).tolist()
        return elements_with(elements, outliers)
    if header.predictor == REPEAT:
        q = read_repeated(reader, n, header.lag)
        return elements_with(reconstruct(header, q, [0] * n, places).view(header.dtype.unsigned()).tolist(), outliers)
    low = read_packed(reader, n, header.low_bits)
    prediction = read_regression(header, reader, extent) if header.predictor == REGRESSION else [0] * n
    residuals = read_short(mode, reader, n) if mode else read_residuals(header, reader, n, extent, places[0])
    if header.predictor == LORENZO:
        q = undo_lorenzo(residuals, extent)
    elif header.predictor == REFERENCE:
        assert reference is not None
        q, low = add_reference(header, residuals, low, reference[places], places)
    else:
        q = [wrap32(r + p) for r, p in zip(residuals, prediction, strict=True)]
    elements = reconstruct(header, q, low, places).view(header.dtype.unsigned()).tolist()
    return elements_with(elements, outliers)


def elements_with(elements: list[int], outliers: dict[int, int]) -> list[int]:
    """§6.6: outliers in their places."""
    for position, element in outliers.items():
        elements[position] = element
    return elements


def read_outliers(dtype: ElementType, reader: Reader, n: int) -> dict[int, int]:
    """§6.1: the elements which the lattice does not hold, by position."""
    m = reader.varint()
    require(m <= n, "there are more outliers than elements")
    if m == 0:
        return {}
    positions = read_positions(reader, m, n)
    return dict(zip(positions, decode_planes(dtype, reader, m, composite=PLAIN), strict=True))


def read_repeated(reader: Reader, n: int, lag: int) -> list[int]:
    """§12: lattice integers, each predicted by the one `lag` before it."""
    q: list[int] = []
    for count in (min(lag, n), n - min(lag, n)):
        if count:
            form = reader.u8()
            part = read_dominant(reader, count, PLAIN) if form == 1 else read_simple(form, reader, count, PLAIN)
            for r in part:
                q.append(wrap32(r + q[-lag]) if len(q) >= lag else r)
    return q


def read_repeated_planes(dtype: ElementType, reader: Reader, n: int, lag: int) -> list[int]:
    """§12, kind 0: the elements, each predicted by the one `lag` before it."""
    elements = decode_planes(dtype, reader, min(lag, n), composite=PLAIN)
    if n > lag:
        for difference in decode_planes(integer_of(dtype), reader, n - lag):
            elements += add_patterns(dtype, [difference], [elements[-lag]])
    return elements


def read_residuals(header: Header, reader: Reader, n: int, extent: tuple[int, ...], first: int) -> list[int]:
    """§6.4: the residuals of a tile, whose first element is element `first` of the tensor."""
    form = reader.u8()
    if form == 1:
        return read_dominant(reader, n)
    if form != 3:
        return read_simple(form, reader, n)
    require(header.mixed, "mixed residuals without field 7")
    flat = len(extent) == 1
    width = row_length(header.shape) if flat else extent[-1]
    stream = reader.take(reader.left())
    require(n + 8 * len(stream) >= 256 and n <= 4096 * len(stream), "mixed residuals out of too few bytes")
    return decode_mixed(stream, n, width if width > 1 else 0, first % width if flat else 0)


def read_simple(form: int, reader: Reader, n: int, composite: Composite = ANY) -> list[int]:
    """§6.4, forms 0 and 2."""
    if form == 0:
        return read_direct(reader, n, composite)
    require(form == 2, "unknown form of residuals")
    return read_numbered(reader, n, composite)


def read_short(mode: int, reader: Reader, n: int) -> list[int]:
    """§6, short blocks: the mode says k and whether there is a base."""
    k = mode - (48 if mode >= 48 else 16)
    base = reader.svarint32() if mode >= 48 else -128
    low = read_packed(reader, n, k)
    high = high_parts(decode_short_rans(reader, n), base, None)
    return [wrap32((h << k) + bits) for h, bits in zip(high, low, strict=True)]


def read_direct(reader: Reader, n: int, composite: Composite) -> list[int]:
    """§6.4, form 0."""
    k = reader.u8()
    require(k <= 24, "too many low bits of residuals")
    base = reader.svarint32()
    flags = reader.u8()
    require(flags <= 1, "unknown flags of residuals")
    escapes = read_escapes(reader, n) if flags & 1 else None
    low = read_packed(reader, n, k)
    high = high_parts(decode_symbols(reader, n, composite), base, escapes)
    return [wrap32((h << k) + bits) for h, bits in zip(high, low, strict=True)]


def read_dominant(reader: Reader, n: int, composite: Composite = ANY) -> list[int]:
    """§6.4, form 1: flags tell where the residual is another than the dominant one."""
    dominant = reader.svarint32()
    m = reader.varint()
    require(m <= n, "there are more others than positions")
    unsorted = tuple(coder for coder in composite if coder != CLASSES)
    flags = decode_symbols(reader, n, unsorted)
    require(flags.count(1) == m and flags.count(0) == n - m, "the flags do not match the number of others")
    following = iter(read_simple(reader.u8(), reader, m, unsorted) if m else [])
    return [next(following) if flag else dominant for flag in flags]


def read_numbered(reader: Reader, n: int, composite: Composite) -> list[int]:
    """§6.4, form 2: each residual is an entry of a palette."""
    more = reader.u8()
    first = reader.svarint32()
    steps = reader.coded_numbers(more) if more else []
    entries = list(itertools.accumulate((step + 1 for step in steps), initial=first))
    require(entries[-1] < 1 << 31, "an entry of the palette is beyond 32 bits")
    symbols = decode_symbols(reader, n, composite)
    require(max(symbols, default=0) < len(entries), "a symbol is beyond the palette")
    return [entries[symbol] for symbol in symbols]


def read_escapes(reader: Reader, n: int) -> list[int]:
    """§6.4: the high parts which symbols cannot express."""
    count = reader.varint()
    require(1 <= count <= n, "the number of escapes is out of range")
    return [unzigzag32(u) for u in reader.coded_numbers(count)]


def high_parts(symbols: list[int], base: int, escapes: list[int] | None) -> list[int]:
    """§6.4: the symbol is added to the base; but with escapes, 0 stands for the next of these."""
    if escapes is None:
        return [base + symbol for symbol in symbols]
    require(symbols.count(0) == len(escapes), "the number of escapes does not match the symbols")
    following = iter(escapes)
    return [base + symbol if symbol else next(following) for symbol in symbols]


def undo_lorenzo(residuals: list[int], extent: tuple[int, ...]) -> list[int]:
    """§6.5: sum along each axis of the tile in turn."""
    q = list(residuals)
    for size, stride in zip(extent, strides(extent), strict=True):
        for i in range(len(q)):
            if i // stride % size:
                q[i] = wrap32(q[i] + q[i - stride])
    return q


def reconstruct(header: Header, q: list[int], low: list[int], places: list[int]) -> NDArray[Any]:
    """§6.6: from lattice integers to values of the dtype."""
    with np.errstate(all="ignore"):
        if header.kind == LINEAR32:
            values: NDArray[Any] = np.array(q, dtype=np.int32).astype(np.float32) * np.float32(header.step)
        elif header.kind == LINEAR64:
            wide = [(h << header.low_bits) + bits for h, bits in zip(q, low, strict=True)]
            values = np.array(wide, dtype=np.int64).astype(np.float64) * np.array(element_steps(header, places))
        else:
            values = np.array([geometric_value(v, header) for v in q], dtype=np.float64)
        return to_dtype(values, header.dtype)


def element_steps(header: Header, places: list[int]) -> list[float]:
    """§6.6, kind 2: the step of each element."""
    if not header.axis_steps:
        return [header.step] * len(places)
    stride = strides(header.shape)[header.axis]
    size = header.shape[header.axis]
    return [header.axis_steps[place // stride % size] for place in places]


def to_dtype(values: NDArray[Any], dtype: ElementType) -> NDArray[Any]:
    """§6.6: float16 and bfloat16 come from float32, also where that means rounding twice."""
    if dtype == FLOAT64:
        return values
    return values.astype(np.float32).astype(dtype.array)


# ---------------------------------------------------------------------------------------------------------------------
# §7 Regression
# ---------------------------------------------------------------------------------------------------------------------


def read_regression(header: Header, reader: Reader, extent: tuple[int, ...]) -> list[int]:
    """§7: the prediction of every element of the tile."""
    boxes = list(tile_boxes(extent, [header.edge] * len(extent)))
    columns = [read_coefficients(reader, len(boxes)) for _ in range(len(extent) + 1)]
    prediction = [0] * math.prod(extent)
    for box, coefficients in zip(boxes, zip(*columns, strict=True), strict=True):
        plane = plane_values(box, coefficients, header.fraction)
        for place, value in zip(indices(box, extent), plane, strict=True):
            prediction[place] = value
    return prediction


def read_coefficients(reader: Reader, boxes: int) -> list[int]:
    """§7: one coefficient of every sub-block, each as the difference from that of the sub-block before."""
    changes = [unzigzag32(u) for u in reader.coded_numbers(boxes)]
    return list(itertools.accumulate(changes, lambda before, change: wrap32(before + change)))


def plane_values(box: tuple[range, ...], coefficients: tuple[int, ...], fraction: int) -> list[int]:
    """§7: the plane at each place of a sub-block, in C order."""
    constant, *slopes = coefficients
    half = 1 << (fraction - 1) if fraction else 0
    terms = ([slope * i for i in range(len(axis))] for slope, axis in zip(slopes, box, strict=True))
    return [(constant + sum(position) + half) >> fraction for position in itertools.product(*terms)]


# ---------------------------------------------------------------------------------------------------------------------
# §8 Geometric lattice
# ---------------------------------------------------------------------------------------------------------------------


@cache
def roots() -> list[int]:
    """§8: R_k = 2^(2^-k), with 63 fractional bits."""
    result = [1 << 64]
    for _ in range(48):
        result.append(math.isqrt(result[-1] << 63))
    return result


def byte_product(f: int, p: int) -> int:
    """§8: T_p, the product of the roots which byte p (0 is the highest) of the 48-bit f selects."""
    byte = (f >> (40 - 8 * p)) & 0xFF
    product = 1 << 63
    for t in range(1, 9):
        if byte >> (8 - t) & 1:
            product = (product * roots()[8 * p + t]) >> 63
    return product


def mantissa(f: int) -> int:
    """§8: the top 53 bits M of 2^(f / 2^48), computed with 64."""
    m = byte_product(f, 0)
    for p in range(1, 6):
        m = (m * byte_product(f, p)) >> 63
    return m >> 11


def scale(significand: int, exponent: int) -> float:
    """§8: significand x 2^exponent, rounded once to float64; the significand has 53 bits."""
    if exponent > 1023 - 52:
        return math.inf
    shift = max(-1074 - exponent, 0)  # subnormal numbers lose this many bits
    if shift > 54:
        return 0.0
    whole, rest = divmod(significand, 1 << shift)
    half_way = (1 << shift) >> 1
    if rest > half_way or (shift and rest == half_way and whole & 1):
        whole += 1
    return math.ldexp(whole, exponent + shift)  # exact


def geometric_value(q: int, header: Header) -> float:
    """§8: the value of a geometric lattice integer."""
    if q == 0:
        return 0.0
    a = (q - 1) % (1 << 32)
    negative = header.signs and a & 1
    i = (a >> 1 if header.signs else a) + header.first
    e, j = divmod(i, header.points)
    f = (j << 48) // header.points
    return math.copysign(scale(mantissa(f), e - 52), -1.0 if negative else 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# §9 Mixed residuals
# ---------------------------------------------------------------------------------------------------------------------


def limit(v: int, low: int, high: int) -> int:
    """§9: [v]low..high"""
    return max(low, min(v, high))


def toward_zero(a: int, b: int) -> int:
    """§9: a / b for b > 0, rounded towards zero."""
    return a // b if a >= 0 else -(-a // b)


@cache
def fall_table() -> list[int]:
    """§9: F"""
    powers = itertools.accumulate(range(255), lambda x, _: x * 4283353945 >> 32, initial=1 << 32)
    return [x >> 16 for x in powers]


@cache
def squash_table() -> list[int]:
    """§9: squash(-2815), ..., squash(2815)"""
    powers = itertools.accumulate(range(2815), lambda x, _: x * 4278222805 >> 32, initial=1 << 32)
    upper = [min(65535, (1 << 48) // ((1 << 32) + x)) for x in powers]
    return [65536 - p for p in upper[:0:-1]] + upper


@cache
def stretch_table() -> list[int]:
    """§9: stretch"""
    return [bisect.bisect_right(squash_table(), 16 * i + 8) - 1 - 2815 for i in range(4096)]


@cache
def info_table() -> list[int]:
    """§9: info"""
    fall = fall_table()
    return [max(1, (1 << 24) // (65536 + ((256 * fall[16 * (i % 16)]) >> (i // 16)))) for i in range(256)]


def squash(d: int) -> int:
    """§9: log-odds to a probability."""
    return squash_table()[d + 2815]


def log2(v: int) -> int:
    """§9: lg"""
    e = v.bit_length() - 1
    return 256 * e + ((v << 8) >> e) % 256


def half_octaves(v: int) -> int:
    """§9: Q"""
    a = abs(v)
    steps = 0 if a < 64 else 15 if a >= 1 << 30 else min(15, (log2(a) - 1536) // 128 + 1)
    return 16 + steps if v >= 0 else 16 - steps


def level(s: int) -> int:
    """§9: L"""
    return limit((s + 1536) >> 5, 0, 95)


def normalise(a: int, s: int) -> int:
    """§9: norm"""
    return min(1 << 20, (min(a, (1 << 24) - 1) * fall_table()[s % 256]) >> (8 + (s >> 8)))


AXES = 4  # §9


class Arithmetic:
    """§9: the arithmetic decoder."""

    def __init__(self, payload: bytes) -> None:
        require(not payload or payload[-1] != 0, "a zero byte ends the payload")
        self.payload = payload
        self.position = 8
        self.range = (1 << 64) - 1
        self.code = int.from_bytes(payload[:8].ljust(8, b"\0"), "big")
        require(self.code < self.range, "the arithmetic code starts out of range")

    def _refill(self) -> None:
        if self.range < 1 << 32:
            following = self.payload[self.position : self.position + 4].ljust(4, b"\0")
            self.range <<= 32
            self.code = (self.code << 32) + int.from_bytes(following, "big")
            self.position += 4

    def decision(self, p: int) -> int:
        """A bit that is 1 with probability p / 65536."""
        bound = (self.range >> 16) * p
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        self._refill()
        return bit

    def raw(self, k: int) -> int:
        """k equally probable bits."""
        if k > 16:
            return (self.raw(k - 16) << 16) + self.raw(16)
        if k == 0:
            return 0
        self.range >>= k
        v = self.code // self.range
        require(v >> k == 0, "the arithmetic code is out of range")
        self.code -= v * self.range
        self._refill()
        return v

    def close(self) -> None:
        """All bytes must have been read."""
        require(self.position >= len(self.payload), "bytes are left after the last residual")


class Slot:
    """§9: an adaptive probability."""

    def __init__(self) -> None:
        self.p = 1 << 21
        self.count = 0

    def learn(self, bit: int) -> None:
        """Move towards the bit, ever more slowly."""
        rate = 131072 // (2 * self.count + 3)
        self.p += (((bit << 22) - self.p) * rate) >> 16
        self.count = min(self.count + 1, 1000)


class Column:
    """§9: what is remembered of a column."""

    def __init__(self) -> None:
        self.scale = self.info = self.mean = self.recent = 0
        self.trend = self.offset = self.size = 0
        self.axes = [0] * AXES


class MixedResiduals:
    """§9: the decoder's state."""

    def __init__(self, stream: bytes, width: int, phase: int) -> None:
        require(len(stream) > 0, "the data ends too early")
        self.code = Arithmetic(stream[1:])
        self.width = width if 1 <= width <= 65536 else 1024
        self.j = phase % self.width
        self.columns = [Column() for _ in range(self.width)]
        self.rows = 0
        self.mean_scale = (stream[0] - 64) * 8192
        self._begin_row()
        self.slots: dict[tuple[int, int], Slot] = defaultdict(Slot)
        self.signs: dict[tuple[int, int], Slot] = defaultdict(Slot)
        self.by_node: dict[tuple[int, int], list[int]] = defaultdict(lambda: [4681] * 7)
        self.by_trust: dict[int, list[int]] = defaultdict(lambda: [4681] * 7)
        self.by_class: dict[int, list[int]] = defaultdict(lambda: [8192] * 4)
        self.by_sign = [8192] * 4
        self.used = [0] * 64

    def _begin_row(self) -> None:
        self.row_scale = self.mean_scale
        self.row_info = 0
        self.along, self.length, self.share = [0] * AXES, [0] * AXES, [0] * AXES
        self.left = self.left2 = 256

    def _mix(self, slots: list[Slot], a: list[int], b: list[int], rate: int) -> int:
        """§9, Mixing: one decision."""
        inputs = [stretch_table()[slot.p >> 10] for slot in slots]
        p = squash(limit(sum(t * (v + w) for t, v, w in zip(inputs, a, b, strict=True)) >> 16, -2815, 2815))
        bit = self.code.decision(p)
        e = ((65536 * bit - p) * rate) >> 6
        for i, t in enumerate(inputs):
            change = (t * e + 32768) >> 16
            a[i] = limit(a[i] + change, -57344, 57344)
            b[i] = limit(b[i] + change, -57344, 57344)
        for slot in slots:
            slot.learn(bit)
        return bit

    def _next_row(self) -> None:
        """§9, When a row is complete."""
        for k in range(min(AXES, self.rows)):
            self._turn_axis(k)
        if self.rows < AXES:
            for c in self.columns:
                c.axes[self.rows] = limit(c.offset, -32768, 32767)
        self.mean_scale += toward_zero(self.row_scale - self.mean_scale, min(self.rows + 1, 64))
        self._begin_row()
        self.rows += 1
        self.j = 0

    def _turn_axis(self, k: int) -> None:
        """§9, When a row is complete: for one k."""
        a = toward_zero(sum(c.offset * c.axes[k] for c in self.columns), self.width) >> 12
        a = limit(a, -16384, 16384)
        d = min(self.rows + 1 - k, 20)
        for c in self.columns:
            c.offset -= (a * c.axes[k]) >> 12
            c.axes[k] = limit(c.axes[k] + toward_zero((a * c.offset) >> 12, d), -32768, 32767)

    def next(self) -> int:
        """§9, A value."""
        if self.j == self.width:
            self._next_row()
        c = self.columns[self.j]
        s = limit((self.row_scale + c.scale) >> 8, -2047, 5888)  # step 1
        k = max((s >> 8) - 2, 0)
        if self.j % 4 == 0:
            shares = zip(self.along, self.length, strict=True)
            self.share = [limit(toward_zero(4096 * a, b + 81920), -65536, 65536) for a, b in shares]
        parts = [(share * axis) >> 12 for share, axis in zip(self.share, c.axes, strict=True)]
        al = sum(parts)
        mu = c.mean + al
        decide = self._decider(c, s, k, mu)
        a = self._magnitude(decide, k, limit(s >> 8, 0, 2))
        negative = a > 0 and self._sign(c, a, s, k, mu, al) == 1
        self._learn(c, a, s, negative, parts)
        self.j += 1
        return wrap32(-a if negative else a)

    def _decider(self, c: Column, s: int, k: int, mu: int) -> Callable[[int], int]:
        """Step 2: D"""
        j, kind, b = self.j, min(k, 3), 256 * k
        before = self.columns[j - 1].size if j > 0 else 0
        after = self.columns[j + 1].size if j + 1 < self.width else 0
        near = log2(2 * self.left + self.left2 + 2 * c.size + before + after + 64) - log2(1856)
        h, r = s - b, (self.row_scale >> 8) - b
        up = 0 if c.size <= 200 else 1 if c.size <= 500 else 2
        rows = [
            4 * level(h) + kind + 384 * up,
            4 * level(h) + kind + 1152 + 384 * limit((half_octaves(abs(mu)) - 16) // 2 - 4, 0, 3),
            2688 + 12 * limit((c.scale >> 14) + 12, 0, 31) + level(r) // 8,
            4 * level(h + toward_zero(near, 2)) + kind + 3072,
            4 * level(h + (c.trend >> 8)) + kind + 3456,
            4 * level(r) + kind + 3840,
            4 * level(((self.mean_scale + c.scale) >> 8) - b) + kind + 4224,
        ]
        trust = 8 * min((j + 1).bit_length() - 1, 8) + min(((c.info >> 8) + 1).bit_length() - 1, 7)

        def decide(node: int) -> int:
            slots = [self.slots[row, node] for row in rows]
            rate = 4 + 600 // (self.used[node] + 8)
            self.used[node] = min(self.used[node] + 1, 255)
            return self._mix(slots, self.by_node[node, kind], self.by_trust[trust], rate)

        return decide

    def _magnitude(self, decide: Callable[[int], int], k: int, t: int) -> int:
        """Steps 3 and 4."""
        if decide(20 + t):
            e = t + 1
            while e < 15 and decide(e):
                e += 1
        else:
            e = t
            while e > 0 and not decide(15 + e):
                e -= 1
        if e == 15:
            size = self.code.raw(5) + 14 + k
            require(size <= 31, "a magnitude is beyond 32 bits")
            return (1 << size) + self.code.raw(size)
        size = max(e - 1, 0) + k
        require(size <= 31, "a magnitude is beyond 32 bits")
        q = min(size, 1 if e < 2 else 2 if e == 2 else 3)
        c = 1
        for _ in range(q):
            c = 2 * c + decide(24 + 8 * min(e, 4) + c)
        return (((1 << q if e > 0 else 0) + c - (1 << q)) << (size - q)) + self.code.raw(size - q)

    def _sign(self, c: Column, a: int, s: int, k: int, mu: int, al: int) -> int:
        """Step 5."""
        z = min(normalise(a, s), 2047)
        g = min((a >> k).bit_length(), 7)
        slots = [
            self.signs[0, 8 * half_octaves((c.mean * z) >> 6) + g],
            self.signs[1, half_octaves((c.recent * z) >> 6)],
            self.signs[2, 8 * half_octaves((mu * z) >> 6) + g],
            self.signs[3, half_octaves((al * z) >> 6)],
        ]
        return self._mix(slots, self.by_class[g], self.by_sign, 10)

    def _learn(self, c: Column, a: int, s: int, negative: bool, parts: list[int]) -> None:
        """Step 6."""
        most = 1024 + ((512 * fall_table()[s % 256]) >> (16 + (s >> 8)) if s < 512 else 0)
        z = min(normalise(a, s), most)
        i = info_table()[min((s + 2048) >> 4, 255)]
        u = (z - 256) * i
        v = -16 * z if negative else 16 * z

        def step(x: int) -> int:
            return limit(toward_zero(369 * u, x + 2000), -65536, 65536)

        self.row_info = min(self.row_info + i, 131072)
        self.row_scale = limit(self.row_scale + step(self.row_info), -589824, 1572864)
        c.info = min(c.info + i, 262144)
        c.scale = limit(c.scale + step(c.info), -1048576, 1048576)
        c.trend += (u - c.trend) >> 4
        c.offset = limit(v - c.mean, -16384, 16384)
        rest = c.offset
        for k, axis in enumerate(c.axes):
            self.along[k] += (rest * axis) >> 12
            self.length[k] += (axis * axis) >> 12
            rest -= parts[k]
        c.recent += toward_zero(v - c.recent, 8)
        c.mean += toward_zero(v - c.mean, min((c.info >> 8) + 4, 512))
        self.left2 = self.left
        self.left = c.size = min(z, 1024)


def decode_mixed(stream: bytes, n: int, width: int, phase: int) -> list[int]:
    """§9: n residuals in rows of `width`, the first in column `phase` modulo that, from all of the stream."""
    state = MixedResiduals(stream, width, phase)
    residuals = [state.next() for _ in range(n)]
    state.code.close()
    return residuals


# ---------------------------------------------------------------------------------------------------------------------
# §10 Reference
# ---------------------------------------------------------------------------------------------------------------------

MASK64 = (1 << 64) - 1


def digest(elements: Sequence[int], first: int) -> int:
    """§10: the digest of elements as unsigned numbers, the first of which is element `first` of its tensor."""
    total = 0
    for place, u in enumerate(elements, first):
        z = (u + (place + 1) * 0x9E3779B97F4A7C15) & MASK64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK64
        total += z ^ z >> 31
    return total & MASK64


def reference_elements(header: Header, reference: NDArray[Any] | None) -> NDArray[Any] | None:
    """§10: the reference's elements in a row, each block's digest compared; None where the frame needs none."""
    if header.predictor != REFERENCE:
        return None
    dtype = header.reference_dtype
    assert dtype is not None
    if reference is None or reference.dtype != dtype.array or reference.shape != header.shape:
        raise WrongReference("no reference, or of another dtype or shape")
    flat = np.ascontiguousarray(reference).reshape(-1).view(dtype.unsigned())
    for (box,), wanted in zip(tile_boxes(header.dims, header.tile), header.digests, strict=True):
        if digest(flat[box.start : box.stop].tolist(), box.start) != wanted:
            raise WrongReference("other values")
    return flat


def integer_of(dtype: ElementType) -> ElementType:
    """§5.1, §10: differences are integers of the element's size."""
    return ElementType(dtype.unsigned(), dtype.size, 1, False)


def add_patterns(dtype: ElementType, numbers: list[int], reference: list[int]) -> list[int]:
    """§10, kind 0: from differences of the patterns' order to patterns."""
    half, whole = 1 << (8 * dtype.size - 1), 1 << (8 * dtype.size)

    def order(u: int) -> int:
        return u if not dtype.is_float else u + half if u < half else whole - 1 - u

    def pattern(o: int) -> int:
        return o if not dtype.is_float else o - half if o >= half else whole - 1 - o

    return [pattern((order(v) + unzigzag(u)) % whole) for u, v in zip(numbers, reference, strict=True)]


def add_reference(
    header: Header, residuals: list[int], low: list[int], reference: NDArray[Any], places: list[int]
) -> tuple[list[int], list[int]]:
    """§10, kinds 1 to 3: lattice integers and low bits of a block, from its residuals."""
    assert header.reference_dtype is not None
    values = reference.view(header.reference_dtype.array)
    if header.kind != LINEAR64:
        predict = predict_linear32 if header.kind == LINEAR32 else predict_geometric
        return [wrap32(r + p) for r, p in zip(residuals, predict(header, values), strict=True)], low
    with np.errstate(all="ignore"):
        t = values.astype(np.float64) * (np.float64(1) / np.array(element_steps(header, places)))
    wide = header.low_bits
    sums = [
        ((r << wide) + bits + p) % (1 << (32 + wide))
        for r, bits, p in zip(residuals, low, rounded(t, 2.0**51), strict=True)
    ]
    return [wrap32(v >> wide) for v in sums], [v & ((1 << wide) - 1) for v in sums]


def rounded(t: NDArray[Any], limit: float) -> list[int]:
    """§10: to the nearest integer, to even; 0 from the limit on, and for NaN."""
    return [round(v) if abs(v) < limit else 0 for v in t.tolist()]


def predict_linear32(header: Header, values: NDArray[Any]) -> list[int]:
    """§10, kind 1."""
    with np.errstate(all="ignore"):
        inverse = np.float32(1) / np.float32(header.step)
        return rounded(values.astype(np.float32) * inverse, 2.0**22)


def predict_geometric(header: Header, values: NDArray[Any]) -> list[int]:
    """§10, kind 3."""
    with np.errstate(all="ignore"):
        return [geometric_place(float(x), header) for x in values.astype(np.float64)]


def geometric_place(x: float, header: Header) -> int:
    """§10, kind 3: the lattice integer near a value."""
    if not 2.0**-1022 <= abs(x) < math.inf:
        return 0
    m, e = math.frexp(abs(x))
    m, e, s = 2 * m, e - 1, 0.0
    if m > 1.4142135623730951:
        m, s = m * 0.5, 1.0
    z = (m - 1) / (m + 1)
    total = 0.0
    for denominator in range(23, 0, -2):
        total = total * (z * z) + 1 / denominator
    v = float(e * header.points) + (s + 2.8853900817779268 * z * total) * header.points
    i = math.trunc(v + (-0.5 if v < 0 else 0.5)) - header.first
    if not 0 <= i < (1 << 30) - 1:
        return 0
    return 2 * i + 1 + (x < 0) if header.signs else i + 1


# ---------------------------------------------------------------------------------------------------------------------
# §11 Interpolation
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """§11.5: neighbouring classes that share a table, or have but one symbol."""

    first: int
    frequencies: dict[int, int] | None
    symbol: int
    k: int


@dataclass
class Stage:
    """§11: the elements that one axis of one level makes known, as places along each axis."""

    axis: int
    level: int
    places: tuple[range, ...]
    weights: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))  # the border's last
    border: int | None = None  # the place along the axis that has no known one behind it
    groups: tuple[Group, ...] = ()

    def crossed(self) -> list[int]:
        """The axes across which taps go."""
        return [b for b in range(4) if b != self.axis and len(self.places[b]) > 1]


class Interpolation:
    """§11: a tile, from its part of the block."""

    def __init__(self, header: Header, reader: Reader, extent: tuple[int, ...]) -> None:
        self.extent = (1,) * (4 - len(extent)) + extent
        self.work = np.dtype(np.float32 if header.kind == LINEAR32 else np.float64)
        self.values = np.zeros(self.extent, dtype=self.work)
        self.levels = (max(extent) - 1).bit_length()
        flags, order = reader.u8(), reader.u8()
        self.axes = [order >> (2 * i) & 3 for i in range(4)]
        require(flags <= 3 and sorted(self.axes) == [0, 1, 2, 3], "the interpolation is out of range")
        self.zeros = self.read_zeros(reader) if flags & 1 else None
        first = reader.svarint32()
        factors = [reader.u8() if flags & 2 else 64 for _ in range(self.levels)][::-1] or [64]
        require(all(1 <= factor <= 64 for factor in factors), "a level's factor is out of range")
        self.steps = [self.work.type(header.step * factor / 64) for factor in factors]
        self.unit = self.work.type(header.step / header.parts if header.parts else 0)
        self.tables: list[tuple[dict[int, int], int]] = []
        stages = list(self.stages())
        for stage in stages:
            self.read_stage(reader, stage)
        self.read_payloads(reader, math.prod(extent))
        with np.errstate(all="ignore"):
            self.put((0, 0, 0, 0), self.work.type(0), first, self.steps[-1])
            for stage in stages:
                self.decode_stage(stage)
        require(next(self.escapes, None) is None, "there are more escapes than needed")
        self.low.close()
        self.rans.payload.close()
        require(all(x == 1 << 16 for x in self.rans.states), "a rANS state does not end as it should")

    def read_zeros(self, reader: Reader) -> NDArray[Any]:
        """§11.2: where the mask has zeros."""
        n = math.prod(self.extent)
        bits = Bits(bytes(decode_symbols(reader, ceil_div(n, 8), (SPARSE,))))
        row = self.extent[3] if self.extent[3] < n else 1
        zeros: list[int] = []
        for i in range(n):
            zeros.append(bits.take(1) ^ (zeros[i - row] if i >= row else 0))
        bits.close()
        return np.array(zeros, dtype=bool).reshape(self.extent)

    def stages(self) -> Iterator[Stage]:
        """§11: all stages that have elements."""
        for level in range(self.levels - 1, -1, -1):
            spacing = [2 << level] * 4
            for axis in self.axes:
                start = [0] * 4
                start[axis] = 1 << level
                places = tuple(range(start[b], self.extent[b], spacing[b]) for b in range(4))
                spacing[axis] = 1 << level
                known = len(range(0, self.extent[axis], 2 << level))
                border = known - 1 if len(places[axis]) == known else None
                if len(places[axis]):
                    yield Stage(axis, level, places, border=border)

    def read_stage(self, reader: Reader, stage: Stage) -> None:
        """§11.5."""
        flags = reader.u8()
        require(flags <= (31 if stage.border is None else 63), "unknown flags of a stage")
        crossed = stage.crossed()
        before = [b for b in crossed if b != 3]
        pairs = math.comb(len(crossed), 2) + 2 * math.comb(len(before), 2)
        taps = 1 + len(crossed) + pairs + 2 * len(before)
        weights = [-32] + [0] * (taps - 1)
        if flags & 16:
            weights = self.read_weights(reader, taps)
        stage.weights = (weights, self.read_weights(reader, taps) if flags & 32 else weights)
        firsts = [0] + [reader.u8() for _ in range(flags & 15)]
        require(all(a < b < 64 for a, b in itertools.pairwise(firsts)), "the classes of groups do not rise")
        stage.groups = tuple(self.read_group(reader, first) for first in firsts)

    def read_weights(self, reader: Reader, taps: int) -> list[int]:
        """§11.5."""
        coded = [reader.varint() for _ in range(taps)]
        require(all(u < 1 << 15 for u in coded), "a weight is out of range")
        return [unzigzag(u) for u in coded]

    def read_group(self, reader: Reader, first: int) -> Group:
        """§11.5, the tag and what follows."""
        tag = reader.u8()
        symbol = reader.u8() if tag == 2 else 128
        k = reader.u8() if tag in (1, 2) else 0
        require(k <= 24, "too many low bits of residuals")
        if tag in (0, 2):
            return Group(first, None, symbol, k)
        if tag == 1:
            require(len(self.tables) < 250, "too many tables")
            table = read_table(reader, lambda bits: read_frequencies(bits, 128).frequencies)
            self.tables.append((table, k))
            return Group(first, table, symbol, k)
        require(tag - 3 < len(self.tables), "there is no such table")
        return Group(first, self.tables[tag - 3][0], symbol, self.tables[tag - 3][1])

    def read_payloads(self, reader: Reader, n: int) -> None:
        """§11.6 to 8."""
        escapes = reader.varint()
        require(escapes <= n, "there are more escapes than elements")
        self.escapes = iter(map(unzigzag32, reader.coded_numbers(escapes))) if escapes else iter(())
        self.low = Bits(reader.take(reader.varint()))
        log_lanes = reader.u8()
        require(log_lanes <= 6, "too many lanes")
        self.rans = RansStream(Reader(reader.take(reader.varint())), 1 << log_lanes)

    def put(self, place: tuple[int, ...], p: Any, q: int, step: Any) -> None:
        """§11, Value: of one element."""
        v = self.snapped(p) + self.work.type(q) * step
        self.values[place] = 0 if self.zeros is not None and self.zeros[place] else v if np.isfinite(v) else 0

    def snapped(self, p: Any) -> Any:
        """§11, Value: the nearest multiple of the unit, if there is one."""
        if self.unit == 0:
            return p
        t = p * (self.work.type(1) / self.unit)
        limit = 2.0**22 if self.work == np.float32 else 2.0**51
        return (np.rint(t) if abs(t) < limit else self.work.type(0)) * self.unit

    def sides(self, stage: Stage) -> list[NDArray[Any]]:
        """§11: l', l, r and r' of all the stage's elements."""
        axis, step = stage.axis, 1 << stage.level
        known = list(stage.places)
        known[axis] = range(0, self.extent[axis], 2 * step)
        a = np.moveaxis(self.values[np.ix_(*known)], axis, 0)
        count = len(stage.places[axis])
        left, end = a[:count], len(a)
        sides = [np.empty_like(left) for _ in range(4)]
        for i in range(count):
            left = a[i]
            right = a[i + 1] if i + 1 < end else left + (left - a[i - 1]) if i else left
            sides[0][i] = a[i - 1] if i else left + (left - right)
            sides[1][i], sides[2][i] = left, right
            sides[3][i] = a[i + 2] if i + 2 < end else right + (right - left)
        return [np.moveaxis(side, 0, axis) for side in sides]

    def decode_stage(self, stage: Stage) -> None:
        """§11: the residuals of a stage, then its values row by row."""
        far_left, left, right, far_right = self.sides(stage)
        half, quarter = self.work.type(0.5), self.work.type(0.25)
        mean = (left + right) * half
        ends = (far_left + far_right) * half - mean

        def beside(*steps: tuple[int, int]) -> NDArray[Any]:
            moved: NDArray[Any] = mean
            for axis, by in steps:
                size = mean.shape[axis]
                moved = np.take(moved, np.clip(np.arange(size) + by, 0, size - 1), axis=axis)
            return moved

        crossed = stage.crossed()
        activity = np.abs(right - left) + np.abs(ends)
        fixed = [ends]
        for b in crossed:
            back, on = beside((b, -1)), beside((b, 1))
            activity = activity + np.abs(back - on)
            fixed.append((back + on) * half - mean)
        for b, c in itertools.combinations(crossed, 2):
            first = beside((b, -1), (c, -1)) + beside((b, -1), (c, 1))
            second = beside((b, 1), (c, -1)) + beside((b, 1), (c, 1))
            fixed.append((first + second) * quarter - mean)
        residuals = iter(self.residuals(stage, self.classes(stage, activity)))
        self.decode_rows(stage, mean, fixed, residuals)

    def classes(self, stage: Stage, activity: NDArray[Any]) -> list[int]:
        """§11, Class: 64 for zeros by the mask."""
        inverse = self.work.type(1 / float(self.steps[stage.level]))
        pattern = (activity * inverse).astype(np.float32).view(np.uint32) & 0x7FFFFFFF
        classes = np.clip((pattern >> 22).astype(np.int64) - 222, 0, 63)
        if stage.border is not None:
            np.moveaxis(classes, stage.axis, 0)[stage.border] = 63
        if self.zeros is not None:
            classes[self.zeros[np.ix_(*stage.places)]] = 64
        listed: list[int] = classes.reshape(-1).tolist()
        return listed

    def residuals(self, stage: Stage, classes: list[int]) -> list[int]:
        """§11, Value: of all elements of a stage, 0 for zeros by the mask."""
        firsts = [group.first for group in stage.groups]
        numbers = [None if c == 64 else bisect.bisect_right(firsts, c) - 1 for c in classes]
        drawn = []
        for number, group in enumerate(stage.groups):
            count = numbers.count(number)
            constant = group.frequencies is None
            drawn.append(iter([group.symbol] * count if constant else self.rans.draw(group.frequencies or {}, count)))
        return [0 if g is None else self.residual(next(drawn[g]), stage.groups[g].k) for g in numbers]

    def residual(self, symbol: int, k: int) -> int:
        """§11, Value: from a symbol."""
        high = symbol - 128 if symbol else next(self.escapes, None)
        if high is None:
            raise Damaged("there are too few escapes")
        return wrap32((high << k) + self.low.take(k) - (1 << (k - 1))) if k else high

    def decode_rows(
        self, stage: Stage, mean: NDArray[Any], fixed: list[NDArray[Any]], residuals: Iterator[int]
    ) -> None:
        """§11, Value: row by row, since the last taps see rows before."""
        before = [b for b in stage.crossed() if b != 3]
        causal = [[(b, by)] for b in before for by in (-1, -2)]
        for b, c in itertools.combinations(before, 2):
            causal += [[(b, -1), (c, -1)], [(b, -1), (c, 1)]]
        come = np.zeros_like(mean)
        for row in itertools.product(*map(range, mean.shape[:3])):
            for part in self.parts(stage, row, mean.shape[3]):
                at: Any = (*row, part)
                weights = [self.work.type(w / 256) for w in stage.weights[self.is_border(stage, row, part.start)]]
                p = mean[at].copy()
                for weight, tap in zip(weights, fixed, strict=False):
                    if weight != 0:
                        p = p + weight * tap[at]
                for weight, moves in zip(weights[len(fixed) :], causal, strict=True):
                    other = list(row)
                    for axis, by in moves:
                        other[axis] += by
                    beside: Any = (*other, part)
                    there = all(0 <= i < size for i, size in zip(other, mean.shape, strict=False))
                    if weight != 0 and there:
                        p = p + weight * (come[beside] - mean[beside])
                for j, element in enumerate(p, part.start):
                    place = tuple(stage.places[b][i] for b, i in enumerate((*row, j)))
                    self.put(place, element, next(residuals), self.steps[stage.level])
                    come[(*row, j)] = self.values[place]

    def is_border(self, stage: Stage, row: tuple[int, ...], j: int) -> bool:
        """§11: whether an element of a stage belongs to its border."""
        return stage.border is not None and (*row, j)[stage.axis] == stage.border

    def parts(self, stage: Stage, row: tuple[int, ...], width: int) -> list[slice]:
        """The parts of a row whose weights are the same."""
        if stage.axis == 3 and stage.border is not None and width > 1:
            return [slice(0, width - 1), slice(width - 1, width)]
        return [slice(0, width)]


# ---------------------------------------------------------------------------------------------------------------------
# §2 Frame
# ---------------------------------------------------------------------------------------------------------------------


def split_header(frame: bytes) -> tuple[bytes, bytes]:
    """§2: the header without its CRC, which is checked, and all that follows it."""
    reader = Reader(frame)
    require(reader.take(4) == MAGIC, "not an szdnn frame")
    version = reader.u8()
    if version != VERSION:
        raise Unsupported(f"unknown version {version}")
    size = reader.varint()
    require(reader.position + 4 <= size <= len(frame), "header_bytes does not fit the frame")
    header = frame[: size - 4]
    require(crc32c(header) == int.from_bytes(frame[size - 4 : size], "little"), "the header is damaged")
    return header, frame[size:]


def split_blocks(data: bytes, index: list[tuple[int, int]]) -> list[bytes]:
    """§2: the blocks, their CRCs checked; the frame ends with the last one."""
    reader = Reader(data)
    blocks = []
    for length, crc in index:
        blocks.append(reader.take(length))
        require(crc32c(blocks[-1]) == crc, "a block is damaged")
    reader.close()
    return blocks


def check_memory(header: Header, length: int) -> None:
    """§2.3: a frame is long enough for the memory that its blocks take."""
    n, last, memory = math.prod(header.tile), header.tile[-1], 0
    if header.predictor == INTERPOLATION:
        value, row, place = (26, 88, 24) if header.kind == LINEAR64 else (16, 44, 12)
        memory = 917504 + value * n + row * (n // last) + place * last
    elif header.mixed:
        memory = 1600000 + 48 * (last if len(header.tile) > 1 else row_length(header.shape))
    is_short = memory > (1 << 20) + (1 << 18) * max(length - 100, 0)
    require(not is_short or not count_blocks(header), "the frame is too short for the memory of its blocks")


def decode(frame: bytes, reference: NDArray[Any] | None = None) -> NDArray[Any]:
    """The tensor which the frame holds. Raises Damaged, Unsupported or WrongReference."""
    frame = bytes(frame)
    if frame.startswith(SINGLE_MAGIC):
        header, blocks = parse_single(frame)
    else:
        head, data = split_header(frame)
        header, index = parse_header(head)
        blocks = split_blocks(data, index)
    check_memory(header, len(frame))
    elements = [0] * header.elements
    base = reference_elements(header, reference)
    for block, box in zip(blocks, tile_boxes(header.dims, header.tile), strict=True):
        places = indices(box, header.dims)
        for place, element in zip(places, decode_block(header, block, box, places, base), strict=True):
            elements[place] = element
    return to_array(header, elements)


def to_array(header: Header, elements: list[int]) -> NDArray[Any]:
    """§2, §3: the elements in C order are the tensor."""
    flat = np.array(elements, dtype=header.dtype.unsigned()).view(header.dtype.array)
    try:
        return flat.reshape(header.shape)
    except (ValueError, OverflowError) as error:  # an empty tensor with dimensions beyond what numpy can hold
        raise Damaged("the shape is too large") from error


def main() -> None:
    """Read a frame file, write a .npy."""
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: reference_decoder.py FRAME_FILE ARRAY.npy [REFERENCE.npy]")
    with open(sys.argv[1], "rb") as file:
        array = decode(file.read(), np.load(sys.argv[3]) if len(sys.argv) == 4 else None)
    np.save(sys.argv[2], array)
    print(f"{array.dtype} {array.shape}")


if __name__ == "__main__":
    main()
