"""szdnn itself: at a fixed bound, at the coarsest bound that keeps a budget, at bounds tuned for each layer, at a plan,
and lossless.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import api, bounds
from ..archive import Archive
from ..bounds import Bound
from ..errors import ArgumentError
from ..plan import Plan
from .base import Artefact, Context, Method, State, Unavailable, register, weight_names

_KINDS = {"abs": bounds.Abs, "rel": bounds.Rel, "std": bounds.Std, "pw-rel": bounds.PointwiseRel}
_STEPS = 24
"""Bounds that are tried between the finest and the coarsest: factors of 2^(1/2)."""


class _Archive(Method):
    """What all have in common: the bytes are an ordinary archive."""

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The archive's tensors."""
        return dict(api.loads(data, framework="numpy"))


def _saved(state: State, plan: Bound | Plan, effort: int, details: dict[str, Any]) -> Artefact:
    data = api.dumps(state, plan, effort=effort)
    with Archive(memoryview(data)) as archive:
        sizes = {name: archive.info(name).frame_bytes for name in weight_names(state)}
    return Artefact(data, sizes, details=details)


@dataclass(frozen=True)
class Bounded(_Archive):
    """One bound for all weight layers, small ones too, as the other methods have it; all else exactly.

    kind: "abs", "rel", "std" or "pw-rel". value: the bound, None for the coarsest that keeps the budget, among
    factors of the square root of two. effort: 1 to 9.
    """

    kind: str = "rel"
    value: float | None = 1e-2
    effort: int = 3

    def fit(self, state: State, context: Context) -> Artefact:
        """An archive at the bound."""
        if self.kind not in _KINDS:
            raise ArgumentError(f"no bound {self.kind!r}; there are {', '.join(_KINDS)}")
        if self.value is None:
            coarsest = 2.0 if self.kind == "std" else 0.25
            ladder = [replace(self, value=coarsest * 2 ** (-step / 2)) for step in range(_STEPS, -1, -1)]
            chosen = context.coarsest(state, ladder, lambda m: m.decode(m.fit(state, context).data))
            return chosen.fit(state, context)
        bound = _KINDS[self.kind](self.value)
        plan = Plan(bounds.Lossless(), [(name, bound) for name in weight_names(state)])
        return _saved(state, plan, self.effort, {"bound": f"{type(bound).__name__}({self.value:.4g})"})


@dataclass(frozen=True)
class Tuned(_Archive):
    """A bound for each tensor by `szdnn.tune` within the budget, values rounded with feedback inside the bounds.

    method: of `szdnn.tune`, one that does not train. compensate, correct: as there. calibration: how many inputs.
    """

    method: str = "sensitivity"
    compensate: bool = True
    correct: bool = False
    calibration: int = 256
    effort: int = 3

    def fit(self, state: State, context: Context) -> Artefact:
        """An archive of the plan that is found."""
        task = context.task
        if task is None:
            raise Unavailable("needs a --task: it runs the network")
        from ..tune import of_task
        from ..tune.budget import MaxDrop
        from ..tune.core import tune

        found = tune(
            context.model(state),
            lambda model: task.evaluate(model, "search") / task.unit,
            budget=MaxDrop(context.budget),
            calibration=of_task.inputs(task, self.calibration),
            distance=of_task.distance(task),
            method=self.method,
            compensate=self.compensate,
            correct=self.correct,
            effort=self.effort,
            seed=context.seed,
        )
        # The task's own names: a network's state may have others beside, of values that are computed.
        values = {name: found.changed.get(name, array) for name, array in state.items()}
        return _saved(values, found.plan, self.effort, {"evaluations": found.evaluations})


@dataclass(frozen=True)
class Planned(_Archive):
    """A plan (szdnn.Plan) from a JSON file, such as `szdnn tune` writes. file: its path."""

    file: str = "plan.json"
    effort: int = 3

    def fit(self, state: State, context: Context) -> Artefact:
        """An archive at the plan."""
        try:
            plan = Plan.from_json(Path(self.file).read_bytes())
        except OSError as error:
            raise ArgumentError(f"cannot read the plan {self.file}: {error.strerror}") from None
        return _saved(state, plan, self.effort, {"plan": Path(self.file).name})


@dataclass(frozen=True)
class Exact(_Archive):
    """Every bit."""

    effort: int = 3

    def fit(self, state: State, context: Context) -> Artefact:
        """A lossless archive."""
        return _saved(state, bounds.Lossless(), self.effort, {})


register("szdnn-lossless", "lossless szdnn", Exact)
register(
    "szdnn-rel-1e-3",
    "every error at most 0.1% of the layer's range",
    functools.partial(Bounded, kind="rel", value=1e-3),
)
register(
    "szdnn-rel-1e-2", "every error at most 1% of the layer's range", functools.partial(Bounded, kind="rel", value=1e-2)
)
register(
    "szdnn-pw-rel-1e-2", "every error at most 1% of the value", functools.partial(Bounded, kind="pw-rel", value=1e-2)
)
register(
    "szdnn",
    "the coarsest Std bound within the budget, for all layers",
    functools.partial(Bounded, kind="std", value=None),
)
register("szdnn-tuned", "a bound for each tensor within the budget, by szdnn.tune with compensation", Tuned)
register("szdnn-plan", "bounds of a plan: szdnn-plan:file=plan.json", Planned)
