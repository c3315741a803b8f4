"""How far a network's outputs are from the original's, and random output gradients whose covariance is that distance's
Hessian: what sensitivities are computed from without any labels.

A distance is a mean over examples. Near the original outputs it is half a quadratic form of their change, with the
Hessian H; `cotangents` draws vectors v with E[v v^T] = H, so that E[(J^T v)^2] is the diagonal of the Gauss-Newton
matrix J^T H J of the weights. For the Kullback-Leibler divergence H is the Fisher information of a categorical
variable, and v is the gradient of the log-likelihood of a label sampled from the network's own prediction (Martens
2020, section 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ArgumentError

Kind = Literal["kl", "cosine", "mse"]


def tensors_of(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a network returned: a tensor, or any nesting of tuples, lists and mappings."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif hasattr(output, "values") and callable(output.values):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors_of(value)


def main_output(output: Any) -> Tensor:
    """The first floating-point tensor of at least two axes: logits or embeddings, the last axis being the classes'.

    Raises ArgumentError where there is none.
    """
    for tensor in tensors_of(output):
        if tensor.dim() >= 2:
            return tensor
    raise ArgumentError("the network returns no floating-point tensor of two axes or more to compare outputs by")


@dataclass(frozen=True)
class Distance:
    """A mean distance between outputs, over all axes but the last.

    "kl": KL(softmax(original) || softmax(other)), in nats. "cosine": 1 - cosine similarity. "mse": the mean squared
    error divided by the mean square of the original.
    """

    kind: Kind

    def __post_init__(self) -> None:
        if self.kind not in ("kl", "cosine", "mse"):
            raise ArgumentError(f'distance must be "kl", "cosine" or "mse", not {self.kind!r}')

    @classmethod
    def guess(cls, output: Tensor) -> Distance:
        """Cosine for rows of unit length (embeddings), else the divergence of class probabilities."""
        norms = output.detach().float().norm(dim=-1)
        return cls("cosine" if bool((norms - 1).abs().max() < 1e-3) else "kl")

    def __call__(self, original: Tensor, other: Tensor) -> Tensor:
        """The distance of each example, float64, shape (n,): rows are all axes but the last."""
        x, y = original.detach().double().flatten(0, -2), other.double().flatten(0, -2)
        if self.kind == "kl":
            p, q = x.log_softmax(-1), y.log_softmax(-1)
            return (p.exp() * (p - q)).sum(-1).clamp_min(0)
        if self.kind == "cosine":
            return 1 - torch.cosine_similarity(x, y, dim=-1)
        return (x - y).square().sum(-1) / x.square().sum(-1).mean().clamp_min(1e-30)

    def cotangents(self, output: Tensor, generator: torch.Generator) -> Tensor:
        """A random gradient for `output`, independent over examples, whose covariance is the Hessian of `self`."""
        rows = output.detach().float().flatten(0, -2)
        if self.kind == "kl":
            p = rows.softmax(-1)
            labels = torch.multinomial(p, 1, generator=generator)
            drawn = p - torch.zeros_like(p).scatter_(1, labels, 1.0)
        elif self.kind == "cosine":
            norm = rows.norm(dim=-1, keepdim=True).clamp_min(1e-30)
            unit = rows / norm
            v = torch.randn(rows.shape, generator=generator)
            drawn = (v - (v * unit).sum(-1, keepdim=True) * unit) / norm
        else:
            scale = (2 / rows.square().sum(-1).mean().clamp_min(1e-30)).sqrt()
            drawn = torch.randn(rows.shape, generator=generator) * scale
        return drawn.view_as(output).to(output.dtype)
