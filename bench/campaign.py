"""What the campaigns of trust found, a row each, in one CSV file: bench/results/trust.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path

from bench import machine

RESULTS = Path(__file__).resolve().parent / "results" / "trust.csv"


@dataclass(frozen=True)
class Finding:
    """One campaign on one codec.

    campaign: such as "bitrot". case: which part of it, such as "single bits". tried: how many of `unit`.
    good: how many went as they must. bad: how many did not; of these: crashed (the process died or hung).
    """

    campaign: str
    case: str
    codec: str
    tried: int
    unit: str
    good: int
    bad: int
    crashed: int = 0
    note: str = ""


def record(path: Path, findings: Iterable[Finding]) -> None:
    """Puts findings into the file, in the place of older ones of the same campaign, case and codec."""
    stamp = {"machine": machine.name(), "date": date.today().isoformat()}
    rows = {_key(row): row for row in read(path)}
    for finding in findings:
        row = {name: str(value) for name, value in asdict(finding).items()} | stamp
        rows[_key(row)] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*(field.name for field in fields(Finding)), *stamp], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """The rows of the file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _key(row: dict[str, str]) -> tuple[str, str, str]:
    return row["campaign"], row["case"], row["codec"]


def show(findings: Iterable[Finding]) -> None:
    """A line each."""
    for f in findings:
        print(f"{f.campaign}: {f.codec}, {f.case}: {f.tried:,} {f.unit}, {f.good:,} good, {f.bad:,} bad, "
              f"{f.crashed:,} crashed{'; ' + f.note if f.note else ''}", flush=True)  # fmt: skip
