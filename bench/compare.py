"""`szdnn compare` on the built-in tasks, into one CSV: every method's size, error and score."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import datetime
import math
import sys
from pathlib import Path
from typing import Any

from bench import machine
from szdnn import nets
from szdnn.baselines.base import Context
from szdnn.comparison import run as comparison
from szdnn.comparison import table
from szdnn.comparison.page import page, relative_rmse
from szdnn.comparison.rows import Row

_FIELDS = ["method", "family", "bytes", "ratio", "layers_ratio", "bits", "largest", "relative", "rmse", "score_before"]
_FIELDS += ["score", "interval_low", "interval_high", "encode_seconds", "decode_seconds", "decoded_ok", "exact"]
_FIELDS += ["relative_rmse", "bound_bits", "problem"]
HEADER = ["machine", "date", "task", "examples", "budget", "effort", "seed", *_FIELDS]


def configure(parser: argparse.ArgumentParser) -> None:
    """--tasks, --methods, --budget, --effort, --limit, --seed, --csv, --page."""
    parser.add_argument("--tasks", default="digits", help='tasks at commas, or "all" (default digits)')
    parser.add_argument("--methods", action="append", default=[], help="as szdnn compare takes them")
    parser.add_argument("--budget", type=float, default=0.5, help="points (default 0.5)")
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies epochs (default 1)")
    parser.add_argument("--limit", type=int, help="report examples to score")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", action="store_true", help="pruning, sharing and both at many settings, too")
    parser.add_argument("--csv", type=Path, help="write rows here, in place of those of the same task and method")
    parser.add_argument("--page", type=Path, help="write the HTML page here (one task)")


def run(args: argparse.Namespace) -> int:
    """A table a task; 1 if an artefact did not decode to what was scored."""
    failures = 0
    for name in nets.names() if args.tasks == "all" else args.tasks.split(","):
        task = nets.load(name)
        title = f"{task.name}/{task.network}"
        context = Context(
            task, args.budget, args.seed, args.effort, lambda line: print(line, file=sys.stderr, flush=True)
        )
        specs = comparison.specifications(args.methods)
        specs += [spec for spec in (comparison.curve_specifications() if args.curves else []) if spec not in specs]
        examples = len(task.examples("report", args.limit))
        for found in comparison.compare(task.baseline(), specs, context, title=title, limit=args.limit):
            if args.csv and found.rows:  # as they come: a method that trains takes an hour on a large network
                _merge(args.csv, [_line(row, args, title, examples) for row in found.rows])
        print(table.text(found), flush=True)
        failures += sum(row.decoded_ok is False for row in found.rows)
        if args.page:
            args.page.write_text(page(found))
    return int(failures > 0)


def _line(row: Row, args: argparse.Namespace, task: str, examples: int) -> dict[str, Any]:
    known = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    low, high = row.interval or (None, None)
    sizes = [math.prod(layer.shape) for layer in row.layers]
    bound = sum(layer.bound * n for layer, n in zip(row.layers, sizes, strict=True)) / sum(sizes) if sizes else None
    known |= {"interval_low": low, "interval_high": high, "bound_bits": bound}
    known |= {"relative_rmse": relative_rmse(row) if row.layers else None}
    about = [machine.name(), datetime.date.today().isoformat(), task, examples, args.budget, args.effort, args.seed]
    return dict(zip(HEADER, about, strict=False)) | {name: _text(known[name]) for name in _FIELDS}


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


def _merge(path: Path, lines: list[dict[str, Any]]) -> None:
    """The rows of these tasks and methods replaced or added."""
    old: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            old = list(csv.DictReader(file))
    new = {(line["task"], line["method"]) for line in lines}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, lineterminator="\n")
        writer.writeheader()
        writer.writerows([line for line in old if (line["task"], line["method"]) not in new] + lines)
