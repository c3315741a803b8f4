"""The tasks by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ArgumentError

if TYPE_CHECKING:
    from .task import Task

Factory = Callable[[str], "Task"]
"""Makes the task for one of its networks."""

TASKS: dict[str, tuple[tuple[str, ...], Factory]] = {}
"""Name -> its networks (the first is the default) and what makes it."""


def register(name: str, networks: tuple[str, ...], factory: Factory) -> None:
    """Add a task, or replace one."""
    TASKS[name] = (networks, factory)


def names() -> list[str]:
    """Every task with each of its networks: `digits/lenet`, `mnist/lenet-300-100` ..."""
    return [f"{task}/{network}" for task, (networks, _) in TASKS.items() for network in networks]


def load(name: str) -> Task:
    """The task `digits`, or with one of its networks `mnist/lenet-5`.

    Raises ArgumentError for an unknown name and ArchiveError when a package or data file that it needs is missing.
    """
    task, _, network = name.partition("/")
    if task not in TASKS:
        raise ArgumentError(f"no task {task!r}; there are {', '.join(names())}")
    networks, factory = TASKS[task]
    if network and network not in networks:
        raise ArgumentError(f"the task {task} has the networks {', '.join(networks)}, not {network!r}")
    return factory(network or networks[0])


def _built_in(module: str, function: str) -> Factory:
    def make(network: str) -> Task:
        task: Task = getattr(importlib.import_module(f".{module}", __package__), function)(network)
        return task

    return make


register("digits", ("lenet",), _built_in("images", "digits"))
register("mnist", ("lenet-300-100", "lenet-5"), _built_in("images", "mnist"))
register("cifar10", ("resnet-20", "resnet-32"), _built_in("images", "cifar10"))
register("stsb", ("minilm",), _built_in("sentences", "stsb"))
register("imagenet-sample", ("efficientnet-lite0",), _built_in("images", "imagenet_sample"))
