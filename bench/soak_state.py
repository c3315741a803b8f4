"""The state of a soak that is done in steps: what was checked so far, and where to go on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.soak_worker import Tally


@dataclass
class State:
    """next: the first case that no step has begun. seconds: what all steps took."""

    seed: int
    next: int = 0
    seconds: float = 0.0
    total: Tally = field(default_factory=Tally)

    def save(self, path: Path) -> None:
        """Replace the file in one step: a kill leaves the old one or the new one."""
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(temporary, path)


def load(path: Path | None, seed: int | None, default: int) -> State:
    """What the file says, or a new state of this seed. Raises ValueError where the file is of another seed."""
    if path is None or not path.exists():
        return State(default if seed is None else seed)
    found = json.loads(path.read_text())
    if seed is not None and seed != found["seed"]:
        raise ValueError(f"{path} is of seed {found['seed']}, not {seed}")
    return State(found["seed"], found["next"], found["seconds"], Tally(**found["total"]))
