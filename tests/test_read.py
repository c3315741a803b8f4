"""read(frame, s) is decompress(frame)[s], whatever the tiles, for every basic index."""

from __future__ import annotations

import tracemalloc
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tensors import FLOATS, PREDICTORS, shapes, simple_bounds, tensors

import szdnn


@st.composite
def indices(draw: Any, shape: tuple[int, ...]) -> Any:
    """A basic index of an array of this shape."""
    items: list[Any] = []
    used = draw(st.integers(0, len(shape)))
    for extent in shape[:used]:
        if extent and draw(st.booleans()):
            items.append(draw(st.integers(-extent, extent - 1)))
        else:
            edge = st.none() | st.integers(-extent - 2, extent + 2)
            step = st.none() | st.integers(-3, 3).filter(bool)
            items.append(slice(draw(edge), draw(edge), draw(step)))
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    if draw(st.booleans()):
        items.append(...)
    if len(items) == 1 and draw(st.booleans()):
        return items[0]
    return tuple(items)


@given(st.data(), simple_bounds(), st.sampled_from(PREDICTORS))
def test_read_is_decompress_and_index(data, bound, predictor):
    x = data.draw(tensors(FLOATS, max_values=2000))
    frame = szdnn.compress(x, bound, predictor=predictor)
    index = data.draw(indices(x.shape))
    whole = szdnn.decompress(frame)[index]
    part = szdnn.read(frame, index)
    assert part.shape == whole.shape
    assert part.dtype == whole.dtype
    assert part.tobytes() == np.ascontiguousarray(whole).tobytes()


@pytest.mark.parametrize("predictor", ["none", "lorenzo", "regression"])
@pytest.mark.parametrize("shape", [(1_000_000,), (1200, 900), (90, 100, 110), (3, 20, 130, 140)])
def test_read_across_blocks(predictor, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).cumsum(axis=-1)
    frame = szdnn.compress(x, szdnn.Abs(1e-2), predictor=predictor)
    whole = szdnn.decompress(frame)
    for _ in range(20):
        index = tuple(
            int(rng.integers(extent))
            if rng.random() < 0.2
            else slice(*np.sort(rng.integers(0, extent, 2)), int(rng.integers(1, 9)))
            for extent in shape
        )
        np.testing.assert_array_equal(szdnn.read(frame, index), whole[index])


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "int16", "uint8"])
def test_read_of_other_dtypes(dtype):
    x = (np.arange(6000).reshape(3, 2000) % 251).astype(dtype)
    frame = szdnn.compress(x, szdnn.Lossless())
    np.testing.assert_array_equal(szdnn.read(frame, (1, slice(5, 900, 7))), x[1, 5:900:7])


@given(shapes(), st.integers(0, 100))
def test_reading_everything(shape, seed):
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    frame = szdnn.compress(x, szdnn.Abs(1e-3))
    np.testing.assert_array_equal(szdnn.read(frame), szdnn.decompress(frame))


def test_read_into_out():
    x = np.arange(100, dtype=np.float32).reshape(10, 10)
    frame = szdnn.compress(x, szdnn.Lossless())
    out = np.zeros((3, 10), np.float32)
    assert szdnn.read(frame, slice(2, 5), out=out) is out
    np.testing.assert_array_equal(out, x[2:5])
    for wrong in (np.zeros((3, 9), np.float32), np.zeros((3, 10)), [0]):
        with pytest.raises(szdnn.ArgumentError):
            szdnn.read(frame, slice(2, 5), out=wrong)


@pytest.mark.parametrize("index", [10, -11, (0, 0, 0), 1.5, "a", True, [1, 2], np.array([1]), (..., ...), (0, 10)])
def test_what_is_no_basic_index(index):
    frame = szdnn.compress(np.zeros((10, 10), np.float32), szdnn.Lossless())
    with pytest.raises(szdnn.ArgumentError):
        szdnn.read(frame, index)


def test_read_max_bytes():
    frame = szdnn.compress(np.zeros(1 << 20, np.float32), szdnn.Lossless())
    assert szdnn.read(frame, 5, max_bytes=1 << 23) == 0
    for index in (..., slice(0, 10)):
        with pytest.raises(szdnn.LimitError, match="max_bytes=100"):
            szdnn.read(frame, index, max_bytes=100)


def test_reading_a_part_takes_memory_for_little_more_than_that():
    x = np.random.default_rng(0).integers(0, 3, 8_000_000, dtype=np.uint8)
    frame = szdnn.compress(x, szdnn.Lossless())
    tracemalloc.start()
    part = szdnn.read(frame, slice(0, None, 5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(part, x[::5])
    assert peak < 4 * part.nbytes + (16 << 20)


def test_damage_elsewhere_does_not_matter():
    x = np.random.default_rng(0).normal(size=900_000).astype(np.float32)
    frame = bytearray(szdnn.compress(x, szdnn.Rel(1e-2)))
    frame[len(frame) // 2] ^= 1
    assert szdnn.read(bytes(frame), slice(10)).shape == (10,)
    with pytest.raises(szdnn.CorruptFrame):
        szdnn.read(bytes(frame), slice(400_000, 400_010))
