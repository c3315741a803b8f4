"""The default method: sensitivities from gradients, bytes from real frames, one knob found by joint measurements.

Error e of a value adds half its sensitivity times e^2 to the distance of the outputs (`szdnn.tune.fisher`). So one
backward pass a batch, without a single evaluation, gives the distance that every tensor's curve of frames adds; the
Lagrangian allocation divides a total between the tensors, and the total is the knob. Where tensors end below
about two bits a value, errors are no longer small and random: there the distance is measured, a tensor at a time, at
its allocated step and with everything else exact, and the curve scaled by what was found.

Norms' parameters and statistics, biases and small tensors are allocated too: plans of `tune` override the lossless
defaults, as these values are part of what was scored.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..bounds import Abs, Bound, Lossless, PointwiseRel
from ..errors import ArgumentError
from ..plan import Plan
from .allocate import Curve, allocate, law_curve, measured_curve
from .candidate import Candidate
from .fisher import Sensitivities, sensitivities
from .knob import search_knob
from .problem import Problem, lossless_but

SMALL_BYTES = 4096
"""Tensors below share frames in an archive."""
LOW_RATE = 2.0
"""Bits a value below which a tensor's distance is measured."""
VARIANCE = "running_var"
START = 0.01
"""The distance that the search begins with, and at which low rates are told."""


class Allocation:
    """Plans by the total distance they are to reach."""

    def __init__(self, problem: Problem) -> None:
        if problem.distance is None or not problem.calls:
            raise ArgumentError("sensitivity: needs calibration inputs, or an evaluation that runs the network")
        self.problem = problem
        problem.say("sensitivities")
        model = problem.fresh_model()
        found = sensitivities(model, problem.calls, problem.distance, problem.generator)
        self.variances = {n for n in problem.floats if n.endswith(VARIANCE) and (problem.tensors[n] > 0).all()}
        for name in self.variances & found.keys():
            # Of its logarithm: it is divided by, and shall neither become zero nor move by more than a part of itself.
            found[name] = found[name] * problem.tensors[name] ** 2
        self.means = self._means(found)
        problem.say("rate curves")
        self.curves = {name: self._curve(name) for name in self.means}

    def _means(self, found: Sensitivities) -> dict[str, float]:
        """The mean sensitivity of each tensor that can be lossy; those no gradient reaches count as the least."""
        known = {n: float(found[n].mean(dtype=np.float64)) for n in self.problem.floats if n in found}
        least = min((mean for mean in known.values() if mean > 0), default=1.0)
        return {name: max(mean, least * 2.0**-20) for name, mean in known.items()}

    def _curve(self, name: str) -> Curve:
        array, mean = self.problem.tensors[name], self.means[name]
        if name in self.variances:
            array = np.log(array)
            return law_curve(array.size, float(array.std()), 1.0, mean)
        if array.nbytes < SMALL_BYTES:
            finite = array[np.isfinite(array)].astype(np.float64)
            return law_curve(array.size, float(finite.std()), float(np.abs(finite).max(initial=0.0)), mean)
        return measured_curve(self.problem.rates(name), mean)

    def bounds(self, distance: float) -> dict[str, Bound]:
        """The bounds of a total distance. The lattice step is twice the bound, or as large where values are moved."""
        per_step = 1.0 if self.problem.compensate else 0.5
        steps = allocate(self.curves, distance)
        return {
            n: PointwiseRel(min(step, 1.0) / 2) if n in self.variances else Abs(step * per_step)
            for n, step in steps.items()
        }

    def plan(self, distance: float) -> Plan:
        """The plan of a total distance."""
        return Plan(Lossless(), self.bounds(distance))

    def measure_low_rates(self, distance: float) -> None:
        """Scale the curves of tensors below `LOW_RATE` bits by measured distances: one evaluation each."""
        steps = allocate(self.curves, distance)
        chosen = {n: int(np.argmin(np.abs(c.steps - steps[n]))) for n, c in self.curves.items()}
        low = [
            name
            for name, i in chosen.items()
            if self.curves[name].bytes[i] * 8 < LOW_RATE * self.problem.tensors[name].size
            and self.problem.tensors[name].nbytes >= SMALL_BYTES
        ]
        plans = [lossless_but({name: Abs(steps[name] / 2)}) for name in low]
        found = self.problem.measure_parts(plans, score=False, what="single tensors below 2 bits")
        for name, measured in zip(low, found, strict=True):
            curve = self.curves[name]
            predicted = float(curve.distance[chosen[name]])
            if measured.divergence is not None and predicted > 0:
                # Rounding luck moves a single measurement by half: the geometric mean with what gradients say.
                ratio = float(np.sqrt(np.clip(measured.divergence / predicted, 1 / 64, 64)))
                self.curves[name] = Curve(curve.steps, curve.bytes, curve.distance * ratio)


def search(problem: Problem) -> Iterator[Candidate]:
    """Allocate, measure what gradients can't tell, and search the total distance."""
    allocation = Allocation(problem)
    allocation.measure_low_rates(START)
    yield from search_knob(problem, allocation.plan, START, power=1)
