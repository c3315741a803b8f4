"""Bounds as parameters: each tensor's bound is learned by gradient descent, the weights stay as they are.

The network runs through compression layers (`layer`), and the loss is distance + multiplier x bytes. The rule is that
of self-adaptive compression layers, R <- R - rate x (d distance / dR + multiplier x d bytes / dR), here in logarithms
of the bounds R, and each divided by the multiplier x |d bytes / dR| of its own tensor, so that one rate fits all. The
distance is that of the outputs from the original's on the calibration inputs, which needs no labels. Its derivative
comes through the compression layer, along the rounding error that is really made; that of the bytes from real frames of
the tensor at steps half an octave apart.

The multiplier is not given but steered, so that the distance comes to what the budget's search asks for. Learning
starts from the allocation of `sensitivity`, whose bounds small tensors and statistics keep.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from ..bounds import Abs, Bound, Lossless
from ..errors import ArgumentError
from ..plan import Plan
from .allocate import Curve
from .candidate import Candidate
from .distance import main_output
from .knob import search_knob
from .layer import CompressionLayer, LatticeStep
from .problem import Problem
from .sensitivity import SMALL_BYTES, START, Allocation
from .worker import Call, rounded

STEPS = 48
"""Gradient steps for each knob that the search tries."""
RATE = 0.1
"""How far, in the logarithm of a bound, a step goes at most."""
MEMORY = 0.9
"""Of the running means of distances and their derivatives."""


def size_slope(curve: Curve, log_step: float) -> tuple[float, float]:
    """A tensor's bytes at a lattice step, and their derivative by the logarithm of the step: from its curve of frames.

    The derivative is the curve's difference over half an octave around the step.
    """
    at, sizes = np.log(curve.steps[::-1]), curve.bytes[::-1]
    half = math.log(2) / 4
    below, here, above = np.interp([log_step - half, log_step, log_step + half], at, sizes)
    return float(here), float((above - below) / (2 * half))


class Learner:
    """Learns bounds of the larger tensors by gradient descent, going on from knob to knob.

    rate, steps: see RATE and STEPS.
    """

    def __init__(self, problem: Problem, allocation: Allocation, rate: float, steps: int) -> None:
        self.problem, self.allocation, self.rate, self.steps = problem, allocation, rate, steps
        self.model = problem.fresh_model()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.lattices: dict[str, LatticeStep] = {}
        bounds = allocation.bounds(START)
        for name in self._names(bounds):
            self._attach(name, bounds[name])
        self._batches = itertools.cycle(list(zip(problem.calls, problem.evaluator.worker.reference(), strict=True)))
        self._slopes: dict[str, float] = {}
        self._distance, self._aim = math.nan, START
        self.multiplier = math.nan

    def _names(self, bounds: dict[str, Bound]) -> list[str]:
        """The tensors whose bounds are learned: float32 parameters that have frames of their own."""
        parameters = dict(self.model.named_parameters())
        return [
            n
            for n, bound in bounds.items()
            if n in parameters and parameters[n].dtype == torch.float32 and isinstance(bound, Abs)
            and self.problem.tensors[n].nbytes >= SMALL_BYTES
        ]  # fmt: skip

    def _attach(self, name: str, bound: Bound) -> None:
        assert isinstance(bound, Abs)
        lattice = LatticeStep(float(bound.eps))  # type: ignore[arg-type]
        parameter = self.model.get_parameter(name)
        for path, module in list(self.model.named_modules(remove_duplicate=False)):
            for attribute, other in list(module._parameters.items()):  # tied ones too
                if other is parameter and "parametrizations" not in path:
                    parametrize.register_parametrization(module, attribute, CompressionLayer(lattice), unsafe=True)
        self.lattices[name] = lattice

    def _loss(self, call: Call, reference: Tensor) -> Tensor:
        args, kwargs = call
        assert self.problem.distance is not None
        return self.problem.distance(reference, main_output(self.model(*args, **kwargs))).mean()

    def learn(self, distance: float) -> dict[str, Bound]:
        """Learn bounds whose distance is the one given, and return all tensors' bounds.

        Learning goes on where it stood for the last distance, moved by what the law of high rates says: a bound is
        proportional to the square root of the distance. The result is the mean over the second half of the steps.
        """
        moved = math.log(distance / self._aim)
        self.multiplier *= math.exp(moved)
        self._distance *= math.exp(moved)
        self._slopes = {name: slope * math.exp(moved) for name, slope in self._slopes.items()}
        self._aim = distance
        with torch.no_grad():
            for lattice in self.lattices.values():
                lattice.log_eps.add_(moved / 2)
        base = self.allocation.bounds(min(distance, START) / 4)  # cheap tensors shall not spoil what the others learn
        self._put_rest(base)
        seen: list[list[float]] = []
        is_first = not self._slopes
        for _ in range(self.steps * (1 + is_first) if self.lattices else 0):  # the first time the way is longest
            self._step(distance)
            seen.append([lattice.log_eps.item() for lattice in self.lattices.values()])
        means = np.mean(seen[len(seen) // 2 :], axis=0) if seen else []
        for (name, lattice), mean in zip(self.lattices.items(), means, strict=True):
            with torch.no_grad():
                lattice.log_eps.fill_(float(mean))
            base[name] = lattice.bound
        return base

    def _put_rest(self, bounds: dict[str, Bound]) -> None:
        """Round what is not learned as its bound says."""
        state = self.model.state_dict()
        with torch.no_grad():
            for name, bound in bounds.items():
                if name not in self.lattices and name in state:
                    values = rounded(self.problem.tensors[name], bound)
                    state[name].copy_(torch.from_numpy(np.array(values, dtype=np.float32)))

    def _step(self, distance: float) -> None:
        """One step of the rule for all bounds."""
        loss = self._loss(*next(self._batches))
        parameters = [lattice.log_eps for lattice in self.lattices.values()]
        gradients = torch.autograd.grad(loss, parameters)
        slopes = {name: float(g) for name, g in zip(self.lattices, gradients, strict=True)}
        is_first = not self._slopes
        keep = 0.0 if is_first else MEMORY
        for name, slope in slopes.items():
            self._slopes[name] = keep * self._slopes.get(name, 0.0) + (1 - keep) * slope
        self._distance = loss.item() if is_first else MEMORY * self._distance + (1 - MEMORY) * loss.item()
        by_size = {n: size_slope(self.allocation.curves[n], self._log_step(n))[1] for n in self.lattices}
        if is_first:
            self.multiplier = max(sum(self._slopes.values()), 1e-12) / max(-sum(by_size.values()), 1e-12)
        excess = math.log(max(self._distance, 1e-12) / distance)
        self.multiplier *= math.exp(-0.1 * min(max(excess, -1.0), 1.0))
        with torch.no_grad():
            for name, lattice in self.lattices.items():
                cost = self.multiplier * max(-by_size[name], 1e-9)
                lattice.log_eps.sub_(self.rate * min(max(self._slopes[name] / cost - 1, -1.0), 1.0))

    def _log_step(self, name: str) -> float:
        return self.lattices[name].log_eps.item() + math.log(2)

    def plan(self, distance: float) -> Plan:
        """The plan learned for a distance."""
        return Plan(Lossless(), self.learn(distance))


def search(problem: Problem, *, rate: float = RATE, steps: int = STEPS) -> Iterator[Candidate]:
    """Learn bounds for one distance after the other, on the way to the budget."""
    if problem.compensate:
        raise ArgumentError("learned: bounds are learned for plain rounding; compensate is not for it")
    learner = Learner(problem, Allocation(problem), rate, steps)
    yield from search_knob(problem, learner.plan, START, power=1)
