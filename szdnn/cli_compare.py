"""`szdnn compare`: the published methods, casts, zips and szdnn on one checkpoint."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from .atomic import atomic_file
from .errors import ArgumentError

if TYPE_CHECKING:
    from .comparison.run import Comparison


@click.command()
@click.argument("checkpoint", metavar="[CHECKPOINT]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--task", metavar="NAME", help="A network and its data: digits, mnist/lenet-5 ... (--list names them all)."
)
@click.option(
    "--eval", "function", metavar="MODULE:FUNCTION", help="A score of your own: function(state[, split]) -> float."
)
@click.option("--methods", metavar="NAMES", multiple=True, help='Methods, families or "all", at commas (see --list).')
@click.option("--budget", metavar="POINTS", type=click.FloatRange(0), default=0.5, show_default=True,
              help="The score that methods which choose may lose, in hundredths.")  # fmt: skip
@click.option("--effort", metavar="X", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Multiplies the epochs of methods that train.")  # fmt: skip
@click.option("--limit", metavar="N", type=click.IntRange(1), help="Score on the first N report examples only.")
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of all randomness.")
@click.option("--curves", is_flag=True, help="Also pruning and sharing at many settings, for the page's curves.")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(path_type=Path), help="Write all figures as JSON.")
@click.option("--report", metavar="FILE", type=click.Path(path_type=Path), help="Write an HTML page with plots.")
@click.option("--list", "list_only", is_flag=True, help="List methods and tasks, and end.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def compare(checkpoint: Path | None, task: str | None, function: str | None, methods: tuple[str, ...], budget: float,
            effort: float, limit: int | None, seed: int, curves: bool, json_file: Path | None, report: Path | None,
            list_only: bool, quiet: bool) -> None:  # fmt: skip
    """Compress a checkpoint by many methods; compare sizes, errors and, with a task or a function, scores.

    A task alone brings its own network. Without a task or function, sizes and errors are compared. Every artefact is
    decoded again by a process that has nothing but its bytes.
    """
    from .comparison import run, table

    if list_only:
        click.echo(_listing())
        return
    if checkpoint is None and task is None:
        raise click.UsageError("give a CHECKPOINT, a --task, or both")
    if task is not None and function is not None:
        raise click.UsageError("give either --task or --eval")
    try:
        specs = run.specifications(methods)
        context = _context(task, function, budget, effort, seed, quiet)
    except ArgumentError as error:
        raise click.UsageError(str(error)) from None
    state = _read(checkpoint) if checkpoint is not None else context.need_task().baseline()
    title = " on ".join(filter(None, [checkpoint.name if checkpoint else None, task or function]))
    specs += [spec for spec in (run.curve_specifications() if curves else []) if spec not in specs]
    found = None
    try:
        for found in run.compare(state, specs, context, title=title, limit=limit):  # noqa: B007
            pass
    finally:
        _clear(quiet)
        if found is not None:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            click.echo(table.text(found, width))
            _write(found, json_file, report)
    if found is not None and any(row.decoded_ok is False for row in found.rows):
        raise click.ClickException("an artefact did not decode to what was scored")


def _context(task: str | None, function: str | None, budget: float, effort: float, seed: int, quiet: bool) -> Any:
    from .baselines.base import Context
    from .comparison import run

    score = run.evaluation(function) if function is not None else None
    loaded = None
    if task is not None:
        from . import nets

        loaded = nets.load(task)
    return Context(loaded, budget, seed, effort, _say(quiet), score)


def _say(quiet: bool) -> Any:
    if quiet or not sys.stderr.isatty():
        return lambda line: None
    width = shutil.get_terminal_size().columns
    return lambda line: click.echo(f"\r\x1b[K{line[: width - 1]}", nl=False, err=True)


def _clear(quiet: bool) -> None:
    if not quiet and sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)


def _read(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint file, or of an archive."""
    from .api import load
    from .checkpoint import open_source
    from .errors import ArchiveError

    if path.name.endswith(".szd.safetensors"):
        found = load(path, framework="numpy")
        if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
            raise ArchiveError(f"{path}: a state with more than tensors cannot be compared")
        return found
    with open_source(path) as source:
        state = {name: np.array(source[name]) for name in source}
    if not state:
        raise ArchiveError(f"{path}: there are no tensors in it")
    return state


def _write(found: Comparison, json_file: Path | None, report: Path | None) -> None:
    if json_file is not None:
        _save(json_file, json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n")
    if report is not None:
        from .comparison.page import page

        _save(report, page(found))


def _save(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())


def _listing() -> str:
    """Methods by family, and tasks."""
    from . import nets
    from .baselines.base import methods

    rows = [[entry.name, entry.family, entry.summary] for entry in methods().values()]
    width = max(len(row[1]) for row in rows)
    lines = [f"{name:<22}{family:<{width + 2}}{summary}" for name, family, summary in rows]
    return "\n".join(["methods:", *lines, "", "tasks:", *nets.names()])
