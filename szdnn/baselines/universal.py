"""Universal compression: Choi, El-Khamy and Lee, "Universal deep neural network compression" (2018; 2020).

Prune; quantise what is left by a lattice with a dither that both sides draw from a seed, which makes the error independent
of the weights whatever their distribution; fine-tune the lattice points' values while assignments and dithers stay;
code the points' names and the pruned places by a universal code, one that needs no statistics. All layers' numbers make one
stream of each kind, because universal codes learn as they go.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, CorruptFrame
from . import blob, integers, masks, prune
from .base import Artefact, Context, Method, Parts, Stage, State, artefact, named_dtype, register, unpack
from .lattices import LATTICES, Floats, Integers, Lattice

COMPARED = 4_000_000
"""Up to so many numbers, all coders are tried, for the table."""


@dataclass(frozen=True)
class Points:
    """A layer in lattice form.

    at: places of the kept weights [n], ascending. names: of the lattice points [m, d], (m - 1) d < n <= m d. step: of the lattice.
    moved: what fine-tuning added to the values of its most frequent points, in steps [j, d]; see `frequent`.
    """

    shape: tuple[int, ...]
    dtype: str
    at: Integers
    names: Integers
    step: np.float32
    moved: NDArray[np.float16]

    def build(self, lattice: Lattice, dither: Floats, members: int) -> NDArray[Any]:
        """The tensor; `dither` [m, d] is what `quantise` was given."""
        found, inverse = np.unique(self.names, axis=0, return_inverse=True)
        book = lattice.points(found)
        if self.moved.size:
            chosen = frequent(inverse, members)
            if chosen.size != len(self.moved):
                raise CorruptFrame(f"{len(self.moved)} fine-tuned points, but {chosen.size} with {members} members")
            book[chosen] += self.moved.astype(np.float64)
        values = (book[inverse.ravel()] - dither).ravel()[: self.at.size] * float(self.step)
        dense = np.zeros(int(np.prod(self.shape, dtype=np.int64)), named_dtype(self.dtype))
        dense[self.at] = values.astype(dense.dtype)
        return dense.reshape(self.shape)


def frequent(inverse: Integers, members: int) -> Integers:
    """Which of the distinct points have at least so many members: their values are fine-tuned."""
    return np.flatnonzero(np.bincount(inverse.ravel()) >= members)


def uniform(seed: int, count: int) -> Floats:
    """Numbers even over 0 to 1, the same on every machine: SplitMix64 (Steele, Lea and Flood 2014) of a counter."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def dither(lattice: Lattice, seed: int, layer: int, count: int) -> Floats:
    """The dithers [m, d] of a layer's `count` kept weights."""
    rows = -(-count // lattice.dimension)
    numbers = uniform((seed * 65_537 + layer + 1) % (1 << 31), rows * lattice.dimension)
    return lattice.dither(numbers.reshape(rows, lattice.dimension))


def quantise(weights: NDArray[Any], kept: masks.Mask, lattice: Lattice, step: float, dithers: Floats) -> Points:
    """The lattice points nearest to a layer's kept weights plus the dithers. step: in the weights' root mean squares.

    Raises ArgumentError for a step that is not above 0, and for weights that are not finite.
    """
    at = np.flatnonzero(kept)
    values = weights.ravel()[at].astype(np.float64)
    if not (step > 0 and np.isfinite(step)):
        raise ArgumentError(f"step {step}: a lattice's step must be above 0")
    if not np.isfinite(values).all():
        raise ArgumentError("weights that are not finite can't be quantised by a lattice")
    unit = np.float32(step * np.sqrt(np.mean(values**2)) if values.size else 1.0)
    unit = unit if unit > 0 else np.float32(1.0)
    padded = np.zeros(dithers.size)
    padded[: values.size] = values / float(unit)
    names = lattice.nearest(padded.reshape(dithers.shape) + dithers)
    return Points(weights.shape, weights.dtype.name, at, names, unit, np.zeros((0, lattice.dimension), np.float16))


@dataclass(frozen=True)
class Universal(prune.Pruning, Method):
    """Universal compression.

    lattice: "Z", "A2", "D4" or "E8". step: of the lattice, in root mean squares of each layer's kept weights. coder: of
    `integers.CODERS`. dithered: False quantises without dithers. members: points with at least so many are fine-tuned;
    tune_rate, tune_epochs: of that; the others are of retraining after pruning.
    """

    trains: ClassVar[bool] = True
    lattice: str = "Z"
    step: float = 0.6
    coder: str = "bzip2"
    dithered: bool = True
    members: int = 64
    tune_rate: float = 1e-4
    tune_epochs: float = 1.0

    def fit(self, state: State, context: Context) -> Artefact:
        """Prune, quantise, fine-tune, code; stages "pruned" and "quantised" with their sizes."""
        tuned, kept = self.pruned(state, context)
        return self.quantised(state, tuned, kept, context)

    def quantised(self, state: State, pruned: State, kept: masks.Masks, context: Context) -> Artefact:
        """All that follows pruning, of a pruned checkpoint."""
        if self.lattice not in LATTICES:
            raise ArgumentError(f"no lattice {self.lattice!r}; there are {', '.join(LATTICES)}")
        sparse = prune.Prune(half=self.half).stored(state, pruned, kept)
        layers = {
            name: quantise(
                pruned[name], mask, LATTICES[self.lattice], self.step, self._dither(context.seed, i, int(mask.sum()))
            )
            for i, (name, mask) in enumerate(kept.items())
        }
        quantised = self._stored(state, self._placed(pruned, layers, context), layers, context)
        tuned, layers = self._tuned(pruned, layers, context)
        stages = (
            Stage("pruned", len(sparse.data), pruned, {"density": masks.density(kept)}),
            Stage("quantised", len(quantised.data), self.decode(quantised.data)),
        )
        return replace(self._stored(state, tuned, layers, context), stages=stages)

    def _dither(self, seed: int, layer: int, count: int) -> Floats:
        found = dither(LATTICES[self.lattice], seed, layer, count)
        return found if self.dithered else np.zeros_like(found)

    def _placed(self, state: State, layers: Mapping[str, Points], context: Context) -> State:
        members = self.members
        built = {
            name: one.build(LATTICES[self.lattice], self._dither(context.seed, i, one.at.size), members)
            for i, (name, one) in enumerate(layers.items())
        }
        return state | built

    def _tuned(self, pruned: State, layers: dict[str, Points], context: Context) -> tuple[State, dict[str, Points]]:
        tuning = replace(self, rate=self.tune_rate, epochs=self.tune_epochs)
        if context.task is None or not self.tune_epochs:
            return pruned, layers
        from .retrain import Shared

        lattice = LATTICES[self.lattice]
        forms, frequents, books = {}, {}, {}
        for number, (name, layer) in enumerate(layers.items()):
            found, inverse = np.unique(layer.names, axis=0, return_inverse=True)
            offsets = -self._dither(context.seed, number, layer.at.size).ravel()[: layer.at.size] * float(layer.step)
            frequents[name], books[name] = frequent(inverse, self.members), lattice.points(found)
            forms[name] = Shared(
                (books[name] * float(layer.step)).astype(np.float32), inverse.ravel().astype(np.int64), layer.at,
                offsets.astype(np.float32), frequents[name], layer.shape,
            )  # fmt: skip
        state, trained = tuning.train(self._placed(pruned, layers, context), forms, context)
        result = {}
        for name, layer in layers.items():
            values = trained[name].reshape(-1, lattice.dimension).astype(np.float64) / float(layer.step)
            result[name] = replace(layer, moved=(values - books[name][frequents[name]]).astype(np.float16))
        return state, result

    def _stored(self, original: State, tuned: State, layers: dict[str, Points], context: Context) -> Artefact:
        gaps = [np.diff(layer.at, prepend=-1) - 1 for layer in layers.values() if not _is_dense(layer)]
        names = [_unsigned(layer.names.T.ravel()) for layer in layers.values()]
        streams = [np.concatenate([np.zeros(0, np.int64), *kind]) for kind in (gaps, names)]
        moved = [layer.moved.astype("<f2").tobytes() for layer in layers.values()]
        parts = [*(integers.encode(stream, self.coder) for stream in streams), b"".join(moved)]
        steps = np.array([layer.step for layer in layers.values()], "<f4").tobytes()
        numbers = [number for layer in layers.values() for number in (layer.at.size, layer.moved.shape[0])]
        whole = blob.join(numbers, [*parts, steps])
        meta = {
            "lattice": self.lattice, "coder": self.coder, "members": self.members, "dithered": self.dithered,
            "seed": context.seed,
        }  # fmt: skip
        # The streams are common to all layers: they stand in the first one's place.
        blobs = {name: whole if number == 0 else b"" for number, name in enumerate(layers)}
        made = artefact(
            original, blobs, meta, rest=self.rest(original, tuned), details=_details(streams, parts, layers)
        )
        return replace(made, layer_bytes=_shares(len(whole), layers))

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The quantised checkpoint."""
        parts = unpack(data)
        meta = parts.meta
        if not parts.layers:
            return parts.state({})
        method = cls(lattice=meta["lattice"], coder=meta["coder"], members=meta["members"], dithered=meta["dithered"])
        layers = _read(parts, LATTICES[method.lattice], method.coder)
        return parts.state(method._placed({}, layers, Context(seed=meta["seed"])))


register("universal", "prune, dithered lattice, fine-tuned values, bzip2", Universal)
for _coder in ("zlib", "lzw", "xz", "zstd", "huffman"):
    register(f"universal-{_coder}", f"the same, coded by {_coder}", functools.partial(Universal, coder=_coder))


def _is_dense(layer: Points) -> bool:
    return layer.at.size == int(np.prod(layer.shape, dtype=np.int64))


def _unsigned(numbers: Integers) -> Integers:
    return np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)


def _signed(numbers: Integers) -> Integers:
    return np.where(numbers & 1, -(numbers + 1) // 2, numbers // 2)


def _shares(whole: int, layers: Mapping[str, Points]) -> dict[str, int]:
    """The common bytes by layer, as their kept weights are."""
    total = max(1, sum(layer.at.size for layer in layers.values()))
    ends = np.cumsum([0, *(layer.at.size for layer in layers.values())]) * whole // total
    return dict(zip(layers, np.diff(ends).tolist(), strict=True))


def _details(streams: list[Integers], parts: list[bytes], layers: Mapping[str, Points]) -> dict[str, Any]:
    kept = sum(layer.at.size for layer in layers.values())
    size = sum(int(np.prod(layer.shape)) for layer in layers.values())
    found: dict[str, Any] = {"density": kept / max(1, size), "gap bytes": len(parts[0]), "name bytes": len(parts[1])}
    if sum(stream.size for stream in streams) <= COMPARED:
        found["coders"] = {c: sum(len(integers.encode(s, c)) for s in streams) for c in integers.CODERS}
    return found


def _read(parts: Parts, lattice: Lattice, coder: str) -> dict[str, Points]:
    first = next(iter(parts.layers.values()))
    numbers, (coded_gaps, coded_names, moved, steps) = blob.split(first, 2 * len(parts.layers), 4)
    counts, tuned = numbers[::2], numbers[1::2]
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in parts.shapes.values()]
    if any(count > size for count, size in zip(counts, sizes, strict=True)) or len(steps) != 4 * len(counts):
        raise CorruptFrame("more weights than the layers have, or steps that are missing")
    d = lattice.dimension
    rows = [-(-count // d) for count in counts]
    sparse = [count if count < size else 0 for count, size in zip(counts, sizes, strict=True)]
    gaps = np.split(integers.decode(coded_gaps, sum(sparse), coder), np.cumsum(sparse))
    names = np.split(_signed(integers.decode(coded_names, d * sum(rows), coder)), np.cumsum(np.array(rows) * d))
    if len(moved) != 2 * d * sum(tuned):
        raise CorruptFrame(f"{len(moved)} bytes of fine-tuned points, {sum(tuned)} points")
    moves = np.split(np.frombuffer(moved, "<f2").reshape(-1, d), np.cumsum(tuned))
    found = {}
    for i, (name, step) in enumerate(zip(parts.layers, np.frombuffer(steps, "<f4"), strict=True)):
        at = np.cumsum(gaps[i] + 1) - 1 if sparse[i] else np.arange(counts[i])
        if at.size and at[-1] >= sizes[i]:
            raise CorruptFrame(f"{name}: a weight at {at[-1]} of {sizes[i]}")
        points = names[i].reshape(d, rows[i]).T
        found[name] = Points(parts.shapes[name], parts.dtypes[name], at, points, step, moves[i])
    return found
