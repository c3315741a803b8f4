"""The default method: sensitivities from gradients, bytes from real frames, one knob found by joint measurements.

Error e of a value adds half its sensitivity times e^2 to the distance of the outputs (`szdnn.tune.fisher`). So one
backward pass a batch, without a single evaluation, gives the distance that every tensor's curve of frames adds; the
Lagrangian allocation divides a total between the tensors, and the total is the knob.

Below about two bits a value errors are neither small nor random: a last layer whose weights all become zero costs
hundreds of times what its sensitivity says. No tensor goes there untested: where the allocation would have it coarser
than anything that was measured, that step is measured first, in this tensor alone with all else exact, at most an
octave further at a time, and its curve follows what was found.

Where values are moved (compensation), a layer's error is what is left after feedback; each curve is scaled by how much
the feedback saves on that layer's inputs, which its Hessian tells without an evaluation.

Norms' parameters and statistics, biases and small tensors are allocated too: plans of `tune` override the lossless
defaults, as these values are part of what was scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import codec
from ..bounds import Abs, Bound, Lossless, PointwiseRel
from ..errors import ArgumentError
from ..plan import Plan
from ..source import Array
from .allocate import Curve, allocate, law_curve, measured_curve
from .candidate import Candidate
from .fisher import Sensitivities, batch_norms, sensitivities
from .knob import MEASURES, search_knob
from .problem import Problem, lossless_but
from .refine import Refinement

SMALL_BYTES = 4096
"""Tensors below share frames in an archive: their rates are the law's."""
LOW_RATE = 2.0
"""Bits a value below which gradients are not believed."""
VARIANCE = "running_var"
START = 0.01
"""The distance that the search begins with."""
AXIS_BYTES = 1.2
"""About what a bound along an axis takes in a frame's header, being one of few."""
AXIS_OCTAVE = 4
"""So many bounds an octave are told apart along an axis."""
OCTAVE = 2.0
ROUNDS = 6
SPARE = 16
"""Evaluations of single tensors beyond two for each weight: 2 L + 30 in all with the joint ones, no curve asked for."""
LUCK = 1.5


@dataclass(frozen=True)
class PerChannel:
    """Bounds along an axis relative to one for the whole tensor, and the mean sensitivities of its indices."""

    axis: int
    relative: NDArray[np.float64]
    means: NDArray[np.float64]


class Allocation:
    """Plans by the total distance they are to reach."""

    def __init__(self, problem: Problem, per_channel: bool = True) -> None:
        if problem.distance is None or not problem.calls:
            raise ArgumentError("sensitivity: needs calibration inputs, or an evaluation that runs the network")
        self.problem, self.per_channel = problem, per_channel
        self.normed = bool(batch_norms(problem.model))
        problem.say("sensitivities")
        model = problem.fresh_model()
        found = sensitivities(model, problem.calls, problem.distance, problem.generator)
        self.variances = {n for n in problem.floats if n.endswith(VARIANCE) and (problem.tensors[n] > 0).all()}
        for name in self.variances & found.keys():
            # Of its logarithm: it is divided by, and shall neither become zero nor move by more than a part of itself.
            found[name] = found[name] * problem.tensors[name] ** 2
        self.means = self._means(found)
        self.vectors = {n: v for n in problem.weights if (v := self._vector(n, found.get(n))) is not None}
        self._pays: dict[tuple[str, float], bool] = {}
        problem.say("rate curves")
        self.curves = {name: self._curve(name) for name in self.means}
        self._plain = {name: self.curves[name] for name in self.vectors}
        self.measured, self.most = 0, 2 * len(problem.weights) + SPARE
        self.tested = {name: self._trusted(name) for name in self.curves}
        if problem.compensate and isinstance(problem.transform, Refinement):
            self._scale_by_feedback(problem.transform)

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

    def _vector(self, name: str, found: NDArray[np.float32] | None) -> PerChannel | None:
        """The bounds along an axis that save most by the high-rate law; None where none pays.

        Not by output channel in nets with batch norms, which undo a channel's scale but not its errors, and not by
        rows that the calibration inputs did not reach.
        """
        array = self.problem.tensors[name]
        if found is None or not self.per_channel or array.nbytes < SMALL_BYTES:
            return None
        best: tuple[float, PerChannel] | None = None
        for axis in (0, 1):
            rest = tuple(a for a in range(array.ndim) if a != axis)
            means = found.mean(axis=rest, dtype=np.float64)
            if not means.any() or (axis == 0 and (self.normed or not means.all())):
                continue
            relative = relative_bounds(means)
            saved = float(np.log2(relative).mean()) * array.size / 8 - AXIS_BYTES * relative.size
            if saved > 0 and (best is None or saved > best[0]):
                best = saved, PerChannel(axis, relative, means)
        return best and best[1]

    def _trusted(self, name: str) -> float:
        """The coarsest step at which gradients are believed: that of `LOW_RATE` bits a value."""
        curve, size = self.curves[name], self.problem.tensors[name].size
        fine = curve.steps[curve.bytes * 8 >= LOW_RATE * size]
        return float(fine[0]) if fine.size else float(curve.steps[-1])

    def _scale_by_feedback(self, refinement: Refinement) -> None:
        """Errors that feedback takes back do not count."""
        self.problem.say("feedback")
        steps = allocate({n: self._reachable(n, 1.0) for n in self.curves}, START)
        for name, curve in self.curves.items():
            gain = refinement.gain(self.problem, name, steps[name])
            self.curves[name] = Curve(curve.steps, curve.bytes, curve.distance * gain)

    def bounds(self, distance: float) -> dict[str, Bound]:
        """The bounds of a total distance. The lattice step is twice the bound, or as large where values are moved."""
        per_step = 1.0 if self.problem.compensate else 0.5
        steps = allocate({n: self._reachable(n, 1.0) for n in self.curves}, distance)
        return {name: self._bound(name, step, per_step) for name, step in steps.items()}

    def _bound(self, name: str, step: float, per_step: float) -> Bound:
        if name in self.variances:
            return PointwiseRel(min(step, 1.0) / 2)
        if name in self.vectors and self._pays_per_channel(name, step):
            vector = self.vectors[name]
            return Abs(step * per_step * vector.relative, vector.axis)
        return Abs(step * per_step)

    def _pays_per_channel(self, name: str, step: float) -> bool:
        """Whether bounds along an axis take fewer bytes than one bound for the distance they add, by a real frame.

        At low rates they often do not: what the law promises for each doubling of a bound is not there to be saved.
        """
        if (name, step) not in self._pays:
            array, vector, plain = self.problem.tensors[name], self.vectors[name], self._plain[name]
            frame = codec.compress(array, Abs(step / 2 * vector.relative, vector.axis))
            errors = np.square(codec.decompress(frame).astype(np.float64) - array)
            along = np.nansum(errors, axis=tuple(a for a in range(array.ndim) if a != vector.axis))
            distance = max(float(0.5 * vector.means @ along), 1e-300)
            at = np.log(np.maximum(plain.distance[::-1], 1e-300))
            is_trusted = len(frame) * 8 >= LOW_RATE * array.size
            self._pays[name, step] = is_trusted and len(frame) < float(
                np.interp(np.log(distance), at, plain.bytes[::-1])
            )
        return self._pays[name, step]

    def plan(self, distance: float) -> Plan:
        """The plan of a total distance; measures what it would have coarser than anything known."""
        for _ in range(ROUNDS):
            reach = {n: OCTAVE if self.problem.tensors[n].nbytes >= SMALL_BYTES else 1.0 for n in self.curves}
            steps = allocate({n: self._reachable(n, reach[n]) for n in self.curves}, distance)
            news = [n for n, step in steps.items() if step > self.tested[n] * 1.01]
            # The largest first: there it matters most, and evaluations are limited.
            news = sorted(news, key=lambda n: -self.problem.tensors[n].size)[: self.most - self.measured]
            if not news:
                break
            self._measure({name: steps[name] for name in news})
        return Plan(Lossless(), self.bounds(distance))

    def _reachable(self, name: str, beyond: float) -> Curve:
        """A tensor's choices up to `beyond` times the coarsest step that is known to be as its curve says."""
        curve = self.curves[name]
        allowed = curve.steps <= self.tested[name] * beyond * 1.01
        allowed[-1] = True
        return Curve(curve.steps[allowed], curve.bytes[allowed], curve.distance[allowed])

    def _measure(self, steps: dict[str, float]) -> None:
        """Scale curves by the distances that steps cause in single tensors: one evaluation each."""
        jobs = [self._alone(name, step) for name, step in steps.items()]
        found = self.problem.measure_parts(jobs, score=False, what="single tensors below 2 bits")
        self.measured += len(jobs)
        for (name, step), measured in zip(steps.items(), found, strict=True):
            curve = self.curves[name]
            predicted = float(np.interp(-np.log(step), -np.log(curve.steps), curve.distance))
            if measured.divergence is not None and predicted > 0:
                self.curves[name] = _bent(curve, self.tested[name], step, measured.divergence / predicted)
            self.tested[name] = step

    def _alone(self, name: str, step: float) -> tuple[Plan, dict[str, Array]]:
        """One tensor at a step, everything else lossless."""
        if self.problem.compensate and isinstance(self.problem.transform, Refinement):
            return self.problem.transform.compensated(self.problem, lossless_but({name: self._bound(name, step, 1.0)}))
        return lossless_but({name: self._bound(name, step, 0.5)}), {}


def relative_bounds(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bounds as the fourth root of one over the mean sensitivities along an axis, scaled to add the distance of one
    bound of 1 for all; few different ones, which are cheap to tell.

    The square root would be the best of exact sensitivities; these are estimates, and the errors of small ones are
    large. None counts for less than a twentieth of the mean.
    """
    floored = np.maximum(means, means.mean() / 20)
    relative = np.exp2(np.round(np.log2(floored**-0.25) * AXIS_OCTAVE) / AXIS_OCTAVE)
    scaled: NDArray[np.float64] = relative / np.sqrt((floored * relative**2).sum() / floored.sum())
    return scaled


def _bent(curve: Curve, tested: float, step: float, ratio: float) -> Curve:
    """A curve that is `ratio` times as high from `step` on, as it was up to `tested`, and goes over between.

    Rounding luck moves a single measurement by half: ratios within `LUCK` count as 1, others less by it.
    """
    log_ratio = np.log(max(ratio, 1e-6))
    log_ratio = np.sign(log_ratio) * max(abs(log_ratio) - np.log(LUCK), 0.0)
    share = np.clip(np.log(curve.steps / tested) / max(np.log(step / tested), 1e-9), 0, 1)
    return Curve(curve.steps, curve.bytes, curve.distance * np.exp(share * log_ratio))


def search(problem: Problem, *, per_channel: bool = True) -> Iterator[Candidate]:
    """Allocate, measure what gradients can't tell, and search the total distance.

    per_channel: bounds along an axis (`Abs(vector, axis)`) where they save more than they take in the frame's header.
    """
    allocation = Allocation(problem, per_channel)
    problem.evaluator.expected = len(problem.weights) + MEASURES + problem.curve
    yield from search_knob(problem, allocation.plan, START, power=1)
