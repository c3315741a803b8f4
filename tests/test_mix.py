"""The mixing coder by itself: every integer comes back, the reference decoder agrees, damage gives an error."""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import given, settings
from numpy.typing import NDArray

import szdnn
from szdnn import _native

Residuals = NDArray[np.int32]
INT32 = np.iinfo(np.int32)
WIDTHS = st.one_of(st.integers(0, 40), st.sampled_from([300, 65536, 65537, 2**40]))


@st.composite
def residuals(draw: st.DrawFn, most: int = 2000) -> Residuals:
    """Rows and columns of differing scales, of any size, with a mean, jumps and extreme values here and there."""
    n = draw(st.integers(0, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 2.0 ** draw(st.floats(-8, 31))
    spread = draw(st.sampled_from([0.0, 0.5, 4.0]))
    columns = np.arange(n) % draw(st.integers(1, 50))
    scales = scale * np.exp2(spread * rng.normal(size=50))[columns]
    values = scales * (draw(st.sampled_from([0.0, 0.5, 5.0])) + rng.standard_t(3, size=n))
    values = np.clip(np.rint(values), INT32.min, INT32.max).astype(np.int32)
    some = rng.random(n) < draw(st.sampled_from([0.0, 0.01, 0.5]))
    values[some] = rng.choice([INT32.min, INT32.max, 0, 1, -1, INT32.min + 1], size=n)[some]
    return values


@given(residuals(20000), WIDTHS, st.integers(0, 100000))
def test_every_integer_comes_back(values, width, phase):
    coded = _native.mix_encode(values, width, phase)
    np.testing.assert_array_equal(_native.mix_decode(coded, values.size, width, phase), values)
    assert len(coded) <= 64 + 6 * values.size


@settings(max_examples=60)
@given(residuals(300), WIDTHS.filter(lambda width: width < 1000), st.integers(0, 1000))
def test_the_reference_decoder_agrees(values, width, phase):
    coded = _native.mix_encode(values, width, phase)
    assert reference_decoder.decode_mixed(coded, values.size, width, phase) == values.tolist()


@given(residuals(500), st.integers(1, 40), st.data())
def test_damage_gives_the_same_answer_as_the_reference(values, width, data):
    """Without a checksum a flipped bit may decode to other integers, but then to those of the specification."""
    coded = bytearray(_native.mix_encode(values, width, 0))
    for _ in range(data.draw(st.integers(1, 3))):
        coded[data.draw(st.integers(0, len(coded) - 1))] = data.draw(st.integers(0, 255))
    coded = coded[: data.draw(st.integers(0, len(coded)))]
    try:
        expected = reference_decoder.decode_mixed(bytes(coded), values.size, width, 0)
    except reference_decoder.Damaged:
        with pytest.raises(szdnn.CorruptFrame):
            _native.mix_decode(bytes(coded), values.size, width, 0)
    else:
        assert _native.mix_decode(bytes(coded), values.size, width, 0).tolist() == expected


@given(st.binary(max_size=300), st.integers(0, 3000), st.integers(0, 50))
def test_arbitrary_bytes_do_no_harm(data, n, width):
    with contextlib.suppress(szdnn.CorruptFrame):
        assert _native.mix_decode(data, n, width, 0).size == n


def test_scales_of_rows_and_columns_are_found():
    """On Gaussian values whose scales differ by row and by column, within 1% of the code that knows the scales."""
    rng = np.random.default_rng(1)
    scales = 200 * np.exp2(rng.normal(size=(600, 1)) + rng.normal(size=(1, 200)))
    values = np.rint(rng.normal(size=scales.shape) * scales).astype(np.int32)
    known = np.mean(np.log2(np.sqrt(2 * np.pi * np.e) * scales))
    assert 8 * len(_native.mix_encode(values.ravel(), 200, 0)) / values.size < 1.01 * known


def test_small_equal_values_cost_next_to_nothing():
    for value in (0, 1, -1):
        values = np.full(100_000, value, np.int32)
        assert len(_native.mix_encode(values, 384, 0)) < 100
