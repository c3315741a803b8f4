"""DeepSZ's optimisation of error bounds (Jin et al. 2019, sections 3.3 and 3.4), on all weight tensors.

Assessment: for each tensor alone, the others exact, the first bound of 1e-3, 1e-2, 1e-1 ... whose drop of the score is
above a tenth of a percent marks the decade; the steps 1, 2, 3 ... through that decade and the next are then taken until
the drop exceeds the budget. Optimisation: the combination of least bytes whose drops, taken to add up, keep to the
budget, by dynamic programming over drops in a hundred parts. The paper's bounds are absolute, and so are these; its
decade of 1e-3 for fully connected layers is here sought, downwards too, since other tensors have other ranges.

The sum of the drops is an assumption: the combination is measured jointly, and where it drops further than the budget
the one for less is taken, as often as it needs. That check is not the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..bounds import Abs, Bound, Lossless
from ..plan import Plan
from .budget import MaxDrop
from .candidate import Candidate
from .knob import search_knob
from .problem import Problem, lossless_but

SIGNIFICANT = 1e-3
"""Of the baseline: the drop that marks a decade (the paper's 0.1%)."""
PARTS = 100
"""Into which the budget is divided for dynamic programming."""
FIRST_DECADE = -3
DECADES = range(-7, 2)
STEPS = tuple(range(1, 10))


@dataclass(frozen=True)
class Option:
    """A tensor's bound with its bytes and the drop it alone causes."""

    eps: float
    bytes: float
    drop: float


def combine(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, float]:
    """The bound of each tensor: least bytes in total with drops adding up to at most `budget`.

    Dynamic programming over drops in whole parts of the budget, rounded up; drops below zero count as none. Tensors
    without an option that fits get no bound.
    """
    tables: list[tuple[str, dict[int, tuple[float, Option | None, int]]]] = []
    reached: dict[int, float] = {0: 0.0}
    for name, choices in options.items():
        table: dict[int, tuple[float, Option | None, int]] = {}
        for spent, size in reached.items():
            for option in choices:
                cost = int(np.ceil(max(option.drop, 0.0) / budget * PARTS)) if budget > 0 else PARTS + 1
                cost = 0 if option.drop <= 0 else cost
                total, bytes_ = spent + cost, size + option.bytes
                if total <= PARTS and (total not in table or bytes_ < table[total][0]):
                    table[total] = (bytes_, option, spent)
        if not table:
            table = {spent: (size, None, spent) for spent, size in reached.items()}
        tables.append((name, table))
        reached = {total: entry[0] for total, entry in table.items()}
    at = min(reached, key=lambda total: reached[total])
    chosen: dict[str, float] = {}
    for name, table in reversed(tables):
        _, taken, at = table[at]
        if taken is not None:
            chosen[name] = taken.eps
    return chosen


class Assessment:
    """The options of every weight tensor, measured one bound at a time, all tensors at once.

    budget: the drop that assessment stops at. significant: the drop that marks a decade; None: as the paper has it.
    """

    def __init__(self, problem: Problem, budget: float, significant: float | None = None) -> None:
        self.problem, self.budget = problem, budget
        self.options: dict[str, list[Option]] = {name: [] for name in problem.weights}
        if significant is None:
            significant = abs(problem.baseline or 0.0) * SIGNIFICANT
        self._steps(self._decades(significant))

    def _drops(self, bounds: Mapping[str, float], what: str) -> dict[str, float]:
        """The drop of each tensor at its bound, alone."""
        plans = [lossless_but({name: Abs(eps)}) for name, eps in bounds.items()]
        found = self.problem.measure_parts([(plan, {}) for plan in plans], score=True, what=what)
        baseline = self.problem.baseline or 0.0
        return {name: baseline - (m.score or 0.0) for name, m in zip(bounds, found, strict=True)}

    def _decades(self, significant: float) -> dict[str, int]:
        """For each tensor the largest power of ten at which its drop is not significant."""
        place = dict.fromkeys(self.options, FIRST_DECADE)
        rising: dict[str, bool] = {}
        active = list(self.options)
        while active:
            drops = self._drops({name: 10.0 ** place[name] for name in active}, "assessment: decades")
            active = []
            for name, drop in drops.items():
                up = not drop > significant
                if rising.setdefault(name, up) != up:
                    place[name] -= rising[name]  # of the last two the finer one
                elif place[name] + (1 if up else -1) in DECADES:
                    place[name] += 1 if up else -1
                    active.append(name)
        return place

    def _steps(self, starts: Mapping[str, int]) -> None:
        """Bounds 1, 2, 3 ... of the decade and of the next until the drop exceeds the budget."""
        ladder = {n: [s * 10.0**d for d in (start, start + 1) for s in STEPS] for n, start in starts.items()}
        active = list(self.options)
        for number in range(2 * len(STEPS)):
            drops = self._drops({name: ladder[name][number] for name in active}, "assessment: steps")
            active = []
            for name, drop in drops.items():
                eps, rates = ladder[name][number], self.problem.rates(name)
                if drop <= self.budget:
                    self.options[name].append(Option(eps, rates.bytes_at(2 * eps), drop))
                    if eps <= rates.largest:  # beyond, all is zero and no larger bound does more
                        active.append(name)

    def plan(self, budget: float) -> Plan:
        """The combination for a sum of drops."""
        bounds: dict[str, Bound] = {n: Abs(e) for n, e in combine(self.options, budget).items()}
        return Plan(Lossless(), bounds)


def search(problem: Problem, *, assumed: float | None = None) -> Iterator[Candidate]:
    """Assess, combine, measure jointly.

    assumed: the drop that assessment stops at; None: the budget's, or a hundredth of the baseline for one of bytes.
    """
    d = problem.budget.d if isinstance(problem.budget, MaxDrop) else abs(problem.baseline or 1.0) / 100
    budget = assumed if assumed is not None else max(d, 1e-6)
    assessment = Assessment(problem, budget)
    yield from search_knob(problem, assessment.plan, budget, power=1)
