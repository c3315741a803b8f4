"""The experiments of `bench seeds`: networks, methods with their settings, and what the papers report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.seeds_shapes import ALEXNET, VGG_16, Shapes
from szdnn.baselines.deep_compression import DeepCompression
from szdnn.baselines.universal import Universal

SHAPES = {"alexnet": ALEXNET, "vgg-16": VGG_16}
"""Networks of which there are only the layers' shapes."""


@dataclass(frozen=True)
class Published:
    """A paper's figures: errors in percent before and after, whole-network ratios by stage."""

    source: str
    error_before: float | None = None
    error_after: float | None = None
    ratios: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A method with its settings on one network."""

    name: str
    network: str
    method: DeepCompression | Universal
    paper: Published


def _han(before: float | None, after: float | None, pruned: float, shared: float, coded: float) -> Published:
    ratios = (("pruned", pruned), ("shared", shared), ("coded", coded))
    return Published("Han, Mao and Dally 2016, tables 1 to 4", before, after, ratios)


def _choi(ratio: float) -> Published:
    return Published("Choi, El-Khamy and Lee 2018/2020", ratios=(("coded", ratio),))


def _synthetic(shapes: Shapes) -> dict[str, Any]:
    return {"rates": shapes.rates(), "steps": 1}


_LENET_300 = _han(1.64, 1.58, 12, 32, 40)
_LENET_5 = _han(0.80, 0.74, 12, 33, 39)
_FIRST = DeepCompression(
    rates="0.08/0.09/0.26", bits=6, epochs=8, rate=1e-3, decay=1e-4, batch=256, tune_epochs=2, tune_rate=1e-4
)
_SECOND = DeepCompression(
    rates="0.66/0.12/0.08/0.19", bits="8/5", epochs=2, last=3, rate=1e-3, decay=1e-4, batch=256, bfloat16=True,
    tune_epochs=1, tune_rate=1e-4,
)  # fmt: skip
_SPARSER_300: dict[str, Any] = {
    "rates": "0.055/0.09/0.26", "steps": 4, "epochs": 5, "last": 8, "rate": 1e-3, "decay": 1e-4, "batch": 256,
    "half": True,
}  # fmt: skip
_SPARSER_5: dict[str, Any] = {
    "rates": "0.45/0.09/0.025/0.12", "steps": 4, "epochs": 2, "last": 3, "rate": 1e-3, "decay": 1e-4, "batch": 256,
    "augment": True, "bfloat16": True, "half": True,
}  # fmt: skip
_UNIVERSAL_LENET: dict[str, Any] = {"step": 0.45, "coder": "zstd", "tune_epochs": 1, "tune_rate": 1e-3}
_UNIVERSAL_32: dict[str, Any] = {"step": 0.5, "coder": "zstd", "tune_epochs": 0.5, "tune_rate": 1e-3}
_RESIDUAL: dict[str, Any] = {
    "density": 0.125, "steps": 2, "epochs": 0.5, "last": 3.0, "rate": 0.02, "optimizer": "sgd", "decay": 1e-4,
    "augment": True, "bfloat16": True, "half": True,
}  # fmt: skip
PAPERS = "Deep Compression, the paper's rates and bits"
SPARSER = "Deep Compression, sparser"
EXPERIMENTS = [
    Experiment(PAPERS, "mnist/lenet-300-100", _FIRST, _LENET_300),
    Experiment(SPARSER, "mnist/lenet-300-100", DeepCompression(bits=5, tune_epochs=1.0, **_SPARSER_300), _LENET_300),
    Experiment("universal, Z", "mnist/lenet-300-100", Universal(**_UNIVERSAL_LENET, **_SPARSER_300), Published("")),
    Experiment(PAPERS, "mnist/lenet-5", _SECOND, _LENET_5),
    Experiment(
        SPARSER, "mnist/lenet-5", DeepCompression(bits="8/6", tune_epochs=1, tune_rate=1e-4, **_SPARSER_5), _LENET_5
    ),
    Experiment("universal, Z", "mnist/lenet-5", Universal(**_UNIVERSAL_LENET, **_SPARSER_5), _choi(124.8)),
    Experiment(
        "universal, E8", "mnist/lenet-5", Universal(lattice="E8", **_UNIVERSAL_LENET, **_SPARSER_5), _choi(124.8)
    ),
    Experiment("universal, Z", "cifar10/resnet-32", Universal(**_UNIVERSAL_32, **_RESIDUAL), _choi(47.1)),
    Experiment(PAPERS, "alexnet", DeepCompression(bits="8/5", **_synthetic(ALEXNET)), _han(None, None, 9, 27, 35)),
    Experiment("universal, Z", "alexnet", Universal(step=0.6, **_synthetic(ALEXNET)), _choi(42.5)),
    Experiment(PAPERS, "vgg-16", DeepCompression(bits="8/5", **_synthetic(VGG_16)), _han(None, None, 13, 31, 49)),
]
"""In the order in which they run. The sparser ones go beyond the papers' rates; LeNet-5's and ResNet-32's retraining
shifts (and ResNet-32's mirrors) the images, and biases and normalisation are float16 where the settings say `half`."""
