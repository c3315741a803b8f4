"""What tuning gives back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import api
from ..files import SaveReport
from ..plan import Plan
from ..source import Array, Json
from .budget import Budget
from .candidate import Candidate
from .verify import HeldOut


@dataclass(frozen=True)
class TuneResult:
    """The best plan found, and the whole search.

    plan: to be saved by. Its provenance tells method, budget, scores, and which tensors are not the original's.
    changed: tensors that take the place of the original's in the archive (corrected, compensated, trained), by name.
    best: the candidate that the plan is of. candidates: all that were measured jointly, in their order.
    baseline: the original's score on the search split.
    evaluations: how often the network was run over the search split or the calibration inputs.
    held_out: the comparison on the report split, None without one.
    """

    plan: Plan
    changed: dict[str, Array] = field(repr=False)
    candidates: tuple[Candidate, ...] = field(repr=False)
    best: Candidate = field(repr=False)
    budget: Budget
    method: str
    baseline: float | None
    evaluations: int
    seconds: float
    interrupted: bool
    held_out: HeldOut | None
    tensors: dict[str, Array] = field(repr=False)
    effort: int = 3

    @property
    def raw_bytes(self) -> int:
        """The uncompressed bytes of all tensors."""
        return sum(array.nbytes for array in self.tensors.values())

    @property
    def values(self) -> int:
        """The values of all tensors."""
        return sum(array.size for array in self.tensors.values())

    @property
    def curve(self) -> tuple[Candidate, ...]:
        """The candidates from small to large of which none is both smaller and nearer to the original."""
        kept: list[Candidate] = []
        for candidate in sorted(self.candidates, key=lambda c: (c.bytes, _badness(c))):
            if not kept or _badness(candidate) < _badness(kept[-1]):
                kept.append(candidate)
        return tuple(kept)

    def state(self) -> dict[str, Array]:
        """The tensors to be compressed by the plan: the network's, with `changed` over them."""
        return {**self.tensors, **self.changed}

    def save(self, path: Path | str, **options: Any) -> SaveReport:
        """Write the network's state as an archive of the plan; options as for szdnn.save."""
        return api.save(path, self.state(), self.plan, **{"effort": self.effort, **options})

    def curve_points(self) -> list[dict[str, Json]]:
        """All candidates measured jointly, from small to large, as JSON's own types."""
        front = {id(c) for c in self.curve}
        return [
            {
                "bytes": c.bytes,
                "ratio": self.raw_bytes / c.bytes,
                "score": c.score,
                "drop": None if c.score is None or self.baseline is None else self.baseline - c.score,
                "distance": c.divergence,
                "knob": c.knob,
                "best": c is self.best or c.plan.rules == self.best.plan.rules,
                "front": id(c) in front,
                "plan": c.plan.to_dict(),
            }
            for c in sorted(self.candidates, key=lambda c: c.bytes)
        ]

    def curve_json(self) -> str:
        """The whole search as JSON text: what it was, and a point for each joint measurement with its plan."""
        data = {
            "szdnn_curve": 1,
            "method": self.method,
            "budget": repr(self.budget),
            "raw_bytes": self.raw_bytes,
            "baseline": self.baseline,
            "evaluations": self.evaluations,
            "seconds": round(self.seconds, 3),
            "points": self.curve_points(),
        }
        return json.dumps(data, indent=1) + "\n"


def _badness(candidate: Candidate) -> float:
    if candidate.divergence is not None:
        return candidate.divergence
    return -candidate.score if candidate.score is not None else 0.0
