"""How small and how fast on scientific arrays, beside the rivals?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench import options, records
from bench.exact import relative_eps
from bench.measure import Job
from bench.real_fields import REAL_FIELDS
from bench.rivals.base import Rival
from bench.synthetic import FIELDS as SYNTHETIC

FIELDS = {**SYNTHETIC, **REAL_FIELDS}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--field", choices=[*FIELDS, "all"], default="all")
    options.add_comparison(parser, "1e-2,1e-3,1e-4")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 when szdnn broke a bound."""
    codecs = options.prepare(args)
    table: list[records.Row] = []
    for name in FIELDS if args.field == "all" else [args.field]:
        table += measure_field(name, codecs, args.rel, args.reps)
    records.save(args, table)
    return int(any(row.violations for row in table if row.codec.startswith("szdnn")))


def measure_field(name: str, codecs: Sequence[Rival], rels: Sequence[float], reps: int) -> list[records.Row]:
    """All bounds, then the lossless codecs, on one field."""
    array = FIELDS[name]()
    data = f"{name} {'x'.join(map(str, array.shape))}"
    table: list[records.Row] = []
    for rel in rels:
        jobs = [Job(array, relative_eps(array, rel))]
        rows = options.compare(codecs, data, f"rel {rel:g}", jobs, reps, lossless=False)
        if rows:
            records.show(rows)
        table += rows
    rows = options.compare(codecs, data, "lossless", [Job(array, 0.0)], reps, lossless=True)
    if rows:
        records.show(rows)
    return table + rows
