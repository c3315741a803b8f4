"""A frame never makes more than its own length justifies (FORMAT.md, section 2.3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import szdnn
from szdnn import _native
from szdnn.encoder import Choices, FrameMaker
from szdnn.new_header import set_predictor, set_tiles
from szdnn.resolve import resolve
from szdnn.stats import stats_of

MB = 1 << 20
PREDICTORS = ("none", "lorenzo", "regression", "interpolation", "repeat")


def fill(header: _native.Header, code: int, shape: tuple[int, ...], predictor: str, mixed: bool) -> None:
    """A header under Abs(1/1024), not complete yet."""
    c = header.c
    c.dtype, c.rank, c.kind = code, len(shape), 2 if code == 3 else 1
    for axis, extent in enumerate(shape):
        c.shape[axis] = extent
    c.eps, c.step, c.bound_kind, c.bound_digits, c.bound_exponent = 2.0**-10, 2.0**-9, 1, 1, -3
    set_predictor(header, shape, predictor)
    c.lag, c.mixed = int(predictor == "repeat"), int(mixed)


@given(st.sampled_from([0, 1, 2, 3]), st.lists(st.integers(1, 1 << 20), min_size=1, max_size=4), st.booleans())
def test_a_hundred_bytes_take_at_most_a_megabyte_with_any_tiles(code, wanted, mixed):
    tile: list[int] = []
    for extent in wanted:  # of at most 2^17 values, which all predictors may have
        tile.append(max(1, min(extent, (1 << 17) // math.prod(tile))))
    for predictor in ("lorenzo", "regression", "interpolation"):
        header = _native.Header()
        fill(header, code, (math.prod(tile),), predictor, mixed and predictor != "interpolation")
        set_tiles(header, tuple(tile), tuple(tile))
        header.complete()
        if _native.is_justified(header, 100):
            assert _native.decode_scratch(header) <= MB + 200


@given(st.sampled_from([0, 1, 2, 3]), st.lists(st.integers(1, 1 << 10), max_size=4), st.sampled_from(PREDICTORS))
def test_the_encoders_own_tiles_take_at_most_a_megabyte(code, shape, predictor):
    header = _native.Header()
    fill(header, code, tuple(shape), predictor, False)
    header.complete()
    if _native.is_justified(header, 100):
        assert _native.decode_scratch(header) <= MB + 200
    assert predictor == "interpolation" or _native.is_justified(header, 0)
    assert _native.is_justified(header, 20_000)


@given(st.sampled_from([0, 1, 2, 3]), st.lists(st.integers(2, 5), max_size=3), st.integers(1 << 10, 1 << 18))
@example(2, [2, 2], 1 << 15)
@example(2, [2], 1 << 16)
def test_regression_on_thin_tiles_takes_at_most_a_megabyte(code, thin, length):
    header = _native.Header()
    fill(header, code, (*thin, length), "regression", False)
    header.complete()
    assert _native.decode_scratch(header) <= MB + 200


@pytest.mark.parametrize(("edge", "good"), [(16, True), (15, False), (5, False)])
def test_tiles_with_too_many_coefficients_are_refused(edge, good):
    """A hostile frame of 140 bytes had two coefficients for five values, and took 1.04 MB."""
    header = _native.Header()
    fill(header, 2, (116_640,), "regression", False)
    header.c.edge = edge
    if good:
        header.complete()
        assert _native.decode_scratch(header) <= MB + 200
    else:
        with pytest.raises(szdnn.CorruptFrame, match="predictor"):
            header.complete()


SMOOTH = {
    "a plane": lambda n: np.add.outer(np.arange(n, dtype=np.float32), 2 * np.arange(n, dtype=np.float32)),
    "a wave": lambda n: np.sin(np.arange(n * n) / n**1.5).astype(np.float32),
    "a volume": lambda n: np.fromfunction(lambda *at: sum(a**2 for a in at) / n, (n // 8,) * 3, dtype=np.float32),
}


@pytest.mark.parametrize("effort", [3, 7, 8, 9])
@pytest.mark.parametrize("name", SMOOTH)
def test_short_frames_of_smooth_values_are_made_for_little_memory(name, effort):
    values = SMOOTH[name](512)
    for bound in (szdnn.Rel(0.1), szdnn.Rel(1e-3)):
        frame = szdnn.compress(values, bound, effort=effort)
        assert _native.is_justified(_native.Header.read(_native.as_bytes(frame)), len(frame))
        eps = bound.r * float(np.ptp(values.astype(np.float64)))
        assert np.abs(szdnn.decompress(frame).astype(np.float64) - values).max() <= eps


def shortest(predictor: str) -> np.ndarray:
    """Values of which a frame takes about a hundred bytes."""
    if predictor == "interpolation":
        return np.fromfunction(lambda i, j, k: i + j + 3 * k, (64, 64, 64), dtype=np.float32).astype(np.float32)
    values = np.zeros(4096, dtype=np.float32)
    values[::200] = 1
    return values


@pytest.mark.parametrize("predictor", ["interpolation", "none"])
def test_a_frame_that_is_too_short_is_refused(predictor):
    values = shortest(predictor)
    stats = stats_of(2, values, 1)
    maker = FrameMaker(values, 2, stats, Choices(9, "auto", "auto", 1))
    lattice = maker.lattice(resolve(szdnn.Abs(0.25), 2, values, stats))
    frame = b"".join(bytes(part) for part in maker.encode(maker.final(lattice, predictor)).parts)
    assert 40 < len(frame) < 104
    for read in (szdnn.decompress, szdnn.info):
        with pytest.raises(szdnn.CorruptFrame, match="too short for the memory"):
            read(frame)
    kept = szdnn.compress(values, szdnn.Abs(0.25), predictor=predictor, effort=9)
    assert np.abs(szdnn.decompress(kept) - values).max() <= 0.25
    assert len(kept) < 500
