"""Reading result files and writing Markdown: what all the README's tables need."""

from __future__ import annotations

import csv
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results"

Record = dict[str, str]


def records_of(file: str) -> list[Record]:
    """The rows of a file of bench/results."""
    with (RESULTS / file).open(newline="") as stream:
        return list(csv.DictReader(stream))


def markdown(header: list[str], lines: list[list[str]], note: str) -> str:
    """A table, its first column to the left, and a line below it."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, rule, *lines]) + f"\n{note}\n"


def find(records: list[Record], **wanted: str) -> Record | None:
    """The first row with a size and these values."""
    measured = (r for r in records if r["bits_per_value"])
    return next((r for r in measured if all(r[key] == value for key, value in wanted.items())), None)


def bits(record: Record | None) -> str:
    """Bits a value, or a dash."""
    return f"{float(record['bits_per_value']):.3f}" if record else "-"


def speed(record: Record | None) -> str:
    """MB/s compress / decompress, or a dash."""
    if not record or not record["compress_mb_s"]:
        return "-"
    return f"{float(record['compress_mb_s']):.0f} / {float(record['decompress_mb_s']):.0f}"


def machine(records: list[Record]) -> str:
    """Where and when the first row was measured."""
    return f"{records[0]['machine']}, {records[0]['date']}"


def data_name(records: list[Record], name: str) -> str:
    """The full name of a data set, such as "minilm (45 tensors)"."""
    return next(r["data"] for r in records if r["data"].startswith(name))
