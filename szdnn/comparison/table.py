"""The comparison on a terminal."""

from __future__ import annotations

from ..report import format_bytes, format_error, format_number, table
from .rows import Row
from .run import Comparison

_HEADER = [
    "method",
    "bytes",
    "ratio",
    "score",
    "change",
    "bits/w",
    "decoded",
    "of layers",
    "max error",
    "max rel",
    "RMSE",
]
_HEADER += ["encode s", "decode s"]


def heading(found: Comparison) -> str:
    """The checkpoint, its size and its score."""
    line = f"{found.title}: {len(found.state)} tensors, {format_bytes(found.raw_bytes)}"
    if found.score_before is not None:
        line += f", {found.metric} {found.score_before:.4f} before"
    return line


def text(found: Comparison, width: int | None = None) -> str:
    """A line for each method, smallest last, then those that could not run, with the reason."""
    done = sorted((row for row in found.rows if row.bytes is not None), key=lambda row: -(row.bytes or 0))
    lines = [heading(found)]
    if done:
        header = [name for name in _HEADER if found.score_before is not None or name not in ("score", "change")]
        lines.append(table(header, [_cells(row, found.score_before is not None) for row in done], width))
        lines.append("ratio: all tensors / whole artefact; of layers, bits/w and errors: of the weight layers alone")
    for row in found.rows:
        if row.problem:
            lines.append(f"{row.method}: {row.problem}")
    return "\n".join(lines)


def _cells(row: Row, with_score: bool) -> list[str]:
    relative = "-" if row.relative is None else f"{row.relative:.3g}x" if row.relative >= 10 else f"{row.relative:.2%}"
    change = "-" if row.change is None else f"{row.change:+.4f}"
    scores = [format_number(row.score, 4), change] if with_score else []
    return [
        row.method,
        str(row.bytes),
        format_number(row.ratio),
        *scores,
        format_number(row.bits, 3),
        "yes" if row.decoded_ok else "NO" if row.decoded_ok is False else "-",
        format_number(row.layers_ratio),
        format_error(row.largest),
        relative,
        format_error(row.rmse),
        format_number(row.encode_seconds),
        format_number(row.decode_seconds),
    ]
