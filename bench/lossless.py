"""How near the exponents' entropy is lossless coding, on the networks' weights as float32, bfloat16 and float16?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import ml_dtypes
import numpy as np

from bench import models, options, records
from bench.measure import Job
from bench.rivals.base import Array

# dtype, unsigned of its width, mantissa bits, exponent bits
DTYPES = {
    "float32": (np.dtype(np.float32), np.uint32, 23, 8),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.uint16, 7, 8),
    "float16": (np.dtype(np.float16), np.uint16, 10, 5),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--model", choices=[*models.MODELS, "all"], default="all")
    options.add_comparison(parser, "")


def run(args: argparse.Namespace) -> int:
    """Measure and print a table for each network and dtype."""
    codecs = options.prepare(args)
    table: list[records.Row] = []
    for name in models.MODELS if args.model == "all" else [args.model]:
        weights = models.tensors(name).values()
        for kind, (dtype, *_) in DTYPES.items():
            jobs = [Job(w.astype(dtype), 0.0) for w in weights]
            data = f"{name} as {kind} ({len(jobs)} tensors)"
            rows = options.compare(codecs, data, "lossless", jobs, args.reps, lossless=True)
            rows.append(floor_row(data, kind, [job.array for job in jobs]))
            records.show(rows)
            table += rows
    records.save(args, table)
    return 0


def floor_row(data: str, kind: str, arrays: Sequence[Array]) -> records.Row:
    """Exponents at their order-0 entropy a tensor, sign and mantissa raw, tables not counted."""
    bits = sum(array.size * floor_bits(array, kind) for array in arrays)
    values, raw = sum(a.size for a in arrays), sum(a.nbytes for a in arrays)
    figures = (values, round(bits / 8), bits / values, 8 * raw / bits)
    return records.Row(data, "lossless", "exponent entropy", *figures, note="tables not counted")


def floor_bits(array: Array, kind: str) -> float:
    """Bits a value."""
    dtype, unsigned, mantissa, exponent = DTYPES[kind]
    codes = (array.reshape(-1).view(unsigned) >> mantissa) & ((1 << exponent) - 1)
    counts = np.bincount(codes)
    share = counts[counts > 0] / array.size
    entropy = -float((share * np.log2(share)).sum())
    return entropy + int(8 * dtype.itemsize - exponent)
