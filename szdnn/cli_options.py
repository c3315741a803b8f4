"""Options that several commands of the command line take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from . import bounds
from .bounds import Bound
from .cli_files import FilePath
from .errors import ArgumentError, BoundError
from .plan import Plan

_F = TypeVar("_F", bound=Callable[..., Any])

argument_in = click.argument("path", metavar="IN", type=FilePath())
output = click.option("-o", "--output", metavar="OUT", type=FilePath(), help='The file or URL to write, or "-".')
threads = click.option("-T", "--threads", metavar="N", type=click.IntRange(1), help="Threads to use.")
force = click.option("-f", "--force", is_flag=True, help="Overwrite the output; write to a terminal.")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bar, no total.")
max_bytes = click.option(
    "--max-bytes", metavar="N", type=click.IntRange(0), help="Refuse tensors of more bytes than that."
)
reference = click.option(
    "--reference", metavar="BASE", type=FilePath(), help="What IN holds differences to, if it is not where IN says."
)

_BOUNDS: dict[str, tuple[Callable[[float], Bound], str, str]] = {
    "abs": (bounds.Abs, "E", "Every error at most E."),
    "rel": (bounds.Rel, "R", "Every error at most R times the tensor's range of values."),
    "std": (bounds.Std, "C", "Every error at most C times the tensor's standard deviation."),
    "pw_rel": (bounds.PointwiseRel, "R", "Every error at most R times the value's size; the sign is kept."),
    "psnr": (bounds.PSNR, "DB", "A peak signal-to-noise ratio of at least DB decibels."),
    "rmse": (bounds.RMSE, "V", "A root mean square error of at most V."),
    "bits": (bounds.Bits, "B", "At most B bits a value."),
}


def bounds_or_plan(command: _F) -> _F:
    """Adds an option for each bound, --lossless and --plan."""
    command = click.option(
        "--plan", metavar="FILE", type=click.Path(path_type=Path), help="Bounds by tensor name, as JSON (szdnn.Plan)."
    )(command)
    command = click.option("--lossless", is_flag=True, help="Every bit comes back.")(command)
    for name, (_, metavar, text) in reversed(_BOUNDS.items()):
        flag = "--" + name.replace("_", "-")
        command = click.option(flag, name, type=float, metavar=metavar, help=text)(command)
    return command


def one_plan(lossless: bool, plan: Path | None, values: dict[str, float | None]) -> Plan:
    """The only bound or plan of the options. Raises UsageError for none, several, and values that no bound has."""
    given = {name: value for name, value in values.items() if value is not None}
    if len(given) + lossless + (plan is not None) != 1:
        flags = " ".join("--" + name.replace("_", "-") for name in _BOUNDS)
        raise click.UsageError(f"give exactly one bound of {flags} --lossless, or a --plan")
    try:
        if plan is not None:
            return Plan.from_json(plan.read_bytes())
        if lossless:
            return Plan(bounds.Lossless())
        name, value = given.popitem()
        return Plan(_BOUNDS[name][0](value))
    except (BoundError, ArgumentError) as error:
        raise click.UsageError(f"{plan}: {error}" if plan else str(error)) from None
