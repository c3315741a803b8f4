"""One training loop for baselines and for the methods that fine-tune: seeded, on one thread, with hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import ArgumentError
from ..optimizers import make_optimizer
from .task import Task

Hook = Callable[[nn.Module], object]
Penalty = Callable[[nn.Module], torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    epochs: passes over the split; may be a fraction. rate: the learning rate at its highest.
    optimizer: "sgd" (Nesterov momentum 0.9) or "adam". decay: L2, on weights of two dimensions or more alone.
    schedule: "cosine" to zero or "constant". augment: as the task does it. batch: examples a step.
    distill: 0 learns labels alone, 1 only the outputs of the `teacher` given to `train`, as the task's divergence.
    freeze_statistics: batch norm uses and keeps its running statistics, as for a last, short fine-tuning.
    """

    epochs: float
    rate: float
    optimizer: str = "sgd"
    decay: float = 0.0
    schedule: str = "cosine"
    augment: bool = False
    batch: int = 64
    distill: float = 0.0
    freeze_statistics: bool = False


def train(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    *,
    seed: int = 0,
    after_backward: Hook | None = None,
    after_step: Hook | None = None,
    penalty: Penalty | None = None,
    teacher: nn.Module | None = None,
    split: str | None = None,
) -> nn.Module:
    """Train in place on the task's training split and return the model, in evaluation mode.

    after_backward sees the gradients (masks, sums over shared weights), after_step the new weights; penalty is added to
    the loss. The caller's random state is left alone. The same seed gives the same weights on the same machine and
    build.
    """
    if recipe.distill and teacher is None:
        raise ArgumentError("distillation needs a teacher")
    split = split or task.training_split
    steps = max(1, round(recipe.epochs * math.ceil(len(task.examples(split)) / recipe.batch)))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(trained, recipe.optimizer, recipe.rate, recipe.decay)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        model.train()
        if recipe.freeze_statistics:
            _freeze_statistics(model)
        for step, (inputs, targets) in enumerate(_endless(task, split, recipe, seed)):
            if step == steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = _rate(recipe, step / steps)
            optimizer.zero_grad()
            loss: Any = _loss(model, task, recipe, teacher, inputs, targets)
            if penalty is not None:
                loss = loss + penalty(model)
            loss.backward()
            if after_backward is not None:
                after_backward(model)
            optimizer.step()
            if after_step is not None:
                after_step(model)
    return model.eval()


def _loss(
    model: nn.Module, task: Task, recipe: Recipe, teacher: nn.Module | None, inputs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    outputs = model(inputs)
    if teacher is None or not recipe.distill:
        return task.loss(outputs, targets)
    with torch.no_grad():
        reference = teacher(inputs)
    distance = task.divergence(reference, outputs).mean()
    if recipe.distill == 1:
        return distance
    return recipe.distill * distance + (1 - recipe.distill) * task.loss(outputs, targets)


def _rate(recipe: Recipe, done: float) -> float:
    if recipe.schedule == "constant":
        return recipe.rate
    if recipe.schedule == "cosine":
        return recipe.rate * 0.5 * (1 + math.cos(math.pi * done))
    raise ArgumentError(f"no schedule {recipe.schedule!r}; there are cosine and constant")


def _endless(task: Task, split: str, recipe: Recipe, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    epoch = 0
    while True:
        yield from task.batches(split, recipe.batch, seed=1000 * seed + epoch, augment=recipe.augment)
        epoch += 1


def _freeze_statistics(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: layers this small take many times longer on several, and one gives the same sums
    always.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
