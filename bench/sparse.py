"""Do zeros, constants, repetition and small tensors cost next to nothing? Beside the rivals and the ideal code.

The ideal code is the order-0 entropy of each tensor's lattice integers rint(x / 2 eps), zeros among them, under its own
histogram, which is not counted. A tensor that repeats itself can cost less; nothing memoryless can.

Streams of many tensors need an index: a rival's cost 8 bytes more each. szdnn's frames tell their length, shape and
dtype; its archive, made with the command line, is counted as the file that it is, names and JSON header included. Of
small tensors the ideal code is optimistic: with hundreds of symbols among 2,000 values a histogram says much about the
values. The line "one histogram for all" is the entropy under the sum of the tensors' histograms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from bench import options, records
from bench.entropy import histogram_bits, lattice, order0_bits
from bench.exact import relative_eps
from bench.measure import Job
from bench.rivals.base import Array, Rival

SHAPE = (1024, 2048)
SMALL_COUNT, SMALL_SHAPE = 1000, (40, 50)
INDEX_BYTES = 8
ARCHIVE = "szdnn archive"


def pruned(share: float, shape: str) -> list[Array]:
    """Weights whose smallest, the given share, are zero: the others lie away from it, in that shape's tails."""
    rng = np.random.default_rng(5)
    weights = (rng.laplace if shape == "laplace" else rng.normal)(0, 0.02, SHAPE).astype(np.float32)
    weights[np.abs(weights) < np.quantile(np.abs(weights), share)] = 0
    return [weights]


def constant() -> list[Array]:
    """One value everywhere."""
    return [np.full(SHAPE, 0.0421, dtype=np.float32)]


def few() -> list[Array]:
    """Shared weights: normal ones moved to the nearest of 16 equally spaced centroids, in no order."""
    weights = np.random.default_rng(6).normal(0, 0.02, SHAPE)
    centroids = np.linspace(-0.06, 0.06, 16)
    return [centroids[np.clip(np.rint((weights + 0.06) / 0.008), 0, 15).astype(int)].astype(np.float32)]


def tiled() -> list[Array]:
    """A run of 4,096 Laplace values, again and again."""
    run = np.random.default_rng(7).laplace(0, 0.02, 4096).astype(np.float32)
    return [np.resize(run, SHAPE)]


def small() -> list[Array]:
    """1,000 matrices of 2,000 Laplace values, of scales from 1e-3 to 1e-1."""
    rng = np.random.default_rng(8)
    scales = 10 ** rng.uniform(-3, -1, SMALL_COUNT)
    return [rng.laplace(0, scale, SMALL_SHAPE).astype(np.float32) for scale in scales]


DATA: dict[str, Callable[[], list[Array]]] = {
    "90% zeros, laplace": lambda: pruned(0.9, "laplace"),
    "90% zeros, normal": lambda: pruned(0.9, "normal"),
    "99% zeros, laplace": lambda: pruned(0.99, "laplace"),
    "99% zeros, normal": lambda: pruned(0.99, "normal"),
    "constant": constant,
    "16 distinct values": few,
    "4,096 values repeated": tiled,
    "1,000 tensors of 2,000": small,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--data", choices=[*DATA, "all"], default="all")
    options.add_comparison(parser, "1e-2,1e-3")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 when szdnn broke a bound or lost a zero."""
    codecs = options.prepare(args)
    table: list[records.Row] = []
    for name in DATA if args.data == "all" else [args.data]:
        arrays = DATA[name]()
        for rel in args.rel:
            rows = measure_data(name, arrays, rel, codecs, args.reps)
            records.show(rows)
            table += rows
    records.save(args, table)
    return int(any(row.violations or row.zeros_changed for row in table if row.codec.startswith("szdnn")))


def bound_of(array: Array, rel: float) -> float:
    """rel times the range; of a constant, rel times its magnitude."""
    return relative_eps(array, rel) or rel * abs(float(array.flat[0]))


def measure_data(
    name: str, arrays: Sequence[Array], rel: float, codecs: Sequence[Rival], reps: int
) -> list[records.Row]:
    """A row a codec with what it takes beyond the ideal code, and the ideal code."""
    jobs = [Job(array, bound_of(array, rel)) for array in arrays]
    many = len(jobs) > 1
    index = INDEX_BYTES if many else 0
    rows = options.compare(codecs, name, f"rel {rel:g}", jobs, reps, lossless=False, index_bytes=index)
    if many:
        rows.append(archive_row(name, arrays, rel))
    bits = sum(order0_bits(job.array, job.eps) for job in jobs)
    rows = [beside_ideal(row, bits / 8, len(jobs)) for row in rows]
    if many:
        pooled = histogram_bits(np.concatenate([lattice(job.array, job.eps) for job in jobs]))
        rows.append(beside_ideal(ideal_row(name, rel, "one histogram for all", arrays, pooled), bits / 8, len(jobs)))
    return [*rows, ideal_row(name, rel, "ideal code", arrays, bits)]


def ideal_row(name: str, rel: float, label: str, arrays: Sequence[Array], bits: float) -> records.Row:
    """So many bits for all arrays together."""
    values, raw = sum(a.size for a in arrays), sum(a.nbytes for a in arrays)
    ratio = 8 * raw / bits if bits else None
    return records.Row(name, f"rel {rel:g}", label, values, round(bits / 8), bits / values, ratio)


def beside_ideal(row: records.Row, ideal: float, tensors: int) -> records.Row:
    """The row with its distance from the ideal code's bytes."""
    if row.bytes is None:
        return row
    percent = 100 * (row.bytes / ideal - 1) if ideal else None
    return replace(row, above_ideal_percent=percent, bytes_over_ideal=(row.bytes - ideal) / tensors)


def archive_row(name: str, arrays: Sequence[Array], rel: float) -> records.Row:
    """The archive of a checkpoint of these tensors, at the default effort."""
    tensors = {f"layers.{number}.weight": array for number, array in enumerate(arrays)}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.safetensors", Path(folder) / "model.szd.safetensors"
        save_file(tensors, source)
        command = [sys.executable, "-m", "szdnn", "compress", str(source), "--rel", repr(rel), "-q", "-o", str(target)]
        subprocess.run(command, check=True)
        size, raw = target.stat().st_size, sum(a.nbytes for a in arrays)
        names = (source.stat().st_size - raw) / len(arrays)
    values = sum(a.size for a in arrays)
    note = f"a whole file; the original's names and shapes take {names:.0f} bytes a tensor"
    return records.Row(name, f"rel {rel:g}", ARCHIVE, values, size, 8 * size / values, raw / size, note=note)
