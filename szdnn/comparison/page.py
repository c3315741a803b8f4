"""The comparison as one HTML page that needs nothing else: plots, a sortable row a method, a row a layer."""

from __future__ import annotations

import math
from html import escape
from importlib import resources

from ..report import format_bytes, format_shape
from .plots import Dot, Plot, Trace
from .rows import LayerRow, Row
from .run import CURVES, Comparison

FAMILIES = {
    "ours": "szdnn",
    "casts": "casts",
    "zips": "zip",
    "peers": "SZ3, ZFP, ZipNN, NNCodec",
    "lowrank": "low rank",
    "prune": "pruning",
    "sharing": "weight sharing",
    "deep_compression": "Deep Compression",
    "universal": "universal",
}
"""Headings of families; the first ones have a colour of their own, others share the last."""
_COLOURS = {"ours": 0, "casts": 1, "zips": 7, "peers": 3, "lowrank": 4, "prune": 2, "sharing": 5, "deep_compression": 6}
_DEEPEST = 10
"""Points of score below the original at which the plot ends; what lost more is marked at its edge."""


def page(found: Comparison) -> str:
    """The whole page."""
    rows = [row for row in found.rows if row.bytes is not None]
    parts = [
        f"<h1>{escape(found.title)}</h1>",
        f"<p>{_summary(found)}</p>",
        f'<div class="plots">{"".join(_figures(found, rows))}</div>',
        _legend(rows),
        "<h2>Methods</h2>",
        _methods_table(found, rows),
        _problems(found),
        _layers(rows),
    ]
    style, script = (resources.files(__package__).joinpath(name).read_text() for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>szdnn compare: {escape(found.title)}</title><style>{style}</style></head><body>"
        f"{''.join(parts)}<script>{script}</script></body></html>\n"
    )


def _summary(found: Comparison) -> str:
    text = f"{len(found.state)} tensors, {format_bytes(found.raw_bytes)}."
    if found.score_before is not None:
        text += f" {escape(found.metric or 'score').capitalize()} before: <b>{found.score_before:.4f}</b>."
        text += f" Methods that choose their settings may lose {found.budget:g} points on other examples than these."
    checked = sum(row.decoded_ok is True for row in found.rows)
    return text + f" {checked} artefacts were decoded by a fresh process to exactly what is shown."


def _figures(found: Comparison, rows: list[Row]) -> list[str]:
    figures = []
    if found.score_before is not None:
        text = (
            "Score against ratio (all tensors / whole artefact). Dashed: the original. Triangle: lost more than is "
            "shown; ring: better than the original."
        )
        figures.append(_figure(_score_plot(rows, found.score_before), "score", text))
        if any(row.curve for row in rows):
            text = "Pruning alone, sharing alone, both (Han et al. 2016, figure 6). Rings: better than the original."
            figures.append(_figure(_curve_plot(rows, found.score_before), "curves", text))
    text = (
        "Error against rate, of the weight layers: root mean square error in standard deviations. The line is "
        "Shannon's lower bound for methods that take weights as independent draws of their layer's distribution."
    )
    figures.append(_figure(_error_plot(rows), "error", text))
    return figures


def _figure(plot: Plot, name: str, caption: str) -> str:
    wide, narrow = plot.svg(640, 420, "wide"), plot.svg(360, 340, "narrow")
    return f'<figure id="plot-{name}">{wide}{narrow}<figcaption>{caption}</figcaption></figure>'


def colour(family: str) -> str:
    """A family's colour as CSS."""
    return f"var(--c{_COLOURS.get(family, 7)})"


def _score_plot(rows: list[Row], before: float) -> Plot:
    floor = before - _DEEPEST / 100
    dots = [
        Dot(row.ratio, row.score, row.method, colour(row.family), ring=row.score > before)
        for row in rows
        if row.score is not None and row.ratio is not None and row.curve is None
    ]
    return Plot("ratio", "score", dots, floor=floor, line=before)


def _curve_plot(rows: list[Row], before: float) -> Plot:
    dots, traces = [], []
    for number, name in enumerate(CURVES):
        points = [(r.ratio, r.score, r.method) for r in rows if r.curve == name and r.ratio and r.score is not None]
        points.sort()
        paint = f"var(--c{(2, 5, 6)[number]})"
        dots += [Dot(x, y, text, paint, ring=y > before, label=False) for x, y, text in points]
        traces.append(Trace([(x, y) for x, y, _ in points], paint, name))
    return Plot("ratio", "score", dots, traces, floor=before - _DEEPEST / 100, line=before)


def relative_rmse(row: Row) -> float:
    """The root mean square over layers, by their weights, of rmse / deviation."""
    counts = [math.prod(layer.shape) for layer in row.layers]
    squares = [(layer.rmse / layer.deviation) ** 2 if layer.deviation else 0.0 for layer in row.layers]
    return math.sqrt(sum(s * n for s, n in zip(squares, counts, strict=True)) / max(1, sum(counts)))


def _error_plot(rows: list[Row]) -> Plot:
    dots = [
        Dot(row.bits, relative_rmse(row), row.method, colour(row.family))
        for row in rows
        if row.bits and 0 < relative_rmse(row) < math.inf and row.curve is None
    ]
    reach = [dot.y for dot in dots] or [1e-3, 1.0]
    trace = Trace(lower_bound(rows, min(reach), max(reach)), "var(--soft)", "lower bound")
    return Plot("bits a weight", "error", dots, [trace], log_x=False, log_y=True)


def lower_bound(rows: list[Row], low: float, high: float) -> list[tuple[float, float]]:
    """Bits a weight, relative error: the layers' bounds at one relative error for all, from that of any row.

    A layer's bound falls by log2 of the factor by which its error grows, where it is above zero.
    """
    row = next(
        (row for row in rows if row.layers and all(0 < x.bound < math.inf for x in row.layers if x.deviation)), None
    )
    if row is None:
        return []
    layers = [(math.prod(x.shape), x.bound + math.log2(x.rmse / x.deviation)) for x in row.layers if x.deviation]
    total = sum(count for count, _ in layers)
    points = []
    for step in range(41):
        error = low * (high / low) ** (step / 40)
        points.append((sum(n * max(0.0, unit - math.log2(error)) for n, unit in layers) / total, error))
    return points


def _legend(rows: list[Row]) -> str:
    present = [family for family in FAMILIES if any(row.family == family for row in rows)]
    present += sorted({row.family for row in rows} - set(present))
    items = [f'<li><i style="background:{colour(f)}"></i>{escape(FAMILIES.get(f, f))}</li>' for f in present]
    return f'<ul class="legend">{"".join(items)}</ul>'


_Cell = tuple[str, float | str | None, str]
"""Text, value to sort by, class."""


def _table(identifier: str, header: list[str], lines: list[tuple[str, list[_Cell]]]) -> str:
    heads = "".join(f'<th scope="col"><button type="button">{escape(text)}</button></th>' for text in header)
    body = "".join(f"<tr{attributes}>{''.join(map(_td, cells))}</tr>" for attributes, cells in lines)
    table = f'<table id="{identifier}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _td(cell: _Cell) -> str:
    text, value, name = cell
    known = "" if value is None or value != value else f"{value!r}" if isinstance(value, float) else str(value)
    style = f' class="{name}"' if name else ""
    return f'<td data-value="{escape(known)}"{style}>{escape(text)}</td>'


def _number(value: float | None, form: str, name: str = "") -> _Cell:
    if value is None or not math.isfinite(value):
        return ("–" if value is None else "∞", None if value is None else 1e300, name)
    return (format(value, form), float(value), name)


def _relative(value: float | None) -> _Cell:
    text, key, name = _number(value, ".2%")
    return (f"{value:.3g}×", key, name) if value is not None and 10 <= value < math.inf else (text, key, name)


def _methods_table(found: Comparison, rows: list[Row]) -> str:
    header = ["method", "bytes", "ratio", "of layers", "bits/weight"]
    if found.score_before is not None:
        header += ["score before", "score after", "change", "95% interval"]
    header += ["largest error", "largest relative", "RMSE", "encode s", "decode s", "decoded"]
    lines = [(f' title="{escape(row.summary)}"', _method_cells(found, row)) for row in rows]
    return _table("methods", header, lines)


def _method_cells(found: Comparison, row: Row) -> list[_Cell]:
    cells: list[_Cell] = [(row.method, row.method, ""), (f"{row.bytes:,}", float(row.bytes or 0), "")]
    cells += [_number(row.ratio, ".2f"), _number(row.layers_ratio, ".2f"), _number(row.bits, ".3f")]
    if found.score_before is not None:
        better = row.change is not None and row.change > 0
        interval = "–" if row.interval is None else f"{row.interval[0]:+.4f} to {row.interval[1]:+.4f}"
        cells += [_number(row.score_before, ".4f"), _number(row.score, ".4f", "good" if better else "")]
        cells += [_number(row.change, "+.4f", "good" if better else "")]
        cells += [(interval, row.interval[0] if row.interval else None, "")]
    cells += [_number(row.largest, ".3g"), _relative(row.relative), _number(row.rmse, ".3g")]
    cells += [_number(row.encode_seconds, ".2f"), _number(row.decode_seconds, ".2f")]
    cells.append(("exactly", "1", "") if row.decoded_ok else ("no", "0", "bad"))
    return cells


def _problems(found: Comparison) -> str:
    items = [f"<li><b>{escape(row.method)}</b>: {escape(row.problem)}</li>" for row in found.rows if row.problem]
    return f"<h2>Not run</h2><ul>{''.join(items)}</ul>" if items else ""


def _layers(rows: list[Row]) -> str:
    """A row for each layer and method; the page shows one method at a time."""
    shown = [row for row in rows if row.layers]
    if not shown:
        return ""
    best = [row.method for row in shown if row.family == "ours" and not row.exact]
    first = "szdnn" if "szdnn" in best else (best or [shown[0].method])[0]
    options = "".join(
        f"<option{' selected' if row.method == first else ''}>{escape(row.method)}</option>" for row in shown
    )
    header = [
        "layer",
        "shape",
        "bytes",
        "bits/weight",
        "lower bound",
        "above it",
        "largest error",
        "largest relative",
        "RMSE",
    ]
    lines = [
        (f' data-method="{escape(row.method)}"{"" if row.method == first else " hidden"}', _layer_cells(layer))
        for row in shown
        for layer in row.layers
    ]
    note = (
        "The lower bound is the least bits a weight at this layer's mean squared error (Shannon), for weights as "
        "independent draws of its distribution."
    )
    select = f'<label>Method <select id="method">{options}</select></label>'
    return f"<h2>Layers</h2><p>{note}</p>{select}{_table('layers', header, lines)}"


def _layer_cells(layer: LayerRow) -> list[_Cell]:
    above = None if layer.bits is None or math.isinf(layer.bound) else layer.bits - layer.bound
    size: _Cell = ("–", None, "") if layer.bytes is None else (f"{layer.bytes:,}", float(layer.bytes), "")
    return [
        (layer.layer, layer.layer, ""),
        (format_shape(layer.shape), float(math.prod(layer.shape)), ""),
        size,
        _number(layer.bits, ".3f"),
        _number(layer.bound, ".3f"),
        _number(above, "+.3f"),
        _number(layer.largest, ".3g"),
        _relative(layer.relative),
        _number(layer.rmse, ".3g"),
    ]
