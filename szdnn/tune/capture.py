"""Calibration inputs: as given, or seen by a hook while the evaluation runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .distance import main_output
from .worker import Call, Evaluate, scored

EXAMPLES = 512
"""Captured examples at most: calls beyond are not kept."""


def as_calls(calibration: Iterable[Any]) -> list[Call]:
    """Batches of inputs as the arguments of calls: a tensor, a tuple of positional or a mapping of keyword arguments.

    Raises ArgumentError for anything else, and for no batches.
    """
    calls: list[Call] = []
    for batch in calibration:
        if isinstance(batch, Mapping):
            calls.append(((), dict(batch)))
        elif isinstance(batch, (tuple, list)):
            calls.append((tuple(batch), {}))
        elif isinstance(batch, Tensor):
            calls.append(((batch,), {}))
        else:
            raise ArgumentError(
                f"a calibration batch is a tensor, a tuple of arguments or a dict of them, not {type(batch).__name__}"
            )
    if not calls:
        raise ArgumentError("there are no calibration batches")
    return calls


def capture(model: nn.Module, evaluate: Evaluate) -> tuple[float, tuple[float, ...] | None, list[Call]]:
    """Run an evaluation: the score, the scores of its examples if it gives them, and the first calls it made.

    Raises ArgumentError where it never ran the network.
    """
    calls: list[Call] = []
    seen = 0

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        nonlocal seen
        if seen < EXAMPLES:
            calls.append((_copied(args), _copied(kwargs)))
            seen += main_output(output).shape[0]

    handle = model.register_forward_hook(keep, with_kwargs=True)
    try:
        with torch.no_grad():
            score, examples = scored(evaluate(model))
    finally:
        handle.remove()
    if not calls:
        raise ArgumentError("evaluate did not run the network it was given, so there are no inputs to calibrate with")
    return score, examples, calls


def _copied(value: Any) -> Any:
    """The same with tensors of its own, usable where gradients are taken."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (tuple, list)):
        return type(value)(_copied(item) for item in value)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value
