"""The predictor repeat: what comes again costs next to nothing, is found whatever the lag, and the bound holds."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import given
from numpy.typing import NDArray
from tensors import FLOATS, assert_within, bits, dtype_of, simple_bounds

import szdnn
from szdnn import _native

RNG = np.random.default_rng(11)
VALUES = 1 << 19


def repeated(period: int, size: int, seed: int = 0, dtype: Any = np.float32) -> NDArray[Any]:
    """A run of Laplace values, again and again."""
    return np.resize(np.random.default_rng(seed).laplace(0, 0.02, period).astype(dtype), size)


def assert_kept(x: NDArray[Any], frame: bytes) -> None:
    """The bound that the frame declares, in exact arithmetic."""
    info = szdnn.info(frame)
    assert_within(x, szdnn.decompress(frame), info.eps, info.pointwise)


@pytest.mark.parametrize("period", [7, 100, 4096, 100_000])
@pytest.mark.parametrize("bound", [szdnn.Rel(1e-3), szdnn.Lossless()], ids=["rel", "lossless"])
def test_a_repeated_run_is_paid_once_a_block(period, bound):
    x = repeated(period, VALUES)
    frame = szdnn.compress(x, bound)
    assert szdnn.info(frame).predictor == "repeat"
    once = len(szdnn.compress(x[:period], bound, predictor="none"))
    assert len(frame) < 1.05 * once + 200
    assert_kept(x, frame)


def test_one_percent_of_other_values_cost_little_more_than_they_must():
    x = repeated(4096, VALUES)
    others = RNG.random(VALUES) < 0.01
    x[others] = RNG.laplace(0, 0.02, int(others.sum()))
    frame = szdnn.compress(x, szdnn.Rel(1e-2))
    assert szdnn.info(frame).predictor == "repeat"
    assert len(frame) < 0.1 * len(szdnn.compress(x, szdnn.Rel(1e-2), predictor="none"))
    assert_kept(x, frame)


def test_decoding_takes_less_than_a_megabyte_beside_the_output():
    frame = szdnn.compress(repeated(1 << 17, 1 << 18), szdnn.Rel(1e-2))
    header = _native.Header.read(np.frombuffer(frame, np.uint8))
    assert header.c.lag == 1 << 17
    assert _native.decode_scratch(header) < 1 << 20


def test_rows_of_a_matrix_that_come_again():
    x = np.tile(RNG.normal(0, 0.02, (16, 768)).astype(np.float32), (12, 1))
    frame = szdnn.compress(x, szdnn.Rel(1e-2))
    assert szdnn.info(frame).predictor == "repeat"
    assert len(frame) < 0.1 * len(szdnn.compress(x, szdnn.Rel(1e-2), predictor="none"))
    np.testing.assert_array_equal(szdnn.read(frame, np.s_[20:25, ::5]), szdnn.decompress(frame)[20:25, ::5])


@pytest.mark.parametrize("effort", [2, 3, 7, 9])
def test_every_effort_that_predicts_finds_it(effort):
    x = repeated(300, 6000)
    frame = szdnn.compress(x, szdnn.Rel(1e-2), effort=effort)
    assert szdnn.info(frame).predictor == "repeat"
    assert szdnn.info(szdnn.compress(x, szdnn.Rel(1e-2), effort=1)).predictor == "none"


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "float8_e4m3fn", "complex64", "bool"])
def test_other_dtypes_losslessly(dtype):
    x = np.resize(RNG.integers(0, 2 if dtype == "bool" else 100, 500), 20_000).astype(dtype_of(dtype))
    frame = szdnn.compress(x, szdnn.Lossless())
    assert szdnn.info(frame).predictor == "repeat"
    assert bits(szdnn.decompress(frame)).tobytes() == bits(x).tobytes()
    assert bits(reference_decoder.decode(frame)).tobytes() == bits(x).tobytes()


def test_weights_do_not_repeat():
    for scale in (0, 0.9, 0.999):  # of zeros
        x = RNG.normal(0, 0.02, (500, 700)).astype(np.float32)
        x[RNG.random(x.shape) < scale] = 0
        assert szdnn.info(szdnn.compress(x, szdnn.Rel(1e-2))).predictor != "repeat"


@st.composite
def tiled(draw: Any) -> NDArray[Any]:
    """A run, again and again, with NaN, infinities, zeros and other values in some places."""
    dtype = dtype_of(draw(st.sampled_from(FLOATS)))
    period, size = draw(st.integers(1, 3000)), draw(st.integers(1, 9000))
    x = repeated(period, size, draw(st.integers(0, 99)), np.float64)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    for value in draw(st.lists(st.sampled_from([np.nan, np.inf, 0.0, -0.0, 1e3, -7.0]), max_size=3)):
        x[rng.random(size) < draw(st.sampled_from([0.001, 0.03, 0.5]))] = value
    return x.astype(dtype)


@given(tiled(), simple_bounds(), st.sampled_from(["auto", "repeat"]), st.sampled_from(["auto", "rans", "huffman"]))
def test_the_bound_holds_and_both_decoders_agree(x, bound, predictor, coder):
    frame = szdnn.compress(x, bound, predictor=predictor, coder=coder)
    decoded = szdnn.decompress(frame)
    assert_kept(x, frame)
    if x.size < 1500:
        assert bits(reference_decoder.decode(frame)).tobytes() == bits(decoded).tobytes()


@given(st.integers(1, 3000), st.integers(0, 5000), st.integers(0, 99))
def test_any_lag_in_a_header_decodes_to_what_was_encoded(lag, size, seed):
    """Also one that predicts nothing, and one that is longer than the tensor."""
    x = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_native, "find_lag", lambda code, values, count: lag)
        for bound in (szdnn.Abs(0.1), szdnn.PointwiseRel(0.1), szdnn.Lossless()):
            frame = szdnn.compress(x, bound, predictor="repeat")
            assert_kept(x, frame)


def test_instruction_sets_agree():
    x = repeated(1000, 50_000)
    frames = set()
    for isa in ("scalar", "avx2", "auto"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_native, "isa", isa)
            frame = szdnn.compress(x, szdnn.Rel(1e-3))
            frames.add((frame, szdnn.decompress(frame).tobytes()))
    assert len(frames) == 1


@pytest.mark.parametrize("rel", [1e-1, 1e-2, 1e-3])
def test_a_lossy_frame_is_no_larger_than_the_lossless_one_that_repeats(rel):
    """Of more than one block: these decide one by one, and know nothing of other blocks."""
    x = ((np.sin(np.arange(300_000) / 50) * 1000).round() / 4).astype(dtype_of("bfloat16"))
    lossless, room = szdnn.compress(x, szdnn.Lossless()), bytearray(x.nbytes + 100)
    assert szdnn.info(lossless).predictor == "repeat"
    assert len(szdnn.compress(x, szdnn.Rel(rel))) <= len(lossless) + 8
    assert len(szdnn.compress(x, szdnn.Rel(rel), out=room)) <= len(lossless) + 8
