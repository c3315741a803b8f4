"""Do two threads gain on one tensor what two processes gain on two? Wall time, 100 MB of float32 each.

Two worker processes live throughout, each with a tensor of its own. In every round, for each operation, the first works
alone with one thread (t1), then with two threads (t2), then both work at once with one thread each (t_both, from the
first start to the last end). Two threads scale by t1 / t2; two processes do twice the work, so they scale by
2 t1 / t_both, which is what the machine allows. The ratio of both scalings is t_both / (2 t2).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bench import machine, records
from bench.rivals.base import Array

OPERATIONS = ("compress", "decompress", "decompress into out")
GOAL = 0.9
IDLE = 1.7
"""What two processes gain at least where two cores are free."""


@dataclass(frozen=True)
class Scaling:
    """Medians over the rounds of one operation: seconds, and the scalings they mean."""

    operation: str
    megabytes: float
    one_thread_s: float
    two_threads_s: float
    two_processes_s: float
    thread_scaling: float
    process_scaling: float
    threads_vs_processes: float


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--edge", type=int, default=5000, help="the tensors are edge x edge (default 5000: 100 MB)")
    parser.add_argument("--rel", type=float, default=1e-2, help="the bound as a part of the range (default 1e-2)")
    parser.add_argument("--effort", type=int, default=3, help="szdnn's effort (default 3)")
    parser.add_argument("--reps", type=int, default=9, help="timed rounds (default 9)")
    parser.add_argument("--cold", action="store_true", help="let the C library return memory between runs")
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; the goal is told, not enforced: the machine may be busy."""
    print(f"{machine.name()}; wall time, {args.reps} rounds")
    table = measure(args)
    show(table)
    records.save(args, table)
    return 0


def tensor(edge: int, seed: int) -> Array:
    """Laplace values, each row and each column of its own scale: like a linear layer's weights."""
    rng = np.random.default_rng(seed)
    values = rng.laplace(0, 0.02, (edge, edge)).astype(np.float32)
    values *= np.exp(rng.normal(0, 0.3, (edge, 1))).astype(np.float32)
    values *= np.exp(rng.normal(0, 0.3, (1, edge))).astype(np.float32)
    return values


def _serve(orders: Connection, edge: int, seed: int, rel: float, effort: int, cold: bool) -> None:
    """A worker: for each (operation, threads) that it is sent, does it and sends back when it began and ended."""
    import szdnn

    if not cold:
        machine.keep_memory()
    array = tensor(edge, seed)
    bound = szdnn.Rel(rel)
    frame = szdnn.compress(array, bound, effort=effort)
    out = np.empty_like(array)
    work: dict[str, Callable[[int], Any]] = {
        "compress": lambda threads: szdnn.compress(array, bound, effort=effort, threads=threads),
        "decompress": lambda threads: szdnn.decompress(frame, threads=threads),
        "decompress into out": lambda threads: szdnn.decompress(frame, out=out, threads=threads),
    }
    orders.send("ready")
    while order := orders.recv():
        operation, threads = order
        start = time.perf_counter()
        work[operation](threads)
        orders.send((start, time.perf_counter()))


def _start(args: argparse.Namespace, seed: int) -> tuple[Any, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    settings = (theirs, args.edge, seed, args.rel, args.effort, args.cold)
    process = context.Process(target=_serve, args=settings, daemon=True)
    process.start()
    return process, ours


def wall(workers: Sequence[Connection], operation: str, threads: int) -> float:
    """Seconds from the first worker's start to the last one's end (their clock is the machine's)."""
    for worker in workers:
        worker.send((operation, threads))
    spans = [worker.recv() for worker in workers]
    return float(max(end for _, end in spans) - min(start for start, _ in spans))


def measure(args: argparse.Namespace) -> list[Scaling]:
    """All operations; a first round is not counted."""
    started = [_start(args, seed) for seed in (0, 1)]
    workers = [orders for _, orders in started]
    for worker in workers:
        worker.recv()
    times: dict[str, list[tuple[float, float, float]]] = {operation: [] for operation in OPERATIONS}
    for _ in range(args.reps + 1):
        for operation in OPERATIONS:
            alone = workers[:1]
            one, two = wall(alone, operation, 1), wall(alone, operation, 2)
            times[operation].append((one, two, wall(workers, operation, 1)))
    for process, orders in started:
        orders.send(None)
        process.join()
    megabytes = 4 * args.edge**2 / 1e6
    return [scaling(operation, megabytes, rounds[1:]) for operation, rounds in times.items()]


def scaling(operation: str, megabytes: float, rounds: Sequence[tuple[float, float, float]]) -> Scaling:
    """Medians of (one thread, two threads, two processes) and of their ratios within a round."""
    ones, twos, boths = zip(*rounds, strict=True)
    median = statistics.median
    return Scaling(
        operation,
        megabytes,
        median(ones),
        median(twos),
        median(boths),
        median(one / two for one, two, _ in rounds),
        median(2 * one / both for one, _, both in rounds),
        median(both / (2 * two) for _, two, both in rounds),
    )


def show(table: Sequence[Scaling]) -> None:
    """One line an operation."""
    titles = ("1 thread s", "2 threads s", "2 proc. s", "MB/s, 2 thr.", "threads x", "processes x", "ratio")
    print(f"\n{'':<22}" + "".join(f"{title:>14}" for title in titles))
    for row in table:
        seconds = f"{row.one_thread_s:>14.4f}{row.two_threads_s:>14.4f}{row.two_processes_s:>14.4f}"
        speed = f"{row.megabytes / row.two_threads_s:>14.0f}"
        ratios = f"{row.thread_scaling:>14.3f}{row.process_scaling:>14.3f}{row.threads_vs_processes:>14.3f}"
        print(f"{row.operation:<22}{seconds}{speed}{ratios}")
    print(f"\nratio: of both scalings; the goal is at least {GOAL}")
    if min(row.process_scaling for row in table) < IDLE:
        print("two processes gained little: the machine is not idle, or its cores are not whole ones")
