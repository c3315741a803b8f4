"""Weight sharing, or trained quantisation: Han et al., "Deep compression" (2016), section 3; Huffman's code, section 4.

A layer's weights become numbers of centroids. Of a pruned layer only the kept weights are shared; number 0 is then zero,
which fillers of the relative index need, so that b bits are for 2^b - 1 centroids.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, CorruptFrame
from . import blob, integers, kmeans, masks, sparse
from .base import Artefact, Context, Method, State, artefact, named_dtype, register, unpack, weight_names
from .prune import Tuning

HUFFMAN = ("none", "weights", "indices", "both")


@dataclass(frozen=True)
class Layer:
    """A layer in shared form.

    at: places of the kept weights [n], ascending; None when all are. numbers: each one's centroid [n]. codebook: [k].
    """

    shape: tuple[int, ...]
    at: NDArray[np.int64] | None
    numbers: NDArray[np.int64]
    codebook: NDArray[Any]

    def build(self) -> NDArray[Any]:
        """The tensor."""
        if self.at is None:
            return self.codebook[self.numbers].reshape(self.shape)
        dense = np.zeros(int(np.prod(self.shape, dtype=np.int64)), self.codebook.dtype)
        dense[self.at] = self.codebook[self.numbers]
        return dense.reshape(self.shape)


def share(weights: NDArray[Any], kept: masks.Mask | None, bits: int, init: str, seed: int = 0) -> Layer:
    """A layer's kept weights by 2^bits centroids, less one if some are pruned. Raises ArgumentError for impossible bits."""
    if not 1 <= bits <= 16:
        raise ArgumentError(f"shared weights of {bits} bits; 1 to 16 are possible")
    at = None if kept is None or kept.all() else np.flatnonzero(kept)
    values = weights.ravel() if at is None else weights.ravel()[at]
    numbers, centroids = kmeans.share(values, (1 << bits) - (at is not None), init, seed)
    return Layer(weights.shape, at, numbers, centroids.astype(weights.dtype))


@dataclass(frozen=True)
class Coding:
    """How numbers are written; part of a method's settings.

    huffman: of "none", "weights", "indices", "both" (the others in as many bits as they need). index_bits: of relative
    indices, or of convolutions' and dense layers', "8/5"; 0: the cheapest of each layer.
    """

    huffman: str = "none"
    index_bits: int | str = 0

    def coders(self) -> tuple[str, str]:
        """Of the indices and of the numbers. Raises ArgumentError for another setting."""
        if self.huffman not in HUFFMAN:
            raise ArgumentError(f"huffman {self.huffman!r}; there are {', '.join(HUFFMAN)}")
        indices = "huffman" if self.huffman in ("indices", "both") else "packed"
        return indices, "huffman" if self.huffman in ("weights", "both") else "packed"


def by_kind(setting: int | str, rank: int) -> int:
    """A setting "8/5": 8 for convolutions (four dimensions), 5 for dense layers; one number is for both."""
    first, _, second = str(setting).partition("/")
    try:
        return int(first if rank > 2 or not second else second)
    except ValueError:
        raise ArgumentError(f"{setting!r}: a number of bits, or those of convolutions / dense layers, as 8/5") from None


def encode(layer: Layer, coders: tuple[str, str], index_bits: int = 0) -> bytes:
    """A shared layer's bytes."""
    book = layer.codebook.tobytes()
    if layer.at is None:
        return blob.join(
            [0, layer.numbers.size, layer.codebook.size], [b"", integers.encode(layer.numbers, coders[1]), book]
        )
    bits = index_bits or sparse.cheapest_bits(layer.at, np.log2(layer.codebook.size + 1))
    indices, is_weight = sparse.relative(layer.at, bits)
    numbers = np.zeros(indices.size, np.int64)
    numbers[is_weight] = layer.numbers + 1
    parts = [integers.encode(indices, coders[0]), integers.encode(numbers, coders[1]), book]
    return blob.join([1, indices.size, layer.codebook.size], parts)


def decode(data: bytes, shape: tuple[int, ...], dtype: str, coders: tuple[str, str]) -> NDArray[Any]:
    """The tensor of `encode`. Raises CorruptFrame."""
    (is_sparse, count, k), (packed, coded, book) = blob.split(data, 3, 3)
    kind, size = named_dtype(dtype), int(np.prod(shape, dtype=np.int64))
    if len(book) != k * kind.itemsize or count > size:
        raise CorruptFrame(f"{len(book)} bytes for {k} shared weights; {count} of {size} values")
    codebook = np.frombuffer(book, kind)
    numbers = integers.decode(coded, count, coders[1])
    if numbers.size and numbers.max() >= k + is_sparse:
        raise CorruptFrame(f"shared weight {numbers.max()} of {k}")
    if not is_sparse:
        if count != size:
            raise CorruptFrame(f"{count} shared weights for {size} values")
        return codebook[numbers].reshape(shape)
    dense = np.zeros(size, kind)
    values = np.concatenate([np.zeros(1, kind), codebook])
    dense[sparse.positions(integers.decode(packed, count, coders[0]), size)] = values[numbers]
    return dense.reshape(shape)


def tune(state: State, layers: Mapping[str, Layer], tuning: Tuning, context: Context) -> tuple[State, dict[str, Layer]]:
    """The codebooks (and all that is not shared) fine-tuned; without a task only put in place."""
    placed = state | {name: layer.build() for name, layer in layers.items()}
    if context.task is None or not tuning.epochs:
        return placed, dict(layers)
    from .retrain import Shared

    def form(layer: Layer) -> Shared:
        at = np.arange(layer.numbers.size) if layer.at is None else layer.at
        return Shared(
            layer.codebook.astype(np.float32)[:, None], layer.numbers, at, np.zeros(at.size, np.float32),
            np.arange(layer.codebook.size), layer.shape,
        )  # fmt: skip

    tuned, books = tuning.train(placed, {name: form(layer) for name, layer in layers.items()}, context)
    found = {
        name: Layer(layer.shape, layer.at, layer.numbers, books[name].astype(layer.codebook.dtype))
        for name, layer in layers.items()
    }
    return tuned | {name: layer.build() for name, layer in found.items()}, found


def stored(
    original: State, tuned: State, layers: Mapping[str, Layer], coding: Coding, tuning: Tuning, **more: Any
) -> Artefact:
    """The artefact of a checkpoint with shared weights."""
    coders = coding.coders()
    blobs = {
        name: encode(layer, coders, by_kind(coding.index_bits, len(layer.shape))) for name, layer in layers.items()
    }
    return artefact(original, blobs, {"coders": coders}, rest=tuning.rest(original, tuned), **more)


def restored(data: bytes) -> State:
    """The checkpoint of `stored`."""
    parts = unpack(data)
    coders = tuple(parts.meta["coders"])
    weights = {
        name: decode(layer, parts.shapes[name], parts.dtypes[name], (coders[0], coders[1]))
        for name, layer in parts.layers.items()
    }
    return parts.state(weights)


@dataclass(frozen=True)
class Sharing(Coding, Tuning, Method):
    """All weights shared, none pruned.

    bits: of a weight's number, or those of convolutions / dense layers, "8/5". init: of k-means, "forgy", "density" or "linear".
    """

    trains: ClassVar[bool] = True
    rate: float = 1e-4
    bits: int | str = 5
    init: str = "linear"

    def fit(self, state: State, context: Context) -> Artefact:
        """Cluster each layer, fine-tune the centroids, store."""
        layers = {
            name: share(state[name], None, by_kind(self.bits, state[name].ndim), self.init, context.seed)
            for name in weight_names(state)
        }
        tuned, layers = tune(state, layers, self, context)
        return stored(state, tuned, layers, self, self)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The checkpoint with shared weights."""
        return restored(data)


register("sharing", "weights of a layer share 2^b values (k-means), fine-tuned; packed numbers", Sharing)
register("sharing-huffman", "the same with Huffman-coded numbers", functools.partial(Sharing, huffman="weights"))
