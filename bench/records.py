"""Rows of results: made from measurements, printed as tables, written as CSV or JSON."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from bench import machine
from bench.measure import Series, speed, speed_ratio

PACKAGES = ["szdnn", "numpy", "pysz", "hdf5plugin", "zfpy", "zstandard", "pcodec", "fpzip", "zipnn"]


@dataclass(frozen=True)
class Row:
    """One codec on one data set under one bound; what does not apply is None.

    bytes_over_ideal: what the streams take beyond the ideal code, an average tensor.
    zeros_changed: zeros that did not stay zero, where the data have zeros.
    """

    data: str
    bound: str
    codec: str
    values: int
    bytes: int | None = None
    bits_per_value: float | None = None
    ratio: float | None = None
    compress_mb_s: float | None = None
    decompress_mb_s: float | None = None
    max_error_over_eps: float | None = None
    violations: int | None = None
    baseline: str = ""
    size_vs_baseline: float | None = None
    compress_vs_baseline: float | None = None
    decompress_vs_baseline: float | None = None
    compress_vs_memcpy: float | None = None
    decompress_vs_memcpy: float | None = None
    above_ideal_percent: float | None = None
    bytes_over_ideal: float | None = None
    zeros_changed: int | None = None
    note: str = ""


def rows(data: str, bound: str, values: int, series: Sequence[Series], baseline: str) -> list[Row]:
    """A row a codec, compared with the baseline codec and with memcpy where they ran."""
    found = {one.codec.name: one for one in series if not one.failure}
    return [_row(data, bound, values, one, found.get(baseline), found.get("memcpy")) for one in series]


def _row(data: str, bound: str, values: int, one: Series, base: Series | None, copy: Series | None) -> Row:
    if one.failure:
        return Row(data, bound, one.codec.name, values, note=one.failure)
    return Row(
        data,
        bound,
        one.codec.name,
        one.values,
        bytes=one.size,
        bits_per_value=8 * one.size / one.values,
        ratio=one.raw_bytes / one.size,
        compress_mb_s=speed(one.raw_bytes, one.compress_s),
        decompress_mb_s=speed(one.raw_bytes, one.decompress_s),
        max_error_over_eps=None if one.codec.lossless else one.worst,
        violations=one.violations,
        baseline=base.codec.name if base else "",
        size_vs_baseline=one.size / base.size if base else None,
        compress_vs_baseline=speed_ratio(one.compress_s, base.compress_s) if base else None,
        decompress_vs_baseline=speed_ratio(one.decompress_s, base.decompress_s) if base else None,
        compress_vs_memcpy=speed_ratio(one.compress_s, copy.compress_s) if copy else None,
        decompress_vs_memcpy=speed_ratio(one.decompress_s, copy.decompress_s) if copy else None,
        zeros_changed=one.zeros_changed if one.zeros else None,
    )


_COLUMNS: list[tuple[str, str, str]] = [
    ("bits_per_value", "bits/value", ".4f"),
    ("ratio", "ratio", ".3f"),
    ("compress_mb_s", "comp MB/s", ".0f"),
    ("decompress_mb_s", "dec MB/s", ".0f"),
    ("max_error_over_eps", "err/eps", ".7f"),
    ("violations", "violations", "d"),
    ("size_vs_baseline", "size x", ".3f"),
    ("compress_vs_baseline", "comp x", ".2f"),
    ("decompress_vs_baseline", "dec x", ".2f"),
    ("compress_vs_memcpy", "c/memcpy", ".3f"),
    ("decompress_vs_memcpy", "d/memcpy", ".3f"),
    ("above_ideal_percent", "% > ideal", ".2f"),
    ("bytes_over_ideal", "B > ideal", ".1f"),
    ("zeros_changed", "zeros lost", "d"),
]


def show(table: Sequence[Row]) -> None:
    """Print rows that share data and bound as one table, without the columns that apply to none."""
    first = table[0]
    base = next((row.baseline for row in table if row.baseline), "")
    compared = f"; x = relative to {base}" if base else ""
    print(f"\n{first.data}, {first.bound}, {first.values:,} values{compared}")
    columns = [column for column in _COLUMNS if any(getattr(row, column[0]) is not None for row in table)]
    print(f"{'':<22}" + "".join(f"{title:>11}" for _, title, _ in columns))
    for row in table:
        cells = [_cell(getattr(row, key), form) for key, _, form in columns]
        line = f"{row.codec:<22}" + "".join(f"{cell:>11}" for cell in cells)
        print((f"{row.codec:<22} {row.note}" if row.bytes is None and row.note else f"{line}  {row.note}").rstrip())


def _cell(value: float | int | None, form: str) -> str:
    return "" if value is None else format(value, form)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """--csv and --json, alike for all commands."""
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows with the machine's name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the same as JSON")


def save(args: argparse.Namespace, table: Sequence[Any]) -> None:
    """Write what --csv and --json ask for."""
    if args.csv:
        write_csv(args.csv, table)
    if args.json:
        write_json(args.json, table)


def write_csv(path: Path, table: Sequence[Any]) -> None:
    """One line a row, a dataclass; machine and date stand in each, so that files can be joined."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(table[0])]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["machine", "date", *names])
        for row in table:
            cells = [_rounded(getattr(row, name)) for name in names]
            writer.writerow([machine.name(), date.today().isoformat(), *cells])


def write_json(path: Path, table: Sequence[Any]) -> None:
    """Machine, versions and rows in one object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "machine": machine.name(),
        "date": date.today().isoformat(),
        "versions": machine.versions(PACKAGES),
        "rows": [asdict(row) for row in table],
    }
    path.write_text(json.dumps(whole, indent=1) + "\n")


def _rounded(value: object) -> object:
    return float(f"{value:.7g}") if isinstance(value, float) else value
