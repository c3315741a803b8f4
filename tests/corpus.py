"""A fixed corpus of arrays with bounds and options: every dtype, bound, predictor and coder.

The arrays come out of integer arithmetic alone, so that they are the same on every machine and with every NumPy. Golden
frames, the check that the format stands still, the comparison of processors and the damage campaigns all use it.
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import szdnn
from szdnn import _native
from szdnn.arrays import CODES

Array = NDArray[Any]

FLOATS = ("float16", "bfloat16", "float32", "float64")
BOUNDS: dict[str, Any] = {
    "abs": szdnn.Abs(1 / 64),
    "rel": szdnn.Rel(1e-3),
    "robust": szdnn.Rel(1e-3, range="robust"),
    "range": szdnn.Rel(1e-3, range=(-1.0, 3.0)),
    "std": szdnn.Std(0.1),
    "pointwise": szdnn.PointwiseRel(1e-2),
    "psnr": szdnn.PSNR(50),
    "rmse": szdnn.RMSE(1e-2),
    "bits": szdnn.Bits(9),
    "lossless": szdnn.Lossless(),
}
CODERS = ("auto", "rans", "huffman")
OWN_TESTS = frozenset({"reference", "repeat"})
"""Predictors that need more than an array, or arrays of their own; their tests bring them."""


@dataclass(frozen=True)
class Case:
    """An array and how it is compressed."""

    name: str
    array: Array
    bound: Any
    options: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def frame(self) -> bytes:
        """What the encoder makes of it now."""
        return bytes(szdnn.compress(self.array, self.bound, threads=1, **self.options))


def words(seed: int, count: int) -> NDArray[np.uint64]:
    """SplitMix64."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def bell(seed: int, *shape: int) -> NDArray[np.float64]:
    """About normal, standard deviation 0.58: the sum of four uniform numbers of 16 bits."""
    z = words(seed, int(np.prod(shape)))
    parts = [(z >> np.uint64(16 * i) & np.uint64(0xFFFF)).astype(np.int64) for i in range(4)]
    total: NDArray[np.float64] = (np.add.reduce(parts) - 2 * 0xFFFF) / np.float64(0x10000)
    return total.reshape(shape)


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's or ml_dtypes' dtype of that name."""
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def cast(values: Array, dtype: str) -> Array:
    """Rounded to the dtype."""
    with np.errstate(all="ignore"):
        return np.asarray(values).astype(dtype_of(dtype))


def scaled(seed: int, rows: int, columns: int) -> Array:
    """Rows and columns with scales of their own, powers of two."""
    down = np.exp2((words(seed + 1, rows) % np.uint64(4)).astype(np.float64) - 2)
    across = np.exp2((words(seed + 2, columns) % np.uint64(4)).astype(np.float64) - 2)
    return bell(seed, rows, columns) * down[:, None] * across


def smooth(seed: int, *shape: int) -> Array:
    """A walk along every axis."""
    values = bell(seed, *shape) / 16
    for axis in range(len(shape)):
        values = np.cumsum(values, axis)
    return values


def specials(seed: int, count: int) -> Array:
    """Zeros of both signs, NaN, infinities, denormals and the largest numbers between usual ones."""
    odd = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1e-45, -6e-8, 65504.0, 3.3e38, -1e300])
    z = words(seed, count)
    pick = (z >> np.uint64(8)) % np.uint64(len(odd))
    return np.where(z % np.uint64(5) == 0, odd[pick.astype(np.int64)], bell(seed, count))


def outliers(seed: int, count: int) -> Array:
    """One value in a hundred is a million times as large; half are zero."""
    z, values = words(seed, count), bell(seed + 1, count)
    return np.where(z % np.uint64(100) == 0, values * 2.0**20, np.where(z % np.uint64(2) == 0, 0.0, values))


def levels(seed: int, count: int) -> Array:
    """Five values, each with a little noise."""
    z = words(seed, count)
    return np.array([-7.0, -0.5, 0.0, 2.25, 6.5])[(z % np.uint64(5)).astype(np.int64)] + bell(seed, count) / 4096


SHAPES: dict[str, Callable[[int], Array]] = {
    "specials": lambda seed: specials(seed, 400),
    "outliers": lambda seed: outliers(seed, 1200),
    "levels": lambda seed: levels(seed, 900),
    "scaled": lambda seed: scaled(seed, 30, 40),
    "constant": lambda _: np.full((20, 30), 0.375),
    "scalar": lambda _: np.array(2.5),
    "empty": lambda _: np.empty((3, 0, 2)),
}


def predictors() -> list[str]:
    """All that work on an array alone."""
    return [name for name in _native.PREDICTORS if name not in OWN_TESTS]


def cases() -> list[Case]:
    """All of them, none larger than some kilobytes."""
    return [*_by_bound(), *_by_coder(), *_by_values(), *_others()]


def _by_bound() -> list[Case]:
    return [
        Case(f"{dtype} {kind}", cast(bell(1, 9, 55), dtype), bound)
        for dtype in FLOATS
        for kind, bound in BOUNDS.items()
    ]


def _by_coder() -> list[Case]:
    return [
        Case(f"{dtype} {predictor} {coder}", cast(smooth(2, 6, 9, 11), dtype), szdnn.Abs(1 / 32),
             {"predictor": predictor, "coder": coder})
        for dtype in FLOATS
        for predictor in predictors()
        for coder in CODERS
    ]  # fmt: skip


def _by_values() -> list[Case]:
    made = []
    for dtype in FLOATS:
        for name, make in SHAPES.items():
            values = cast(make(3), dtype)
            made += [Case(f"{dtype} {name} {kind}", values, BOUNDS[kind]) for kind in ("abs", "pointwise", "lossless")]
        made.append(Case(f"{dtype} mixing", cast(scaled(4, 20, 30), dtype), szdnn.Abs(1 / 64), {"effort": 9}))
        eps = [2.0**-k for k in range(2, 11)]
        made.append(Case(f"{dtype} axis", cast(bell(5, 9, 40), dtype), szdnn.Abs(eps, axis=0)))
        made.append(Case(f"{dtype} fine", cast(bell(6, 500), dtype), szdnn.Abs(2.0**-40)))
    return made


def _others() -> list[Case]:
    """Every dtype that is kept losslessly."""
    made = []
    for dtype in CODES:
        if dtype.name in FLOATS:
            continue
        values = words(7, 300).astype(np.int64) % 200 if dtype.kind not in "cV" and dtype.itemsize > 1 else bell(7, 300)
        with np.errstate(all="ignore"):
            made.append(Case(f"{dtype.name} lossless", values.astype(dtype), szdnn.Lossless()))
    return made


def large() -> list[Case]:
    """Some of several blocks, 16 and 64 lanes and large tables, for what does not store them."""
    return [
        Case("large float32", cast(scaled(8, 600, 500), "float32"), szdnn.Rel(1e-2)),
        Case("large bfloat16 lossless", cast(bell(9, 300_000), "bfloat16"), szdnn.Lossless()),
        Case("large float64 lorenzo", smooth(10, 400, 400), szdnn.Rel(1e-4), {"predictor": "lorenzo"}),
        Case("large float32 regression", cast(smooth(11, 60, 60, 60), "float32"), szdnn.Rel(1e-3),
             {"predictor": "regression"}),
        Case("large float32 pointwise", cast(bell(12, 280_000), "float32"), szdnn.PointwiseRel(1e-2)),
    ]  # fmt: skip


def states() -> dict[str, Any]:
    """Flat and nested states of NumPy arrays and what else a state may hold, and a bare array."""
    weights = cast(scaled(1, 40, 60), "float32")
    flat = {"w": weights, "bias": weights[0].copy(), "half": cast(bell(2, 50, 60), "float16")}
    nan, rates = float("nan"), [1e-3, None, (True, "x")]
    rest: dict[str, Any] = {"step": 7, "rng": b"\0\1\2", "lr": rates, "large": 2**70, "nan": nan}
    nested: dict[Any, Any] = {"model": flat, **rest, 3: np.arange(4000), "set": {1, "two"}, "scalar": np.float16(0.5)}
    return {"flat": flat, "nested": nested, "array": weights}


def archives() -> dict[str, bytes]:
    """Archives by name: of states, lossy and lossless, and of a .safetensors, an .npy and an .npz file."""
    from safetensors.numpy import save

    made = {}
    for name, state in states().items():
        made[f"{name}-rel"] = szdnn.dumps(state, szdnn.Rel(1e-2), threads=1)
        made[f"{name}-lossless"] = szdnn.dumps(state, szdnn.Lossless(), threads=1)
    flat = states()["flat"]
    made["safetensors"] = _compressed("model.safetensors", save(flat, {"format": "pt", "author": "someone"}))
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, flat["w"])
    np.savez(npz, **flat)
    made["npy"], made["npz"] = _compressed("x.npy", npy.getvalue()), _compressed("x.npz", npz.getvalue())
    return made


def _compressed(name: str, content: bytes) -> bytes:
    """What the command line makes of a file."""
    from click.testing import CliRunner

    from szdnn.cli import main

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / name, Path(folder) / "out.szd.safetensors"
        source.write_bytes(content)
        done = CliRunner().invoke(main, ["compress", str(source), "--rel", "1e-2", "-q", "-o", str(target)])
        if done.exit_code:
            raise RuntimeError(done.output)
        return target.read_bytes()
