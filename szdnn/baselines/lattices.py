"""Lattices of dimension 1, 2, 4 and 8, their nearest points, and dithers that are even over their cells.

Conway and Sloane, "Fast quantizing and decoding algorithms for lattice quantizers and codes" (1982): D_n is the
integers of even sum, its nearest point the rounded one or, if that sums odd, with the worst coordinate rounded the
other way; E8 is D8 and D8 + 1/2, the nearer of the two; A2 is two interleaved rectangular lattices.

Every lattice is scaled to cells of volume 1, so that equal steps mean equal rates at high resolution. Points have names:
any integers name a point, and each point has one name, so that nothing is left to a coder that the lattice knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Lattice(ABC):
    """A lattice of some dimension d; points are rows. sides: of a box by which it repeats, [d]."""

    name: str
    dimension: int
    sides: Floats

    @abstractmethod
    def nearest(self, x: Floats) -> Integers:
        """The names [m, d] of the lattice points nearest to the rows of x [m, d]."""

    @abstractmethod
    def points(self, names: Integers) -> Floats:
        """The lattice points [m, d] of these names [m, d]."""

    def dither(self, uniform: Floats) -> Floats:
        """Points [m, d], even over the cell around 0, of numbers [m, d] even over 0 to 1.

        A box by which the lattice repeats holds each cell as often; what is left of a point in it is even over the cell.
        """
        inside = uniform * self.sides
        return inside - self.points(self.nearest(inside))


class Cubic(Lattice):
    """Z: the integers."""

    name, dimension = "Z", 1
    sides = np.ones(1)

    def nearest(self, x: Floats) -> Integers:
        """Rounding."""
        return np.rint(x).astype(np.int64)

    def points(self, names: Integers) -> Floats:
        """The integers themselves."""
        return names.astype(np.float64)


class Hexagonal(Lattice):
    """A2: the points (i, j sqrt 3) c / 2 with i, j of equal parity; named (i >> 1, j)."""

    name, dimension = "A2", 2
    sides = np.array([1.0, np.sqrt(3.0)]) * np.sqrt(2 / np.sqrt(3.0))

    def nearest(self, x: Floats) -> Integers:
        """The nearer of the nearest points of the two rectangular lattices."""
        y = x / self.sides
        even, odd = 2 * np.rint(y), 2 * np.rint(y - 0.5) + 1
        found = _nearer(x, even, odd, self.sides / 2).astype(np.int64)
        return np.stack([found[:, 0] >> 1, found[:, 1]], axis=1)

    def points(self, names: Integers) -> Floats:
        """The first coordinate's parity is the second's."""
        first = 2 * names[:, 0] + (names[:, 1] & 1)
        return np.stack([first, names[:, 1]], axis=1) * (self.sides / 2)


class Checkerboard(Lattice):
    """D4: c times the integers of even sum; named by them, the last one halved."""

    name, dimension = "D4", 4
    _scale = 2**-0.25
    sides = np.full(4, 2 * _scale)

    def nearest(self, x: Floats) -> Integers:
        """Rounded, one coordinate the other way where the sum is odd."""
        found = _even(x / self._scale).astype(np.int64)
        found[:, -1] >>= 1
        return found

    def points(self, names: Integers) -> Floats:
        """The last coordinate makes the sum even."""
        return _with_even_sum(names[:, :-1], names[:, -1]) * self._scale


class Gosset(Lattice):
    """E8: integers of even sum, and such with 1/2 added to each; named by the integers, the last with the 1/2 for its parity."""

    name, dimension = "E8", 8
    sides = np.full(8, 2.0)

    def nearest(self, x: Floats) -> Integers:
        """The nearer of the nearest points of D8 and D8 + 1/2."""
        found = _nearer(x, _even(x), _even(x - 0.5) + 0.5, np.ones(8))
        names = np.floor(found).astype(np.int64)
        is_half = found[:, 0] != names[:, 0]
        names[:, -1] = (names[:, -1] >> 1) * 2 + is_half
        return names

    def points(self, names: Integers) -> Floats:
        """The last name is twice what stands for the last coordinate, plus 1 for the halves."""
        return _with_even_sum(names[:, :-1], names[:, -1] >> 1) + (names[:, -1:] & 1) / 2


LATTICES: dict[str, Lattice] = {one.name: one for one in (Cubic(), Hexagonal(), Checkerboard(), Gosset())}


def _even(x: Floats) -> Floats:
    """The nearest integers of even sum."""
    rounded = np.rint(x)
    error = x - rounded
    rows = np.flatnonzero(rounded.sum(axis=1) % 2)
    worst = np.argmax(np.abs(error[rows]), axis=1)
    rounded[rows, worst] += np.where(error[rows, worst] >= 0, 1.0, -1.0)
    return rounded


def _with_even_sum(first: Integers, last: Integers) -> Integers:
    """All but the last coordinate, and the last, which was halved and rounded down."""
    return np.concatenate([first, (2 * last + (first.sum(axis=1) & 1))[:, None]], axis=1)


def _nearer(x: Floats, one: Floats, other: Floats, scale: Floats) -> Floats:
    distances = [((x - points * scale) ** 2).sum(axis=1) for points in (one, other)]
    return np.where((distances[0] <= distances[1])[:, None], one, other)
