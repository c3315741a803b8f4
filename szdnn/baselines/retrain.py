"""Training a network whose weights are held in a form: masked by pruning, or sharing few values.

Han et al., "Learning both weights and connections" (2015), section 3: pruned connections stay zero, L2 while
retraining. Han et al., "Deep compression" (2016), section 3.3: a shared value's gradient is the sum of its members'
gradients. Choi et al., "Universal deep neural network compression" (2018), section 3.3: the same with dithers fixed.
Each form is the tensor as a function of what may change in it, so that autograd gives these gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..nets.training import Recipe
from .base import Context, State

Form = nn.Module


class Masked(nn.Module):
    """A pruned tensor: zero where the mask (bool, of its shape) is False."""

    mask: Tensor

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("mask", torch.from_numpy(mask))

    def forward(self, value: Tensor) -> Tensor:
        """The masked tensor."""
        return value * self.mask


class Shared(nn.Module):
    """A tensor whose values at `positions` come from a codebook, all others zero.

    codebook: (k, d) float; assignments: (m,) int64, which entry each run of d positions has; positions: (n,) int64 in
    the flattened tensor, (m - 1) * d < n <= m * d; offsets: (n,) added to the codebook's values, for fixed dithers;
    trained: (j,) int64, the entries that may change.
    """

    fixed: Tensor
    positions: Tensor
    assignments: Tensor
    offsets: Tensor
    trained: Tensor

    def __init__(
        self,
        codebook: NDArray[np.float32],
        assignments: NDArray[np.int64],
        positions: NDArray[np.int64],
        offsets: NDArray[np.float32],
        trained: NDArray[np.int64],
        shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        arrays = {
            "fixed": codebook, "assignments": assignments, "positions": positions, "offsets": offsets,
            "trained": trained,
        }  # fmt: skip
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
        self._shape = shape

    def right_inverse(self, value: Tensor) -> Tensor:
        """What is trained, as one row: weight decay is for weights, not for codebooks."""
        return self.fixed[self.trained].flatten()

    def codebook(self, trained: Tensor) -> Tensor:
        """All entries, (k, d)."""
        return self.fixed.index_copy(0, self.trained, trained.reshape(-1, self.fixed.shape[1]))

    def forward(self, trained: Tensor) -> Tensor:
        """The tensor; the gradient of an entry is the sum over its members."""
        values = self.codebook(trained)[self.assignments].flatten()[: len(self.positions)] + self.offsets
        zeros = values.new_zeros(int(np.prod(self._shape)))
        return zeros.index_put((self.positions,), values).reshape(self._shape)


def retrain(
    state: State, forms: Mapping[str, Form], context: Context, recipe: Recipe, bfloat16: bool = False
) -> tuple[State, dict[str, NDArray[Any]]]:
    """The checkpoint after training with its tensors in these forms, and what each form's trained numbers became.

    forms: by weight name; other parameters are free. bfloat16: computes in it; parameters and their steps stay float32.
    Raises Unavailable without a task.
    """
    model = context.model(state)
    for name, form in forms.items():
        module, parameter = _place(model, name)
        parametrize.register_parametrization(module, parameter, form, unsafe=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        context.train(model, recipe)
    with torch.no_grad():
        found = dict(model.state_dict())
        trained = {}
        for name in forms:
            module, parameter = _place(model, name)
            found[name] = getattr(module, parameter)
            trained[name] = np.array(module.parametrizations[parameter].original)  # type: ignore[union-attr,index]
    return {name: np.array(found[name]) for name in state}, trained


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, parameter = name.rpartition(".")
    return model.get_submodule(path), parameter
