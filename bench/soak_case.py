"""Draws one case of the soak: array, bound and options, all from (seed, index), so that any case can be replayed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.adversarial import ADVERSARIAL, DTYPES, NATURAL, Generator, Maker, largest, least_normal
from bench.exact import round_down, value_range, widen

Array = NDArray[Any]

MAX_VALUES = 1_000_000
_KINDS = {"Abs": 34, "Rel": 20, "Std": 10, "PointwiseRel": 20, "Lossless": 9, "RMSE": 3, "PSNR": 2, "Bits": 2}
_PREDICTORS = {"auto": 5, "none": 2, "lorenzo": 2, "regression": 2}
_CODERS = {"auto": 4, "rans": 2, "huffman": 2}
_LAYOUTS = {"plain": 12, "fortran": 2, "reversed": 1, "strided": 2, "swapped": 1, "readonly": 1}


@dataclass(frozen=True)
class Case:
    """One array (as it is passed to compress) with its bound and options."""

    seed: int
    index: int
    maker: str
    layout: str
    kind: str
    amount: float
    predictor: str
    coder: str
    effort: int
    threads: int
    array: Array

    def describe(self) -> str:
        """One line that tells the case."""
        shape = "x".join(map(str, self.array.shape)) or "0-d"
        return (
            f"seed {self.seed} case {self.index}: {self.maker} {self.array.dtype.name} {shape} ({self.layout}), "
            f"{self.kind}({self.amount!r}), predictor={self.predictor}, coder={self.coder}, "
            f"effort={self.effort}, threads={self.threads}"
        )


def draw(seed: int, index: int) -> Case:
    """The case with this number."""
    rng = np.random.default_rng([seed, index])
    dtype = DTYPES[str(rng.choice(list(DTYPES), p=[0.2, 0.2, 0.35, 0.25]))]
    eps = _draw_eps(rng, dtype)
    name, maker = _draw_maker(rng)
    shape = _draw_shape(rng)
    values = maker(rng, math.prod(shape), dtype, eps)
    layout = _pick(rng, _LAYOUTS)
    array = _lay_out(rng, values.reshape(shape), layout)
    kind = _pick(rng, _KINDS)
    effort = int(rng.choice([1, 2, 3, 5, 9], p=[0.15, 0.1, 0.55, 0.1, 0.1]))
    return Case(
        seed, index, name, layout, kind, _draw_amount(rng, kind, eps, values), _pick(rng, _PREDICTORS),
        _pick(rng, _CODERS), effort, int(rng.choice([1, 1, 2, 3])), array,
    )  # fmt: skip


def _pick(rng: Generator, weights: dict[str, int]) -> str:
    odds = np.array(list(weights.values()), dtype=float)
    return str(rng.choice(list(weights), p=odds / odds.sum()))


def _draw_maker(rng: Generator) -> tuple[str, Maker]:
    makers = list((ADVERSARIAL if rng.random() < 0.5 else NATURAL).items())
    return makers[int(rng.integers(len(makers)))]


def _draw_eps(rng: Generator, dtype: np.dtype[Any]) -> float:
    """Mostly a usual size; sometimes a power of two, an exact half, a float of the dtype, or an extreme."""
    choice = rng.random()
    if choice < 0.15:
        return float(2.0 ** rng.integers(-12, 4))
    if choice < 0.25:
        return float(rng.integers(1, 20)) / 2
    if choice < 0.32:
        low, high = math.log2(least_normal(dtype)) - 8, math.log2(largest(dtype))
        return float(2.0 ** rng.uniform(max(low, -1020), min(high, 1000)))
    eps = float(10.0 ** rng.uniform(-6 if dtype.itemsize > 2 else -3, 0.5))
    return float(np.float32(eps)) if rng.random() < 0.4 else eps


def _draw_shape(rng: Generator) -> tuple[int, ...]:
    """0-d to 7-D; sizes log-uniform up to a million; axes of length 1 and 0 now and then."""
    if rng.random() < 0.02:
        return ((), (0,), (3, 0, 2), (1,), (1, 1, 1))[int(rng.integers(5))]
    size = 10 ** rng.uniform(0.5, math.log10(MAX_VALUES))
    rank = int(rng.choice([1, 2, 3, 4, 5, 6, 7], p=[0.3, 0.26, 0.18, 0.12, 0.07, 0.04, 0.03]))
    parts = rng.dirichlet(np.full(rank, 2.0))
    shape = [max(1, round(size**part)) for part in parts]
    if rng.random() < 0.1:
        shape[int(rng.integers(rank))] = 1
    return tuple(shape)


def _lay_out(rng: Generator, array: Array, layout: str) -> Array:
    """The same values behind other strides, byte order or flags."""
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "reversed" and array.ndim:
        return np.ascontiguousarray(array[::-1])[::-1]
    if layout == "strided" and array.ndim:
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "swapped" and array.dtype.name != "bfloat16":
        return array.astype(array.dtype.newbyteorder(">"))
    if layout == "readonly":
        array.flags.writeable = False
    return array


def _draw_amount(rng: Generator, kind: str, eps: float, values: Array) -> float:
    """The bound's number: an absolute eps turned into what the kind of bound measures in."""
    if kind == "PointwiseRel":
        return float(2.0 ** -rng.integers(1, 14)) if rng.random() < 0.3 else float(10.0 ** rng.uniform(-4, -0.2))
    if kind == "PSNR":
        return float(rng.uniform(20, 100))
    if kind == "Bits":
        return float(rng.uniform(1, 8 * values.dtype.itemsize))
    if kind == "Rel":
        return _part(eps, min(round_down(value_range(values)), 1e300))
    if kind == "Std":
        wide = widen(values)
        finite = wide[np.isfinite(wide)]
        with np.errstate(all="ignore"):
            return _part(eps, float(finite.std()) if finite.size else 0.0)
    return eps


def _part(eps: float, whole: float) -> float:
    """eps / whole within reason."""
    if not (0 < whole < math.inf):
        return 1e-3
    return min(max(eps / whole, 1e-9), 0.9)
