"""Which weights to prune: the smallest magnitudes (Han et al. 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Masks = dict[str, Mask]


def by_layer(state: Mapping[str, Array], densities: Mapping[str, float]) -> Masks:
    """A rate for each layer: of each tensor that `densities` names, that share of weights, the largest, stays.

    Ties are decided by position; NaN counts as infinite. Raises ArgumentError for a share that is not in (0, 1].
    """
    masks = {}
    for name, density in densities.items():
        weights = state[name]
        mask = np.zeros(weights.size, np.bool_)
        mask[_largest(_magnitudes(weights), _count(density, weights.size))] = True
        masks[name] = mask.reshape(weights.shape)
    return masks


def by_threshold(state: Mapping[str, Array], names: Sequence[str], density: float) -> Masks:
    """One threshold for all named tensors together: the largest magnitudes of them all stay.

    A tensor of which nothing would stay keeps its largest weight: the network would be cut in two.
    """
    magnitudes = np.concatenate([np.zeros(0), *(_magnitudes(state[name]) for name in names)])
    kept = np.zeros(magnitudes.size, np.bool_)
    kept[_largest(magnitudes, _count(density, magnitudes.size))] = True
    masks, start = {}, 0
    for name in names:
        end = start + state[name].size
        mask = kept[start:end]
        if mask.size and not mask.any():
            mask[np.argmax(magnitudes[start:end])] = True
        masks[name] = mask.reshape(state[name].shape)
        start = end
    return masks


def density(masks: Mapping[str, Mask]) -> float:
    """The share of weights that all masks together keep."""
    return sum(int(mask.sum()) for mask in masks.values()) / max(1, sum(mask.size for mask in masks.values()))


def _magnitudes(weights: Array) -> NDArray[np.float64]:
    return np.nan_to_num(np.abs(weights.astype(np.float64)), nan=np.inf).ravel()


def _largest(magnitudes: NDArray[np.float64], keep: int) -> NDArray[np.intp]:
    return np.argsort(-magnitudes, kind="stable")[:keep]


def _count(density: float, size: int) -> int:
    if not 0 < density <= 1:
        raise ArgumentError(f"density {density}: the share of weights to keep must be above 0 and at most 1")
    return min(size, int(np.ceil(density * size)))
