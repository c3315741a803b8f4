"""Which predictor a tensor's frame is made with: by the entropy of samples, nearly always."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from .buffers import Room
from .tiles import cubic_tile, folded_dims

if TYPE_CHECKING:
    from .encoder import FrameMaker

SMALLEST_PREDICTED = 64
# Up to so many values a frame is made with and without the reference, and the smaller one kept; beyond, a sample tells.
TRIED_WITH_REFERENCE = 1 << 14
NEXT_TO_NOTHING = 1 / 16  # bits a value
FEW, MOSTLY = 1024, 31 / 32
# Whether interpolation is worth a trial: correlation is looked for in so many values, along axes at least so long.
RELATED_VALUES, RELATED_AXIS = 1 << 11, 3
# Of so many values on, the order of the axes is chosen, too; the other one where a sample takes so much less.
ORDERED_VALUES, CLEARLY = 1 << 22, 0.95
# So long that interpolation is as good in boxes as in the whole, nearly.
SAMPLE_SHARE, SAMPLE_LEAST, SAMPLE_MOST, SAMPLE_BOXES = 64, 4700, 1 << 17, 2


def sample_boxes(values: NDArray[Any]) -> list[NDArray[Any]]:
    """About 1 in SAMPLE_SHARE of the values, from SAMPLE_LEAST to SAMPLE_MOST, in boxes on a diagonal."""
    dims = folded_dims(values.shape)
    folded = values.reshape(dims)
    volume = max(SAMPLE_LEAST, min(SAMPLE_MOST, values.size // SAMPLE_SHARE))
    if volume >= values.size:
        return [folded]
    count = SAMPLE_BOXES if volume >= SAMPLE_BOXES * SAMPLE_LEAST else 1
    edges = cubic_tile(dims, volume // count)
    starts = [[(d - e) * (2 * i + 1) // (2 * count) for d, e in zip(dims, edges, strict=True)] for i in range(count)]
    return [
        np.ascontiguousarray(folded[tuple(slice(at, at + e) for at, e in zip(start, edges, strict=True))])
        for start in starts
    ]


class Chosen(NamedTuple):
    """Predictors whose frames are worth making, and about the bits a value of the first."""

    names: list[str]
    bits: float


def cheapest(maker: FrameMaker, lattice: _native.Header, allowed: list[str]) -> Chosen:
    """The one that is cheapest by the entropy of a sample; no prediction unless another saves at least a
    hundredth. For short tensors both that and the reference."""
    best, bits = _cheapest_own(maker, lattice) if "lorenzo" in allowed else ("none", math.inf)
    if "repeat" in allowed:
        header = maker.predicted(lattice, "repeat")
        header.complete()
        plain, repeated = _native.Encoder(header, maker.options, maker.values).estimate_repeat()
        if repeated < min(bits, plain) * 0.99:
            best = "repeat" if best == "none" else _smallest(maker, lattice, "repeat", best)
            bits = repeated
    if "reference" not in allowed:
        return Chosen([best], bits)
    if maker.values.size <= TRIED_WITH_REFERENCE:
        return Chosen([best, "reference"], bits)
    without, differences = reference_bits(maker, lattice)
    if differences < min(bits, without) * 0.99:
        return Chosen(["reference"], differences)
    return Chosen([best], bits)


def _smallest(maker: FrameMaker, lattice: _native.Header, *names: str) -> str:
    """The predictor whose frame is the smallest; where several leave next to nothing, samples do not tell."""
    headers = {name: maker.predicted(lattice, name) for name in names}  # each once, in the same order always
    sizes = {name: maker.justified(lattice, name, header, Room(None)).bytes for name, header in headers.items()}
    return min(sizes, key=lambda name: sizes[name])


def _cheapest_own(maker: FrameMaker, lattice: _native.Header) -> tuple[str, float]:
    """The cheapest predictor without the reference, and its bits a value. Interpolation is tried on a sample where
    another predictor pays, or neighbours are alike: most weights are spared that."""
    if maker.choices.effort < 2 or maker.values.size < SMALLEST_PREDICTED:
        return "none", math.inf
    header = maker.predicted(lattice, "regression")
    header.complete()
    sampler = _native.Encoder(header, maker.options, maker.values)
    bits = sampler.estimate()
    best = min(("lorenzo", "regression"), key=lambda name: bits[name])
    best = best if bits[best] < bits["none"] * 0.99 else "none"
    interpolable = maker.interpolable(lattice) and (
        best != "none" or sampler.neighbours_alike(RELATED_VALUES, RELATED_AXIS)
    )
    if bits[best] < NEXT_TO_NOTHING and not (best == "none" and _mostly_one_point(maker, lattice)):
        others = ("lorenzo", "interpolation") if interpolable else ("lorenzo",)
        return _smallest(maker, lattice, best, *others), bits[best]
    if not interpolable:
        return best, bits[best]
    cost, other, *more = _sample_costs(maker, lattice, _ways(maker, best))
    if more and more[0] < cost * CLEARLY:
        cost = more[0]
        maker.options = _native.options(maker.choices.coder, backward=True)
    return ("interpolation", bits[best] * cost / other) if cost < other else (best, bits[best])


def _mostly_one_point(maker: FrameMaker, lattice: _native.Header) -> bool:
    """Whether values far from each other are nearly all the same lattice point, as zeros are; runs and steps are
    not."""
    within = 0.0 if lattice.c.kind == _native.GEOMETRIC else lattice.c.step / 2
    with np.errstate(invalid="ignore", over="ignore"):
        few = np.sort(maker.values.reshape(-1)[:: max(1, maker.values.size // FEW)])
        return bool(np.count_nonzero(np.abs(few - few[few.size // 2]) <= within) > MOSTLY * few.size)


def _ways(maker: FrameMaker, other: str) -> list[tuple[str, bool]]:
    """Predictors to be tried on a sample, and whether the axes come in backward order: interpolation, the other
    one, and of large arrays interpolation backward."""
    large = maker.values.size >= ORDERED_VALUES and len(folded_dims(maker.values.shape)) > 1
    return [("interpolation", False), (other, False), *([("interpolation", True)] if large else [])]


def _sample_costs(maker: FrameMaker, lattice: _native.Header, ways: list[tuple[str, bool]]) -> list[float]:
    """About the bits that a few boxes spread over the tensor take, by predictor and order of axes. A longer array has
    no more tables than a box."""
    costs = [0.0] * len(ways)
    boxes = sample_boxes(maker.values)
    share = sum(box.size for box in boxes) / maker.values.size / len(boxes)
    for box in boxes:
        sample = maker.of_sample(box)
        for i, (predictor, backward) in enumerate(ways):
            header = sample.predicted(sample.with_shape(lattice), predictor)
            header.complete()
            options = _native.options(maker.choices.coder, backward=backward)
            encoder = _native.Encoder(header, options, box)
            symbols, tables = encoder.estimate_box()
            if predictor == "none":  # whose symbols may have contexts
                symbols = min(symbols, 8 * encoder.encode(0, keep=False).data.size)
            costs[i] += symbols + share * tables
    return costs


def reference_bits(maker: FrameMaker, plain: _native.Header) -> tuple[float, float]:
    """The estimated bits a value without and with the reference."""
    header = maker.predicted(plain, "reference")
    header.complete()
    return _native.Encoder(header, maker.options, maker.values, maker.reference).estimate_reference()
