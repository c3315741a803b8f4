"""The published results again: Deep Compression and universal compression on the papers' networks, stage by stage.

Trained networks: LeNet-300-100 and LeNet-5 on MNIST, ResNet-32 on CIFAR-10 (as JPEG where $SZDNN_DATA has it). All
seeds are fixed. Errors are of the official test images, from what the artefact's bytes decode to; sizes are of whole
artefacts, of the pruned stage too. AlexNet and VGG-16 have their true layer shapes, the published shares of kept
weights and bits, and Gaussian weights: their sizes only.

The LeNets take about 20 minutes of one core, ResNet-32 as much again. Pruned networks and finished experiments are
kept in the bench's cache (`--fresh` makes them anew).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import records
from bench.seeds_papers import EXPERIMENTS, SHAPES, Experiment
from szdnn.baselines import masks
from szdnn.baselines.base import Artefact, Context, Stage, State, weight_names
from szdnn.baselines.prune import Pruning
from szdnn.nets.downloads import cache_folder

VERSION = 1
"""Raised when what an experiment does changes: it is in the names of what is kept."""


@dataclass(frozen=True)
class Row:
    """One stage. Errors in percent.

    ratio: all tensors' bytes / the artefact's; layer_ratio: of the weight layers alone; dense_ratio: of the dense ones
    alone, as papers count that compress no others.
    """

    experiment: str
    network: str
    stage: str
    bytes: int
    ratio: float
    layer_ratio: float | None = None
    dense_ratio: float | None = None
    density: float | None = None
    error: float | None = None
    error_before: float | None = None
    paper_ratio: float | None = None
    paper_error: float | None = None
    paper_error_before: float | None = None
    minutes: float | None = None
    note: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    choices = sorted({one.network for one in EXPERIMENTS})
    parser.add_argument("--network", choices=choices, action="append", help="only these; all without it")
    parser.add_argument("--only", metavar="TEXT", default="", help="only experiments whose name has this")
    parser.add_argument("--kept", action="store_true", help="only experiments that are kept from earlier runs")
    parser.add_argument("--fresh", action="store_true", help="train anew what is kept from earlier runs")
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the experiments, print a table as it comes."""
    chosen = [one for one in EXPERIMENTS if args.only in one.name and (not args.network or one.network in args.network)]
    if args.kept:
        chosen = [one for one in chosen if rows_file(one).exists()]
    if args.fresh:
        forget(chosen)
    table: list[Row] = []
    for one in chosen:
        rows = experiment(one)
        show(rows)
        table += rows
    if table:
        records.save(args, table)
    return 0


def forget(experiments: list[Experiment]) -> None:
    """Remove what is kept of these."""
    from szdnn import nets

    for one in experiments:
        rows_file(one).unlink(missing_ok=True)
        if one.network not in SHAPES:
            pruned_file(one, nets.load(one.network).baseline()).unlink(missing_ok=True)


def experiment(one: Experiment) -> list[Row]:
    """The rows of one experiment, made now or kept from before."""
    kept = rows_file(one)
    if kept.exists():
        return [Row(**row) for row in json.loads(kept.read_text())]
    rows = synthetic(one) if one.network in SHAPES else trained(one)
    _write(kept, json.dumps([asdict(row) for row in rows]).encode())
    return rows


def trained(one: Experiment) -> list[Row]:
    """Train, compress, decode, score."""
    from szdnn import nets

    start = time.monotonic()
    task = nets.load(one.network)
    state = task.baseline()
    context = Context(task=task, say=lambda line: print(f"  {line}", flush=True))
    made = one.method.quantised(state, *pruned(one, state, context), context)
    rows = _rows(one, state, made, lambda of: 100 * (1 - context.evaluate(of, "test")))
    return [*rows[:-1], replace(rows[-1], note=_note(made), minutes=(time.monotonic() - start) / 60)]


def synthetic(one: Experiment) -> list[Row]:
    """Sizes of a network that has only its layers' true shapes."""
    start = time.monotonic()
    state = SHAPES[one.network].state()
    rows = _rows(one, state, one.method.fit(state, Context()), None)
    note = "synthetic weights: the sizes count, no accuracy"
    return [*rows[:-1], replace(rows[-1], note=note, minutes=(time.monotonic() - start) / 60)]


def _rows(one: Experiment, state: State, made: Artefact, error: Callable[[State], float] | None) -> list[Row]:
    """A row a stage; the last is of what the artefact's bytes decode to."""
    coded = Stage("coded", len(made.data), one.method.decode(made.data))
    raw = sum(value.nbytes for value in state.values())
    before = error(state) if error else None
    first = Row(one.name, one.network, "uncompressed", raw, 1.0, error=before, paper_error=one.paper.error_before)
    rows = [first]
    for stage in (*made.stages, coded):
        ratio, paper = raw / stage.bytes, dict(one.paper.ratios).get(stage.name)
        found = error(stage.state) if error else None
        rows.append(Row(one.name, one.network, stage.name, stage.bytes, ratio, error=found, paper_ratio=paper))
    rows[-1] = replace(
        rows[-1],
        layer_ratio=_layer_ratio(state, made),
        dense_ratio=_layer_ratio(state, made, dense=True),
        density=made.details["density"],
        error_before=before,
        paper_error=one.paper.error_after,
        paper_error_before=one.paper.error_before,
    )
    return rows


def _note(made: Artefact) -> str:
    coders = made.details.get("coders")
    return "places and names by " + ", ".join(f"{c} {size}" for c, size in coders.items()) if coders else ""


def _layer_ratio(state: State, made: Artefact, dense: bool = False) -> float:
    names = [name for name in made.layer_bytes if state[name].ndim == 2 or not dense]
    return sum(state[name].nbytes for name in names) / sum(made.layer_bytes[name] for name in names)


def pruned(one: Experiment, state: State, context: Context) -> tuple[State, masks.Masks]:
    """The pruned and retrained network, kept by its settings: several experiments start from one."""
    kept, names = pruned_file(one, state), weight_names(state)
    if kept.exists():
        with np.load(kept) as file:
            return {name: file[name] for name in state}, {name: file[f"mask:{name}"] for name in names}
    sparse, found = one.method.pruned(state, context)
    kept.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {**sparse, **{f"mask:{name}": found[name] for name in names}}
    part = kept.with_suffix(".part.npz")
    np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
    part.replace(kept)
    return sparse, found


def rows_file(one: Experiment) -> Path:
    """Where an experiment's rows are kept."""
    return _kept(f"rows-{_digest(one.name, one.network, repr(one.method))}.json")


def pruned_file(one: Experiment, state: State) -> Path:
    """Where the pruned network is kept that an experiment starts from."""
    settings = {field.name: getattr(one.method, field.name) for field in fields(Pruning)}
    return _kept(f"pruned-{_digest(one.network, json.dumps(settings, sort_keys=True), _state_digest(state))}.npz")


def _kept(name: str) -> Path:
    return cache_folder() / "seeds" / name


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join([str(VERSION), *texts]).encode()).hexdigest()[:16]


def _state_digest(state: State) -> str:
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(name.encode() + value.tobytes())
    return found.hexdigest()


def show(rows: list[Row]) -> None:
    """One experiment as a table."""
    first = rows[0]
    print(f"\n{first.network}: {first.experiment}")
    titles = [("bytes", 12), ("ratio", 9), ("paper", 8), ("error %", 9), ("paper", 8), ("layers", 9), ("dense", 9)]
    print(f"{'stage':<14}" + "".join(f"{title:>{width}}" for title, width in [*titles, ("kept %", 8)]))
    for row in rows:
        cells = [
            f"{row.bytes:>12,}", f"{row.ratio:>9.2f}", _cell(row.paper_ratio, 8, 1), _cell(row.error, 9, 2),
            _cell(row.paper_error, 8, 2), _cell(row.layer_ratio, 9, 1),
            _cell(row.dense_ratio, 9, 1),
            _cell(None if row.density is None else 100 * row.density, 8, 2),
        ]  # fmt: skip
        print(f"{row.stage:<14}" + "".join(cells))
    notes = dict.fromkeys(row.note for row in rows if row.note)
    print("".join(f"  {note}\n" for note in notes), end="", flush=True)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"
