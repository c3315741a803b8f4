"""The lattice step of float16 and bfloat16 near their own precision (szdnn/halves.py)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tensors import dtype_of

import szdnn
from szdnn import _native, encoder
from szdnn.arrays import dtype_code
from szdnn.halves import step_share

HALVES = ("float16", "bfloat16")


def one_octave(name, exponent, seed=0, n=3000):
    """All of one spacing, as the dtype has them."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(1, 1.999, n) * 2.0**exponent * rng.choice([-1, 1], n)).astype(dtype_of(name))


def lost(x, eps, share):
    """The part of the values that any reconstruction within share * eps, rounded to the dtype, takes beyond eps."""
    wide = x.astype(np.float64)
    errors = np.linspace(-1, 1, 401) * eps * share
    stored = (wide[:, None] + errors).astype(x.dtype).astype(np.float64)
    return float((np.abs(stored - wide[:, None]) > eps).mean())


@given(st.sampled_from(HALVES), st.integers(-8, 8), st.floats(0.02, 3.0))
@example("float16", 0, 0.5004)
def test_in_one_octave_nothing_is_lost_or_it_would_cost_more(name, exponent, ratio):
    x = one_octave(name, exponent)
    half_spacing = 2.0 ** (exponent - (10 if name == "float16" else 7) - 1)
    eps = half_spacing / ratio
    share = step_share(dtype_code(x.dtype), x, eps)
    assert 0.5 <= share <= 1
    # Values next to the octave's ends round to another spacing.
    if share < 1:
        assert lost(x, eps, share) < 0.01
        assert lost(x, eps, share) < lost(x, eps, 1.0)
        assert -np.log2(share) < 20.5 * lost(x, eps, 1.0) + 0.05
    else:
        assert 20 * lost(x, eps, 1.0) < 1.3


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_other_dtypes_keep_their_step(name):
    assert step_share(dtype_code(np.dtype(name)), np.ones(100, name), 1e-9) == 1


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, 6e-8])
def test_odd_values_ask_for_nothing(name, odd):
    for n in (0, 1, 5000):
        x = np.full(n, odd, dtype_of(name))
        assert step_share(dtype_code(x.dtype), x, 1e-3) == 1


def test_a_field_in_half_precision_has_few_outliers(monkeypatch):
    t = np.linspace(0, 20, 60_000)
    x = (np.sin(t) * 0.3 + 1.5 + np.random.default_rng(2).normal(size=t.size) * 0.01).astype(np.float16)
    bound = szdnn.Abs(1.88e-3)  # of which half a spacing is 0.26: a fifth of the values would be lost
    narrow = szdnn.compress(x, bound)
    assert np.abs(szdnn.decompress(narrow).astype(float) - x.astype(float)).max() <= bound.eps
    header = _native.Header.read(_native.as_bytes(narrow))
    assert header.c.eps == bound.eps
    assert header.c.step < 2 * bound.eps
    monkeypatch.setattr(encoder, "step_share", lambda *_: 1.0)
    assert len(narrow) < 0.75 * len(szdnn.compress(x, bound))


@pytest.mark.parametrize("name", HALVES)
def test_weights_near_their_precision_are_smaller(name, monkeypatch):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((300, 256)) * 0.05).astype(dtype_of(name))
    bound = szdnn.Abs(2e-4 if name == "bfloat16" else 3e-5)
    narrow = szdnn.compress(x, bound)
    assert np.abs(szdnn.decompress(narrow).astype(float) - x.astype(float)).max() <= bound.eps
    monkeypatch.setattr(encoder, "step_share", lambda *_: 1.0)
    assert len(narrow) < 0.97 * len(szdnn.compress(x, bound))
