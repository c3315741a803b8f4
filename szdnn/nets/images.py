"""Classification of images: digits, MNIST, CIFAR-10 and a sample of ImageNet."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ..errors import ArchiveError
from . import data
from .downloads import EFFICIENTNET_LITE0, Download, cache_folder, fetch, given, packaged
from .efficientnet import efficientnet_lite0
from .lenet import lenet_5, lenet_8x8, lenet_300_100
from .resnet import CifarResNet
from .task import Examples, State, Task, state_of
from .training import Recipe, train

Loader = Callable[[str], Examples]
RECIPES = 1
"""Raised when a recipe changes: it is in the names of the trained baselines in the cache."""


@dataclass
class ImageTask(Task):
    """A classifier; its score is the top-1 accuracy.

    mean, deviation: of the pixels 0 to 255, by channel. shift: the most pixels that training moves an image by; flip:
    whether it mirrors some. recipe: how the baseline is trained; checkpoint: where it is read from instead.
    """

    name: str
    network: str
    make: Callable[[], nn.Module]
    loader: Loader
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    checkpoint: Callable[[], State] | None = None
    recipe: Recipe | None = None
    shift: int = 0
    flip: bool = False
    batch: int = 250
    metric: str = "top-1 accuracy"
    training_from: str = "train"
    seed: int = 0
    _splits: dict[str, Examples] = field(default_factory=dict, repr=False)

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return self.make()

    @property
    def training_split(self) -> str:
        """Where methods fit weights."""
        return self.training_from

    def load_split(self, split: str) -> Examples:
        """A split's images as uint8 or float [n, channels, height, width], and their classes."""
        if split not in self._splits:
            self._splits[split] = self.loader(split)
        return self._splits[split]

    def prepare(self, inputs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Normalised floats; with a generator, shifted and mirrored."""
        mean, deviation = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.deviation))
        images = (inputs.float() - mean) / deviation
        if generator is None:
            return images
        if self.flip:
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        return (
            _shifted(images, self.shift, float(-self.mean[0] / self.deviation[0]), generator) if self.shift else images
        )

    def baseline(self) -> State:
        """The given checkpoint, or the one that the recipe trains: once, then out of the cache."""
        if self.checkpoint is not None:
            return self.checkpoint()
        from safetensors.numpy import load_file, save_file

        path = cache_folder() / "baselines" / f"{self.name}-{self.network}-{RECIPES}.safetensors"
        if path.is_file():
            return dict(load_file(path))
        state = self.train_baseline()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        save_file(state, part)
        part.replace(path)
        return state

    def train_baseline(self, seed: int | None = None) -> State:
        """A network trained by the task's recipe, from its seed or another. Raises ArchiveError when it has none."""
        if self.recipe is None:
            raise ArchiveError(f"{self.name}/{self.network} has no training recipe; its checkpoint is given")
        seed = self.seed if seed is None else seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build()
        return state_of(train(model, self, self.recipe, seed=seed))

    def score_of(self, outputs: torch.Tensor, targets: torch.Tensor) -> float:
        """Top-1 accuracy, 0 to 1."""
        return float((outputs.argmax(-1) == targets).double().mean())

    def differences(
        self, reference: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor, draws: int, seed: int
    ) -> NDArray[np.float64]:
        """As Task's. An example counts 1, 0 or -1, so that drawing examples anew is drawing how many there are of
        each.
        """
        right, was_right = ((o.argmax(-1) == targets).int() for o in (outputs, reference))
        counts = torch.bincount(right - was_right + 1, minlength=3).numpy()
        drawn = np.random.default_rng(seed).multinomial(len(targets), counts / len(targets), size=draws)
        return (drawn[:, 2] - drawn[:, 0]) / len(targets)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def divergence(self, reference: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """KL(reference || outputs) of the softmax distributions, in nats [n]."""
        log_p, log_q = F.log_softmax(reference, -1), F.log_softmax(outputs, -1)
        return (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min(0)


def _shifted(images: torch.Tensor, most: int, fill: float, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by up to `most` pixels either way; the background comes in."""
    n, _, height, width = images.shape
    padded = F.pad(images, (most, most, most, most), value=fill)
    dy, dx = torch.randint(0, 2 * most + 1, (2, n), generator=generator)
    rows = (dy[:, None] + torch.arange(height)).view(n, 1, height, 1)
    columns = (dx[:, None] + torch.arange(width)).view(n, 1, 1, width)
    channels = torch.arange(images.shape[1]).view(1, -1, 1, 1)
    return padded[torch.arange(n).view(n, 1, 1, 1), channels, rows, columns]


def _examples(images: np.ndarray, labels: np.ndarray, part: slice | np.ndarray) -> Examples:
    return Examples(torch.from_numpy(np.array(images[part])), torch.from_numpy(np.array(labels[part])))


def digits(network: str) -> ImageTask:
    """scikit-learn's digits, in a fixed random order: 997 train, 100 calibration, 200 search, 500 report."""
    parts = {"train": slice(0, 997), "calibration": slice(997, 1097), "search": slice(1097, 1297)}
    parts |= {"report": slice(1297, None), "test": slice(1297, None)}

    def loader(split: str) -> Examples:
        images, labels = data.digits()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).numpy()
        return _examples(images[order].astype(np.float32), labels[order], parts[split])

    recipe = Recipe(epochs=25, rate=2e-3, optimizer="adam", batch=32)
    return ImageTask("digits", network, lenet_8x8, loader, (0.0,), (16.0,), recipe=recipe)


def mnist(network: str) -> ImageTask:
    """MNIST: of the 60,000 training images 55,000 train, 1,000 calibration, 4,000 search; report is the 10,000 test
    images.
    """
    parts = {"train": slice(0, 55_000), "calibration": slice(55_000, 56_000), "search": slice(56_000, 60_000)}

    def loader(split: str) -> Examples:
        images, labels = data.mnist("train" if split in parts else "test")
        return _examples(images, labels, parts.get(split, slice(None)))

    make = {"lenet-300-100": lenet_300_100, "lenet-5": lenet_5}[network]
    recipe = Recipe(epochs=20 if network == "lenet-300-100" else 8, rate=0.02, decay=5e-4)
    return ImageTask("mnist", network, make, loader, (33.3,), (78.6,), recipe=recipe, shift=2, batch=500)


_CIFAR_PARTS = {
    "train": ("train", slice(0, 49_000)),
    "calibration": ("train", slice(49_000, None)),
    "search": ("test", slice(0, 2_000)),
    "report": ("test", slice(2_000, None)),
    "test": ("test", slice(None)),
}
_PRETRAINED = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
_RESNETS = {
    "resnet-20": Download(_PRETRAINED + "resnet20-12fca82f.th", "sha256:12fca82f"),
    "resnet-32": Download(_PRETRAINED + "resnet32-d509ac18.th", "sha256:d509ac18"),
}


def cifar10(network: str) -> ImageTask:
    """CIFAR-10: 49,000 train, 1,000 calibration; of the 10,000 test images 2,000 search, 8,000 report; test is all
    10,000.

    The given checkpoints have seen all training images, so that choosing by those would be choosing by what was
    learned by heart.
    """

    def loader(split: str) -> Examples:
        part, which = _CIFAR_PARTS[split]
        return _examples(*data.cifar10(part), which)

    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ImageTask(
        "cifar10",
        network,
        functools.partial(CifarResNet, int(network.removeprefix("resnet-"))),
        loader,
        tuple(255 * v for v in mean),
        tuple(255 * v for v in deviation),
        checkpoint=functools.partial(_resnet_checkpoint, network),
        shift=4,
        flip=True,
    )


def _resnet_checkpoint(network: str) -> State:
    """The checkpoint in $SZDNN_DATA, made for CIFAR-10 as JPEG; without that data, the published one."""
    path = given(f"{network.replace('-', '')}_cifar_jpeg.safetensors")
    if data.cifar10_is_jpeg() and path is not None:
        from safetensors.numpy import load_file

        found = load_file(path)
    else:
        file = torch.load(fetch(_RESNETS[network]), map_location="cpu", weights_only=True)
        found = {name.removeprefix("module."): value.numpy() for name, value in file["state_dict"].items()}
    return _in_order(found, CifarResNet(int(network.removeprefix("resnet-"))))


def _in_order(found: Mapping[str, np.ndarray], model: nn.Module) -> State:
    """The checkpoint in the network's own order; what the network does not have stays away."""
    return {name: found.get(name, np.array(value)) for name, value in state_of(model).items()}


def imagenet_sample(network: str) -> ImageTask:
    """500 ImageNet images in a fixed random order: 150 calibration, 100 search, 250 report; test is all 500. No
    training images.

    They are probably ImageNet training images: for relative drops only. Methods that train do so on the calibration
    images.
    """
    parts = {"train": slice(0, 0), "calibration": slice(0, 150), "search": slice(150, 250), "report": slice(250, None)}

    def loader(split: str) -> Examples:
        images, labels = data.imagenet_sample()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).numpy()
        return _examples(images, labels, order[parts.get(split, slice(None))])

    mean, deviation = (127.0,) * 3, (128.0,) * 3
    return ImageTask(
        "imagenet-sample",
        network,
        efficientnet_lite0,
        loader,
        mean,
        deviation,
        checkpoint=_efficientnet_checkpoint,
        shift=16,
        flip=True,
        batch=25,
        training_from="calibration",
    )


def _efficientnet_checkpoint() -> State:
    state = torch.load(packaged(EFFICIENTNET_LITE0), map_location="cpu", weights_only=True)
    return _in_order({name: value.numpy() for name, value in state.items()}, efficientnet_lite0())
