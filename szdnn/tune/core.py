"""`szdnn.tune`: the smallest archive of a network within a budget, verified jointly."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..bounds import Lossless
from ..errors import ArgumentError, BoundError
from ..plan import Plan
from ..skeleton import pack_json
from ..source import Json
from .budget import Budget, MaxDrop
from .candidate import Candidate
from .capture import as_calls, capture
from .distance import Distance, Kind, main_output
from .evaluator import Evaluator, Progress
from .knob import Drops, fits
from .methods import method as method_named
from .problem import Problem
from .result import TuneResult
from .verify import HeldOut, paired_interval
from .worker import Call, Evaluate, Job, Measured, Worker, archive_of

_FREE = {"learned", "train"}
"""Methods that make the values of their archives themselves."""


def tune(
    model: nn.Module,
    evaluate: Evaluate | None,
    *,
    budget: Budget,
    calibration: Iterable[Any] | None = None,
    train: Iterable[Any] | None = None,
    loss: Callable[[Any, Any], torch.Tensor] | None = None,
    method: str = "sensitivity",
    correct: bool = False,
    compensate: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
    report: Evaluate | None = None,
    distance: Kind | None = None,
    curve: int = 0,
    effort: int = 3,
    seed: int = 0,
    state: Path | str | None = None,
    say: Callable[[str], object] | None = None,
    **options: Any,
) -> TuneResult:
    """See `szdnn.tune`, which this is."""
    _check(model, evaluate, budget, curve)
    run = method_named(method)
    original = copy.deepcopy(model).cpu().eval()
    started = time.monotonic()
    score, examples, calls = _look(original, evaluate, calibration)
    measure = _distance_of(original, calls, distance)
    worker = Worker(original, evaluate, calls, measure, effort)
    identity = f"{getattr(evaluate, '__module__', '')}:{getattr(evaluate, '__qualname__', '')}"
    evaluator = Evaluator(worker, executor, Path(state) if state else None, identity, progress)
    problem = Problem(
        original, worker.original, evaluate, calls, measure, budget, evaluator, train, loss, effort, curve, seed,
        compensate, None, score, examples, say or (lambda _: None),
    )  # fmt: skip
    problem.transform = _transform(method, correct, compensate)
    candidates: list[Candidate] = []
    interrupted = False
    try:
        with _frozen_random(seed):
            for candidate in run(problem, **options):
                candidates.append(candidate)
    except KeyboardInterrupt:
        if not candidates:
            raise
        interrupted = True
    finally:
        evaluator.close()
    told = {"method": method, "correct": correct, "compensate": compensate, "interrupted": interrupted}
    candidates = [_with_provenance(candidate, problem, told) for candidate in candidates]
    best = _settled(problem, candidates, worker)
    held_out = None if report is None else _held_out(original, worker, best, report)
    return TuneResult(
        plan=best.plan, changed=dict(best.changed), candidates=tuple(candidates), best=best, budget=budget,
        method=method, baseline=score, evaluations=evaluator.evaluations, seconds=time.monotonic() - started,
        interrupted=interrupted, held_out=held_out, tensors=worker.original, effort=effort,
    )  # fmt: skip


def _check(model: nn.Module, evaluate: Evaluate | None, budget: Budget, curve: int) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"tune needs a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(budget, Budget):
        raise ArgumentError(f"budget must be MaxDrop, MaxBytes or MaxBits, not {budget!r}")
    if evaluate is not None and not callable(evaluate):
        raise ArgumentError("evaluate must be a function of a network")
    if evaluate is None and isinstance(budget, MaxDrop):
        raise ArgumentError("a budget of MaxDrop needs an evaluate function")
    if isinstance(curve, bool) or not isinstance(curve, int) or curve < 0:
        raise ArgumentError(f"curve must be a count of points, not {curve!r}")


def _look(
    model: nn.Module, evaluate: Evaluate | None, calibration: Iterable[Any] | None
) -> tuple[float | None, tuple[float, ...] | None, list[Call]]:
    """The original's score, of its examples too, and calibration inputs."""
    if calibration is not None:
        calls = as_calls(calibration)
        if evaluate is None:
            return None, None, calls
        score, examples, _ = capture(model, evaluate)
        return score, examples, calls
    if evaluate is None:
        raise ArgumentError("without an evaluate function, calibration inputs are needed")
    return capture(model, evaluate)


def _distance_of(model: nn.Module, calls: list[Call], kind: Kind | None) -> Distance:
    if kind is not None:
        return Distance(kind)
    args, kwargs = calls[0]
    with torch.no_grad():
        return Distance.guess(main_output(model(*args, **kwargs)))


def _transform(method: str, correct: bool, compensate: bool) -> Any:
    """What correction and compensation do to plans; None for neither."""
    if not correct and not compensate:
        return None
    if method in _FREE and compensate:
        raise ArgumentError(f"compensate is for plans on frozen weights; {method} makes its own rounding")
    from .refine import Refinement

    return Refinement(correct, compensate)


@contextmanager
def _frozen_random(seed: int) -> Iterator[None]:
    """torch's own random numbers from a seed, and as they were afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def choose(problem: Problem, candidates: list[Candidate]) -> Candidate:
    """The candidate to keep of those within the budget: for MaxDrop the smallest, else the nearest to the original.

    Raises BoundError, saying what came nearest, where none is within it.
    """
    drops = Drops(problem.baseline)
    for candidate in candidates:
        drops.add(candidate)
    fitting = [c for c in candidates if fits(problem.budget, drops, c, problem.values)]
    if isinstance(problem.budget, MaxDrop):
        if not fitting:  # then one that was lucky, as near to the original as can be
            lucky = [c for c in candidates if drops.drop(c) <= problem.budget.d]
            fitting = sorted(lucky, key=lambda c: c.divergence or 0.0)[:1]
        if not fitting and candidates:
            least = min(candidates, key=drops.drop)
            raise BoundError(
                f"tune: no plan within {problem.budget}; the best of {len(candidates)} falls by {drops.drop(least):.4g}"
                f" at {least.bytes} bytes"
            )
        return min(fitting, key=lambda c: c.bytes)
    if not fitting:
        least_bytes = min((c.bytes for c in candidates), default=0)
        raise BoundError(f"tune: no archive within {problem.budget}; the smallest has {least_bytes} bytes")
    return min(fitting, key=lambda c: (c.divergence if c.divergence is not None else drops.drop(c), c.bytes))


def _settled(problem: Problem, candidates: list[Candidate], worker: Worker) -> Candidate:
    """The candidate to keep, with the bytes of the very archive that `TuneResult.save` writes.

    The others' bytes are as they were measured and an estimate of what their provenance takes, so that one which the
    estimate lets in may turn out to be over the budget: the choice is made anew then. `candidates` is updated.
    """
    exact: set[int] = set()
    while True:
        best = choose(problem, candidates)
        place = next(i for i, candidate in enumerate(candidates) if candidate is best)
        if place in exact:
            return best
        archive = archive_of({**worker.original, **best.changed}, best.plan, worker.effort)
        candidates[place] = replace(best, bytes=archive.nbytes)
        exact.add(place)


def _held_out(model: nn.Module, worker: Worker, best: Candidate, report: Evaluate) -> HeldOut:
    """The original and the result on the report split, by a worker of the same network."""
    if hasattr(report, "compare"):  # gives its own interval, as that of a rank correlation
        holder = Worker(model, None, [], None, worker.effort)
        holder.run(Job(best.plan, best.changed))
        found: HeldOut = report.compare(model, holder.model)
        return found
    reporter = Worker(model, report, [], None, worker.effort)
    runs: list[Measured] = [
        reporter.run(Job(Plan(Lossless()), exact=False, divergence=False)),
        reporter.run(Job(best.plan, best.changed, divergence=False)),
    ]
    before, after = runs
    assert before.score is not None
    assert after.score is not None
    paired = None
    if before.examples and after.examples and len(before.examples) == len(after.examples):
        paired = paired_interval(before.examples, after.examples)
    return HeldOut(before.score, after.score, paired)


def _with_provenance(candidate: Candidate, problem: Problem, how: dict[str, Json]) -> Candidate:
    """The candidate with a plan that tells where it comes from, which counts among its bytes by an estimate."""
    told: dict[str, Json] = {
        **candidate.plan.provenance,
        "made_by": "szdnn.tune",
        **how,
        "budget": repr(problem.budget),
        "score": {"original": problem.baseline, "result": candidate.score},
        "distance": {"kind": problem.distance.kind if problem.distance else None, "mean": candidate.divergence},
    }
    plan = Plan(candidate.plan.default, candidate.plan.rules, told)
    grown = plan_bytes(plan) - plan_bytes(candidate.plan)
    return replace(candidate, plan=plan, bytes=candidate.bytes + grown)


def plan_bytes(plan: Plan) -> int:
    """About what a plan takes in an archive."""
    return len(pack_json(plan.to_dict()))
