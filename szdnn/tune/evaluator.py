"""Evaluations: counted, remembered in a file, one at a time here or several at a time on an executor."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..atomic import atomic_file
from ..errors import ArgumentError, Error
from .worker import Job, Measured, Worker, run_remotely

Progress = Callable[[int, int | None, str], object]
"""Called with the evaluations done, how many there will be at most (None: not known), and what is being done."""
_SAVE_EVERY = 5.0
STATE_VERSION = 1


class Evaluator:
    """Runs jobs, remembering what came of each.

    worker: what runs them here, and whose copies run them on the executor.
    executor: anything with concurrent.futures' submit; None: here, one after the other.
    state: a file that remembers measurements between runs; those of the same network, data and job are not repeated.
    identity: what else a measurement depends on, such as the evaluation's name.

    `evaluations` counts jobs that were asked for, remembered ones too.
    Raises ArgumentError where the state file is not one, or is of another network or evaluation.
    """

    def __init__(
        self, worker: Worker, executor: Executor | None = None, state: Path | None = None, identity: str = "",
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.worker, self.executor, self.progress = worker, executor, progress
        self.evaluations, self.repeated = 0, 0
        self.expected: int | None = None
        self._state, self._saved = state, time.monotonic()
        self._identity = _fingerprint(worker, identity)
        self._known: dict[str, Measured] = _read_state(state, self._identity) if state else {}
        self._blob: tuple[str, Path] | None = None

    def run(self, job: Job, what: str = "") -> Measured:
        """Measure a job."""
        return next(iter(self.run_all([job], what)))

    def run_all(self, jobs: Iterable[Job], what: str = "") -> Iterator[Measured]:
        """Measure jobs, on the executor at once; in their order."""
        listed = list(jobs)
        keys = [job.digest() for job in listed]
        futures = self._submit(listed, keys) if self.executor and len(listed) > 1 else {}
        try:
            for job, key in zip(listed, keys, strict=True):
                if key in self._known:
                    self.repeated += 1
                else:
                    self._known[key] = self._finish(futures[key], job) if key in futures else self.worker.run(job)
                    self._remember()
                self.evaluations += 1
                if self.progress:
                    self.progress(self.evaluations, self.expected, what)
                yield self._known[key]
        finally:
            for future in futures.values():
                future.cancel()

    def _submit(self, jobs: list[Job], keys: list[str]) -> dict[str, Future[Measured | None]]:
        digest, path = self._pickled()
        assert self.executor is not None
        return {
            key: self.executor.submit(run_remotely, digest, str(path), None, job)
            for job, key in zip(jobs, keys, strict=True)
            if key not in self._known
        }

    def _finish(self, future: Future[Measured | None], job: Job) -> Measured:
        found = future.result()
        if found is None:  # an executor on another machine
            digest, path = self._pickled()
            assert self.executor is not None
            found = self.executor.submit(run_remotely, digest, str(path), path.read_bytes(), job).result()
        if found is None:
            raise Error("tune: the executor could not be given the network")
        return found

    def _pickled(self) -> tuple[str, Path]:
        """The worker in a file, for processes of this machine; written once."""
        if self._blob is None:
            try:
                blob = pickle.dumps(self.worker)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise ArgumentError(
                    f"tune: an executor needs a network and an evaluation that can be pickled, such as functions of a "
                    f"module: {error}"
                ) from None
            handle, name = tempfile.mkstemp(prefix="szdnn-tune-", suffix=".pickle")
            with os.fdopen(handle, "wb") as file:
                file.write(blob)
            self._blob = hashlib.sha256(blob).hexdigest(), Path(name)
        return self._blob

    def _remember(self) -> None:
        if self._state and time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write the state file, if there is to be one."""
        if self._state is None:
            return
        known = {key: asdict(found) for key, found in self._known.items()}
        with atomic_file(self._state) as file:
            data = {"szdnn_tune_state": STATE_VERSION, "of": self._identity, "measured": known}
            file.write(json.dumps(data).encode())
        self._saved = time.monotonic()

    def close(self) -> None:
        """Save the state and remove what was written for the executor."""
        self.save()
        if self._blob is not None:
            with suppress(OSError):
                self._blob[1].unlink()
            self._blob = None


def _fingerprint(worker: Worker, identity: str) -> str:
    """A digest of the network's values and of what it is measured on."""
    hashed = hashlib.sha256(f"{identity} {worker.effort} {worker.distance}".encode())
    for name, array in worker.original.items():
        hashed.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    hashed.update(pickle.dumps([[tuple(t.shape) for t in args if hasattr(t, "shape")] for args, _ in worker.calls]))
    return hashed.hexdigest()


def _read_state(path: Path, identity: str) -> dict[str, Measured]:
    if not path.exists():
        return {}
    try:
        data: Any = json.loads(path.read_bytes())
        if data["szdnn_tune_state"] != STATE_VERSION:
            raise ValueError("another version")
        known = {key: _measured(found) for key, found in data["measured"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(f"{path} is not a state of tune: {error}") from None
    if data["of"] != identity:
        raise ArgumentError(f"{path} remembers another network or another evaluation; give a new file or remove it")
    return known


def _measured(found: dict[str, Any]) -> Measured:
    rows = {key: tuple(found[key]) if found[key] is not None else None for key in ("examples", "distances")}
    return Measured(**{**found, **rows})
