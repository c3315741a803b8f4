"""Huffman beside zip, gzip, bzip2, xz and zstd on the same integers, which networks leave when they are quantised.

Streams: lattice integers of EfficientNet-lite0 and ResNet-32 at 1% and 10% of each layer's range; numbers of shared
weights and relative indices of LeNet-300-100, pruned by magnitude with Deep Compression's rates. One stream a layer;
bits a value are of all streams' bytes, containers and code tables in them. szdnn: complete frames of the same lattice.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

import szdnn
from bench import entropy, machine, records
from szdnn import nets
from szdnn.baselines import integers, kmeans, masks, sparse
from szdnn.baselines.base import weight_names

Integers = NDArray[np.int64]
RATES = {"fc1.weight": 0.08, "fc2.weight": 0.09, "fc3.weight": 0.26}


@dataclass(frozen=True)
class Row:
    """Bits a value of each coder on one kind of stream; entropy: order-0, of each layer for itself."""

    stream: str
    layers: int
    values: int
    entropy: float
    huffman: float
    zip: float
    gzip: float
    bzip2: float
    xz: float
    zstd: float
    szdnn: float | None


def _zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("x", data)
    return file.getvalue()


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "zip": _zip,
    "gzip": lambda data: gzip.compress(data, 9, mtime=0),
    "bzip2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=9),
    "zstd": lambda data: zstandard.ZstdCompressor(level=19).compress(data),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The outputs."""
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """A line a stream; 1 if Huffman's numbers do not come back."""
    print(f"{machine.name()}; bits a value")
    print(f"{'':<38}{'entropy':>9}{'huffman':>9}" + "".join(f"{name:>8}" for name in BYTES) + f"{'szdnn':>8}")
    table = []
    for stream, layers, frames in streams():
        table.append(_row(stream, layers, frames))
        cells = [getattr(table[-1], name) for name in ("entropy", "huffman")]
        rest = [getattr(table[-1], name) for name in (*BYTES, "szdnn")]
        line = f"{stream:<38}" + "".join(f"{cell:>9.3f}" for cell in cells)
        print(line + "".join(f"{'-' if cell is None else format(cell, '.3f'):>8}" for cell in rest), flush=True)
    records.save(args, table)
    return 0


def streams() -> Iterator[tuple[str, list[Integers], int | None]]:
    """The name, the numbers of each layer (from 0 on), and the bytes of szdnn's frames of the same lattice."""
    for task, name in (("imagenet-sample", "EfficientNet-lite0"), ("cifar10/resnet-32", "ResNet-32")):
        state = nets.load(task).baseline()
        for rel in (1e-2, 1e-1):
            yield _lattice(f"{name}, lattice at {rel:g}", state, rel)
    state = nets.load("mnist/lenet-300-100").baseline()
    kept = masks.by_layer(state, RATES)
    numbers, indices = [], []
    for name, mask in kept.items():
        at = np.flatnonzero(mask)
        numbers.append(kmeans.share(state[name].ravel()[at], 64)[0])
        indices.append(sparse.relative(at, 5)[0])
    yield "LeNet-300-100, shared weights (6 bits)", numbers, None
    yield "LeNet-300-100, indices (5 bits)", indices, None


def _lattice(stream: str, state: dict[str, NDArray[Any]], rel: float) -> tuple[str, list[Integers], int]:
    layers, frames = [], 0
    for name in weight_names(state):
        value = np.asarray(state[name], np.float32)
        eps = rel * float(value.max() - value.min())
        codes = entropy.lattice(value, eps)
        layers.append(np.where(codes < 0, -2 * codes - 1, 2 * codes))
        frames += len(szdnn.compress(value, szdnn.Abs(eps)))
    return stream, layers, frames


def _row(stream: str, layers: list[Integers], frames: int | None) -> Row:
    values = sum(layer.size for layer in layers)
    sizes = dict.fromkeys(("huffman", *BYTES), 0)
    for layer in layers:
        coded = integers.encode(layer, "huffman")
        if not np.array_equal(integers.decode(coded, layer.size, "huffman"), layer):
            raise RuntimeError(f"{stream}: Huffman gave other numbers back")
        sizes["huffman"] += len(coded)
        data = layer.astype(np.uint8 if layer.max() < 256 else "<u2").tobytes()
        for name, compress in BYTES.items():
            sizes[name] += len(compress(data))
    bits = {name: 8 * size / values for name, size in sizes.items()}
    whole = None if frames is None else 8 * frames / values
    ideal = sum(map(entropy.histogram_bits, layers)) / values
    return Row(stream, len(layers), values, ideal, **bits, szdnn=whole)
