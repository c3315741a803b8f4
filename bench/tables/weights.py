"""The README's tables of weights and what is near them: sizes, speeds, zeros, small tensors, moments, threads."""

from __future__ import annotations

import re
from collections.abc import Callable

from bench.tables.common import Record, bits, data_name, find, machine, markdown, records_of, speed

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


def weights_table() -> str:
    """Bits a weight on both networks, and speeds at one bound."""
    records = records_of("weights.csv")
    minilm, net = data_name(records, "minilm"), data_name(records, "efficientnet")
    columns = [(minilm, f"rel {r}") for r in ("0.1", "0.03", "0.01", "0.001", "0.0001")]
    columns += [(net, f"rel {r}") for r in ("0.1", "0.01", "0.001")]
    labels = [f"{'MiniLM' if data == minilm else 'EfficientNet'} {bound[4:]}" for data, bound in columns]
    lines = []
    for codec, label in _WEIGHT_CODECS.items():
        cells = [bits(find(records, data=d, bound=b, codec=codec)) for d, b in columns]
        lines.append([label, *cells, speed(find(records, data=minilm, bound="rel 0.01", codec=codec))])
    note = f"Bits a weight; MB/s compress / decompress on MiniLM at 0.01 ({machine(records)})."
    return markdown(["", *labels, "MB/s"], lines, note)


def lossless_table() -> str:
    """Ratios of lossless weights, as three dtypes."""
    records = records_of("lossless.csv")
    columns = [(model, dtype) for model in ("minilm", "efficientnet") for dtype in ("float32", "bfloat16", "float16")]
    names = [data_name(records, f"{model} as {dtype}") for model, dtype in columns]
    lines = []
    for codec, label in _LOSSLESS_CODECS.items():
        found = [find(records, data=name, codec=codec) for name in names]
        ratios = [f"{float(r['ratio']):.3f}" if r else "-" for r in found]
        lines.append([label, *ratios, *(speed(r) for r in found[:2])])
    labels = [f"{'MiniLM' if model == 'minilm' else 'EfficientNet'} {dtype}" for model, dtype in columns]
    note = f"Ratio; MB/s compress / decompress on MiniLM ({machine(records)})."
    return markdown(["lossless", *labels, "MB/s, float32", "MB/s, bfloat16"], lines, note)


def speed_table() -> str:
    """Speeds on MiniLM at one bound, next to SZ3's and to a copy's."""
    records = [r for r in records_of("weights.csv") if r["bound"] == "rel 0.01" and r["data"].startswith("minilm")]
    found = {codec: find(records, codec=codec) for codec in _SPEED_CODECS}
    lines = [[_SPEED_CODECS[codec], *_speed_cells(record)] for codec, record in found.items() if record]
    titles = [f"{way}{title}" for way in ("compress", "decompress") for title in (" MB/s", ", x SZ3", ", of memcpy")]
    note = f"MiniLM at 0.01, CPU time of one thread, medians of ratios within a repetition ({machine(records)})."
    return markdown(["speed", *titles], lines, note)


def _speed_cells(record: Record) -> list[str]:
    cells = []
    for way in ("compress", "decompress"):
        copy = f"{100 * float(record[f'{way}_vs_memcpy']):.1f}%" if record[f"{way}_vs_memcpy"] else "-"
        cells += [f"{float(record[f'{way}_mb_s']):.0f}", f"{float(record[f'{way}_vs_baseline']):.2f}", copy]
    return cells


def sparse_table() -> str:
    """Bits a value at two bounds on arrays that should cost little."""
    records = records_of("sparse.csv")
    lines = []
    for name in dict.fromkeys(r["data"] for r in records):
        pairs = [
            [find(records, data=name, bound=f"rel {b}", codec=c) for b in ("0.01", "0.001")] for c in _SPARSE_CODECS
        ]
        lines.append([name, *(" / ".join(map(bits, pair)) for pair in pairs)])
    note = (
        f"Bits a value at 0.01 / 0.001 of the range; {_small_sizes(records)} Ideal: the order-0 entropy of the lattice "
    )
    note += f"integers, tables not counted ({machine(records)})."
    return markdown(["", *_SPARSE_CODECS.values()], lines, note)


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
    records = records_of("threads.csv")
    lines = []
    for r in records:
        speeds = [f"{float(r['megabytes']) / float(r[key]):.0f}" for key in ("one_thread_s", "two_threads_s")]
        gains = [f"{float(r[key]):.2f}" for key in ("thread_scaling", "process_scaling", "threads_vs_processes")]
        lines.append([r["operation"], *speeds, *gains])
    titles = ["100 MB of float32", "1 thread MB/s", "2 threads MB/s", "gain of 2 threads", "of 2 processes", "ratio"]
    return markdown(titles, lines, f"Wall time, Rel(1e-2), medians ({machine(records)}).")


def pointwise_table() -> str:
    """Bits a value under PointwiseRel(1e-2) on real moments."""
    records = records_of("pointwise.csv")
    names = list(dict.fromkeys(r["data"] for r in records))
    logs = [[r for r in records if r["data"] == name and r["codec"].startswith("log+")] for name in names]
    best = [min(found, key=lambda r: float(r["bits_per_value"] or "inf")) for found in logs]
    bound = {"bound": "pw_rel 0.01"}
    lines = [
        ["**szdnn**", *(bits(find(records, data=n, codec="szdnn", **bound)) for n in names)],
        ["SZ2, its own mode", *(_sz2(find(records, data=n, codec="sz2-pw", **bound)) for n in names)],
        ["logarithms + the best rival", *(f"{bits(r)} ({r['codec'][len('log+') :]})" for r in best)],
        ["order-0 entropy", *(bits(find(records, data=n, codec="order-0 entropy", **bound)) for n in names)],
        ["ZipNN, lossless", *(bits(find(records, data=n, codec="zipnn")) for n in names)],
    ]
    titles = [re.sub(r" \(.*", "", name).replace(", Adam's", "") for name in names]
    note = f"Bits a value under PointwiseRel(1e-2), Adam's state after 300 steps on MNIST ({machine(records)})."
    return markdown(["", *titles], lines, note)


def _sz2(record: Record | None) -> str:
    broken = int(record["violations"]) if record else 0
    return bits(record) + (f", {broken:,} violations" if broken else "")


TABLES: dict[str, Callable[[], str]] = {
    "weights": weights_table,
    "speed": speed_table,
    "lossless": lossless_table,
    "sparse": sparse_table,
    "pointwise": pointwise_table,
    "threads": threads_table,
}
