"""How tensors are cut into tiles for prediction."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from szdnn.tiles import INTERPOLATED_MULTIPLE, cubic_tile, folded_dims, interpolated_tile

EXTENTS = st.lists(st.integers(2, 5000), min_size=1, max_size=4).map(tuple)


@given(EXTENTS, st.integers(1, 1 << 20))
def test_tiles_lie_in_the_tensor_and_are_no_larger_than_asked_for(dims, volume):
    for tile in (cubic_tile(dims, volume), interpolated_tile(dims, volume)):
        assert math.prod(tile) <= volume
        assert all(1 <= edge <= extent for edge, extent in zip(tile, dims, strict=True))
        if math.prod(dims) <= volume:
            assert tile == dims


@given(EXTENTS)
def test_edges_of_interpolated_tiles_fit_coarse_looks_together(dims):
    tile = interpolated_tile(dims)
    for edge, extent in zip(tile, dims, strict=True):
        assert edge == extent or edge % INTERPOLATED_MULTIPLE == 0


@given(EXTENTS)
def test_interpolated_tiles_have_fewer_cuts_and_longer_rows_than_cubes(dims):
    """By what both cost together; edges that must be multiples may cost a little."""

    def cost(tile):
        return sum((-(-extent // edge) - 1) / extent for extent, edge in zip(dims, tile, strict=True)) + 1.25 / tile[-1]

    assert cost(interpolated_tile(dims)) <= 2 * cost(cubic_tile(dims, 1 << 20))


@pytest.mark.parametrize(
    ("dims", "tile"),
    [
        ((192, 192, 192), (48, 96, 192)),
        ((24, 48, 64, 64), (24, 16, 32, 64)),
        ((2048, 2048), (512, 2048)),
        ((4_194_304,), (1_048_576,)),
        ((10_000_000, 3), (303_040, 3)),
        ((872, 1000), (872, 1000)),
    ],
)
def test_interpolated_tiles_of_some_tensors(dims, tile):
    assert interpolated_tile(dims) == tile


def test_folded_dims_drop_axes_of_one_and_fold_leading_ones():
    assert folded_dims((1, 5, 1, 7)) == (5, 7)
    assert folded_dims((2, 3, 4, 5, 6)) == (6, 4, 5, 6)
    assert folded_dims(()) == folded_dims((1, 1)) == (1,)
