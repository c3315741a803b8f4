"""What a tuned file may cost: a drop of the score, bytes, or bits a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from ..errors import ArgumentError


def _number(value: object, name: str, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(float(value)):
        raise ArgumentError(f"{name} must be a finite number, not {value!r}")
    if float(value) < least:
        raise ArgumentError(f"{name} must be at least {least:g}, not {value!r}")
    return float(value)


class Budget:
    """The base of budgets."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class MaxDrop(Budget):
    """The score may fall by at most `d`, in the evaluation's own units; the smallest file is sought."""

    d: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "d", _number(self.d, "MaxDrop: d", 0.0))


@dataclass(frozen=True, slots=True)
class MaxBytes(Budget):
    """The archive has at most `n` bytes; the best network under that is sought."""

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", int(_number(self.n, "MaxBytes: n", 1)))


@dataclass(frozen=True, slots=True)
class MaxBits(Budget):
    """The archive has at most `b` bits for each value of all tensors; the best network under that is sought."""

    b: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", _number(self.b, "MaxBits: b", 0.0))


def byte_limit(budget: Budget, values: int) -> float:
    """The bytes that the budget allows an archive of so many values; infinite for MaxDrop."""
    match budget:
        case MaxBytes(n):
            return n
        case MaxBits(b):
            return b * values / 8
    return math.inf
