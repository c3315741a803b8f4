"""Batch norm in evaluation mode is an affine map: its statistics folded into its weight and bias.

Then the statistics are 0 and 1 in every network and cost an archive nothing.
"""

from __future__ import annotations

import torch
from torch import nn


def batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers that have statistics, by name."""
    kind = nn.modules.batchnorm._BatchNorm
    return {n: m for n, m in model.named_modules() if isinstance(m, kind) and m.running_mean is not None}


@torch.no_grad()
def fold_statistics(model: nn.Module) -> list[str]:
    """Set the mean to 0 and the variance to 1 in place, and weight and bias so that in evaluation mode the network
    computes the same, to rounding.

    Returns the names of the layers that this was done to: those with weight and bias of their own.
    """
    folded = []
    for name, norm in batch_norms(model).items():
        mean, variance = norm.running_mean, norm.running_var
        if norm.weight is None or norm.bias is None or mean is None or variance is None:
            continue
        ratio = ((1 + norm.eps) / (variance.double() + norm.eps)).sqrt()
        norm.bias.copy_(norm.bias.double() - norm.weight * mean.double() * ratio / (1 + norm.eps) ** 0.5)
        norm.weight.copy_(norm.weight.double() * ratio)
        mean.zero_()
        variance.fill_(1)
        folded.append(name)
    return folded
