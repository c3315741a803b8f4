"""Plain text: numbers for people, and tables that fit the terminal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .archive import Archive
from .bounds import Bound
from .codec import FrameInfo
from .files import SaveReport, TensorReport
from .frame_reader import FrameReader
from .salvage import Loss


def format_bytes(count: int | float) -> str:
    """A number of bytes in units of a thousand: `90.9 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.95 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def format_number(value: float | None, digits: int = 2) -> str:
    """A number with that many decimals, "-" for None and NaN."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.{digits}f}"


def format_error(value: float | None) -> str:
    """An error with three significant digits, "-" for None and NaN."""
    return "-" if value is None or math.isnan(value) else f"{value:.3g}"


def format_shape(shape: tuple[int, ...]) -> str:
    """A shape as `384x1536`; `scalar` for rank 0."""
    return "x".join(map(str, shape)) or "scalar"


def format_bound(bound: Bound) -> str:
    """A bound as it is written in Python, without the fields at their defaults: `Rel(0.001)`."""
    given = [(f, getattr(bound, f.name)) for f in dataclasses.fields(bound)]  # type: ignore[arg-type]
    values = [(f.name, value) for f, value in given if value != f.default]
    texts = [f"{v:g}" if isinstance(v, float) else shorten(f"{name}={v}", 24) for name, v in values]
    return f"{type(bound).__name__}({', '.join(texts)})" if texts else type(bound).__name__


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows in columns, the first to the left and the others to the right.

    Where a line would be longer than `width`, names in the first column lose their middle, then columns at the end
    are left out.
    """
    lines = [list(header), *map(list, rows)]
    sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if width is not None:
        while len(sizes) > 2 and min(sizes[0], 12) + sum(sizes[1:]) + 2 * (len(sizes) - 1) > width:
            sizes.pop()
        sizes[0] = max(min(sizes[0], width - sum(sizes[1:]) - 2 * (len(sizes) - 1)), min(sizes[0], 5))
    return "\n".join(_line(line, sizes) for line in lines)


def _line(cells: Sequence[str], sizes: Sequence[int]) -> str:
    first = shorten(cells[0], sizes[0]).ljust(sizes[0])
    return "  ".join([first, *(cell.rjust(size) for cell, size in zip(cells[1:], sizes[1:], strict=False))]).rstrip()


def shorten(text: str, width: int) -> str:
    """`text` without its middle where it is longer than `width`."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


_HEADER = ["name", "dtype", "shape", "bound", "ratio", "bits"]


def _cells(name: str, info: FrameInfo) -> list[str]:
    bits = format_number(info.bits_per_value if info.raw_bytes else None, 3)
    ratio = format_number(info.raw_bytes / info.frame_bytes)
    return [name, info.dtype.name, format_shape(info.shape), format_bound(info.bound), ratio, bits]


def tensor_table(tensors: Sequence[TensorReport], width: int | None = None) -> str:
    """A line for each compressed tensor, its largest error as a fraction of the bound at the end."""
    fractions = [tensor.comparison.fraction if tensor.comparison else None for tensor in tensors]
    rows = [[*_cells(t.name, t.info), format_number(f, 4)] for t, f in zip(tensors, fractions, strict=True)]
    return table([*_HEADER, "error/bound"], rows, width)


def info_table(tensors: Sequence[TensorReport], width: int | None = None) -> str:
    """A line for each tensor of an archive."""
    rows = [[*_cells(t.name, t.info), t.info.predictor, t.info.coder] for t in tensors]
    return table([*_HEADER, "predictor", "coder"], rows, width)


def sizes(saved: SaveReport) -> str:
    """Bytes before and after, both ratios and bits/weight."""
    return (
        f"{format_bytes(saved.raw_bytes)} -> {format_bytes(saved.archive_bytes)}, "
        f"ratio {format_number(saved.ratio)} (weights only {format_number(saved.weights_ratio)}), "
        f"{format_number(saved.bits_per_weight, 3)} bits/weight"
    )


def total(saved: SaveReport) -> str:
    """The line for a whole compression: sizes, the largest error as a fraction of the bound, and speed."""
    if saved.largest_fraction is None:
        errors = "errors not checked"
    elif any(tensor.is_lossy for tensor in saved.tensors):
        errors = f"largest error {format_number(saved.largest_fraction, 4)} of the bound"
    else:
        errors = "every bit equal"
    return f"{sizes(saved)}, {errors}, {saved.raw_bytes / 1e6 / max(saved.seconds, 1e-9):.0f} MB/s"


def lost(name: str, loss: Loss, most: int = 8) -> str:
    """What is lost of a tensor, with its first ranges of values in C order."""
    reason = loss.reason.removeprefix(f"{name}: ")
    if loss.values == loss.size:
        return f"{name}: all {loss.size} values lost: {reason}"
    ranges = " ".join(f"{start}:{stop}" for start, stop in loss.ranges[:most])
    more = f" and {len(loss.ranges) - most} more ranges" if len(loss.ranges) > most else ""
    return f"{name}: {loss.values} of {loss.size} values lost, {ranges}{more}: {reason}"


def base_name(frames: FrameReader) -> str:
    """What an archive says it holds differences to."""
    record = frames.skeleton.get("reference")
    hint = record.get("file") if isinstance(record, dict) else None
    return hint if isinstance(hint, str) else "a state without a file"


def error_lines(errors: Mapping[str, Exception]) -> list[str]:
    """What is wrong, by tensor; the same fault of several tensors is one line."""
    same: dict[str, list[str]] = {}
    for name, error in errors.items():
        same.setdefault(str(error).removeprefix(f"{name}: "), []).append(str(error))
    return [lines[0] + (f" (and {len(lines) - 1} more tensors)" if len(lines) > 1 else "") for lines in same.values()]


def as_json(frames: FrameReader, saved: SaveReport) -> dict[str, Any]:
    """What an archive holds, ready for JSON."""
    return {
        "kind": frames.skeleton.get("kind"),
        "suffix": frames.skeleton.get("suffix"),
        "metadata": frames.metadata,
        "digest": frames.digest if isinstance(frames, Archive) else None,
        "generations": frames.generations if isinstance(frames, Archive) else None,
        "reference": frames.skeleton.get("reference"),
        "tensors": [
            {
                "name": tensor.name,
                "dtype": tensor.info.dtype.name,
                "shape": list(tensor.info.shape),
                "bound": format_bound(tensor.info.bound),
                "eps": tensor.info.eps,
                "raw_bytes": tensor.info.raw_bytes,
                "frame_bytes": tensor.info.frame_bytes,
                "bits_per_value": _finite(tensor.info.bits_per_value),
                "predictor": tensor.info.predictor,
                "coder": tensor.info.coder,
                "kind": tensor.info.kind,
                "reference": tensor.info.reference,
                "blocks": tensor.info.blocks,
                "warnings": list(tensor.info.warnings),
            }
            for tensor in saved.tensors
        ],
        "raw_bytes": saved.raw_bytes,
        "archive_bytes": saved.archive_bytes,
        "ratio": _finite(saved.ratio),
        "weights_ratio": _finite(saved.weights_ratio),
        "bits_per_weight": _finite(saved.bits_per_weight),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
