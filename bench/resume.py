"""Does training notice that it was resumed from a lossy checkpoint? MNIST, a small CNN, Adam, several seeds and bounds.

Each seed trains half way and stops. From there every method resumes with its own version of the whole state (model and
optimizer) and trains the other half on the same batches. "exact" is the same state bit for bit. "exact, other batches"
is the yardstick: the exact state, but other batches from there on, which is what chance alone does to the loss. "x10"
resumes ten times on the way, each time from what the time before had lost and trained.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from torch import nn

import szdnn
from bench import machine
from bench.options import floats
from bench.trainee import Trainee

RESULTS = Path(__file__).resolve().parent / "results"
BATCH = 128
TAIL = 100
"""Steps at the end whose training loss is averaged."""
EVALUATE_EVERY = 25
OTHER_BATCHES = "exact, other batches"
RESUMES = 10


@dataclass(frozen=True)
class Outcome:
    """What became of one resumed run. Losses are cross entropies; `jump` is the test loss after resuming less that
    before; `ratio` is the checkpoint's, optimizer state included, `second_ratio` that of the second moments, `zeros`
    how many of these became zero."""

    method: str
    seed: int
    resumes: int
    ratio: float
    second_ratio: float
    zeros: int
    jump: float
    train_loss: float
    test_loss: float
    accuracy: float


_FIGURES = ("ratio", "second_ratio", "jump", "train_loss", "test_loss", "accuracy")
Curve = list[tuple[int, float]]
"""(step, test loss)"""


def configure(parser: argparse.ArgumentParser) -> None:
    """--seeds, --first-seed, --steps, --rel and where the results go."""
    rel = "1e-1,1e-2,1e-3,1e-4"
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each method (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N", help="number of the first (default 0)")
    parser.add_argument("--steps", type=int, default=500, metavar="N", help="steps before and after (default 500)")
    parser.add_argument("--rel", type=floats, default=floats(rel), help=f"bounds as parts of the range (default {rel})")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the outcomes, and beside it FILE-curves.csv")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them (needs matplotlib)")
    text = "take the outcomes of these --csv, train nothing; with --csv, put them together in one"
    parser.add_argument("--redraw", type=Path, nargs="+", metavar="CSV", help=text)


def run(args: argparse.Namespace) -> int:
    """Train, print the table, write what was asked for; 2 without the data."""
    outcomes: list[Outcome] = []
    curves: dict[tuple[str, int], Curve] = {}
    if args.redraw:
        for path in args.redraw:
            more, drawn = _read_csv(path)
            outcomes, curves = [*outcomes, *more], {**curves, **drawn}
        _tell(args, outcomes, curves)
        return 0
    folder = os.environ.get("SZDNN_DATA")
    if not folder:
        print("set SZDNN_DATA to the folder that holds mnist.npz", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    data = _mnist(Path(folder))
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for outcome, curve in _seed(seed, data, args.steps, args.rel):
            outcomes.append(outcome)
            curves[outcome.method, seed] = curve
            print(f"seed {seed}, {outcome.method}: test loss {outcome.test_loss:.5f}", file=sys.stderr)
    _tell(args, outcomes, curves)
    return 0


def _tell(args: argparse.Namespace, outcomes: list[Outcome], curves: dict[tuple[str, int], Curve]) -> None:
    _print_table(outcomes)
    if args.csv:
        _write_csv(args.csv, outcomes, curves)
    if args.picture:
        _draw(args.picture, outcomes, curves)


@dataclass(frozen=True)
class Data:
    """MNIST, images float32 [N, 1, 28, 28], labels int64 [N]."""

    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor


def _mnist(folder: Path) -> Data:
    with np.load(folder / "mnist.npz", allow_pickle=False) as file:
        images = [torch.from_numpy(file[name]).float().div(255).unsqueeze(1) for name in ("x_train", "x_test")]
        labels = [torch.from_numpy(file[name]).long() for name in ("y_train", "y_test")]
    return Data(images[0], labels[0], images[1], labels[1])


def _network() -> nn.Sequential:
    """A small CNN, 107,000 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


class Training(Trainee):
    """A network and its optimizer. The batch of a step is a function of the order's seed and the step alone."""

    def __init__(self, data: Data, seed: int, order: int) -> None:
        self._data, self._order = data, order
        torch.manual_seed(seed)
        self.model = _network()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def step(self, number: int) -> float:
        """One step; the loss of its batch."""
        generator = np.random.default_rng([self._order, number])
        batch = torch.from_numpy(generator.integers(0, len(self._data.train), BATCH))
        output = self.model(self._data.train[batch])
        loss = nn.functional.cross_entropy(output, self._data.train_labels[batch])
        return self.descend(loss)

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """Loss and accuracy on the test images."""
        output = torch.cat([self.model(part) for part in self._data.test.split(2000)])  # type: ignore[no-untyped-call]
        loss = nn.functional.cross_entropy(output, self._data.test_labels)
        return float(loss), float((output.argmax(1) == self._data.test_labels).float().mean())


@dataclass(frozen=True)
class Saved:
    """What a checkpoint took: see Outcome."""

    ratio: float = 1.0
    second_ratio: float = 1.0
    zeros: int = 0


def _through(state: dict[str, Any], bound: szdnn.Bound, folder: Path) -> tuple[dict[str, Any], Saved]:
    """What comes back of a state that was saved within a bound, and what its file took."""
    report = szdnn.save(folder / "state.szd.safetensors", state, bound)
    restored: dict[str, Any] = szdnn.load(folder / "state.szd.safetensors")
    second = [tensor.info for tensor in report.tensors if tensor.name.endswith("/exp_avg_sq")]
    ratio = sum(info.raw_bytes for info in second) / sum(info.frame_bytes for info in second)
    moments, back = (s["optimizer"]["state"] for s in (state, restored))
    zeros = sum(int(((m["exp_avg_sq"] != 0) & (back[i]["exp_avg_sq"] == 0)).sum()) for i, m in moments.items())
    return restored, Saved(report.ratio, ratio, zeros)


def _seed(seed: int, data: Data, steps: int, rels: Sequence[float]) -> Iterator[tuple[Outcome, Curve]]:
    """All methods from one half-trained state."""
    training = Training(data, seed, seed)
    for step in range(steps):
        training.step(step)
    with tempfile.TemporaryDirectory(prefix="szdnn-") as name:
        middle = Path(name, "middle.pt")
        torch.save(training.state(), middle)

        def resumed(method: str, bound: szdnn.Bound | None, resumes: int = 1, order: int = seed) -> Any:
            run = Training(data, seed, order)
            run.load(torch.load(middle, weights_only=True))
            return _resume(run, method, seed, bound, resumes, steps, Path(name))

        exact = resumed("exact", None)
        if exact[1] != _resume(training, "never stopped", seed, None, 1, steps, Path(name))[1]:
            raise SystemExit("an exact resume did not end where a run ends that was never stopped")
        yield exact
        yield resumed(OTHER_BATCHES, None, order=seed + 1000)
        for rel in rels:
            yield resumed(f"Rel({rel:g})", szdnn.Rel(rel))
        for rel in rels:
            yield resumed(f"Rel({rel:g}) x{RESUMES}", szdnn.Rel(rel), RESUMES)


def _resume(
    run: Training, method: str, seed: int, bound: szdnn.Bound | None, resumes: int, steps: int, folder: Path
) -> tuple[Outcome, Curve]:
    """The second half of a run, through `resumes` checkpoints, the first one at once."""
    at = {steps + i * steps // resumes for i in range(resumes)}
    jump, losses = 0.0, []
    saved: list[Saved] = []
    curve: Curve = []
    for step in range(steps, 2 * steps):
        if bound is not None and step in at:
            before = run.test()[0] if step == steps else 0.0
            state, taken = _through(run.state(), bound, folder)
            run.load(state)
            saved.append(taken)
            jump = run.test()[0] - before if step == steps else jump
        if (step - steps) % EVALUATE_EVERY == 0:
            curve.append((step, run.test()[0]))
        losses.append(run.step(step))
    loss, accuracy = run.test()
    curve.append((2 * steps, loss))
    saved = saved or [Saved()]
    outcome = Outcome(
        method, seed, resumes, fmean(s.ratio for s in saved), fmean(s.second_ratio for s in saved),
        sum(s.zeros for s in saved), jump, fmean(losses[-TAIL:]), loss, accuracy,
    )  # fmt: skip
    return outcome, curve


def _methods(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(outcome.method for outcome in outcomes))


def _differences(outcomes: Sequence[Outcome], method: str) -> list[float]:
    """Test loss less that of the exact resume of the same seed, a value a seed."""
    exact = {outcome.seed: outcome.test_loss for outcome in outcomes if outcome.method == "exact"}
    return [outcome.test_loss - exact[outcome.seed] for outcome in outcomes if outcome.method == method]


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else float("nan")


def _print_table(outcomes: Sequence[Outcome]) -> None:
    seeds = len({outcome.seed for outcome in outcomes})
    print(f"mean of {seeds} seeds; +- standard deviation over seeds; less exact: of the same seed")
    titles = ("ratio", "2nd moments", "zeros", "jump", "train loss", "test loss", "+-", "less exact", "+-", "accuracy")
    print(f"{'':<22}" + "".join(f"{title:>12}" for title in titles))
    for method in _methods(outcomes):
        rows = [outcome for outcome in outcomes if outcome.method == method]
        tests, less = [row.test_loss for row in rows], _differences(outcomes, method)
        cells = [
            f"{fmean(row.ratio for row in rows):.2f}", f"{fmean(row.second_ratio for row in rows):.2f}",
            f"{sum(row.zeros for row in rows)}", f"{fmean(row.jump for row in rows):+.5f}",
            f"{fmean(row.train_loss for row in rows):.5f}", f"{fmean(tests):.5f}", f"{_spread(tests):.5f}",
            f"{fmean(less):+.5f}", f"{_spread(less):.5f}", f"{fmean(row.accuracy for row in rows):.4f}",
        ]  # fmt: skip
        print(f"{method:<22}" + "".join(f"{cell:>12}" for cell in cells))


def _write_csv(path: Path, outcomes: Sequence[Outcome], curves: dict[tuple[str, int], Curve]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    today = date.today().isoformat()
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["machine", "date", *(field.name for field in fields(Outcome))])
        for outcome in outcomes:
            cells = [f"{value:.7g}" if isinstance(value, float) else value for value in asdict(outcome).values()]
            writer.writerow([machine.name(), today, *cells])
    with path.with_name(f"{path.stem}-curves.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "seed", "step", "test_loss"])
        writer.writerows((m, s, step, f"{loss:.6g}") for (m, s), curve in curves.items() for step, loss in curve)


def _read_csv(path: Path) -> tuple[list[Outcome], dict[tuple[str, int], Curve]]:
    """What `_write_csv` wrote."""
    with path.open(newline="") as file:
        outcomes = [
            Outcome(
                row["method"],
                int(row["seed"]),
                int(row["resumes"]),
                zeros=int(row["zeros"]),
                **{name: float(row[name]) for name in _FIGURES},
            )
            for row in csv.DictReader(file)
        ]
    curves: dict[tuple[str, int], Curve] = {}
    with path.with_name(f"{path.stem}-curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            curves.setdefault((row["method"], int(row["seed"])), []).append((int(row["step"]), float(row["test_loss"])))
    return outcomes, curves


def _draw(path: Path, outcomes: Sequence[Outcome], curves: dict[tuple[str, int], Curve]) -> None:
    """Test loss after resuming once and ten times, mean over seeds; what is left of it at the end, a dot a seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (once, often, right) = pyplot.subplots(
        1, 3, figsize=(14, 4.6), layout="constrained", gridspec_kw={"width_ratios": [1, 1, 1.1]}
    )
    often.sharey(once)
    lossy = [m for m in _methods(outcomes) if m.startswith("Rel") and not m.endswith(f"x{RESUMES}")]
    shades = pyplot.get_cmap("viridis")
    colours: dict[str, Any] = {OTHER_BATCHES: "0.6", "exact": "black"}
    colours |= {method: shades(0.1 + 0.75 * i / max(1, len(lossy) - 1)) for i, method in enumerate(lossy)}
    _draw_curves(once, curves, colours, "")
    _draw_curves(often, curves, colours, f" x{RESUMES}")
    once.set(ylabel="test loss, mean over seeds", title="resumed once")
    once.legend(frameon=False, fontsize=9)
    often.set(title=f"resumed {RESUMES} times")
    _draw_differences(right, outcomes, colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _draw_curves(axes: Any, curves: dict[tuple[str, int], Curve], colours: dict[str, Any], suffix: str) -> None:
    for label, colour in colours.items():
        method = label + suffix if label.startswith("Rel") else label
        found = [curve for (name, _), curve in curves.items() if name == method]
        x = [step - found[0][0][0] for step, _ in found[0]]
        y = np.mean([[loss for _, loss in curve] for curve in found], axis=0)
        width, line = (3.0 if label == "exact" else 1.3), (":" if label == OTHER_BATCHES else "-")
        axes.plot(x, y, label=label, color=colour, linewidth=width, linestyle=line)
    axes.set(xlabel="steps after resuming", yscale="log")
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.tick_params(which="minor", labelsize=8)


def _draw_differences(axes: Any, outcomes: Sequence[Outcome], colours: dict[str, Any]) -> None:
    methods = [method for method in _methods(outcomes) if method != "exact"]
    chance = max(map(abs, _differences(outcomes, OTHER_BATCHES)))
    axes.axvspan(-chance, chance, color="0.92", zorder=0)
    axes.axvline(0, color="black", linewidth=1)
    for place, method in enumerate(methods):
        differences = _differences(outcomes, method)
        colour = colours[method.removesuffix(f" x{RESUMES}")]
        axes.plot(differences, [place] * len(differences), "o", color=colour, markersize=6)
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    axes.set_xlabel("test loss less that of the exact resume, a dot a seed")
    axes.set_title("at the end (grey: what other batches alone do)")
