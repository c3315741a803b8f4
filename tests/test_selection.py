"""Which predictor is chosen: interpolation where neighbours tell something, none on weights, whatever else is there."""

from __future__ import annotations

import numpy as np
import pytest

import szdnn
from szdnn import _native, encoder
from szdnn.arrays import dtype_code
from szdnn.resolve import Target

RNG = np.random.default_rng(3)
SMOOTH = np.add.outer(np.sin(np.arange(200) / 30), np.cos(np.arange(300) / 40)).astype(np.float32)


def neighbours_alike(values):
    header = encoder.new_header(dtype_code(values.dtype), values.shape, Target(szdnn.Rel(1e-3)))
    dims = encoder.folded_dims(values.shape)
    encoder.set_tiles(header, dims, dims)
    header.complete()
    sampler = _native.Encoder(header, _native.options(), values)
    return sampler.neighbours_alike(encoder.RELATED_VALUES, encoder.RELATED_AXIS)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_smooth_fields_are_interpolated(dtype):
    assert neighbours_alike(SMOOTH.astype(dtype))
    chosen = szdnn.compress(SMOOTH.astype(dtype), szdnn.Rel(1e-3))
    assert szdnn.info(chosen).predictor == "interpolation"
    others = [
        szdnn.compress(SMOOTH.astype(dtype), szdnn.Rel(1e-3), predictor=p) for p in ("none", "lorenzo", "regression")
    ]
    assert len(chosen) <= 1.03 * min(map(len, others))


@pytest.mark.parametrize("shape", [(1000,), (200, 300), (64, 32, 3, 3), (2, 5, 7, 11, 13)])
def test_weights_are_spared_the_trial(shape):
    weights = RNG.laplace(size=shape).astype(np.float32)
    assert not neighbours_alike(weights)
    assert szdnn.info(szdnn.compress(weights, szdnn.Rel(1e-2))).predictor == "none"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [np.nan, np.inf, np.float32(3e38)])
def test_odd_values_neither_warn_nor_fail(odd):
    values = SMOOTH.copy()
    values[::3] = odd
    assert np.isfinite(odd) or not neighbours_alike(values)
    frame = szdnn.compress(values, szdnn.Abs(1e-3))
    assert szdnn.compare(values, szdnn.decompress(frame), szdnn.info(frame)).violations == 0


def test_the_fast_effort_spares_classes_and_is_hardly_larger():
    scales = np.exp(RNG.normal(0, 0.5, (300, 1))).astype(np.float32)
    weights = RNG.normal(0, 0.02, (300, 256)).astype(np.float32) * scales
    fast, default = (szdnn.compress(weights, szdnn.Rel(1e-2), effort=effort) for effort in (1, 3))
    assert (szdnn.info(fast).coder, szdnn.info(default).coder) == ("rans", "rans-classes")
    assert len(default) < len(fast) < 1.15 * len(default)
    assert szdnn.compare(weights, szdnn.decompress(fast), szdnn.info(fast)).violations == 0
