"""Whether a result holds on data that the search did not see: paired differences with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds it with 95% confidence."""

    mean: float
    low: float
    high: float


def paired_interval(original: Sequence[float], other: Sequence[float], seed: int = 0) -> Interval:
    """The mean of other - original over the same examples, with a percentile bootstrap (Efron 1979) of 95%.

    original, other: the examples' scores, in one order.
    """
    differences = np.asarray(other, dtype=np.float64) - np.asarray(original, dtype=np.float64)
    rng = np.random.default_rng(seed)
    # A resample of n draws is a multinomial count of how often each distinct difference comes.
    values, counts = np.unique(differences, return_counts=True)
    n = differences.size
    drawn = rng.multinomial(n, counts / n, size=RESAMPLES) @ values / n
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high))


@dataclass(frozen=True)
class HeldOut:
    """The original's and the result's scores on the report split, and their difference where examples have scores.

    difference: result - original.
    """

    original: float
    result: float
    difference: Interval | None

    @property
    def drop(self) -> float:
        """How far the score fell."""
        return self.original - self.result
