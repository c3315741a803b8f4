"""A real run to make checkpoints of: ResNet-20 on CIFAR-10 (as JPEG), trained on from its finished weights.

The recipe: Adam at a fixed rate, no weight decay, batches of 128, the usual augmentation (shifts by up to four pixels,
mirroring), seed 0, one thread. A run's checkpoints stay in the cache folder; one that was interrupted goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.trainee import Trainee
from szdnn.nets.data import cifar10
from szdnn.nets.downloads import cache_folder
from szdnn.nets.resnet import CifarResNet

BATCH = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WEIGHTS = "resnet20_cifar_jpeg.safetensors"


def _normalized(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


class Run(Trainee):
    """Training from the finished weights, in `data` ($SZDNN_DATA). The batch of a step depends on its number alone."""

    def __init__(self, data: Path, rate: float) -> None:
        from safetensors.torch import load_file

        self._images, self._labels = map(torch.from_numpy, cifar10("train"))
        self.model = CifarResNet(20)
        self.model.load_state_dict(load_file(data / WEIGHTS))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)

    def step(self, number: int) -> float:
        """One step; the loss of its batch."""
        dice = np.random.default_rng([0, number])
        batch = dice.integers(0, len(self._images), BATCH)
        padded = nn.functional.pad(_normalized(self._images[batch]), (4, 4, 4, 4))
        shifts, mirrored = dice.integers(0, 9, (BATCH, 2)).tolist(), dice.random(BATCH) < 0.5
        crops = [
            image[:, y : y + 32, x : x + 32].flip(2) if mirror else image[:, y : y + 32, x : x + 32]
            for image, (y, x), mirror in zip(padded, shifts, mirrored, strict=True)
        ]
        self.model.train()
        loss = nn.functional.cross_entropy(self.model(torch.stack(crops)), self._labels[batch])
        return self.descend(loss)


def checkpoints(data: Path, rate: float, apart: int, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(step, state) of `count` checkpoints, `apart` steps from each other, trained unless the cache has them."""
    folder = cache_folder() / "runs" / f"resnet20-adam-{rate:g}-{apart}"
    folder.mkdir(parents=True, exist_ok=True)
    run: Run | None = None
    last: dict[str, Any] | None = None
    for number in range(1, count + 1):
        path = folder / f"step-{number * apart:05d}.pt"
        if not path.exists():
            if run is None:
                run = Run(data, rate)
                if last is not None:
                    run.load(last)
            losses = [run.step(step) for step in range((number - 1) * apart, number * apart)]
            print(f"rate {rate:g}, step {number * apart}: loss {np.mean(losses):.4f}", file=sys.stderr, flush=True)
            part = path.with_suffix(".part")
            torch.save(run.state(), part)
            part.replace(path)
        last = torch.load(path, weights_only=True)
        yield number * apart, last
