"""A search as a picture: bytes against score and distance."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from ..atomic import atomic_file
from ..errors import ArgumentError
from .result import TuneResult


def draw(result: TuneResult, path: Path) -> None:
    """Write a PNG: every joint measurement's drop (where there is a score) and distance against its archive's bytes.

    Raises ArgumentError where matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError("a picture needs matplotlib; install it with: pip install matplotlib") from None
    del matplotlib
    points = result.curve_points()
    rows = [("drop", "drop of the score"), ("distance", "mean distance of outputs")]
    rows = [(key, label) for key, label in rows if any(p[key] is not None for p in points)]
    figure = Figure(figsize=(7, 2.8 * len(rows)), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0], rows, strict=True):
        known = [p for p in points if p[key] is not None]
        for front, color in ((False, "0.65"), (True, "C0")):
            some = [p for p in known if p["front"] == front]
            style = "o-" if front else "o"
            name = "best for their size" if front else "others"
            axes.plot([p["bytes"] / 1e3 for p in some], [p[key] for p in some], style, color=color, label=name, ms=4)
        best = [p for p in known if p["best"]]
        axes.plot(
            [p["bytes"] / 1e3 for p in best], [p[key] for p in best], "o", color="C3", ms=8, mfc="none", label="chosen"
        )
        if key == "distance" and all(p[key] > 0 for p in known):
            axes.set_yscale("log")
        if key == "drop" and hasattr(result.budget, "d"):
            axes.axhline(result.budget.d, color="C3", lw=0.8, ls=":")
            top = max(4 * result.budget.d, 1e-9)
            axes.set_ylim(min([0.0, *(p[key] for p in known)]) - 0.1 * top, top)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    axes.set_xlabel("archive, kB")
    figure.suptitle(f"{result.method}, {result.budget!r}", fontsize=10)
    made = BytesIO()
    figure.savefig(made, format="png", dpi=130)
    with atomic_file(path) as file:
        file.write(made.getvalue())
