"""How small and how fast on the weights of pretrained networks, beside the rivals?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench import models, options, records
from bench.entropy import order0_bits
from bench.exact import relative_eps
from bench.measure import Job
from bench.rivals.base import Rival


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--model", choices=[*models.MODELS, "all"], default="all")
    options.add_comparison(parser, "1e-1,3e-2,1e-2,1e-3,1e-4")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 when szdnn broke a bound."""
    codecs = options.prepare(args)
    table: list[records.Row] = []
    for name in models.MODELS if args.model == "all" else [args.model]:
        table += measure_model(name, codecs, args.rel, args.reps)
    records.save(args, table)
    return int(any(row.violations for row in table if row.codec.startswith("szdnn")))


def measure_model(name: str, codecs: Sequence[Rival], rels: Sequence[float], reps: int) -> list[records.Row]:
    """All bounds, then the lossless codecs, on one network."""
    tensors = models.tensors(name)
    data = f"{name} ({len(tensors)} tensors)"
    table: list[records.Row] = []
    for rel in rels:
        jobs = [Job(tensor, relative_eps(tensor, rel)) for tensor in tensors.values()]
        rows = options.compare(codecs, data, f"rel {rel:g}", jobs, reps, lossless=False)
        rows.append(entropy_row(data, f"rel {rel:g}", jobs))
        records.show(rows)
        table += rows
    rows = options.compare(codecs, data, "lossless", [Job(t, 0.0) for t in tensors.values()], reps, lossless=True)
    if rows:
        records.show(rows)
    return table + rows


def entropy_row(data: str, bound: str, jobs: Sequence[Job]) -> records.Row:
    """The floor of memoryless coding with a table a tensor, tables not counted."""
    bits = sum(order0_bits(job.array, job.eps) for job in jobs)
    values = sum(job.array.size for job in jobs)
    raw = sum(job.array.nbytes for job in jobs)
    figures = (values, round(bits / 8), bits / values, 8 * raw / bits)
    return records.Row(data, bound, "order-0 entropy", *figures, note="tables not counted")
