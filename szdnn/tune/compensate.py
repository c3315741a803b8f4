"""Rounding with second-order error feedback inside the bound: GPTQ (Frantar et al. 2023), OBQ's update (Frantar
and Alistarh 2022, after Hassibi and Stork 1993) in a fixed order of columns, with two points to choose from.

The lattice's step is the bound itself. A value then has two lattice points within the bound, the one below and the one
above (itself alone, where it lies on one), and each column is rounded to the one of these that is nearer to the value
as the feedback of the columns before has moved it. So outputs on the calibration inputs stay near the original's
while every value stays within its bound of the original, by construction; it is verified value by value all the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import codec
from ..bounds import Abs
from ..errors import ArgumentError
from ..source import Array
from .layers import groups_of, hooks, inputs_of, matrix_layers, weight_name
from .problem import Problem

DAMPING = 0.01
"""Of the Hessian's mean diagonal, added to it."""
BLOCK = 128
WORTH = 0.05
"""The part of a layer's error that feedback must take back on inputs it has not seen."""
LEAST_GAIN = 0.02
"""No layer counts as better than that: its error is also one of the layers behind it."""
POSITIONS = 4096
"""Positions of a call's examples that a layer's Hessian is taken from, at most."""


def feedback_rounding(weights: Tensor, steps: Tensor, factor: Tensor, order: Tensor) -> Tensor:
    """Weights as multiples of their steps, each rounded down or up.

    weights: (groups, rows, columns), float64. steps: broadcast to it. factor: the upper Cholesky factor of the inverse
    Hessian in the order of columns, (groups, columns, columns), float32. order: (groups, columns), the columns in that
    order. Returns integers as float64, of the shape of `weights`.
    """
    index = order[:, None, :].expand_as(weights)
    scaled = (weights / steps).gather(2, index)
    low, high = scaled.floor(), scaled.ceil()
    spacing = steps.expand_as(weights).gather(2, index).float()
    moving = weights.gather(2, index).float()
    chosen = torch.empty_like(scaled)
    columns = weights.shape[2]
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = torch.empty_like(moving[:, :, start:stop])
        for j in range(start, stop):
            value, step = moving[:, :, j], spacing[:, :, j]
            nearest = (value / step).round().double()
            picked = torch.minimum(torch.maximum(nearest, low[:, :, j]), high[:, :, j])
            chosen[:, :, j] = picked
            error = (value - picked.float() * step) / factor[:, j, j, None]
            moving[:, :, j:stop] -= error[:, :, None] * factor[:, None, j, j:stop]
            errors[:, :, j - start] = error
        if stop < columns:
            moving[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return torch.empty_like(chosen).scatter_(2, index, chosen)


def inverse_factor(hessian: Tensor, positions: float = math.inf) -> tuple[Tensor, Tensor]:
    """The upper Cholesky factor of the damped Hessian's inverse, columns by falling diagonal, and that order.

    hessian: (groups, columns, columns), float64. Inputs that are always zero count as if they were small.
    positions: how many it is the mean of. With few for its columns, what it says of their correlations is mostly
        chance, and feedback by it would spoil unseen inputs: they are shrunk by columns / (columns + positions).
    """
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(dim=1).clamp_min(1e-12)
    kept = 1 / (1 + hessian.shape[1] / positions)
    added = (1 - kept) * diagonal + (DAMPING * mean)[:, None]
    damped = kept * hessian + torch.diag_embed(added)
    order = diagonal.argsort(dim=1, descending=True)
    rows = damped.gather(1, order[:, :, None].expand_as(damped))
    sorted_ = rows.gather(2, order[:, None, :].expand_as(damped))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(sorted_))
    return torch.linalg.cholesky(inverse, upper=True).float(), order


class Hessian:
    """The sum of x x^T of some positions, (groups, inputs, inputs), float64; only its proportions matter."""

    def __init__(self) -> None:
        self.sum, self.positions = torch.zeros(1, 1, 1, dtype=torch.float64), 0

    def add(self, rows: Tensor) -> None:
        """Rows: (groups, positions, inputs); equal ones count once."""
        self.sum = self.sum + (rows.transpose(1, 2) @ rows).double()
        self.positions += len(torch.unique(rows[0].double().sum(1)))


class Compensator:
    """Moves the weights of linear layers and convolutions; Hessians come from one pass of the original network."""

    def __init__(self, problem: Problem) -> None:
        if not problem.calls:
            raise ArgumentError("compensate: needs calibration inputs, or an evaluation that runs the network")
        self._problem = problem
        self._layers = {weight_name(name): layer for name, layer in matrix_layers(problem.model).items()}
        problem.say("Hessians")
        self._halves = self._collect()
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        self._useless: set[str] = set()

    def _collect(self) -> dict[str, list[Hessian]]:
        """Of each layer the mean of x x^T over positions of the calibration inputs, in two halves."""
        sums: dict[str, list[Hessian]] = {}
        generator = torch.Generator().manual_seed(self._problem.seed)
        most = max(64, POSITIONS // len(self._problem.calls))

        def watch(name: str, layer: nn.Module) -> None:
            def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                x = inputs_of(module, args[0], most, generator)
                for half, rows in enumerate((x[:, ::2], x[:, 1::2]) if alone else (x,)):
                    sums.setdefault(name, [Hessian(), Hessian()])[(half + turn) % 2].add(rows)

            handles.append(layer.register_forward_pre_hook(see))

        handles: list[object] = []
        for name, layer in self._layers.items():
            if name in self._problem.weights:
                watch(name, layer)
        alone = len(self._problem.calls) == 1
        with hooks(handles), torch.no_grad():
            for turn, (args, kwargs) in enumerate(self._problem.calls):  # noqa: B007  # the hooks see it
                self._problem.model(*args, **kwargs)
        return sums

    def moved(self, name: str, bound: Abs) -> tuple[Array, Abs] | None:
        """A weight moved onto lattice points within the bound, and the bound with that lattice; None for a tensor that
        is no such layer's weight, that the calibration inputs did not reach, or that feedback does not help."""
        if name not in self._halves or name in self._useless:
            return None
        array = self._problem.tensors[name]
        # Six digits: a frame that is lossless after all keeps no more of its bound, and shall still tell the truth.
        eps = np.array([float(f"{e:.6g}") for e in np.atleast_1d(bound.eps)]).reshape(np.shape(bound.eps))
        fine = Abs(eps if bound.axis is not None else float(eps), bound.axis, fineness=2)
        steps = _along(eps, bound.axis, array.ndim)
        counts = self._counts(name, np.broadcast_to(steps, array.shape))
        target = (counts.reshape(array.shape).numpy() * steps).astype(array.dtype)
        return within_bound(array, target, fine), fine

    def _grouped(self, name: str) -> Tensor:
        """A weight as matrices, float64 (groups, rows, columns)."""
        shape = groups_of(self._layers[name]), -1, self._halves[name][0].sum.shape[1]
        return torch.from_numpy(self._problem.tensors[name].astype(np.float64)).reshape(shape)

    def _counts(self, name: str, steps: NDArray[np.float64]) -> Tensor:
        """A weight's lattice integers with feedback, as matrices. steps: of the weight's shape."""
        if name not in self._factors:
            first, second = self._halves[name]
            self._factors[name] = inverse_factor(first.sum + second.sum, first.positions + second.positions)
        values = self._grouped(name)
        return feedback_rounding(values, torch.from_numpy(steps.copy()).reshape(values.shape), *self._factors[name])

    def gain(self, name: str, step: float) -> float:
        """The squared error of a layer's outputs with feedback over that of plain rounding: feedback by one half of the
        calibration inputs, errors on the other.

        1 for a tensor that is not compensated, and from now on for one that gains less than `WORTH`.
        """
        if name not in self._halves or name in self._useless:
            return 1.0
        values, (first, second) = self._grouped(name), self._halves[name]
        factor = inverse_factor(first.sum, first.positions)
        counts = feedback_rounding(values, torch.full((1, 1, 1), step, dtype=torch.float64), *factor)

        def error(integers: Tensor) -> float:
            moved = integers * step - values
            return float(((moved @ second.sum) * moved).sum())

        plain = error((values / step).round())
        found = error(counts) / plain if plain > 0 else 1.0
        if found > 1 - WORTH:
            self._useless.add(name)
            return 1.0
        return max(found, LEAST_GAIN)


def within_bound(original: Array, target: Array, bound: Abs) -> Array:
    """The target as the bound's lattice has it; values that came out beyond the bound (by a rounding of the dtype)
    are the original's, rounded."""
    moved = codec.decompress(codec.compress(target, bound))
    plain = codec.decompress(codec.compress(original, bound))
    allowed = _along(np.asarray(bound.eps), bound.axis, original.ndim)
    error = np.abs(moved.astype(np.float64) - original.astype(np.float64))
    zeros = (original == 0) & (moved != 0)
    return np.where(~(error < allowed * (1 - 1e-9)) | zeros, plain, moved).astype(original.dtype)


def _along(eps: NDArray[np.float64], axis: int | None, rank: int) -> NDArray[np.float64]:
    """Bounds in the shape that broadcasts over a tensor."""
    if axis is None:
        return eps
    shape = [1] * rank
    shape[axis] = -1
    return eps.reshape(shape)
