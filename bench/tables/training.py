"""The README's tables of checkpoints in training: differences, and runs resumed from lossy ones."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, stdev

from bench.tables.common import Record, machine, markdown, records_of

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
    records = records_of("deltas.csv")
    series = list(dict.fromkeys((r["data"], r["rate"]) for r in records))
    plain = [key for key in series if "state" not in key[0]]
    lines = []
    for method, label in _DELTA_METHODS.items():
        found = [next(r for r in records if (r["data"], r["rate"], r["method"]) == (*key, method)) for key in plain]
        bits = [8 * int(r["weights_bytes"]) / int(r["states"]) / int(r["weights"]) for r in found]
        lines.append([label, *(f"{value:.3f}" for value in bits)])
    titles = ["", *(f"{data}, Adam at {float(rate):g}" for data, rate in plain)]
    return markdown(titles, lines, _delta_note(records))


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
        f"{part(name + ', Adam', 'file_bytes'):.3f} ({machine(records)})."
    )


def resume_table() -> str:
    """Checkpoints of model and optimizer: their ratio, and the test loss of runs resumed from them."""
    records = records_of("resume.csv")
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
        f"deviation over seeds; x10: resumed ten times ({machine(records)})."
    )
    return markdown(titles, lines, note)


TABLES: dict[str, Callable[[], str]] = {
    "deltas": deltas_table,
    "resume": resume_table,
}
