"""`szdnn tune`: the smallest archive of a checkpoint within a budget."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from . import report
from .atomic import atomic_file
from .cli_files import FilePath, check_target
from .errors import ArgumentError
from .tune.budget import Budget, MaxBits, MaxBytes, MaxDrop
from .tune.methods import METHODS

if TYPE_CHECKING:
    from .tune.result import TuneResult


class _Status:
    """One line on a terminal: evaluations done, of how many, what for, and the time left."""

    def __init__(self, stream: TextIO, shown: bool) -> None:
        self._stream, self._shown, self._start = stream, shown, time.monotonic()

    def progress(self, done: int, expected: int | None, what: str) -> None:
        """Called after each evaluation."""
        seconds = time.monotonic() - self._start
        of = f"/{expected}" if expected else ""
        left = f"  about {_clock(seconds / done * max(0, expected - done))} left" if expected else ""
        self.say(f"{done}{of} evaluations  {what}{left}")

    def say(self, text: str) -> None:
        """Show what is being done."""
        if self._shown:
            line = report.shorten(f"tune  {text}", shutil.get_terminal_size().columns - 1)
            self._stream.write("\r\x1b[K" + line)
            self._stream.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _imported(text: str, option: str) -> Any:
    """The object `module:name`; modules of the working folder are found. Raises UsageError."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise click.UsageError(f"{option} takes module:function, not {text!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"{option} {text}: {error}") from None
    return found


def _budget(max_drop: float | None, max_bytes: int | None, max_bits: float | None) -> Budget:
    given: list[Budget] = []
    try:
        if max_drop is not None:
            given.append(MaxDrop(max_drop))
        if max_bytes is not None:
            given.append(MaxBytes(max_bytes))
        if max_bits is not None:
            given.append(MaxBits(max_bits))
    except ArgumentError as error:
        raise click.UsageError(str(error)) from None
    if len(given) != 1:
        raise click.UsageError("give exactly one budget of --max-drop --max-bytes --max-bits")
    return given[0]


@contextmanager
def _executor(jobs: int, cluster: str | None) -> Iterator[Executor | None]:
    """Processes of this machine, those of a Dask cluster, or None."""
    if cluster is not None:
        from .integrations import dask

        with dask.cluster(cluster) as executor:
            yield executor
    elif jobs > 1:
        import multiprocessing

        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as executor:
            yield executor
    else:
        yield None


@click.command()
@click.argument("checkpoint", metavar="CHECKPOINT", type=FilePath(), required=False)
@click.option(
    "--task", metavar="NAME", help="A network with data and score: digits, mnist/lenet-5, cifar10/resnet-20 ..."
)
@click.option("--eval", "evaluation", metavar="MODULE:FUNCTION", help="Your own score of a network; higher is better.")
@click.option("--model", "network", metavar="MODULE:FUNCTION", help="With --eval: returns the network, a torch module.")
@click.option("--report", "held_out", metavar="MODULE:FUNCTION", help="With --eval: the score on data not searched on.")
@click.option("--calibration", metavar="MODULE:FUNCTION", help="With --eval: returns batches of inputs.")
@click.option("--max-drop", metavar="D", type=float, help="The score may fall by D (of a task: points).")
@click.option("--max-bytes", metavar="N", type=int, help="The archive has at most N bytes.")
@click.option("--max-bits", metavar="B", type=float, help="The archive has at most B bits a value.")
@click.option(
    "--method", type=click.Choice(list(METHODS)), default="sensitivity", show_default=True, help="How to search."
)
@click.option("--correct", is_flag=True, help="Correct channels' means and variances in biases and norms.")
@click.option("--compensate", is_flag=True, help="Round with error feedback inside the bounds.")
@click.option("--curve", "curves", metavar="FILE", multiple=True, type=click.Path(path_type=Path),
              help="Measure more points and write bytes against score: .json or .png; may be given twice.")  # fmt: skip
@click.option("-o", "--output", metavar="OUT", type=FilePath(), help="The archive to write.")
@click.option("--plan-out", metavar="FILE", type=click.Path(path_type=Path), help="Write the plan, as JSON.")
@click.option("--state", metavar="FILE", type=click.Path(path_type=Path), help="Remember evaluations here, to resume.")
@click.option("--examples", metavar="N", type=click.IntRange(1), help="Of a task, use at most N examples a split.")
@click.option("-j", "--jobs", metavar="N", type=click.IntRange(1), default=1, help="Processes for evaluations.")
@click.option("--cluster", metavar="ADDRESS", help="Evaluate on the Dask cluster with this scheduler.")
@click.option("--effort", metavar="N", type=click.IntRange(1, 9), default=3, help="1 fast, 3 default, 9 smallest.")
@click.option("--seed", metavar="N", type=click.IntRange(0), default=0, help="Of all random numbers.")
@click.option("-f", "--force", is_flag=True, help="Overwrite outputs.")
@click.option("-q", "--quiet", is_flag=True, help="No status line, no summary.")
def tune(
    checkpoint: Any, task: str | None, evaluation: str | None, network: str | None, held_out: str | None,
    calibration: str | None, max_drop: float | None, max_bytes: int | None, max_bits: float | None, method: str,
    correct: bool, compensate: bool, curves: tuple[Path, ...], output: Any, plan_out: Path | None, state: Path | None,
    examples: int | None, jobs: int, cluster: str | None, effort: int, seed: int, force: bool, quiet: bool,
) -> None:  # fmt: skip
    """Find the smallest archive of CHECKPOINT within a budget, each plan measured as a whole: compressed, decoded, run.

    What is scored is a --task, whose checkpoint is its own where CHECKPOINT is left out, or your --model and --eval:

        szdnn tune --task digits --max-drop 0.5 -o digits.szd.safetensors

        szdnn tune net.pt --model mine:build --eval mine:score --max-bytes 100000 --compensate -o net.szd.safetensors

    Functions of --model and --calibration take nothing; those of --eval and --report take a network and return a number
    or the numbers of the examples. Ctrl-C ends the search with the best so far.
    """
    budget = _budget(max_drop, max_bytes, max_bits)
    if (task is None) == (evaluation is None):
        raise click.UsageError("give a --task, or --eval with --model")
    if evaluation is not None and (network is None or checkpoint is None):
        raise click.UsageError("--eval needs a CHECKPOINT and a --model")
    if task is not None and (network or held_out or calibration):
        raise click.UsageError("--model, --report and --calibration belong to --eval")
    for path in (*curves, *([plan_out] if plan_out else [])):
        if path.exists() and not force:
            raise click.UsageError(f"{path} exists; -f overwrites it")
    for path in curves:
        if path.suffix not in (".json", ".png"):
            raise click.UsageError(f"--curve writes .json and .png, not {path}")
    if output is not None:
        check_target(output, checkpoint if checkpoint is not None else Path(), force)
    from .tune.checkpoint import Network

    status = _Status(sys.stderr, not quiet and sys.stderr.isatty())
    try:
        with Network.open(checkpoint, task, _imported(network, "--model") if network else None) as opened:
            given = _arguments(task, evaluation, held_out, calibration, examples)
            with _executor(jobs, cluster) as executor:
                from .tune import tune as run

                result = run(
                    opened.model, budget=budget, method=method, correct=correct, compensate=compensate,
                    executor=executor, progress=status.progress, say=status.say, state=state, effort=effort,
                    seed=seed, curve=12 if curves else 0, **given,
                )  # fmt: skip
            status.close()
            if not quiet:
                click.echo(summary(result))
            for path in curves:
                write_curve(result, path)
            if plan_out:
                with atomic_file(plan_out) as file:
                    file.write(opened.plan(result).to_json().encode())
            if output is not None:
                saved = opened.save(result, output)
                if not quiet:
                    click.echo(f"{output}: {report.sizes(saved)}")
    finally:
        status.close()


def _arguments(
    task: str | None, evaluation: str | None, held_out: str | None, calibration: str | None, examples: int | None
) -> dict[str, Any]:
    """evaluate, report, calibration ... of the task, or of the user's functions."""
    if task is not None:
        from .tune.of_task import arguments

        return arguments(task, examples)
    assert evaluation is not None
    return {
        "evaluate": _imported(evaluation, "--eval"),
        "report": _imported(held_out, "--report") if held_out else None,
        "calibration": _imported(calibration, "--calibration")() if calibration else None,
    }


def summary(result: TuneResult) -> str:
    """What was found, in a few lines."""
    best = result.best
    lines = []
    if result.interrupted:
        lines.append("interrupted: this is the best so far")
    lines.append(
        f"{report.format_bytes(result.raw_bytes)} -> {report.format_bytes(best.bytes)}, ratio "
        f"{result.raw_bytes / best.bytes:.2f}, {best.bytes * 8 / result.values:.3f} bits a value"
    )
    if best.score is not None and result.baseline is not None:
        lines.append(f"search split: {result.baseline:.4g} -> {best.score:.4g}")
    if result.held_out is not None:
        h = result.held_out
        interval = f" (95%: {h.difference.low:+.3g} to {h.difference.high:+.3g})" if h.difference else ""
        lines.append(f"held out: {h.original:.4g} -> {h.result:.4g}, {h.result - h.original:+.3g}{interval}")
    else:
        lines.append("held out: not checked, no --report")
    if best.divergence is not None:
        lines.append(f"mean distance of outputs from the original's: {best.divergence:.3g}")
    lines.append(f"{result.evaluations} evaluations in {_clock(result.seconds)}")
    return "\n".join(lines)


def write_curve(result: TuneResult, path: Path) -> None:
    """The search as JSON or a picture. Raises ArgumentError where matplotlib is missing."""
    if path.suffix == ".json":
        with atomic_file(path) as file:
            file.write(result.curve_json().encode())
        return
    from .tune.picture import draw

    draw(result, path)
