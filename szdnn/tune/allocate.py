"""Dividing an error between tensors so that the bytes are least: Lagrangian allocation over real rate curves.

Minimising bytes + multiplier x distance over all tensors takes each tensor to the step where its own curve has the
slope that all share (Shoham and Gersho 1988). At high rates that is step ~ 1/sqrt(mean sensitivity); at low ones, where
a tensor's frame shrinks by less than a bit a value for each doubling of the step, the measured curves say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .rates import PER_OCTAVE, RateCurve

FINE = 4
"""Steps considered between two measured ones."""
MEASURED_OCTAVES = 7
"""Frames are made down to this far below the largest magnitude; finer ones follow the high-rate law."""
LAW_OCTAVES = 20


@dataclass(frozen=True)
class Curve:
    """A tensor's choices, from coarse to fine: steps, bytes, and the distance each adds."""

    steps: NDArray[np.float64]
    bytes: NDArray[np.float64]
    distance: NDArray[np.float64]


def measured_curve(rates: RateCurve, sensitivity: float) -> Curve:
    """The choices of a tensor by its frames, and below them by the high-rate law: a bit a value and a quarter of the
    squared error for each halving of the step.

    sensitivity: the mean over its values; the distance is half of it times the sum of squared errors.
    """
    numbers, sizes, squares = rates.curve(MEASURED_OCTAVES)
    fine = np.arange(numbers[0], numbers[-1], -1 / FINE)
    sizes = np.interp(-fine, -numbers, sizes)
    squares = np.exp2(np.interp(-fine, -numbers, np.log2(np.maximum(squares, 1e-300))))
    below = np.arange(1, LAW_OCTAVES * PER_OCTAVE * FINE) / (PER_OCTAVE * FINE)
    sizes = np.concatenate([sizes, sizes[-1] + below * rates.values.size / 8])
    squares = np.concatenate([squares, squares[-1] * 4.0**-below])
    steps = np.exp2(np.concatenate([fine / PER_OCTAVE, fine[-1] / PER_OCTAVE - below]))
    return Curve(steps, sizes, 0.5 * sensitivity * squares)


def law_curve(values: int, deviation: float, largest: float, sensitivity: float) -> Curve:
    """The choices of a tensor too small for frames of its own: powers of two, so that such tensors share frames."""
    top = np.ceil(np.log2(max(largest, 1e-30)))
    steps = np.exp2(top - np.arange(24))
    # The entropy of a normal variable at this step, not below a hundredth of a bit.
    bits = np.log2(np.maximum(4.13 * max(deviation, 1e-30) / steps, 1.007))
    squares = np.minimum(values * steps**2 / 12, values * max(deviation, 1e-30) ** 2)
    return Curve(steps, values * bits / 8, 0.5 * sensitivity * squares)


def allocate(curves: Mapping[str, Curve], distance: float) -> dict[str, float]:
    """The step of each tensor with the least bytes for a total distance, found by bisecting the multiplier."""
    low, high = -80.0, 160.0  # log2 of the multiplier; larger is finer
    for _ in range(60):
        middle = (low + high) / 2
        total = sum(curve.distance[_choice(curve, middle)] for curve in curves.values())
        low, high = (middle, high) if total > distance else (low, middle)
    return {name: float(curve.steps[_choice(curve, high)]) for name, curve in curves.items()}


def _choice(curve: Curve, log_multiplier: float) -> int:
    return int(np.argmin(curve.bytes + 2.0**log_multiplier * curve.distance))
