"""How good is the choice of predictor? Each array's frame by the automatic choice beside those of every single
predictor, and the share of the encoder's time that choosing takes."""

from __future__ import annotations

import argparse
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import szdnn
from bench import machine, models, options, records
from bench.exact import relative_eps
from bench.fields import FIELDS
from szdnn import _native, choose, encoder

Arrays = dict[str, NDArray[Any]]
MOST_PERCENT, MOST_SHARE = 3.0, 0.1


@dataclass(frozen=True)
class Row:
    """One data set under one bound. best: the sum of each array's smallest frame; worst_percent: the array whose
    chosen frame is furthest above its best one; choice_share: of the encoder's CPU time."""

    data: str
    bound: str
    arrays: int
    bytes: int
    best: int
    above_percent: float
    worst_percent: float
    worst: str
    choice_share: float
    chosen: str
    none: int
    lorenzo: int
    regression: int
    interpolation: int


def data_sets() -> dict[str, Callable[[], Arrays]]:
    """By name: every field by itself, and the networks' tensors."""
    sets: dict[str, Callable[[], Arrays]] = {name: functools.partial(_field, name) for name in FIELDS}
    return sets | {name: functools.partial(models.tensors, name) for name in models.MODELS}


def _field(name: str) -> Arrays:
    return {name: FIELDS[name]()}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--data", choices=[*data_sets(), "all"], default="all")
    parser.add_argument("--rel", type=options.floats, default=[1e-2, 1e-3, 1e-4], help="bounds as parts of the range")
    parser.add_argument("--reps", type=int, default=3, help="timed repetitions of the automatic choice (default 3)")
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """A line a data set and bound; 1 where a choice misses what is promised."""
    machine.keep_memory()
    print(f"{machine.name()}; bytes of the choice above the best single predictor, and its share of the CPU time")
    table = []
    for name, load in data_sets().items():
        if args.data not in ("all", name):
            continue
        arrays = load()
        for rel in args.rel:
            table.append(measure(name, arrays, rel, args.reps))
            row = table[-1]
            print(
                f"{row.data:<14}{row.bound:<11}{row.above_percent:>7.2f}%  worst {row.worst_percent:>6.2f}%  time "
                f"{row.choice_share:>6.1%}  {row.chosen}",
                flush=True,
            )
    records.save(args, table)
    return int(any(row.worst_percent > MOST_PERCENT or row.choice_share > MOST_SHARE for row in table))


def measure(data: str, arrays: Arrays, rel: float, reps: int) -> Row:
    """All predictors on all arrays of a set."""
    sums: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    shares = []
    best, worst, worst_name = 0, -100.0, ""
    for name, array in arrays.items():
        bound = szdnn.Abs(relative_eps(array, rel))
        sizes = {p: len(szdnn.compress(array, bound, predictor=p, threads=1)) for p in _native.PREDICTORS}
        frame = szdnn.compress(array, bound, threads=1)
        info = szdnn.info(frame)
        chosen[info.predictor if info.kind != "lossless" else "lossless"] += 1
        sums.update(sizes)
        sums["auto"] += len(frame)
        best += min(sizes.values())
        above = 100 * (len(frame) / min(sizes.values()) - 1)
        worst, worst_name = max((worst, worst_name), (above, name))
    for _ in range(reps):
        shares.append(choice_share(arrays, rel))
    return Row(
        data,
        f"rel {rel:g}",
        len(arrays),
        sums["auto"],
        best,
        100 * (sums["auto"] / best - 1),
        worst,
        worst_name,
        sorted(shares)[len(shares) // 2],
        ", ".join(f"{count} {name}" for name, count in chosen.most_common()),
        *(sums[name] for name in ("none", "lorenzo", "regression", "interpolation")),
    )


@contextmanager
def timed_choice() -> Iterator[list[float]]:
    """The CPU seconds of each choice of predictor while it lasts."""
    seconds: list[float] = []
    plain = choose.cheapest

    def timed(*args: Any) -> choose.Chosen:
        start = time.process_time()
        try:
            return plain(*args)
        finally:
            seconds.append(time.process_time() - start)

    vars(encoder)["cheapest"] = timed
    try:
        yield seconds
    finally:
        vars(encoder)["cheapest"] = plain


def choice_share(arrays: Arrays, rel: float) -> float:
    """Choosing's part of the CPU time of compressing all arrays."""
    total = 0.0
    with timed_choice() as seconds:
        for array in arrays.values():
            eps = relative_eps(array, rel)
            start = time.process_time()
            szdnn.compress(array, szdnn.Abs(eps), threads=1)
            total += time.process_time() - start
    return float(np.sum(seconds)) / max(total, 1e-9)
