"""Sparse symbol streams (csrc/FORMAT.md, section 4, coder 6): tensors that are mostly one value, and such streams as
only a forger writes."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import example, given
from numpy.typing import NDArray
from stream_writer import BitWriter, ClassStream, SparseStream, Table, constant, raw, varint, zigzag
from tensors import assert_within, dtype_of
from test_corruption import forged_frame
from test_determinism import LEVELS
from test_frame_memory import MB, fill
from test_streams import (
    assert_damaged,
    assert_damaged_residuals,
    assert_holds,
    assert_judged_alike,
    assert_residuals,
    damaged,
    decoded_alike,
    direct,
    dominant,
    lattice_frame,
    palette,
)

import szdnn
from szdnn import _native
from szdnn.new_header import set_tiles

# ---------------------------------------------------------------------------------------------------------------------
# The encoder's
# ---------------------------------------------------------------------------------------------------------------------

SIZES = [255, 256, 257, 1000, 5003, (1 << 15) - 1, 1 << 15, (1 << 18) + 7, (1 << 20) - 1, (1 << 20) + 65]
SMALL = 1 << 15


def sparse_values(size: int, share: float, clustered: bool, seed: int) -> NDArray[Any]:
    """Zeros but for a share of normal values, far from each other or in runs of about 20."""
    rng = np.random.default_rng(seed)
    there = rng.random(size // 20 + 1 if clustered else size) < share
    if clustered:
        there = np.repeat(there, 20)[:size] & (rng.random(size) < 0.8)
    x = np.zeros(size, np.float32)
    x[there] = rng.normal(0, 1, int(there.sum()))
    return x


def compressed_alike(x: NDArray[Any], bound: szdnn.Bound, **choices: Any) -> bytes:
    """By every instruction set the same frame."""
    try:
        made = set()
        for _native.isa in LEVELS:
            made.add(bytes(szdnn.compress(x, bound, **choices)))
    finally:
        _native.isa = "auto"
    assert len(made) == 1
    return made.pop()


# The first leads to few symbols, the others to palettes, dominant values and raw low bits.
BOUNDS = [szdnn.Abs(0.5), szdnn.Abs(0.02), szdnn.Abs(1e-4), szdnn.PointwiseRel(1e-2), szdnn.Lossless()]


@given(
    st.sampled_from(SIZES),
    st.sampled_from([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.2]),
    st.booleans(),
    st.sampled_from(BOUNDS),
    st.sampled_from(["auto", "none", "lorenzo"]),
    st.integers(0, 2**32),
)
@example((1 << 20) + 65, 1e-3, False, BOUNDS[0], "none", 0)
@example((1 << 18) + 7, 1e-2, True, BOUNDS[1], "auto", 1)
def test_sparse_tensors_keep_their_bound_in_every_decoder(size, share, clustered, bound, predictor, seed):
    x = sparse_values(size, share, clustered, seed)
    frame = compressed_alike(x, bound, predictor="auto" if bound == szdnn.Lossless() else predictor)
    try:
        ours = set()
        for _native.isa in LEVELS:
            ours.add(szdnn.decompress(frame).tobytes())
    finally:
        _native.isa = "auto"
    assert len(ours) == 1
    y = np.frombuffer(ours.pop(), np.float32)
    if size <= SMALL:
        assert decoded_alike(frame).tobytes() == y.tobytes()
    if bound == szdnn.Lossless():
        assert x.tobytes() == y.tobytes()
    elif isinstance(bound, szdnn.PointwiseRel):
        assert_within(x, y, 0.0, bound.r)
    else:
        assert np.abs(y.astype(np.float64) - x).max() <= bound.eps


@pytest.mark.parametrize("share", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("size", [1 << 18, 1 << 20, 3_000_001])
def test_random_zeros_take_little_more_than_their_entropy(size, share):
    """Below the least frequency of rANS, 1/4096, by their gaps."""
    there = np.random.default_rng(size).random(size) < share
    x = there.astype(np.float32)
    frame = szdnn.compress(x, szdnn.Abs(0.25))
    assert share > 1 / 4096 or szdnn.info(frame).coder == "sparse"
    p = np.count_nonzero(there) / size
    entropy = size * (-p * np.log2(p) - (1 - p) * np.log2(1 - p)) / 8
    assert len(frame) <= 1.03 * entropy + 60 * -(-size // _native.LONG_TILE)
    np.testing.assert_array_equal(szdnn.decompress(frame) > 0.5, there)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("size", [1 << 16, 1 << 18, (1 << 18) + 12_345])
def test_lossless_zeros_of_which_a_sample_holds_nothing_else(dtype, size):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = np.zeros(size, dtype_of(dtype))
        places = rng.choice(size, 1 + seed, replace=False)
        x[places] = rng.normal(0, 10.0 ** rng.integers(-3, 4), places.size).astype(x.dtype)
        assert szdnn.decompress(szdnn.compress(x, szdnn.Lossless())).tobytes() == x.tobytes()


def test_lossless_frames_of_the_encoder_that_took_the_base_too_far_can_be_read():
    """Made before `test_lossless_zeros_of_which_a_sample_holds_nothing_else`: 2^16 values, all but one zero."""
    frame = bytes.fromhex(
        "f573003c00020180800401020110d085040360999308f9ff01000408a60b0604350c0000010c02a6435c7f03c081cc500007639d01ae540b"
        "14897a3463"
    )
    expected = np.zeros(1 << 16, np.float32)
    expected[8425] = float.fromhex("0x1.5c186ap+0")
    np.testing.assert_array_equal(decoded_alike(frame), expected)


def test_lossless_rows_that_are_mostly_zero():
    """Coder 6 in the split form of planes."""
    x = sparse_values(1 << 18, 0.004, False, 3).reshape(512, 512)
    frame = szdnn.compress(x, szdnn.Lossless())
    assert szdnn.info(frame).coder == "sparse"
    assert decoded_alike(frame).tobytes() == x.tobytes()


# ---------------------------------------------------------------------------------------------------------------------
# A forger's
# ---------------------------------------------------------------------------------------------------------------------


@st.composite
def sparse_streams(draw: Any) -> tuple[SparseStream, int]:
    """Any shift; gaps that go on; others that are the commonest symbol, too; and the number of symbols."""
    shift = draw(st.integers(0, 12))
    longest = draw(st.sampled_from([3, 40, 300, 2000]))
    lengths = draw(st.lists(st.integers(0, longest), max_size=12))
    places = [int(p) for p in np.cumsum([length + 1 for length in lengths]) - 1]
    others = draw(st.lists(st.integers(0, 255), min_size=len(places), max_size=len(places)))
    stream = SparseStream(draw(st.integers(0, 255)), places, others, shift)
    least = max(1, 4 * len(stream.gap_symbols()), places[-1] + 1 if places else 0)
    return stream, least + draw(st.sampled_from([0, 1, 3, 100, 5000]))


@given(sparse_streams())
def test_any_sparse_stream(made):
    stream, n = made
    assert_holds(stream.bytes(), stream.symbols(n), (n,))


@given(sparse_streams(), st.integers(0, 2**32), st.data())
def test_both_decoders_refuse_the_same_sparse_streams(made, seed, data):
    """Under valid checksums, bits of the stream flipped, bytes cut off or put in."""
    stream, n = made
    assert_judged_alike(lattice_frame(direct(damaged(stream.bytes(), seed, data, near=[10**6])), (n,)))


N = 1200
PLACES, OTHERS = [0, 4, 5, 304, 815], [7, 9, 9, 255, 3]
VALID = SparseStream(100, PLACES, OTHERS)
SHIFTED = SparseStream(100, PLACES, OTHERS, shift=3)
"""Its gaps are 0, 3, 0, 298 and 510: 8 times 0, 0, 0, 37 and 63, and the low bits 0, 3, 0, 2 and 6."""


def test_the_streams_that_are_forged_below_are_valid():
    assert VALID.gap_symbols() == [0, 3, 0, 255, 43, 255, 255, 0]
    for stream in (VALID, SHIFTED):
        assert_holds(stream.bytes(), stream.symbols(N), (N,))
    for n in (816, 817):  # up to the last of the others, and beyond
        assert_holds(SHIFTED.bytes(), SHIFTED.symbols(n), (n,))
    for shift in range(13):
        assert_holds(dataclasses.replace(VALID, shift=shift).bytes(), VALID.symbols(N), (N,))
    empty = SparseStream(77, [], [])
    for shift in (0, 5):
        for n in (1, 3, 4, 100):
            assert_holds(dataclasses.replace(empty, shift=shift).bytes(), [77] * n, (n,))
    for listed in (constant(0), bytes([3]) + bytes(3)):  # the lists by other coders; the latter is no table
        stream = SparseStream(5, [0, 1, 2], [6, 6, 6], gap_stream=listed, other_stream=constant(6))
        if listed[0]:
            assert_damaged(stream.bytes(), (16,))
        else:
            assert_holds(stream.bytes(), stream.symbols(16), (16,))


FORGED: dict[str, SparseStream] = {
    "a shift of 13": dataclasses.replace(VALID, shift=13),
    "a shift of 255": dataclasses.replace(VALID, shift=255),
    "more gaps than a quarter": dataclasses.replace(VALID, gaps=[0] * 301, other_stream=raw([1] * 301)),
    "far more gaps": dataclasses.replace(VALID, count=2**63),
    "a gap more than listed": dataclasses.replace(VALID, count=9),
    "a gap fewer than listed": dataclasses.replace(VALID, count=7),
    "the last gap does not end": dataclasses.replace(VALID, gaps=[0, 3, 0, 255], other_stream=raw([7, 9, 9])),
    "no gap ends": dataclasses.replace(VALID, gaps=[255], other_stream=b""),
    "no gap ends, with low bits": dataclasses.replace(VALID, gaps=[255], shift=2, low=b"", other_stream=b""),
    "an other just beyond the end": SparseStream(100, [0, N], [1, 2]),
    "an other far beyond the end": SparseStream(100, [0], [2], gaps=[255] * 299 + [254], shift=12, low=bytes(2)),
    "the low bits bring it beyond the end": SparseStream(100, [N], [2], shift=12),
    "bits are missing": dataclasses.replace(SHIFTED, low=SHIFTED.low_bits()[:-1], other_stream=b""),
    "a byte of bits too many": dataclasses.replace(SHIFTED, low=SHIFTED.low_bits() + b"\0"),
    "an unused bit is not zero": dataclasses.replace(SHIFTED, low=SHIFTED.low_bits()[:-1] + b"\x80"),
    "no others": dataclasses.replace(VALID, other_stream=b""),
    "an other is missing": dataclasses.replace(VALID, other_stream=raw(OTHERS[:-1])),
    "an other too many": dataclasses.replace(VALID, other_stream=raw([*OTHERS, 1])),
    "no gaps but others": SparseStream(100, [], [], other_stream=raw([1])),
    "gaps in a sparse stream": dataclasses.replace(
        VALID, gaps=[0] * 8, gap_stream=SparseStream(0, [], []).bytes(), other_stream=raw([1] * 8)
    ),
    "others in a sparse stream": dataclasses.replace(VALID, other_stream=SparseStream(1, [], []).bytes()),
    "gaps in classes": dataclasses.replace(VALID, gap_stream=bytes([4, 8, 1])),
    "gaps of an unknown coder": dataclasses.replace(VALID, gap_stream=bytes([5]) + bytes(8)),
    "others of an unknown coder": dataclasses.replace(VALID, other_stream=bytes([7]) + bytes(5)),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_forged_sparse_streams(what):
    assert_damaged(FORGED[what].bytes(), (N,))


@pytest.mark.parametrize("stream", [VALID, SHIFTED])
def test_sparse_streams_cut_short(stream):
    made = stream.bytes()
    for size in range(len(made)):
        assert_damaged(made[:size], (N,))
    assert_damaged(made + b"\0", (N,))


def test_a_commonest_symbol_that_is_an_escape():
    """Each symbol 0 stands for the next escape, wherever it comes from."""
    stream = SparseStream(0, [2, 5], [9, 4])
    values = [1000 + i for i in range(6)]
    b = BitWriter()
    for value in values:
        b.exp_golomb(zigzag(value), 5)
    listed = varint(len(values)) + bytes([5]) + varint(len(b.bytes())) + b.bytes()
    residuals = b"\0\0" + varint(zigzag(-50)) + b"\1" + listed + stream.bytes()
    assert_residuals(residuals, [1000, 1001, -41, 1002, 1003, -46, 1004, 1005], (8,))
    assert_damaged_residuals(residuals.replace(varint(6) + b"\5", varint(5) + b"\5", 1), (8,))


def test_sparse_palettes():
    stream = SparseStream(1, [3, 7], [0, 2])
    made = palette(-1000, [0, 5000], stream.bytes())
    assert_residuals(made, [[-1000, -999, 4002][i] for i in stream.symbols(20)], (20,))
    for wrong in (SparseStream(3, [3, 7], [0, 2]), SparseStream(1, [3, 7], [0, 3])):
        assert_damaged_residuals(palette(-1000, [0, 5000], wrong.bytes()), (20,))


def test_sparse_flags_and_others_of_a_dominant_value():
    n = 16000
    places = [5, 6, 300, 9000, *range(10_000, 14_000, 4)]
    for shift in (0, 4):
        flags = SparseStream(0, places, [1] * len(places), shift)
        others = SparseStream(7, [0, 500], [200, 1], shift)
        numbers = others.symbols(len(places))
        values = np.full(n, -3)
        values[places] = np.array(numbers) - 128
        assert_residuals(dominant(-3, others.bytes(), flags.bytes(), len(places)), values, (n,))
        assert_damaged_residuals(dominant(-3, others.bytes(), flags.bytes(), len(places) - 1), (n,))
    flags = SparseStream(1, [2], [0])
    assert_residuals(dominant(4, constant(130), flags.bytes(), 19), [2, 2, 4] + [2] * 17, (20,))
    for wrong in (SparseStream(0, [2], [2]), SparseStream(2, [2], [1])):
        assert_damaged_residuals(dominant(4, constant(130), wrong.bytes(), 1), (20,))


def test_no_classes_about_a_dominant_value():
    """Neither in its flags nor in the others."""
    tables = {0: Table(constant=1), 1: Table(constant=1)}
    stream = ClassStream([1] * 64, [0, 1] * 4, [0] * 8, 2, 1, tables)
    assert_holds(stream.bytes(), [1] * 64, (64,))
    assert_damaged_residuals(dominant(4, constant(130), stream.bytes(), 64), (64,))
    assert_damaged_residuals(dominant(4, stream.bytes(), constant(1), 64), (64,))
    assert_residuals(dominant(4, raw([1] * 64), constant(1), 64), [-127] * 64, (64,))


def test_sparse_streams_have_at_most_two_to_the_20_symbols():
    stream = SparseStream(128, [0, 77, 1 << 19], [127, 129, 3], 11)
    n = 1 << 20
    assert_holds(stream.bytes(), stream.symbols(n), (n,))
    assert_damaged(stream.bytes(), (n + 1,))
    assert_damaged_residuals(dominant(4, b"", SparseStream(0, [], []).bytes(), 0), (n + 1,))


def refused(frame: bytes) -> None:
    with pytest.raises(reference_decoder.Damaged):
        reference_decoder.decode(frame)
    for read in (szdnn.decompress, szdnn.info):
        with pytest.raises(szdnn.CorruptFrame):
            read(frame)


def one_block(code: int, shape: list[int], block: bytes, fields: bytes = b"\0", kind: int = 0) -> bytes:
    index = struct.pack("<II", len(block), _native.crc32c(_native.as_bytes(block)))
    return forged_frame(code, shape, fields=fields, kind=kind, index=index) + block


def split_planes(n: int, stream: bytes) -> bytes:
    """float32 as its top eight bits below the sign, all the rest zero bits that are left out."""
    return bytes([2, 0, 8, 0]) + constant(23) + b"\0\0" + stream


LATTICE = b"\x02\x09" + struct.pack("<dB", 0.5, 0)
REPEAT = bytes([5, 2, 5, 8])


def test_sparse_streams_in_planes_of_blocks_only():
    n = 40
    stream = SparseStream(0, [3, 17], [127, 128])
    held = (np.array(stream.symbols(n), np.uint32) << 23).view(np.float32)
    frame = one_block(2, [n], b"\1" + split_planes(n, stream.bytes()))
    assert decoded_alike(frame).tobytes() == held.tobytes()
    assert szdnn.info(frame).coder == "sparse"
    plain = split_planes(n, raw(stream.symbols(n)))
    # Not where a lag predicts.
    lag = bytes([5, 2, 5, n])
    assert decoded_alike(one_block(2, [n], b"\1" + plain, lag + b"\0")).tobytes() == held.tobytes()
    refused(one_block(2, [n], b"\1" + split_planes(n, stream.bytes()), lag + b"\0"))
    # Not in outliers.
    gaps = bytes([n, 0, n // 8]) + bytes([0xFF] * (n // 8))
    residuals = direct(constant(128))
    for coded, good in ((plain, True), (split_planes(n, stream.bytes()), False)):
        frame = one_block(2, [n], b"\0" + gaps + coded + residuals, LATTICE + b"\0", kind=1)
        if good:
            assert decoded_alike(frame).tobytes() == held.tobytes()
        else:
            refused(frame)
    # Not in bytes, dictionaries and the other streams of the split form.
    refused(one_block(16, [n], b"\1\1" + stream.bytes()))
    refused(one_block(16, [n], b"\1\3\0\5" + SparseStream(0, [], []).bytes()))
    refused(one_block(2, [n], b"\1" + bytes([2, 0, 8, 0]) + SparseStream(23, [], []).bytes() + b"\0\0" + plain[8:]))


def test_no_sparse_streams_where_a_lag_predicts():
    """Neither in the residuals of its first values nor in the others', in no form."""
    symbols = [1, 1, 1, 0, 1, 1, 1, 1]
    sparse, plain = SparseStream(1, [3], [0]).bytes(), raw(symbols)
    forms = [direct, lambda s: palette(-1, [0, 0], s), lambda s: dominant(2, constant(128), s, 7)]
    for form in forms:
        for first, second, good in ((plain, plain, True), (sparse, plain, False), (plain, sparse, False)):
            frame = one_block(2, [16], b"\0\0" + form(first) + form(second), LATTICE + REPEAT + b"\0", kind=1)
            if good:
                decoded_alike(frame)
            else:
                refused_by_decompress(frame)


def refused_by_decompress(frame: bytes) -> None:
    """Not by `info`, which does not look at all streams of a block."""
    with pytest.raises(reference_decoder.Damaged):
        reference_decoder.decode(frame)
    with pytest.raises(szdnn.CorruptFrame):
        szdnn.decompress(frame)


@pytest.mark.parametrize(("coder", "good"), [(1, True), (4, False), (6, True)])
def test_the_mask_of_interpolation_is_a_plain_or_sparse_stream(coder, good):
    x = np.zeros((32, 32), np.float32)
    x[8:, 8:] = np.add.outer(np.arange(1, 25), np.arange(24)) / 7
    frame = bytes(szdnn.compress(x, szdnn.Abs(1e-3), predictor="interpolation"))
    header, (block,) = reference_decoder.parse_single(frame)
    assert block[:2] == b"\0\0"  # no outliers
    assert block[2] & 1  # a mask
    count = header.elements // 8
    reader = reference_decoder.Reader(block)
    reader.position = 4
    mask = reference_decoder.decode_symbols(reader, count)
    common = max(set(mask), key=mask.count)
    places = [i for i, symbol in enumerate(mask) if symbol != common]
    streams = {
        1: raw(mask),
        6: SparseStream(common, places, [mask[i] for i in places]).bytes(),
        4: ClassStream(mask, [0] * 8 + [1] * (count // 8 - 8), [0] * 8, 2, 1, mask_tables(mask)).bytes(),
    }
    assert reference_decoder.decode_symbols(reference_decoder.Reader(streams[coder]), count, (4, 6)) == mask
    forged = frame[: len(frame) - 4 - len(block)] + block[:4] + streams[coder] + block[reader.position :]
    forged = forged[:3] + struct.pack("<H", len(forged) + 3) + forged[5:]
    forged += struct.pack("<I", _native.crc32c(_native.as_bytes(forged)))
    if good:
        assert decoded_alike(forged).tobytes() == szdnn.decompress(frame).tobytes()
    else:
        refused_by_decompress(forged)


def test_a_hole_of_zeros_in_a_field_takes_few_bytes():
    """Its mask is a sparse stream of the rows where it begins and ends."""
    x = (10 + np.add.outer(np.sin(np.arange(256) / 30), np.cos(np.arange(256) / 40))).astype(np.float32)
    without = len(szdnn.compress(x, szdnn.Abs(1e-3), predictor="interpolation"))
    x[100:120, 50:90] = 0
    frame = bytes(szdnn.compress(x, szdnn.Abs(1e-3), predictor="interpolation"))
    assert not decoded_alike(frame)[100:120, 50:90].any()
    _, (block,) = reference_decoder.parse_single(frame)
    assert block[2] & 1
    assert block[4] == reference_decoder.SPARSE
    assert len(frame) < without + x.size // 8


def mask_tables(mask: list[int]) -> dict[int, Table]:
    """For any bytes: all symbols are as likely as another."""
    return {k: Table(frequencies=dict.fromkeys(range(256), 16), top=128) for k in (0, 1)}


# ---------------------------------------------------------------------------------------------------------------------
# Memory (csrc/FORMAT.md, section 2.3)
# ---------------------------------------------------------------------------------------------------------------------


def touched(residuals: bytes, n: int) -> int:
    """Bytes of the pages of scratch that decoding a block writes to."""
    header = _native.Header()
    fill(header, 2, (n,), "none", False)
    set_tiles(header, (n,), (n,))
    header.complete()
    decoder = _native.Decoder(header)
    decoder._scratch[:] = 0xA5
    block = _native.as_bytes(b"\0\0" + residuals)
    assert block.size < 60
    decoder.decode(0, block, np.empty(n, np.float32), 0, (1,))
    pages = decoder._scratch[: decoder._scratch.size // 4096 * 4096].reshape(-1, 4096)
    return 4096 * int((pages != 0xA5).any(axis=1).sum())


def test_a_short_sparse_frame_of_two_to_the_20_values_takes_at_most_a_megabyte():
    n = 1 << 20
    quarter = n // 4

    def all_gaps_zero(count: int, commonest: int, other: int) -> bytes:
        return SparseStream(
            commonest, [], [], count=count, gap_stream=constant(0), other_stream=constant(other)
        ).bytes()

    full = all_gaps_zero(quarter, 128, 129)
    assert n // 2 < touched(direct(full), n) <= MB
    flags = all_gaps_zero(quarter, 0, 1)
    others = all_gaps_zero(quarter // 4, 128, 129)
    assert touched(dominant(3, others, flags, quarter), n) <= MB
    flags, m = all_gaps_zero(quarter, 1, 0), n - quarter  # the most that two lists can be
    others = all_gaps_zero(m // 4, 128, 129)
    assert 6 * n // 8 < touched(dominant(3, others, flags, m), n) <= MB
