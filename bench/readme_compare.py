"""The README's tables of comparisons: methods on tasks, Huffman and byte compressors, sparse inference, lazy
loading.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.readme import Record, _machine, _markdown, _records

_TASKS = {"mnist/lenet-300-100": "LeNet-300-100", "imagenet-sample/efficientnet-lite0": "EfficientNet-lite0"}


def compare_table() -> str:
    """Ratio, bits a weight and score of each method on each task."""
    records = [r for r in _records("compare.csv") if r["task"] in _TASKS and r["bytes"]]
    tasks = [task for task in _TASKS if any(r["task"] == task for r in records)]
    found = {(r["task"], r["method"]): r for r in records}
    methods = list(dict.fromkeys(r["method"] for r in records if not _is_curve(r["method"])))
    methods.sort(key=lambda name: _ratio(found, tasks, name))  # smallest files last
    lines = []
    for name in methods:
        cells: list[str] = []
        for task in tasks:
            cells += _cells(found.get((task, name)))
        lines.append([name, *cells])
    header = ["method"]
    for task in tasks:
        before = next(float(r["score_before"]) for r in records if r["task"] == task)
        header += [f"{_TASKS[task]} ({before:.2%}): ratio", "bits/weight", "accuracy"]
    counts = ", ".join(f"{next(r['examples'] for r in records if r['task'] == task)}" for task in tasks)
    note = f"Ratio: all tensors / whole artefact. Scored on {counts} report examples ({_machine(records)})."
    return _markdown(header, lines, note)


def _is_curve(name: str) -> bool:
    from szdnn.comparison.run import CURVES

    return any(name in specs for specs in CURVES.values())


def _ratio(found: dict[tuple[str, str], Record], tasks: list[str], name: str) -> float:
    return next(float(found[task, name]["ratio"]) for task in tasks if (task, name) in found)


def _cells(record: Record | None) -> list[str]:
    if record is None:
        return ["-", "-", "-"]
    bits = f"{float(record['bits']):.3f}" if record["bits"] else "-"
    return [f"{float(record['ratio']):.2f}", bits, f"{float(record['score']):.2%}"]


def huffman_table() -> str:
    """Bits a value of each coder on each stream."""
    records = _records("huffman.csv")
    coders = ("entropy", "huffman", "zip", "gzip", "bzip2", "xz", "zstd", "szdnn")
    lines = [[r["stream"], *(f"{float(r[c]):.3f}" if r[c] else "-" for c in coders)] for r in records]
    note = f"Bits a value, containers and tables counted; szdnn: its frames of the same lattice ({_machine(records)})."
    return _markdown(["integers", "order-0 entropy", *coders[1:]], lines, note)


def inference_table() -> str:
    """Microseconds of each way, and the speed-up."""
    records = _records("inference.csv")
    ways = ("numpy_dense_us", "torch_dense_us", "scipy_csr_us", "torch_csr_us")
    lines = []
    for r in records:
        name = f"{r['network']} {r['layer']}, {r['columns']} to {r['rows']}, {float(r['density']):.0%} kept"
        best = max(float(r["scipy_speed_up"]), float(r["torch_speed_up"]))
        lines.append([name, *(f"{float(r[way]):,.0f}" for way in ways), f"{best:.1f}x"])
    titles = ["pruned layer, batch 1", "NumPy dense", "torch dense", "scipy CSR", "torch CSR", "speed-up (paper: 3x)"]
    note = f"Microseconds of CPU time, one thread, medians; against the faster dense one ({_machine(records)})."
    return _markdown(titles, lines, note)


def lazy_table() -> str:
    """Peak memory and latency by budget."""
    records = _records("lazy.csv")
    names = {"minilm": "MiniLM", "stack": "12 transformer layers of 1,024"}
    lines = []
    for r in records:
        budget = "eager" if not r["budget_mb"] else f"lazy, budget {float(r['budget_mb']):.0f} MB"
        size = f"{float(r['weights_mb']):.0f} MB, archive {float(r['archive_mb']):.0f} MB"
        times = [f"{1000 * float(r[key]):.0f}" for key in ("load_s", "first_pass_s", "later_pass_s")]
        lines.append([f"{names[r['model']]} ({size}), {budget}", f"{float(r['peak_mb']):.0f}", *times])
    note = f"Outputs equal bit for bit. CPU time of one thread, 16 tokens ({_machine(records)})."
    return _markdown(["", "peak MB", "load ms", "first pass ms", "later passes ms"], lines, note)


TABLES: dict[str, Callable[[], str]] = {
    "compare": compare_table,
    "huffman": huffman_table,
    "inference": inference_table,
    "lazy": lazy_table,
}
