"""Searching one knob: plans that get coarser as it grows, against a budget of the score or of bytes.

A score of a few hundred examples is too noisy to steer by alone: with 0.5 point of 500 images in question, 2.5 images
decide. The distance of the outputs from the original's is smooth, so drops are smoothed by a fit against it; a
candidate is taken when neither its own drop nor the smoothed one is over the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..plan import Plan
from .budget import Budget, MaxDrop, byte_limit
from .candidate import Candidate
from .problem import Problem

MEASURES = 8
"""Joint measurements at most, the curve's not counted."""
TOLERANCE = 0.02
"""The search ends when the knob's bracket is narrower than this, relatively."""
NEAR = 1.5


class Drops:
    """How far the score falls, measured and smoothed."""

    def __init__(self, baseline: float | None) -> None:
        self.baseline = baseline
        self._points: list[tuple[float, float]] = []

    def drop(self, candidate: Candidate) -> float:
        """The measured drop; 0 where there are no scores."""
        if self.baseline is None or candidate.score is None:
            return 0.0
        return self.baseline - candidate.score

    def add(self, candidate: Candidate) -> None:
        """Let a candidate take part in the smoothing."""
        if candidate.divergence and math.isfinite(candidate.divergence) and candidate.score is not None:
            self._points.append((candidate.divergence, self.drop(candidate)))

    def smoothed(self, candidate: Candidate) -> float:
        """The drop at the candidate's divergence by a line through zero and the points within `NEAR` octaves of it.

        Further ones would tell of another regime: drops grow faster than the divergence once predictions break.
        """
        here = candidate.divergence
        if not here or not self._points:
            return self.drop(candidate)
        distances = np.array([abs(math.log2(d / here)) for d, _ in self._points])
        weights = np.exp2(-distances) * (distances <= NEAR)
        x, y = (np.array(column) for column in zip(*self._points, strict=True))
        slope = float((weights * x * y).sum() / (weights * x * x).sum())
        return max(slope, 0.0) * here


def fits(budget: Budget, drops: Drops, candidate: Candidate, values: int) -> bool:
    """Whether a candidate keeps to the budget, as measured and as smoothed."""
    if isinstance(budget, MaxDrop):
        return drops.drop(candidate) <= budget.d and drops.smoothed(candidate) <= budget.d
    return candidate.bytes <= byte_limit(budget, values)


def search_knob(
    problem: Problem, plan_of: Callable[[float], Plan], start: float, *, power: float, measures: int = MEASURES
) -> Iterator[Candidate]:
    """Yield candidates on the way to the coarsest knob that keeps to the budget of the score, or the finest that keeps
    to that of bytes; then the curve's points, over two bits a value each way.

    plan_of: a plan for a knob above 0. start: the first knob to try. power: the output's distance grows about as this
        power of the knob; 2 for a bound.
    """
    drops = Drops(problem.baseline)
    # Of a budget of bytes the coarse side fits, of a score's the fine side.
    fine_fits = isinstance(problem.budget, MaxDrop)
    low, high = 0.0, math.inf  # the finest side's and the coarsest side's known knobs
    knob, best = start, start
    for _ in range(measures):
        candidate = problem.measure(plan_of(knob), knob=knob)
        drops.add(candidate)
        yield candidate
        if fits(problem.budget, drops, candidate, problem.values) == fine_fits:
            low = knob
        else:
            high = knob
        best = (low or high) if fine_fits else (high if high < math.inf else low)
        if low and high / low < 1 + TOLERANCE:
            break
        knob = _next(problem, drops, candidate, low, high, power)
    for octaves in np.linspace(-4 / power, 4 / power, problem.curve) if problem.curve else ():
        knob = best * 2.0**octaves
        yield problem.measure(plan_of(knob), knob=knob, what="curve")


def _next(problem: Problem, drops: Drops, last: Candidate, low: float, high: float, power: float) -> float:
    """The next knob: in the middle of the bracket; before there is one, as far as the last candidate's excess says."""
    if low and high < math.inf:
        return math.sqrt(low * high)
    if isinstance(problem.budget, MaxDrop):
        seen = max(drops.smoothed(last), drops.drop(last), problem.budget.d / 16, 1e-9)
        octaves = abs(math.log2(max(problem.budget.d, 1e-9) / seen)) / power
    else:
        octaves = abs(last.bytes - problem.byte_limit) * 8 / max(1, problem.values) * 2 / power
    factor: float = 2.0 ** min(max(octaves * 1.2, 0.5), 4)
    return last.knob / factor if not low else last.knob * factor
