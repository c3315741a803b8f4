"""`szdnn compress` and `decompress` on the two real checkpoints, every value checked against its bound from outside."""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench import exact, models
from bench.models import Tensors
from bench.options import floats


def configure(parser: argparse.ArgumentParser) -> None:
    """--rel."""
    rel = "1e-1,1e-2,1e-3,1e-4"
    parser.add_argument("--rel", type=floats, default=floats(rel), help=f"bounds as parts of the range (default {rel})")


def run(args: argparse.Namespace) -> int:
    """A line a file and bound; 1 if any value was beyond its bound or changed without one."""
    failures = 0
    print(
        f"{'file':<34}{'bound':>10}{'archive bytes':>15}{'ratio':>8}{'lossy':>7}{'equal':>7}{'beyond':>8}{'changed':>9}"
    )
    for path in models.paths().values():
        with tempfile.TemporaryDirectory() as folder:
            for r in args.rel:
                failures += _lossy(path, r, Path(folder))
            failures += _lossless(path, Path(folder))
    return int(failures > 0)


def _szdnn(*arguments: object) -> None:
    command = [sys.executable, "-m", "szdnn", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _there_and_back(path: Path, folder: Path, *bound: object) -> tuple[int, Path]:
    archive, back = folder / "archive.szd.safetensors", folder / f"back{path.suffix}"
    _szdnn("compress", path, *bound, "-q", "-f", "-o", archive)
    _szdnn("decompress", archive, "-q", "-f", "-o", back)
    return archive.stat().st_size, back


def _lossy(path: Path, r: float, folder: Path) -> int:
    size, back = _there_and_back(path, folder, "--rel", r)
    original, decoded = models.read(path), models.read(back)
    lossy, equal, beyond, changed = judge(original, decoded, r)
    changed += list(original) != list(decoded)
    report(path, f"Rel({r:g})", size, (lossy, equal, beyond, changed))
    return beyond + changed


def _lossless(path: Path, folder: Path) -> int:
    size, back = _there_and_back(path, folder, "--lossless")
    original, decoded = models.read(path), models.read(back)
    changed = sum(x.tobytes() != decoded[name].tobytes() for name, x in original.items())
    identical = path.suffix != ".safetensors" or filecmp.cmp(path, back, shallow=False)
    report(path, "Lossless", size, (0, len(original) - changed, 0, changed + (not identical)))
    if identical and path.suffix == ".safetensors":
        print(f"{'':<34}the file came back byte for byte")
    return changed + (not identical)


def report(path: Path, bound: str, size: int, counts: tuple[int, int, int, int]) -> None:
    """One line."""
    lossy, equal, beyond, changed = counts
    ratio = path.stat().st_size / size
    print(f"{path.name[:33]:<34}{bound:>10}{size:>15,}{ratio:>8.2f}{lossy:>7}{equal:>7}{beyond:>8}{changed:>9}")


def judge(original: Tensors, decoded: Tensors, r: float) -> tuple[int, int, int, int]:
    """Tensors under a bound, tensors equal; values beyond r * (max - min), tensors changed that should not be.

    Independent of szdnn's own rules: a tensor that is not a float, or is small, must be equal.
    """
    lossy = equal = beyond = changed = 0
    for name, x in original.items():
        y = decoded[name]
        same = x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        equal += same
        if same:
            continue
        if x.dtype != np.float32 or x.shape != y.shape or x.size < 1024 or "running_" in name:
            changed += 1
            continue
        lossy += 1
        a, b = exact.widen(x), exact.widen(y)
        beyond += int(exact.beyond(a, b, r * (float(a.max()) - float(a.min()))).sum())
    return lossy, equal, beyond, changed
