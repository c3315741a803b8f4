"""The README's tables of the published methods: side by side, the papers' results, transfer, Huffman, inference, lazy
loading.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.tables.common import Record, machine, markdown, records_of

_TASKS = {
    "mnist/lenet-300-100": "LeNet-300-100",
    "mnist/lenet-5": "LeNet-5",
    "cifar10/resnet-20": "ResNet-20",
    "stsb/minilm": "MiniLM",
    "imagenet-sample/efficientnet-lite0": "EfficientNet-lite0",
}


def compare_table() -> str:
    """Ratio and score of each method on each task."""
    records = [r for r in records_of("compare.csv") if r["task"] in _TASKS and r["bytes"]]
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
        header += [f"{_TASKS[task]}: ratio", f"score ({100 * before:.1f})"]
    counts = ", ".join(f"{next(r['examples'] for r in records if r['task'] == task)}" for task in tasks)
    note = (
        "Ratio: all tensors / whole artefact. Score: accuracy in %, MiniLM's rank correlation x 100; in brackets the "
        f"original's. Scored on {counts} report examples ({machine(records)})."
    )
    return markdown(header, lines, note)


def _is_curve(name: str) -> bool:
    from szdnn.comparison.run import CURVES

    return any(name in specs for specs in CURVES.values())


def _ratio(found: dict[tuple[str, str], Record], tasks: list[str], name: str) -> float:
    return next(float(found[task, name]["ratio"]) for task in tasks if (task, name) in found)


def _cells(record: Record | None) -> list[str]:
    if record is None:
        return ["-", "-"]
    return [f"{float(record['ratio']):.2f}", f"{100 * float(record['score']):.1f}"]


def seeds_table() -> str:
    """The papers' networks: whole-network ratios and errors beside theirs."""
    records = records_of("seeds.csv")
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
    note += f" of the official test images, of what the bytes decode to ({machine(records)})."
    return markdown(titles, lines, note)


def transfer_table() -> str:
    """Fine-tuning on a second task, from compressed and uncompressed starts."""
    records = records_of("transfer.csv")
    counts = list(dict.fromkeys(r["examples"] for r in records))
    lines = []
    for start in dict.fromkeys(r["start"] for r in records):
        found = [next(r for r in records if (r["start"], r["examples"]) == (start, count)) for count in counts]
        errors = [f"{float(r['error']):.2f} +- {float(r['deviation']):.2f}" for r in found]
        lines.append([start, f"{float(found[0]['error_before']):.1f}", *errors])
    note = f"Error % on 500 digits, means and standard deviations of {records[0]['seeds']} seeds ({machine(records)})."
    return markdown(["start", "before", *(f"after {count} digits" for count in counts)], lines, note)


def huffman_table() -> str:
    """Bits a value of each coder on each stream."""
    records = records_of("huffman.csv")
    coders = ("entropy", "huffman", "zip", "gzip", "bzip2", "xz", "zstd", "szdnn")
    lines = [[r["stream"], *(f"{float(r[c]):.3f}" if r[c] else "-" for c in coders)] for r in records]
    note = f"Bits a value, containers and tables counted; szdnn: its frames of the same lattice ({machine(records)})."
    return markdown(["integers", "order-0 entropy", *coders[1:]], lines, note)


def inference_table() -> str:
    """Microseconds of each way, and the speed-up."""
    records = records_of("inference.csv")
    ways = ("numpy_dense_us", "torch_dense_us", "scipy_csr_us", "torch_csr_us")
    lines = []
    for r in records:
        name = f"{r['network']} {r['layer']}, {r['columns']} to {r['rows']}, {float(r['density']):.0%} kept"
        best = max(float(r["scipy_speed_up"]), float(r["torch_speed_up"]))
        lines.append([name, *(f"{float(r[way]):,.0f}" for way in ways), f"{best:.1f}x"])
    titles = ["pruned layer, batch 1", "NumPy dense", "torch dense", "scipy CSR", "torch CSR", "speed-up (paper: 3x)"]
    note = f"Microseconds of CPU time, one thread, medians; against the faster dense one ({machine(records)})."
    return markdown(titles, lines, note)


def lazy_table() -> str:
    """Peak memory and latency by budget."""
    records = records_of("lazy.csv")
    names = {"minilm": "MiniLM", "stack": "12 transformer layers of 1,024"}
    lines = []
    for r in records:
        budget = "eager" if not r["budget_mb"] else f"lazy, budget {float(r['budget_mb']):.0f} MB"
        size = f"{float(r['weights_mb']):.0f} MB, archive {float(r['archive_mb']):.0f} MB"
        times = [f"{1000 * float(r[key]):.0f}" for key in ("load_s", "first_pass_s", "later_pass_s")]
        lines.append([f"{names[r['model']]} ({size}), {budget}", f"{float(r['peak_mb']):.0f}", *times])
    note = f"Outputs equal bit for bit. CPU time of one thread, 16 tokens ({machine(records)})."
    return markdown(["", "peak MB", "load ms", "first pass ms", "later passes ms"], lines, note)


TABLES: dict[str, Callable[[], str]] = {
    "compare": compare_table,
    "seeds": seeds_table,
    "transfer": transfer_table,
    "huffman": huffman_table,
    "inference": inference_table,
    "lazy": lazy_table,
}
