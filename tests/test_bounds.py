"""Bounds as values: what is valid, what is refused, and what they mean for odd tensors."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensors import FLOATS, assert_within, bits, dtype_of

import szdnn
from szdnn import PSNR, RMSE, Abs, Bits, Lossless, PointwiseRel, Rel, Std

OTHER_DTYPES = [
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"),
    *("complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"),
]
ONE_NUMBER = [Abs, Rel, Std, PointwiseRel, RMSE, Bits]
EVERY = [Abs(1e-3), Rel(1e-3), Std(1e-2), PointwiseRel(1e-2), PSNR(60), RMSE(1e-3), Lossless()]


@pytest.mark.parametrize("bound", ONE_NUMBER)
@pytest.mark.parametrize("value", [0, 0.0, -1e-3, math.nan, math.inf, -math.inf, "1e-3", None, True, 1j])
def test_impossible_bounds_are_refused(bound, value):
    with pytest.raises(szdnn.BoundError):
        bound(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, "60", None, 1e9])
def test_impossible_psnr(value):
    with pytest.raises(szdnn.BoundError):
        PSNR(value)


@pytest.mark.parametrize("span", [(1, 1), (2, 1), (math.nan, 1), (0, math.inf), "wide", 3, (1, 2, 3)])
def test_impossible_ranges(span):
    with pytest.raises(szdnn.BoundError):
        Rel(1e-3, range=span)


def test_pointwise_needs_r_below_one():
    with pytest.raises(szdnn.BoundError):
        PointwiseRel(1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Abs([1e-3, 1e-3]),
        lambda: Abs(1e-3, axis=0),
        lambda: Abs([1e-3, 0], axis=0),
        lambda: Abs([1.0], axis=0.5),
    ],
)
def test_impossible_axis_bounds(make):
    with pytest.raises(szdnn.BoundError):
        make()


def test_axis_bounds_must_fit_the_tensor():
    x = np.ones((3, 4), np.float32)
    for bound in (Abs([1.0, 1.0], axis=0), Abs([1.0] * 4, axis=2), Abs([1.0] * 3, axis=-3)):
        with pytest.raises(szdnn.BoundError):
            szdnn.compress(x, bound)


def test_bounds_are_frozen_values():
    assert Abs(1e-3) == Abs(1e-3)
    assert hash(Rel(1e-3)) == hash(Rel(1e-3))
    assert Abs([1e-3, 2e-3], axis=0) == Abs(np.array([1e-3, 2e-3]), axis=0)
    assert Abs(np.float32(0.5)).eps == 0.5
    with pytest.raises(AttributeError):
        Rel(1e-3).r = 2


@pytest.mark.parametrize("bound", [*EVERY, Rel(1e-2, range=(-1, 1)), Rel(1e-3, range="robust"), Bits(8), Rel(1 / 3)])
def test_info_tells_the_bound_back(bound):
    x = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    assert szdnn.info(szdnn.compress(x, bound)).bound == bound


def test_info_tells_axis_bounds_back():
    x = np.random.default_rng(0).normal(size=(4, 4096)).astype(np.float32)
    bound = Abs([1e-2, 1e-3, 0.1, 1 / 3], axis=0)
    info = szdnn.info(szdnn.compress(x, bound))
    assert info.bound == bound
    assert info.eps == 1 / 3  # the largest
    assert szdnn.info(szdnn.compress(x, Abs([1e-2] * 4096, axis=-1))).bound == Abs([1e-2] * 4096, axis=1)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_few_bounds_along_an_axis_take_a_byte_each(extent, distinct, seed):
    rng = np.random.default_rng(seed)
    choices = rng.choice(np.geomspace(1e-2, 1e-1, 300), distinct, replace=False)
    eps = rng.choice(choices, extent)
    x = rng.normal(size=(extent, 100)).astype(np.float32)
    frame = szdnn.compress(x, Abs(eps, axis=0))
    assert szdnn.info(frame).bound == Abs(eps, axis=0)
    assert (np.abs(szdnn.decompress(frame).astype(np.float64) - x) <= eps[:, None]).all()
    table = 8 * len(np.unique(eps)) + extent
    assert len(frame) <= min(table, 8 * extent) + x.nbytes + 80


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bound", EVERY)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, math.nan, math.inf, 1e-7])
def test_zero_d_constant_and_empty_tensors(dtype, bound, value):
    for shape in ((), (1,), (1, 1, 1), (7,), (0,), (3, 0, 2), (2000,)):
        x = np.full(shape, value, dtype=dtype_of(dtype))
        frame = szdnn.compress(x, bound)
        y = szdnn.decompress(frame)
        assert y.shape == shape
        np.testing.assert_array_equal(bits(x), bits(y))  # a constant is exact under any bound
        assert len(frame) <= 80 + 3 * len(shape)


def test_all_nan_with_different_payloads():
    x = np.arange(0x7FC00000, 0x7FC00000 + 5000, dtype=np.uint32).view(np.float32)
    for bound in EVERY:
        np.testing.assert_array_equal(bits(szdnn.decompress(szdnn.compress(x, bound))), bits(x))


@pytest.mark.parametrize("eps", [5e-324, 1e-310, 1e-45, 2.0**-1000, 2.0**-149])
def test_denormal_bounds_hold(eps):
    x = (np.random.default_rng(0).integers(-1000, 1000, 4096) * 5e-324).astype(np.float64)
    assert_within(x, szdnn.decompress(szdnn.compress(x, Abs(eps))), eps, None)
    y = (np.random.default_rng(0).integers(-1000, 1000, 4096) * 2.0**-149).astype(np.float32)
    assert_within(y, szdnn.decompress(szdnn.compress(y, Abs(eps))), eps, None)


@pytest.mark.parametrize("eps", [1e38, 3.4e38, 1e39, 1e308, 1.7976931348623157e308])
@pytest.mark.parametrize("dtype", FLOATS)
def test_huge_bounds_hold(eps, dtype):
    x = np.random.default_rng(0).normal(0, 1e4, 5000).astype(dtype_of(dtype))
    frame = szdnn.compress(x, Abs(eps))
    assert_within(x, szdnn.decompress(frame), eps, None)
    assert len(frame) < 100


def test_a_bound_below_one_ulp_is_lossless():
    x = np.random.default_rng(0).normal(1, 0.1, 5000).astype(np.float32)
    frame = szdnn.compress(x, Abs(1e-12))
    assert szdnn.info(frame).kind == "lossless"
    np.testing.assert_array_equal(bits(szdnn.decompress(frame)), bits(x))


def test_range_over_the_largest_float():
    x = np.array([-1.7e308, 1.7e308] * 50, dtype=np.float64)
    assert_within(x, szdnn.decompress(szdnn.compress(x, Rel(1e-3))), 3.4e305, None)


def test_a_spike_is_warned_of():
    x = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    assert szdnn.info(szdnn.compress(x, Rel(1e-3))).warnings == ()
    x[5] = 1e6
    assert "robust" in szdnn.info(szdnn.compress(x, Rel(1e-3))).warnings[0]
    assert szdnn.info(szdnn.compress(x, Rel(1e-3, range="robust"))).warnings == ()
    assert szdnn.info(szdnn.compress(x, Std(1e-3))).warnings


@pytest.mark.parametrize("dtype", OTHER_DTYPES)
def test_other_dtypes_only_losslessly(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (13, 7, dtype_of(dtype).itemsize), dtype=np.uint8)
    x = (x & 1).astype(bool)[..., 0] if dtype == "bool" else x.view(dtype_of(dtype))[..., 0]
    for bound in EVERY[:-1]:
        with pytest.raises(szdnn.BoundError, match="Lossless"):
            szdnn.compress(x, bound)
    frame = szdnn.compress(x, Lossless())
    y = szdnn.decompress(frame)
    assert y.dtype == x.dtype
    assert y.tobytes() == x.tobytes()
    assert len(frame) <= x.nbytes + 64
    assert szdnn.compare(x, y, szdnn.info(frame)).violations == 0


@pytest.mark.parametrize(
    "bad", [np.array(["a"]), np.array([None]), np.array([1], "M8[s]"), np.zeros(3, [("a", "f4")]), np.longdouble([1])]
)
def test_dtypes_that_cannot_be_compressed(bad):
    with pytest.raises(szdnn.BoundError, match="supported"):
        szdnn.compress(bad, Lossless())


@pytest.mark.parametrize("bound", [1e-3, None, "Rel(1e-3)", szdnn.Bound()])
def test_what_is_not_a_bound(bound):
    with pytest.raises(szdnn.BoundError):
        szdnn.compress(np.ones(3, np.float32), bound)


def test_smooth_integers_are_differenced():
    ids = np.arange(100_000, dtype=np.int64)
    assert len(szdnn.compress(ids, Lossless())) < 2000


def test_bfloat16_comes_back_as_ml_dtypes():
    x = np.arange(100).astype(ml_dtypes.bfloat16)
    assert szdnn.decompress(szdnn.compress(x, Rel(1e-1))).dtype == ml_dtypes.bfloat16
