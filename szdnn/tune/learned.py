"""Bounds as parameters: each tensor's bound is learned by gradient descent, the weights stay as they are.

The network runs through compression layers (`layer`), and the loss is distance + multiplier x bytes. The rule is that
of self-adaptive compression layers, R <- R - rate x (d distance / dR + multiplier x d bytes / dR), here in logarithms
of the bounds R, and each divided by the multiplier x |d bytes / dR| of its own tensor, so that one rate fits all. The
distance is that of the outputs from the original's on the calibration inputs, which needs no labels. Its derivative
comes through the compression layer, along the rounding error that is really made; that of the bytes from real frames of
the tensor at steps half an octave apart.

The multiplier is not given: it is the ratio of the sums of both derivatives, so that the rule moves bounds against each
other, and together they are moved until the distance is what the budget's search asks for. Learning starts from the
allocation of `sensitivity`, which small tensors and statistics keep.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from ..bounds import Abs, Bound, Lossless
from ..errors import ArgumentError
from ..plan import Plan
from . import sensitivity
from .allocate import Curve
from .candidate import Candidate
from .distance import main_output
from .knob import search_knob
from .layer import CompressionLayer, LatticeStep
from .problem import Problem
from .sensitivity import SMALL_BYTES, START, Allocation
from .worker import Call, rounded

STARTS = (1, 2)
"""How much coarser than the allocation's bounds learning starts, one after the other."""
STEPS = 64
"""Gradient steps from each start, for each knob that the search tries."""
RATE = 0.1
"""How far, in the logarithm of a bound, a step goes at most; it falls to a tenth while one distance is learned."""
REST = 1 / 16
"""The part of the distance by which tensors that are not learned are allocated: a bit a value of them, which is little,
shall not use up what the others live on."""
LAW = 0.35
"""How far, in the logarithm of a bound, the law of high rates is believed: half an octave."""
SLOPE_MEMORY, DISTANCE_MEMORY = 0.9, 0.7
"""Of the running means of the distance's derivatives and of the distance."""


def _clipped(value: float) -> float:
    return min(max(value, -1.0), 1.0)


def size_slope(curve: Curve, log_step: float) -> tuple[float, float]:
    """A tensor's bytes at a lattice step, and their derivative by the logarithm of the step: from its curve of frames.

    The derivative is the curve's difference over half an octave around the step.
    """
    at, sizes = np.log(curve.steps[::-1]), curve.bytes[::-1]
    half = math.log(2) / 4
    below, here, above = np.interp([log_step - half, log_step, log_step + half], at, sizes)
    return float(here), float((above - below) / (2 * half))


def _eps(bound: Bound) -> float:
    assert isinstance(bound, Abs)
    return float(bound.eps)  # type: ignore[arg-type]


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
        self._pairs = list(zip(problem.calls, problem.evaluator.worker.reference(), strict=True))
        self._batches = itertools.cycle(self._pairs)
        self._slopes: dict[str, float] = {}
        self._distance, self._aim = math.nan, START
        self._last: dict[str, float] = {}
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
        lattice = LatticeStep(_eps(bound))
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

    def bounds(self, distance: float) -> dict[str, Bound]:
        """Learned bounds of a distance, and the allocation's for what is not learned.

        Below about two bits a value the bytes are no longer convex in the distance, and several allocations are
        stationary: the best is kept of what is learned from the last result, the allocation and a coarser one, and of
        the allocation as it is.
        """
        rest = self.allocation.bounds(min(distance, START) * REST)
        self._put_rest(rest)
        if self.lattices:
            allocated = self._allocated(distance)
            found = [self._descend(start, distance) for start in self._starts(distance, allocated)]
            self._last = min([*found, allocated], key=lambda one: self._cost(one, distance))
            self._set(self._last)
        self._aim = distance
        return rest | {name: lattice.bound for name, lattice in self.lattices.items()}

    def _allocated(self, distance: float) -> dict[str, float]:
        """Logarithms of the allocation's bounds, which are measured where gradients do not tell."""
        self.allocation.plan(distance)
        bounds = self.allocation.bounds(distance)
        return {name: math.log(_eps(bounds[name])) for name in self.lattices}

    def _starts(self, distance: float, allocated: dict[str, float]) -> Iterator[dict[str, float]]:
        """Logarithms of bounds to learn from; the last result moved by the law of high rates, eps ~ sqrt(distance)."""
        if self._last:
            moved = math.log(distance / self._aim) / 2
            yield {name: value + moved for name, value in self._last.items()}
        for coarser in STARTS:
            yield {name: value + math.log(coarser) for name, value in allocated.items()}

    def _descend(self, start: dict[str, float], distance: float) -> dict[str, float]:
        """Learn from a start; the mean of the second half."""
        self._slopes, self._distance = {}, math.nan
        self._set(start)
        seen: list[list[float]] = []
        for step in range(self.steps):
            self._step(distance, self.rate * (1 - 0.9 * step / self.steps))
            seen.append([lattice.log_eps.item() for lattice in self.lattices.values()])
        return dict(zip(self.lattices, np.mean(seen[len(seen) // 2 :], axis=0).tolist(), strict=True))

    def _cost(self, log_eps: dict[str, float], distance: float) -> float:
        """The bytes of these bounds, moved to the distance by the law of high rates, distance ~ eps^2, as far as that
        goes; more where they are still too far."""
        self._set(log_eps)
        with torch.no_grad():
            found = float(np.mean([self._loss(call, reference).item() for call, reference in self._pairs]))
        sizes = [size_slope(self.allocation.curves[n], value + math.log(2)) for n, value in log_eps.items()]
        wanted = math.log(distance / max(found, 1e-12)) / 2
        moved = min(max(wanted, -LAW), LAW)
        return sum(size + slope * moved for size, slope in sizes) * math.exp(2 * max(moved - wanted, 0.0))

    def _set(self, log_eps: dict[str, float]) -> None:
        with torch.no_grad():
            for name, value in log_eps.items():
                self.lattices[name].log_eps.fill_(value)

    def _put_rest(self, bounds: dict[str, Bound]) -> None:
        """Round what is not learned as its bound says."""
        state = self.model.state_dict()
        with torch.no_grad():
            for name, bound in bounds.items():
                if name not in self.lattices and name in state:
                    values = rounded(self.problem.tensors[name], bound)
                    state[name].copy_(torch.from_numpy(np.array(values, dtype=np.float32)))

    def _step(self, distance: float, rate: float) -> None:
        """One step of the rule for all bounds."""
        loss = self._loss(*next(self._batches))
        parameters = [lattice.log_eps for lattice in self.lattices.values()]
        gradients = torch.autograd.grad(loss, parameters)
        slopes = {name: float(g) for name, g in zip(self.lattices, gradients, strict=True)}
        is_first = not self._slopes
        keep, hold = (0.0, 0.0) if is_first else (SLOPE_MEMORY, DISTANCE_MEMORY)
        for name, slope in slopes.items():
            self._slopes[name] = keep * self._slopes.get(name, 0.0) + (1 - keep) * slope
        self._distance = (hold * self._distance if hold else 0.0) + (1 - hold) * loss.item()
        by_size = {n: size_slope(self.allocation.curves[n], self._log_step(n))[1] for n in self.lattices}
        self.multiplier = max(sum(self._slopes.values()), 1e-12) / max(-sum(by_size.values()), 1e-9)
        excess = _clipped(math.log(max(self._distance, 1e-12) / distance))
        with torch.no_grad():
            for name, lattice in self.lattices.items():
                cost = self.multiplier * max(-by_size[name], 1e-9)
                lattice.log_eps.sub_(rate * (_clipped(self._slopes[name] / cost - 1) + excess))

    def _log_step(self, name: str) -> float:
        return self.lattices[name].log_eps.item() + math.log(2)

    def plan(self, distance: float) -> Plan:
        """The plan learned for a distance."""
        return Plan(Lossless(), self.bounds(distance))


def search(problem: Problem, *, rate: float = RATE, steps: int = STEPS) -> Iterator[Candidate]:
    """Learn bounds for one distance after the other, on the way to the budget.

    First the plans that `sensitivity` finds for it, which are kept where learning finds none that is smaller.
    """
    if problem.compensate:
        raise ArgumentError("learned: bounds are learned for plain rounding; compensate is not for it")
    yield from sensitivity.search(replace(problem, curve=0))
    learner = Learner(problem, Allocation(problem, per_channel=False), rate, steps)
    yield from search_knob(problem, learner.plan, START, power=1)
