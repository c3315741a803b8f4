"""Weights, bounds and the distributions they are coded by, trained together for a budget of bytes.

The network runs on lattice points (`layer`); the weights behind them get the gradient straight through, and the
derivative of price x archive bytes (`size_model`). That derivative draws a weight to the cheaper of its neighbours, so
pruning falls out of it: what the task does not hold goes to zero. The price is not given but found: it rises while the
archive is larger than a path from its first size to the budget, and falls while it is smaller.

Batch-norm layers normalise by the statistics of each batch, as networks are trained: without that, what rounding does
to one layer's scale is what the next one has to learn. The archive holds them folded into weight and bias
(`statistics`), on a fine lattice of their own.

The trained weights are lattice points exactly, so an archive of them has no error at all, and its bounds refer to them,
not to the original's. The archive's plan says so (`Plan.provenance`).
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import api
from ..bounds import Lossless
from ..errors import ArgumentError
from ..optimizers import make_optimizer
from ..plan import Plan, Rule
from ..source import Array
from .budget import MaxDrop
from .candidate import Candidate
from .layer import CompressionLayer, LatticeStep, on_lattice
from .problem import Problem
from .size_model import EFFORT, SizeModel, frames_of
from .statistics import batch_norms, folded, measure_statistics

Loss = Callable[[Any, Any], Tensor]
Batches = Any
"""Batches (input, target) that can be gone through again and again, with a length."""


STATISTICS_BATCHES = 24
"""From how many of the last batches the running means' batch-norm statistics come."""
MEANS_SMALLER = 1.15
"""By how much at most the archive of running means is taken to be smaller than that of the last step's weights."""


WHICH = ("weight", "bias")


@dataclass(frozen=True)
class Recipe:
    """How to train for size.

    epochs: passes over the batches; may be a fraction. rate: the learning rate of weights, at its highest.
    optimizer: of weights, "adam" or "sgd" (Nesterov momentum 0.9), which networks with batch norm that were trained by
    it generalise better with. decay: L2, on weights of two dimensions or more alone. step_rate: Adam's learning rate
    of the logarithms of lattice steps. hold: the last part of training, in which the size stays at the budget. coarse:
    lattice steps at first, in standard deviations of their tensor. every: training steps between measurements of the
    code length. low_precision: run the network with channels last, and in bfloat16 where the processor is no slower at
    that than in float32 (`has_bfloat16`); weights, gradients of the size and what is scored stay float32. average: the
    part of training that the running means of weights and bounds reach back, of which archives are made; 0: they are
    made of the last step's. floor: the last learning rate, as a part of the highest.
    """

    epochs: float = 20.0
    rate: float = 1e-3
    step_rate: float = 3e-3
    hold: float = 0.6
    coarse: float = 0.5
    every: int = 8
    low_precision: bool = False
    average: float = 0.1
    floor: float = 0.02
    optimizer: str = "adam"
    decay: float = 0.0


@dataclass(frozen=True)
class Pass:
    """Where training stands after a pass: the mean task loss in it, estimated bytes, what a byte costs in loss.

    bytes: of the archive of the running means. estimate: these times what the estimate for the last step's weights is
    off by.
    """

    done: float
    loss: float
    estimate: float
    bytes: int
    price: float


class Price:
    """What a byte costs in units of the task loss, steered so that the size follows a path.

    size: the first. raw: the uncompressed bytes; the first price is 10 / raw. updates: how often it will be steered.
    """

    def __init__(self, size: float, target: float, raw: float, hold: float, updates: int) -> None:
        self.size, self.target, self.hold = size, min(target, size), hold
        self._log, self._first = math.log(10 / raw), math.log(10 / raw)
        self.now, self.gain = 10 / raw, 40 / max(updates, 1)

    def path(self, done: float) -> float:
        """The size at which training is to be after a part of it, 0 to 1: evenly in its logarithm, then constant."""
        part = min(done / max(1 - self.hold, 1e-9), 1.0)
        return float(self.size * (self.target / self.size) ** part)

    def update(self, size: float, done: float) -> None:
        """Steer by the present size: proportionally and by its sum over time."""
        error = min(max(math.log(size / self.path(done)), -0.5), 0.5)
        self._log = min(max(self._log + self.gain * error, self._first - 7), self._first + 7)
        self.now = math.exp(self._log + 3 * error)


class RunningMeans:
    """Exponential running means of parameters: what an archive is made of (Polyak and Juditsky 1992).

    Weights near the middle between two lattice points go to and fro between them while they are trained straight
    through; the mean lies where they are most of the time.

    steps: how far they reach back, less at first; up to 1: the parameters themselves.
    """

    def __init__(self, parameters: list[nn.Parameter], steps: float) -> None:
        self._parameters, self._steps, self._updates = parameters, steps, 0
        self._means = [p.detach().clone() for p in parameters] if steps > 1 else []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present values."""
        self._updates += 1
        if self._means:
            torch._foreach_lerp_(self._means, list(self._parameters), 1 / min(self._steps, self._updates))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the parameters and their means; once more: back."""
        for parameter, mean in zip(self._parameters, self._means or self._parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(kept)


class Training:
    """A private copy of a network while it is trained for size.

    model: stays as it is.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = copy.deepcopy(model).train()
        self.norms = batch_norms(self.model)
        self._kept = {n: v.clone() for n, v in self.model.state_dict().items() if n.endswith("num_batches_tracked")}
        self._recent: deque[Any] = deque(maxlen=STATISTICS_BATCHES if self.norms else 0)
        if recipe.low_precision:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weights: dict[str, nn.Parameter] = {}
        self.lattices: dict[str, LatticeStep] = {}
        self._attach()
        sized = {name: weight for name, weight in self.weights.items() if self.lattices[name] is not self._fixed}
        self.size = SizeModel(frames_of(sized, self.lattices))
        self.raw = sum(array.nbytes for array in self.state().values())

    def _attach(self) -> None:
        """Give every float32 parameter a compression layer: a lattice of its own, vectors one together; with batch
        norms, whose folded vectors nothing rounds while they are trained, that one is fixed."""
        named = {n: p for n, p in self.model.named_parameters() if p.dtype == torch.float32 and p.numel()}
        if not named:
            raise ArgumentError("the network has no float32 parameters to train")
        in_norms = {
            f"{n}.{which}": v for n, norm in self.norms.items() for which, v in zip(WHICH, folded(norm), strict=True)
        }
        vectors = [in_norms.get(n, p.detach()).reshape(-1) for n, p in named.items() if p.ndim < 2]
        shared = LatticeStep(_eps(torch.cat(vectors), self.recipe.coarse / 8)) if vectors else None
        self._fixed = shared if in_norms else None
        self.lattices = {name: shared for name in in_norms if shared}
        for name, parameter in named.items():
            if name in in_norms:
                continue
            module_name, _, attribute = name.rpartition(".")
            module = self.model.get_submodule(module_name)
            alone = parameter.ndim >= 2 or shared is None
            lattice = LatticeStep(_eps(parameter.detach(), self.recipe.coarse)) if alone else shared
            assert lattice is not None
            parametrize.register_parametrization(module, attribute, CompressionLayer(lattice), unsafe=True)
            self.weights[name] = module.parametrizations[attribute].original  # type: ignore[index, union-attr]
            self.lattices[name] = lattice

    @torch.no_grad()
    def state(self) -> dict[str, Array]:
        """The network's tensors as the archive will hold them, in the original's order."""
        state: dict[str, Array] = {}
        for name, value in self.model.state_dict().items():
            plain, _, rest = name.partition("parametrizations.")
            attribute, _, inner = rest.partition(".")
            if not rest:
                state[name] = np.array(value.numpy(), order="C")
            elif inner == "original":
                module = self.model.get_submodule(plain.rstrip("."))
                state[plain + attribute] = np.array(getattr(module, attribute).numpy(), order="C")
        for name, norm in self.norms.items():
            assert self._fixed is not None
            for which, vector in zip(WHICH, folded(norm), strict=True):
                state[f"{name}.{which}"] = on_lattice(vector, self._fixed.step).numpy()
            state[f"{name}.running_mean"] = np.zeros_like(state[f"{name}.running_mean"])
            state[f"{name}.running_var"] = np.ones_like(state[f"{name}.running_var"])
        return state | {name: value.numpy() for name, value in self._kept.items()}

    def plan(self) -> Plan:
        """The bounds of the lattices; all else is lossless."""
        provenance = {"method": "train", "not_the_original": {"*": "trained"}}
        lattices = list(self.lattices.values())
        own = [Rule(n, lattice.bound) for n, lattice in self.lattices.items() if lattices.count(lattice) == 1]
        shared = {n: lattice.bound for n, lattice in self.lattices.items() if lattices.count(lattice) > 1}
        patterns = {"*" + n[n.rfind(".") :]: bound for n, bound in shared.items()}
        short = Plan(Lossless(), [*own, *(Rule(p, b, override=True) for p, b in patterns.items())], provenance)
        exact = Plan(Lossless(), {n: lattice.bound for n, lattice in self.lattices.items()}, provenance)
        specs = {name: (array.dtype, array.shape) for name, array in self.state().items()}
        same = all(short.bound(name, *spec) == exact.bound(name, *spec) for name, spec in specs.items())
        return short if same else exact

    def run(self, batches: Batches, loss: Loss, target: float) -> Iterator[Pass]:
        """Train until the archive has `target` bytes, pass by pass."""
        recipe, self.size.overhead = self.recipe, 0.0
        per_pass = _length(batches)
        steps = max(1, round(recipe.epochs * per_pass))
        self.size.fit(30)
        price = Price(
            self.size.calibrate(self.state(), self.plan()), target, self.raw, recipe.hold, steps // recipe.every
        )
        weights = [*self.weights.values(), *(p for norm in self.norms.values() for p in norm.parameters())]
        learned = list(dict.fromkeys(x.log_eps for x in self.lattices.values() if x is not self._fixed))
        optimizers = [
            make_optimizer(weights, recipe.optimizer, recipe.rate, recipe.decay, fused=True),
            torch.optim.Adam(learned, recipe.step_rate, fused=True),
        ]
        means = RunningMeans([*weights, *learned], recipe.average * steps)
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(one, lambda step: _rate(step, steps, recipe.floor)) for one in optimizers
        ]
        step, losses = 0, 0.0
        while step < steps:
            for inputs, targets in batches:
                for one in optimizers:
                    one.zero_grad()
                task = self._task_loss(inputs, targets, loss)
                task.backward()  # type: ignore[no-untyped-call]
                losses += task.item()
                if step % recipe.every == 0:
                    self.size.refresh(learn=step % (2 * recipe.every) == 0)
                    if self.size.has_drifted:
                        self.size.calibrate(self.state(), self.plan())
                    price.update(self.size.bytes, step / steps)
                self.size.add_gradients(price.now)
                for one, schedule in zip(optimizers, schedules, strict=True):
                    one.step()
                    schedule.step()
                means.update()
                step += 1
                if step % per_pass == 0 or step == steps:
                    self.size.refresh(learn=False)
                    estimate = self.size.bytes
                    real = self.size.calibrate(self.state(), self.plan())
                    means.swap()
                    self._measure_statistics()
                    made = len(api.dumps(self.state(), self.plan(), effort=EFFORT, verify=False))
                    off = estimate / real
                    if step >= (1 - recipe.hold) * steps:
                        # The means' archive is the smaller one, and it is that which has a budget.
                        aim = price.target * math.sqrt(target / made)
                        price.target = min(max(aim, target), MEANS_SMALLER * target)
                    yield Pass(step / steps, losses / (((step - 1) % per_pass) + 1), off * made, made, price.now)
                    losses = 0.0
                    if step < steps:
                        means.swap()
                if step == steps:
                    return

    def _task_loss(self, inputs: Any, targets: Any, loss: Loss) -> Tensor:
        self._recent.append(inputs)
        outputs = self._outputs(inputs)
        return loss(outputs.float() if isinstance(outputs, Tensor) else outputs, targets)

    def _outputs(self, inputs: Any) -> Any:
        if self.recipe.low_precision and isinstance(inputs, Tensor) and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.low_precision and has_bfloat16()):
            return self.model(inputs)

    def _measure_statistics(self) -> None:
        """Batch-norm statistics of the weights that are in place now."""
        if self._recent:
            measure_statistics(self.model, self.norms, self._recent, self._outputs)


def has_bfloat16() -> bool:
    """Whether this processor computes bfloat16 by instructions made for 512 bits. Without them torch takes ten times as
    long for a convolution as in float32."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def _eps(values: Tensor, coarse: float) -> float:
    """Half a step of so many standard deviations; of constant values, as if that were their magnitude or 1e-3."""
    spread = float(values.std(correction=0)) or float(values.abs().max()) or 1e-3
    return coarse * spread / 2


def _rate(step: int, steps: int, floor: float) -> float:
    """The learning rate's factor: a short warm-up, then a cosine to a part of it."""
    warm = min(1.0, (step + 1) / min(100, max(1, steps // 10)))
    return warm * (floor + (1 - floor) * (1 + math.cos(math.pi * step / steps)) / 2)


def _length(batches: Batches) -> int:
    try:
        return max(1, len(batches))
    except TypeError:
        raise ArgumentError(
            "train must have a length and be iterable again and again, such as a list of batches or a DataLoader; "
            f"not a {type(batches).__name__}"
        ) from None


def search(problem: Problem, *, recipe: Recipe | None = None) -> Iterator[Candidate]:
    """Train for the budget; the network after each pass that keeps to it.

    With MaxDrop, in stages of a quarter fewer bytes each, as long as the score holds.
    """
    if problem.train is None or problem.loss is None:
        raise ArgumentError("the method train needs train= (batches of input and target) and loss=")
    recipe = recipe or Recipe()
    torch.manual_seed(problem.seed)
    training = Training(problem.model, recipe)
    if not isinstance(problem.budget, MaxDrop):
        for _, candidate in _stage(problem, training, 0.98 * problem.byte_limit):
            if candidate.bytes <= problem.byte_limit:
                yield candidate
        return
    first = problem.measure(Plan(Lossless()), what="original")
    yield first
    target = training.raw / 8.0
    while True:
        last: Candidate | None = None
        for _, candidate in _stage(problem, training, target):
            last = candidate
            yield candidate
        if last is None or last.score is None or first.score is None or last.score < first.score - problem.budget.d:
            return
        target *= 0.75


def _stage(problem: Problem, training: Training, target: float) -> Iterator[tuple[Pass, Candidate]]:
    assert problem.loss is not None
    for found in training.run(problem.train, problem.loss, target):
        what = f"trained {100 * found.done:.0f}%, {found.bytes} bytes"
        yield found, problem.measure(training.plan(), _changed(training.state(), problem.tensors), what=what)


def _changed(state: Mapping[str, Array], tensors: Mapping[str, Array]) -> dict[str, Array]:
    """What training changed, of the tensors that the problem knows."""
    return {name: array for name, array in state.items() if name in tensors}
