"""Compressing the tensors of a source into an archive that is being written, here or on an executor."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import codec, pages, small
from .archive_writer import ArchiveWriter
from .bounds import Bound, Lossless
from .errors import BoundError
from .frame_reader import naming
from .reference import Values
from .source import Array, Source

if TYPE_CHECKING:
    from .bases import Base

Progress = Callable[[str, int], object]
"""Called after each tensor with its name and uncompressed bytes."""
LARGE = 16 << 20
"""Uncompressed bytes of a tensor that is compressed by several threads."""
IN_FLIGHT_BYTES = 128 << 20
"""Uncompressed bytes that are handed to an executor before the first of them comes back."""


@dataclass(frozen=True)
class Options:
    """How to compress.

    effort, threads: as for szdnn.compress; with an executor, a tensor takes one thread unless `threads` says more.
    verify: whether each frame is decoded and compared.
    executor: anything with concurrent.futures' submit(function, *args) -> future; None: threads of this process.
    progress: called after each tensor.
    """

    effort: int = 3
    threads: int | None = None
    verify: bool = True
    executor: Executor | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class TensorReport:
    """What became of one tensor: its frame's information and, when it was verified, its largest error."""

    name: str
    info: codec.FrameInfo
    comparison: codec.Comparison | None

    @property
    def size(self) -> int:
        """The number of values."""
        return self.info.values

    @property
    def is_lossy(self) -> bool:
        """Whether values may have changed."""
        return not isinstance(self.info.bound, Lossless)


def write_tensors(
    writer: ArchiveWriter,
    source: Source,
    bounds: Mapping[str, Bound],
    groups: list[small.Group],
    options: Options,
    base: Base | None = None,
) -> dict[str, TensorReport]:
    """Compress every tensor into an archive, groups first; a report by name.

    base: what frames may hold differences to.
    Raises BoundError naming the tensor whose bound can't be met, or was not.
    """
    grouped = {name for group in groups for name in group.names}
    units = [*groups, *(small.Group((name,), bounds[name]) for name in source if name not in grouped)]
    work = _threaded if options.executor is None else _there
    reports = {}
    for report in work(writer, source, units, len(groups), options, base):
        reports[report.name] = report
        if options.progress:
            options.progress(report.name, source.specs[report.name].nbytes)
    return reports


def _threaded(
    writer: ArchiveWriter, source: Source, units: list[small.Group], groups: int, options: Options, base: Base | None
) -> Iterator[TensorReport]:
    """Large tensors one after the other, each on all threads; of the others several at a time, each on one."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = options.threads or processors

    def is_large(unit: small.Group) -> bool:
        return workers == 1 or sum(source.specs[name].nbytes for name in unit.names) >= LARGE

    done = 0
    for large, run in itertools.groupby(units, is_large):
        part = list(run)
        if large:
            yield from _here(writer, source, part, groups - done, options, base)
        else:
            with ThreadPoolExecutor(workers) as pool:
                threads = replace(options, executor=pool, threads=1)
                yield from _there(writer, source, part, groups - done, threads, base)
        done += len(part)


def _add(writer: ArchiveWriter, unit: small.Group, is_group: bool, frame: Any) -> tuple[int, int]:
    return writer.add_group(unit, frame) if is_group else writer.add(unit.names[0], frame)


def _here(
    writer: ArchiveWriter, source: Source, units: list[small.Group], groups: int, options: Options, base: Base | None
) -> Iterator[TensorReport]:
    """One after the other; what is checked is what stands in the file."""
    for number, unit in enumerate(units):
        with _array(source, unit) as array, naming(unit.names[0]), _reference(base, source, unit) as reference:
            frame: Any = codec.compress(
                array, unit.bound, reference=reference, effort=options.effort, threads=options.threads
            )
            place = _add(writer, unit, number < groups, frame)
            del frame  # the one in the file takes its place
            frame = writer.read(place)
            found = _check(source, unit, array, frame, reference, options)
        yield from found


@contextmanager
def _reference(base: Base | None, source: Source, unit: small.Group) -> Iterator[Values | None]:
    """The values of the base for a tensor or a group, None where it has none of this shape."""
    shapes = [source.specs[name].shape for name in unit.names]
    found = None if base is None else base.reference(unit.names, shapes)
    if found is None:
        yield None
        return
    values = found.whole()
    with pages.released(pages.mapped_span(values)):
        yield Values(values, found.spare and values.flags.writeable)


def _check(
    source: Source, unit: small.Group, array: Array, frame: Any, reference: Values | None, options: Options
) -> list[TensorReport]:
    span = pages.mapped_span(frame) if isinstance(frame, np.ndarray) else None
    with pages.released(span):
        info = codec.info(frame)
        sizes = [source.specs[name].size for name in unit.names]
        comparisons = _compare(array, frame, info, sizes, options.threads, reference) if options.verify else None
    return _reports(source, unit, info, comparisons)


def _compare(
    array: Array,
    frame: Any,
    info: codec.FrameInfo,
    sizes: list[int],
    threads: int | None,
    reference: Values | None,
) -> list[codec.Comparison]:
    """The members of a group against what their frame decodes to, which takes the place of a reference that is to
    spare. Raises BoundError for a broken bound."""
    over = reference is not None and reference.spare and info.reference is not None and reference.dtype == info.dtype
    out = reference.whole() if reference is not None and over else None
    decoded = codec.decompress(frame, reference=reference, out=out, threads=threads)
    if len(sizes) == 1:
        found = [codec.compare(array, decoded, info)]
    else:
        ends = np.cumsum(sizes)
        found = [codec.compare(array[e - n : e], decoded[e - n : e], info) for e, n in zip(ends, sizes, strict=True)]
    broken = sum(comparison.violations for comparison in found)
    if broken:
        raise BoundError(f"{broken} values came back beyond {info.bound}: a bug in szdnn, please report")
    return found


def _reports(
    source: Source, unit: small.Group, info: codec.FrameInfo, comparisons: list[codec.Comparison] | None
) -> list[TensorReport]:
    found: list[codec.Comparison | None] = [None] * len(unit.names) if comparisons is None else [*comparisons]
    if len(unit.names) == 1:
        return [TensorReport(unit.names[0], info, found[0])]
    specs = [source.specs[name] for name in unit.names]
    shares = small.shares(info.frame_bytes, [spec.size for spec in specs])
    infos = [
        replace(info, shape=spec.shape, raw_bytes=spec.nbytes, frame_bytes=share)
        for spec, share in zip(specs, shares, strict=True)
    ]
    return [TensorReport(*row) for row in zip(unit.names, infos, found, strict=True)]


@contextmanager
def _array(source: Source, unit: small.Group) -> Iterator[Array]:
    """The values of one tensor, or of a group in a row."""
    if len(unit.names) == 1:
        with source.reading(unit.names[0]) as array:
            yield array
    else:
        yield small.join([np.asarray(source[name]) for name in unit.names])


def _there(
    writer: ArchiveWriter, source: Source, units: list[small.Group], groups: int, options: Options, base: Base | None
) -> Iterator[TensorReport]:
    """On the executor, a few at a time; frames are checked there, and written in order as they come back."""
    assert options.executor is not None
    waiting: deque[tuple[int, Future[Any], ExitStack]] = deque()
    in_flight = 0
    most = 2 * int(getattr(options.executor, "_max_workers", None) or os.cpu_count() or 1)

    def finish() -> list[TensorReport]:
        number, future, stack = waiting[0]
        unit = units[number]
        with naming(unit.names[0]):
            frame, info, comparisons = future.result()
        waiting.popleft()
        stack.close()
        _add(writer, unit, number < groups, frame)
        return _reports(source, unit, info, comparisons)

    try:
        for number, unit in enumerate(units):
            size = sum(source.specs[name].nbytes for name in unit.names)
            while waiting and (len(waiting) >= most or in_flight + size > IN_FLIGHT_BYTES):
                done = finish()
                in_flight -= sum(source.specs[report.name].nbytes for report in done)
                yield from done
            stack = ExitStack()
            array = stack.enter_context(_array(source, unit))
            with naming(unit.names[0]):
                reference = stack.enter_context(_reference(base, source, unit))
            sizes = [source.specs[name].size for name in unit.names]
            threads = options.threads or 1
            future = options.executor.submit(
                compress_one, array, unit.bound, options.effort, threads, sizes, options.verify, reference
            )
            waiting.append((number, future, stack))
            in_flight += size
        while waiting:
            yield from finish()
    finally:
        for _, future, stack in waiting:
            future.cancel()
            stack.close()


def compress_one(
    array: Array,
    bound: Bound,
    effort: int,
    threads: int,
    sizes: list[int],
    verify: bool,
    reference: Values | None = None,
) -> tuple[bytes, codec.FrameInfo, list[codec.Comparison] | None]:
    """What an executor is given to do: a frame, what it says of itself, and how its members' values differ.

    sizes: the values of each member of a group. Raises BoundError as compressing and checking do.
    """
    frame = bytes(codec.compress(array, bound, reference=reference, effort=effort, threads=threads))
    info = codec.info(frame)
    return frame, info, _compare(array, frame, info, sizes, threads, reference) if verify else None
