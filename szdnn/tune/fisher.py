"""How much each value matters: the diagonal of the Gauss-Newton matrix of the outputs' distance, without labels.

For each batch one random output gradient is drawn (`Distance.cotangents`) and taken back through the network. Its parts
for the single examples are independent with mean zero, so that the square of their sum has the sum of their squares as
its expectation: one backward pass a batch serves all its examples. For the Kullback-Leibler divergence this is the
Fisher information with labels sampled from the model (with true labels it would be what Kunstner et al. 2019 call the
empirical one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .distance import Distance, main_output
from .worker import Call

Sensitivities = dict[str, NDArray[np.float32]]
"""By tensor name, an array of its shape: half of it times a squared change is that change's part in the distance."""


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """The batch norms that use running statistics, by name."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return {n: m for n, m in model.named_modules() if isinstance(m, kinds) and m.running_mean is not None}


def sensitivities(
    model: nn.Module, calls: Sequence[Call], distance: Distance, generator: torch.Generator, draws: int = 1
) -> Sensitivities:
    """Sensitivities of all parameters and of batch norms' running statistics, a mean over the examples.

    model: in evaluation mode; its gradients are used and cleared. calls: batches. draws: backward passes a batch.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    was = {n: p.requires_grad for n, p in parameters.items()}
    sums = {n: torch.zeros_like(p) for n, p in parameters.items()}
    statistics: dict[str, Tensor] = {}
    examples = 0
    try:
        for p in parameters.values():
            p.requires_grad_(True)
        for args, kwargs in calls:
            output = main_output(model(*args, **kwargs))
            examples += output[..., 0].numel()
            for draw in range(draws):
                model.zero_grad(set_to_none=True)
                cotangent = distance.cotangents(output, generator)
                output.backward(cotangent, retain_graph=draw + 1 < draws)  # type: ignore[no-untyped-call]
                for name, p in parameters.items():
                    if p.grad is not None:
                        sums[name] += p.grad.square()
                _add_statistics(model, statistics)
    finally:
        model.zero_grad(set_to_none=True)
        for name, p in parameters.items():
            p.requires_grad_(was[name])
    scale = 1 / max(1, examples * draws)
    return {name: (total * scale).float().numpy() for name, total in {**sums, **statistics}.items()}


def _add_statistics(model: nn.Module, sums: dict[str, Tensor]) -> None:
    """The running mean's and variance's gradients follow from those of bias and weight: of y = w (x - m) / s + b with
    s^2 = v + e they are -w/s db and -w/(2 s^2) dw."""
    for name, module in batch_norms(model).items():
        norm: Any = module
        weight, bias = norm.weight, norm.bias
        if weight is None or bias is None or weight.grad is None or bias.grad is None:
            continue
        variance = norm.running_var + norm.eps
        of_mean = weight.detach() / variance.sqrt() * bias.grad
        of_variance = weight.detach() / (2 * variance) * weight.grad
        for part, gradient in (("running_mean", of_mean), ("running_var", of_variance)):
            key = f"{name}.{part}" if name else part
            sums[key] = sums.get(key, torch.zeros_like(gradient)) + gradient.square()
