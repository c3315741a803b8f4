"""Writes the README's tables from bench/results/*.csv, between `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"

Record = dict[str, str]

_WEIGHT_CODECS = {
    "szdnn-e3": "szdnn",
    "entropy": "order-0 entropy of the rounded values, no tables",
    "sz3": "SZ3, default",
    "sz3-nopred": "SZ3, no prediction",
    "sz2": "SZ2",
    "zfp": "ZFP",
    "pcodec-ints": "integers + pcodec",
    "zstd-ints": "integers + zstd",
}
_LOSSLESS_CODECS = {"szdnn-e3": "szdnn", "zipnn": "ZipNN", "pcodec": "pcodec", "zstd": "zstd", "fpzip": "fpzip"}
_FIELD_CODECS = {"szdnn-e3": "szdnn", "sz3": "SZ3", "sz2": "SZ2", "sperr": "SPERR", "zfp": "ZFP"}


def configure(parser: argparse.ArgumentParser) -> None:
    """--check only compares."""
    parser.add_argument("--check", action="store_true", help="exit with 1 if the README is not what the CSV files say")


def run(args: argparse.Namespace) -> int:
    """Rewrite the tables; 1 if --check finds that they would change."""
    before = README.read_text()
    after = before
    for name, make in TABLES.items():
        after = _replace(after, name, make())
    if args.check:
        return int(after != before)
    README.write_text(after)
    return 0


def _replace(text: str, name: str, table: str) -> str:
    pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda match: match[1] + table + match[2], text, flags=re.DOTALL)


def _records(file: str) -> list[Record]:
    with (RESULTS / file).open(newline="") as stream:
        return list(csv.DictReader(stream))


def _markdown(header: list[str], lines: list[list[str]], note: str) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, rule, *lines]) + f"\n{note}\n"


def _find(records: list[Record], **wanted: str) -> Record | None:
    measured = (r for r in records if r["bits_per_value"])
    return next((r for r in measured if all(r[key] == value for key, value in wanted.items())), None)


def _bits(record: Record | None) -> str:
    return f"{float(record['bits_per_value']):.3f}" if record else "-"


def _speed(record: Record | None) -> str:
    if not record or not record["compress_mb_s"]:
        return "-"
    return f"{float(record['compress_mb_s']):.0f} / {float(record['decompress_mb_s']):.0f}"


def _machine(records: list[Record]) -> str:
    return f"{records[0]['machine']}, {records[0]['date']}"


def _bounds(records: list[Record], data: str) -> list[str]:
    return list(dict.fromkeys(r["bound"] for r in records if r["data"] == data and "ossless" not in r["bound"]))


def weights_table() -> str:
    """Bits a weight on both networks at each bound, and speeds at the middle one."""
    records = _records("weights.csv")
    minilm, net = "minilm", "efficientnet"
    columns = [(minilm, b) for b in _bounds(records, minilm)] + [(net, b) for b in _bounds(records, net)[::2]]
    speed_bound = _bounds(records, minilm)[2]
    header = ["", *(f"{'MiniLM' if d == minilm else 'EfficientNet'} {b}" for d, b in columns), f"MB/s at {speed_bound}"]
    lines = []
    for codec, label in _WEIGHT_CODECS.items():
        cells = [_bits(_find(records, data=d, bound=b, codec=codec)) for d, b in columns]
        lines.append([label, *cells, _speed(_find(records, data=minilm, bound=speed_bound, codec=codec))])
    note = f"Bits a weight of complete frames; MB/s compress / decompress, one thread ({_machine(records)})."
    return _markdown(header, lines, note)


def lossless_table() -> str:
    """Lossless float32 weights."""
    records = [r for r in _records("weights.csv") if "ossless" in r["bound"]]
    header = ["lossless", "MiniLM ratio", "EfficientNet ratio", "MB/s on MiniLM"]
    lines = []
    for codec, label in _LOSSLESS_CODECS.items():
        found = [_find(records, data=data, codec=codec) for data in ("minilm", "efficientnet")]
        if any(found):
            lines.append([label, *(f"{float(r['ratio']):.3f}" if r else "-" for r in found), _speed(found[0])])
    return _markdown(header, lines, f"Compress / decompress, one thread ({_machine(records)}).")


def fields_table() -> str:
    """Bits a value on scientific arrays at 1e-3 of the range."""
    records = _records("fields.csv")
    names = list(dict.fromkeys(r["data"] for r in records))
    bound = "Rel(0.001)"
    lines = []
    for codec, label in _FIELD_CODECS.items():
        lines.append([label, *(_bits(_find(records, data=name, bound=bound, codec=codec)) for name in names)])
    return _markdown([bound, *names], lines, f"Bits a value ({_machine(records)}).")


TABLES: dict[str, Callable[[], str]] = {"weights": weights_table, "lossless": lossless_table, "fields": fields_table}
