"""Batch norm in evaluation mode is an affine map: its statistics folded into its weight and bias.

Then the statistics are 0 and 1 in every network and cost an archive nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """The batch-norm layers that have statistics, and a weight and bias in float32, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm)
        and module.running_mean is not None
        and module.weight is not None
        and module.weight.dtype == torch.float32
    }


@torch.no_grad()
def folded(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """The weight and bias with which the layer, in evaluation mode and with a mean of 0 and a variance of 1, computes
    what it does with its own, to rounding."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - scale * norm.running_mean.double()
    return (scale * (1 + norm.eps) ** 0.5).float(), bias.float()


@torch.no_grad()
def measure_statistics(
    model: nn.Module, norms: Mapping[str, BatchNorm], batches: Iterable[Any], forward: Callable[[Any], Any]
) -> None:
    """Set the layers' statistics to the means over batches that go `forward` through the model, which is otherwise in
    evaluation mode; then all is in training mode."""
    momenta = {name: norm.momentum for name, norm in norms.items()}
    model.eval()
    for norm in norms.values():
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    for inputs in batches:
        forward(inputs)
    for name, norm in norms.items():
        norm.momentum = momenta[name]
    model.train()
