"""Options and steps that the comparing commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench import machine, measure, records, rivals
from bench.rivals import memcpy, ours
from bench.rivals.base import Rival


def floats(text: str) -> list[float]:
    """A comma-separated list of numbers."""
    return [float(part) for part in text.split(",") if part]


def names(text: str) -> list[str]:
    """A comma-separated list of words."""
    return [part for part in text.split(",") if part]


def integers(text: str) -> list[int]:
    """A comma-separated list of whole numbers."""
    return [int(part) for part in text.split(",")]


def add_comparison(parser: argparse.ArgumentParser, rel: str) -> None:
    """--rel, --rivals, --effort, --reps, --cold and the outputs."""
    parser.add_argument("--rel", type=floats, default=floats(rel), help=f"bounds as parts of the range (default {rel})")
    parser.add_argument("--rivals", default="all", help="comma-separated names, all (default) or none")
    parser.add_argument("--effort", type=integers, action="extend", help="szdnn's efforts, 3,9 or repeated (default 3)")
    isas = "szdnn's instruction sets: auto (default), scalar, avx2, avx512; comma-separated or repeated"
    parser.add_argument("--isa", type=names, action="extend", help=isas)
    parser.add_argument("--reps", type=int, default=3, help="timed repetitions (default 3)")
    parser.add_argument("--cold", action="store_true", help="let the C library return memory between runs")
    records.add_output_options(parser)


def prepare(args: argparse.Namespace) -> list[Rival]:
    """The codecs to measure; prints the machine and who is absent."""
    wanted = None if args.rivals == "all" else [name for name in names(args.rivals) if name != "none"]
    present, absent = rivals.select(wanted, args.effort or [ours.DEFAULT_EFFORT], args.isa or [ours.DEFAULT_ISA])
    if not present:
        raise SystemExit("nothing to measure: szdnn and all rivals are absent")
    warm = not args.cold and machine.keep_memory()
    print(f"{machine.name()}; CPU time of one thread, {'warm' if warm else 'default'} memory, {args.reps} repetitions")
    for rival in absent:
        print(f"absent: {rival.name} (pip install {rival.package})")
    return present


def compare(
    codecs: Sequence[Rival],
    data: str,
    bound: str,
    jobs: Sequence[measure.Job],
    reps: int,
    lossless: bool,
    index_bytes: int = 0,
    baseline: str | None = None,
) -> list[records.Row]:
    """Rows of either the lossy or the lossless codecs on the jobs, and of memcpy, the limit of both.

    index_bytes: what each stream costs beyond its own bytes, where it does not tell its length. szdnn's frames do.
    """
    chosen = [codec for codec in codecs if codec.lossless is lossless]
    if not chosen:
        return []
    series = measure.run([*chosen, *memcpy.LIMIT], jobs, reps)
    for one in series:
        if not isinstance(one.codec, (ours.Szdnn, memcpy.Memcpy)):
            one.size += index_bytes * len(jobs)
    values = sum(job.array.size for job in jobs)
    return records.rows(data, bound, values, series, baseline or ("zipnn" if lossless else rivals.BASELINE))
