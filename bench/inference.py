"""Batch-1 inference of pruned fully connected layers: sparse rows (scipy, torch) against dense BLAS, on one core.

AlexNet's and VGG-16's fc layers by their true shapes, weights synthetic, pruned to the published density by magnitude.
All ways take turns; medians of CPU time, so that other work on the machine and threads do not flatter any. Every
result is compared with the dense one. Energy is not measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import machine, records
from bench.seeds_shapes import ALEXNET, VGG_16

PAPER = 3.0
"""Deep Compression (Han et al. 2016), section 6.3: pruned against dense layers on a CPU, batch 1, geometric mean."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One layer; microseconds of CPU time a product of matrix and vector; speed-ups against the faster dense one."""

    network: str
    layer: str
    rows: int
    columns: int
    density: float
    dense_mb: float
    csr_mb: float
    numpy_dense_us: float
    torch_dense_us: float
    scipy_csr_us: float
    torch_csr_us: float
    scipy_speed_up: float
    torch_speed_up: float


def configure(parser: argparse.ArgumentParser) -> None:
    """--reps, --networks and the outputs."""
    parser.add_argument("--reps", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--networks", default="AlexNet,VGG-16", help="which (default both)")
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """A line a layer, and the geometric mean."""
    import threadpoolctl
    import torch

    torch.set_num_threads(1)
    table = []
    print(f"{machine.name()}; one thread, CPU time, medians of {args.reps} rounds", flush=True)
    print("layer                shape  density  numpy us  torch us  scipy csr  torch csr  best x")
    with threadpoolctl.threadpool_limits(1):
        for shapes in (ALEXNET, VGG_16):
            for name, shape, density in shapes.layers:
                if len(shape) == 2 and shapes.name in args.networks.split(","):
                    table.append(_measure(shapes.name, name, shape, density, args.reps))
                    _print(table[-1])
    best = [max(row.scipy_speed_up, row.torch_speed_up) for row in table]
    print(f"geometric mean {statistics.geometric_mean(best):.2f}x of the better sparse way; the paper: {PAPER:g}x")
    records.save(args, table)
    return 0


def pruned(shape: tuple[int, ...], density: float, seed: int = 0) -> Floats:
    """Gaussian weights of He's variance of which the smallest are zero."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal(shape, np.float32)
    sample = np.abs(weights.ravel()[: min(weights.size, 1 << 20)])
    weights[np.abs(weights) < np.quantile(sample, 1 - density)] = 0
    weights *= np.float32(np.sqrt(2 / shape[1]))
    return weights


def _measure(network: str, layer: str, shape: tuple[int, ...], density: float, reps: int) -> Row:
    import scipy.sparse
    import torch

    weights = pruned(shape, density)
    x = np.random.default_rng(1).standard_normal(shape[1], np.float32)
    sparse = scipy.sparse.csr_array(weights)
    tensor, vector = torch.from_numpy(weights), torch.from_numpy(x)
    rows, columns = torch.from_numpy(sparse.indptr), torch.from_numpy(sparse.indices)
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    csr = torch.sparse_csr_tensor(rows, columns, torch.from_numpy(sparse.data), shape, check_invariants=False)
    ways: dict[str, Callable[[], Any]] = {
        "numpy_dense_us": lambda: weights @ x,
        "torch_dense_us": lambda: tensor @ vector,
        "scipy_csr_us": lambda: sparse @ x,
        "torch_csr_us": lambda: csr @ vector,
    }
    expected = ways["numpy_dense_us"]()
    for way in ways.values():
        np.testing.assert_allclose(np.asarray(way()), expected, rtol=1e-3, atol=1e-3)
    times = _interleaved(ways, reps)
    dense = min(times["numpy_dense_us"], times["torch_dense_us"])
    size = (sparse.indptr.nbytes + sparse.indices.nbytes + sparse.data.nbytes) / 1e6
    kept = sparse.nnz / weights.size
    speeds = dense / times["scipy_csr_us"], dense / times["torch_csr_us"]
    about = (network, layer, shape[0], shape[1], kept, weights.nbytes / 1e6, size)
    return Row(
        *about,
        times["numpy_dense_us"],
        times["torch_dense_us"],
        times["scipy_csr_us"],
        times["torch_csr_us"],
        *speeds,
    )


def _interleaved(ways: dict[str, Callable[[], Any]], reps: int) -> dict[str, float]:
    """Microseconds of CPU time of each way, medians over rounds in which each has its turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(reps):
        for name, way in ways.items():
            start = time.process_time_ns()
            way()
            times[name].append((time.process_time_ns() - start) / 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def _print(row: Row) -> None:
    best = max(row.scipy_speed_up, row.torch_speed_up)
    shape = f"{row.rows}x{row.columns}"
    times = f"{row.numpy_dense_us:>10.0f}{row.torch_dense_us:>10.0f}{row.scipy_csr_us:>11.0f}{row.torch_csr_us:>11.0f}"
    print(f"{row.network + ' ' + row.layer:<14}{shape:>12}{row.density:>9.3f}{times}{best:>8.2f}", flush=True)
