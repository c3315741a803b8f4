"""Pruning: Han et al., "Learning both weights and connections for efficient neural networks" (2015)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, CorruptFrame
from . import blob, integers, masks, sparse
from .base import Artefact, Context, Method, Stage, State, artefact, named_dtype, register, unpack, weight_names

LADDER = (0.5, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.025, 0.018, 0.0125)
"""Shares of weights that are kept one after the other where the budget says when to stop."""
WITHOUT_TASK = 0.1
"""The share where nothing says what pruning costs: what the paper kept of its networks."""
STORAGES = ("relative", "csr", "csc")


@dataclass(frozen=True)
class Tuning:
    """How a method fine-tunes; part of its settings.

    epochs, rate, optimizer, decay (L2), batch: of each retraining, as `nets.training.Recipe` has them; augment: as the task does it.
    bfloat16: computes in it. half: biases and normalisation are kept as float16 once they were trained; else exactly.
    """

    epochs: float = 1.0
    rate: float = 1e-3
    optimizer: str = "adam"
    decay: float = 1e-4
    batch: int = 128
    augment: bool = False
    bfloat16: bool = False
    half: bool = False

    def train(self, state: State, forms: dict[str, Any], context: Context) -> tuple[State, dict[str, NDArray[Any]]]:
        """`retrain.retrain` by these settings; without a task or epochs the state as it is, and no trained numbers."""
        if context.task is None or not self.epochs:
            return state, {}
        from ..nets.training import Recipe
        from . import retrain

        recipe = Recipe(
            self.epochs, self.rate, self.optimizer, decay=self.decay, augment=self.augment, batch=self.batch
        )
        return retrain.retrain(state, forms, context, recipe, self.bfloat16)

    def rest(self, original: State, tuned: State) -> State:
        """The tensors that are no weights as they are stored: exactly, or what fits as float16 if `half` and they changed."""
        weights = set(weight_names(original))
        others = {name: value for name, value in tuned.items() if name not in weights}
        if not self.half:
            return others
        small = {name: value.astype(np.float16) for name, value in others.items() if value.dtype == np.float32}
        return others | {name: value for name, value in small.items() if np.isfinite(value).all()}


@dataclass(frozen=True)
class Pruning(Tuning):
    """How a method prunes; part of its settings.

    density: the share of weights that stay; 0: as few as the budget allows, tried step by step on the search split.
    rates: shares by layer, in the network's order, "0.08/0.09/0.26", instead. scope: "network" (one threshold for all) or "layer" (the same
    share of each). steps: in how many steps of pruning and retraining it comes to its density.
    """

    density: float = 0.0
    rates: str = ""
    scope: str = "network"
    steps: int = 3

    def pruned(self, state: State, context: Context) -> tuple[State, masks.Masks]:
        """The checkpoint with its smallest weights zero and the others retrained, and the masks of its weight layers."""
        names = weight_names(state)
        if self.scope not in ("network", "layer"):
            raise ArgumentError(f"scope {self.scope!r}: a threshold is for the network or for a layer")
        if self.rates:
            return self._to_rates(state, self._layer_rates(names), context)
        if self.density or context.task is None:
            return self._to_density(state, self.density or WITHOUT_TASK, context)
        return self._to_budget(state, context)

    def _layer_rates(self, names: list[str]) -> dict[str, float]:
        try:
            rates = [float(item) for item in self.rates.split("/")]
        except ValueError:
            raise ArgumentError(
                f"rates {self.rates!r}: shares separated by / are expected, as 0.08/0.09/0.26"
            ) from None
        if len(rates) != len(names):
            raise ArgumentError(f"{len(rates)} rates for the {len(names)} weight layers {', '.join(names)}")
        return dict(zip(names, rates, strict=True))

    def _to_rates(self, state: State, rates: dict[str, float], context: Context) -> tuple[State, masks.Masks]:
        kept: masks.Masks = {}
        for step in range(1, self.steps + 1):
            kept = masks.by_layer(state, {name: rate ** (step / self.steps) for name, rate in rates.items()})
            state = self._retrained(state, kept, context)
        return state, kept

    def _to_density(self, state: State, density: float, context: Context) -> tuple[State, masks.Masks]:
        kept: masks.Masks = {}
        for step in range(1, self.steps + 1):
            kept = self._masks(state, density ** (step / self.steps))
            state = self._retrained(state, kept, context)
        return state, kept

    def _to_budget(self, state: State, context: Context) -> tuple[State, masks.Masks]:
        before = context.evaluate(state)
        found = state, self._masks(state, 1.0)
        for density in LADDER:
            kept = self._masks(found[0], density)
            tried = self._retrained(found[0], kept, context)
            if not context.within_budget(context.evaluate(tried), before):
                break
            found = tried, kept
        return found

    def _masks(self, state: State, density: float) -> masks.Masks:
        names = weight_names(state)
        if self.scope == "network":
            return masks.by_threshold(state, names, density)
        return masks.by_layer(state, dict.fromkeys(names, density))

    def _retrained(self, state: State, kept: masks.Masks, context: Context) -> State:
        pruned = {
            name: np.where(kept[name], value, 0).astype(value.dtype) if name in kept else value
            for name, value in state.items()
        }
        if context.task is None:
            return pruned
        from .retrain import Masked

        context.say(f"pruned to {masks.density(kept):.2%}")
        tuned, _ = self.train(pruned, {name: Masked(mask) for name, mask in kept.items()}, context)
        return tuned


@dataclass(frozen=True)
class Prune(Pruning, Method):
    """Pruned weights in a sparse form, in full precision.

    storage: "relative" (indices with zero fillers), "csr" or "csc". index_bits: of a relative index; 0: the cheapest.
    """

    trains: ClassVar[bool] = True
    storage: str = "relative"
    index_bits: int = 0

    def fit(self, state: State, context: Context) -> Artefact:
        """Prune, retrain and store."""
        if self.storage not in STORAGES:
            raise ArgumentError(f"no storage {self.storage!r}; there are {', '.join(STORAGES)}")
        tuned, kept = self.pruned(state, context)
        return self.stored(state, tuned, kept)

    def stored(self, state: State, tuned: State, kept: masks.Masks) -> Artefact:
        """The artefact of a pruned checkpoint."""
        layers = {name: encode(tuned[name], kept[name], self.storage, self.index_bits) for name in kept}
        details = {"density": masks.density(kept)}
        return artefact(state, layers, {"storage": self.storage}, rest=self.rest(state, tuned), details=details)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The pruned checkpoint."""
        parts = unpack(data)
        weights = {
            name: decode(layer, parts.shapes[name], parts.dtypes[name], parts.meta["storage"])
            for name, layer in parts.layers.items()
        }
        return parts.state(weights)


register("prune", "the smallest weights zero, retrained; relative indices with zero fillers", Prune)
register("prune-csr", "the same in compressed sparse rows", functools.partial(Prune, storage="csr"))
register("prune-csc", "the same in compressed sparse columns", functools.partial(Prune, storage="csc"))


def encode(weights: NDArray[Any], kept: masks.Mask, storage: str, index_bits: int = 0) -> bytes:
    """A pruned layer's bytes: its kept weights bit for bit."""
    if storage != "relative":
        order, numbers, starts = sparse.compressed(kept, storage)
        values = weights.ravel()[order]
        parts = [integers.encode(numbers, "packed"), integers.encode(starts, "packed"), values.tobytes()]
        return blob.join([order.size, starts.size], parts)
    at = np.flatnonzero(kept)
    bits = index_bits or sparse.cheapest_bits(at, 8 * weights.itemsize)
    indices, is_weight = sparse.relative(at, bits)
    values = np.zeros(indices.size, weights.dtype)
    values[is_weight] = weights.ravel()[at]
    return blob.join([indices.size], [integers.encode(indices, "packed"), values.tobytes()])


def decode(data: bytes, shape: tuple[int, ...], dtype: str, storage: str) -> NDArray[Any]:
    """The layer of `encode`. Raises CorruptFrame."""
    kind, size = named_dtype(dtype), int(np.prod(shape, dtype=np.int64))
    dense = np.zeros(size, kind)
    if storage in ("csr", "csc"):
        (count, rows), (numbers, starts, raw) = blob.split(data, 2, 3)
        order = sparse.order_of(
            integers.decode(numbers, count, "packed"), integers.decode(starts, rows, "packed"), shape, storage
        )
    else:
        (count,), (packed, raw) = blob.split(data, 1, 2)
        order = sparse.positions(integers.decode(packed, count, "packed"), size)
    if len(raw) != count * kind.itemsize or order.size != count:
        raise CorruptFrame(f"{len(raw)} bytes are not the values of {count} weights")
    dense[order] = np.frombuffer(raw, kind)
    return dense.reshape(shape)
