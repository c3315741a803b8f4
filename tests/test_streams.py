"""Composite symbol streams (csrc/FORMAT.md, section 4): matrices whose rows and columns have scales of their own,
sparse tensors, wide alphabets; and such streams as only a forger writes."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import assume, given
from numpy.typing import NDArray
from stream_writer import (
    BitWriter,
    ClassStream,
    SparseStream,
    Table,
    explicit_table,
    interpolated_table,
    knots,
    rans,
    raw,
    varint,
    zigzag,
)
from tensors import CODERS, FLOATS, PREDICTORS, assert_within, dtype_of, magnitudes, scaled_matrices
from test_corruption import forged_frame
from test_determinism import LEVELS
from test_guarantee import allowed_eps

import szdnn
from szdnn import _native


def matrix_bounds() -> Any:
    """From a few symbols to raw low bits under wide alphabets, absolute and pointwise."""
    return st.one_of(
        magnitudes(-4.5, -0.5).map(szdnn.Rel),
        magnitudes(-4, 0.5).map(szdnn.Std),
        magnitudes(-6, 1).map(szdnn.Abs),
        magnitudes(-4, -0.3).map(szdnn.PointwiseRel),
    )


def decoded_alike(frame: bytes) -> NDArray[Any]:
    """What the frame holds, if the reference decoder and every instruction set say the same bit for bit."""
    theirs = reference_decoder.decode(frame)
    try:
        for _native.isa in LEVELS:
            ours = szdnn.decompress(frame)
            assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
    finally:
        _native.isa = "auto"
    return theirs


@given(scaled_matrices(FLOATS), matrix_bounds(), st.sampled_from(PREDICTORS), st.sampled_from(CODERS))
def test_matrices_with_scales_keep_their_bound_in_every_decoder(x, bound, predictor, coder):
    made = set()
    try:
        for _native.isa in LEVELS:
            made.add(szdnn.compress(x, bound, predictor=predictor, coder=coder))
    finally:
        _native.isa = "auto"
    assert len(made) == 1
    frame = made.pop()
    y = decoded_alike(frame)
    assert_within(x, y, allowed_eps(x, bound), bound.r if isinstance(bound, szdnn.PointwiseRel) else None)
    assert szdnn.compare(x, y, szdnn.info(frame)).violations == 0


@given(scaled_matrices(FLOATS), st.data())
def test_parts_of_matrices_with_scales_can_be_read(x, data):
    frame = szdnn.compress(x, szdnn.Rel(1e-2))
    whole = szdnn.decompress(frame)
    start = data.draw(st.integers(0, x.shape[0] - 1))
    rows = slice(start, data.draw(st.integers(start, x.shape[0])), data.draw(st.integers(1, 3)))
    part, expected = szdnn.read(frame, (rows, ..., -1)), whole[rows, ..., -1]
    assert part.shape == expected.shape
    assert part.tobytes() == expected.tobytes()


def _scaled(rows: int, width: int, by_row: bool, by_column: bool) -> NDArray[Any]:
    rng = np.random.default_rng(rows + width)
    x = rng.normal(size=(rows, width))
    x *= np.exp(rng.normal(0, by_row, (rows, 1))) * np.exp(rng.normal(0, by_column, (1, width)))
    return x.astype(np.float32)


@pytest.mark.parametrize(("by_row", "by_column"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(40, 50), (300, 64), (64, 300), (1000, 130), (9, 16384), (20, 16385)])
@pytest.mark.parametrize("bound", [szdnn.Rel(1e-2), szdnn.Std(0.3), szdnn.Rel(1e-4)])
def test_scales_never_cost_and_mostly_save(by_row, by_column, shape, bound):
    """Against the same values in an order in which no row and no column is unlike another."""
    x = _scaled(*shape, by_row, by_column)
    frame = szdnn.compress(x, bound, predictor="none")
    decoded_alike(frame)
    shuffled = np.random.default_rng(0).permutation(x.reshape(-1)).reshape(shape)
    plain = szdnn.compress(shuffled, bound, predictor="none")
    assert szdnn.info(plain).coder != "rans-classes"
    assert len(frame) <= len(plain) * 1.005 + 24
    if shape[1] <= 16384 and x.size > 10_000 and bound == szdnn.Std(0.3):
        assert szdnn.info(frame).coder == "rans-classes"
        assert len(frame) < 0.97 * len(plain)


@pytest.mark.parametrize("size", [600, 5000, 260_000])
@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.05])
def test_sparse_tensors_take_little_more_than_their_entropy(size, share):
    """Few values other than zero, each of these one of some hundred."""
    rng = np.random.default_rng(size)
    there = rng.random(size) < share
    there[7] = True
    x = np.where(there, rng.integers(1, 121, size) - 60.5, 0).astype(np.float32)
    frame = szdnn.compress(x, szdnn.Abs(0.5), predictor="none")
    assert np.abs(decoded_alike(frame) - x).max() <= 0.5
    p = np.count_nonzero(x) / size
    entropy = size * (-p * np.log2(p) - (1 - p) * np.log2(1 - p) + p * np.log2(120))
    assert len(frame) * 8 <= 1.03 * entropy + 1000


@pytest.mark.parametrize("width", [7, 8, 63, 64, 65, 100, 1000])
def test_wide_alphabets_with_low_bits_and_escapes(width):
    rng = np.random.default_rng(width)
    x = rng.standard_t(2, (4000 // width + 40, width)) * np.exp(rng.normal(0, 1.2, (4000 // width + 40, 1)))
    for dtype in FLOATS:
        with np.errstate(over="ignore"):
            values = x.astype(dtype_of(dtype))
        for eps in (1e-1, 1e-2, 1e-3):
            frame = szdnn.compress(values, szdnn.Abs(eps), predictor="none")
            assert_within(values, decoded_alike(frame), eps, None)


# ---------------------------------------------------------------------------------------------------------------------
# Streams of a writer that is not the encoder
# ---------------------------------------------------------------------------------------------------------------------


def direct(stream: bytes) -> bytes:
    """Residuals of form 0: symbol s is the residual s - 128."""
    return b"\0\0" + varint(255) + b"\0" + stream


def lattice_frame(residuals: bytes, shape: tuple[int, ...]) -> bytes:
    """One block of a float32 lattice of step 1."""
    block = b"\0\0" + residuals
    lattice = b"\x02\x09" + struct.pack("<dB", 0.5, 0)
    size = int(np.prod(shape))
    tiles = b"" if size <= 1 << 18 else bytes([4, 1 + 2 * len(varint(size)), 1]) + 2 * varint(size)
    index = struct.pack("<II", len(block), _native.crc32c(_native.as_bytes(block)))
    return forged_frame(2, list(shape), fields=lattice + tiles + b"\0", kind=1, index=index) + block


def assert_residuals(residuals: bytes, values: Any, shape: tuple[int, ...]) -> None:
    expected = np.array(values, np.float32).reshape(shape)
    np.testing.assert_array_equal(decoded_alike(lattice_frame(residuals, shape)), expected)


def assert_holds(stream: bytes, symbols: Any, shape: tuple[int, ...]) -> None:
    assert_residuals(direct(stream), np.array(symbols, np.float32) - 128, shape)


def assert_damaged(stream: bytes, shape: tuple[int, ...]) -> None:
    assert_damaged_residuals(direct(stream), shape)


def assert_damaged_residuals(residuals: bytes, shape: tuple[int, ...]) -> None:
    """Both decoders refuse a frame whose checksums are right."""
    frame = lattice_frame(residuals, shape)
    with pytest.raises(reference_decoder.Damaged):
        reference_decoder.decode(frame)
    try:
        for _native.isa in LEVELS:
            with pytest.raises(szdnn.CorruptFrame):
                szdnn.decompress(frame)
    finally:
        _native.isa = "auto"


@st.composite
def explicit_tables(draw: Any) -> Table:
    symbols = sorted(draw(st.sets(st.integers(0, 255), min_size=2, max_size=12)))
    weights = draw(st.lists(st.integers(1, 4096), min_size=len(symbols), max_size=len(symbols)))
    top = draw(st.sampled_from(symbols))
    frequencies = {s: max(1, w * 4000 // sum(weights)) for s, w in zip(symbols, weights, strict=True)}
    frequencies[top] += 4096 - sum(frequencies.values())
    return Table(frequencies=frequencies, top=top)


@st.composite
def interpolated_tables(draw: Any) -> Table:
    """Their frequencies as the reference decoder reads them. All of p, any knots. The expected top is 128."""
    lo, top, hi = sorted(draw(st.tuples(*[st.integers(0, 255)] * 3)))
    assume(lo < hi)
    p, g = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    count = knots(hi - top) + knots(top - lo)
    size = draw(st.sampled_from([4, 40, 400, 3000]))
    written = interpolated_table(
        top, lo, hi, p, g, draw(st.lists(st.integers(0, size), min_size=count, max_size=count))
    )
    try:
        table = reference_decoder.read_frequencies(reference_decoder.Bits(written), 128)
    except reference_decoder.Damaged:
        assume(False)
    assert table.top == top
    return Table(frequencies=table.frequencies, top=top, written=written)


def draw_symbols(rng: np.random.Generator, table: Table, count: int) -> list[int]:
    if table.constant is not None:
        return [table.constant] * count
    used = [s for s, f in table.frequencies.items() if f]
    weights = np.array([table.frequencies[s] for s in used]) / 4096
    uniform = rng.random() < 0.3
    return [int(s) for s in rng.choice(used, count, p=None if uniform else weights)]


@given(st.one_of(explicit_tables(), interpolated_tables()), st.integers(0, 6), st.integers(1, 2000), st.integers(0, 99))
def test_any_table_and_any_number_of_lanes(table, lanes_log2, n, seed):
    symbols = draw_symbols(np.random.default_rng(seed), table, n)
    stream = table.bytes(128) + rans([(table.frequencies, symbols)], lanes_log2)
    assert_holds(stream, symbols, (n,))


@st.composite
def class_streams(draw: Any) -> ClassStream:
    """Any number of levels, lanes and classes without symbols; constants among the tables."""
    row_levels, column_levels = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    assume(row_levels + column_levels > 2)
    height, width = draw(st.integers(1, 40)), draw(st.integers(8, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, columns = rng.integers(0, row_levels, height).tolist(), rng.integers(0, column_levels, width).tolist()
    classes = sorted({r + c for r in rows for c in columns})
    constants = st.integers(0, 255).map(lambda s: Table(constant=s))
    tables = {k: draw(st.one_of(explicit_tables(), constants)) for k in classes}
    if draw(st.booleans()):  # a table written for the expected top 128: it has to be the first
        tables[classes[0]] = draw(interpolated_tables())
    symbols = [draw_symbols(rng, tables[r + c], 1)[0] for r in rows for c in columns]
    return ClassStream(symbols, rows, columns, row_levels, column_levels, tables, draw(st.integers(0, 6)))


@given(class_streams())
def test_any_stream_of_classes(stream):
    assert_holds(stream.bytes(), stream.symbols, (len(stream.rows), len(stream.columns)))


def damaged(stream: bytes, seed: int, data: st.DataObject, near: list[int]) -> bytes:
    """One to three bits flipped, or bytes cut off or put in; each but in the first byte, before one of `near`."""
    forged, rng = bytearray(stream), np.random.default_rng(seed)
    for _ in range(data.draw(st.integers(1, 3))):
        at = int(rng.integers(1, min(len(forged), data.draw(st.sampled_from(near)))))
        match data.draw(st.sampled_from(["flip", "flip", "cut", "put"])):
            case "flip":
                forged[at] ^= 1 << int(rng.integers(8))
            case "cut":
                del forged[at]
            case "put":
                forged.insert(at, int(rng.integers(256)))
    return bytes(forged)


def assert_judged_alike(frame: bytes) -> None:
    """Both decoders refuse it, or it means the same to them."""
    try:
        reference_decoder.decode(frame)
    except reference_decoder.Damaged:
        with pytest.raises(szdnn.CorruptFrame):
            szdnn.decompress(frame)
    else:
        decoded_alike(frame)


@given(class_streams(), st.integers(0, 2**32), st.data())
def test_both_decoders_refuse_the_same_streams_of_classes(stream, seed, data):
    """Under valid checksums, bits of the stream flipped, bytes cut off or put in."""
    forged = damaged(stream.bytes(), seed, data, near=[12, 60, 10**6])
    assert_judged_alike(lattice_frame(forged, (len(stream.rows), len(stream.columns))))


def valid_classes(lanes_log2: int = 2) -> ClassStream:
    """16 rows and 24 columns with four and three levels; 42 bytes of levels, of which 2 L are carried."""
    rng = np.random.default_rng(0)
    rows, columns = [0, 1, 2, 3] * 4, [0, 1, 2] * 8
    tables = {k: Table(frequencies={100: 1000, 128: 2096, 150 + k: 1000}, top=128) for k in range(5)}
    tables[5] = Table(constant=77)
    symbols = [draw_symbols(rng, tables[r + c], 1)[0] for r in rows for c in columns]
    return ClassStream(symbols, rows, columns, 4, 3, tables, lanes_log2)


SHAPE = (16, 24)
ROWS, COLUMNS = raw([0, 1, 2, 3] * 4), raw([0, 1, 2] * 8)
SPARSE_ROWS = SparseStream(0, [1, 2, 3], [1, 2, 3]).bytes()


@pytest.mark.parametrize("lanes_log2", range(7))
def test_the_stream_that_is_forged_below_is_valid(lanes_log2):
    assert_holds(valid_classes(lanes_log2).bytes(), valid_classes().symbols, SHAPE)


FORGED: dict[str, dict[str, Any]] = {
    "the width does not divide n": {"width": 25},
    "the width is below 8": {"width": 6},
    "the width is above 2^14": {"width": 3 << 13},
    "the width is 0": {"width": 0},
    "other rows than announced by the width": {"width": 48},
    "one class": {"nibbles": 0},
    "nine row levels": {"nibbles": 8 | 2 << 4},
    "nine column levels": {"nibbles": 3 | 8 << 4},
    "more levels than there are": {"nibbles": 4 | 2 << 4},
    "too many rows of the first level": {"row_counts": [5, 3, 4]},
    "too few rows of the first level": {"row_counts": [3, 4, 4]},
    "more rows than there are": {"row_counts": [4, 4, 9]},
    "too many rows by far": {"row_counts": [2**40, 4, 4]},
    "more columns than there are": {"column_counts": [8, 17]},
    "other columns than announced": {"column_counts": [7, 9]},
    "one byte of levels too many": {"levels": ROWS + COLUMNS + b"\0"},
    "one byte of levels too few": {"levels": (ROWS + COLUMNS)[:-1]},
    "no levels": {"levels": b""},
    "more bytes of levels than allowed": {"levels_size": 16 + 24 + 4097},
    "more bytes of levels than there are": {"levels_size": 16 + 24 + 4096},
    "far more bytes of levels": {"levels_size": 2**63},
    "a row's level is out of range": {"levels": raw([0, 1, 2, 4] * 4) + COLUMNS},
    "a column's level is out of range": {"levels": ROWS + raw([0, 1, 255] * 8)},
    "other levels than announced": {"levels": raw([3, 1, 2, 3] + [0, 1, 2, 3] * 3) + COLUMNS},
    "constant levels": {"levels": bytes([0, 0]) + COLUMNS},
    "classes within the levels": {"levels": bytes([4]) + ROWS[1:] + COLUMNS},
    "an unknown coder of the levels": {"levels": bytes([5]) + ROWS[1:] + COLUMNS},
    "a sparse stream of levels": {"levels": SPARSE_ROWS + COLUMNS},
    "a state beyond 2^17": {"beyond": 1 << 16},
    "a state far beyond": {"beyond": 1 << 28},
    "words after the last": {"extra": b"\0\0"},
    "half a word after the last": {"extra": b"\0"},
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
@pytest.mark.parametrize("lanes_log2", [0, 2, 6])
def test_forged_classes(what, lanes_log2):
    assert_damaged(dataclasses.replace(valid_classes(lanes_log2), **FORGED[what]).bytes(), SHAPE)


def test_forged_carried_bytes():
    """64 lanes have room for 128 bytes, of which 42 are levels: the others are zero."""
    valid = valid_classes(6)
    for at in (42, 43, 127):
        carried = bytearray(valid.level_bytes().ljust(128, b"\0"))
        assert_holds(dataclasses.replace(valid, carried=bytes(carried)).bytes(), valid.symbols, SHAPE)
        carried[at] = 1
        assert_damaged(dataclasses.replace(valid, carried=bytes(carried)).bytes(), SHAPE)


def test_forged_bits_after_the_counts():
    """130 is a number of 10 bits."""
    rows, tables = [0] * 130 + [1] * 3, {0: Table(constant=3), 1: Table(constant=4)}
    valid = ClassStream([3] * 130 * 8 + [4] * 3 * 8, rows, [0] * 8, 2, 1, tables)
    assert_holds(valid.bytes(), valid.symbols, (133, 8))
    for padding in (1, 32):
        assert_damaged(dataclasses.replace(valid, counts_padding=padding).bytes(), (133, 8))


@pytest.mark.parametrize("coder", [1, 2, 4, 5, 255])
@pytest.mark.parametrize("which", [0, 3, 5])
def test_forged_coders_of_classes(coder, which):
    stream = valid_classes()
    stream.tables[which] = dataclasses.replace(stream.tables[which], coder=coder)
    assert_damaged(stream.bytes(), SHAPE)


def test_classes_end_where_the_block_does():
    stream = valid_classes().bytes()
    assert_damaged(stream + b"\0", SHAPE)
    for size in range(len(stream)):
        assert_damaged(stream[:size], SHAPE)


def test_classes_that_are_all_constant():
    """The rANS payload is there all the same, and carries levels."""
    tables = {k: Table(constant=100 + k) for k in range(6)}
    stream = dataclasses.replace(valid_classes(), tables=tables)
    stream.symbols = [100 + r + c for r in stream.rows for c in stream.columns]
    for lanes_log2 in range(7):
        assert_holds(dataclasses.replace(stream, lanes_log2=lanes_log2).bytes(), stream.symbols, SHAPE)
    assert_damaged(dataclasses.replace(stream, extra=b"\0\0").bytes(), SHAPE)


PAIR = {3: 4000, 200: 96}
FEW = [3] * 30 + [200] * 2


def _places(*numbers: int, m: int = 11) -> bytes:
    """A frequency table's first four numbers, of its own devising, then zeros."""
    from stream_writer import BitWriter

    b = BitWriter()
    for u in numbers:
        b.exp_golomb(u, 2)
    b.put(m, 4)
    return b.bytes() + bytes(40)


@pytest.mark.parametrize(
    "table",
    [
        _places(255, 0, 5),  # top = 128 - 128 = 0, for control with 2 knots below
        _places(0, 0, 0),  # lo = hi
        _places(256, 0, 5),  # top = 256
        _places(257, 0, 5),  # top = -1
        _places(0, 129, 5),  # lo = -1
        _places(0, 5, 128),  # hi = 256
        _places(2**62, 0, 5),
        _places(0, 2**62, 5),
        _places(0, 5, 2**62),
        explicit_table({3: 4000, 200: 96, 201: 0}, 3),  # the last symbol is not used
        explicit_table({2: 0, 3: 4000, 200: 96}, 3),  # nor the first
        explicit_table({3: 1, 4: 2048, 5: 2048}, 3),  # nothing is left for top
        explicit_table({3: 1, 4: 4095, 5: 4095}, 3),
        interpolated_table(100, 100, 101, 0, 3, [2 * 4097]),
        interpolated_table(100, 100, 101, 0, 3, [2 * 4097 - 1]),
        interpolated_table(100, 100, 102, 0, 3, [2 * 4096, 1 << 40]),
        interpolated_table(100, 100, 102, 0, 3, [2 * 4096 - 1, 2 * 8200]),  # in range, but too far from the guess
    ],
)
def test_forged_tables(table):
    for lanes_log2 in (0, 6):
        assert_damaged(b"\x03" + table + rans([(PAIR, FEW)], lanes_log2), (32,))


def test_forged_states():
    table = b"\x03" + explicit_table(PAIR, 3)
    assert_holds(table + rans([(PAIR, FEW)], 2), FEW, (32,))
    assert_holds(table + rans([(PAIR, FEW)], 6), FEW, (32,))
    assert_damaged(table + rans([(PAIR, FEW)], 2, ends=[1]), (32,))
    assert_damaged(table + rans([(PAIR, FEW)], 6, ends=[0] * 63 + [1]), (32,))  # of a lane without symbols
    assert_damaged(table + rans([(PAIR, FEW)], 2, extra=b"\0\0"), (32,))
    assert_damaged(table + rans([(PAIR, FEW)], 2, extra=b"\0"), (32,))
    assert_damaged(table + bytes([7]) + rans([(PAIR, FEW)], 6)[1:], (32,))


def dominant(value: int, others: bytes, flags: bytes, m: int) -> bytes:
    return bytes([1]) + varint(zigzag(value)) + varint(m) + flags + (direct(others) if others else b"")


def test_forged_dominant_values():
    flags = [0, 1, 0, 0, 1, 0, 0, 1]
    others = raw([5, 6, 9])
    values = [9, 5 - 128, 9, 9, 6 - 128, 9, 9, 9 - 128]
    assert_residuals(dominant(9, others, raw(flags), 3), values, (8,))
    assert_residuals(dominant(-7, bytes([0, 4]), raw([1] * 7 + [0]), 7), [4 - 128] * 7 + [-7], (8,))
    assert_residuals(dominant(3, b"", bytes([0, 0]), 0), [3] * 8, (8,))
    for m, numbers in ((2, [5, 6]), (4, [5, 6, 9, 1]), (0, []), (8, [1] * 8), (9, [1] * 9), (2**40, [])):
        assert_damaged_residuals(dominant(9, raw(numbers) if numbers else b"", raw(flags), m), (8,))
    for wrong in ([0, 2, 0, 0, 1, 0, 0, 1], [0, 3, 0, 0, 1, 0, 0, 1]):
        assert_damaged_residuals(dominant(9, others, raw(wrong), 3), (8,))
    for constant in (0, 1, 2):
        assert_damaged_residuals(dominant(9, others, bytes([0, constant]), 3), (8,))
    nested = bytes([1, 18, 3]) + raw(flags) + dominant(5, raw([6]), raw([0, 1, 0]), 1)
    assert_damaged_residuals(nested, (8,))
    assert_damaged_residuals(dominant(9, others, raw(flags), 3) + b"\0", (8,))
    assert_damaged_residuals(dominant(2**31, others, raw(flags), 3), (8,))
    for size in range(len(dominant(9, others, raw(flags), 3))):
        assert_damaged_residuals(dominant(9, others, raw(flags), 3)[:size], (8,))


def palette(first: int, steps: list[int], stream: bytes) -> bytes:
    b = BitWriter()
    for step in steps:
        b.exp_golomb(step, 3)
    bits = b.bytes()
    listed = bytes([3]) + varint(len(bits)) + bits if steps else b""
    return bytes([2, len(steps)]) + varint(zigzag(first)) + listed + stream


def test_forged_palettes():
    numbers = [0, 1, 2, 1, 0, 2, 2, 2]
    made = palette(-1000, [0, 5000], raw(numbers))
    assert_residuals(made, [[-1000, -999, 4002][i] for i in numbers], (8,))
    assert_residuals(palette(77, [], bytes([0, 0])), [77] * 8, (8,))
    assert_damaged_residuals(palette(-1000, [0, 5000], raw([*numbers[:7], 3])), (8,))
    assert_damaged_residuals(palette(77, [], bytes([0, 1])), (8,))
    assert_damaged_residuals(palette(2**31, [], bytes([0, 0])), (8,))
    assert_damaged_residuals(palette(2**31 - 2, [0, 0], raw(numbers)), (8,))
    assert_residuals(palette(2**31 - 2, [0], raw([1] + [0] * 7)), [2**31 - 1] + [2**31 - 2] * 7, (8,))
    for size in range(len(made)):
        assert_damaged_residuals(made[:size], (8,))
    assert_damaged_residuals(made + b"\0", (8,))


@pytest.mark.parametrize("form", [3, 4, 255])
def test_other_forms_of_residuals(form):
    """Form 3 needs its field in the header."""
    assert_damaged_residuals(bytes([form]) + direct(raw([1] * 8))[1:], (8,))


def long_classes(rows: int) -> ClassStream:
    """Rows of 2048 symbols, the second unlike the others; each adds a byte to the stream."""
    tables = {0: Table(constant=5), 1: Table(constant=9)}
    levels = [0, 1] + [0] * (rows - 2)
    symbols = np.repeat(np.where(levels, 9, 5), 2048).tolist()
    return ClassStream(symbols, levels, [0] * 2048, 2, 1, tables, 0)


def test_long_streams_of_classes_have_at_least_256_bytes_and_at_most_two_to_the_20_symbols():
    rows = 200 + 257 - len(long_classes(200).bytes())  # with 256 bytes after the coder
    assert len(long_classes(rows).bytes()) == 257
    for count, valid in ((128, True), (129, False), (rows - 1, False), (rows, True), (512, True), (513, False)):
        stream, shape = long_classes(count), (2048 * count,)
        if valid:
            assert_holds(stream.bytes(), stream.symbols, shape)
        else:
            assert_damaged(stream.bytes(), shape)


def test_composite_streams_are_for_residuals_only():
    """Not for the planes of lossless blocks."""
    stream = valid_classes()
    block = b"\x01\x01" + stream.bytes()
    index = struct.pack("<II", len(block), _native.crc32c(_native.as_bytes(block)))
    frame = forged_frame(16, [len(stream.symbols)], index=index) + block
    with pytest.raises(reference_decoder.Damaged):
        reference_decoder.decode(frame)
    with pytest.raises(szdnn.CorruptFrame):
        szdnn.decompress(frame)


@pytest.mark.parametrize("zeros", [0.9, 0.99])
@pytest.mark.parametrize("rel", [1e-2, 1e-3])
def test_what_pruning_leaves_takes_little_more_than_its_entropy(zeros, rel):
    """It lies in two humps, on both sides of zero, and where nearly all is zero a small sample holds none of it."""
    x = np.random.default_rng(20).normal(0, 0.02, (512, 512)).astype(np.float32)
    x[np.abs(x) < np.quantile(np.abs(x), zeros)] = 0
    eps = rel * float(x.max() - x.min())
    _, counts = np.unique(np.rint(x / (2 * eps)), return_counts=True)
    ideal = float(np.sum(counts * np.log2(x.size / counts))) / 8
    frame = szdnn.compress(x, szdnn.Abs(eps))
    assert len(frame) <= 1.04 * ideal
    decoded_alike(frame)


def test_a_block_whose_sample_is_all_zero():
    """What few values there are lies where no run of the sample does."""
    x = np.zeros(1 << 18, np.float32)
    rng = np.random.default_rng(21)
    places = rng.choice(x.size, 300, replace=False)
    x[places] = rng.normal(0, 1, 300)
    frame = szdnn.compress(x, szdnn.Abs(1e-4))
    assert len(frame) < 1200
    np.testing.assert_allclose(szdnn.decompress(frame), x, atol=1e-4, rtol=0)
