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
    "szdnn": "**szdnn**",
    "order-0 entropy": "order-0 entropy, tables not counted",
    "sz3": "SZ3, default",
    "sz3-best": "SZ3, best of all its modes",
    "sz2": "SZ2",
    "zfp": "ZFP",
    "sperr": "SPERR",
    "pcodec-ints": "rounded integers + pcodec",
    "zstd-ints": "rounded integers + zstd",
}
_LOSSLESS_CODECS = {
    "szdnn-lossless": "**szdnn**",
    "zipnn": "ZipNN",
    "pcodec": "pcodec",
    "fpzip": "fpzip",
    "zstd": "zstd",
}
_FIELD_CODECS = {"szdnn": "**szdnn**", "sz3": "SZ3", "sz2": "SZ2", "sperr": "SPERR", "zfp": "ZFP"}


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


def _data(records: list[Record], name: str) -> str:
    """The full name of a data set, such as "minilm (45 tensors)"."""
    return next(r["data"] for r in records if r["data"].startswith(name))


def weights_table() -> str:
    """Bits a weight on both networks, and speeds at one bound."""
    records = _records("weights.csv")
    minilm, net = _data(records, "minilm"), _data(records, "efficientnet")
    columns = [(minilm, f"rel {r}") for r in ("0.1", "0.03", "0.01", "0.001", "0.0001")]
    columns += [(net, f"rel {r}") for r in ("0.1", "0.01", "0.001")]
    labels = [f"{'MiniLM' if data == minilm else 'EfficientNet'} {bound[4:]}" for data, bound in columns]
    lines = []
    for codec, label in _WEIGHT_CODECS.items():
        cells = [_bits(_find(records, data=d, bound=b, codec=codec)) for d, b in columns]
        lines.append([label, *cells, _speed(_find(records, data=minilm, bound="rel 0.01", codec=codec))])
    note = f"Bits a weight; MB/s compress / decompress on MiniLM at 0.01 ({_machine(records)})."
    return _markdown(["", *labels, "MB/s"], lines, note)


def lossless_table() -> str:
    """Lossless float32 weights."""
    records = [r for r in _records("weights.csv") if r["bound"] == "lossless"]
    names = [_data(records, "minilm"), _data(records, "efficientnet")]
    lines = []
    for codec, label in _LOSSLESS_CODECS.items():
        found = [_find(records, data=name, codec=codec) for name in names]
        if any(found):
            lines.append([label, *(f"{float(r['ratio']):.3f}" if r else "-" for r in found), _speed(found[0])])
    note = f"Ratio; MB/s compress / decompress on MiniLM ({_machine(records)})."
    return _markdown(["lossless float32", "MiniLM", "EfficientNet", "MB/s"], lines, note)


def fields_table() -> str:
    """Bits a value on scientific arrays at 1e-3 of the range."""
    records = _records("fields.csv")
    names = list(dict.fromkeys(r["data"] for r in records))
    lines = []
    for codec, label in _FIELD_CODECS.items():
        lines.append([label, *(_bits(_find(records, data=n, bound="rel 0.001", codec=codec)) for n in names)])
    return _markdown(["rel 0.001", *names], lines, f"Bits a value ({_machine(records)}).")


TABLES: dict[str, Callable[[], str]] = {"weights": weights_table, "lossless": lossless_table, "fields": fields_table}
