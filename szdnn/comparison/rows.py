"""What is known of a method on a checkpoint: one row, and a row for each of its layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..baselines.base import State, is_floating
from .bound import Source


@dataclass(frozen=True)
class Errors:
    """How decoded values differ from the original ones, over those that are finite.

    largest: |x - x'|. relative: |x - x'| / |x| where x is not zero: 1 for what was set to zero. rmse: root mean
    square of x - x'.
    """

    largest: float
    relative: float
    rmse: float


def errors_of(original: NDArray[Any], decoded: NDArray[Any]) -> Errors:
    """The differences of two arrays of the same shape. Values that ceased to be finite count as infinite
    differences.
    """
    x, y = (np.asarray(a, np.float64).ravel() for a in (original, decoded))
    finite = np.isfinite(x)
    difference = np.abs(x[finite] - y[finite])
    difference[np.isnan(difference)] = np.inf
    size = np.abs(x[finite])
    relative = difference[size > 0] / size[size > 0]
    square = float(np.mean(difference**2)) if difference.size else 0.0
    return Errors(float(difference.max(initial=0)), float(relative.max(initial=0)), math.sqrt(square))


@dataclass(frozen=True)
class LayerRow:
    """One weight layer under one method.

    bits: bits a weight in the artefact, None where it does not tell. bound: the least bits a weight at this rmse of
    any method that takes weights as independent draws (see `bound`). deviation: the layer's standard deviation.
    """

    layer: str
    shape: tuple[int, ...]
    bytes: int | None
    bits: float | None
    bound: float
    largest: float
    relative: float
    rmse: float
    deviation: float


@dataclass(frozen=True)
class Row:
    """One method on one checkpoint.

    ratio: bytes of all tensors / bytes of the artefact; layers_ratio: of the weight layers / of what stands for them.
    bits: bits a weight of the weight layers. Errors are those of the weight layers. score_before, score: of the
    checkpoint and of what the bytes decode to, on the report examples; interval: of their difference, paired, 95%.
    seconds: CPU time; encoding includes search and training. decoded_ok: a fresh process decoded the bytes to exactly
    what was scored, with all names, shapes and dtypes of the checkpoint. exact: every bit came back. stages: (name,
    bytes, score) on the method's way. problem: why there are no figures.
    """

    method: str
    family: str
    summary: str
    bytes: int | None = None
    ratio: float | None = None
    layers_ratio: float | None = None
    bits: float | None = None
    largest: float | None = None
    relative: float | None = None
    rmse: float | None = None
    score_before: float | None = None
    score: float | None = None
    interval: tuple[float, float] | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    decoded_ok: bool | None = None
    exact: bool | None = None
    layers: tuple[LayerRow, ...] = ()
    stages: tuple[tuple[str, int, float | None], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    curve: str | None = None
    problem: str | None = None

    @property
    def change(self) -> float | None:
        """Score after - score before."""
        return None if self.score is None or self.score_before is None else self.score - self.score_before

    def as_json(self) -> dict[str, Any]:
        """JSON's own types; numbers that JSON lacks become null."""
        found: dict[str, Any] = _plain(dataclasses.asdict(self))
        return found | {"change": _plain(self.change)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def raw_bytes(state: State) -> int:
    """Bytes of all tensors."""
    return sum(value.nbytes for value in state.values())


def same_kind(state: State, decoded: State) -> bool:
    """Whether names, shapes and dtypes are equal; floating-point tensors may have come back in another floating-point
    dtype.
    """
    if set(state) != set(decoded):
        return False
    return all(
        decoded[name].shape == value.shape
        and (decoded[name].dtype == value.dtype or (is_floating(decoded[name]) and is_floating(value)))
        for name, value in state.items()
    )


def is_exact(state: State, decoded: State) -> bool:
    """Whether every bit is equal."""
    return all(
        decoded[name].dtype == value.dtype and np.array_equal(_bits(decoded[name]), _bits(value))
        for name, value in state.items()
    )


def _bits(value: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)


def layer_rows(
    sources: Mapping[str, Source], state: State, decoded: State, sizes: Mapping[str, int]
) -> tuple[LayerRow, ...]:
    """A row for each weight layer, sources being what is known of the original ones."""
    found = []
    for name, source in sources.items():
        error, size = errors_of(state[name], decoded[name]), sizes.get(name)
        bits = None if size is None else 8 * size / state[name].size
        bound = source.least_bits(error.rmse**2)
        shape = tuple(state[name].shape)
        found.append(
            LayerRow(name, shape, size, bits, bound, error.largest, error.relative, error.rmse, source.deviation)
        )
    return tuple(found)


def whole(rows: tuple[LayerRow, ...]) -> Errors:
    """The errors of all layers together."""
    counts = [math.prod(row.shape) for row in rows]
    square = sum(row.rmse**2 * count for row, count in zip(rows, counts, strict=True)) / max(1, sum(counts))
    return Errors(
        max((r.largest for r in rows), default=0.0), max((r.relative for r in rows), default=0.0), math.sqrt(square)
    )
