"""What a method of tuning is given: the network, its tensors, the data, the budget, and how to measure a plan.

A method is a module of this package with a function

    def search(problem: Problem, **options) -> Iterator[Candidate]

that yields candidates as it measures them with `problem.measure`: best guesses first, since `szdnn.tune` keeps the best
of those it has seen when it is interrupted. It is entered in `methods.METHODS`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ..bounds import Abs, Bound, Lossless
from ..plan import Plan, array_bound
from ..source import Array, TensorSpec
from .budget import Budget, byte_limit
from .candidate import Candidate
from .distance import Distance
from .evaluator import Evaluator
from .rates import RateCurve
from .worker import Call, Evaluate, Job, Measured, put

PARTS = 3
Transform = Callable[["Problem", Plan], tuple[Plan, dict[str, Array]]]
"""From a method's plan to the plan and the tensors that are really compressed: correction, compensation."""


@dataclass
class Problem:
    """A network to be made small.

    model: the original, in evaluation mode; never changed. `fresh_model` gives copies.
    tensors: its state as arrays by name, tied ones once.
    evaluate: the score of a network on the search split; None where a budget of bytes needs none.
    calls: the calibration inputs; reference outputs are `evaluator.worker.reference()`.
    distance: how far outputs are from the original's.
    train, loss: batches (input, target) of training data and the loss of (output, target), for methods that train.
    curve: how many points between coarse and fine are to be measured beside those the budget needs; 0: none.
    compensate: whether `transform` moves values onto lattice points, so that bounds are as large as lattice steps.
    transform: see `measure`. baseline: the original's score, and of its examples where `evaluate` gives them.
    rng, generator: the method's own random numbers, from `seed`.
    """

    model: nn.Module
    tensors: dict[str, Array]
    evaluate: Evaluate | None
    calls: Sequence[Call]
    distance: Distance | None
    budget: Budget
    evaluator: Evaluator
    train: Iterable[Any] | None = None
    loss: Callable[[Any, Any], torch.Tensor] | None = None
    effort: int = 3
    curve: int = 0
    seed: int = 0
    compensate: bool = False
    transform: Transform | None = None
    baseline: float | None = None
    baseline_examples: tuple[float, ...] | None = None
    say: Callable[[str], object] = lambda _: None
    _rates: dict[str, RateCurve] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)

    @cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """Dtype and shape by name."""
        return {name: TensorSpec(array.dtype, array.shape) for name, array in self.tensors.items()}

    @cached_property
    def floats(self) -> tuple[str, ...]:
        """The tensors that can be lossy: floating point, not empty, not constant."""
        return tuple(
            name
            for name, array in self.tensors.items()
            if array_bound(array.dtype, Abs(1.0)) == Abs(1.0) and array.size and (array != array.flat[0]).any()
        )

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """The weight tensors: parameters of two axes or more that can be lossy, of whatever size."""
        parameters = dict(self.model.named_parameters())
        return tuple(name for name in self.floats if name in parameters and self.tensors[name].ndim >= 2)

    @cached_property
    def values(self) -> int:
        """The values of all tensors."""
        return sum(array.size for array in self.tensors.values())

    @property
    def byte_limit(self) -> float:
        """The bytes that the budget allows; infinite where it bounds the score."""
        return byte_limit(self.budget, self.values)

    def fresh_model(self, changed: Mapping[str, Array] | None = None) -> nn.Module:
        """A private copy of the network, in evaluation mode, with some tensors replaced."""
        model = copy.deepcopy(self.model).eval()
        put(model, changed or {})
        return model

    def rates(self, name: str) -> RateCurve:
        """The bytes and errors of a tensor against its lattice step, from real frames."""
        if name not in self._rates:
            self._rates[name] = RateCurve(self.tensors[name])
        return self._rates[name]

    def measure(
        self, plan: Plan, changed: Mapping[str, Array] | None = None, *, knob: float = 0.0, what: str = "joint check"
    ) -> Candidate:
        """Make the archive of a plan, decode it, and run the network with that: score, divergence, bytes.

        changed: the tensors to be compressed in place of the original's; None: as correction and compensation make
        them of the plan, where those were asked for.
        """
        if changed is None:
            plan, changed = self.transform(self, plan) if self.transform else (plan, {})
        found = self.evaluator.run(Job(plan, changed), what)
        assert found.bytes is not None
        return Candidate(plan, changed, knob, found.bytes, found.score, found.divergence, found.examples)

    def measure_parts(
        self, parts: Sequence[tuple[Plan, Mapping[str, Array]]], *, score: bool, what: str
    ) -> list[Measured]:
        """Measure plans without making archives, on the executor at once: assessments of single tensors.

        parts: plans, each with the tensors it changes. score: whether to run `evaluate`, or else take the divergence
        of a third of the calibration calls.
        """
        some = max(1, len(self.calls) // PARTS)
        jobs = [Job(plan, changed, False, score, not score, some) for plan, changed in parts]
        return list(self.evaluator.run_all(jobs, what))


def lossless_but(bounds: Mapping[str, Bound]) -> Plan:
    """A plan of bounds by exact name, everything else lossless."""
    return Plan(Lossless(), dict(bounds))
