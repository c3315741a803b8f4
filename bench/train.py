"""Networks trained for size by szdnn.tune's method `train`: the whole archive's ratio at the error that is allowed.

Each network has a goal, a ratio and a score; it is trained for a few bytes less than the ratio allows and the decoded
archive is scored on the data set's official test examples, once, at the end. Three seeds (shuffling, augmentation); the
start is the task's own checkpoint. Runs are added to the CSV file, in place of older ones of the same network, ratio
and seed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median

import torch

import szdnn
from bench import records
from bench.options import names
from bench.warp import Warp
from szdnn import nets
from szdnn.nets.images import ImageTask
from szdnn.nets.task import Task
from szdnn.tune.size_model import EFFORT
from szdnn.tune.train import Recipe, Training

RESULTS = Path(__file__).resolve().parent / "results" / "train.csv"


@dataclass(frozen=True)
class Goal:
    """What a network is to reach: at least `ratio`, with an error of at most `error`, a fraction of the test examples.

    drop: with it, the error counts from the original's. shift: by how many pixels at most the task's own augmentation
    moves images, if not by as many as it does. warp: how far to deform images (`Warp`) instead of that augmentation, if
    at all. Strong augmentation takes capacity that a small archive does not have.
    """

    task: str
    ratio: float
    error: float
    recipe: Recipe
    batch: int
    drop: bool = False
    shift: int | None = None
    warp: float = 0.0


RESNETS = Recipe(epochs=20, rate=0.05, optimizer="sgd", decay=5e-4, low_precision=True)
GOALS = {
    "LeNet-300-100": Goal("mnist/lenet-300-100", 150, 0.0164, Recipe(epochs=40), 256, warp=1.0),
    "LeNet-5": Goal("mnist/lenet-5", 300, 0.0080, Recipe(epochs=60, low_precision=True), 256, warp=0.7),
    "ResNet-20": Goal("cifar10/resnet-20", 47.1, 0.005, replace(RESNETS, epochs=30), 128, drop=True),
    "ResNet-32": Goal("cifar10/resnet-32", 47.1, 0.005, RESNETS, 128, drop=True),
}


@dataclass(frozen=True)
class Run:
    """What came of one run. Errors are fractions of the test examples; minutes are CPU time of one thread."""

    network: str
    seed: int
    epochs: float
    goal_ratio: float
    goal_error: float
    original_bytes: int
    archive_bytes: int
    ratio: float
    original_error: float
    error: float
    estimate_off: float
    minutes: float

    @property
    def is_met(self) -> bool:
        """Whether ratio and error are what was to be reached."""
        return self.ratio >= self.goal_ratio and self.error <= self.goal_error + 1e-9


class Batches:
    """Shuffled, augmented batches of a task's training examples, others in each pass."""

    def __init__(self, task: Task, goal: Goal, seed: int) -> None:
        if goal.shift is not None and isinstance(task, ImageTask):
            task = replace(task, shift=goal.shift)
        self.task, self.goal, self.seed, self.passes = task, goal, seed, 0
        inputs = task.examples("train").inputs
        self.count = len(inputs)
        generator = torch.Generator().manual_seed(seed)
        self.warp = Warp(inputs.shape[-1], generator, goal.warp) if goal.warp else None

    def __len__(self) -> int:
        return -(-self.count // self.goal.batch)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.passes += 1
        seed = 1000 * self.seed + self.passes
        for images, labels in self.task.batches("train", self.goal.batch, seed=seed, augment=self.warp is None):
            yield (self.warp(images) if self.warp else images), labels


def configure(parser: argparse.ArgumentParser) -> None:
    """Which networks and seeds, and where results go."""
    parser.add_argument("--networks", type=names, default=list(GOALS), metavar="A,B", help=", ".join(GOALS))
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each network (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N", help="the first of them (default 0)")
    parser.add_argument("--ratio", type=float, help="train for this ratio instead of the goal's")
    parser.add_argument("--epochs", type=float, help="passes over the training examples instead of the goal's")
    parser.add_argument("--shift", type=int, metavar="PIXELS", help="move images by no more than that")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the archives there")
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="FILE", help="where rows are added")


def run(args: argparse.Namespace) -> int:
    """Train, score, add rows; 1 where a goal was missed, 2 for a name there is none of."""
    unknown = [name for name in args.networks if name not in GOALS]
    if unknown:
        print(f"train: no network {unknown[0]}; there are {', '.join(GOALS)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    found = []
    for name in args.networks:
        goal = GOALS[name]
        goal = replace(goal, ratio=args.ratio or goal.ratio, shift=args.shift if args.shift is not None else goal.shift)
        goal = replace(goal, recipe=replace(goal.recipe, epochs=args.epochs or goal.recipe.epochs))
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            found.append(train(name, goal, seed, args.keep))
            add(args.csv, found[-1])
        show([one for one in found if one.network == name])
    return 0 if all(one.is_met for one in found) else 1


def train(name: str, goal: Goal, seed: int, keep: Path | None) -> Run:
    """One run."""
    task = nets.load(goal.task)
    original = task.model(task.baseline())
    before = 1 - task.evaluate(original, "test")
    start = time.process_time()
    torch.manual_seed(seed)
    training = Training(original, goal.recipe)
    worst = 0.0
    for step in training.run(Batches(task, goal, seed), task.loss, 0.99 * training.raw / goal.ratio):
        off = step.estimate / step.bytes - 1
        worst = max(worst, abs(off)) if step.done > 0.5 else worst
        found = 1 - task.evaluate(task.model(training.state()), "search", 2000)
        print(
            f"{name} seed {seed} {100 * step.done:5.1f}%: loss {step.loss:.4f}, {step.bytes} bytes, ratio "
            f"{training.raw / step.bytes:.1f} (estimate {100 * off:+.2f}%), price {step.price:.2e}, error "
            f"{100 * found:.2f}% of 2000 held out, {(time.process_time() - start) / 60:.1f} min",
            flush=True,
        )
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            szdnn.save(keep / f"{name}-{seed}.szd.safetensors", training.state(), training.plan(), effort=EFFORT)
    data = szdnn.dumps(training.state(), training.plan(), effort=EFFORT)
    after = 1 - task.evaluate(task.model(szdnn.loads(data, framework="numpy")), "test")
    allowed = goal.error + (before if goal.drop else 0.0)
    minutes = (time.process_time() - start) / 60
    return Run(
        name, seed, goal.recipe.epochs, goal.ratio, allowed, training.raw, len(data), training.raw / len(data),
        before, after, worst, minutes,
    )  # fmt: skip


def add(path: Path, one: Run) -> None:
    """Add a run to the CSV file, in place of an older one of its network, ratio and seed."""
    key = (one.network, one.goal_ratio, one.seed)
    kept = [other for other in read(path) if (other.network, other.goal_ratio, other.seed) != key]
    order = {name: i for i, name in enumerate(GOALS)}
    records.write_csv(
        path, sorted([*kept, one], key=lambda r: (order.get(r.network, len(order)), r.goal_ratio, r.seed))
    )


def read(path: Path) -> list[Run]:
    """The runs in a CSV file; none where there is no file."""
    if not path.exists():
        return []
    kinds = {"network": str, "seed": int, "original_bytes": int, "archive_bytes": int}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Run(**{f.name: kinds.get(f.name, float)(row[f.name]) for f in fields(Run)}) for row in rows]


def show(runs: list[Run]) -> None:
    """A line a run, and the median."""
    for one in runs:
        data = asdict(one)
        print(
            "{network} seed {seed}: {original_bytes} -> {archive_bytes} bytes, ratio {ratio:.1f}; ".format(**data)
            + f"error {100 * one.original_error:.2f}% -> {100 * one.error:.2f}%; goal {one.goal_ratio:g} at "
            f"{100 * one.goal_error:.2f}%: {'met' if one.is_met else 'MISSED'}; {one.minutes:.0f} min"
        )
    errors = [one.error for one in runs]
    print(
        f"{runs[0].network}: median ratio {median(one.ratio for one in runs):.1f}, median error "
        f"{100 * median(errors):.2f}% ({100 * min(errors):.2f} to {100 * max(errors):.2f}%)"
    )
