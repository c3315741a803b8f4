"""One evaluation: a plan's tensors compressed and decoded, put into a private copy of the network, and that run.

A worker is what an executor's thread or process holds: the network, the evaluation, the calibration inputs and the
original's outputs on them. Only tensors whose bound or values changed are compressed anew.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import api, codec
from ..bounds import Bound, Lossless
from ..errors import ArgumentError
from ..files import write_archive
from ..plan import Plan
from ..source import Array
from ..state import StateSource, torch_leaves
from ..tasks import Options
from .distance import Distance, main_output

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and keyword arguments of one call of the network."""
Evaluate = Callable[[nn.Module], Any]


@dataclass(frozen=True)
class Job:
    """What is to be measured.

    plan, changed: as of `Candidate`. With `exact` false, tensors are compressed one by one and no archive is made.
    score, divergence: what to run. calls: of how many of the calibration calls the divergence is taken; None: all.
    """

    plan: Plan
    changed: Mapping[str, Array] = field(default_factory=dict)
    exact: bool = True
    score: bool = True
    divergence: bool = True
    calls: int | None = None

    def digest(self) -> str:
        """Equal for jobs that measure the same."""
        hashed = hashlib.sha256(
            pickle.dumps((self.plan.to_json(), self.exact, self.score, self.divergence, self.calls), 4)
        )
        for name in sorted(self.changed):
            array = np.ascontiguousarray(self.changed[name])
            hashed.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
        return hashed.hexdigest()


@dataclass(frozen=True)
class Measured:
    """What came of a job; None for what it did not ask for."""

    bytes: int | None
    score: float | None
    examples: tuple[float, ...] | None
    divergence: float | None
    distances: tuple[float, ...] | None


def state_arrays(model: nn.Module) -> dict[str, Array]:
    """The network's state as arrays (of ml_dtypes for bfloat16), copies; tied tensors once, under their first name."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    arrays: dict[str, Array] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() == 0 or key not in seen:
            seen.add(key)
            arrays[name] = np.array(torch_leaves().to_numpy(tensor.detach().cpu().contiguous()))
    return arrays


def put(model: nn.Module, arrays: Mapping[str, Array]) -> None:
    """Copy arrays into the network's tensors of these names."""
    state = model.state_dict()
    with torch.no_grad():
        for name, array in arrays.items():
            state[name].copy_(torch_leaves().to_torch(np.array(array, order="C")))


def scored(result: Any) -> tuple[float, tuple[float, ...] | None]:
    """What `evaluate` returned as a number, and the scores of the examples where it returned those.

    Raises ArgumentError for what is neither a real number nor a non-empty row of them.
    """
    values = np.asarray(result.detach().cpu() if isinstance(result, Tensor) else result)
    if values.dtype.kind not in "fiub" or values.ndim > 1 or values.size == 0:
        raise ArgumentError(f"evaluate must return a number or the numbers of the examples, not {result!r}")
    row = values.astype(np.float64)
    return float(row.mean()), tuple(row.tolist()) if values.ndim == 1 else None


class Worker:
    """Measures jobs on a network of its own.

    model: is kept as it is; a copy is run. calls: the calibration inputs. effort: as for szdnn.compress.
    """

    def __init__(
        self, model: nn.Module, evaluate: Evaluate | None, calls: Sequence[Call], distance: Distance | None, effort: int
    ) -> None:
        self.original = state_arrays(model)
        self.model = copy.deepcopy(model).eval()
        self.evaluate, self.calls, self.distance, self.effort = evaluate, calls, distance, effort
        self._holds: dict[str, Any] = dict.fromkeys(self.original)
        self._reference: list[Tensor] | None = None

    def reference(self) -> list[Tensor]:
        """The original network's outputs on the calibration inputs."""
        if self._reference is None:
            self._load({name: (None, array) for name, array in self.original.items()})
            self._reference = self.outputs()
        return self._reference

    def outputs(self, calls: int | None = None) -> list[Tensor]:
        """The outputs of the network as it now stands on the calibration inputs, or on those of some first calls."""
        with torch.inference_mode():
            return [main_output(self.model.eval()(*args, **kwargs)) for args, kwargs in self.calls[:calls]]

    def _load(self, wanted: Mapping[str, tuple[Any, Array]]) -> None:
        """Put tensors into the network that it does not hold; each comes with a key that tells."""
        news = {name: array for name, (key, array) in wanted.items() if key is None or key != self._holds.get(name)}
        news = {n: a for n, a in news.items() if wanted[n][0] is not None or self._holds.get(n) is not None}
        put(self.model, news)
        for name in news:
            self._holds[name] = wanted[name][0]

    def decoded(self, job: Job) -> tuple[int | None, dict[str, tuple[Any, Array]]]:
        """The archive's bytes (None unless the job is exact) and every tensor as it comes back."""
        values = {**self.original, **job.changed}
        if job.exact:
            archive = archive_of(values, job.plan, self.effort)
            back = api.loads(archive, framework="numpy")
            return archive.nbytes, {name: (object(), array) for name, array in back.items()}
        found: dict[str, tuple[Any, Array]] = {}
        for name, array in values.items():
            bound = job.plan.bound(name, array.dtype, array.shape)
            if name in job.changed or isinstance(bound, Lossless):
                found[name] = (object() if name in job.changed else None, rounded(array, bound, self.effort))
            elif bound == self._holds.get(name):
                found[name] = (bound, array)
            else:
                found[name] = (bound, rounded(array, bound, self.effort))
        return None, found

    def run(self, job: Job) -> Measured:
        """Measure a job."""
        reference = self.reference() if job.divergence and self.calls else None
        size, tensors = self.decoded(job)
        self._load(tensors)
        score, examples, distances = None, None, None
        if job.score and self.evaluate is not None:
            with torch.no_grad():
                score, examples = scored(self.evaluate(self.model.eval()))
        if reference is not None and self.distance is not None:
            pairs = zip(reference[: job.calls], self.outputs(job.calls), strict=True)
            distances = tuple(torch.cat([self.distance(x, y) for x, y in pairs]).tolist())
        divergence = float(np.mean(distances)) if distances is not None else None
        return Measured(size, score, examples, divergence, distances)


def archive_of(tensors: Mapping[str, Array], plan: Plan, effort: int) -> memoryview:
    """The archive file that `szdnn.save` writes of a state."""
    with StateSource(dict(tensors)) as source:
        file = BytesIO()
        writer, _, _ = write_archive(file, source, plan, Options(effort, verify=False), 0)
        writer.finish()
    return file.getbuffer()


def rounded(array: Array, bound: Bound, effort: int = 1) -> Array:
    """An array as it comes back from the codec."""
    if isinstance(bound, Lossless) or array.size == 0:
        return array
    return codec.decompress(codec.compress(array, bound, effort=min(effort, 3)))


_local = threading.local()


def run_remotely(digest: str, path: str, blob: bytes | None, job: Job) -> Measured | None:
    """What an executor is given: a job for the worker that is pickled in a file or in `blob`; None if it has neither.

    Each thread keeps the worker it was last given.
    """
    if getattr(_local, "digest", None) != digest:
        if blob is None:
            try:
                blob = Path(path).read_bytes()
            except OSError:
                return None
        worker: Worker = pickle.loads(blob)
        _local.worker, _local.digest = worker, digest
    found: Measured = _local.worker.run(job)
    return found
