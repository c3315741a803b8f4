"""A network together with the file its weights come from: names of both, and the archive that is written of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoint import open_source
from ..errors import ArchiveError, ArgumentError
from ..files import SaveReport, compress_source
from ..integrations.remote import local_target
from ..plan import Plan, Rule
from ..source import Array, Json, Source
from ..state import StateSource
from .result import TuneResult
from .worker import put, state_arrays


class _Replaced(Source):
    """A source with some tensors' values replaced."""

    def __init__(self, source: Source, changed: Mapping[str, Array]) -> None:
        super().__init__(source.path, source.specs, source.metadata)
        self.kind, self.is_model = source.kind, source.is_model
        self._source, self._changed = source, changed

    def skeleton(self) -> dict[str, Json]:
        return self._source.skeleton()

    def __getitem__(self, name: str) -> Array:
        return self._changed[name] if name in self._changed else self._source[name]


class Network:
    """A network and its checkpoint.

    model: the network with the checkpoint's weights. source: the checkpoint. names: from the names of the network's
    tensors to those of the checkpoint's.
    """

    def __init__(self, model: nn.Module, source: Source) -> None:
        self.model, self.source = model, source
        self.names = matched(model, source)
        put(model, {name: source[there] for name, there in self.names.items()})

    @classmethod
    @contextmanager
    def open(
        cls, checkpoint: Path | None, task: str | None, build: Callable[[], nn.Module] | None
    ) -> Iterator[Network]:
        """Of a task (its own checkpoint where none is given) or of a function that builds the network.

        Raises ArgumentError where the checkpoint is not of that network, ArchiveError, OSError.
        """
        if task is not None:
            from .. import nets

            loaded = nets.load(task)
            model = loaded.build()
            if checkpoint is None:
                with StateSource(loaded.baseline()) as source:
                    yield cls(model, source)
                return
        else:
            assert build is not None
            model = build()
            if not isinstance(model, nn.Module):
                raise ArgumentError(f"--model must return a torch.nn.Module, not {type(model).__name__}")
        assert checkpoint is not None
        with open_source(checkpoint) as source:
            yield cls(model, source)

    def plan(self, result: TuneResult) -> Plan:
        """The plan with the checkpoint's names; tensors that the network does not have keep the default rules."""
        plan = result.plan
        rules = [Rule(self.names.get(r.pattern, r.pattern), r.bound, r.override) for r in plan.rules]
        told = dict(plan.provenance)
        if "not_the_original" in told:
            told["not_the_original"] = {self.names.get(n, n): why for n, why in told["not_the_original"].items()}
        return Plan(plan.default, rules, told)

    def save(self, result: TuneResult, path: Any) -> SaveReport:
        """Write the checkpoint as an archive of the plan, with what the result changed in it."""
        changed = {self.names[name]: array for name, array in result.changed.items()}
        with local_target(path) as target:
            return compress_source(_Replaced(self.source, changed), target, self.plan(result), effort=result.effort)


def matched(model: nn.Module, source: Source) -> dict[str, str]:
    """The checkpoint's name of each of the network's tensors: the same, or one that ends with it after a "." or "/".

    Counters of batches may be missing. Raises ArgumentError naming what is missing or ambiguous.
    """
    names: dict[str, str] = {}
    arrays = state_arrays(model)
    for name, array in arrays.items():
        fitting = [name] if name in source.specs else [n for n in source.specs if n.endswith(("/" + name, "." + name))]
        fitting = [n for n in fitting if source.specs[n].shape == array.shape]
        if not fitting and name.endswith("num_batches_tracked"):
            continue
        if len(fitting) != 1:
            what = "has no tensor" if not fitting else "has several tensors"
            raise ArgumentError(f"{source.path} {what} for the network's {name} {list(array.shape)}")
        names[name] = fitting[0]
    if not names:
        raise ArchiveError(f"{source.path} has none of the network's tensors")
    return names
