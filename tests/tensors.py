"""Hypothesis strategies for tensors, bounds and options; and the exact check of the promise."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import szdnn

FLOATS = ("float16", "bfloat16", "float32", "float64")
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
PREDICTORS = ("auto", "none", "lorenzo", "regression", "interpolation", "repeat")
CODERS = ("auto", "rans", "huffman")


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def bits(array: NDArray[Any]) -> NDArray[Any]:
    """The bit patterns of an array's values."""
    return np.ascontiguousarray(array).reshape(array.shape).view(UNSIGNED[array.dtype.itemsize])


def wide(array: NDArray[Any]) -> NDArray[np.float64]:
    """As float64; signalling NaN among the values raise no warning."""
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-310, 6e-8, 65504.0, 3.38e38, 1.7e308, 1.0, -1.0]


def _random_bits(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    raw = rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
    return raw.view(dtype).reshape(shape)


def _on_cell_edges(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Odd multiples of 1/2 of a step, plus and minus an ulp."""
    step = 10.0 ** rng.integers(-6, 3)
    edges = (rng.integers(-50, 50, shape) + 0.5) * step
    return np.nextafter(edges, rng.choice([-np.inf, np.inf], shape)) if rng.random() < 0.5 else edges


def make_values(kind: str, seed: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A tensor of one of the kinds in KINDS."""
    rng = np.random.default_rng(seed)
    if kind == "bits":
        return _random_bits(rng, shape, dtype)
    x = rng.normal(0, 1, shape) * 10.0 ** rng.integers(-6, 6)
    match kind:
        case "smooth":
            x = np.cumsum(x.reshape(-1)).reshape(shape)
        case "sparse":
            x = np.where(rng.random(shape) < 0.9, 0.0, x)
        case "spread":
            x = x * 10.0 ** rng.uniform(-30, 30, shape)
        case "edges":
            x = _on_cell_edges(rng, shape)
        case "special":
            x = np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), x)
        case "spike":
            x = np.where(rng.random(shape) < 0.01, x * 1e9, x)
        case "integers":
            x = rng.integers(-20, 20, shape).astype(np.float64)
        case "constant":
            x = np.full(shape, rng.choice([*SPECIAL, 0.1, -3.7]))
        case "tiny":
            x = rng.integers(-40, 40, shape) * 5e-324 if dtype.itemsize == 8 else rng.integers(-40, 40, shape) * 1.4e-45
        case "near zero":
            x = np.where(rng.random(shape) < 0.5, x * 1e-9, x)
    with np.errstate(all="ignore"):
        return np.asarray(x).astype(dtype).reshape(shape)


KINDS = (
    "normal",
    "smooth",
    "sparse",
    "spread",
    "edges",
    "special",
    "spike",
    "integers",
    "constant",
    "tiny",
    "near zero",
    "bits",
)


def make_weights(kind: str, seed: int, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """n values with the structure that networks' weights have, of one of the kinds in WEIGHT_KINDS."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.05, n)
    pick = rng.random(n)
    match kind:
        case "positive":
            x = x * x
        case "near one":
            x = 1 + x / 100
        case "upcast":
            x = x.astype(np.float16)
        case "partly upcast":
            row = np.arange(n) // 384 % 7 == 0
            x = np.where(row, x, x.astype(ml_dtypes.bfloat16).astype(np.float64))
        case "float8":
            x = x.astype(ml_dtypes.float8_e4m3fn).astype(np.float64)
        case "pruned":
            x = np.where(pick < rng.choice([0.05, 0.5, 0.9, 0.99]), 0.0, x)
        case "clustered":
            x = rng.choice(rng.normal(0, 0.05, rng.choice([2, 16, 250])), n)
        case "dead rows":
            x = np.where(np.arange(n) // 256 % 5 == 0, x * 1e-9, x)
        case "outliers":
            x = np.where(pick < 0.01, x * 1e6, np.where(pick < 0.1, 0.0, x))
        case "specials":
            x = np.where(pick < 0.02, rng.choice(SPECIAL, n), x)
        case "two scales":  # of which the sample of long blocks may meet one only
            x = np.where(pick < 0.6, x * 1e-20, x)
    with np.errstate(all="ignore"):
        made = np.asarray(x).astype(dtype)
    if kind == "short":  # in some places the arithmetic leaves zeros below
        u = made.view(UNSIGNED[dtype.itemsize])
        made = np.where(pick < 0.6, u & ~np.asarray(3, u.dtype), u).view(dtype)
    return made


WEIGHT_KINDS = (
    "normal",
    "positive",
    "near one",
    "upcast",
    "partly upcast",
    "float8",
    "pruned",
    "clustered",
    "dead rows",
    "outliers",
    "specials",
    "two scales",
    "short",
)


@st.composite
def shapes(draw: Any, max_values: int = 3000) -> tuple[int, ...]:
    rank = draw(st.integers(0, 8))
    shape: list[int] = []
    room = max_values
    for _ in range(rank):
        extent = draw(
            st.integers(0 if draw(st.integers(0, 20)) == 0 else 1, max(1, min(room, 2000 if rank == 1 else 40)))
        )
        room //= max(1, extent)
        shape.append(extent)
    return tuple(shape)


@st.composite
def tensors(draw: Any, dtypes: tuple[str, ...] = FLOATS, max_values: int = 3000) -> NDArray[Any]:
    dtype = dtype_of(draw(st.sampled_from(dtypes)))
    return make_values(draw(st.sampled_from(KINDS)), draw(st.integers(0, 2**32)), draw(shapes(max_values)), dtype)


@st.composite
def scaled_matrices(draw: Any, dtypes: tuple[str, ...] = FLOATS, max_values: int = 6000) -> NDArray[Any]:
    """At least two axes; rows, columns, both or neither with scales of their own, some values special or zero."""
    dtype = dtype_of(draw(st.sampled_from(dtypes)))
    width = draw(st.one_of(st.integers(1, 200), st.sampled_from([8, 63, 64, 65, 128])))
    height = draw(st.integers(1, max(1, max_values // width)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.normal(size=(height, width)) if draw(st.booleans()) else rng.standard_t(2, (height, width))
    spreads = st.sampled_from([0.0, 0.5, 1.5, 4.0])
    x = x * np.exp(rng.normal(0, draw(spreads), (height, 1))) * np.exp(rng.normal(0, draw(spreads), (1, width)))
    match draw(st.sampled_from(["", "", "sparse", "special", "zero rows", "zero columns"])):
        case "sparse":
            x = np.where(rng.random(x.shape) < draw(st.sampled_from([0.5, 0.95, 0.999])), 0.0, x)
        case "special":
            x = np.where(rng.random(x.shape) < 0.02, rng.choice(SPECIAL, x.shape), x)
        case "zero rows":
            x[rng.random(height) < 0.5] = 0
        case "zero columns":
            x[:, rng.random(width) < 0.5] = 0
    if height % 2 == 0 and draw(st.booleans()):
        x = x.reshape(height // 2, 2, width) if draw(st.booleans()) else x.reshape(2, height // 2, width, 1)
    with np.errstate(all="ignore"):
        return np.asarray(x * 10.0 ** draw(st.integers(-6, 4))).astype(dtype)


def magnitudes(low: float, high: float) -> Any:
    """10^u for u in [low, high], or a random mantissa."""
    return st.floats(low, high).map(lambda u: float(10.0**u))


def simple_bounds() -> Any:
    """Bounds that need no search."""
    return st.one_of(
        magnitudes(-12, 6).map(szdnn.Abs),
        st.sampled_from([0.5, 1.0, 2.0**-20, 5e-324, 1e-310, 1e300, 1.7e308, 1.4e-45]).map(szdnn.Abs),
        magnitudes(-9, 1).map(szdnn.Rel),
        magnitudes(-6, 1).map(lambda r: szdnn.Rel(r, range="robust")),
        magnitudes(-6, 1).map(lambda r: szdnn.Rel(r, range=(-1.0, 2.0))),
        magnitudes(-6, 2).map(szdnn.Std),
        magnitudes(-9, -0.001).map(szdnn.PointwiseRel),
        st.just(szdnn.Lossless()),
    )


def exact(value: Any) -> Fraction:
    return Fraction(float(value))


def _check_special(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    """NaN and infinities bit for bit, zeros as zeros; returns where finite values other than zero are."""
    values = wide(x)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(bits(x)[~finite], bits(y)[~finite])
    assert not np.any(wide(y)[values == 0])
    where: NDArray[np.bool_] = finite & (values != 0)
    return where


def assert_within(x: NDArray[Any], y: NDArray[Any], eps: float | NDArray[Any] | None, pointwise: float | None) -> None:
    """The promise in exact rational arithmetic, whatever the codec says of itself."""
    assert x.dtype == y.dtype
    assert x.shape == y.shape
    if eps is None and pointwise is None:
        np.testing.assert_array_equal(bits(x), bits(y))
        return
    where = _check_special(x, y)
    allowed = np.broadcast_to(np.asarray(eps if eps is not None else 0.0), x.shape)
    originals, decoded, bounds = x[where], y[where], allowed[where]
    with np.errstate(all="ignore"):
        a, b = originals.astype(np.float64), decoded.astype(np.float64)
        clear = np.abs(a - b) < (bounds if pointwise is None else pointwise * np.abs(a)) * (1 - 1e-12)
    for one, other, bound in zip(a[~clear], b[~clear], bounds[~clear], strict=True):
        limit = exact(bound) if pointwise is None else exact(pointwise) * abs(exact(one))
        assert np.isfinite(other)
        assert abs(exact(one) - exact(other)) <= limit, (one, other, float(limit))
    if pointwise is not None:
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))
        zeros = wide(x) == 0
        np.testing.assert_array_equal(bits(x)[zeros], bits(y)[zeros])
