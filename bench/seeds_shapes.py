"""AlexNet and VGG-16 by their true layer shapes and published shares of kept weights, with synthetic weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from szdnn.baselines.base import State


@dataclass(frozen=True)
class Shapes:
    """A network's weight layers: (name, shape, published share of kept weights); every layer has a bias besides."""

    name: str
    layers: tuple[tuple[str, tuple[int, ...], float], ...]

    def state(self, seed: int = 0) -> State:
        """Gaussian weights of He's variance, biases zero, float32."""
        rng = np.random.default_rng(seed)
        found: State = {}
        for name, shape, _ in self.layers:
            scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
            found[f"{name}.weight"] = rng.standard_normal(shape, np.float32) * scale
            found[f"{name}.bias"] = np.zeros(shape[0], np.float32)
        return found

    def rates(self) -> str:
        """The published shares as the methods take them."""
        return "/".join(f"{share:g}" for _, _, share in self.layers)


def _vgg() -> tuple[tuple[str, tuple[int, ...], float], ...]:
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    names = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"]
    shares = [0.58, 0.22, 0.34, 0.36, 0.53, 0.24, 0.42, 0.32, 0.27, 0.34, 0.35, 0.29, 0.36]
    pairs = zip(names, widths[:-1], widths[1:], shares, strict=True)
    convolutions = tuple((f"conv{name}", (out, into, 3, 3), share) for name, into, out, share in pairs)
    dense = (("fc6", (4096, 25088), 0.04), ("fc7", (4096, 4096), 0.04), ("fc8", (1000, 4096), 0.23))
    return convolutions + dense


ALEXNET = Shapes(
    "AlexNet",
    (
        ("conv1", (96, 3, 11, 11), 0.84), ("conv2", (256, 48, 5, 5), 0.38), ("conv3", (384, 256, 3, 3), 0.35),
        ("conv4", (384, 192, 3, 3), 0.37), ("conv5", (256, 192, 3, 3), 0.37),
        ("fc6", (4096, 9216), 0.09), ("fc7", (4096, 4096), 0.09), ("fc8", (1000, 4096), 0.25),
    ),
)  # fmt: skip
"""Krizhevsky et al. 2012 in Caffe's two groups: 60,965,224 parameters."""
VGG_16 = Shapes("VGG-16", _vgg())
"""Simonyan and Zisserman 2014, configuration D: 138,357,544 parameters."""
