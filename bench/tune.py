"""Tuned plans against one bound for all, DeepSZ's search and NNCodec: archive bytes at equal distance of the outputs.

Every method gives a few points from coarse to fine: the whole archive is made, decoded, and the network run on the
task's report split, which no method has seen. Bytes at a given distance are interpolated between points (log of the
distance, linear in bytes), with a paired bootstrap over the report examples. The distance at which the score falls by
half a point is read from all points together, since the scores of single points are too noisy to compare at.

Points are kept in the cache folder, so that an interrupted run goes on; `--fresh` forgets them.
`python -m bench tune cost` counts evaluations against layers instead.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import szdnn
from bench import machine
from bench.tune_cost import cost
from szdnn import nets
from szdnn.baselines.peers import NNCODEC_PYTHON, NNCodec
from szdnn.nets.downloads import cache_folder
from szdnn.report import table
from szdnn.source import Array
from szdnn.tune.distance import Distance
from szdnn.tune.evaluator import Evaluator
from szdnn.tune.problem import Problem
from szdnn.tune.refine import Refinement
from szdnn.tune.worker import Worker, archive_of, put

RESULTS = Path(__file__).resolve().parent / "results" / "tune.csv"
DRAWS = 1000
UNIFORM_POINTS = 12


@dataclass(frozen=True)
class Setting:
    """A task and how many examples: for calibration, of the report split, and of the search split that DeepSZ's
    assessment runs; batch: examples at a time."""

    task: str
    calibration: int
    report: int
    search: int
    batch: int


SETTINGS = {
    "efficientnet": Setting("imagenet-sample/efficientnet-lite0", 144, 240, 8, 16),
    "minilm": Setting("stsb/minilm", 1024, 200, 16, 16),
    "resnet-20": Setting("cifar10/resnet-20", 256, 500, 100, 128),
}
LEVELS = {"kl": (0.01, 0.03), "cosine": (0.005, 0.015)}
"""Distances at which bytes are compared, beside the one of half a point."""
UNIFORM: dict[str, tuple[Callable[[float], szdnn.Bound], float, float]] = {
    "uniform Abs": (szdnn.Abs, 0.012, 0.5),
    "uniform Rel": (szdnn.Rel, 0.0015, 0.05),
    "uniform Std": (szdnn.Std, 0.012, 0.5),
}
"""The coarsest and finest of twelve bounds; Abs in units of the weights' root mean square."""
REFINED = {
    "sensitivity": (False, False),
    "sensitivity, corrected": (True, False),
    "sensitivity, compensated": (False, True),
    "sensitivity, both": (True, True),
}
BASELINES = ("uniform", "nncodec", "deepsz")
GOALS = {"uniform": 0.25, "nncodec": 0.20, "deepsz": 0.15}


@dataclass(frozen=True)
class Point:
    """A measured archive.

    distances: of the outputs of each report example from the original's. drop: of the score, in points. evaluations,
    seconds: CPU seconds and evaluations it took to come to the plan, of the first point of a method.
    """

    method: str
    knob: float
    bytes: int
    distances: list[float]
    drop: float
    seconds: float

    @property
    def distance(self) -> float:
        """The mean distance."""
        return float(np.mean(self.distances))


class TaskBench:
    """Points of all methods on one task."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.task = nets.load(setting.task)
        self.state: dict[str, Array] = dict(self.task.baseline())
        self.model = self.task.model(self.state)
        self._allocations: dict[str, Any] = {}

    @cached_property
    def reference(self) -> torch.Tensor:
        """The original's outputs on the report examples."""
        return self.task.outputs(self.model, "report", self.setting.report)

    def calls(self, split: str, limit: int) -> list[Any]:
        """Inputs of a split in batches, as arguments of calls."""
        examples = self.task.examples(split, limit)
        order = self.task.evaluation_order(examples)
        return [((self.task.prepare(examples.inputs[which]),), {}) for which in torch.split(order, self.setting.batch)]

    @cached_property
    def distance(self) -> Distance:
        """KL, or cosine for embeddings."""
        return Distance("cosine" if self.task.name == "stsb" else "kl")

    @cached_property
    def problem(self) -> Problem:
        """The network with its calibration inputs."""
        calls = self.calls("calibration", self.setting.calibration)
        worker = Worker(self.model, None, calls, self.distance, 3)
        return Problem(
            self.model, worker.original, None, calls, self.distance, szdnn.MaxBits(8), Evaluator(worker)
        )  # fmt: skip

    def allocation(self, method: str) -> Any:
        """Sensitivities and rate curves, for a refinement of the method."""
        from szdnn.tune.sensitivity import Allocation

        if method not in self._allocations:
            self.problem.transform = self.refinements[method]
            self.problem.compensate = self.refinements[method].compensate
            self._allocations[method] = Allocation(self.problem)
        return self._allocations[method]

    @cached_property
    def refinements(self) -> dict[str, Refinement]:
        """By method, sharing Hessians and reference moments."""
        from szdnn.tune.compensate import Compensator
        from szdnn.tune.correct import Corrector

        compensator, corrector = Compensator(self.problem), Corrector(self.problem)
        return {name: Refinement(*flags, compensator, corrector) for name, flags in REFINED.items()}

    def measured(self, method: str, knob: float, size: int, tensors: Mapping[str, Array], start: float) -> Point:
        """Run the network with decoded tensors on the report split."""
        model = self.task.build()
        put(model, dict(tensors))
        outputs = self.task.outputs(model, "report", self.setting.report)
        distances = self.task.divergence(self.reference, outputs).double().tolist()
        targets = self.task.examples("report", self.setting.report).targets
        drop = (self.task.score_of(self.reference, targets) - self.task.score_of(outputs, targets)) / self.task.unit
        return Point(method, knob, size, distances, drop, time.process_time() - start)

    def of_plan(self, method: str, knob: float, plan: szdnn.Plan, changed: Mapping[str, Array], start: float) -> Point:
        """The point of a plan's archive."""
        archive = archive_of({**self.state, **changed}, plan, 3)
        return self.measured(method, knob, archive.nbytes, szdnn.loads(archive, framework="numpy"), start)

    def knobs(self, method: str) -> list[float]:
        """The knobs of a method's points."""
        if method in UNIFORM:
            _, low, high = UNIFORM[method]
            return [float(k) for k in np.geomspace(low, high, UNIFORM_POINTS)]
        if method == "nncodec":
            return [float(qp) for qp in range(-36, -19, 4)]
        levels = LEVELS[self.distance.kind]
        most = 4 * levels[-1]
        if method == "deepsz":
            return [*(float(k) for k in np.geomspace(levels[0] / 4, levels[-1] * 2, 4)), most]
        return [float(k) for k in np.geomspace(levels[0] / 2, most, 4)]

    def point(self, method: str, knob: float) -> Point:
        """Measure one point."""
        start = time.process_time()
        if method in UNIFORM:
            kind = UNIFORM[method][0]
            unit = self.root_mean_square if kind is szdnn.Abs else 1.0
            return self.of_plan(method, knob, szdnn.Plan(kind(knob * unit)), {}, start)
        if method == "nncodec":
            coder = NNCodec(qp=int(knob), trellis=True)
            made = coder.fit(self.state, None)  # type: ignore[arg-type]  # the context is for choosing qp
            return self.measured(method, knob, len(made.data), coder.decode(made.data), start)
        if method == "deepsz":
            return self.of_plan(method, knob, self.assessment.plan(knob), {}, start)
        allocation = self.allocation(method)
        self.problem.transform = refinement = self.refinements[method]
        self.problem.compensate = refinement.compensate
        plan, changed = refinement(self.problem, allocation.plan(knob))
        return self.of_plan(method, knob, plan, changed, start)

    @cached_property
    def root_mean_square(self) -> float:
        """Of all weights."""
        weights = [self.state[name].astype(np.float64) for name in self.problem.weights]
        return math.sqrt(sum(np.square(w).sum() for w in weights) / sum(w.size for w in weights))

    @cached_property
    def assessment(self) -> Any:
        """DeepSZ's, its score being minus the mean distance on search examples."""
        from szdnn.tune.deepsz import Assessment

        calls = self.calls("search", self.setting.search)
        worker = Worker(self.model, None, calls, self.distance, 3)
        problem = Problem(
            self.model, worker.original, _Negated(worker), calls, self.distance, szdnn.MaxDrop(1.0), Evaluator(worker),
            baseline=0.0,
        )  # fmt: skip
        worker.evaluate = problem.evaluate
        return Assessment(problem, max(self.knobs("deepsz")), significant=min(LEVELS[self.distance.kind]) / 100)


class _Negated:
    """Minus the mean distance of the outputs on a worker's calls, as a score."""

    def __init__(self, worker: Worker) -> None:
        self.calls, self.distance = worker.calls, worker.distance
        self.reference = worker.reference()

    def __call__(self, model: torch.nn.Module) -> float:
        assert self.distance is not None
        found = [self.distance(r, model(*args, **kw)) for r, (args, kw) in zip(self.reference, self.calls, strict=True)]
        return -float(torch.cat(found).mean())


def bytes_at(points: Sequence[Point], distances: NDArray[np.float64], level: float) -> float:
    """The bytes at a mean distance by interpolation in its logarithm; NaN outside what was measured.

    distances: the points' mean distances, in their order. Of points that are larger and worse than another none counts.
    """
    order = np.argsort([p.bytes for p in points])
    sizes = np.array([points[i].bytes for i in order], dtype=float)
    means = np.log(np.maximum(distances[order], 1e-12))
    keep = means < np.minimum.accumulate(np.concatenate([[np.inf], means[:-1]]))
    sizes, means = sizes[keep], means[keep]
    target = math.log(level)
    if means.size < 2 or not means[-1] <= target <= means[0]:
        return math.nan
    return float(np.interp(-target, -means, sizes))


@dataclass(frozen=True)
class Saving:
    """By how much smaller a method is than a baseline at a distance: 1 - bytes / bytes, and its 95% interval."""

    saving: float
    low: float
    high: float


def savings(ours: Sequence[Point], baselines: Sequence[Sequence[Point]], level: float, seed: int = 0) -> Saving:
    """Against the best of the baselines; examples are drawn anew with replacement, the same for all points."""
    rng = np.random.default_rng(seed)
    families = [np.array([p.distances for p in family]) for family in (ours, *baselines)]

    def saving(which: Any) -> float:
        found = [
            bytes_at(points, rows[:, which].mean(axis=1), level)
            for points, rows in zip((ours, *baselines), families, strict=True)
        ]
        others = [size for size in found[1:] if size == size]
        return 1 - found[0] / min(others) if others else math.nan

    n = families[0].shape[1]
    drawn = np.array([saving(rng.integers(0, n, n)) for _ in range(DRAWS)])
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size else (math.nan, math.nan)
    return Saving(saving(slice(None)), float(low), float(high))


def level_of_drop(points: Sequence[Point], drop: float) -> float:
    """The distance at which the score falls by `drop`, by the median slope of all points of moderate drops."""
    slopes = [p.drop / p.distance for p in points if p.distance > 0 and 0.1 * drop <= p.drop <= 8 * drop]
    return drop / float(np.median(slopes)) if slopes else math.nan


def configure(parser: argparse.ArgumentParser) -> None:
    """Which tasks and methods, how many examples."""
    parser.add_argument("what", nargs="?", choices=["points", "cost"], default="points")
    parser.add_argument("--tasks", default=",".join(SETTINGS), help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--methods", default="", help='only these, with ";" between')
    parser.add_argument("--fresh", action="store_true", help="measure all points anew")
    parser.add_argument("--known", action="store_true", help="only points of earlier runs; measure none")
    parser.add_argument("--csv", type=Path, default=None, help=f"write the results, such as {RESULTS.name}")


def _state_file(name: str) -> Path:
    s = SETTINGS[name]
    setting = f"{name} {s.calibration} {s.report} {s.search} {szdnn.__version__}"
    return cache_folder() / "bench" / f"tune-{hashlib.sha256(setting.encode()).hexdigest()[:12]}.json"


def points_of(args: argparse.Namespace, name: str) -> Iterator[Point]:
    """All points of a task, those that are known from the cache folder."""
    path = _state_file(name)
    known: dict[str, Any] = {} if args.fresh or not path.is_file() else json.loads(path.read_text())
    bench = TaskBench(SETTINGS[name])
    methods = args.methods.split(";") if args.methods else [*UNIFORM, *REFINED, "nncodec", "deepsz"]
    for method in methods:
        if method == "nncodec" and not args.known and not os.environ.get(NNCODEC_PYTHON):
            print(f"nncodec: absent, ${NNCODEC_PYTHON} names no Python that has it", file=sys.stderr)
            continue
        for knob in bench.knobs(method):
            key = f"{method} {knob:.6g}"
            if key not in known and args.known:
                continue
            if key not in known:
                known[key] = asdict(bench.point(method, knob))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(known))
            point = Point(**known[key])
            print(
                f"{name}  {method:26s} {knob:9.4g}  {point.bytes:9d} bytes  distance {point.distance:.5f}  "
                f"drop {point.drop:6.2f}  {point.seconds:6.1f} s", file=sys.stderr, flush=True,
            )  # fmt: skip
            yield point


def rows_of(name: str, points: Sequence[Point], kind: str) -> list[dict[str, Any]]:
    """A row for each method and distance: bytes and savings against the three baselines."""
    by_method: dict[str, list[Point]] = {}
    for point in points:
        by_method.setdefault(point.method, []).append(point)
    half_point = level_of_drop(points, 0.5)
    rows = []
    for label, level in [*((f"{v:g}", v) for v in LEVELS[kind]), ("half a point", half_point)]:
        if not math.isfinite(level):
            continue
        for method, own in by_method.items():
            row: dict[str, Any] = {
                "network": name, "level": label, "distance": level, "method": method,
                "bytes": bytes_at(own, np.array([p.distance for p in own]), level),
                "examples": len(own[0].distances),
                "cpu_seconds": round(sum(p.seconds for p in own), 1),
            }  # fmt: skip
            for baseline in BASELINES:
                others = [family for m, family in by_method.items() if m.startswith(baseline)]
                if method in REFINED and others:
                    found = savings(own, others, level)
                    row |= {f"saving_{baseline}": found.saving, f"low_{baseline}": found.low,
                            f"high_{baseline}": found.high}  # fmt: skip
            rows.append(row)
    return rows


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    header = ["network at distance", "method", "bytes", *(f"fewer than {b} (goal {GOALS[b]:.0%})" for b in BASELINES)]
    lines = []
    for row in rows:
        cells = [f"{row['network']} {row['level']} ({row['distance']:.4g})", row["method"], f"{row['bytes']:.0f}"]
        for b in BASELINES:
            has = f"saving_{b}" in row
            cells.append(f"{row[f'saving_{b}']:.1%} ({row[f'low_{b}']:.1%} to {row[f'high_{b}']:.1%})" if has else "")
        lines.append(cells)
    print(table(header, lines))


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    if args.what == "cost":
        return cost(args.csv)
    unknown = set(args.tasks.split(",")) - SETTINGS.keys()
    if unknown:
        print(f"no such task: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    for name in args.tasks.split(","):
        points = list(points_of(args, name))
        rows += rows_of(name, points, "cosine" if name == "minilm" else "kl")
    _print(rows)
    if args.csv:
        names = [*dict.fromkeys(key for row in rows for key in row), "machine", "date"]
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({**row, "machine": machine.name(), "date": date.today().isoformat()} for row in rows)
    return 0
