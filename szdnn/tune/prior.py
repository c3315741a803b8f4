"""What lattice integers cost, differentiably: a learned probability for each integer of a tensor.

The prior of an integer q is the mass of its cell [q - 1/2, q + 1/2] under a mixture of Laplacians around zero, whose
scales are multiplied by a factor for the row and one for the column. The factors stand for what an adaptive coder finds
out by itself (the mixing coder of effort 9 follows the scale of rows and columns), so they are trained and never
stored.

With a Laplacian of inverse scale b and a = |u|, the mass of the cell around u is, in both cases from the two
exponentials e = exp(-b |a - 1/2|) and f = exp(-b min(2 a, 1)):

    a >= 1/2:  e (1 - f) / 2        a < 1/2:  1 - e (1 + f) / 2        derivative by a:  -b e (1 - f) / 2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

COMPONENTS = 3
_FLOOR = 1e-7
"""The least probability of a cell: an integer costs at most about 23 bits."""
_CHUNK = 1 << 14
"""Values that are worked on at a time, so that temporaries stay in cache."""
_FIRST_SCALES = (0.15, 0.6, 2.0)
"""Scales of the components at first, in lattice steps."""


@dataclass(frozen=True)
class CodeLength:
    """The code length of a tensor's lattice integers and its gradients, all in bits.

    bits: the sum over all values at the nearest integers.
    by_value: the derivative by each value in lattice steps, where it stands (not at the nearest integer), so that what
        is between two integers is drawn to the cheaper one; the tensor's shape.
    """

    bits: float
    by_value: Tensor


class Prior(nn.Module):
    """The probabilities of a tensor's lattice integers.

    shape: the tensor's; the first axis counts rows, the others together columns. A tensor of one axis is one row.
    contexts: whether rows and columns have factors of their own.
    """

    def __init__(self, shape: Sequence[int], *, contexts: bool = True, components: int = COMPONENTS) -> None:
        super().__init__()
        self.rows = shape[0] if len(shape) > 1 else 1
        self.columns = math.prod(shape) // max(self.rows, 1)
        scales = torch.tensor([_FIRST_SCALES[min(k, 2)] * 2.0 ** max(0, k - 2) for k in range(components)])
        self.log_inverse = nn.Parameter(-scales.log())
        self.logits = nn.Parameter(torch.zeros(components))
        has_factors = contexts and self.rows > 1
        self.by_row = nn.Parameter(torch.zeros(self.rows, 1)) if has_factors else None
        self.by_column = nn.Parameter(torch.zeros(1, self.columns)) if has_factors else None

    @torch.no_grad()
    def measure(self, values: Tensor, *, learn: bool = True) -> CodeLength:
        """The code length of values given in lattice steps.

        values: of the prior's shape; where that has one axis, of any length.
        learn: also add the derivatives by the prior's own parameters, at the nearest integers, to their `.grad`.
        """
        u = values.detach().reshape(self.rows, -1)
        weights, inverse = self.logits.softmax(0), self.log_inverse.exp()
        slope, bits = torch.empty_like(u), 0.0
        sums = _Sums(len(weights), u)
        high = max(1, _CHUNK // max(u.shape[1], 1))
        for first in range(0, self.rows, high):
            part = slice(first, first + high)
            inverses = self._inverse_scales(part, inverse)
            slope[part] = _slope(u[part], inverses, weights)
            bits += _cost(u[part].round().abs_(), inverses, weights, sums if learn else None, part)
        if learn:
            self._learn(sums, weights)
        return CodeLength(bits, slope.view(values.shape))

    def _inverse_scales(self, rows: slice, inverse: Tensor) -> list[Tensor]:
        """Of each component, for every value of some rows."""
        if self.by_row is None or self.by_column is None:
            return list(inverse)
        factors = (-self.by_row[rows]).exp() * (-self.by_column).exp()
        return [factors * rate for rate in inverse]

    def _learn(self, sums: _Sums, weights: Tensor) -> None:
        _add(self.logits, weights * (sums.by_weight - (weights * sums.by_weight).sum()))
        _add(self.log_inverse, sums.by_log_inverse)
        if self.by_row is not None and self.by_column is not None:
            _add(self.by_row, -sums.by_row)
            _add(self.by_column, -sums.by_column)


class _Sums:
    """Derivatives of the bits by the prior's parameters, summed over chunks."""

    def __init__(self, components: int, u: Tensor) -> None:
        self.by_weight, self.by_log_inverse = u.new_zeros(components), u.new_zeros(components)
        self.by_row, self.by_column = u.new_zeros(u.shape[0], 1), u.new_zeros(1, u.shape[1])


def _slope(u: Tensor, inverses: list[Tensor], weights: Tensor) -> Tensor:
    """The derivative of the bits by each value, where it stands."""
    magnitude = u.abs()
    mass, slope = torch.full_like(u, _FLOOR), torch.zeros_like(u)
    for weight, b in zip(weights.tolist(), inverses, strict=True):
        e, f = _exponentials(magnitude, b)
        mass.add_(_mass(magnitude, e, f), alpha=weight)
        slope.addcmul_(f.neg_().add_(1).mul_(e), b, value=0.5 * weight)
    return slope.div_(mass).mul_(u.sign()).mul_(1 / math.log(2))


def _cost(q: Tensor, inverses: list[Tensor], weights: Tensor, sums: _Sums | None, rows: slice) -> float:
    """The bits of integers' magnitudes; into `sums`, their derivatives by the prior's parameters."""
    masses, by_log_inverse = [], []
    for b in inverses:
        e, f = _exponentials(q, b)
        masses.append(_mass(q, e, f))
        if sums is not None:
            by_log_inverse.append((0.5 - q).mul_(1 - f).add_(f).mul_(e).mul_(b).mul_(0.5))  # q = 0 has f = 1
    mass = torch.full_like(q, _FLOOR)
    for weight, part in zip(weights.tolist(), masses, strict=True):
        mass.add_(part, alpha=weight)
    if sums is not None:
        unit = (-1 / math.log(2)) / mass
        total = torch.zeros_like(q)
        for k, weight in enumerate(weights.tolist()):
            sums.by_weight[k] += (masses[k] * unit).sum()
            sums.by_log_inverse[k] += weight * by_log_inverse[k].mul_(unit).sum()
            total.add_(by_log_inverse[k], alpha=weight)
        sums.by_row[rows] += total.sum(1, keepdim=True)
        sums.by_column += total.sum(0, keepdim=True)
    return -float(mass.log_().sum(dtype=torch.float64)) / math.log(2)


def _add(parameter: nn.Parameter, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


def _exponentials(magnitude: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    e = (magnitude - 0.5).abs_().mul_(b).neg_().exp_()
    f = (2 * magnitude).clamp_(max=1).mul_(b).neg_().exp_()
    return e, f


def _mass(magnitude: Tensor, e: Tensor, f: Tensor) -> Tensor:
    """The probability of a cell, from its two exponentials."""
    return (1 - f).mul_(e).mul_(0.5).addcmul_(magnitude < 0.5, 1 - e)
