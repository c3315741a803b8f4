"""How much memory compressing and restoring a large checkpoint takes, in processes of their own."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from szdnn.safetensors_file import canonical_header
from szdnn.skeleton import pack_specs
from szdnn.source import TensorSpec, write_array

ALLOWED = 600e6
_BF16 = np.dtype(ml_dtypes.bfloat16)
_F32 = np.dtype(np.float32)
_CHILD = """
import sys
from szdnn.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("peak", int(line.split()[1]) * 1024)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """--bytes, --largest, --kinds, --bound, --reference, --folder."""
    parser.add_argument("--bytes", type=float, default=4e9, help="size of the checkpoint (default 4e9)")
    parser.add_argument("--largest", type=float, default=512e6, help="its largest tensor (default 512e6)")
    parser.add_argument("--kinds", default="safetensors,pt", help="types of files (default safetensors,pt)")
    parser.add_argument("--bound", default="--rel=1e-3", help="an option of szdnn compress (default --rel=1e-3)")
    parser.add_argument("--reference", action="store_true", help="also a later checkpoint as differences to the first")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")


def run(args: argparse.Namespace) -> int:
    """A line a run; 1 if one took more than 600 MB and the largest tensor."""
    specs = checkpoint_specs(int(args.bytes), int(args.largest))
    total, largest = (f(spec.nbytes for spec in specs.values()) for f in (sum, max))
    limit = ALLOWED + largest
    print(f"{len(specs)} tensors, {total / 1e9:.2f} GB, largest {largest / 1e6:.0f} MB, {args.bound}")
    print(f"{'':<36}{'seconds':>9}{'peak MB':>9}{'limit MB':>10}")
    failures = 0
    for kind in args.kinds.split(","):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for label, seconds, peak in _measure(Path(folder), kind, specs, args.bound, args.reference):
                failures += peak > limit
                print(f"{kind + ' ' + label:<36}{seconds:>9.1f}{peak / 1e6:>9.0f}{limit / 1e6:>10.0f}", flush=True)
    return int(failures > 0)


def checkpoint_specs(total: int, largest: int) -> dict[str, TensorSpec]:
    """Tensors of a mixed checkpoint: two of the largest size, then layers of 64 MB at most, f32 and bf16 in turn."""
    specs, size = {}, 0

    def add(name: str, dtype: np.dtype[Any], nbytes: int) -> int:
        columns = 1024
        specs[name] = TensorSpec(dtype, (max(nbytes // dtype.itemsize // columns, 1), columns))
        return specs[name].nbytes

    size += add("embed.weight", _F32, largest)
    if 2 * largest <= total:
        size += add("head.weight", _BF16, largest)
    layer = 0
    while size < total:
        dtype = (_F32, _BF16)[layer % 2]
        size += add(f"layers.{layer}.weight", dtype, min(64 << 20, largest, max(total - size, 4096)))
        specs[f"layers.{layer}.bias"] = TensorSpec(dtype, (1024,))
        layer += 1
    return specs


class _Weights(Mapping[str, NDArray[Any]]):
    """Normal values, made when they are asked for: one block of random numbers, each tensor's scale its own."""

    def __init__(self, specs: dict[str, TensorSpec], grown: float) -> None:
        self._specs, self._grown = specs, grown
        self._block = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)

    def __getitem__(self, name: str) -> NDArray[Any]:
        spec = self._specs[name]
        scale = np.float32(0.01 * (1 + len(name) % 7) * self._grown)
        out = np.empty(spec.size, spec.dtype)
        for start in range(0, spec.size, self._block.size):
            part = out[start : start + self._block.size]
            part[:] = np.roll(self._block, start >> 15)[: part.size] * scale
        return out.reshape(spec.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def write_checkpoint(path: Path, specs: dict[str, TensorSpec], grown: float = 1.0) -> None:
    """A .safetensors or .pt file with these tensors, all values times `grown`."""
    weights = _Weights(specs, grown)
    with path.open("wb") as file:
        if path.suffix == ".safetensors":
            spelled = {_F32: "F32", _BF16: "BF16"}
            entries = ((name, spelled[spec.dtype], spec.shape, spec.nbytes) for name, spec in specs.items())
            file.write(canonical_header(entries, {"format": "pt"}))
            for name in specs:
                write_array(file, weights[name])
            return
        from szdnn.torch_file import write_torch

        state = {"dict": [[name, {"tensor": name}] for name in specs]}
        write_torch(file, {"state": state, "tensors": pack_specs(specs)}, weights)


def _measure(
    folder: Path, kind: str, specs: dict[str, TensorSpec], bound: str, reference: bool
) -> Iterator[tuple[str, float, int]]:
    path, archive, back = folder / f"model.{kind}", folder / "archive", folder / f"back.{kind}"
    write_checkpoint(path, specs)
    yield "compress", *_child("compress", path, "-o", archive, bound, "-q")
    yield "test --original", *_child("test", archive, "--original", path, "-q")
    path.unlink()
    yield "decompress", *_child("decompress", archive, "-o", back, "-q")
    if reference:
        back.unlink()
        write_checkpoint(path, specs, 1.001)
        later = folder / "later"
        yield "compress --reference", *_child("compress", path, "-o", later, bound, "--reference", archive, "-q")
        yield "test of differences", *_child("test", later, "--original", path, "-q")
        path.unlink()
        yield "decompress differences", *_child("decompress", later, "-o", back, "-q")


def _child(*arguments: object) -> tuple[float, int]:
    """Seconds and peak memory (VmHWM, bytes) of a command."""
    start = time.perf_counter()
    command = [sys.executable, "-c", _CHILD, *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
    return time.perf_counter() - start, int(output.split()[-1])
