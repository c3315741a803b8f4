"""From a plan to what is really compressed: weights moved within their bounds, statistics corrected."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..bounds import Abs, Bound, Rel, Std
from ..plan import Plan, Rule
from ..source import Array, Json
from .compensate import Compensator
from .correct import Corrector
from .problem import Problem
from .worker import rounded


@dataclass
class Refinement:
    """A `Transform`: compensation, then correction, as asked for; what both need of the original is kept."""

    correct: bool
    compensate: bool
    _compensator: Compensator | None = field(default=None, repr=False)
    _corrector: Corrector | None = field(default=None, repr=False)

    def __call__(self, problem: Problem, plan: Plan) -> tuple[Plan, dict[str, Array]]:
        """The plan and the tensors that take the place of the original's."""
        changed: dict[str, Array] = {}
        told: dict[str, Json] = {}
        if self.compensate:
            plan, moved = self.compensated(problem, plan)
            changed.update(moved)
            told["compensated"] = sorted(moved)
        if self.correct:
            self._corrector = self._corrector or Corrector(problem)
            decoded = {
                name: rounded(changed.get(name, array), plan.bound(name, array.dtype, array.shape))
                for name, array in problem.tensors.items()
            }
            corrected = self._corrector.correct(decoded)
            changed.update(corrected)
            told["not_the_original"] = dict.fromkeys(sorted(corrected), "corrected")
        return Plan(plan.default, plan.rules, {**plan.provenance, **told}), changed

    def _compensator_of(self, problem: Problem) -> Compensator:
        self._compensator = self._compensator or Compensator(problem)
        return self._compensator

    def gain(self, problem: Problem, name: str, step: float) -> float:
        """What part of a tensor's error at a step feedback leaves; 1 for tensors that are not compensated."""
        return self._compensator_of(problem).gain(name, step)

    def compensated(self, problem: Problem, plan: Plan) -> tuple[Plan, dict[str, Array]]:
        """Bounds are lattice steps here: weights are moved within them, all else is rounded, within half of them."""
        compensator = self._compensator_of(problem)
        rules: dict[str, Rule] = {}
        moved: dict[str, Array] = {}
        for name, array in problem.tensors.items():
            bound = plan.bound(name, array.dtype, array.shape)
            if isinstance(bound, Abs) and bound.fineness == 1:
                made = compensator.moved(name, bound)
                if made is not None:
                    moved[name], bound = made
                else:
                    bound = halved(bound)
            else:
                bound = halved(bound)
            rules[name] = Rule(name, bound)
        return Plan(plan.default, rules.values(), plan.provenance), moved


def halved(bound: Bound) -> Bound:
    """Half of a bound that is proportional to its parameter."""
    match bound:
        case Abs(eps, None):
            return replace_abs(bound, float(eps) / 2)  # type: ignore[arg-type]
        case Abs():
            return Abs(bound.vector() / 2, bound.axis)
        case Rel():
            return replace(bound, r=bound.r / 2)
        case Std():
            return Std(bound.c / 2)
    return bound


def replace_abs(bound: Abs, eps: float) -> Abs:
    """The same with another eps."""
    return Abs(eps, None, bound.fineness)
