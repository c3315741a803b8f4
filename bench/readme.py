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
_SPEED_CODECS = {
    "szdnn": "**szdnn**",
    "szdnn-avx2": "szdnn, at most AVX2",
    "szdnn-scalar": "szdnn, portable C",
    "sz3": "SZ3, default",
    "memcpy": "memcpy",
}
_SPARSE_CODECS = {
    "ideal code": "ideal memoryless code",
    "szdnn": "**szdnn**",
    "sz3-best": "SZ3, best mode",
    "sz2": "SZ2",
    "pcodec-ints": "integers + pcodec",
    "zstd-ints": "integers + zstd",
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
    """Ratios of lossless weights, as three dtypes."""
    records = _records("lossless.csv")
    columns = [(model, dtype) for model in ("minilm", "efficientnet") for dtype in ("float32", "bfloat16", "float16")]
    names = [_data(records, f"{model} as {dtype}") for model, dtype in columns]
    lines = []
    for codec, label in _LOSSLESS_CODECS.items():
        found = [_find(records, data=name, codec=codec) for name in names]
        ratios = [f"{float(r['ratio']):.3f}" if r else "-" for r in found]
        lines.append([label, *ratios, *(_speed(r) for r in found[:2])])
    labels = [f"{'MiniLM' if model == 'minilm' else 'EfficientNet'} {dtype}" for model, dtype in columns]
    note = f"Ratio; MB/s compress / decompress on MiniLM ({_machine(records)})."
    return _markdown(["lossless", *labels, "MB/s, float32", "MB/s, bfloat16"], lines, note)


def speed_table() -> str:
    """Speeds on MiniLM at one bound, next to SZ3's and to a copy's."""
    records = [r for r in _records("weights.csv") if r["bound"] == "rel 0.01" and r["data"].startswith("minilm")]
    found = {codec: _find(records, codec=codec) for codec in _SPEED_CODECS}
    lines = [[_SPEED_CODECS[codec], *_speed_cells(record)] for codec, record in found.items() if record]
    titles = [f"{way}{title}" for way in ("compress", "decompress") for title in (" MB/s", ", x SZ3", ", of memcpy")]
    note = f"MiniLM at 0.01, CPU time of one thread, medians of ratios within a repetition ({_machine(records)})."
    return _markdown(["speed", *titles], lines, note)


def _speed_cells(record: Record) -> list[str]:
    cells = []
    for way in ("compress", "decompress"):
        copy = f"{100 * float(record[f'{way}_vs_memcpy']):.1f}%" if record[f"{way}_vs_memcpy"] else "-"
        cells += [f"{float(record[f'{way}_mb_s']):.0f}", f"{float(record[f'{way}_vs_baseline']):.2f}", copy]
    return cells


def sparse_table() -> str:
    """Bits a value at two bounds on arrays that should cost little."""
    records = _records("sparse.csv")
    lines = []
    for name in dict.fromkeys(r["data"] for r in records):
        pairs = [
            [_find(records, data=name, bound=f"rel {b}", codec=c) for b in ("0.01", "0.001")] for c in _SPARSE_CODECS
        ]
        lines.append([name, *(" / ".join(map(_bits, pair)) for pair in pairs)])
    note = (
        f"Bits a value at 0.01 / 0.001 of the range; {_small_sizes(records)} Ideal: the order-0 entropy of the lattice "
    )
    note += f"integers, tables not counted ({_machine(records)})."
    return _markdown(["", *_SPARSE_CODECS.values()], lines, note)


def _small_sizes(records: list[Record]) -> str:
    """What a constant costs and what small tensors cost beyond their ideal code, szdnn and the best rival."""
    at = [r for r in records if r["bound"] == "rel 0.01" and r["codec"] in _SPARSE_CODECS and r["bytes_over_ideal"]]
    over = {(r["data"], r["codec"]): float(r["bytes_over_ideal"]) for r in at}
    texts = []
    for data, text in (("constant", "a constant takes"), ("1,000 tensors of 2,000", "each of the 1,000 tensors")):
        rivals = [size for (name, codec), size in over.items() if name == data and codec != "szdnn"]
        texts.append(f"{text} {over[data, 'szdnn']:.0f} bytes (the best rival {min(rivals):.0f})")
    return f"at 0.01 {texts[0]}, {texts[1]} beyond the ideal code, rivals' with 8 bytes of index."


def threads_table() -> str:
    """What two threads gain."""
    records = _records("threads.csv")
    lines = []
    for r in records:
        speeds = [f"{float(r['megabytes']) / float(r[key]):.0f}" for key in ("one_thread_s", "two_threads_s")]
        gains = [f"{float(r[key]):.2f}" for key in ("thread_scaling", "process_scaling", "threads_vs_processes")]
        lines.append([r["operation"], *speeds, *gains])
    titles = ["100 MB of float32", "1 thread MB/s", "2 threads MB/s", "gain of 2 threads", "of 2 processes", "ratio"]
    return _markdown(titles, lines, f"Wall time, Rel(1e-2), medians ({_machine(records)}).")


def pointwise_table() -> str:
    """Bits a value under PointwiseRel(1e-2) on real moments."""
    records = _records("pointwise.csv")
    names = list(dict.fromkeys(r["data"] for r in records))
    logs = [[r for r in records if r["data"] == name and r["codec"].startswith("log+")] for name in names]
    best = [min(found, key=lambda r: float(r["bits_per_value"] or "inf")) for found in logs]
    bound = {"bound": "pw_rel 0.01"}
    lines = [
        ["**szdnn**", *(_bits(_find(records, data=n, codec="szdnn", **bound)) for n in names)],
        ["SZ2, its own mode", *(_sz2(_find(records, data=n, codec="sz2-pw", **bound)) for n in names)],
        ["logarithms + the best rival", *(f"{_bits(r)} ({r['codec'][len('log+') :]})" for r in best)],
        ["order-0 entropy", *(_bits(_find(records, data=n, codec="order-0 entropy", **bound)) for n in names)],
        ["ZipNN, lossless", *(_bits(_find(records, data=n, codec="zipnn")) for n in names)],
    ]
    titles = [re.sub(r" \(.*", "", name).replace(", Adam's", "") for name in names]
    note = f"Bits a value under PointwiseRel(1e-2), Adam's state after 300 steps on MNIST ({_machine(records)})."
    return _markdown(["", *titles], lines, note)


def _sz2(record: Record | None) -> str:
    broken = int(record["violations"]) if record else 0
    return _bits(record) + (f", {broken:,} violations" if broken else "")


def fields_table() -> str:
    """Bits a value on scientific arrays at 1e-3 of the range."""
    records = _records("fields.csv")
    names = list(dict.fromkeys(r["data"] for r in records))
    lines = []
    for codec, label in _FIELD_CODECS.items():
        lines.append([label, *(_bits(_find(records, data=n, bound="rel 0.001", codec=codec)) for n in names)])
    return _markdown(["rel 0.001", *names], lines, f"Bits a value ({_machine(records)}).")


_TUNE_METHODS = {
    "uniform Abs": "one `Abs` for all",
    "uniform Rel": "one `Rel` for all",
    "uniform Std": "one `Std` for all",
    "nncodec": "NNCodec, trellis",
    "deepsz": "DeepSZ's search",
    "sensitivity": "**sensitivity**",
    "sensitivity, corrected": "**sensitivity**, correct",
    "sensitivity, compensated": "**sensitivity**, compensate",
    "sensitivity, both": "**sensitivity**, both",
}


def tune_table() -> str:
    """Kilobytes at equal distance of the outputs, and savings with their intervals."""
    records = _records("tune.csv")
    columns = list(dict.fromkeys((r["network"], r["level"], r["distance"]) for r in records))
    found = {(r["network"], r["level"], r["method"]): r for r in records}
    methods = [m for m in _TUNE_METHODS if any(r["method"] == m for r in records)]
    lines = [[_TUNE_METHODS[m], *(_tune_cell(found.get((n, v, m))) for n, v, _ in columns)] for m in methods]
    header = ["kB of the archive", *(f"{n}, {v if v.startswith('half') else 'at ' + v}" for n, v, _ in columns)]
    examples = ", ".join(f"{n} {found[n, v, m]['examples']}" for n, v, m in {k[0]: k for k in found}.values())
    note = (
        "Archives at equal mean distance of the outputs from the original's on the report split (KL in nats; MiniLM: "
        "cosine), or where the score has fallen by half a point; in brackets how much smaller than the best uniform, "
        f"with the 95% paired bootstrap interval. Examples: {examples} "
        f"(`python -m bench tune`, {_machine(records)})."
    )
    return _markdown(header, lines, note)


def _tune_cell(record: Record | None) -> str:
    if record is None or record["bytes"] in ("", "nan"):
        return "-"
    size = f"{float(record['bytes']) / 1e3:.1f}"
    saving = record.get("saving_uniform", "")
    if saving in ("", "nan"):
        return size
    low, high = (f"{float(record[f'{end}_uniform']):.0%}" for end in ("low", "high"))
    return f"{size} ({float(saving):.0%}, {low} to {high})"


def tune_cost_table() -> str:
    """Evaluations against layers."""
    records = _records("tune-cost.csv")
    layers = list(dict.fromkeys(r["layers"] for r in records))
    found = {(r["layers"], r["method"]): r["evaluations"] for r in records}
    methods = list(dict.fromkeys(r["method"] for r in records))
    lines = [[m, *(found.get((n, m), "-") for n in layers)] for m in methods]
    lines.append(["2L + 30", *(r["limit"] for n in layers for r in _first(records, n))])
    note = f"Evaluations of a search for half a point (`python -m bench tune cost`, {_machine(records)})."
    return _markdown(["weight layers", *layers], lines, note)


def _first(records: list[Record], layers: str) -> list[Record]:
    return [r for r in records if r["layers"] == layers][:1]


TABLES: dict[str, Callable[[], str]] = {
    "weights": weights_table,
    "speed": speed_table,
    "lossless": lossless_table,
    "sparse": sparse_table,
    "pointwise": pointwise_table,
    "threads": threads_table,
    "fields": fields_table,
    "tune": tune_table,
    "tune-cost": tune_cost_table,
}
