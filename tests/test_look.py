"""Quick looks of the core (csrc/look.c, csrc/grid.c) against what they stand for, in NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tensors import dtype_of

from szdnn import _native
from szdnn.arrays import dtype_code

NAMES = ("float16", "bfloat16", "float32", "float64")
ODD = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30)


@st.composite
def arrays(draw):
    """Values of a normal distribution, on a grid or not, some of them odd, 1 to 20,000 of them."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    x = rng.normal(size=draw(st.sampled_from([1, 7, 9, 100, 255, 300, 511, 4095, 8191, 20_000])))
    if draw(st.booleans()):
        x = np.rint(x * 4) * draw(st.sampled_from([0.25, 0.1, 3.0]))
    share = draw(st.sampled_from([0.0, 0.01, 0.5, 1.0]))
    x = np.where(rng.random(x.size) < share, rng.choice(ODD, x.size), x)
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype_of(draw(st.sampled_from(NAMES))))


def picked(x, looks):
    with np.errstate(invalid="ignore"):
        return x[:: max(1, x.size // looks)].astype(np.float64)


@given(arrays())
def test_reach_is_a_quantile_of_finite_magnitudes(x):
    some = picked(x, 4096)
    some = np.sort(np.abs(some[np.isfinite(some)]))
    assert _native.reach(dtype_code(x.dtype), x) == (some[some.size - 1 - some.size // 256] if some.size else 0.0)


@given(arrays(), st.sampled_from([0.0, 0.5, 2.0, 1e30]), st.booleans())
def test_reach_is_within_a_limit_or_not(x, limit, exactly):
    code = dtype_code(x.dtype)
    reach = _native.reach(code, x)
    limit = reach if exactly else limit
    assert _native.reach_within(code, x, limit) == (reach <= limit)
    assert not _native.reach_within(code, x, np.nan)


@given(arrays(), st.sampled_from([0.0, 0.5, 2.0, 5.0, 1e20]))
def test_spread_values_span_enough_without_those_at_the_ends(x, least):
    some = picked(x, 256)
    some = np.sort(np.where(np.isnan(some), np.inf, some))
    with np.errstate(invalid="ignore"):
        span = some[-5] - some[4] if some.size > 8 else 0.0
    assert _native.is_spread(dtype_code(x.dtype), x, least) == (least <= span < np.inf)


def common_unit(gaps, least):
    """Euclid's algorithm on the gaps between rising values, and the smallest value, which comes last."""
    if gaps.size < 2 or gaps[:-1].min() < least:
        return 0.0
    unit = gaps[gaps > least / 4].min()
    while True:
        rest = np.abs(gaps - np.rint(gaps / unit) * unit)
        if rest.max() <= least / 4:
            return unit
        unit = rest[rest > least / 4].min()
        if unit < least:
            return 0.0


def unit_of(x, eps, least, most):
    """What grid_unit finds, without its quick look."""
    seen = picked(np.abs(x.astype(np.float64)), 1024)
    seen = np.sort(seen[seen < np.inf])
    near = seen[seen < most]
    if near.size < max(2, seen.size * 0.9) or not near[-1] > eps:
        return 0.0
    exponent = np.frexp(eps)[1]
    near, least = np.ldexp(near, -exponent), np.ldexp(least, -exponent)
    gaps = np.diff(near)
    unit = common_unit(np.append(gaps[gaps > least / 4], near[0]), least)
    for reach in (64.0, 4096.0, 2.0**20) if unit else ():
        some = near[near <= reach * unit]
        numbers = np.rint(some / unit)
        squares = np.add.accumulate(numbers * numbers)[-1] if some.size else 0.0
        unit = np.add.accumulate(some * numbers)[-1] / squares if squares else unit
    return np.ldexp(unit, exponent)


@given(
    arrays(),
    st.sampled_from([1e-3, 0.06, 0.2, 1.0, 40.0]),
    st.sampled_from([0.0, 0.25, 0.3, 1.0, 2.0 / 3, 1e-3]),
    st.integers(0, 20),
)
def test_units_of_grids_are_those_of_the_plain_algorithm(x, eps, unit, strays):
    rng = np.random.default_rng(strays)
    with np.errstate(all="ignore"):
        values = (np.rint(x.astype(np.float64) / unit) * unit if unit else x).astype(x.dtype)
    values[rng.integers(0, x.size, strays)] = rng.normal(size=strays).astype(x.dtype)
    for least, most in ((eps / 3.5, eps * 2**20), (eps / 10, eps * 1e4)):
        found = _native.grid_unit(dtype_code(x.dtype), values, eps, least, most)
        assert found == unit_of(values, eps, least, most) or (strays and found == 0)  # its quick look met one


@given(arrays())
def test_constant_values_are_the_same_bits(x):
    bits = x.view(f"u{x.itemsize}")
    for y in (x, np.full_like(x, x[0])):
        assert _native.is_constant(dtype_code(y.dtype), y) == bool((y.view(bits.dtype) == y.view(bits.dtype)[0]).all())
