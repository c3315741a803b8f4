"""Damaged frames: every truncation, every flipped bit, forged headers. Always szdnn.Error, never a wrong value
or a crash."""

from __future__ import annotations

import contextlib
import itertools
import struct
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from stream_writer import varint
from tensors import CODERS, WEIGHT_KINDS, dtype_of, make_weights, simple_bounds, tensors

import szdnn
from szdnn import _native, encoder

RNG = np.random.default_rng(7)


def _smooth(shape: tuple[int, ...]) -> NDArray[Any]:
    return np.cumsum(RNG.normal(size=shape), axis=-1).astype(np.float32)


def _with_specials() -> NDArray[Any]:
    x = RNG.normal(size=300).astype(np.float32)
    x[::17] = np.nan
    x[5] = 1e30
    return x


def _with_zeros(shape: tuple[int, ...]) -> NDArray[Any]:
    x = _smooth(shape)
    x[x < 0] = 0
    return x


# One small frame of each kind of block, stream and field.
FRAMES: dict[str, bytes] = {
    "rans": szdnn.compress(RNG.normal(size=900).astype(np.float32), szdnn.Rel(1e-2), coder="rans"),
    "huffman": szdnn.compress(RNG.normal(size=700).astype(np.float32), szdnn.Rel(1e-2), coder="huffman"),
    "low bits": szdnn.compress(RNG.normal(size=400).astype(np.float32), szdnn.Rel(1e-4)),
    "escapes": szdnn.compress((RNG.standard_t(1.2, 900) * 3).astype(np.float32), szdnn.Abs(1e-1)),
    "outliers": szdnn.compress(_with_specials(), szdnn.Abs(1e-2)),
    "lorenzo": szdnn.compress(_smooth((9, 40)), szdnn.Abs(1e-2), predictor="lorenzo"),
    "regression": szdnn.compress(_smooth((14, 30)), szdnn.Abs(1e-2), predictor="regression"),
    "interpolation": szdnn.compress(_smooth((9, 40)), szdnn.Abs(1e-2), predictor="interpolation"),
    "interpolation, zeros": szdnn.compress(_with_zeros((7, 5, 9)), szdnn.Abs(1e-3), predictor="interpolation"),
    "interpolation, low bits": szdnn.compress(_smooth((300,)), szdnn.Abs(1e-5), predictor="interpolation"),
    "interpolation, outliers": szdnn.compress(_with_specials(), szdnn.Abs(1e-2), predictor="interpolation"),
    "float64 wide": szdnn.compress(RNG.normal(size=200), szdnn.Abs(1e-12)),
    "axis": szdnn.compress(RNG.normal(size=(4, 60)), szdnn.Abs([1e-1, 1e-2, 1e-3, 1e-4], axis=0)),
    "repeat": szdnn.compress(np.resize(RNG.normal(size=70), 300), szdnn.Rel(1e-2), predictor="repeat"),
    "repeat lossless": szdnn.compress(np.resize(RNG.normal(size=70), 300), szdnn.Lossless(), predictor="repeat"),
    "pointwise": szdnn.compress(RNG.normal(size=500).astype(np.float32), szdnn.PointwiseRel(1e-2)),
    "constant": szdnn.compress(np.full((30, 30), 3.25, np.float32), szdnn.Rel(1e-2)),
    "lossless float": szdnn.compress(RNG.normal(size=200).astype(np.float32), szdnn.Lossless()),
    "lossless half": szdnn.compress(RNG.normal(size=300).astype(np.float16), szdnn.Lossless()),
    **{
        f"lossless {kind} {name}": szdnn.compress(make_weights(kind, 1, 600, dtype_of(name)), szdnn.Lossless())
        for kind, name in zip(WEIGHT_KINDS, ("float32", "bfloat16", "float32", "float64") * 4, strict=False)
    },
    "integers": szdnn.compress(np.arange(500, dtype=np.int32) ** 2, szdnn.Lossless()),
    "raw": szdnn.compress(RNG.integers(0, 256, 64, dtype=np.uint8), szdnn.Lossless()),
    "empty": szdnn.compress(np.empty((0, 3), np.float32), szdnn.Rel(1e-2)),
    "scalar": szdnn.compress(np.float32(2.5), szdnn.Rel(1e-2)),
}  # fmt: skip
with mock.patch.object(encoder, "single_frame", return_value=None):  # the layout of large frames, small
    FRAMES |= {
        "indexed": szdnn.compress(RNG.normal(size=600).astype(np.float32), szdnn.Rel(1e-2)),
        "indexed pointwise": szdnn.compress(RNG.normal(size=200).astype(np.float32), szdnn.PointwiseRel(1e-2)),
        "indexed lorenzo": szdnn.compress(_smooth((10, 30)), szdnn.Abs(1e-2), predictor="lorenzo"),
        "indexed lossless": szdnn.compress(RNG.normal(size=200).astype(np.float32), szdnn.Lossless()),
        "indexed empty": szdnn.compress(np.empty((0, 3), np.float32), szdnn.Rel(1e-2)),
    }


def assert_refused(data: bytes) -> None:
    """All four ways in raise szdnn.Error."""
    for use in (szdnn.decompress, lambda d: szdnn.read(d, ...)):
        with pytest.raises(szdnn.Error):
            use(data)


@pytest.mark.parametrize("name", FRAMES)
def test_every_truncation_is_seen(name):
    frame = FRAMES[name]
    for size in range(len(frame)):
        assert_refused(frame[:size])


@pytest.mark.parametrize("name", FRAMES)
def test_every_flipped_bit_is_seen(name):
    frame = bytearray(FRAMES[name])
    for bit in range(8 * len(frame)):
        frame[bit // 8] ^= 1 << bit % 8
        with pytest.raises(szdnn.Error):
            szdnn.decompress(bytes(frame))
        frame[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("name", FRAMES)
def test_trailing_bytes_are_damage(name):
    assert_refused(FRAMES[name] + b"\0")
    assert_refused(FRAMES[name] * 2)


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """The value, and where the next thing is."""
    value = shift = 0
    while data[at] >= 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def is_single(frame: bytes | bytearray) -> bool:
    """Whether a frame has the layout of small ones."""
    return frame.startswith(b"\xf5s")


def header_size(frame: bytes | bytearray) -> int:
    """Where the blocks begin."""
    if is_single(frame):
        return _native.Header.read(_native.as_bytes(bytes(frame))).c.header_bytes
    return read_varint(frame, 5)[0]


def dtype_at(frame: bytes | bytearray) -> int:
    """Where the header's first byte after its size is."""
    return 5 if is_single(frame) else read_varint(frame, 5)[1]


def header_end(frame: bytes | bytearray) -> int:
    """Where what the header says ends."""
    return header_size(frame) - (0 if is_single(frame) else 4)


def blocks_end(frame: bytes | bytearray) -> int:
    """Where the last block ends."""
    return len(frame) - (4 if is_single(frame) else 0)


def put_crc(frame: bytearray, at: int, covered: slice) -> None:
    struct.pack_into("<I", frame, at, _native.crc32c(_native.as_bytes(bytes(frame[covered]))))


def with_header_crc(frame: bytearray) -> bytes:
    """Sets the header's CRC, which is a small frame's only one, as a forger would."""
    if is_single(frame):
        put_crc(frame, len(frame) - 4, slice(len(frame) - 4))
        return bytes(frame)
    put_crc(frame, header_size(frame) - 4, slice(header_size(frame) - 4))
    return bytes(frame)


def with_valid_checksums(frame: bytearray, original: bytes) -> bytes:
    """Sets the block CRCs too, in an altered copy of a frame whose header is as it was."""
    if is_single(original):
        return with_header_crc(frame)
    blocks, at = _native.Header.read(np.frombuffer(original, dtype=np.uint8)).c.blocks, header_size(frame)
    index = at - 4 - 8 * blocks
    for entry in range(index, index + 8 * blocks, 8):
        length = struct.unpack_from("<I", frame, entry)[0]
        put_crc(frame, entry + 4, slice(at, at + length))
        at += length
    return with_header_crc(frame)


@pytest.mark.parametrize("name", FRAMES)
def test_flipped_bits_under_valid_checksums_never_crash(name):
    """Whatever a forger writes: an error, or values that the altered frame really means."""
    original = FRAMES[name]
    size = header_size(original)
    for bit in range(8 * size, 8 * blocks_end(original)):
        forged = bytearray(original)
        forged[bit // 8] ^= 1 << bit % 8
        try:
            out = szdnn.decompress(with_valid_checksums(forged, original), max_bytes=1 << 20)
        except szdnn.Error:
            continue
        assert out.shape == szdnn.info(original).shape


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_forged_headers_never_crash(name, data):
    original = FRAMES[name]
    end = header_end(original)
    forged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(dtype_at(forged), end - 1))
        forged[at] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 0x3F, 0x40, 0x7F, 0x80, 0xFF, forged[at] ^ 1]))
    with_header_crc(forged)
    for use in (lambda f: szdnn.decompress(f, max_bytes=1 << 20), szdnn.info):
        with contextlib.suppress(szdnn.Error):
            use(bytes(forged))


def forged_frame(
    dtype: int, shape: list[int], fields: bytes = b"\0", kind: int = 0, version: int = 0, index: bytes = b""
) -> bytes:
    """A header with a valid CRC that says what the forger likes."""
    body = bytes([dtype, len(shape)]) + b"".join(map(varint, shape)) + bytes([kind]) + fields + index
    size = next(n for n in itertools.count() if n == 5 + len(varint(n)) + len(body) + 4)
    head = b"\xf5SZD" + bytes([version]) + varint(size) + body
    return head + struct.pack("<I", _native.crc32c(_native.as_bytes(head)))


@pytest.mark.parametrize(
    "shape",
    [[2**63], [2**64 - 1], [2**32, 2**32], [2**61], [2**63, 0], [2**40] * 3, [0, 2**62], [2**31, 2**31], [2**60]],
)
def test_impossible_shapes(shape):
    assert_refused(forged_frame(2, shape))


def test_a_huge_declared_output_is_refused_by_max_bytes():
    # 2^40 float32 in 512 constant blocks of 2^31 bytes each: valid, small, and four terabytes when decoded.
    tile = bytes([4]) + bytes([12]) + b"\x01" + b"\x80\x80\x80\x80\x80\x20" + b"\x80\x80\x80\x80\x02"
    block = b"\x02" + b"\0\0\0\0"
    index = struct.pack("<II", 5, _native.crc32c(_native.as_bytes(block))) * 2048
    frame = forged_frame(2, [2**40], fields=tile + b"\0", index=index) + block * 2048
    assert szdnn.info(frame).raw_bytes == 2**42
    with pytest.raises(szdnn.LimitError, match="max_bytes"):
        szdnn.decompress(frame, max_bytes=2**30)
    np.testing.assert_array_equal(szdnn.read(frame, slice(2**39, 2**39 + 3)), np.zeros(3, np.float32))


def _tiles(rank: int, dims: list[bytes], tile: list[bytes]) -> bytes:
    content = bytes([rank]) + b"".join(dims) + b"".join(tile)
    return bytes([4, len(content)]) + content


def test_a_small_frame_makes_no_large_allocation():
    """Tiles and coefficients beyond what the format allows are refused before anything is allocated for them."""
    big, one = b"\x80\x80\x80\x02", b"\x01"  # 2^22
    lattice = b"\x02\x09" + struct.pack("<dB", 1e-2, 0)
    for predictor in (b"\x05\x01\x01", b"\x05\x03\x02\x02\x04"):
        for tiles in (_tiles(1, [big], [big]), _tiles(4, [one] * 3 + [big], [one] * 3 + [big])):
            assert_refused(
                forged_frame(0, [1 << 22], fields=lattice + tiles + predictor + b"\0", kind=1, index=bytes(8))
            )
    edge = b"\x80\x80\x08"  # 2^17: allowed, but not with five coefficients for each pair of values
    tiles = _tiles(4, [one] * 3 + [edge], [one] * 3 + [edge])
    assert_refused(
        forged_frame(0, [1 << 17], fields=lattice + tiles + b"\x05\x03\x02\x02\x04" + b"\0", kind=1, index=bytes(8))
    )


@pytest.mark.parametrize("predictor", ["none", "lorenzo", "regression"])
@pytest.mark.parametrize("shape", [(1 << 20,), (2, 1 << 19), (70000, 3), (64, 64, 300), (3, 3, 400, 400)])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_decoding_takes_less_than_a_megabyte_beside_the_output(predictor, shape, dtype):
    x = RNG.normal(size=shape).astype(dtype)
    frame = szdnn.compress(x, szdnn.Abs(0.5), predictor=predictor)
    header = _native.Header.read(np.frombuffer(frame, np.uint8))
    assert _native.decode_scratch(header) < 1 << 20


def test_huge_dims_of_an_empty_tensor():
    huge = b"\x80" * 9 + b"\x01"  # 2^63
    assert_refused(forged_frame(2, [0], fields=_tiles(3, [b"\0", huge, huge], [b"\x01"] * 3) + b"\0"))


def test_newer_versions_and_unknown_parts_are_unsupported():
    for frame in (
        forged_frame(2, [0], version=1),
        forged_frame(2, [0], fields=b"\x09\x00\x00"),
        forged_frame(2, [0], kind=9),
        forged_frame(200, [0]),
    ):
        with pytest.raises(szdnn.UnsupportedFrame):
            szdnn.decompress(frame)


@pytest.mark.parametrize("data", [b"", b"\xf5", b"PK\x03\x04" * 10, b"\x93NUMPY" + bytes(100), bytes(100), b"\xf5SZD"])
def test_what_is_no_frame(data):
    with pytest.raises(szdnn.CorruptFrame):
        szdnn.decompress(data)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    with pytest.raises(szdnn.Error):
        szdnn.decompress(b"\xf5SZD\0" + data)


@given(tensors(max_values=200), simple_bounds(), st.sampled_from(CODERS), st.data())
def test_any_damage_to_any_frame_is_seen(x, bound, coder, data):
    frame = bytearray(szdnn.compress(x, bound, coder=coder))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    assert_refused(bytes(frame))


def test_the_error_names_the_block_and_where_it_lies():
    x = RNG.normal(size=600_000).astype(np.float32)
    frame = bytearray(szdnn.compress(x, szdnn.Rel(1e-2)))
    frame[-10] ^= 1
    with pytest.raises(szdnn.CorruptFrame, match=r"block 2 \(bytes \d+ to \d+ of the frame\).*checksum"):
        szdnn.decompress(bytes(frame))
    np.testing.assert_array_equal(
        szdnn.read(bytes(frame), slice(0, 10)), szdnn.read(szdnn.compress(x, szdnn.Rel(1e-2)), slice(0, 10))
    )
