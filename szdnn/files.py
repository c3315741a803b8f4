"""The jobs of the command line, as functions: compress, decompress, test and compare whole files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import codec
from .archive import Archive, ArchiveWriter, FrameFile, FrameReader, atomic_file, naming
from .bounds import Bound, Lossless
from .checkpoint import file_kind, open_source, source_suffix, source_writer
from .errors import BoundError, Error, LimitError
from .plan import array_bound, bound_for
from .safetensors_file import read_header
from .source import Array, Source, TensorSpec

Progress = Callable[[str, int], object]
"""Called after each tensor with its name and uncompressed bytes."""


@dataclass(frozen=True)
class TensorReport:
    """What became of one tensor: its frame's information and, when it was verified, its largest error."""

    name: str
    info: codec.FrameInfo
    comparison: codec.Comparison | None

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.info.shape)

    @property
    def is_lossy(self) -> bool:
        """Whether values may have changed."""
        return not isinstance(self.info.bound, Lossless)


@dataclass(frozen=True)
class SaveReport:
    """What a file became: bytes before and after, errors, time."""

    tensors: tuple[TensorReport, ...]
    archive_bytes: int
    seconds: float

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
    bound: Bound,
    *,
    effort: int = 3,
    threads: int | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> SaveReport:
    """Compress an open file into an archive, one tensor in memory at a time.

    Each frame is read back, decoded and compared before the archive takes its name, unless `verify` is False.
    Raises BoundError when a bound can't be met or was not, ArchiveError and OSError as reading and writing do;
    `target` is then as it was.
    """
    start = time.perf_counter()
    sizes = {name: spec.nbytes for name, spec in source.specs.items()}
    skeleton = {"kind": source.kind, "suffix": source_suffix(source), **source.skeleton()}
    reports = []
    with atomic_file(target) as file:
        writer = ArchiveWriter(file, sizes, skeleton, source.metadata)
        for name, spec in source.specs.items():
            array, wanted = source[name], _bound(source, name, spec, bound)
            with naming(name):
                writer.add(name, codec.compress(array, wanted, effort=effort, threads=threads))
                reports.append(_report(name, array, writer.read(name), verify, threads))
            if progress:
                progress(name, spec.nbytes)
        archive_bytes = writer.finish()
    return SaveReport(tuple(reports), archive_bytes, time.perf_counter() - start)


def _bound(source: Source, name: str, spec: TensorSpec, bound: Bound) -> Bound:
    return bound_for(name, spec.dtype, spec.shape, bound) if source.is_model else array_bound(spec.dtype, bound)


def _report(name: str, array: Array, frame: bytes, verify: bool, threads: int | None) -> TensorReport:
    info = codec.info(frame)
    if not verify:
        return TensorReport(name, info, None)
    comparison = codec.compare(array, codec.decompress(frame, threads=threads), info)
    if comparison.violations:
        raise BoundError(f"{comparison.violations} values came back beyond {info.bound}: a bug in szdnn, please report")
    return TensorReport(name, info, comparison)


@dataclass(frozen=True)
class LoadReport:
    """What was restored: how many tensors and bytes, in what time."""

    tensors: int
    raw_bytes: int
    seconds: float


def open_frames(path: Path | str, *, max_bytes: int | None = None, threads: int | None = None) -> FrameReader:
    """Open an archive or a bare frame. Raises ArchiveError when the file is neither."""
    reader = FrameFile if file_kind(Path(path)) == "frame" else Archive
    return reader(path, max_bytes=max_bytes, threads=threads)


def open_tensors(path: Path) -> Source | FrameReader:
    """Open any supported file, compressed or not, as a lazy mapping from tensor name to array."""
    kind = file_kind(path)
    if kind == "frame" or (kind == "safetensors" and read_header(path).metadata.get("format") == "szdnn"):
        return open_frames(path)
    return open_source(path)


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


def raw_bytes(frames: FrameReader) -> int:
    """The bytes of all tensors once decoded, as their frames declare them."""
    return sum(frames.info(name).raw_bytes for name in frames)


def decompress_frames(
    frames: FrameReader, target: Path, *, max_bytes: int | None = None, progress: Progress | None = None
) -> LoadReport:
    """Restore the file an open archive was made of, atomically.

    Raises LimitError, before anything is decoded, when the tensors together take more than `max_bytes`; CorruptFrame
    and ArchiveError for damage; `target` is then as it was.
    """
    write = source_writer(frames.skeleton)
    start = time.perf_counter()
    total = raw_bytes(frames)
    if max_bytes is not None and total > max_bytes:
        raise LimitError(f"{frames.path} holds {total} bytes of tensors, more than the {max_bytes} allowed")
    tensors = _Watched(frames, progress) if progress else frames
    with atomic_file(target) as file:
        write(file, frames.skeleton, tensors)
    return LoadReport(len(frames), total, time.perf_counter() - start)


def check_frames(frames: FrameReader, progress: Progress | None = None) -> dict[str, Error]:
    """Decode everything; the errors found, by tensor name."""
    errors: dict[str, Error] = {}
    for name in frames:
        try:
            size = frames[name].nbytes
        except Error as error:
            errors[name] = error
            size = 0
        if progress:
            progress(name, size)
    return errors


@dataclass(frozen=True)
class TensorDiff:
    """How a tensor differs between two files. `state` is "equal" (bit for bit), "differs", "dtype", "shape",
    "only in A" or "only in B"; the errors are NaN where there is nothing to subtract."""

    name: str
    state: str
    max_abs_error: float = math.nan
    rmse: float = math.nan
    psnr: float = math.nan
    """Decibels over the range of A's finite values."""
    relative: float = math.nan
    """The largest error over the range of A's finite values."""


def diff_tensors(a: Mapping[str, Array], b: Mapping[str, Array]) -> Iterator[TensorDiff]:
    """Compare two mappings of tensors by name, in A's order and then B's."""
    for name in a:
        yield diff_arrays(name, a[name], b[name]) if name in b else TensorDiff(name, "only in A")
    for name in b:
        if name not in a:
            yield TensorDiff(name, "only in B")


def rest_equal(a: Source | FrameReader, b: Source | FrameReader) -> bool:
    """Whether what two files hold beside tensors is equal; True when they are of different types."""
    first, second = (x.skeleton if isinstance(x, FrameReader) else {"kind": x.kind, **x.skeleton()} for x in (a, b))
    if first["kind"] != second["kind"]:
        return True
    same_state = json.dumps(first.get("state")) == json.dumps(second.get("state"))  # 1, 1.0 and true differ in JSON
    return same_state and a.metadata == b.metadata


def diff_arrays(name: str, a: Array, b: Array) -> TensorDiff:
    """Compare two arrays: bit for bit, and by their errors in double precision."""
    if a.shape != b.shape:
        return TensorDiff(name, "shape")
    flat_a, flat_b = (np.ascontiguousarray(x).reshape(-1) for x in (a, b))
    equal, largest, squares, low, high = a.dtype == b.dtype, 0.0, 0.0, math.inf, -math.inf
    for i in range(0, a.size, 1 << 20):
        x, y = flat_a[i : i + (1 << 20)], flat_b[i : i + (1 << 20)]
        if a.dtype == b.dtype and np.array_equal(x.view(np.uint8), y.view(np.uint8)):
            error = np.zeros(1)
        else:
            equal = False
            error = _errors(x, y)
        finite = _real(x)[np.isfinite(_real(x))]
        low, high = min(low, finite.min(initial=math.inf)), max(high, finite.max(initial=-math.inf))
        largest, squares = max(largest, float(error.max())), squares + float(np.square(error).sum())
    state = "equal" if equal else "dtype" if a.dtype != b.dtype else "differs"
    rmse = math.sqrt(squares / a.size) if a.size else 0.0
    return TensorDiff(name, state, largest, rmse, *_relative(largest, rmse, high - low))


def _relative(largest: float, rmse: float, span: float) -> tuple[float, float]:
    """PSNR and relative error of errors over a range, which is -inf where there are no finite values."""
    if rmse == 0:
        return math.inf, 0.0
    return (20 * math.log10(span / rmse) if 0 < span < math.inf and rmse < math.inf else math.nan,
            largest / span if span > 0 else math.nan)  # fmt: skip


def _real(values: Array) -> Array:
    return np.abs(values) if values.dtype.kind == "c" else values.astype(np.float64)


def _errors(x: Array, y: Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """|x - y| in double precision: 0 for equal infinities and two NaNs, infinite where only one is finite."""
    wide = np.complex128 if "c" in (x.dtype.kind, y.dtype.kind) else np.float64
    u, v = x.astype(wide), y.astype(wide)
    error: np.ndarray[Any, np.dtype[np.float64]]
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(u - v)
    error[(u == v) | (np.isnan(u) & np.isnan(v))] = 0.0
    error[np.isnan(error)] = math.inf
    return error
