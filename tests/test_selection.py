"""Which predictor is chosen: interpolation where neighbours tell something, none on weights, whatever else is there."""

from __future__ import annotations

import numpy as np
import pytest

import szdnn
from szdnn import _native, choose, new_header, tiles
from szdnn.arrays import dtype_code
from szdnn.resolve import Target

RNG = np.random.default_rng(3)
LEVELS = [name for name, number in _native.ISAS.items() if 0 < number <= _native.ISAS[_native.isa_available()]]
SMOOTH = np.add.outer(np.sin(np.arange(200) / 30), np.cos(np.arange(300) / 40)).astype(np.float32)


def neighbours_alike(values):
    header = new_header.new_header(dtype_code(values.dtype), values.shape, Target(szdnn.Rel(1e-3)))
    dims = tiles.folded_dims(values.shape)
    new_header.set_tiles(header, dims, dims)
    header.complete()
    sampler = _native.Encoder(header, _native.options(), values)
    return sampler.neighbours_alike(choose.RELATED_VALUES, choose.RELATED_AXIS)


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


@pytest.mark.parametrize("db", [40, 60, 80])
def test_psnr_is_met_and_hardly_more(db):
    noisy = SMOOTH + RNG.normal(0, 0.05, SMOOTH.shape).astype(np.float32)
    back = szdnn.decompress(szdnn.compress(noisy, szdnn.PSNR(db)))
    error = np.sqrt(np.mean((noisy.astype(np.float64) - back) ** 2))
    assert 0 <= 20 * np.log10(float(np.ptp(noisy)) / error) - db <= 0.12


def test_the_order_of_axes_is_chosen():
    """A wave seen at few places and many times: predicting along the rough axis first costs clearly more."""
    t, y, x = np.ogrid[0:16, 0:512, 0:512]
    waves = (np.sin(x / 20 + y / 30 - t) + RNG.normal(0, 1e-4, (16, 512, 512))).astype(np.float32)
    late = np.ascontiguousarray(waves.transpose(2, 1, 0))
    bound = szdnn.Rel(1e-3)
    assert len(szdnn.compress(late, bound)) < 0.95 * len(szdnn.compress(late, bound, predictor="interpolation"))


def test_options_that_spare_the_lossless_trial_change_no_promise():
    """Noise below the bound in half of the blocks, nothing to gain in the others: never beyond the lossless frame."""
    rng = np.random.default_rng(8)
    x = np.where(np.arange(1 << 20) % 7 < 3, rng.normal(size=1 << 20), 0).astype(np.float32).reshape(256, 64, 64)
    for bound in (szdnn.Rel(1e-7), szdnn.Rel(1e-4)):
        assert len(szdnn.compress(x, bound)) <= len(szdnn.compress(x, szdnn.Lossless())) + 8


def test_the_fast_effort_spares_classes_and_is_hardly_larger():
    scales = np.exp(RNG.normal(0, 0.5, (300, 1))).astype(np.float32)
    weights = RNG.normal(0, 0.02, (300, 256)).astype(np.float32) * scales
    fast, default = (szdnn.compress(weights, szdnn.Rel(1e-2), effort=effort) for effort in (1, 3))
    assert (szdnn.info(fast).coder, szdnn.info(default).coder) == ("rans", "rans-classes")
    assert len(default) < len(fast) < 1.15 * len(default)
    assert szdnn.compare(weights, szdnn.decompress(fast), szdnn.info(fast)).violations == 0


@pytest.mark.parametrize("r", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("name", ["line", "steps", "plane", "whole numbers", "volume", "parabola"])
def test_what_a_few_numbers_describe_takes_a_few_hundred_bytes(name, r):
    i, j, k = (np.arange(n, dtype=np.float64) for n in (1024, 512, 64))
    values = {
        "line": np.linspace(0, 1000, 1 << 19),
        "steps": np.repeat(np.sqrt(np.arange(64.0)), 8192),
        "plane": np.add.outer(0.37 * i, j) + 0.1,
        "whole numbers": np.add.outer(i, 2 * j),
        "volume": 0.11 * np.add.outer(np.add.outer(k, k), 3 * k),
        "parabola": np.add.outer((i / 100) ** 2, (j / 77) ** 2),
    }[name].astype(np.float32)
    frame = szdnn.compress(values, szdnn.Rel(r))
    assert len(frame) < 1000
    assert szdnn.compare(values, szdnn.decompress(frame), szdnn.info(frame)).violations == 0


def with_header(values, predictor, eps):
    """A frame and its header, in memory of its own."""
    frame = szdnn.compress(values, szdnn.Abs(eps), predictor=predictor)
    header = _native.Header.read(_native.as_bytes(frame)).copy()
    assert header.c.blocks == 1
    return frame, header


@pytest.mark.parametrize("predictor", ["lorenzo", "regression", "interpolation"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [3e-2, 1e-3])
def test_estimates_of_boxes_are_near_what_is_written(predictor, dtype, eps):
    noisy = (SMOOTH + RNG.normal(0, 0.01, SMOOTH.shape)).astype(dtype)
    frame, header = with_header(noisy, predictor, eps)
    symbols, tables, _ = _native.Encoder(header, _native.options(), noisy).estimate_box()
    assert abs((symbols + tables) / (8 * len(frame)) - 1) < 0.05


@pytest.mark.parametrize("predictor", ["none", "lorenzo", "regression", "interpolation"])
def test_estimates_of_boxes_are_the_same_with_all_instruction_sets(predictor, monkeypatch):
    odd = SMOOTH + RNG.standard_t(2, SMOOTH.shape).astype(np.float32) * np.float32(1e-3)
    odd[3::7, ::5], odd[100:, 50:80], odd[5, 5] = 0, 0, np.nan
    _, header = with_header(odd, predictor, 1e-4)
    found = set()
    for isa in LEVELS:
        monkeypatch.setattr(_native, "isa", isa)
        found.add(_native.Encoder(header, _native.options(), odd).estimate_box())
    assert len(found) == 1
    (bits,) = found
    assert 0 < bits[0] + bits[1] < 32 * odd.size


def test_small_kernels_are_interpolated_where_that_pays():
    peaks = RNG.laplace(size=(1152, 1, 1)) * np.array([[0.5, 0.8, 0.5], [0.8, 1, 0.8], [0.5, 0.8, 0.5]])
    kernels = (peaks + RNG.normal(0, 0.02, peaks.shape)).astype(np.float32).reshape(1152, 1, 3, 3)
    sizes = {
        p: len(szdnn.compress(kernels, szdnn.Rel(1e-3), predictor=p)) for p in ("none", "lorenzo", "interpolation")
    }
    assert sizes["interpolation"] == min(sizes.values())
    assert len(szdnn.compress(kernels, szdnn.Rel(1e-3))) <= 1.03 * sizes["interpolation"]


def test_scales_of_rows_and_columns_are_told():
    plain = RNG.laplace(size=(60, 70)).astype(np.float32)
    rows, columns = np.exp2(np.arange(60) % 4)[:, None], np.exp2(np.arange(70) % 7)

    def told(values):
        _, header = with_header(values.astype(np.float32), "none", 1e-3)
        return _native.Encoder(header, _native.options(), values.astype(np.float32)).estimate_box()[2]

    assert told(plain) < 0.05
    for scaled, exponents in ((plain * rows, [4]), (plain * columns, [7]), (plain * rows * columns, [4, 7])):
        saved = sum(np.log2(np.mean(np.exp2(range(e)))) - np.mean(range(e)) for e in exponents)
        assert abs(told(scaled) - saved) < 0.1
