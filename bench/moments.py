"""Real optimizer state: two small networks trained with Adam on MNIST, always the same way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.models import MIN_VALUES, Tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

BATCH = 64
SEED = 0


def mnist() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (60000, 1, 28, 28) float32 in 0 to 1, and labels, from mnist.npz in $SZDNN_DATA."""
    import torch

    file = Path(os.environ.get("SZDNN_DATA", "")) / "mnist.npz"
    if not file.exists():
        raise SystemExit("SZDNN_DATA must name the folder that holds mnist.npz")
    with np.load(file) as data:
        images, labels = data["x_train"], data["y_train"]
    return torch.from_numpy(images).float().div(255).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def networks() -> dict[str, nn.Sequential]:
    """LeNet-300-100 and LeNet-5 (Caffe's: 20 and 50 filters), initialised from the seed."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    dense = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    convolutions = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)]
    lenet = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
    return {"LeNet-300-100": dense, "LeNet-5": lenet}


def train(net: nn.Sequential, steps: int) -> dict[str, Tensors]:
    """Adam's first and second moments ("exp_avg", "exp_avg_sq") after so many steps: tensors of 1,024 values and more.

    One thread and a seeded order, so the same machine makes the same moments each time.
    """
    import torch
    from torch import nn

    images, labels = mnist()
    torch.set_num_threads(1)
    order = torch.Generator().manual_seed(SEED)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(steps):
        batch = torch.randint(len(images), (BATCH,), generator=order)
        adam.zero_grad()
        nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
        adam.step()
    kept = [(name, p) for name, p in net.named_parameters() if p.numel() >= MIN_VALUES]
    return {kind: {name: _array(adam.state[p][kind]) for name, p in kept} for kind in ("exp_avg", "exp_avg_sq")}


def _array(tensor: Any) -> np.ndarray[Any, np.dtype[Any]]:
    return np.ascontiguousarray(tensor.numpy())
