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

# So many values show a grid, where the core's look has not told that there is none.
LOOK = 1024
# Of so many values a part confirms it: runs of so many, one in so many.
MANY, RUN, SHARE = 1 << 16, 256, 4
# Bounds of up to so many grid steps: beyond, there is little to gain.
MOST_STEPS = 3
MOST_NUMBER = 2.0**20
# By how much wider than 2 eps the lattice must be; how many values at least; one in so many may be off the grid.
WORTH_IT, LEAST_VALUES, FEW = 1.02, 256, 4096
FIT_ROUNDS = (64.0, 4096.0, MOST_NUMBER)


@dataclass(frozen=True)
class Grid:
    """A lattice of `step` for values that are multiples of step / parts (parts is odd): each lies within
    (parts - 1) / 2 of these from a lattice point."""

    step: float
    parts: int


def _spaced(values: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Magnitudes of about `count` evenly spaced finite values, ascending."""
    flat = values.reshape(-1)
    with np.errstate(invalid="ignore"):
        picked = np.abs(flat[:: max(1, flat.size // count)].astype(np.float64))
    picked.sort()  # NaN last
    return picked[: picked.searchsorted(np.inf)]


def _common_step(magnitudes: NDArray[np.float64], least: float) -> float:
    """About the greatest number of which all are multiples but for a quarter of `least`; 0 where it is below `least`
    (Euclid's algorithm on the smallest value and the gaps between values)."""
    gaps = magnitudes[1:] - magnitudes[:-1]
    gaps = gaps[gaps > least / 4]
    if not gaps.size or gaps.min() < least:
        return 0.0
    gaps = np.append(gaps, magnitudes[0])
    step = float(gaps[gaps > least / 4].min())
    while True:
        rest = np.abs(gaps - np.rint(gaps / step) * step)
        largest = float(rest.max())
        if largest <= least / 4:
            return step
        step = float(rest[rest > least / 4].min())
        if step < least:
            return 0.0


def _fitted(magnitudes: NDArray[np.float64], step: float) -> float:
    """The step by least squares, from small multiples to large ones."""
    for most in FIT_ROUNDS:
        near = magnitudes[magnitudes <= most * step]
        numbers = np.rint(near / step)
        square = _sum(numbers * numbers)
        step = _sum(near * numbers) / square if square else step
    return step


def _sum(values: NDArray[np.float64]) -> float:
    """In their order, so the same on every machine; 0 of none."""
    return float(np.add.accumulate(values)[-1]) if values.size else 0.0


def _found(magnitudes: NDArray[np.float64], eps: float, single: bool) -> Grid | None:
    """The grid of the sample's multiples of a common step, if its lattice is coarser than 2 eps."""
    exponent = math.frexp(eps)[1]  # sums of squares of the largest and the smallest floats have no place
    near_one, least = np.ldexp(magnitudes, -exponent), math.ldexp(eps, -exponent) / (MOST_STEPS + 0.5)
    step = _common_step(near_one, least)
    if step == 0.0:
        return None
    unit = math.ldexp(_fitted(near_one, step), exponent)
    parts = 2 * math.floor(eps / unit) + 1
    wide = float(np.float32(unit * parts)) if single else unit * parts
    return Grid(wide, parts) if parts <= 2 * MOST_STEPS + 1 and wide > WORTH_IT * 2 * eps else None


def _fits(values: NDArray[Any], grid: Grid, eps: float) -> bool:
    """Whether all values but one in FEW are near enough to multiples of the grid's step for its lattice; of many, those
    in runs spread over all."""
    flat, unit = values.reshape(-1), grid.step / grid.parts
    if flat.size >= MANY:
        whole = flat[: flat.size // (RUN * SHARE) * RUN * SHARE]
        flat = np.ascontiguousarray(whole.reshape(-1, RUN * SHARE)[:, :RUN])
    off = _native.off_grid(CODES[flat.dtype], flat, unit, eps - unit * (grid.parts // 2))
    return off <= flat.size // FEW


def find_grid(values: NDArray[Any], eps: float, single: bool) -> Grid | None:
    """The grid that nearly all values lie on, if its lattice is clearly coarser than 2 eps; the encoder stores what is
    not on it.

    values: any shape, float; eps > 0; single: the lattice's step is a float32.
    """
    if values.size < LEAST_VALUES or _native.has_no_grid(
        CODES[values.dtype], values, eps, eps / (MOST_STEPS + 0.5), eps * MOST_NUMBER
    ):
        return None
    magnitudes = _spaced(values, LOOK)
    near = magnitudes[: magnitudes.searchsorted(eps * MOST_NUMBER)]
    # A few spikes hide no grid. Of zeros, or nearly, there is nothing to find.
    if near.size < max(2, magnitudes.size * 0.9) or not near[-1] > eps:
        return None
    grid = _found(near, eps, single)
    return grid if grid is not None and _fits(values, grid, eps) else None
