"""Draws one case of the soak: array, bound and options, all from (seed, index), so that any case can be replayed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bench.adversarial import ADVERSARIAL, DTYPES, NATURAL, Generator, Maker, cast, largest, least_normal
from bench.exact import round_down, value_range, widen

Array = NDArray[Any]

VARIANTS = 4
"""Ways in which one array is compressed: drawing an array takes longer than compressing it."""
_LARGE, _SMALL = 4_000_000, 30_000
_SMALL_SHARE = 0.35
_LOOKED_AT = 4096
_KINDS = {"Abs": 40, "Rel": 20, "Std": 10, "PointwiseRel": 20, "Lossless": 10}
_SEARCHED = {"RMSE": 4, "PSNR": 3, "Bits": 3}
_PREDICTORS = {"auto": 5, "none": 2, "lorenzo": 2, "regression": 2, "interpolation": 2, "reference": 2}
_CODERS = {"auto": 4, "rans": 2, "huffman": 2}
_EFFORTS = {1: 3, 2: 2, 3: 10, 5: 2}
_SLOW_EFFORTS = {7: 2, 8: 1, 9: 2}
_LAYOUTS = {"plain": 12, "fortran": 2, "reversed": 1, "strided": 2, "swapped": 1, "readonly": 1}
_FLOATS = {"float16": 20, "bfloat16": 20, "float32": 35, "float64": 25}
_FLOAT8 = ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu", "e4m3", "e3m4", "e4m3b11fnuz")
_OTHERS = ["bool", "complex64", "complex128", *(f"float8_{kind}" for kind in _FLOAT8)]
_OTHERS += [f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)]
_OTHERS_SHARE = 0.04
_REFERENCES = {"near": 4, "same": 1, "other dtype": 2, "unrelated": 1}


@dataclass(frozen=True)
class Case:
    """One array (as it is passed to compress) with its bound and options."""

    seed: int
    index: int
    variant: int
    maker: str
    layout: str
    kind: str
    amount: float
    predictor: str
    coder: str
    effort: int
    threads: int
    array: Array
    reference: Array | None

    def describe(self) -> str:
        """One line that tells the case."""
        shape = "x".join(map(str, self.array.shape)) or "0-d"
        reference = "" if self.reference is None else f", reference {self.reference.dtype.name}"
        return (
            f"seed {self.seed} case {self.index}.{self.variant}: {self.maker} {self.array.dtype.name} {shape} "
            f"({self.layout}), {self.kind}({self.amount!r}), predictor={self.predictor}, coder={self.coder}, "
            f"effort={self.effort}, threads={self.threads}{reference}"
        )


@dataclass(frozen=True)
class Drawn:
    """An array that several cases share. small: slow options are drawn for it, too."""

    maker: str
    layout: str
    eps: float
    values: Array
    array: Array
    reference: Array | None
    small: bool


def draw(seed: int, index: int) -> list[Case]:
    """The cases with this number: one array, bounds and options of its own for each."""
    drawn = _draw_array(np.random.default_rng([seed, index]))
    return [_draw_case(np.random.default_rng([seed, index, 1 + i]), seed, index, i, drawn) for i in range(VARIANTS)]


def _draw_array(rng: Generator) -> Drawn:
    small = rng.random() < _SMALL_SHARE
    shape = _draw_shape(rng, _SMALL if small else _LARGE)
    if rng.random() < _OTHERS_SHARE:
        values = _other_values(rng, math.prod(shape), _dtype_named(str(rng.choice(_OTHERS))))
        return Drawn("other dtypes", "plain", 1.0, values, values.reshape(shape), None, small)
    dtype = DTYPES[_pick(rng, _FLOATS)]
    eps = _draw_eps(rng, dtype)
    name, maker = _draw_maker(rng)
    values = maker(rng, math.prod(shape), dtype, eps)
    layout = _pick(rng, _LAYOUTS)
    reference = _draw_reference(rng, values, eps) if rng.random() < 0.4 else None
    array = _lay_out(rng, values.reshape(shape), layout)  # which may make 0-d 1-D
    return Drawn(name, layout, eps, values, array, None if reference is None else reference.reshape(array.shape), small)


def _dtype_named(name: str) -> np.dtype[Any]:
    """A dtype of NumPy or ml_dtypes."""
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _other_values(rng: Generator, size: int, dtype: np.dtype[Any]) -> Array:
    """Elements of dtypes that are kept exactly: any bits, or steps and runs of them."""
    raw = rng.integers(0, 256, size * dtype.itemsize, dtype=np.uint8)
    if rng.random() < 0.5:
        raw[rng.random(raw.size) < rng.random()] = 0
    if dtype.kind in "iu" and rng.random() < 0.5:
        return np.cumsum(raw[:size] % 7).astype(dtype)
    return (raw & 1).astype(bool) if dtype.kind == "b" else raw.view(dtype)


def _draw_reference(rng: Generator, values: Array, eps: float) -> Array:
    """An array to which differences are small, none, large, or of which the dtype is another."""
    how = _pick(rng, _REFERENCES)
    if how == "same":
        return values.copy()
    if how == "unrelated":
        return _draw_maker(rng)[1](rng, values.size, values.dtype, eps)
    dtype = values.dtype if how == "near" else DTYPES[_pick(rng, _FLOATS)]
    noise = rng.standard_normal(values.size) * (eps * 2 ** rng.uniform(-4, 8))
    with np.errstate(all="ignore"):
        return cast(widen(values) + noise, dtype)


def _draw_case(rng: Generator, seed: int, index: int, variant: int, drawn: Drawn) -> Case:
    kinds = _KINDS | (_SEARCHED if drawn.small else {})
    kind = _pick(rng, kinds) if drawn.values.dtype.name in DTYPES else "Lossless"
    predictor = _pick(rng, _PREDICTORS)
    if predictor == "reference" and drawn.reference is None:
        predictor = "auto"
    uses_reference = predictor == "reference" or rng.random() < 0.25
    effort = int(_pick(rng, _EFFORTS | (_SLOW_EFFORTS if drawn.small else {})))
    return Case(
        seed, index, variant, drawn.maker, drawn.layout, kind, _draw_amount(rng, kind, drawn.eps, drawn.values),
        predictor, _pick(rng, _CODERS), effort, int(rng.choice([1, 1, 1, 2])), drawn.array,
        drawn.reference if uses_reference else None,
    )  # fmt: skip


def _pick(rng: Generator, weights: Mapping[Any, int]) -> Any:
    odds = np.array(list(weights.values()), dtype=float)
    return list(weights)[int(rng.choice(len(odds), p=odds / odds.sum()))]


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


def _draw_shape(rng: Generator, most: int) -> tuple[int, ...]:
    """0-d to 7-D; sizes log-uniform up to `most`; axes of length 1 and 0 now and then."""
    if rng.random() < 0.02:
        return ((), (0,), (3, 0, 2), (1,), (1, 1, 1))[int(rng.integers(5))]
    size = 10 ** rng.uniform(0.5, math.log10(most))
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
        return _part(eps, min(round_down(value_range(values[:_LOOKED_AT])), 1e300))
    if kind == "Std":
        wide = widen(values[:_LOOKED_AT])
        finite = wide[np.isfinite(wide)]
        with np.errstate(all="ignore"):
            return _part(eps, float(finite.std()) if finite.size else 0.0)
    return eps


def _part(eps: float, whole: float) -> float:
    """eps / whole within reason."""
    if not (0 < whole < math.inf):
        return 1e-3
    return min(max(eps / whole, 1e-9), 0.9)
