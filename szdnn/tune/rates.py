"""What a tensor costs and how far it moves at every lattice step: from real frames of the codec."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .. import codec
from ..bounds import Abs
from ..source import Array

PER_OCTAVE = 2
"""Frames are made at this many steps an octave; what lies between is interpolated."""


class RateCurve:
    """The frame bytes and the squared error of a tensor as functions of the lattice step.

    values: the tensor, of a float dtype. Frames are made when first needed, at effort 3, and forgotten.

    The step is twice the bound of a plain frame: `Abs(step / 2)`.
    """

    def __init__(self, values: Array) -> None:
        self.values = values
        finite = values[np.isfinite(values)].astype(np.float64) if values.size else np.zeros(0)
        self.largest = float(np.abs(finite).max()) if finite.size else 0.0
        self.power = float(np.square(finite).sum())
        self._known: dict[int, tuple[float, float]] = {}

    @property
    def top(self) -> int:
        """The number of the step at which everything is zero."""
        return math.ceil(math.log2(max(2 * self.largest, 1e-300)) * PER_OCTAVE) + 1

    @staticmethod
    def step(number: float) -> float:
        """The step of a number."""
        return float(2.0 ** (number / PER_OCTAVE))

    def at(self, number: int) -> tuple[float, float]:
        """(bytes of the frame, sum of squared errors) at a step."""
        if number not in self._known:
            frame = codec.compress(self.values, Abs(self.step(number) / 2))
            error = codec.decompress(frame).astype(np.float64) - self.values
            squares = float(np.square(error[np.isfinite(error)]).sum())
            self._known[number] = (float(len(frame)), squares)
        return self._known[number]

    def bytes_at(self, step: float) -> float:
        """The bytes of the frame at a step, by interpolation."""
        number = min(math.log2(step) * PER_OCTAVE, self.top)
        low = math.floor(number)
        share = number - low
        return (1 - share) * self.at(low)[0] + (share * self.at(low + 1)[0] if share else 0.0)

    def curve(self, octaves: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Numbers of steps from the top down over so many octaves, with bytes and squared errors at each."""
        numbers = np.arange(self.top, self.top - round(octaves * PER_OCTAVE) - 1, -1)
        found = [self.at(int(n)) for n in numbers]
        return numbers.astype(np.float64), np.array([f[0] for f in found]), np.array([f[1] for f in found])
