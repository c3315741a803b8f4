"""Writes the README's tables from bench/results/*.csv, between `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median, stdev

from bench.trust_table import trust_cells

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


def configure(parser: argparse.ArgumentParser) -> None:
    """--check only compares."""
    parser.add_argument("--check", action="store_true", help="exit with 1 if the README is not what the CSV files say")


def run(args: argparse.Namespace) -> int:
    """Rewrite the tables; 1 if --check finds that they would change."""
    before = README.read_text()
    after = before
    from bench import readme_compare

    for name, make in (TABLES | readme_compare.TABLES).items():
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


def trust_table() -> str:
    """What the campaigns of damage and abuse found."""
    records = _records("trust.csv")
    header, lines, note = trust_cells(records)
    return _markdown(header, lines, f"{note} ({_machine(records)}).")


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


_FIELD_RIVALS = {"sz3": "SZ3", "sz3-best": "SZ3", "sz2": "SZ2", "sperr": "SPERR", "zfp": "ZFP"}


def fields_table() -> str:
    """Bits a value on scientific arrays beside the smallest rival's, and speeds beside SZ3's default."""
    records = _records("fields.csv")
    bounds = [f"rel {bound}" for bound in ("0.01", "0.001", "0.0001")]
    lines, gains = [], []
    for name in dict.fromkeys(r["data"] for r in records):
        cells = []
        for bound in bounds:
            mine = _find(records, data=name, bound=bound, codec="szdnn")
            sized = [
                r for r in records
                if r["data"] == name and r["bound"] == bound and r["codec"] in _FIELD_RIVALS and r["bits_per_value"]
            ]  # fmt: skip
            best = min(sized, key=lambda r: float(r["bits_per_value"]))
            cells += [_small_bits(mine), f"{_small_bits(best)} {_FIELD_RIVALS[best['codec']]}"]
            gains.append(float(mine["bits_per_value"]) / float(best["bits_per_value"]) if mine else 1.0)
        lines.append(
            [name, *cells, *(_mb_s(_find(records, data=name, bound=bounds[1], codec=c)) for c in ("szdnn", "sz3"))]
        )
    mean = math.exp(sum(map(math.log, gains)) / len(gains))
    titles = [title for bound in bounds for title in (f"**{bound[4:]}**", "best rival")]
    note = (
        "Bits a value at bounds relative to the range; MB/s of one thread at 0.001, compress / decompress. Geometric "
        "mean of the sizes relative to the best of SZ3 (all its modes), SPERR, SZ2 and ZFP: "
        f"{mean:.3f} ({_machine(records)})."
    )
    return _markdown(["", *titles, "szdnn MB/s", "SZ3 MB/s"], lines, note)


def selection_table() -> str:
    """The choice of predictor: how far above the best single one, and its share of the time."""
    records = _records("selection.csv")
    lines = []
    for name in dict.fromkeys(r["data"] for r in records):
        rows = [r for r in records if r["data"] == name]
        shares = [f"{100 * float(r['choice_share']):.0f}" for r in rows]
        above = [f"{float(r['worst_percent']):.2f}" for r in rows]
        chosen = dict.fromkeys(r["chosen"].removeprefix("1 ") if r["arrays"] == "1" else r["chosen"] for r in rows)
        lines.append([name, " / ".join(chosen), " / ".join(above), " / ".join(shares)])
    bounds = ", ".join(dict.fromkeys(r["bound"] for r in records))
    worst = max(float(r["worst_percent"]) for r in records)
    note = (
        f"At {bounds}; of networks the tensor furthest above its best predictor. Worst of all: {worst:.2f}% "
        f"({_machine(records)})."
    )
    return _markdown(["", "chosen", "% above the best", "% of the time"], lines, note)


def _small_bits(record: Record | None) -> str:
    return "-" if record is None else f"{float(record['bits_per_value']):.4g}"


def _mb_s(record: Record | None) -> str:
    return "-" if record is None else f"{float(record['compress_mb_s']):.0f} / {float(record['decompress_mb_s']):.0f}"


def resume_table() -> str:
    """Checkpoints of model and optimizer: their ratio, and the test loss of runs resumed from them."""
    records = _records("resume.csv")
    exact = {r["seed"]: float(r["test_loss"]) for r in records if r["method"] == "exact"}
    lines = []
    for method in dict.fromkeys(r["method"] for r in records):
        rows = [r for r in records if r["method"] == method]
        less = [float(r["test_loss"]) - exact[r["seed"]] for r in rows]
        means = {key: fmean(float(r[key]) for r in rows) for key in ("ratio", "test_loss")}
        cells = [f"{means['ratio']:.2f}", f"{means['test_loss']:.4f}"]
        lines.append([method, *cells, f"{fmean(less):+.4f}", f"{stdev(less):.4f}"])
    titles = ["resumed from", "ratio", "test loss", "less exact", "+-"]
    note = (
        f"Model and Adam's state at that bound, second moments at PointwiseRel(1e-2); {len(exact)} seeds; +-: standard "
        f"deviation over seeds; x10: resumed ten times ({_machine(records)})."
    )
    return _markdown(titles, lines, note)


_DELTA_METHODS = {
    "szdnn": "szdnn, each alone",
    "szdnn, reference": "**szdnn, differences**",
    "QD-style, zstd": "QD-style differences, zstd",
    "QD-style, order-0 entropy": "QD-style differences, order-0 entropy",
    "szdnn, lossless": "szdnn lossless, each alone",
    "szdnn, lossless, reference": "**szdnn lossless, differences**",
    "zstd on the XOR": "zstd on the XOR (lossless)",
}


def deltas_table() -> str:
    """Bits a weight of chains of checkpoints and of a fine-tuned model, with and without a reference."""
    records = _records("deltas.csv")
    series = list(dict.fromkeys((r["data"], r["rate"]) for r in records))
    plain = [key for key in series if "state" not in key[0]]
    lines = []
    for method, label in _DELTA_METHODS.items():
        found = [next(r for r in records if (r["data"], r["rate"], r["method"]) == (*key, method)) for key in plain]
        bits = [8 * int(r["weights_bytes"]) / int(r["states"]) / int(r["weights"]) for r in found]
        lines.append([label, *(f"{value:.3f}" for value in bits)])
    titles = ["", *(f"{data}, Adam at {float(rate):g}" for data, rate in plain)]
    return _markdown(titles, lines, _delta_note(records))


def _delta_note(records: list[Record]) -> str:
    """What the chain's weights, files and whole states take, as parts of what they take without references."""

    def part(data: str, field: str) -> float:
        both = [r for r in records if r["data"].startswith(data)]
        alone, differences = (next(r for r in both if r["method"] == m) for m in ("szdnn", "szdnn, reference"))
        return int(differences[field]) / int(alone[field])

    name = records[0]["data"]
    state = next(r for r in records if r["data"] == f"{name}, Adam's state too" and r["method"] == "szdnn")
    ratio = int(state["raw_bytes"]) / int(state["file_bytes"])
    return (
        f"Bits a weight. Model and Adam's state, second moments at PointwiseRel(1e-2) ({state['zeros']} of them became "
        f"zero): ratio {ratio:.2f} each alone. Of what they take each alone, the weights of the {name} take "
        f"{part(name, 'weights_bytes'):.3f}, its files {part(name, 'file_bytes'):.3f}, files with Adam's state too "
        f"{part(name + ', Adam', 'file_bytes'):.3f} ({_machine(records)})."
    )


def seeds_table() -> str:
    """The papers' networks: whole-network ratios and errors beside theirs."""
    records = _records("seeds.csv")
    lines = []
    for coded in (r for r in records if r["stage"] == "coded"):
        same = [r for r in records if (r["experiment"], r["network"]) == (coded["experiment"], coded["network"])]
        ratios = [f"{float(r['ratio']):.1f}" for r in same if r["stage"] != "uncompressed"]
        theirs = " / ".join(f"{float(r['paper_ratio']):g}" for r in same if r["paper_ratio"])
        errors = [f"{float(coded[key]):.2f}" if coded[key] else "-" for key in ("error_before", "error")]
        published = [f"{float(coded[key]):.2f}" for key in ("paper_error_before", "paper_error") if coded[key]]
        lines.append(
            [
                f"{coded['network'].rpartition('/')[2]}, {coded['experiment']}",
                f"{100 * float(coded['density']):.1f}",
                f"{int(coded['bytes']):,}",
                f"{' / '.join(ratios[:-1])} / **{ratios[-1]}**",
                theirs or "-",
                f"{float(coded['layer_ratio']):.1f}",
                f"{float(coded['dense_ratio']):.1f}",
                " -> ".join(errors) if coded["error"] else "synthetic weights",
                " -> ".join(published) or "-",
            ]
        )
    titles = ["network, method", "kept %", "bytes", "ratio after each stage", "the paper's", "weight layers alone"]
    titles += ["dense layers alone", "error %", "the paper's"]
    note = "Ratio: bytes of all tensors / of the whole artefact, pruned, then shared or quantised, then coded; errors"
    note += f" of the official test images, of what the bytes decode to ({_machine(records)})."
    return _markdown(titles, lines, note)


def transfer_table() -> str:
    """Fine-tuning on a second task, from compressed and uncompressed starts."""
    records = _records("transfer.csv")
    counts = list(dict.fromkeys(r["examples"] for r in records))
    lines = []
    for start in dict.fromkeys(r["start"] for r in records):
        found = [next(r for r in records if (r["start"], r["examples"]) == (start, count)) for count in counts]
        errors = [f"{float(r['error']):.2f} +- {float(r['deviation']):.2f}" for r in found]
        lines.append([start, f"{float(found[0]['error_before']):.1f}", *errors])
    note = f"Error % on 500 digits, means and standard deviations of {records[0]['seeds']} seeds ({_machine(records)})."
    return _markdown(["start", "before", *(f"after {count} digits" for count in counts)], lines, note)


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


def train_table() -> str:
    """Runs that trained networks for size: ratio and error, every seed and the median."""
    records = _records("train.csv")
    lines = []
    for network in dict.fromkeys(r["network"] for r in records):
        runs = [r for r in records if r["network"] == network]
        errors = sorted(100 * float(r["error"]) for r in runs)
        low, middle, high = errors[0], median(errors), errors[-1]
        one = runs[0]
        lines.append(
            [
                network,
                f"{float(one['goal_ratio']):g}x at {100 * float(one['goal_error']):.2f}%",
                f"{median(float(r['ratio']) for r in runs):.1f}x",
                f"{100 * float(one['original_error']):.2f}%",
                f"{middle:.2f}% ({low:.2f} to {high:.2f}%)",
                str(len(runs)),
                f"{median(float(r['minutes']) for r in runs):.1f}",
            ]
        )
    header = ["", "goal", "whole archive", "error before", "after", "seeds", "minutes"]
    return _markdown(
        header, lines, f"Medians (range); CPU time of one thread (`python -m bench train`, {_machine(records)})."
    )


def learned_table() -> str:
    """Bytes of learned bounds against those of the default method."""
    records = _records("learned.csv")
    lines = [
        [
            r["network"],
            f"{int(r['sensitivity_bytes']):,}",
            f"{int(r['learned_bytes']):,}",
            f"{int(r['learned_bytes']) / int(r['sensitivity_bytes']) - 1:+.1%}",
            f"{float(r['at_equal_divergence']) - 1:+.1%}",
        ]
        for r in records
    ]
    header = ["", "`sensitivity`", "`learned`", "at half a point", "at equal divergence"]
    return _markdown(header, lines, f"Archive bytes, weights frozen (`python -m bench learned`, {_machine(records)}).")


TABLES: dict[str, Callable[[], str]] = {
    "weights": weights_table,
    "speed": speed_table,
    "lossless": lossless_table,
    "sparse": sparse_table,
    "pointwise": pointwise_table,
    "threads": threads_table,
    "fields": fields_table,
    "selection": selection_table,
    "deltas": deltas_table,
    "resume": resume_table,
    "trust": trust_table,
    "seeds": seeds_table,
    "transfer": transfer_table,
    "tune": tune_table,
    "tune-cost": tune_cost_table,
    "train": train_table,
    "learned": learned_table,
}
