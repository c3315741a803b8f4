"""PointwiseRel on real first and second moments of Adam, beside SZ2's pw_rel and the rivals behind a logarithm."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from bench import moments, options, records
from bench.entropy import histogram_bits, pointwise_lattice
from bench.measure import Job
from bench.rivals import ours, pointwise
from bench.rivals.base import Array, Rival

KINDS = {"exp_avg_sq": "second moments", "exp_avg": "first moments"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--steps", type=int, default=300, help="steps of training (default 300)")
    options.add_comparison(parser, "1e-2")


def run(args: argparse.Namespace) -> int:
    """Train, measure and print; 1 when szdnn broke a bound or lost a zero."""
    lossy, lossless = codecs(args)
    table: list[records.Row] = []
    for name, net in moments.networks().items():
        trained = moments.train(net, args.steps)
        for kind, text in KINDS.items():
            arrays = list(trained[kind].values())
            data = f"{name}, Adam's {text} ({len(arrays)} tensors)"
            for r in args.rel:
                table += measure_bound(data, arrays, r, lossy, args.reps)
            jobs = [Job(array, 0.0) for array in arrays]
            rows = options.compare(lossless, data, "lossless", jobs, args.reps, lossless=True)
            if rows:
                records.show(rows)
            table += rows
    records.save(args, table)
    return int(any(row.violations or row.zeros_changed for row in table if row.codec.startswith("szdnn")))


def codecs(args: argparse.Namespace) -> tuple[list[Rival], list[Rival]]:
    """The codecs with a pointwise relative bound, and the lossless ones that were asked for."""
    general = options.prepare(args)
    wanted = {codec.name for codec in general}
    mine = [ours.SzdnnPointwise(c.effort, c.isa) for c in general if type(c) is ours.Szdnn]
    theirs = [rival for rival in pointwise.rivals() if wanted & {rival.name[: len("sz2")], rival.name[len("log+") :]}]
    present = [rival for rival in theirs if rival.available()]
    return [*mine, *present], [codec for codec in general if codec.lossless]


def measure_bound(data: str, arrays: Sequence[Array], r: float, lossy: Sequence[Rival], reps: int) -> list[records.Row]:
    """One bound: a row a codec, and the ideal memoryless code of the widest cells."""
    jobs = [Job(array, r) for array in arrays]
    rows = options.compare(lossy, data, f"pw_rel {r:g}", jobs, reps, lossless=False, baseline="sz2-pw")
    bits = sum(histogram_bits(pointwise_lattice(array, r)) for array in arrays)
    values, raw = sum(a.size for a in arrays), sum(a.nbytes for a in arrays)
    zeros = sum(int(np.count_nonzero(a == 0)) for a in arrays)
    figures = (values, round(bits / 8), bits / values, 8 * raw / bits)
    note = f"tables not counted; {zeros:,} zeros"
    rows.append(records.Row(data, f"pw_rel {r:g}", "order-0 entropy", *figures, note=note))
    records.show(rows)
    return rows
