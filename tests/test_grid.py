"""Values on a grid of their own: the bound holds, and a grid that is coarser than the bound saves bits."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import given
from tensors import bits, dtype_of

import szdnn
from szdnn import _native
from szdnn.arrays import CODES
from szdnn.grid import find_grid

RNG = np.random.default_rng(31)
PIXELS = np.rint(128 + 90 * np.add.outer(np.sin(np.arange(60) / 9), np.cos(np.arange(70) / 11)) / 2)
PREDICTORS = ("auto", "none", "lorenzo", "regression", "interpolation")


@given(
    st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    st.sampled_from([1.0, 0.5, 0.1, 3e-5, 1e6 / 3]),
    st.floats(0.05, 4),
    st.sampled_from(PREDICTORS),
    st.integers(0, 40),
)
def test_the_bound_holds_on_every_grid(name, unit, eps_in_units, predictor, strays):
    x = (PIXELS * unit).astype(dtype_of(name))
    places = RNG.integers(0, x.size, strays)
    x.reshape(-1)[places] = (RNG.normal(size=strays) * 100 * unit).astype(x.dtype)
    bound = szdnn.Abs(eps_in_units * unit)
    frame = szdnn.compress(x, bound, predictor=predictor)
    y = szdnn.decompress(frame)
    assert szdnn.compare(x, y, szdnn.info(frame)).violations == 0
    assert bits(reference_decoder.decode(frame)).tobytes() == bits(y).tobytes()


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_pixels_are_exact_for_less_than_the_bound_alone_takes(predictor):
    pixels, dithered = PIXELS.astype(np.float32), (PIXELS + RNG.uniform(-0.05, 0.05, PIXELS.shape)).astype(np.float32)
    frame = szdnn.compress(pixels, szdnn.Abs(0.1), predictor=predictor)
    assert np.array_equal(szdnn.decompress(frame), pixels)
    assert len(frame) < 0.8 * len(szdnn.compress(dithered, szdnn.Abs(0.02), predictor=predictor))


@pytest.mark.parametrize(("eps", "step"), [(0.1, 1.0), (0.45, 1.0), (1.0, 3.0), (1.2, 3.0), (2.0, 5.0), (3.0, 7.0)])
def test_the_lattice_is_as_coarse_as_the_bound_allows(eps, step):
    grid = find_grid(PIXELS, eps, single=True)
    assert grid is not None
    assert grid.step == step
    y = szdnn.decompress(szdnn.compress(PIXELS.astype(np.float32), szdnn.Abs(eps)))
    assert np.abs(y - PIXELS).max() <= eps


@pytest.mark.parametrize("eps", [0.6, 0.9, 1.6, 4.2, 50.0])
def test_where_the_bound_alone_allows_more_there_is_no_grid(eps):
    assert find_grid(PIXELS, eps, single=True) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, np.float32(3e38)])
def test_odd_values_neither_warn_nor_hide_a_grid(odd):
    x = PIXELS.astype(np.float32)
    x[0, 0] = odd
    frame = szdnn.compress(x, szdnn.Abs(0.1))
    assert np.array_equal(szdnn.decompress(frame), x, equal_nan=True)


def test_gaussian_weights_and_half_a_grid_have_none():
    weights = RNG.normal(size=5000)
    assert find_grid(weights, 0.01, single=True) is None
    half = np.concatenate([PIXELS.reshape(-1), PIXELS.reshape(-1) + 0.3])
    assert find_grid(half, 0.1, single=True) is None


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_values_off_a_grid_are_counted(name):
    x = PIXELS.reshape(-1)[:4001] + np.where(RNG.random(4001) < 0.2, RNG.normal(size=4001), 0)
    x[:3] = np.nan, np.inf, 0.3
    stored = x.astype(dtype_of(name))
    wide = stored.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = int(np.count_nonzero(np.abs(np.rint(wide / 0.25) * 0.25 - wide) > 0.05))
    assert 0 < off == _native.off_grid(CODES[stored.dtype], stored, 1, 0.25, 0.05)[0]


def test_all_instruction_sets_make_the_same_bytes(monkeypatch):
    x = PIXELS.astype(np.float32)
    for eps in (0.1, 1.2):
        frames, decoded = set(), set()
        for isa in ("scalar", "avx2", "avx512"):
            monkeypatch.setattr(_native, "isa", isa)
            frames.add(bytes(szdnn.compress(x, szdnn.Abs(eps), predictor="interpolation")))
            decoded.add(szdnn.decompress(next(iter(frames))).tobytes())
        assert len(frames) == len(decoded) == 1


@pytest.mark.parametrize("unit", [2.0**-1060, 1e-300, 3e300, 2.0**1000])
def test_grids_of_extreme_values_are_found(unit):
    x = RNG.integers(-200, 200, 4000) * unit
    frame = szdnn.compress(x, szdnn.Abs(0.4 * unit))
    assert (np.abs(szdnn.decompress(frame) - x) <= 1e-10 * unit).all()
    assert 8 * len(frame) < 9.5 * x.size
