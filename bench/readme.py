"""Writes the README's tables from bench/results/*.csv, between `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from bench.tables import TABLES

README = Path(__file__).resolve().parent.parent / "README.md"


def configure(parser: argparse.ArgumentParser) -> None:
    """--check only compares."""
    parser.add_argument("--check", action="store_true", help="exit with 1 if the README is not what the CSV files say")


def run(args: argparse.Namespace) -> int:
    """Rewrite the tables; 1 if --check finds that they would change."""
    before = README.read_text()
    after = before
    for name, make in TABLES.items():
        try:
            after = _replace(after, name, make())
        except FileNotFoundError as error:
            print(f"{name}: {error.filename} is not there, the table stays as it is", file=sys.stderr)
    if args.check:
        return int(after != before)
    README.write_text(after)
    return 0


def _replace(text: str, name: str, table: str) -> str:
    pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda match: match[1] + table + match[2], text, flags=re.DOTALL)
