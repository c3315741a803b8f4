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
NEXT_TO_NOTHING = 1 / 8  # bits a value
FEW, MOSTLY = 1024, 31 / 32
# Whether interpolation is worth a trial: correlation is looked for in so many values, along axes at least so long.
RELATED_VALUES, RELATED_AXIS = 1 << 11, 3
# Of so many values on, the order of the axes is chosen, too; the other one where a sample takes so much less.
ORDERED_VALUES, CLEARLY = 1 << 22, 0.95
# So long that interpolation is as good in boxes as in the whole, nearly; where their values take clearly more or fewer
# bits than those of the estimate's tiles, there are three times as many boxes.
SAMPLE_SHARE, SAMPLE_LEAST, SAMPLE_MOST, SAMPLE_BOXES = 64, 4700, 1 << 17, 2
UNLIKE = 1.5
# Where the scales of rows and columns may save such a part, a box is coded to see.
SCALES_TELL = 0.05


def sample_boxes(values: NDArray[Any], thirds: tuple[int, ...]) -> list[NDArray[Any]]:
    """About 1 in SAMPLE_SHARE of the values, from SAMPLE_LEAST to SAMPLE_MOST, in boxes on a diagonal: in the middle of
    each half of it, or of all of it, or in the `thirds` of that."""
    dims = folded_dims(values.shape)
    folded = values.reshape(dims)
    volume = max(SAMPLE_LEAST, min(SAMPLE_MOST, values.size // SAMPLE_SHARE))
    if volume >= values.size:
        return [folded]
    count = SAMPLE_BOXES if volume >= SAMPLE_BOXES * SAMPLE_LEAST else 1
    edges = cubic_tile(dims, volume // count)
    places = [6 * i + 2 * third + 1 for i in range(count) for third in thirds]
    starts = [[(d - e) * at // (6 * count) for d, e in zip(dims, edges, strict=True)] for at in places]
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
        return _smallest(maker, lattice, best, "none", *others), bits[best]
    if not interpolable:
        return best, bits[best]
    if maker.values.size <= SAMPLE_LEAST:
        return _smallest(maker, lattice, "interpolation", best, "none"), bits[best]
    cost, other, *more = _sample_costs(maker, lattice, _ways(maker, best), bits[best])
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


def _sample_costs(
    maker: FrameMaker, lattice: _native.Header, ways: list[tuple[str, bool]], expected: float
) -> list[float]:
    """About the bits a value of boxes spread over the tensor, by predictor and order of axes. expected: of the second
    one."""
    costs = _costs_of(maker, lattice, ways, sample_boxes(maker.values, (1,)))
    if expected / UNLIKE <= costs[1] <= expected * UNLIKE:
        return costs
    others = _costs_of(maker, lattice, ways, sample_boxes(maker.values, (0, 2)))
    return [(cost + 2 * other) / 3 for cost, other in zip(costs, others, strict=True)]


def _costs_of(
    maker: FrameMaker, lattice: _native.Header, ways: list[tuple[str, bool]], boxes: list[NDArray[Any]]
) -> list[float]:
    """About the bits a value that boxes of the tensor take. The whole has no more tables than a box."""
    costs = [0.0] * len(ways)
    for box in boxes:
        sample = maker.of_sample(box)
        for i, (predictor, backward) in enumerate(ways):
            header = sample.predicted(sample.with_shape(lattice), predictor)
            header.complete()
            options = _native.options(maker.choices.coder, backward=backward)
            encoder = _native.Encoder(header, options, box)
            symbols, tables, scales = encoder.estimate_box()
            if scales * box.size > SCALES_TELL * symbols:  # rows and columns may be contexts
                symbols = min(symbols, 8.0 * encoder.encode(0, keep=False).data.size)
            costs[i] += (symbols + tables * box.size / maker.values.size) / box.size / len(boxes)
    return costs


def reference_bits(maker: FrameMaker, plain: _native.Header) -> tuple[float, float]:
    """The estimated bits a value without and with the reference."""
    header = maker.predicted(plain, "reference")
    header.complete()
    return _native.Encoder(header, maker.options, maker.values, maker.reference).estimate_reference()
