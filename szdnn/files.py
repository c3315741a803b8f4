"""Whole files, folders and states: compress, decompress, check."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from . import small
from .archive import Archive
from .archive_writer import ArchiveWriter
from .atomic import atomic_file
from .bounds import Bound, Lossless
from .checkpoint import file_kind, open_source, source_suffix, source_writer
from .errors import ArgumentError, LimitError
from .frame_reader import FrameFile, FrameReader
from .integrations.remote import RemoteArchive, is_remote
from .plan import Plan
from .safetensors_file import read_header
from .source import Array, Json, Source
from .tasks import Options, Progress, TensorReport, write_tensors

if TYPE_CHECKING:
    from .bases import Base

__all__ = ["LoadReport", "Options", "Progress", "SaveReport", "TensorReport"]


@dataclass(frozen=True)
class SaveReport:
    """What a file or state became: bytes before and after, errors, time.

    unused_rules: the patterns of the plan's rules that no tensor was for.
    """

    tensors: tuple[TensorReport, ...]
    archive_bytes: int
    seconds: float
    unused_rules: tuple[str, ...] = ()

    @property
    def raw_bytes(self) -> int:
        """The uncompressed bytes of all tensors."""
        return sum(tensor.info.raw_bytes for tensor in self.tensors)

    @property
    def ratio(self) -> float:
        """The tensors' uncompressed bytes over the bytes of the archive; NaN without tensors."""
        return self.raw_bytes / self.archive_bytes if self.raw_bytes else math.nan

    @property
    def weights(self) -> tuple[TensorReport, ...]:
        """The tensors under a lossy bound; where nothing is lossy, those of a floating-point dtype."""
        lossy = tuple(tensor for tensor in self.tensors if tensor.is_lossy)
        floats = (t for t in self.tensors if "float" in t.info.dtype.name)
        return tuple(tensor for tensor in lossy or floats if tensor.size)

    @property
    def weights_ratio(self) -> float:
        """Uncompressed bytes over frame bytes of the weights alone; NaN without weights."""
        after = sum(tensor.info.frame_bytes for tensor in self.weights)
        return sum(tensor.info.raw_bytes for tensor in self.weights) / after if after else math.nan

    @property
    def bits_per_weight(self) -> float:
        """Bits of whole frames a value of the weights; NaN without weights."""
        values = sum(tensor.size for tensor in self.weights)
        return 8 * sum(tensor.info.frame_bytes for tensor in self.weights) / values if values else math.nan

    @property
    def largest_fraction(self) -> float | None:
        """The largest error as a fraction of its bound; None when nothing was verified."""
        fractions = [tensor.comparison.fraction for tensor in self.tensors if tensor.comparison is not None]
        return max(fractions) if fractions or not self.tensors else None


def compress_source(
    source: Source,
    target: Path,
    bound: Bound | Plan,
    *,
    effort: int = 3,
    threads: int | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    executor: Executor | None = None,
    generations: int = 0,
    reference: Base | None = None,
) -> SaveReport:
    """Compress an open file or state into an archive, one tensor in memory at a time.

    Each frame is decoded and compared before the archive takes its name, unless `verify` is False.
    executor: what compresses the tensors, several at a time; the archive's bytes do not depend on it.
    generations: how many times the values have been through lossy compression before.
    reference: what tensors of the same name and shape may be stored as differences to.

    Raises BoundError when a bound can't be met or was not, ArchiveError and OSError as reading and writing do;
    `target` is then as it was.
    """
    options = Options(effort, threads, verify, executor, progress)
    start = time.perf_counter()
    with atomic_file(target) as file:
        record = None if reference is None else reference.record()
        writer, tensors, unused = write_archive(file, source, Plan.of(bound), options, generations, reference, record)
        archive_bytes = writer.finish()
    return SaveReport(tensors, archive_bytes, time.perf_counter() - start, unused)


def compress_to_bytes(
    source: Source, bound: Bound | Plan, options: Options, generations: int = 0, reference: Base | None = None
) -> bytes:
    """The archive that `compress_source` writes, in memory; its header is not padded."""
    record = None if reference is None else reference.record()
    writer, _, _ = write_archive(BytesIO(), source, Plan.of(bound), options, generations, reference, record)
    return writer.finish_bytes()


def write_archive(
    file: BinaryIO,
    source: Source,
    plan: Plan,
    options: Options,
    generations: int,
    reference: Base | None = None,
    record: Json = None,
) -> tuple[ArchiveWriter, tuple[TensorReport, ...], tuple[str, ...]]:
    """Write all of an archive but its header to an open file; the writer, the tensors, and the plan's unused rules.

    record: what the archive says of its reference.
    """
    if isinstance(generations, bool) or not isinstance(generations, int) or generations < 0:
        raise ArgumentError(f"generations must be a count, not {generations!r}")
    specs = source.specs
    bounds = {n: plan.bound(n, spec.dtype, spec.shape, is_model=source.is_model) for n, spec in specs.items()}
    is_lossy = any(not isinstance(bound, Lossless) for bound in bounds.values())
    skeleton: dict[str, Json] = {
        "kind": source.kind,
        "suffix": source_suffix(source),
        "plan": plan.to_dict(),
        "generations": generations + is_lossy,
        **({} if record is None else {"reference": record}),
        **source.skeleton(),
    }
    whole = options.effort == 9 and sum(spec.nbytes for spec in specs.values()) <= small.SMALL_STATE
    groups = small.groups(specs, bounds, whole=whole)
    grouped = [name for group in groups for name in group.names]
    writer = ArchiveWriter(file, specs, grouped, skeleton, source.metadata)
    reports = write_tensors(writer, source, bounds, groups, options, reference)
    return writer, tuple(reports[name] for name in specs), tuple(plan.unused(specs))


@dataclass(frozen=True)
class LoadReport:
    """What was restored: how many tensors and bytes, in what time."""

    tensors: int
    raw_bytes: int
    seconds: float


def open_frames(path: Path | str, *, max_bytes: int | None = None, threads: int | None = None) -> FrameReader:
    """Open an archive or a bare frame, or the archive at a URL. Raises ArchiveError when the file is neither."""
    if is_remote(path):
        return RemoteArchive(path, max_bytes=max_bytes, threads=threads)
    reader: Any = FrameFile if file_kind(Path(path)) == "frame" else Archive
    frames: FrameReader = reader(path, max_bytes=max_bytes, threads=threads)
    return frames


def is_archive(path: Path) -> bool:
    """Whether a file is an archive or a bare frame. Raises ArchiveError, OSError as reading it does."""
    kind = file_kind(path)
    return kind == "frame" or (kind == "safetensors" and read_header(path).metadata.get("format") == "szdnn")


def open_tensors(path: Path) -> Source | FrameReader:
    """Open any supported file, compressed or not, as a lazy mapping from tensor name to array."""
    return open_frames(path) if is_archive(path) else open_source(path)


class _Watched(Mapping[str, Array]):
    """A mapping of tensors that tells `progress` of each one that is read."""

    def __init__(self, tensors: Mapping[str, Array], progress: Progress) -> None:
        self._tensors = tensors
        self._progress = progress

    def __getitem__(self, name: str) -> Array:
        array = self._tensors[name]
        self._progress(name, array.nbytes)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def check_total(frames: FrameReader, max_bytes: int | None) -> None:
    """Raises LimitError when the tensors together take more than `max_bytes`."""
    if max_bytes is not None and frames.raw_bytes > max_bytes:
        raise LimitError(f"{frames.path} holds {frames.raw_bytes} bytes of tensors, more than the {max_bytes} allowed")


def decompress_frames(
    frames: FrameReader, target: Path, *, max_bytes: int | None = None, progress: Progress | None = None
) -> LoadReport:
    """Restore the file an open archive was made of, atomically, with one tensor in memory at a time.

    Raises LimitError, before anything is decoded, when the tensors together take more than `max_bytes`; CorruptFrame
    and ArchiveError for damage; `target` is then as it was.
    """
    write = source_writer(frames.skeleton)
    start = time.perf_counter()
    check_total(frames, max_bytes)
    tensors = _Watched(frames, progress) if progress else frames
    with atomic_file(target) as file:
        write(file, frames.skeleton, tensors)
    return LoadReport(len(frames), frames.raw_bytes, time.perf_counter() - start)
