"""How a tensor is cut into tiles for prediction."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator

INTERPOLATED_TILE = 1 << 20
INTERPOLATED_MULTIPLE = 16  # so that coarse looks at tiles fit together, up to level 4
ROW_COST = 1.25
"""What a row costs: as much as a cut of that part of the values beside it."""

Extents = tuple[int, ...]


@functools.lru_cache(256)
def folded_dims(shape: Extents) -> Extents:
    """The shape as 1 to 4 axes for prediction: axes of extent 1 dropped, leading ones folded together."""
    dims = [extent for extent in shape if extent != 1]
    while len(dims) > 4:
        dims[:2] = [dims[0] * dims[1]]
    return tuple(dims) or (1,)


@functools.lru_cache(256)
def cubic_tile(dims: Extents, volume: int) -> Extents:
    """A tile of at most `volume` values, as near to a cube as the dims allow; tiles are about equal."""
    tile = [1] * len(dims)
    rest = volume
    for done, axis in enumerate(sorted(range(len(dims)), key=lambda a: dims[a])):
        left = len(dims) - done
        edge = round(rest ** (1 / left))
        while edge**left > rest:
            edge -= 1
        count = -(-dims[axis] // max(1, edge))
        tile[axis] = -(-dims[axis] // count)
        rest //= tile[axis]
    return tuple(tile)


@functools.lru_cache(256)
def interpolated_tile(dims: Extents, volume: int = INTERPOLATED_TILE) -> Extents:
    """A tile of at most `volume` values with few cuts, each of which hides neighbours from what is beside it, and long
    rows, which are computed by vectors.

    Edges of axes that are cut are multiples of INTERPOLATED_MULTIPLE unless the volume is too small for that, and tiles
    about equal.
    """
    if math.prod(dims) <= volume:
        return dims
    multiple = INTERPOLATED_MULTIPLE if volume >= INTERPOLATED_MULTIPLE ** len(dims) else 1
    tiles = []
    for others in itertools.product(*(_edges(extent, multiple) for extent in dims[:-1])):
        longest = volume // math.prod(others)
        if longest >= min(multiple, dims[-1]):
            tiles.append((*others, _longest(dims[-1], longest, multiple)))
    return min(tiles, key=lambda tile: (_cost(dims, tile), tile))


def _edges(extent: int, multiple: int) -> Iterator[int]:
    """Edges that cut an axis into 1, 2, 3 ... about equal parts, more and more of them."""
    edge, count = extent, 1
    while True:
        yield edge
        if edge <= multiple:
            return
        count += max(1, count // 4)
        edge = _raised(extent, count, multiple)


def _longest(extent: int, most: int, multiple: int) -> int:
    """The longest edge of about equal parts that is not beyond `most`."""
    count = -(-extent // most)
    while (edge := _raised(extent, count, multiple)) > most:
        count += 1
    return edge


def _raised(extent: int, count: int, multiple: int) -> int:
    """The edge of so many parts: all of an axis, or a multiple."""
    return extent if count == 1 else min(extent, -(-extent // (count * multiple)) * multiple)


def _cost(dims: Extents, tile: Extents) -> float:
    cuts = ((-(-extent // edge) - 1) / extent for extent, edge in zip(dims, tile, strict=True))
    return round(sum(cuts) + ROW_COST / tile[-1], 9)  # ties are ties
