"""A point of a search: a plan, what it changes in the network, and what came of measuring both jointly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..plan import Plan
from ..source import Array


@dataclass(frozen=True)
class Candidate:
    """A plan that was measured: the whole archive made, decoded, and run.

    plan: a bound for every tensor; they refer to the original values unless the plan's provenance says otherwise.
    changed: the tensors that are compressed in place of the original's: moved onto lattice points within their bounds
        (compensation), corrected, or trained. Arrays of the original's dtypes and shapes by name.
    knob: what the method varied to get here; within one method, larger is coarser.
    bytes: the archive's, by making it.
    score: what `evaluate` returned on the search split, higher is better; None where it was not asked.
    divergence: the mean distance of the outputs from the original network's on the calibration inputs; None as above.
    examples: the scores of the single examples, where `evaluate` returns them.
    """

    plan: Plan
    changed: Mapping[str, Array] = field(repr=False)
    knob: float
    bytes: int
    score: float | None
    divergence: float | None
    examples: Any = field(default=None, repr=False)
