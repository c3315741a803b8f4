"""Values that lie on a grid of their own, such as counts and pixels: a lattice of that grid is coarser than the bound
alone allows, and exact or nearly so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import CODES

# Of so many values and more, no more confirm it.
MANY = 1 << 16
# Bounds of up to so many grid steps: beyond, there is little to gain.
MOST_STEPS = 3
MOST_NUMBER = 2.0**20
# By how much wider than 2 eps the lattice must be; how many values at least; one in so many may be off the grid.
WORTH_IT, LEAST_VALUES, FEW = 1.02, 256, 4096


@dataclass(frozen=True)
class Grid:
    """A lattice of `step` for values that are multiples of step / parts (parts is odd): each lies within
    (parts - 1) / 2 of these from a lattice point."""

    step: float
    parts: int


def _wide(unit: float, eps: float, single: bool) -> Grid | None:
    """The lattice for multiples of the unit, if it is coarser than 2 eps."""
    parts = 2 * math.floor(eps / unit) + 1
    wide = float(np.float32(unit * parts)) if single else unit * parts
    return Grid(wide, parts) if parts <= 2 * MOST_STEPS + 1 and wide > WORTH_IT * 2 * eps else None


def _fits(values: NDArray[Any], grid: Grid, eps: float) -> bool:
    """Whether all values but one in FEW are near enough to multiples of the grid's step for its lattice; of many, those
    in runs spread over all."""
    unit, share = grid.step / grid.parts, max(1, values.size // MANY)
    off, seen = _native.off_grid(CODES[values.dtype], values, share, unit, eps - unit * (grid.parts // 2))
    return off <= seen // FEW


def find_grid(values: NDArray[Any], eps: float, single: bool) -> Grid | None:
    """The grid that nearly all values lie on, if its lattice is clearly coarser than 2 eps; the encoder stores what is
    not on it.

    values: any shape, float, C-contiguous; eps > 0; single: the lattice's step is a float32.
    """
    if values.size < LEAST_VALUES:
        return None
    unit = _native.grid_unit(CODES[values.dtype], values, eps, eps / (MOST_STEPS + 0.5), eps * MOST_NUMBER)
    grid = _wide(unit, eps, single) if unit else None
    return grid if grid is not None and _fits(values, grid, eps) else None
