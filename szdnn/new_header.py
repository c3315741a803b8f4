"""Headers of frames to be: dtype, shape, bound, tiles and predictor."""

from __future__ import annotations

import functools
import math
from decimal import Decimal

from . import _native
from .arrays import COMPLEX_CODES
from .bounds import PSNR, RMSE, Abs, Bits, Lossless, PointwiseRel, Rel, Std
from .resolve import FLAG_RANGE, FLAG_ROBUST, KINDS, Target
from .tiles import cubic_tile, folded_dims, interpolated_tile

# Predicted tiles hold half as many values as plain ones: the decoder keeps a whole one, and half a megabyte
# stays in cache.
PREDICTED_TILE = 1 << 17
REGRESSION_EDGES = {1: 64, 2: 12, 3: 6, 4: 6}
REGRESSION_FRACTION_BITS = 4
MOST_COEFFICIENTS, COEFFICIENTS_SHARE = 1024, 8  # or one for so many values


def _bound_value(target: Target) -> float:
    bound = target.bound
    match bound:
        case Abs():
            return max(bound.eps, default=1.0) if isinstance(bound.eps, tuple) else bound.eps
        case Rel() | PointwiseRel():
            return bound.r
        case Std():
            return bound.c
        case PSNR():
            return bound.db
        case RMSE():
            return bound.v
        case Bits():
            return bound.b
    return 0.0


@functools.lru_cache(256)
def decimal_parts(value: float) -> tuple[int, int]:
    """(digits, exponent) of the shortest decimal that is this double."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    number = int("".join(map(str, digits)))
    return -number if sign else number, int(exponent)


def shorten_bound(header: _native.Header) -> None:
    """A lossless frame keeps its bound to six digits, rounded down, and no range: it shall not grow by more
    than 8 bytes."""
    c = header.c
    while abs(c.bound_digits) >= 10**6:
        c.bound_digits, c.bound_exponent = c.bound_digits // 10, c.bound_exponent + 1
    c.bound_flags &= ~(FLAG_RANGE | FLAG_ROBUST)


def new_header(code: int, shape: tuple[int, ...], target: Target) -> _native.Header:
    """A header with dtype, shape and bound; kind lossless, default tiles."""
    header = _native.Header()
    c = header.c
    c.dtype = code
    set_shape(header, shape)
    if not isinstance(target.bound, Lossless):
        c.bound_kind, c.bound_flags = KINDS[type(target.bound)], target.flags
        c.bound_digits, c.bound_exponent = decimal_parts(_bound_value(target))
        if target.flags & FLAG_RANGE and target.span:
            c.bound_lo, c.bound_hi = target.span
    return header


def set_shape(header: _native.Header, shape: tuple[int, ...]) -> None:
    """The tensor's shape."""
    header.c.rank = len(shape)
    for axis, extent in enumerate(shape):
        header.c.shape[axis] = extent


def set_tiles(header: _native.Header, dims: tuple[int, ...], tile: tuple[int, ...]) -> None:
    """Tiles other than the default."""
    c = header.c
    c.tile_rank = len(dims)
    for axis, (extent, edge) in enumerate(zip(dims, tile, strict=True)):
        c.dims[axis], c.tile[axis] = extent, edge


def _regression_edge(tile: tuple[int, ...]) -> int:
    """Of the cubes that planes are fitted to: longer where a thin tile would have more coefficients than it may."""
    edge, most = REGRESSION_EDGES[len(tile)], max(MOST_COEFFICIENTS, math.prod(tile) // COEFFICIENTS_SHARE)
    while math.prod(-(-extent // edge) for extent in tile) * (len(tile) + 1) > most:
        edge *= 2
    return edge


def set_predictor(header: _native.Header, shape: tuple[int, ...], predictor: str) -> None:
    """A predictor with the tiles that suit it."""
    if predictor == "none":
        return
    c = header.c
    c.predictor = _native.PREDICTORS[predictor]
    if predictor == "repeat":
        elements = math.prod(shape) * (2 if c.dtype in COMPLEX_CODES else 1)
        set_tiles(header, (elements,), (min(elements, _native.REPEAT_TILE),))
        return
    dims = folded_dims(shape)
    interpolated = predictor == "interpolation"
    set_tiles(header, dims, interpolated_tile(dims) if interpolated else cubic_tile(dims, PREDICTED_TILE))
    if interpolated:
        c.wide_bits = 0  # residuals are small where lattice integers are not
    if predictor == "regression":
        c.edge, c.fraction_bits = _regression_edge(header.tile), REGRESSION_FRACTION_BITS
