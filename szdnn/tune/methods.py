"""The methods of tuning by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ..errors import ArgumentError
from .candidate import Candidate

METHODS = {
    "sensitivity": "szdnn.tune.sensitivity",
    "uniform": "szdnn.tune.uniform",
    "deepsz": "szdnn.tune.deepsz",
    "learned": "szdnn.tune.learned",
    "train": "szdnn.tune.train",
}
"""The module that holds each method's `search`."""


def method(name: str) -> Callable[..., Iterator[Candidate]]:
    """The method of a name. Raises ArgumentError for a name there is none of."""
    if name not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(METHODS)}, not {name!r}")
    search: Callable[..., Any] = import_module(METHODS[name]).search
    return search
