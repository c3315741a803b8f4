"""The promise, for every kind of tensor, bound and option: no value beyond its bound, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from tensors import CODERS, PREDICTORS, assert_within, bits, magnitudes, make_values, simple_bounds, tensors, wide

import szdnn


def allowed_eps(x: NDArray[Any], bound: szdnn.Bound) -> float | NDArray[Any] | None:
    """The bound on |x - x'| worked out independently of the codec."""
    finite = wide(x)[np.isfinite(wide(x))]
    match bound:
        case szdnn.Abs():
            return float(bound.eps)  # type: ignore[arg-type]
        case szdnn.Rel(range=None):
            width = Fraction(float(finite.max())) - Fraction(float(finite.min())) if finite.size else Fraction(0)
            return float(min(Fraction(bound.r) * width, Fraction(1.7e308)))
        case szdnn.Rel(range="robust"):
            if not finite.size:
                return 0.0
            lo, hi = np.quantile(finite, [0.001, 0.999], method="inverted_cdf")
            return float(min(Fraction(bound.r) * (Fraction(hi) - Fraction(lo)), Fraction(1.7e308)))
        case szdnn.Rel():
            return bound.r * (bound.range[1] - bound.range[0])  # type: ignore[index, operator]
        case szdnn.Std():
            with np.errstate(all="ignore"):
                scale = float(np.abs(finite).max()) if finite.size and finite.any() else 1.0
                return min(bound.c * float(np.std(finite / scale)) * scale, 1.7e308) if finite.size else 0.0
    return None


@given(tensors(), simple_bounds(), st.sampled_from(PREDICTORS), st.sampled_from(CODERS), st.integers(1, 9))
def test_every_value_stays_within_its_bound(x, bound, predictor, coder, effort):
    frame = szdnn.compress(x, bound, predictor=predictor, coder=coder, effort=effort)
    y = szdnn.decompress(frame)
    info = szdnn.info(frame)
    assert_within(x, y, allowed_eps(x, bound), bound.r if isinstance(bound, szdnn.PointwiseRel) else None)
    assert_within(x, y, info.eps, info.pointwise)
    assert szdnn.compare(x, y, info).violations == 0
    assert info.eps is None or allowed_eps(x, bound) is None or info.eps <= allowed_eps(x, bound) * (1 + 1e-15)


@given(tensors(), simple_bounds())
def test_a_frame_is_never_larger_than_the_lossless_one_nor_that_than_the_values(x, bound):
    lossless = szdnn.compress(x, szdnn.Lossless())
    assert len(lossless) <= x.nbytes + 64
    assert len(szdnn.compress(x, bound)) <= len(lossless) + 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bound", [szdnn.Abs(1e-3), szdnn.Abs(1e-4), szdnn.Rel(1e-5), szdnn.PointwiseRel(1e-5)])
def test_few_distinct_values_are_not_paid_for_by_their_spread(dtype, bound):
    rng = np.random.default_rng(0)
    few = rng.choice([1.0, 2.0, 3.0, 4.0], 300_000)
    mixed = few.copy()
    mixed[140_000:160_000] = rng.normal(size=20_000)
    for x in (few.astype(dtype), mixed.astype(dtype), (few * 1024).astype(dtype)):
        assert len(szdnn.compress(x, bound)) <= len(szdnn.compress(x, szdnn.Lossless())) + 8


@given(tensors(max_values=400), st.data())
def test_bounds_along_an_axis(x, data):
    if x.ndim == 0:
        x = x.reshape(1)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    eps = np.array(data.draw(st.lists(magnitudes(-8, 4), min_size=x.shape[axis], max_size=x.shape[axis])))
    bound = szdnn.Abs(eps, axis=axis)
    frame = szdnn.compress(x, bound)
    shape = [1] * x.ndim
    shape[axis] = -1
    assert_within(x, szdnn.decompress(frame), eps.reshape(shape), None)


@given(tensors(max_values=800), magnitudes(-6, 1))
def test_rmse_is_met_on_what_was_decoded(x, relative):
    finite = np.isfinite(wide(x))
    values = wide(x)[finite]
    with np.errstate(all="ignore"):
        spread = float(np.std(values)) if values.size else 0.0
    if not (0 < spread < 1e150) or spread * relative < 1e-300:
        return
    y = szdnn.decompress(szdnn.compress(x, szdnn.RMSE(relative * spread)))
    np.testing.assert_array_equal(bits(x)[~finite], bits(y)[~finite])
    error = np.sqrt(np.mean((values - wide(y)[finite]) ** 2))
    assert error <= relative * spread * (1 + 1e-9)


@given(st.sampled_from(["normal", "smooth", "special"]), st.integers(0, 2**32), st.floats(0, 150))
def test_psnr_is_met_on_what_was_decoded(kind, seed, db):
    x = make_values(kind, seed, (40, 30), np.dtype(np.float32))
    x[~(np.abs(x) < 1e30)] = np.nan
    y = szdnn.decompress(szdnn.compress(x, szdnn.PSNR(db))).astype(np.float64)
    finite = np.isfinite(x)
    values = x[finite].astype(np.float64)
    error = np.sqrt(np.mean((values - y[finite]) ** 2))
    width = values.max() - values.min()
    assert error == 0 or 20 * np.log10(width / error) >= db - 1e-6


@given(st.sampled_from(["normal", "smooth", "sparse", "edges"]), st.integers(0, 2**32), st.floats(0.5, 30))
def test_bits_are_kept_and_used(kind, seed, budget):
    x = make_values(kind, seed, (60, 50), np.dtype(np.float32))
    if budget < 2:  # may be less than the least
        budget += 2
    frame = szdnn.compress(x, szdnn.Bits(budget))
    assert len(frame) * 8 <= budget * x.size
    lossless = szdnn.compress(x, szdnn.Lossless())
    assert len(frame) * 8 >= 0.9 * budget * x.size or len(frame) <= len(lossless) + 8


def test_bits_that_cannot_be_met_name_the_least():
    x = np.random.default_rng(0).normal(size=64).astype(np.float32)
    with pytest.raises(szdnn.BoundError, match=r"the least is [\d.]+"):
        szdnn.compress(x, szdnn.Bits(0.1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_outlier_costs_only_itself(dtype):
    x = np.random.default_rng(0).normal(size=100_000).astype(dtype)
    spiked = x.copy()
    spiked[777] = 1e30
    for bound in (szdnn.Abs(1e-2), szdnn.PointwiseRel(1e-2)):
        plain, with_spike = len(szdnn.compress(x, bound)), len(szdnn.compress(spiked, bound))
        assert with_spike <= plain * 1.01 + 64
        y = szdnn.decompress(szdnn.compress(spiked, bound))
        np.testing.assert_allclose(y[777], 1e30, rtol=1e-2)


def test_halves_of_integers_are_not_all_outliers():
    x = np.random.default_rng(0).integers(-100, 100, 50_000).astype(np.float32)
    frame = szdnn.compress(x, szdnn.Abs(0.5))
    assert_within(x, szdnn.decompress(frame), 0.5, None)
    assert szdnn.info(frame).kind == "linear32"


@pytest.mark.parametrize("shape", [(3_000_000,), (1500, 2000), (70, 160, 170), (9, 30, 61, 70)])
@pytest.mark.parametrize("predictor", ["none", "lorenzo", "regression", "interpolation"])
def test_many_blocks(shape, predictor):
    rng = np.random.default_rng(1)
    axes = np.meshgrid(*(np.linspace(0, 3, extent) for extent in shape), indexing="ij", sparse=True)
    x = sum(np.sin(a + i) for i, a in enumerate(axes)) + rng.normal(0, 1e-3, shape)
    x = x.astype(np.float32)
    frame = szdnn.compress(x, szdnn.Abs(1e-3), predictor=predictor)
    y = szdnn.decompress(frame)
    assert np.abs(wide(x) - y).max() <= 1e-3
    assert szdnn.info(frame).blocks > 1
