"""The C core in Python terms: the only module that imports it. One function for each C function, statuses as
exceptions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._core import ffi, lib
from .buffers import Arena, Bytes, scratch
from .errors import ArgumentError, CorruptFrame, ReferenceMismatch, UnsupportedFrame

LOSSLESS, LINEAR32, LINEAR64, GEOMETRIC = range(4)
PREDICTORS = {"none": 0, "lorenzo": 1, "regression": 2, "interpolation": 4, "repeat": 5}
"""Those that need nothing but the tensor."""
REFERENCE = 3
CODERS = {"auto": 0, "huffman": 2, "rans": 3}
ISAS = {"auto": 0, "scalar": 1, "avx2": 2, "avx512": 3, "neon": 4}
DEFAULT_TILE: int = lib.SZD_DEFAULT_TILE
LONG_TILE: int = lib.SZD_LONG_TILE
BYTE = np.dtype(np.uint8)
INDEX_ENTRY: int = lib.SZD_INDEX_ENTRY
REPEAT_TILE: int = lib.SZD_MAX_REPEAT_TILE
MAX_SINGLE: int = lib.SZD_MAX_SINGLE
SLAB = 32 << 20
"""Bytes of output for which a thread takes memory at a time."""

# The instruction set to use at most; a test sets it to compare the kernels' paths.
isa = "auto"


P = ParamSpec("P")
T = TypeVar("T")


def in_environment(function: Callable[P, T]) -> Callable[P, T]:
    """The function, computing as the core does, whatever the calling thread's rounding mode: to nearest, denormals
    kept."""

    @functools.wraps(function)
    def work(*args: P.args, **named: P.kwargs) -> T:
        saved = lib.szd_environment_enter()
        try:
            return function(*args, **named)
        finally:
            lib.szd_environment_leave(saved)

    return work


def check(status: int, where: str) -> None:
    """Raises the exception that a C status stands for; `where` names the part of the data."""
    if status == lib.SZD_OK:
        return
    text = ffi.string(lib.szd_status_text(status)).decode()
    if status == lib.SZD_REFERENCE:
        raise ReferenceMismatch(f"{where}: {text}")
    if status < lib.SZD_NEW_VERSION:
        raise ArgumentError(f"{where}: {text}")
    if status < lib.SZD_MAGIC:
        raise UnsupportedFrame(f"{where}: {text}; a newer szdnn may read it")
    raise CorruptFrame(f"{where}: {text}")


def pointer(array: NDArray[Any], writable: bool = False) -> Any:
    """The first byte of a C-contiguous array, as uint8_t*. The caller keeps the array alive."""
    if writable and not array.flags.writeable:
        raise ArgumentError("the output array is read-only")
    if array.dtype is not BYTE:
        array = array.reshape(-1).view(BYTE)
    return ffi.from_buffer("uint8_t[]", array)  # quicker than ctypes.data


def as_bytes(data: Any) -> Bytes:
    """Any object with the buffer protocol as a flat uint8 array, without a copy where it is contiguous."""
    try:
        return np.frombuffer(data, dtype=np.uint8)
    except (TypeError, ValueError, BufferError):
        raise ArgumentError(f"expected bytes or a contiguous buffer, not {type(data).__name__}") from None


class Header:
    """A frame's header, szd_header of szdnn.h; attributes are its members."""

    __slots__ = ("_axis_eps", "_axis_index", "_digests", "_frame", "c")

    def __init__(self) -> None:
        self.c = ffi.new("szd_header *")
        self._axis_eps: NDArray[np.float64] | None = None
        self._axis_index: NDArray[np.uint8] | None = None
        self._digests: NDArray[np.uint64] | None = None
        self._frame: Bytes | None = None

    def copy(self) -> Header:
        """Another header with the same members."""
        twin = Header()
        ffi.memmove(twin.c, self.c, ffi.sizeof("szd_header"))
        twin._axis_eps, twin._axis_index = self._axis_eps, self._axis_index
        return twin

    def set_axis_eps(self, axis: int, eps: NDArray[np.float64]) -> None:
        """Bounds along an axis, kept alive here: as they are, or by a table where that is smaller."""
        distinct, which = np.unique(eps, return_inverse=True)
        if len(distinct) <= 256 and 8 * len(distinct) + len(eps) + 1 < 8 * len(eps):
            self._axis_index = which.reshape(-1).astype(np.uint8)
            self.c.axis_index, self.c.axis_values = pointer(self._axis_index), len(distinct)
            eps = distinct
        self._axis_eps = np.ascontiguousarray(eps, dtype="<f8")
        self.c.has_axis, self.c.axis = 1, axis
        self.c.axis_eps = pointer(self._axis_eps)

    def set_reference(self, dtype: int) -> None:
        """Prediction from a reference of the dtype of this code."""
        self.c.predictor, self.c.reference_dtype = REFERENCE, dtype

    def set_digests(self, digests: list[int]) -> None:
        """Those of the reference's parts, a block each, before the header is written; kept alive here."""
        self._digests = np.array(digests, dtype="<u8")
        self.c.reference_digests = pointer(self._digests)

    def reference_digest(self) -> str:
        """The digest of the whole reference, in hexadecimal."""
        count = self.c.reference_count
        raw = bytes(ffi.buffer(self.c.reference_digests, 8 * count)) if count else b""
        return f"{int(np.frombuffer(raw, dtype='<u8').sum(dtype=np.uint64)):016x}"  # modulo 2^64

    def complete(self) -> None:
        """Checks the members and derives element_bytes, elements, blocks and header_bytes."""
        check(lib.szd_header_complete(self.c), "header")

    @classmethod
    def read(cls, frame: Bytes) -> Header:
        """Parses a frame's header and checks it and the frame's length. Raises CorruptFrame, UnsupportedFrame."""
        header = cls()
        check(lib.szd_header_read(pointer(frame), frame.size, header.c), "frame")
        header._frame = frame
        return header

    def write(self, index: Bytes, out: Bytes) -> None:
        """Writes the header into out[:header_bytes]."""
        check(lib.szd_header_write(self.c, pointer(index), pointer(out, True), out.size), "header")

    def frame_single(self, block: Bytes) -> Bytes:
        """The whole frame of a header of the layout `single`, which its block completes."""
        out = np.empty(self.c.header_bytes + block.size + 4, dtype=np.uint8)
        check(lib.szd_frame_single(self.c, pointer(block), block.size, pointer(out), out.size), "header")
        return out

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.c.shape[a] for a in range(self.c.rank))

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape that tiles are cut from, in elements."""
        return tuple(self.c.dims[a] for a in range(self.c.tile_rank))

    @property
    def tile(self) -> tuple[int, ...]:
        """The extent of a tile that is not at an edge."""
        return tuple(self.c.tile[a] for a in range(self.c.tile_rank))

    def axis_eps(self) -> NDArray[np.float64]:
        """The bounds along the axis, float64."""
        extent, has_table = self.c.shape[self.c.axis], self.c.axis_index != ffi.NULL
        count = self.c.axis_values if has_table else extent
        eps = np.frombuffer(bytes(ffi.buffer(self.c.axis_eps, 8 * count)), dtype="<f8").astype(np.float64)
        return eps[np.frombuffer(ffi.buffer(self.c.axis_index, extent), np.uint8)] if has_table else eps

    def tile_of(self, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A block's origin and extent in `dims`."""
        origin, extent = ffi.new("uint64_t[4]"), ffi.new("uint64_t[4]")
        check(lib.szd_tile_of_block(self.c, block, origin, extent), f"block {block}")
        rank = self.c.tile_rank
        return tuple(origin[a] for a in range(rank)), tuple(extent[a] for a in range(rank))


def options(coder: str = "auto", level: int = 0, backward: bool = False, fast: bool = False) -> Any:
    """szd_options; the instruction set is the module's `isa`. The others: see szdnn.h."""
    made = ffi.new("szd_options *")
    made.coder, made.isa, made.level, made.fast = CODERS[coder], ISAS[isa], level, fast
    made.backward = backward
    return made


class Block(NamedTuple):
    """An encoded block; `saving`: by how many bytes at least it is smaller than the same elements losslessly."""

    data: Bytes
    crc: int
    saving: int


class Encoder:
    """Buffers for one thread that encodes blocks of one frame."""

    def __init__(self, header: Header, opts: Any, data: NDArray[Any], reference: NDArray[Any] | None = None) -> None:
        self._header, self._options, self._data = header, opts, pointer(data)
        if reference is not None:
            self._reference = pointer(reference)  # the options' address alone does not keep it
            self._options = ffi.new("szd_options *", opts[0])
            self._options.reference = self._reference
        self._scratch_size = lib.szd_encode_scratch(header.c)
        self._scratch = pointer(scratch(self._scratch_size))
        self._bound = lib.szd_block_bound(header.c)
        self._arena = Arena(min(self._bound + data.nbytes, SLAB))  # takes memory when asked
        self._size, self._saving = ffi.new("size_t *"), ffi.new("int64_t *")

    def encode(self, block: int, keep: bool = True) -> Block:
        """One block; unless it is kept, its data is valid until the next call only."""
        out = self._arena.room(self._bound) if keep else scratch(self._bound, "block")
        status = lib.szd_encode_block(
            self._header.c, self._options, self._data, block, self._scratch, self._scratch_size,
            pointer(out), out.size, self._size, self._saving,
        )  # fmt: skip
        check(status, f"block {block}")
        made = self._arena.take(self._size[0]) if keep else out[: self._size[0]]
        return Block(made, crc32c(made), self._saving[0])

    def estimate(self) -> dict[str, float]:
        """The estimated bits a value of each predictor."""
        bits = ffi.new("double[3]")
        status = lib.szd_estimate(self._header.c, self._options, self._data, self._scratch, self._scratch_size, bits)
        check(status, "estimate")
        return {name: bits[PREDICTORS[name]] for name in ("none", "lorenzo", "regression")}

    def estimate_box(self) -> tuple[float, float, float]:
        """About the bits that the header's predictor leaves of an array of one tile; for interpolation those of tables,
        of which longer arrays have as many; for others what the scales of rows and columns may save, a value."""
        bits = ffi.new("double[3]")
        status = lib.szd_estimate_box(
            self._header.c, self._options, self._data, self._scratch, self._scratch_size, bits
        )
        check(status, "estimate")
        return bits[0], bits[1], bits[2]

    def estimate_repeat(self) -> tuple[float, float]:
        """The estimated bits a value without and with prediction from the header's lag back."""
        bits = ffi.new("double[2]")
        status = lib.szd_estimate_repeat(
            self._header.c, self._options, self._data, self._scratch, self._scratch_size, bits
        )
        check(status, "estimate")
        return bits[0], bits[1]

    def neighbours_alike(self, volume: int, least: int) -> bool:
        """Whether neighbours along an axis of at least `least` values correlate, in a box of `volume` values."""
        alike = ffi.new("uint32_t *")
        check(lib.szd_neighbours_alike(self._header.c, self._data, volume, least, alike), "neighbours")
        return bool(alike[0])

    def estimate_reference(self) -> tuple[float, float]:
        """The estimated bits a value without and with the reference."""
        bits = ffi.new("double[2]")
        status = lib.szd_estimate_reference(
            self._header.c, self._options, self._data, self._scratch, self._scratch_size, bits
        )
        check(status, "estimate")
        return bits[0], bits[1]


def digest(dtype_code: int, elements: Bytes, first: int, count: int) -> int:
    """The digest of `count` elements of a tensor, from element `first` on."""
    found = ffi.new("uint64_t *")
    check(lib.szd_digest(dtype_code, options(), pointer(elements), first, count, found), "digest")
    return int(found[0])


def find_lag(dtype_code: int, data: NDArray[Any], count: int) -> int:
    """A distance in elements after which much of a tensor of `count` elements comes again, or 0."""
    return int(lib.szd_find_lag(dtype_code, pointer(data), count))


def is_constant(dtype_code: int, data: NDArray[Any]) -> bool:
    """Whether all of a tensor's values are the same bits, of which there are at least one."""
    return bool(lib.szd_is_constant(dtype_code, pointer(data), data.size))


def reach(dtype_code: int, data: NDArray[Any]) -> float:
    """The magnitude that one in 256 of a few thousand finite values are beyond; 0 without any."""
    return float(lib.szd_reach(dtype_code, pointer(data), data.size))


def reach_within(dtype_code: int, data: NDArray[Any], limit: float) -> bool:
    """Whether `reach` is at most `limit`, in less time."""
    return bool(lib.szd_reach_within(dtype_code, pointer(data), data.size, limit))


def is_spread(dtype_code: int, data: NDArray[Any], least: float) -> bool:
    """Whether, of a few hundred values, all but four at either end span at least that much, and no infinite range."""
    return bool(lib.szd_is_spread(dtype_code, pointer(data), data.size, least))


def grid_unit(dtype_code: int, data: NDArray[Any], eps: float, least: float, most: float) -> float:
    """About the greatest number, at least `least`, of which a sample's values below `most` are multiples; 0 without."""
    return float(lib.szd_grid_unit(dtype_code, pointer(data), data.size, eps, least, most))


def off_grid(dtype_code: int, data: NDArray[Any], share: int, unit: float, room: float) -> tuple[int, int]:
    """Of runs of values, one in so many: how many values are farther than `room` from multiples of `unit`, of how
    many."""
    seen = ffi.new("uint64_t *")
    off = lib.szd_off_grid(dtype_code, pointer(data), data.size, share, unit, room, seen)
    return int(off), int(seen[0])


def lossless_floor(header: Header, data: NDArray[Any], enough: int) -> int:
    """A proven lower limit of the bytes that the blocks of a lossless frame take; stops where it reaches `enough`, and
    at a block of which nothing is proven: others would have to make up for it."""
    found, part, left = 0, ffi.new("uint64_t *"), header.c.elements
    for block in range(header.c.blocks):
        count = min(left, header.c.tile[0])
        wanted = -(-(enough - found) * count // left)
        left -= count
        check(lib.szd_lossless_floor(header.c, pointer(data), block, wanted, part), f"block {block}")
        found += part[0]
        if found >= enough or not part[0]:
            break
    return found


def is_justified(header: Header, frame_bytes: int) -> bool:
    """Whether a frame of so many bytes may have blocks that take as much memory to decode as this header's do."""
    return bool(lib.szd_frame_justified(header.c, frame_bytes))


def decode_scratch(header: Header) -> int:
    """Bytes that each thread needs beside the output."""
    return int(lib.szd_decode_scratch(header.c))


class Decoder:
    """Buffers for one thread that decodes blocks of one frame."""

    def __init__(self, header: Header, level: int = 0) -> None:
        self._header, self._options = header, options(level=level)
        self._scratch = scratch(decode_scratch(header))

    def decode(
        self,
        block: int,
        payload: Bytes,
        out: NDArray[Any],
        first: int,
        strides: tuple[int, ...],
        reference: Bytes | None = None,
    ) -> None:
        """Decodes into `out` (C-contiguous), the tile's first element at byte offset `first`, strides in elements.

        reference: the bytes of its elements at the tile's places; they may be the memory of the tile in `out`.
        """
        self._options.reference = ffi.NULL if reference is None else pointer(reference)
        status = lib.szd_decode_block(
            self._header.c, self._options, block, pointer(payload), payload.size, pointer(self._scratch),
            self._scratch.size, pointer(out, True) + first, ffi.new("uint64_t[4]", list(strides)),
        )  # fmt: skip
        check(status, f"block {block}")

    def look(self, block: int, payload: Bytes) -> tuple[int, int, int]:
        """A block's mode, the coder of its main stream, its number of outliers."""
        mode, coder, outliers = ffi.new("uint32_t *"), ffi.new("uint32_t *"), ffi.new("uint64_t *")
        status = lib.szd_block_look(
            self._header.c, block, pointer(payload), payload.size, pointer(self._scratch), self._scratch.size,
            mode, coder, outliers,
        )  # fmt: skip
        check(status, f"block {block}")
        return mode[0], coder[0], outliers[0]


def crc32c(data: Bytes) -> int:
    """CRC-32C of a contiguous buffer."""
    return int(lib.szd_crc32c(pointer(data), data.size))


def isa_available() -> str:
    """The best instruction set of this processor that the kernels know."""
    best = lib.szd_isa_available()
    return next(name for name, number in ISAS.items() if number == best)


def stats(dtype_code: int, data: NDArray[Any]) -> Any:
    """szd_stats of a C-contiguous array: finite, min, max, constant."""
    found = ffi.new("szd_stats *")
    check(lib.szd_stats_of(dtype_code, options(), pointer(data), data.size, found), "statistics")
    return found


def moments(dtype_code: int, data: NDArray[Any], unit: float, centre: float) -> tuple[Fraction, Fraction]:
    """With d = x / unit - centre over the finite values: the sum of d and the sum of d^2, to about twice
    float64's digits."""
    out = ffi.new("double[4]")
    check(lib.szd_moments(dtype_code, pointer(data), data.size, unit, centre, out), "moments")
    return Fraction(out[0]) + Fraction(out[1]), Fraction(out[2]) + Fraction(out[3])


def compare(
    dtype_code: int, original: NDArray[Any], decoded: NDArray[Any], eps: float, pointwise: float, unit: float = 1.0
) -> Any:
    """szd_difference of two C-contiguous arrays of one dtype and size; sum_squares is in units squared."""
    found = ffi.new("szd_difference *")
    size = original.size
    x, y = pointer(original), pointer(decoded)
    status = lib.szd_compare(dtype_code, options(), x, y, size, eps, pointwise, unit, found)
    check(status, "comparison")
    return found


def mix_encode(residuals: NDArray[np.int32], width: int, phase: int) -> bytes:
    """The mixing coder's bytes for residuals in rows of `width`, the first of them in column `phase`; for tests."""
    scratch = np.empty(lib.szd_mix_scratch(width), np.uint8)
    out = np.empty(64 + 16 * residuals.size, np.uint8)
    size = ffi.new("size_t *")
    residuals = np.ascontiguousarray(residuals)
    data = ffi.cast("int32_t *", residuals.ctypes.data)
    status = lib.szd_mix_encode(data, residuals.size, width, phase, pointer(scratch), pointer(out), out.size, size)
    check(status, "residuals")
    return out[: size[0]].tobytes()


def mix_decode(data: bytes, n: int, width: int, phase: int) -> NDArray[np.int32]:
    """The n residuals that mix_encode was given; for tests. Raises CorruptFrame."""
    scratch = np.empty(lib.szd_mix_scratch(width), np.uint8)
    out = np.empty(n, np.int32)
    coded = as_bytes(data)
    residuals = ffi.cast("int32_t *", out.ctypes.data)
    check(lib.szd_mix_decode(pointer(coded), coded.size, width, phase, pointer(scratch), residuals, n), "residuals")
    return out


def huffman_encode(symbols: Bytes) -> bytes:
    """Huffman codes of uint8 symbols with their table; how many there are is not stored."""
    out = np.empty(lib.szd_huffman_bound(symbols.size), np.uint8)
    size = ffi.new("size_t *")
    symbols = np.ascontiguousarray(symbols)
    check(lib.szd_huffman_encode(pointer(symbols), symbols.size, pointer(out), out.size, size), "symbols")
    return out[: size[0]].tobytes()


def huffman_decode(data: bytes, n: int) -> Bytes:
    """The n symbols that huffman_encode was given. Raises CorruptFrame."""
    out = np.empty(n, np.uint8)
    coded = as_bytes(data)
    check(lib.szd_huffman_decode(pointer(coded), coded.size, pointer(out), n), "symbols")
    return out
