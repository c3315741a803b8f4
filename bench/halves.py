"""How small and how fast in float16 and bfloat16, near their own precision too: networks and fields, cast, beside the
same values in float32, beside a lattice step of 2 eps whatever the dtype's spacing, and beside lossless frames."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import szdnn
from bench import machine, models, options, records
from bench.exact import relative_eps, violations
from bench.synthetic import FIELDS
from szdnn import encoder

Arrays = Sequence[NDArray[Any]]
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
_NAMES = ("smooth3d", "series", "image", "turbulence", "noise-f1")
DATA = [*models.MODELS, *_NAMES]


@dataclass(frozen=True)
class Row:
    """One data set in one dtype under one bound, bits a value; speeds are of one thread's CPU time and the dtype's
    bytes."""

    data: str
    dtype: str
    bound: str
    values: int
    bits: float
    full_step_bits: float
    float32_bits: float
    lossless_bits: float
    compress_mb_s: float
    decompress_mb_s: float
    violations: int


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--data", choices=[*DATA, "all"], default="all")
    parser.add_argument("--rel", type=options.floats, default=[1e-2, 1e-3, 3e-4], help="bounds as parts of the range")
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """A line a data set, dtype and bound; 1 where a value is beyond its bound."""
    machine.keep_memory()
    print(f"{machine.name()}; bits a value: szdnn, step 2 eps, the same in float32, lossless; MB/s of one thread")
    table = []
    for name in DATA if args.data == "all" else [args.data]:
        wide = _arrays(name)
        for dtype in DTYPES:
            for rel in args.rel:
                table.append(measure(name, wide, dtype, rel))
                row = table[-1]
                print(
                    f"{name:<14}{dtype:<10}{row.bound:<11}{row.bits:>8.3f}{row.full_step_bits:>8.3f}"
                    f"{row.float32_bits:>8.3f}{row.lossless_bits:>8.3f}{row.compress_mb_s:>8.0f}{row.decompress_mb_s:>8.0f}",
                    flush=True,
                )
    records.save(args, table)
    return int(any(row.violations for row in table))


def _arrays(name: str) -> Arrays:
    return list(models.tensors(name).values()) if name in models.MODELS else [FIELDS[name]()]


def measure(data: str, wide: Arrays, dtype: str, rel: float) -> Row:
    """Frames of all arrays of a set, cast to the dtype; the bound is a part of the cast values' range."""
    cast = [array.astype(DTYPES[dtype]) for array in wide]
    single = [array.astype(np.float32) for array in cast]
    bounds = [relative_eps(array, rel) for array in single]
    frames, encoding = _timed(lambda: _frames(cast, bounds))
    back, decoding = _timed(lambda: [szdnn.decompress(frame, threads=1) for frame in frames])
    with mock.patch.object(encoder, "step_share", return_value=1.0):
        plain = _frames(cast, bounds)
    exact = [szdnn.compress(array, szdnn.Lossless(), threads=1) for array in cast]
    values = sum(array.size for array in cast)
    megabytes = sum(array.nbytes for array in cast) / 1e6
    return Row(
        data,
        dtype,
        f"rel {rel:g}",
        values,
        bits=_bits(frames, values),
        full_step_bits=_bits(plain, values),
        float32_bits=_bits(_frames(single, bounds), values),
        lossless_bits=_bits(exact, values),
        compress_mb_s=megabytes / encoding,
        decompress_mb_s=megabytes / decoding,
        violations=sum(violations(x, y, eps) for x, y, eps in zip(cast, back, bounds, strict=True)),
    )


def _frames(arrays: Arrays, bounds: Sequence[float]) -> list[Any]:
    return [szdnn.compress(array, szdnn.Abs(eps), threads=1) for array, eps in zip(arrays, bounds, strict=True)]


def _bits(frames: Sequence[Any], values: int) -> float:
    return 8 * sum(map(len, frames)) / values


def _timed(work: Callable[[], list[Any]]) -> tuple[list[Any], float]:
    """What it makes, and the lesser CPU time of two."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        made = work()
        seconds.append(time.process_time() - start)
    return made, min(seconds)
