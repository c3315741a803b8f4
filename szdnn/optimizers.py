"""The optimizers that recipes name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .errors import ArgumentError


def make_optimizer(
    parameters: Iterable[nn.Parameter], name: str, rate: float, decay: float, *, fused: bool | None = None
) -> torch.optim.Optimizer:
    """For parameters of any shapes.

    name: "sgd" (Nesterov momentum 0.9) or "adam". decay: L2, on those of two dimensions or more alone. fused: torch's
    fused steps, which round otherwise; None: as torch does by default. Raises ArgumentError for another name.
    """
    every = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in every if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]
    if name == "adam":
        return torch.optim.Adam(groups, lr=rate, fused=fused)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=fused)
    raise ArgumentError(f'the optimizer is "adam" or "sgd", not {name!r}')
