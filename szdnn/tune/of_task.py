"""A task of `szdnn.nets` as tuning takes it: scores on its splits in its own unit, inputs, training batches."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .. import nets
from ..nets.task import Task
from .distance import Kind
from .verify import HeldOut, Interval
from .worker import Call


@functools.lru_cache(maxsize=4)
def _task(name: str) -> Task:
    return nets.load(name)


@dataclass(frozen=True)
class TaskScore:
    """The score of a network on a split of a task, in the task's unit (points); what `evaluate` and `report` are.

    Known by its name, so that it can be sent to other processes. limit: how many examples at most.
    """

    name: str
    split: str
    limit: int | None = None

    def __call__(self, model: nn.Module) -> float:
        """The score."""
        task = _task(self.name)
        return task.evaluate(model, self.split, self.limit) / task.unit

    def compare(self, original: nn.Module, result: nn.Module) -> HeldOut:
        """Both networks' scores, and the paired bootstrap interval of their difference."""
        task = _task(self.name)
        before, after = (task.outputs(m, self.split, self.limit) for m in (original, result))
        targets = task.examples(self.split, self.limit).targets
        first, second = (task.score_of(outputs, targets) / task.unit for outputs in (before, after))
        low, high = (bound / task.unit for bound in task.interval(before, after, targets))
        return HeldOut(first, second, Interval(second - first, low, high))


def inputs(task: Task, limit: int | None = None) -> Iterator[torch.Tensor]:
    """The inputs of a task's calibration split, in batches; of at most so many examples."""
    examples = task.examples("calibration", limit)
    for which in torch.split(task.evaluation_order(examples), min(task.batch, 128)):
        yield task.prepare(examples.inputs[which])


def distance(task: Task) -> Kind | None:
    """How far a task's outputs are from others; None: as the outputs look."""
    kinds: dict[str, Kind] = {"top-1 accuracy": "kl", "Spearman's correlation": "cosine"}
    return kinds.get(task.metric)


@dataclass(frozen=True)
class TaskInputs:
    """The inputs of a task's calibration split, in batches."""

    name: str
    limit: int | None = None

    def __iter__(self) -> Iterator[torch.Tensor]:
        return inputs(_task(self.name), self.limit)

    def calls(self) -> list[Call]:
        """As the arguments of calls."""
        return [((batch,), {}) for batch in self]


@dataclass
class TaskBatches:
    """Augmented training batches of a task, in another order each time they are gone through."""

    name: str
    size: int = 64
    seed: int = 0

    def __len__(self) -> int:
        task = _task(self.name)
        return -(-len(task.examples(task.training_split)) // self.size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        task = _task(self.name)
        self.seed += 1
        return task.batches(task.training_split, self.size, seed=self.seed, augment=True)


def arguments(name: str, limit: int | None = None) -> dict[str, Any]:
    """What `szdnn.tune` is given for a task: evaluate, report, calibration, train and loss.

    limit: of the calibration, search and report examples, at most so many each.
    """
    task = _task(name)
    return {
        "evaluate": TaskScore(name, "search", limit),
        "report": TaskScore(name, "report", limit),
        "calibration": TaskInputs(name, limit),
        "train": TaskBatches(name),
        "loss": task.loss,
        "distance": distance(task),
    }
