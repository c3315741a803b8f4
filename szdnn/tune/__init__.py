"""Bounds chosen for a network: plans under a budget of accuracy or bytes, found by search, or learned with it.

`tune` is the way in. What a method is given is a `szdnn.tune.problem.Problem`, what it yields `Candidate` values.
torch is imported when `tune` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError
from .budget import Budget, MaxBits, MaxBytes, MaxDrop

if TYPE_CHECKING:
    from .result import TuneResult

__all__ = ["Budget", "MaxBits", "MaxBytes", "MaxDrop", "tune"]


def tune(
    model: Any,
    evaluate: Callable[[Any], Any] | None,
    *,
    budget: Budget,
    calibration: Iterable[Any] | None = None,
    train: Iterable[Any] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    method: str = "sensitivity",
    correct: bool = False,
    compensate: bool = False,
    executor: Executor | None = None,
    progress: Callable[[int, int | None, str], object] | None = None,
    report: Callable[[Any], Any] | None = None,
    distance: Literal["kl", "cosine", "mse"] | None = None,
    curve: int = 0,
    effort: int = 3,
    seed: int = 0,
    state: Path | str | None = None,
    say: Callable[[str], object] | None = None,
    **options: Any,
) -> TuneResult:
    """The plan of the smallest archive of a network within a budget, measured jointly: compressed, decoded, run.

    model: a torch.nn.Module; copies of it are worked on.
    evaluate: a function of a network that returns its score on the search split, a number or the numbers of the
        examples (whose mean is the score; then intervals of paired differences can be told). Higher is better. It gets
        a private copy in evaluation mode. None where the budget is of bytes and calibration inputs are given.
    budget: MaxDrop(d) in the score's units, MaxBytes(n) or MaxBits(b) of the archive.
    calibration: batches of inputs without labels, each a tensor, a tuple of arguments or a dict of keyword arguments.
        None: the inputs of the first 512 examples, seen while `evaluate` runs.
    train, loss: batches (input, target), and the loss of (output, target), for the methods that train.
    method: "sensitivity" (default), "uniform", "deepsz", "learned" or "train".
    correct: bring each channel's output mean and variance on the calibration inputs back to the original's by
        changing norms' statistics or biases; these tensors are then not the original's, and the archive says so.
    compensate: round to the lattice points inside each bound with second-order error feedback (GPTQ, Frantar et al.
        2023) in place of to the nearest; every bound to the original still holds.
    executor: anything with concurrent.futures' submit; single-tensor evaluations run on it. None: here.
    progress: called with evaluations done, their number at most (None: not known) and what they are for.
    report: a second `evaluate` on data that the search does not see; run for the original and the result at the end.
    distance: "kl", "cosine" or "mse" between outputs and the original's; None: cosine where these have unit length,
        else kl.
    curve: how many more points to measure, spread around the result: one search, many budgets.
    effort: as for szdnn.compress. seed: of all random numbers.
    state: a file that remembers evaluations: after an interruption the same call goes on where it was.
    say: called with what is being done now and then.
    options: the method's own.

    Ctrl-C ends the search; the best candidate so far is the result (`interrupted`).
    Raises ArgumentError for what makes no sense, BoundError where nothing is within the budget.
    """
    try:
        from .core import tune as run
    except ImportError as error:
        if error.name != "torch":
            raise
        raise ArgumentError("tune needs torch; install it with: pip install 'szdnn[torch]'") from None
    return run(
        model, evaluate, budget=budget, calibration=calibration, train=train, loss=loss, method=method,
        correct=correct, compensate=compensate, executor=executor, progress=progress, report=report,
        distance=distance, curve=curve, effort=effort, seed=seed, state=state, say=say, **options,
    )  # fmt: skip
