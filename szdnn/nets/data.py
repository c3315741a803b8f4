"""Data sets as arrays: MNIST, CIFAR-10, STS-B, an ImageNet sample, scikit-learn's digits. Each is read once a
process.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import itertools
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArchiveError
from .downloads import Download, fetch, given

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [n, channels, height, width] and their labels [n]."""

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # the mirror that the home page's own server points to
_MNIST_FILES = {
    "train": (
        Download(_MNIST + "train-images-idx3-ubyte.gz", "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        Download(_MNIST + "train-labels-idx1-ubyte.gz", "md5:d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    "test": (
        Download(_MNIST + "t10k-images-idx3-ubyte.gz", "md5:9fb629c4189551a2d022fa330f9573f3"),
        Download(_MNIST + "t10k-labels-idx1-ubyte.gz", "md5:ec29112dd5afa0611ce80d1b7f02629c"),
    ),
}
_CIFAR = Download("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530")
_STSB = "https://raw.githubusercontent.com/PhilipMay/stsb-multi-mt/main/data/"
_STSB_FILES = {
    "train": Download(
        _STSB + "stsb-en-train.csv", "sha256:e1e84fec60bbb598735552f54a35f4949904a484750fd2cb11e2720e49f63da6"
    ),
    "dev": Download(
        _STSB + "stsb-en-dev.csv", "sha256:d29586e96558c4eb52cf5ea5d14e9c24d3bf0e44f111b017caba43a5adc33226"
    ),
}


@functools.cache
def mnist(part: str) -> Images:
    """MNIST's 60,000 "train" or 10,000 "test" images [n, 1, 28, 28]."""
    path = given("mnist.npz")
    if path is not None:
        with np.load(path) as file:
            return file[f"x_{part}"][:, None], file[f"y_{part}"].astype(np.int64)
    images, labels = (gzip.decompress(fetch(item).read_bytes()) for item in _MNIST_FILES[part])
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return pixels, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


@functools.cache
def cifar10(part: str) -> Images:
    """CIFAR-10's 50,000 "train" or 10,000 "test" images [n, 3, 32, 32]."""
    path = given(f"cifar10_jpeg_{part}.npz")
    if path is not None:
        return _jpegs(path)
    wanted = [f"data_batch_{number}.bin" for number in range(1, 6)] if part == "train" else ["test_batch.bin"]
    with tarfile.open(fetch(_CIFAR)) as archive:
        members = [archive.extractfile(f"cifar-10-batches-bin/{name}") for name in wanted]
        records = np.concatenate([np.frombuffer(m.read(), np.uint8).reshape(-1, 3073) for m in members if m])
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def cifar10_is_jpeg() -> bool:
    """Whether the CIFAR-10 at hand went through JPEG, as the checkpoints in $SZDNN_DATA expect it."""
    return given("cifar10_jpeg_test.npz") is not None


@functools.cache
def imagenet_sample() -> Images:
    """500 ImageNet images [500, 3, 224, 224], every second class. Raises ArchiveError: they have no public home."""
    path = given("imagenet_sample_224.npz")
    if path is None:
        raise ArchiveError(
            "the task needs imagenet_sample_224.npz in the folder that SZDNN_DATA names; "
            "ImageNet may not be downloaded freely"
        )
    return _jpegs(path)


def _jpegs(path: Path) -> Images:
    """Images kept as JPEG: `jpeg` (all bytes), `off` (n + 1 offsets), `y` (labels)."""
    try:
        from PIL import Image
    except ImportError:
        raise ArchiveError(f"{path.name} needs pillow; install it with: pip install 'szdnn[tasks]'") from None
    with np.load(path) as file:
        data, offsets, labels = file["jpeg"].tobytes(), file["off"].tolist(), file["y"].astype(np.int64)
    spans = itertools.pairwise(offsets)
    pixels = [np.asarray(Image.open(io.BytesIO(data[start:end])).convert("RGB")) for start, end in spans]
    return np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2)), labels


@functools.cache
def stsb(part: str) -> tuple[list[tuple[str, str]], NDArray[np.float64]]:
    """STS-B's "train" or "dev" pairs of sentences and their similarities 0 to 5."""
    path = given(f"stsb-en-{part}.csv") or fetch(_STSB_FILES[part])
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    return [(row[0], row[1]) for row in rows], np.array([float(row[2]) for row in rows])


@functools.cache
def digits() -> tuple[NDArray[Any], NDArray[np.int64]]:
    """scikit-learn's 1,797 digits, grey values 0 to 16 [1797, 1, 8, 8], and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ArchiveError("the digits need scikit-learn; install it with: pip install 'szdnn[tasks]'") from None
    found = load_digits()
    return found.images[:, None], found.target.astype(np.int64)
