"""A compression layer: a torch parametrization whose output is what the archive will hold, with gradients for all.

Forward, the exact lattice of the codec: float32(q) * step with step = 2 * float32_below(eps), q the nearest integer.
Backward, straight through to the value (Bengio, Leonard, Courville 2013), and to the logarithm of the step along the
rounding error: d(rounded) / d(log step) = rounded - value (learned step size: Esser et al. 2020). For frozen values
that derivative of the task loss is twice the loss that the rounding causes, where that is quadratic.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import Abs
from ..resolve import float32_below

DIGITS = 3
"""Significant decimal digits of a bound: what a plan spends on a number is in every archive."""


class LatticeStep(nn.Module):
    """The step of a lattice, learned as a logarithm. Several tensors may share one.

    eps: the bound at first, half the step.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.log_eps = nn.Parameter(torch.tensor(math.log(eps)))

    @property
    def bound(self) -> Abs:
        """The bound whose frames have this lattice, rounded to DIGITS significant digits."""
        return Abs(float(f"{math.exp(self.log_eps.item()):.{DIGITS - 1}e}"))

    @property
    def step(self) -> float:
        """The step of these frames."""
        eps = self.bound.eps
        assert isinstance(eps, float)
        return 2 * float32_below(eps)


def on_lattice(values: Tensor, step: float) -> Tensor:
    """The nearest lattice points of float32 values."""
    return (values / step).round_().mul_(step)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, log_eps: Tensor, step: float) -> Tensor:
        rounded = on_lattice(values, step)
        ctx.save_for_backward(values, rounded)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        values, rounded = ctx.saved_tensors
        return gradients[0], (gradients[0] * (rounded - values)).sum(), None


class CompressionLayer(nn.Module):
    """Rounds a tensor to its lattice. For `torch.nn.utils.parametrize.register_parametrization`."""

    def __init__(self, step: LatticeStep) -> None:
        super().__init__()
        self.lattice = step

    def forward(self, values: Tensor) -> Tensor:
        """The lattice points of float32 values, of the same shape."""
        rounded: Tensor = _Round.apply(values, self.lattice.log_eps, self.lattice.step)  # type: ignore[no-untyped-call]
        return rounded
