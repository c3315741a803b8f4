"""Correction of each channel's output mean and variance, by difference (after Nagel et al. 2019, section 4.2, and
Banner et al. 2019, section 4), folded into what the network has anyway.

The compressed network and the original run on the same inputs, and layer after layer, each seeing the
corrections before it, what a batch norm's input has moved by is taken into its running statistics: mean += mean of the
compressed - mean of the original, variance *= their quotient. Layers with a bias get the difference of the means taken
from it. Differences on equal inputs are far less noisy than statistics estimated anew on a few hundred.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..source import Array
from .fisher import batch_norms
from .layers import hooks, matrix_layers
from .problem import Problem
from .worker import Call

EXAMPLES = 128
"""Of one shape, in one batch: all layers are corrected in one pass."""


def one_batch(calls: list[Call]) -> Call:
    """Calls of one shape joined into one, as many examples as there are up to EXAMPLES."""
    kinds: dict[Any, list[Call]] = {}
    for args, kwargs in calls:
        key = tuple((k, tuple(v.shape[1:])) for k, v in _tensors(args, kwargs))
        kinds.setdefault(key, []).append((args, kwargs))
    chosen = max(kinds.values(), key=lambda group: sum(_examples(call) for call in group))
    taken: list[Call] = []
    for call in chosen:
        if taken and sum(map(_examples, taken)) + _examples(call) > EXAMPLES:
            break
        taken.append(call)
    return _joined(taken) if len(taken) > 1 else taken[0]


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Any, Tensor]]:
    pairs = [*enumerate(args), *kwargs.items()]
    return [(key, value) for key, value in pairs if isinstance(value, Tensor) and value.dim() > 0]


def _examples(call: Call) -> int:
    found = _tensors(*call)
    return int(found[0][1].shape[0]) if found else 0


def _joined(calls: list[Call]) -> Call:
    def join(values: list[Any]) -> Any:
        is_batch = isinstance(values[0], Tensor) and values[0].dim() > 0
        return torch.cat(values) if is_batch else values[0]

    args = tuple(join(list(column)) for column in zip(*(a for a, _ in calls), strict=True))
    return args, {key: join([k[key] for _, k in calls]) for key in calls[0][1]}


def _moments(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and variance over all axes but one, float64."""
    rows = x.detach().double().movedim(axis, 0).flatten(1)
    return rows.mean(1), rows.var(1, correction=0)


class Corrector:
    """Corrects compressed versions of one network."""

    def __init__(self, problem: Problem) -> None:
        if not problem.calls:
            raise ArgumentError("correct: needs calibration inputs, or an evaluation that runs the network")
        self._problem = problem
        self._call = one_batch(list(problem.calls))
        self._norms = batch_norms(problem.model)
        self._biased = {n: m for n, m in matrix_layers(problem.model).items() if m.bias is not None}
        if not self._norms and not self._biased:
            raise ArgumentError("correct: the network has neither batch norms nor biases to fold a correction into")
        self._reference = self._moments_of_original()

    def _moments_of_original(self) -> dict[str, tuple[Tensor, Tensor]]:
        found: dict[str, tuple[Tensor, Tensor]] = {}
        model = self._problem.fresh_model()
        modules = dict(model.named_modules())

        def of_input(name: str) -> Any:
            return lambda _, args: found.__setitem__(name, _moments(args[0], 1))

        def of_output(name: str, axis: int) -> Any:
            return lambda _, args, output: found.__setitem__(name, _moments(output, axis))

        handles = [modules[name].register_forward_pre_hook(of_input(name)) for name in self._norms]
        handles += [modules[n].register_forward_hook(of_output(n, _axis(modules[n]))) for n in self._biased]
        self._run(model, handles)
        return found

    def _run(self, model: nn.Module, handles: list[Any]) -> None:
        args, kwargs = self._call
        with hooks(handles), torch.no_grad():
            model(*args, **kwargs)

    def correct(self, decoded: dict[str, Array]) -> dict[str, Array]:
        """The corrected tensors by name, for a network of these tensors."""
        model = self._problem.fresh_model(decoded)
        originals = self._problem.fresh_model()
        modules, exact = dict(model.named_modules()), dict(originals.named_modules())
        touched: list[str] = []

        def norm_hook(name: str) -> Any:
            def hook(module: Any, args: tuple[Tensor, ...]) -> None:
                if name not in self._reference:
                    return
                mean, variance = _moments(args[0], 1)
                mean0, variance0 = self._reference[name]
                ratio = torch.where(variance0 > 0, variance / variance0.clamp_min(1e-30), torch.ones_like(variance))
                module.running_mean.copy_(exact[name].running_mean.double() + mean - mean0)
                module.running_var.copy_(exact[name].running_var.double() * ratio)
                touched.extend((_part(name, "running_mean"), _part(name, "running_var")))

            return hook

        def bias_hook(name: str) -> Any:
            def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                axis = _axis(module)
                moved = (_moments(output, axis)[0] - self._reference[name][0]).to(output.dtype)
                module.bias.sub_(moved)
                touched.append(_part(name, "bias"))
                shape = [1] * output.dim()
                shape[axis] = -1
                return output - moved.view(shape)

            return hook

        handles = [modules[name].register_forward_pre_hook(norm_hook(name)) for name in self._norms]
        handles += [modules[name].register_forward_hook(bias_hook(name)) for name in self._biased]
        self._run(model, handles)
        state = model.state_dict()
        kept = [name for name in touched if name in self._problem.tensors]
        return {n: np.array(state[n].numpy()) for n in kept if bool(torch.isfinite(state[n]).all())}


def _axis(layer: nn.Module) -> int:
    """The axis of a layer's output that holds channels."""
    return -1 if isinstance(layer, nn.Linear) else 1


def _part(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part
