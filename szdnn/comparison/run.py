"""Runs methods on a checkpoint and measures what comes of it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..baselines.base import Artefact, Context, Method, State, Unavailable, method, methods, weight_names
from ..errors import ArgumentError, Error
from .bound import Source
from .rows import Row, is_exact, layer_rows, raw_bytes, same_kind, whole
from .worker import digest, digests

if TYPE_CHECKING:
    import torch

    from ..nets.task import Task

Scored = tuple[float | None, tuple[float, float] | None]


class Scorer:
    """Scores checkpoints beside the original one, on the report examples."""

    def __init__(self, context: Context, limit: int | None = None) -> None:
        self._context = context
        self._limit = limit
        self._reference: torch.Tensor | None = None

    @property
    def available(self) -> bool:
        """Whether there is anything to score by."""
        return self._context.task is not None or self._context.score is not None

    def before(self, state: State) -> float | None:
        """The original checkpoint's score."""
        task = self._context.task
        if task is None:
            return self._context.score(state, "report") if self._context.score else None
        self._reference = task.outputs(task.model(state), "report", self._limit)
        return task.score_of(self._reference, self._targets(task))

    def after(self, state: State) -> Scored:
        """A decoded checkpoint's score, and the 95% interval of its difference to the original's."""
        task = self._context.task
        if task is None:
            return (self._context.score(state, "report") if self._context.score else None), None
        outputs, targets = task.outputs(task.model(state), "report", self._limit), self._targets(task)
        assert self._reference is not None
        return task.score_of(outputs, targets), task.interval(self._reference, outputs, targets)

    def _targets(self, task: Task) -> torch.Tensor:
        return task.examples("report", self._limit).targets


@dataclass
class Comparison:
    """Rows that come in one after another. title, metric, examples: for headings. seconds: of the machine's clock."""

    title: str
    state: State
    metric: str | None
    budget: float
    score_before: float | None
    rows: list[Row] = field(default_factory=list)

    @property
    def raw_bytes(self) -> int:
        """Bytes of all tensors."""
        return raw_bytes(self.state)

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "title": self.title,
            "metric": self.metric,
            "budget": self.budget,
            "score_before": self.score_before,
            "raw_bytes": self.raw_bytes,
            "tensors": len(self.state),
            "weights": sum(self.state[name].size for name in weight_names(self.state)),
            "rows": [row.as_json() for row in self.rows],
        }


def specifications(wanted: Sequence[str]) -> list[str]:
    """Methods of the command line's words: names, settings, families, "all"; none: all that do not train.

    Words may hold several, at commas: `fp16,kmeans:bits=5,init=linear,zips`. Raises ArgumentError for what is not
    known.
    """
    known = methods()
    families: dict[str, list[str]] = {}
    for entry in known.values():
        families.setdefault(entry.family, []).append(entry.name)
    if not wanted:
        return [name for name in known if not _trains(method(name)) and name != "szdnn-plan"]
    found: list[str] = []
    for word in _words(wanted):
        if word == "all":
            found += [name for name in known if name != "szdnn-plan"]
        elif word not in known and word in families:
            found += [name for name in families[word] if name != "szdnn-plan"]
        else:
            method(word)
            found.append(word)
    return list(dict.fromkeys(found))


def _words(wanted: Sequence[str]) -> Iterator[str]:
    for item in wanted:
        word = ""
        for part in item.split(","):
            continues = word and "=" in part and (":" not in part or part.index("=") < part.index(":"))
            if continues:
                word += f",{part}"
            else:
                if word:
                    yield word
                word = part.strip()
        if word:
            yield word


def _trains(found: Method) -> bool:
    return bool(found.trains or getattr(found, "epochs", 0))


def evaluation(spec: str) -> Callable[[State, str], float]:
    """The function of `module:function`, taking a checkpoint (name -> array) and, if it has a second parameter, the
    split "search" or "report". Raises ArgumentError.
    """
    module, colon, name = spec.partition(":")
    if not colon:
        raise ArgumentError(f"--eval takes module:function, not {spec!r}")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(f"--eval {spec}: {error}") from None
    with_split = len(inspect.signature(function).parameters) > 1

    def score(state: State, split: str) -> float:
        return float(function(state, split) if with_split else function(state))

    return score


CURVES = {
    "pruning alone": tuple(f"prune:density={d}" for d in (0.5, 0.3, 0.15, 0.08, 0.04)),
    "sharing alone": tuple(f"sharing:bits={b}" for b in (8, 5, 4, 3, 2)),
    "both": tuple(
        f"deep-compression:density={d},bits={b}" for d, b in ((0.5, 6), (0.3, 5), (0.15, 5), (0.08, 4), (0.04, 3))
    ),
}
"""Accuracy against ratio of pruning, sharing, and both: Han et al. 2016, figure 6. Methods by the name of their
curve.
"""


def curve_specifications() -> list[str]:
    """The methods of all curves whose family is there."""
    known = methods()
    return [spec for specs in CURVES.values() for spec in specs if spec.partition(":")[0] in known]


def _curve_of(spec: str) -> str | None:
    return next((name for name, specs in CURVES.items() if spec in specs), None)


def compare(
    state: State, specs: Sequence[str], context: Context, *, title: str, limit: int | None = None
) -> Iterator[Comparison]:
    """The comparison after the original was scored, and after each method; the last one has every row checked.

    limit: only so many of the report examples. Ctrl-C between methods leaves what there is.
    """
    scorer = Scorer(context, limit)
    metric = context.task.metric if context.task is not None else ("score" if context.score else None)
    found = Comparison(title, state, metric, context.budget, scorer.before(state))
    yield found
    sources = {name: Source.of(state[name]) for name in weight_names(state)}
    with tempfile.TemporaryDirectory(prefix="szdnn-compare-") as folder:
        jobs: list[tuple[str, str]] = []
        expected: dict[int, str] = {}
        for number, spec in enumerate(specs):
            context.say(f"{spec} ({number + 1} of {len(specs)})")
            row, data, sha = _one(spec, state, context, scorer, sources, found.score_before)
            found.rows.append(row)
            if data is not None:
                Path(folder, str(number)).write_bytes(data)
                jobs.append((spec, str(number)))
                expected[number] = sha
            yield found
        context.say("decoding everything in a fresh process")
        for (_, file), sha in zip(jobs, digests(Path(folder), jobs), strict=True):
            row = found.rows[int(file)]
            ok = bool(row.decoded_ok) and sha == expected[int(file)]
            problem = row.problem if ok or len(sha) == 64 else f"decoding elsewhere: {sha}"
            found.rows[int(file)] = dataclasses.replace(row, decoded_ok=ok, problem=problem)
    yield found


def _one(
    spec: str, state: State, context: Context, scorer: Scorer, sources: dict[str, Source], before: float | None
) -> tuple[Row, bytes | None, str]:
    entry = methods().get(spec.partition(":")[0])
    names = (spec, entry.family if entry else "yours", entry.summary if entry else "")
    try:
        artefact, encode, decoded, decode = method(spec).timed(state, context)
    except (Unavailable, Error) as error:
        return Row(*names, score_before=before, problem=str(error)), None, ""
    if not same_kind(state, decoded):
        problem = "decoded to other names, shapes or dtypes than the checkpoint's"
        return Row(*names, bytes=len(artefact.data), decoded_ok=False, problem=problem), None, ""
    score, interval = scorer.after(decoded)
    layers = layer_rows(sources, state, decoded, artefact.layer_bytes)
    errors = whole(layers)
    layers_ratio, bits = _of_layers(state, artefact)
    row = Row(
        *names,
        bytes=len(artefact.data),
        ratio=raw_bytes(state) / len(artefact.data),
        layers_ratio=layers_ratio,
        bits=bits,
        largest=errors.largest,
        relative=errors.relative,
        rmse=errors.rmse,
        score_before=before,
        score=score,
        interval=interval,
        encode_seconds=encode,
        decode_seconds=decode,
        decoded_ok=True,
        exact=is_exact(state, decoded),
        layers=layers,
        stages=tuple(
            (s.name, s.bytes, scorer.after(s.state)[0] if scorer.available else None) for s in artefact.stages
        ),
        details=artefact.details,
        curve=_curve_of(spec),
    )
    return row, artefact.data, digest(decoded)


def _of_layers(state: State, artefact: Artefact) -> tuple[float | None, float | None]:
    """The ratio of the weight layers, and bits a weight."""
    names = [name for name in weight_names(state) if name in artefact.layer_bytes]
    size = sum(artefact.layer_bytes[name] for name in names)
    if not names or not size:
        return None, None
    weights = sum(state[name].size for name in names)
    return sum(state[name].nbytes for name in names) / size, 8 * size / weights
