"""The baseline: one bound of one kind for all weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..bounds import Abs, Bound, Rel, Std
from ..errors import ArgumentError
from ..plan import Plan
from .candidate import Candidate
from .knob import search_knob
from .problem import Problem

BOUNDS: dict[str, tuple[Callable[[float], Bound], float]] = {"abs": (Abs, 1.0), "rel": (Rel, 0.03), "std": (Std, 0.2)}
"""By name, the bound and where its search begins; Abs in units of the weights' root mean square."""


def search(problem: Problem, *, bound: str = "rel") -> Iterator[Candidate]:
    """Bisect one bound for all weights, the defaults of `szdnn.Plan` keeping the rest lossless.

    bound: "rel", "abs" or "std".
    """
    if bound not in BOUNDS:
        raise ArgumentError(f"uniform: bound must be one of {', '.join(BOUNDS)}, not {bound!r}")
    kind, start = BOUNDS[bound]
    if bound == "abs":
        squares = sum(problem.rates(name).power for name in problem.weights)
        values = sum(problem.tensors[name].size for name in problem.weights)
        start = 0.2 * (squares / values) ** 0.5 if squares else 1e-2
    yield from search_knob(problem, lambda knob: Plan(kind(knob)), start, power=2)
