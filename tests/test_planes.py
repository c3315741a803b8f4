"""Lossless blocks: every form comes back, is found where it pays, and the lower bound holds."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import given, settings
from numpy.typing import NDArray
from tensors import FLOATS, WEIGHT_KINDS, bits, dtype_of, make_values, make_weights

import szdnn
from szdnn import _native
from szdnn.decoder import Frame

LEVELS = [name for name, number in _native.ISAS.items() if 0 < number <= _native.ISAS[_native.isa_available()]]
RAW, BYTES, SPLIT, DICTIONARY = range(4)
SPARSE, SIGNS, TAIL = 1, 2, 28


def blocks(frame: bytes) -> list[bytes]:
    """Each block's bytes."""
    parsed = Frame(frame)
    return [parsed.payload(i).tobytes() for i in range(parsed.header.c.blocks)]


def form(frame: bytes) -> int:
    """The first block's lossless form."""
    mode, number = blocks(frame)[0][:2]
    assert mode == 1
    return number


def flags(frame: bytes) -> int:
    assert form(frame) == SPLIT
    return blocks(frame)[0][2]


def lossless(x: NDArray) -> bytes:
    frame = szdnn.compress(x, szdnn.Lossless())
    np.testing.assert_array_equal(bits(szdnn.decompress(frame)), bits(x))
    return frame


@given(
    st.sampled_from(WEIGHT_KINDS),
    st.integers(0, 2**32),
    st.sampled_from([15, 16, 511, 512, 513, 1000, 4095, 4096, 4097, 5000, 12345]),
    st.sampled_from(FLOATS),
)
def test_instruction_sets_agree_on_weights(kind, seed, n, name):
    x = make_weights(kind, seed, n, dtype_of(name))
    frames, back = set(), set()
    try:
        for level in LEVELS:
            _native.isa = level
            frames.add(szdnn.compress(x, szdnn.Lossless()))
            back.add(szdnn.decompress(next(iter(frames))).tobytes())
    finally:
        _native.isa = "auto"
    assert len(frames) == 1
    assert back == {x.tobytes()}


@given(st.sampled_from(WEIGHT_KINDS), st.integers(0, 2**32), st.integers(1, 2000), st.sampled_from(FLOATS))
def test_the_reference_decoder_agrees_on_weights(kind, seed, n, name):
    x = make_weights(kind, seed, n, dtype_of(name))
    assert reference_decoder.decode(szdnn.compress(x, szdnn.Lossless())).tobytes() == x.tobytes()


@given(st.integers(0, 2**32), st.integers(1, 3000), st.sampled_from([np.int16, np.uint32, np.int64]))
def test_the_reference_decoder_agrees_on_integers(seed, n, dtype):
    rng = np.random.default_rng(seed)
    x = rng.choice(rng.integers(0, np.iinfo(dtype).max, rng.choice([3, 200, 5000])), n).astype(dtype)
    assert reference_decoder.decode(szdnn.compress(x, szdnn.Lossless())).tobytes() == x.tobytes()


@pytest.mark.parametrize("name", FLOATS)
def test_each_kind_takes_its_form(name):
    def made(kind: str) -> bytes:
        return lossless(make_weights(kind, 3, 20000, dtype_of(name)))

    assert form(made("clustered")) == DICTIONARY
    assert flags(made("normal")) & ~TAIL == SIGNS
    assert flags(made("positive")) & ~TAIL == 0
    assert flags(made("outliers")) & SPARSE
    if name in ("float32", "float64"):
        assert flags(made("short")) & TAIL


@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("narrow", ["float16", "bfloat16", "float8_e4m3fn"])
def test_values_from_a_narrower_type_cost_what_they_do_there(name, narrow):
    x = make_weights("normal", 4, 1 << 18, dtype_of("float32")).astype(dtype_of(narrow))
    assert len(lossless(x.astype(name))) < 1.03 * len(lossless(x)) + 200


def test_rows_from_a_narrower_type_are_found():
    x = make_weights("normal", 5, 1 << 18, dtype_of("float32"))
    half = x.astype(np.float16).astype(np.float32)
    rows = np.arange(x.size) // 384 % 50 < 25
    expected = (len(lossless(x)) + len(lossless(half))) / 2
    assert len(lossless(np.where(rows, x, half))) < 1.03 * expected


@pytest.mark.parametrize("zeros", [0.5, 0.9, 0.99])
def test_zeros_cost_what_they_are_worth(zeros):
    rng = np.random.default_rng(6)
    x = make_weights("normal", 6, 1 << 18, dtype_of("float32"))
    pruned = np.where(rng.random(x.size) < zeros, np.float32(0), x)
    entropy = -(zeros * np.log2(zeros) + (1 - zeros) * np.log2(1 - zeros)) * x.size / 8
    assert len(lossless(pruned)) < 1.06 * (entropy + (1 - zeros) * len(lossless(x)))


def test_few_values_cost_their_entropy():
    rng = np.random.default_rng(7)
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        values = rng.integers(-(2**30), 2**30, 16).astype(dtype) * 3
        assert len(lossless(rng.choice(values, 1 << 16))) < 1.03 * (1 << 16) * 4 / 8 + 300


def test_values_near_one_cost_their_spread():
    """The mantissa's top bits are nearly constant there: log2(0.01 sqrt(2 pi e) / 2^-23) bits and a sign less."""
    x = (1 + np.random.default_rng(8).normal(0, 0.01, 1 << 17)).astype(np.float32)
    entropy = np.log2(0.01 * np.sqrt(2 * np.pi * np.e) * 2**23.5) / 8 * x.size
    assert len(lossless(x)) < 1.02 * entropy


@pytest.mark.parametrize("name", FLOATS)
def test_what_does_not_compress_costs_64_bytes_at_most(name):
    for n in (1, 15, 600, 5000, 300_000):
        x = make_values("bits", 9, (n,), dtype_of(name))
        assert len(lossless(x)) <= x.nbytes + 64


@given(
    st.sampled_from([*WEIGHT_KINDS, "bits"]),
    st.integers(0, 2**32),
    st.sampled_from([4096, 5000, 70000]),
    st.sampled_from(FLOATS),
    st.floats(0, 1.2),
)
@settings(max_examples=100)
def test_the_lower_bound_holds(kind, seed, n, name, share):
    make = make_weights if kind != "bits" else lambda k, s, m, d: make_values(k, s, (m,), d)
    x = make(kind, seed, n, dtype_of(name))
    frame = szdnn.compress(x, szdnn.Lossless())
    if szdnn.info(frame).blocks == 0:
        return
    size = sum(len(block) for block in blocks(frame))
    assert _native.lossless_floor(Frame(frame).header, x, max(1, int(share * size))) <= size


@given(
    st.sampled_from(["pixels", "counts", "few", "smooth", "one more"]),
    st.integers(0, 2**32),
    st.sampled_from([300, 4096, 5000, 70000]),
    st.sampled_from(["float16", "float32", "float64"]),
    st.floats(0, 1.2),
)
@settings(max_examples=100)
def test_the_lower_bound_holds_for_values_without_random_bits(kind, seed, n, name, share):
    x = plain_values(kind, seed, n).astype(name)
    frame = szdnn.compress(x, szdnn.Lossless())
    if szdnn.info(frame).predictor == "repeat":  # which the bound knows nothing of
        return
    size = sum(len(block) for block in blocks(frame))
    assert _native.lossless_floor(Frame(frame).header, x, max(1, int(share * size))) <= size


def plain_values(kind, seed, n):
    """Of few different values, or of few bits each."""
    rng = np.random.default_rng(seed)
    match kind:
        case "pixels":
            return np.clip(rng.normal(120, 50, n).round(), 0, 255)
        case "counts":
            return rng.geometric(0.02, n)
        case "few":
            return rng.choice(rng.normal(size=rng.integers(1, 300)), n)
        case "smooth":
            return (np.sin(np.arange(n) / 50) * 1000).round() / 4
    x = rng.choice(np.arange(256.0), n)  # a sample does not see that there are more than a dictionary holds
    x[rng.integers(n)] = 1000.5
    return x


@pytest.mark.parametrize("expected", [BYTES, DICTIONARY])
def test_the_lower_bound_is_of_use_for_pixels(expected):
    """Their numbers in a dictionary, and the bytes of their mantissas, say at least what these bytes do."""
    rng = np.random.default_rng(14)
    spread = rng.normal(128, 40, (512, 512)) if expected == BYTES else rng.uniform(0, 255, (512, 512))
    x = np.clip(spread.round(), 0, 255).astype(np.float32)
    lossy = szdnn.compress(x, szdnn.Rel(1e-2))
    header = Frame(szdnn.compress(x, szdnn.Lossless())).header
    assert form(lossless(x)) == expected
    assert _native.lossless_floor(header, x, len(lossy)) >= len(lossy)


@pytest.mark.parametrize("name", FLOATS)
def test_the_lower_bound_is_of_use(name):
    """It proves that a lossy frame at a hundredth of the range is the smaller one."""
    x = make_weights("normal", 10, 1 << 18, dtype_of(name))
    lossy = szdnn.compress(x, szdnn.Rel(1e-2))
    header = Frame(szdnn.compress(x, szdnn.Lossless())).header
    assert _native.lossless_floor(header, x, len(lossy)) >= len(lossy)


@pytest.mark.parametrize("zeros", [0.5, 0.9, 0.99])
def test_the_lower_bound_is_of_use_where_most_are_zero(zeros):
    x = make_weights("normal", 12, 1 << 18, dtype_of("float32"))
    x[np.random.default_rng(12).random(x.size) < zeros] = 0
    lossy = szdnn.compress(x, szdnn.Rel(1e-2))
    header = Frame(szdnn.compress(x, szdnn.Lossless())).header
    assert _native.lossless_floor(header, x, len(lossy)) >= len(lossy)


def test_pruned_and_clustered_values_are_numbered():
    rng = np.random.default_rng(13)
    for clusters in (16, 255):
        x = rng.choice(rng.normal(size=clusters).astype(np.float32), 1 << 18)
        x[rng.random(x.size) < 0.95] = 0
        assert form(lossless(x)) == DICTIONARY


def test_too_many_escapes_for_the_sample_are_survived():
    """Where the sample looks there are values of one scale, elsewhere of another."""
    n = 1 << 18
    step = (n - 16) // 256
    runs = [k * step + k * k * 977 % step for k in range(256)]
    seen = np.zeros(n, dtype=bool)
    for start in runs:
        seen[start : start + 16] = True
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(11).normal(0, 1, n)
        x = np.where(seen, x, x * 1e-30).astype(dtype)
        frame = lossless(x)
        assert form(frame) == SPLIT
        header = Frame(frame).header
        assert _native.lossless_floor(header, x, x.nbytes) <= len(frame)
