"""The layers that multiply by a weight matrix: linear ones and convolutions, and what they see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def matrix_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Linear layers and convolutions by name (transposed ones not), each module once."""
    return {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, *CONVOLUTIONS))}


def weight_name(layer: str) -> str:
    """The name of a layer's weight in the state."""
    return f"{layer}.weight" if layer else "weight"


def groups_of(layer: nn.Module) -> int:
    """How many matrices the weight consists of."""
    return int(getattr(layer, "groups", 1))


def inputs_of(layer: nn.Module, x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """What the layer's matrices are multiplied with: (groups, positions, inputs of one), at most so many positions.

    x: the layer's input. Positions of convolutions are drawn at random when there are more.
    """
    if isinstance(layer, nn.Linear):
        rows = x.detach().flatten(0, -2)
        return _some(rows, most, generator)[None]
    assert isinstance(layer, CONVOLUTIONS)
    images = x.detach()
    per_image = max(1, -(-most // images.shape[0]))
    padded = nn.functional.pad(images, _padding(layer), **_mode(layer))
    patches = padded
    # (N, C, out..., kernel...): one window axis after the other.
    for axis, (k, s, d) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        patches = patches.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
    spatial = len(layer.kernel_size)
    positions = [
        torch.randint(0, patches.shape[2 + a], (images.shape[0], per_image), generator=generator)
        for a in range(spatial)
    ]
    images_index = torch.arange(images.shape[0])[:, None].expand(-1, per_image)
    picked = patches.movedim(1, 1 + spatial)[(images_index, *positions)]  # (N, per image, C, kernel...)
    g = layer.groups
    rows = picked.reshape(-1, g, picked.shape[2] // g, *layer.kernel_size).flatten(2)
    return rows.movedim(1, 0)


def _some(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    if rows.shape[0] <= most:
        return rows
    return rows[torch.randperm(rows.shape[0], generator=generator)[:most]]


def _padding(layer: Any) -> list[int]:
    if layer.padding == "valid":
        return [0] * (2 * len(layer.kernel_size))
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(t // 2, t - t // 2) for t in totals]
    else:
        sides = [(p, p) for p in layer.padding]
    return [p for side in reversed(sides) for p in side]


def _mode(layer: Any) -> dict[str, Any]:
    return {} if layer.padding_mode == "zeros" else {"mode": layer.padding_mode}


@contextmanager
def hooks(handles: list[Any]) -> Iterator[None]:
    """Hooks that are removed afterwards."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
