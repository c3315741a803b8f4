"""Small tensors in groups: those of one dtype and bound share a frame, so that none pays for a header of its own. Not
quite so small ones are groups of one: none pays for an entry of its own.

The archive's entry `__szdnn__.small` is the groups' frames one after the other, then the index, a zstd frame of JSON
with a checksum, then the index's length as a little-endian u32. The index is a list with, for each group, the length of
its frame and its members: the first one's place in the skeleton's list of tensors, less that of the group before, then
the distance from each to the next. A group of several tensors is one row of their values in that order; of one tensor,
that tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from . import skeleton
from .bounds import Abs, Bound, Lossless, PointwiseRel, Rel
from .errors import ArchiveError, CorruptFrame, LimitError
from .source import Array, Json, TensorSpec

SMALL_BYTES = 4096
"""Tensors of fewer bytes are small."""
ALONE_BYTES = 1 << 14
"""Tensors of fewer bytes, down to the small ones, are groups of one: an entry of their own would cost some 80 bytes."""
SMALL_STATE = 1 << 22
"""At effort 9, a state of at most so many bytes is small as a whole: an entry of its own costs a tensor 80 bytes."""
GROUP_VALUES = 1 << 18
"""A group ends once it holds so many values: one block of a frame."""


@dataclass(frozen=True)
class Group:
    """Names of the tensors that share a frame, in order."""

    names: tuple[str, ...]
    bound: Bound


def groups(specs: Mapping[str, TensorSpec], bounds: Mapping[str, Bound], *, whole: bool = False) -> list[Group]:
    """The small ones of some tensors in groups whose members' bound means the same for the group as for each, and those
    under ALONE_BYTES in groups of one.

    whole: the others too, each a group of its own.
    """
    open_groups: dict[tuple[Any, ...], list[str]] = {}
    done: list[Group] = []
    values: dict[tuple[Any, ...], int] = {}
    for name, spec in specs.items():
        bound, is_small = bounds[name], spec.nbytes < SMALL_BYTES
        if spec.nbytes >= ALONE_BYTES and not whole:
            continue
        if not is_small or not _is_shareable(bound):
            done.append(Group((name,), bound))
            continue
        key = (spec.dtype.newbyteorder("=").name, bound)
        open_groups.setdefault(key, []).append(name)
        values[key] = values.get(key, 0) + spec.size
        if values[key] >= GROUP_VALUES:
            done.append(Group(tuple(open_groups.pop(key)), bound))
            del values[key]
    return [*done, *(Group(tuple(names), key[1]) for key, names in open_groups.items())]


def _is_shareable(bound: Bound) -> bool:
    """Whether a bound on several tensors in a row is that bound on each: it must not depend on their values."""
    if isinstance(bound, Rel):
        return isinstance(bound.range, tuple)
    return isinstance(bound, (Lossless, PointwiseRel)) or (isinstance(bound, Abs) and bound.axis is None)


def join(arrays: list[Array]) -> Array:
    """The array that a group's frame holds."""
    if len(arrays) == 1:
        return arrays[0]
    native = arrays[0].dtype.newbyteorder("=")
    return np.concatenate([array.reshape(-1) for array in arrays]).astype(native, copy=False)


def shares(length: int, sizes: list[int]) -> list[int]:
    """The bytes of a group's frame that are reckoned as each member's, by its part of the values; at least one each."""
    total = max(sum(sizes), 1)
    ends = [length * done // total for done in accumulate(sizes)]
    return [max(stop - start, 1) for start, stop in zip([0, *ends], ends, strict=False)]


def pack_index(lengths: list[int], members: list[list[int]]) -> bytes:
    """The index and its length, to follow the frames."""
    firsts = [0, *(ids[0] for ids in members)]
    columns = [
        [length, [b - a for a, b in zip([before, *ids], ids, strict=False)]]
        for length, ids, before in zip(lengths, members, firsts, strict=False)
    ]
    blob = skeleton.pack_json(columns)
    return blob + len(blob).to_bytes(4, "little")


@dataclass(frozen=True)
class Member:
    """Where a small tensor lies: its group's frame in the entry, and its values in the group.

    share: bytes of the group's frame that are reckoned as the tensor's, by its part of the values; at least one.
    """

    group: int
    frame: tuple[int, int]
    first: int
    shape: tuple[int, ...]
    is_alone: bool
    share: int

    def take(self, group: Array) -> Array:
        """The tensor out of its decoded group, as a copy that keeps nothing else in memory."""
        if self.is_alone:
            return group
        size = math.prod(self.shape)
        return group[self.first : self.first + size].reshape(self.shape).copy()


def read_index(entry: Array, specs: list[tuple[str, TensorSpec]], max_bytes: int | None = None) -> dict[str, Member]:
    """The members of the small entry by name. Raises CorruptFrame for an index that does not fit, LimitError for one
    that takes more than `max_bytes` (and 1 MB) of JSON."""
    try:
        end = entry.size - 4
        start = end - int.from_bytes(entry[max(end, 0) :].tobytes(), "little")
        if start < 0:
            raise ValueError("its length")
        found = dict(_members(skeleton.unpack_json(entry[start:end].tobytes(), max_bytes), start, specs))
    except LimitError:
        raise
    except (ArchiveError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise CorruptFrame(f"the index of small tensors is damaged: {error}") from None
    return found


def _members(index: Json, stop: int, specs: list[tuple[str, TensorSpec]]) -> Iterator[tuple[str, Member]]:
    at = before = 0
    seen: set[int] = set()
    for number, (length, steps) in enumerate(index):
        ids = list(accumulate(steps, initial=before))[1:]
        before = ids[0]
        frame, at, first, dtypes = (at, at + length), at + length, 0, set()
        sizes = [specs[i][1].size for i in ids]
        fits = min(ids) >= 0 and length >= 1 and at <= stop
        fits = fits and (len(ids) == 1 or sum(sizes) <= GROUP_VALUES + SMALL_BYTES)
        if not fits or seen & set(ids) or len(set(ids)) != len(ids):
            raise ValueError(f"group {number}")
        seen.update(ids)
        for i, share in zip(ids, shares(length, sizes), strict=True):
            name, spec = specs[i]
            dtypes.add(spec.dtype)
            if spec.nbytes >= SMALL_BYTES and len(ids) > 1:
                raise ValueError(f"{name} is not small")
            yield name, Member(number, frame, first, spec.shape, len(ids) == 1, share)
            first += spec.size
        if len(dtypes) != 1:
            raise ValueError(f"group {number} has several dtypes")
    if at != stop:
        raise ValueError(f"its frames end at {at}, not {stop}")
