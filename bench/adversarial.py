"""Generators of float arrays, ordinary ones and such as break compressors: plain functions of a numpy Generator.

Each takes (rng, size, dtype, eps) and returns a 1-D array; eps is the absolute bound the array is meant to be hard for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Generator = np.random.Generator
Maker = Callable[[Generator, int, np.dtype[Any], float], Array]

DTYPES: dict[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
# (exponent bits, mantissa bits)
_LAYOUT = {"float16": (5, 10), "bfloat16": (8, 7), "float32": (8, 23), "float64": (11, 52)}


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round to the dtype; what is too large becomes infinite, silently."""
    with np.errstate(all="ignore"):
        result: Array = np.asarray(values, dtype=np.float64).astype(dtype)
    return result


def from_bits(patterns: Array, dtype: np.dtype[Any]) -> Array:
    """Floats with these bit patterns (low bits of each integer)."""
    return patterns.astype(f"u{dtype.itemsize}").view(dtype)


def least_normal(dtype: np.dtype[Any]) -> float:
    """The smallest positive normal number."""
    exponent, _ = _LAYOUT[dtype.name]
    return float(2.0 ** (2 - 2 ** (exponent - 1)))


def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite number."""
    exponent, mantissa = _LAYOUT[dtype.name]
    return float((2 - 2.0**-mantissa) * 2.0 ** (2 ** (exponent - 1) - 1))


def nudge(array: Array, steps: Array) -> Array:
    """Move finite values by whole units in the last place; those that would leave the finite range stay."""
    width = array.dtype.itemsize * 8
    top = np.int64(1) << np.int64(width - 1) if width < 64 else np.int64(np.iinfo(np.int64).min)
    patterns = array.view(f"u{array.dtype.itemsize}").astype(np.uint64).view(np.int64)
    negative = (patterns & top) != 0
    magnitude = patterns & ~top
    signed = np.where(negative, -magnitude, magnitude) + steps
    moved = np.where(signed < 0, (-signed) | top, signed)
    result = from_bits(moved.view(np.uint64), array.dtype)
    with np.errstate(invalid="ignore"):  # signalling NaN
        good = np.isfinite(result.astype(np.float64)) & np.isfinite(array.astype(np.float64))
    return np.where(good, result, array)


# Ordinary data -------------------------------------------------------------------------------------------------------


def normal(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Gaussian values whose scale is 2^-2 to 2^12 times eps."""
    return cast(rng.standard_normal(size) * eps * 2 ** rng.uniform(-2, 12), dtype)


def laplace(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Heavier tails."""
    return cast(rng.laplace(size=size) * eps * 2 ** rng.uniform(-2, 12), dtype)


def heavy_tail(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Student's t with 1.2 degrees of freedom: outliers at every scale."""
    return cast(rng.standard_t(1.2, size) * eps * 2 ** rng.uniform(0, 6), dtype)


def uniform(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Flat between two random ends."""
    low, high = np.sort(rng.normal(size=2)) * eps * 2 ** rng.uniform(0, 14)
    return cast(rng.uniform(low, high, size), dtype)


def walk(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """A random walk with steps near eps."""
    return cast(np.cumsum(rng.standard_normal(size)) * eps * 2 ** rng.uniform(-6, 3), dtype)


def smooth(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Sine waves with noise below and around eps."""
    t = np.linspace(0, rng.uniform(1, 200), size)
    wave = sum(np.sin(rng.uniform(0.2, 3) * t + rng.uniform(0, 6)) for _ in range(3))
    return cast((wave + rng.standard_normal(size) * 10 ** rng.uniform(-6, -2)) * eps * 2 ** rng.uniform(2, 14), dtype)


def weights(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Rows of different scales, as in a network's matrix."""
    width = min(size, 256) or 1
    scales = np.repeat(2 ** rng.normal(0, 1, -(-size // width)), width)[:size]
    return cast(rng.standard_normal(size) * scales * eps * 2 ** rng.uniform(0, 8), dtype)


def sparse(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """50 to 99.9% exact zeros of both signs."""
    values = normal(rng, size, dtype, eps)
    values[rng.random(size) < 1 - 10 ** rng.uniform(-3, -0.3)] = 0
    values[rng.random(size) < 0.01] = -0.0
    return values


# Adversarial data ----------------------------------------------------------------------------------------------------


def bin_edges(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Odd multiples of eps, where rounding to multiples of 2 eps is undecided, plus and minus some ulps."""
    k = np.rint(rng.standard_normal(size) * 2 ** rng.uniform(0, 22))
    return nudge(cast((2 * k + 1) * eps, dtype), rng.integers(-1, 2, size))


def bin_centres(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Even multiples of eps plus and minus an ulp."""
    k = np.rint(rng.standard_normal(size) * 2 ** rng.uniform(0, 22))
    return nudge(cast(2 * k * eps, dtype), rng.integers(-1, 2, size))


def eps_offsets(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """One base value, and values eps or 2 eps away from it, plus and minus an ulp: errors exactly at the bound."""
    base = float(cast(np.array(rng.standard_normal() * eps * 2 ** rng.uniform(-2, 20)), dtype))
    return nudge(cast(base + rng.integers(-4, 5, size) * eps, dtype), rng.integers(-1, 2, size))


def huge_spread(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Magnitudes log-uniform over the whole dtype."""
    low, high = np.log2(least_normal(dtype)) - 4, np.log2(largest(dtype))
    return cast(rng.choice([-1.0, 1.0], size) * 2 ** rng.uniform(low, high, size), dtype)


def denormals(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Denormals of both signs, some of them the least, next to the least normals."""
    mantissa = _LAYOUT[dtype.name][1]
    patterns = rng.integers(0, 2 << mantissa, size, dtype=np.uint64)
    patterns = np.where(rng.random(size) < 0.1, patterns & np.uint64(1), patterns)
    signs = rng.integers(0, 2, size, dtype=np.uint64) << np.uint64(dtype.itemsize * 8 - 1)
    return from_bits(patterns | signs, dtype)


def half_near_zero(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Half the values within a few eps of zero, many at +-eps; the others large; zeros among them."""
    noise = rng.standard_normal(size) * 10 ** rng.uniform(-9, 0)
    near = (rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0], size) + noise) * eps
    values = np.where(rng.random(size) < 0.5, near, rng.standard_normal(size) * eps * 2 ** rng.uniform(4, 16))
    return nudge(cast(values, dtype), rng.integers(-1, 2, size))


def specials(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Ordinary values with NaN of random payloads, infinities and signed zeros, from a few to nearly all."""
    exponent, mantissa = _LAYOUT[dtype.name]
    inf = np.uint64(((1 << exponent) - 1) << mantissa)
    nans = inf | rng.integers(1, 1 << mantissa, size, dtype=np.uint64)
    payload = np.where(rng.random(size) < 0.6, nans, np.where(rng.random(size) < 0.5, inf, np.uint64(0)))
    signs = rng.integers(0, 2, size, dtype=np.uint64) << np.uint64(dtype.itemsize * 8 - 1)
    chosen = rng.random(size) < 10 ** rng.uniform(-4, 0)
    return np.where(chosen, from_bits(payload | signs, dtype), normal(rng, size, dtype, eps))


def spike(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Ordinary values and one (or a few) enormous ones."""
    values = normal(rng, size, dtype, eps)
    if size:
        places = rng.integers(0, size, rng.integers(1, 4))
        values[places] = cast(rng.choice([-1.0, 1.0]) * largest(dtype) * 2 ** -rng.uniform(0, 30, places.size), dtype)
    return values


def constant(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """One value everywhere: zero, -0.0, NaN, infinite, denormal, ordinary or huge."""
    choices = [0.0, -0.0, np.nan, np.inf, -np.inf, least_normal(dtype) / 4, rng.standard_normal(), largest(dtype), eps]
    return np.full(size, cast(np.array(choices), dtype)[rng.integers(len(choices))])


def nearly_constant(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """One value everywhere but for a few ulps here and there."""
    base = constant(rng, size, dtype, eps)
    return nudge(base, np.where(rng.random(size) < 0.01, rng.integers(-3, 4, size), 0))


def whole_numbers(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Integers (use it with eps of exact halves: errors are exactly eps, ties everywhere)."""
    return cast(np.rint(rng.standard_normal(size) * 2 ** rng.uniform(0, 24)), dtype)


def eps_multiples(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Halves of eps: every third value is a tie."""
    return cast(rng.integers(-1000, 1000, size) * (eps / 2), dtype)


def random_bits(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Uniform bit patterns: every exponent alike, NaN and infinities too."""
    return from_bits(rng.integers(0, 2**64, size, dtype=np.uint64), dtype)


def binades(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Powers of two around eps, where the spacing of floats changes, plus and minus an ulp."""
    exponents = np.floor(np.log2(eps)) + rng.integers(-4, 26, size)
    values = rng.choice([-1.0, 1.0], size) * np.exp2(np.clip(exponents, -1070, 1020))
    return nudge(cast(values, dtype), rng.integers(-1, 2, size))


def lattice_limits(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Quotients x / 2 eps near 2^7 ... 2^63, where counters and mantissas run out."""
    edges = rng.choice([7, 8, 15, 16, 21, 22, 23, 24, 30, 31, 32, 51, 52, 53, 62, 63], size)
    values = rng.choice([-2.0, 2.0], size) * eps * (np.exp2(edges) + rng.integers(-2, 3, size) * 0.5)
    return nudge(cast(values, dtype), rng.integers(-1, 2, size))


def overflow(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Both ends of the finite range: max - min is beyond the largest float."""
    ends = rng.choice([-1.0, 1.0], size) * largest(dtype)
    return cast(np.where(rng.random(size) < 0.5, ends, ends * rng.random(size)), dtype)


def jumps(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Alternating extremes and long runs: predictors at their worst."""
    levels = cast(rng.standard_normal(8) * eps * 2 ** rng.uniform(0, 30, 8), dtype)
    run = int(rng.integers(1, 50))
    return np.repeat(levels[rng.integers(0, 8, -(-size // run))], run)[:size]


def mixture(rng: Generator, size: int, dtype: np.dtype[Any], eps: float) -> Array:
    """Stretches from all other generators in one array."""
    cuts = np.sort(rng.integers(0, size + 1, 5))
    lengths = np.diff(np.concatenate([[0], cuts, [size]]))
    makers = [*NATURAL.values(), *(maker for maker in ADVERSARIAL.values() if maker is not mixture)]
    parts = [makers[rng.integers(len(makers))](rng, int(n), dtype, eps) for n in lengths]
    return np.concatenate([part.astype(dtype) for part in parts])


NATURAL: dict[str, Maker] = {
    maker.__name__: maker for maker in (normal, laplace, heavy_tail, uniform, walk, smooth, weights, sparse)
}
ADVERSARIAL: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        bin_edges, bin_centres, eps_offsets, huge_spread, denormals, half_near_zero, specials, spike, constant,
        nearly_constant, whole_numbers, eps_multiples, random_bits, binades, lattice_limits, overflow, jumps, mixture,
    )
}  # fmt: skip
