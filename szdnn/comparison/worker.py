"""Decodes artefacts in a process that has nothing but their bytes: `python -m szdnn.comparison.worker FOLDER`.

FOLDER/jobs.json lists [specification, file]; FOLDER/digests.json gets a digest, or what went wrong, for each.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from ..baselines.base import State, method


def digest(state: State) -> str:
    """SHA-256 over names in order of the alphabet, dtypes, shapes and bits."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        total.update(json.dumps([name, value.dtype.name, list(value.shape)]).encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()


def digests(folder: Path, jobs: list[tuple[str, str]]) -> list[str]:
    """The digests of what artefacts (specification, file in the folder) decode to, by a fresh process."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", __name__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended"])[-1]
        return [f"the decoding process failed: {last}"] * len(jobs)
    found: list[str] = json.loads((folder / "digests.json").read_text())
    return found


def main(folder: Path) -> None:
    """Decode everything in the folder."""
    found = []
    for spec, file in json.loads((folder / "jobs.json").read_text()):
        try:
            found.append(digest(method(spec).decode((folder / file).read_bytes())))
        except Exception as error:  # whatever a method's decoder raises is its answer
            found.append(f"{type(error).__name__}: {error}")
    (folder / "digests.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
