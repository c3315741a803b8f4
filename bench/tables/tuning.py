"""The README's tables of bounds that are chosen: tuned, learned, trained."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from bench.tables.common import Record, machine, markdown, records_of

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
    records = records_of("tune.csv")
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
        f"(`python -m bench tune`, {machine(records)})."
    )
    return markdown(header, lines, note)


def _tune_cell(record: Record | None) -> str:
    if record is None or record["bytes"] in ("", "nan"):
        return "-"
    size = f"{float(record['bytes']) / 1e3:.1f}"
    saving = _saving(record, "uniform")
    return size if saving == "-" else f"{size} ({saving.replace(' (', ', ').rstrip(')')})"


def tune_savings_table() -> str:
    """By how much compensated plans are smaller than the others' archives."""
    records = [r for r in records_of("tune.csv") if r["method"] == "sensitivity, compensated"]
    lines = []
    for r in records:
        level = r["level"] if r["level"].startswith("half") else f"at {r['level']}"
        lines.append([f"{r['network']}, {level}", *(_saving(r, other) for other in ("uniform", "nncodec", "deepsz"))])
    titles = ["smaller than", "the best uniform (goal 25%)", "NNCodec (20%)", "DeepSZ's search (15%)"]
    note = "`compensate=True` at equal distance, with 95% paired bootstrap intervals"
    return markdown(titles, lines, f"{note} (`python -m bench tune`, {machine(records)}).")


def _saving(record: Record, other: str) -> str:
    values = [record[f"{end}_{other}"] for end in ("saving", "low", "high")]
    if any(value in ("", "nan") for value in values):
        return "-"
    saving, low, high = (f"{float(value):.0%}" for value in values)
    return f"{saving} ({low} to {high})"


def tune_cost_table() -> str:
    """Evaluations against layers."""
    records = records_of("tune-cost.csv")
    layers = list(dict.fromkeys(r["layers"] for r in records))
    found = {(r["layers"], r["method"]): r["evaluations"] for r in records}
    methods = list(dict.fromkeys(r["method"] for r in records))
    lines = [[m, *(found.get((n, m), "-") for n in layers)] for m in methods]
    lines.append(["2L + 30", *(r["limit"] for n in layers for r in _first(records, n))])
    note = f"Evaluations of a search for half a point (`python -m bench tune cost`, {machine(records)})."
    return markdown(["weight layers", *layers], lines, note)


def _first(records: list[Record], layers: str) -> list[Record]:
    return [r for r in records if r["layers"] == layers][:1]


def train_table() -> str:
    """Runs that trained networks for size: ratio and error, every seed and the median."""
    records = records_of("train.csv")
    lines = []
    for network, goal in dict.fromkeys((r["network"], float(r["goal_ratio"])) for r in records):
        runs = [r for r in records if r["network"] == network and float(r["goal_ratio"]) == goal]
        errors = sorted(100 * float(r["error"]) for r in runs)
        low, middle, high = errors[0], median(errors), errors[-1]
        one = runs[0]
        lines.append(
            [
                network,
                f"{float(one['goal_ratio']):g}x at {100 * float(one['goal_error']):.2f}%",
                f"{median(float(r['ratio']) for r in runs):.1f}x",
                f"{100 * float(one['original_error']):.2f}%",
                f"{middle:.2f}%" + (f" ({low:.2f} to {high:.2f}%)" if len(runs) > 1 else ""),
                f"{median(float(r['epochs']) for r in runs):g}",
                str(len(runs)),
                f"{median(float(r['minutes']) for r in runs):.1f}",
            ]
        )
    header = ["", "goal", "whole archive", "error before", "after", "passes", "seeds", "minutes"]
    return markdown(
        header, lines, f"Medians (range); CPU time of one thread (`python -m bench train`, {machine(records)})."
    )


def learned_table() -> str:
    """Bytes of learned bounds against those of the default method."""
    records = records_of("learned.csv")
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
    return markdown(header, lines, f"Archive bytes, weights frozen (`python -m bench learned`, {machine(records)}).")


TABLES: dict[str, Callable[[], str]] = {
    "tune": tune_table,
    "tune-savings": tune_savings_table,
    "tune-cost": tune_cost_table,
    "train": train_table,
    "learned": learned_table,
}
