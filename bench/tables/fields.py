"""The README's tables of scientific arrays: sizes and speeds beside the rivals', the choice of predictor."""

from __future__ import annotations

import math
from collections.abc import Callable

from bench.tables.common import Record, find, machine, markdown, records_of

_FIELD_RIVALS = {"sz3": "SZ3", "sz3-best": "SZ3", "sz2": "SZ2", "sperr": "SPERR", "zfp": "ZFP"}


def fields_table() -> str:
    """Bits a value on scientific arrays beside the smallest rival's, and speeds beside SZ3's default."""
    records = records_of("fields.csv")
    bounds = [f"rel {bound}" for bound in ("0.01", "0.001", "0.0001")]
    lines, gains = [], []
    for name in dict.fromkeys(r["data"] for r in records):
        cells = []
        for bound in bounds:
            mine = find(records, data=name, bound=bound, codec="szdnn")
            sized = [
                r for r in records
                if r["data"] == name and r["bound"] == bound and r["codec"] in _FIELD_RIVALS and r["bits_per_value"]
            ]  # fmt: skip
            best = min(sized, key=lambda r: float(r["bits_per_value"]))
            cells += [_small_bits(mine), f"{_small_bits(best)} {_FIELD_RIVALS[best['codec']]}"]
            gains.append(float(mine["bits_per_value"]) / float(best["bits_per_value"]) if mine else 1.0)
        lines.append(
            [name, *cells, *(_mb_s(find(records, data=name, bound=bounds[1], codec=c)) for c in ("szdnn", "sz3"))]
        )
    mean = math.exp(sum(map(math.log, gains)) / len(gains))
    titles = [title for bound in bounds for title in (f"**{bound[4:]}**", "best rival")]
    note = (
        "Bits a value at bounds relative to the range; MB/s of one thread at 0.001, compress / decompress. Geometric "
        "mean of the sizes relative to the best of SZ3 (all its modes), SPERR, SZ2 and ZFP: "
        f"{mean:.3f} ({machine(records)})."
    )
    return markdown(["", *titles, "szdnn MB/s", "SZ3 MB/s"], lines, note)


def halves_table() -> str:
    """float16 and bfloat16: bits a value, with the step that the dtype asks for, with 2 eps, in float32, lossless."""
    records = records_of("halves.csv")
    lines = []
    for dtype in dict.fromkeys(r["dtype"] for r in records):
        for name in dict.fromkeys(r["data"] for r in records):
            rows = [r for r in records if r["data"] == name and r["dtype"] == dtype]
            bits = [r[column] for r in rows for column in ("bits", "full_step_bits", "float32_bits")]
            cells = [f"{float(cell):.3f}" for cell in (*bits, rows[0]["lossless_bits"])]
            lines.append([f"{name}, {dtype}", *cells])
    bounds = list(dict.fromkeys(r["bound"].removeprefix("rel ") for r in records))
    titles = [title for bound in bounds for title in (f"**{bound}**", "step 2 eps", "float32")]
    note = f"Bits a value at bounds relative to the range (`python -m bench halves`, {machine(records)})."
    return markdown(["", *titles, "lossless"], lines, note)


def selection_table() -> str:
    """The choice of predictor: how far above the best single one, and its share of the time."""
    records = records_of("selection.csv")
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
        f"({machine(records)})."
    )
    return markdown(["", "chosen", "% above the best", "% of the time"], lines, note)


def _small_bits(record: Record | None) -> str:
    return "-" if record is None else f"{float(record['bits_per_value']):.4g}"


def _mb_s(record: Record | None) -> str:
    return "-" if record is None else f"{float(record['compress_mb_s']):.0f} / {float(record['decompress_mb_s']):.0f}"


TABLES: dict[str, Callable[[], str]] = {
    "fields": fields_table,
    "halves": halves_table,
    "selection": selection_table,
}
