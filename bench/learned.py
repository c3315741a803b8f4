"""Bounds learned by gradient descent against those of szdnn.tune's default method, weights frozen.

Both methods search for the same drop of the score; then every joint measurement of `learned` is compared with the bytes
of `sensitivity` at the same mean divergence from the original's outputs, interpolated between its measurements (both
logarithmic), since scores of a few hundred examples are too coarse to compare sizes by.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from bench import records
from bench.options import names
from szdnn import nets
from szdnn.nets.task import Task
from szdnn.tune.budget import MaxDrop
from szdnn.tune.core import tune
from szdnn.tune.result import TuneResult

NETWORKS = ["digits/lenet", "mnist/lenet-300-100", "cifar10/resnet-20"]
METHODS = ("sensitivity", "learned")
CALIBRATION, SEARCH, BATCH = 200, 500, 50


@dataclass(frozen=True)
class Row:
    """A network: the smallest archives within the drop, and sizes at equal divergence as learned / sensitivity.

    at_equal_divergence is the median over the joint measurements that lie between those of `sensitivity`, worst the
    largest of these; points how many there are. Seconds are CPU time.
    """

    network: str
    drop: float
    raw_bytes: int
    sensitivity_bytes: int
    learned_bytes: int
    sensitivity_score: float
    learned_score: float
    sensitivity_divergence: float
    learned_divergence: float
    at_equal_divergence: float
    worst: float
    points: int
    sensitivity_seconds: float
    learned_seconds: float


def configure(parser: argparse.ArgumentParser) -> None:
    """Which networks, what drop, and where the results go."""
    parser.add_argument("--networks", type=names, default=NETWORKS, metavar="A,B", help=", ".join(NETWORKS))
    parser.add_argument("--drop", type=float, default=0.005, help="of the score, 0 to 1 (default 0.005)")
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 where `learned` is more than 5% larger at equal divergence, 2 for an unknown network."""
    unknown = sorted(set(args.networks) - set(nets.names()))
    if unknown:
        print(f"learned: no network {unknown[0]}; there are {', '.join(nets.names())}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rows = []
    for name in args.networks:
        rows.append(_row(name, args.drop))
        print("\n".join(f"  {key}: {value}" for key, value in vars(rows[-1]).items()), flush=True)
        records.save(args, rows)
    return 0 if all(row.at_equal_divergence <= 1.05 for row in rows) else 1


def _row(name: str, drop: float) -> Row:
    task = nets.load(name)
    model = task.model(task.baseline())
    found, seconds = {}, {}
    for method in METHODS:
        start = time.process_time()
        found[method] = tune(
            model, _Score(task), budget=MaxDrop(drop), calibration=_calibration(task), method=method, curve=6
        )
        seconds[method] = time.process_time() - start
    ratios = _at_equal_divergence(found["sensitivity"], found["learned"])
    first, second = (found[method] for method in METHODS)
    return Row(
        name, drop, first.raw_bytes, first.best.bytes, second.best.bytes, _number(first.best.score),
        _number(second.best.score), _number(first.best.divergence), _number(second.best.divergence),
        median(ratios) if ratios else float("nan"), max(ratios, default=float("nan")), len(ratios),
        seconds["sensitivity"], seconds["learned"],
    )  # fmt: skip


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


class _Score:
    """The top-1 accuracy on a few search examples, example by example."""

    def __init__(self, task: Task) -> None:
        examples = task.examples("search", SEARCH)
        self.inputs, self.targets = task.prepare(examples.inputs), examples.targets

    def __call__(self, model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            outputs = torch.cat([model(part) for part in torch.split(self.inputs, BATCH)])
        return (outputs.argmax(-1) == self.targets).float()


def _calibration(task: Task) -> list[tuple[torch.Tensor]]:
    inputs = task.prepare(task.examples("calibration", CALIBRATION).inputs)
    return [(part,) for part in torch.split(inputs, BATCH)]


def _at_equal_divergence(first: TuneResult, second: TuneResult) -> list[float]:
    """Bytes of the second's measurements, but for those that are the first's, over those of the first's front at the
    same divergence."""
    own = {(c.bytes, c.divergence) for c in first.candidates}
    front = sorted((c.divergence, c.bytes) for c in first.curve if c.divergence)
    at = np.log([divergence for divergence, _ in front])
    sizes = np.log([size for _, size in front])
    learned = [c for c in second.curve if c.divergence and (c.bytes, c.divergence) not in own]
    inside = [c for c in learned if at[0] <= np.log(_number(c.divergence)) <= at[-1]]
    return [float(c.bytes / np.exp(np.interp(np.log(_number(c.divergence)), at, sizes))) for c in inside]
