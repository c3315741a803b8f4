"""Checking an archive: every checksum, and every value against the original where that is at hand."""

from __future__ import annotations

import fnmatch
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from . import codec, diff
from .errors import ArchiveError, ArgumentError, BoundError, Error
from .frame_reader import FrameReader, naming
from .plan import Plan
from .source import Source
from .tasks import Progress, TensorReport


@dataclass(frozen=True)
class VerifyReport:
    """What checking an archive found.

    tensors: the intact ones, with their largest errors where there was an original to compare with.
    replaced: why some tensors are not the original's, as the archive's plan says (`Plan.replaced`): their bounds are
        not of the original, and they are not compared with it.
    errors: what is wrong, by tensor name; "" for the archive as a whole.
    """

    tensors: tuple[TensorReport, ...]
    errors: dict[str, Error] = field(default_factory=dict)
    archive_bytes: int = 0
    seconds: float = 0.0
    replaced: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors

    @property
    def raw_bytes(self) -> int:
        """The uncompressed bytes of the intact tensors."""
        return sum(tensor.info.raw_bytes for tensor in self.tensors)

    @property
    def largest_fraction(self) -> float | None:
        """The largest error as a fraction of its bound; None without an original."""
        fractions = [tensor.comparison.fraction for tensor in self.tensors if tensor.comparison]
        return max(fractions) if fractions else None


def verify_frames(
    frames: FrameReader, original: Source | FrameReader | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Decode everything in an open archive, check its digest, and compare with the original if there is one."""
    start = time.perf_counter()
    tensors: list[TensorReport] = []
    errors: dict[str, Error] = {}
    replaced = replaced_in(frames)
    for name in frames:
        try:
            tensors.append(_tensor(frames, name, None if name in replaced else original))
        except Error as error:
            errors[name] = error
        if progress:
            progress(name, frames.specs[name].nbytes)
    try:
        frames.check_digest()
        if original is not None:
            _rest(frames, original)
    except Error as error:
        errors[""] = error
    return VerifyReport(tuple(tensors), errors, frames.size, time.perf_counter() - start, replaced)


def replaced_in(frames: FrameReader) -> dict[str, str]:
    """Why some tensors are not the original's, as the archive's plan says; nothing where it has no such plan."""
    try:
        told = Plan.from_dict(frames.skeleton.get("plan")).replaced
    except ArgumentError:
        return {}
    return {name: why for pattern, why in told.items() for name in frames if fnmatch.fnmatchcase(name, pattern)}


def _tensor(frames: FrameReader, name: str, original: Source | FrameReader | None) -> TensorReport:
    array, info = frames[name], frames.info(name)
    if original is None:
        return TensorReport(name, info, None)
    with naming(name):
        if name not in original:
            raise ArchiveError("the original has no such tensor")
        with original.reading(name) if isinstance(original, Source) else nullcontext(original[name]) as values:
            comparison = codec.compare(values, array, info)
        if comparison.violations:
            raise BoundError(f"{comparison.violations} values are beyond {info.bound} of the original")
    return TensorReport(name, info, comparison)


def _rest(frames: FrameReader, original: Source | FrameReader) -> None:
    missing = [name for name in original if name not in frames.specs]
    if missing:
        raise ArchiveError(f"{frames.path} lacks the tensor {missing[0]!r} of the original")
    if not diff.rest_equal(frames, original):
        raise ArchiveError(f"{frames.path}: what the original holds beside tensors differs")


def original_of(original: object) -> Source | FrameReader:
    """A file by its path, or a state in memory, as a mapping of tensors."""
    from .files import open_tensors
    from .state import StateSource

    return open_tensors(Path(original)) if isinstance(original, (str, Path)) else StateSource(original)
