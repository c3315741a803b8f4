"""Lattices of dimension 1, 2, 4 and 8, and their nearest points; randomised (dithered) quantisation with them.

Conway and Sloane, "Fast quantizing and decoding algorithms for lattice quantizers and codes" (1982): D_n is the
integers of even sum, its nearest point the rounded one or, if that sums odd, with the worst coordinate rounded the
other way; E8 is D8 and D8 + 1/2, the nearer of the two; A2 is two interleaved rectangular lattices.
Every lattice is scaled to cells of volume 1, so that equal steps mean equal rates at high resolution; points are named
by integers. Dithered: Zamir and Feder, "On lattice quantization noise" (1996).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Lattice(ABC):
    """A lattice of some dimension. Points are rows."""

    name: str
    dimension: int

    @abstractmethod
    def nearest(self, x: Floats) -> Integers:
        """The integers [m, d] that name the lattice points nearest to the rows of x [m, d]."""

    @abstractmethod
    def points(self, names: Integers) -> Floats:
        """The lattice points [m, d] of these names [m, d]."""

    def dither(self, uniform: Floats) -> Floats:
        """Points [m, d], even over the cell around 0, of numbers [m, d] even over 0 to 1.

        Even over any period of the lattice, then less the nearest lattice point.
        """
        inside = uniform * self.period()
        return inside - self.points(self.nearest(inside))

    @abstractmethod
    def period(self) -> Floats:
        """The sides [d] of a box by which the lattice repeats."""


@dataclass(frozen=True)
class Cubic(Lattice):
    """The integers, Z."""

    name: str = "Z"
    dimension: int = 1

    def nearest(self, x: Floats) -> Integers:
        """Rounding."""
        return np.rint(x).astype(np.int64)

    def points(self, names: Integers) -> Floats:
        """The integers themselves."""
        return names.astype(np.float64)

    def period(self) -> Floats:
        """1."""
        return np.ones(1)


@dataclass(frozen=True)
class Hexagonal(Lattice):
    """A2: points (a, b sqrt 3) / scale with a, b halves of integers of equal parity; names are (2a, 2b)."""

    name: str = "A2"
    dimension: int = 2
    _sides = np.array([1.0, np.sqrt(3.0)]) * np.sqrt(2 / np.sqrt(3.0))

    def nearest(self, x: Floats) -> Integers:
        """The nearer of the nearest points of the two rectangular lattices."""
        y = x / self._sides
        even = 2 * np.rint(y).astype(np.int64)
        odd = 2 * np.rint(y - 0.5).astype(np.int64) + 1
        nearer = _distance(x, self.points(even)) <= _distance(x, self.points(odd))
        return np.where(nearer[:, None], even, odd)

    def points(self, names: Integers) -> Floats:
        """From halves."""
        return names / 2 * self._sides

    def period(self) -> Floats:
        """The rectangle's sides."""
        return self._sides


@dataclass(frozen=True)
class Checkerboard(Lattice):
    """D4: integers of even sum; a cell of volume 2."""

    name: str = "D4"
    dimension: int = 4
    _scale = 2**-0.25

    def nearest(self, x: Floats) -> Integers:
        """Rounded, one coordinate the other way where the sum is odd."""
        return _even(x / self._scale)

    def points(self, names: Integers) -> Floats:
        """The scaled integers."""
        return names * self._scale

    def period(self) -> Floats:
        """2 in every coordinate."""
        return np.full(4, 2 * self._scale)


@dataclass(frozen=True)
class Gosset(Lattice):
    """E8: all integers of even sum, and those with 1/2 added everywhere; a cell of volume 1. Names are doubled points."""

    name: str = "E8"
    dimension: int = 8

    def nearest(self, x: Floats) -> Integers:
        """The nearer of the nearest points of D8 and D8 + 1/2."""
        whole = 2 * _even(x)
        half = 2 * _even(x - 0.5) + 1
        nearer = _distance(x, self.points(whole)) <= _distance(x, self.points(half))
        return np.where(nearer[:, None], whole, half)

    def points(self, names: Integers) -> Floats:
        """Halves."""
        return names / 2

    def period(self) -> Floats:
        """2 in every coordinate."""
        return np.full(8, 2.0)


LATTICES: dict[str, Lattice] = {one.name: one for one in (Cubic(), Hexagonal(), Checkerboard(), Gosset())}


def _even(x: Floats) -> Integers:
    rounded = np.rint(x)
    error = x - rounded
    worst = np.argmax(np.abs(error), axis=1)
    rows = np.flatnonzero(rounded.sum(axis=1) % 2)
    at = worst[rows]
    rounded[rows, at] += np.where(error[rows, at] >= 0, 1.0, -1.0)
    return rounded.astype(np.int64)


def _distance(x: Floats, points: Floats) -> Floats:
    found: Floats = ((x - points) ** 2).sum(axis=1)
    return found
