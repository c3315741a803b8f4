"""K-means of numbers: weight sharing (Han et al. 2016, section 3).

In one dimension the clusters are intervals of the sorted numbers, so that Lloyd's iteration needs only the borders between
centroids and differences of running sums: exact, and k binary searches an iteration however many numbers there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

Floats = NDArray[np.float64]
INITIALISATIONS = ("forgy", "density", "linear")


def initial(values: NDArray[Any], k: int, how: str, seed: int = 0) -> Floats:
    """k centroids to start from (Han et al. 2016, section 3.2).

    forgy: k of the values at random; density: at equal steps of the values' cumulative distribution; linear: at equal
    steps from their least to their greatest.
    """
    if how == "forgy":
        rng = np.random.default_rng(seed)
        return np.sort(rng.choice(values, min(k, values.size), replace=False).astype(np.float64))
    if how == "density":
        return np.quantile(values.astype(np.float64), (np.arange(k) + 0.5) / k)
    if how == "linear":
        return np.linspace(float(values.min()), float(values.max()), k)
    raise ArgumentError(f"no initialisation {how!r} of k-means; there are {', '.join(INITIALISATIONS)}")


def lloyd(values: NDArray[Any], centroids: Floats, iterations: int = 100) -> Floats:
    """Lloyd's iteration until nothing moves, or so often; the centroids, ascending. One without members stays."""
    ordered = np.sort(values.astype(np.float64).ravel())
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.sort(np.asarray(centroids, np.float64))
    for _ in range(iterations):
        borders = np.searchsorted(ordered, (centroids[:-1] + centroids[1:]) / 2, side="right")
        ends = np.concatenate([[0], borders, [ordered.size]])
        members = np.diff(ends)
        means = np.where(members > 0, np.diff(sums[ends]) / np.maximum(members, 1), centroids)
        if np.array_equal(means, centroids):
            break
        centroids = np.sort(means)
    return centroids


def assign(values: NDArray[Any], centroids: Floats) -> NDArray[np.int64]:
    """The nearest centroid's index for each value, of the values' shape; the lower one at equal distances."""
    borders = (centroids[:-1] + centroids[1:]) / 2
    return np.searchsorted(borders, values.astype(np.float64), side="left").astype(np.int64)


def share(values: NDArray[Any], k: int, how: str = "linear", seed: int = 0) -> tuple[NDArray[np.int64], Floats]:
    """Assignments and centroids [at most k] of the finite values; all distinct values themselves where they are so few.

    Raises ArgumentError for k < 1 and for values that are not finite.
    """
    if k < 1:
        raise ArgumentError(f"{k} shared values: there must be at least one")
    if not values.size:
        return np.zeros(values.shape, np.int64), np.zeros(0)
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ArgumentError("values that are not finite can't be shared")
    distinct = np.unique(wide)
    centroids = distinct if distinct.size <= k else lloyd(wide, initial(wide.ravel(), k, how, seed))
    return assign(wide, centroids), centroids


def ratio(n: int, k: int, bits: int = 32) -> float:
    """The rate of sharing k values among n of `bits` bits, nb / (n log2 k + k b) (Han et al. 2016, equation 1)."""
    return n * bits / (n * np.log2(k) + k * bits)
