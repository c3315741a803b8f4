"""A real run to make checkpoints of: ResNet-20 on CIFAR-10 (as JPEG), trained on from its finished weights.

The recipe: Adam at a fixed rate, no weight decay, batches of 128, the usual augmentation (shifts by up to four pixels,
mirroring), seed 0, one thread. A run's checkpoints stay in the cache folder; one that was interrupted goes on.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from bench.trainee import Trainee
from szdnn.nets.downloads import cache_folder

BATCH = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WEIGHTS = "resnet20_cifar_jpeg.safetensors"


class _Block(nn.Module):
    """Two convolutions and a shortcut without weights (He et al. 2015, option A)."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=wide // narrow, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if y.shape != x.shape:
            pad = (y.shape[1] - x.shape[1]) // 2
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad))
        return torch.relu(x + y)


class ResNet20(nn.Module):
    """He et al. 2015, section 4.2: three stages of three blocks; 272,474 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, width in enumerate((16, 32, 64), 1):
            blocks = [_Block(width // 2 if stage > 1 and i == 0 else width, width) for i in range(3)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [N, 10] of images [N, 3, 32, 32]."""
        x = torch.relu(self.bn1(self.conv1(x)))
        for stage in ("layer1", "layer2", "layer3"):
            x = getattr(self, stage)(x)
        return cast(torch.Tensor, self.linear(x.mean((2, 3))))


def _images(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N] of a file of JPEGs."""
    from PIL import Image

    with np.load(path, allow_pickle=False) as file:
        data, ends, labels = file["jpeg"].tobytes(), file["off"], file["y"]
    parts = [data[a:b] for a, b in itertools.pairwise(ends)]
    images = np.stack([np.asarray(Image.open(io.BytesIO(part)).convert("RGB")) for part in parts])
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype(np.int64))


def _normalized(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


class Run(Trainee):
    """Training from the finished weights. The batch of a step is a function of its number alone."""

    def __init__(self, data: Path, rate: float) -> None:
        from safetensors.torch import load_file

        self._images, self._labels = _images(data / "cifar10_jpeg_train.npz")
        self.model = ResNet20()
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
