"""What differences to the checkpoint before save: a chain of checkpoints of a real run, and a fine-tuned model.

ResNet-20 (CIFAR-10 as JPEG) is trained on from its finished weights (`bench.finetune`). Its checkpoints, 100 steps
apart, are saved within fixed absolute bounds: 1e-3 of each weight tensor's range in the first one; in states with the
optimizer's, first moments within 1e-3 of their own range, second ones within 1% of each value. Each checkpoint holds
differences to the one before, and after eight links comes one that stands alone, which the rivals get too. The
fine-tuned model is the one after 400 steps (an epoch is 391) as differences to the weights it began with.

Beside szdnn without and with a reference, on the weight tensors under a bound: zstd on the XOR of the float32 patterns
(lossless; the first as they are); differences in the style of QD-Compressor (Zhang et al. 2021: quantise both by the
same step, subtract, code) with zstd; and the order-0 entropy of these differences, tensor by tensor, without tables.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from safetensors.torch import load_file

import szdnn
from bench import machine
from bench.entropy import histogram_bits, lattice
from bench.finetune import WEIGHTS, checkpoints
from bench.options import floats

REL = 1e-3
LINKS = 8
ZSTD_LEVEL = 19
Arrays = dict[str, NDArray[np.float32]]
Coder = Callable[[NDArray[np.float32], NDArray[np.float32] | None, float], float]
"""The bytes of a tensor, given its reference or None, and its bound."""


@dataclass(frozen=True)
class Record:
    """A method on a series of states: bytes of the weight tensors under a bound, and of whole files (0: none made).

    raw_bytes: of all tensors, as they are. zeros: second moments that became zero.
    """

    data: str
    method: str
    states: int
    rate: float
    weights: int
    weights_bytes: int
    file_bytes: int
    raw_bytes: int = 0
    zeros: int = 0


def configure(parser: argparse.ArgumentParser) -> None:
    """--rates, --checkpoints, --apart, --csv."""
    rates = "1e-4,3e-4,1e-3"
    text = f"Adam's rates; the first for the whole chain, the others for three checkpoints (default {rates})"
    parser.add_argument("--rates", type=floats, default=floats(rates), help=text)
    parser.add_argument("--checkpoints", type=int, default=10, metavar="N", help="in the chain (default 10)")
    parser.add_argument("--apart", type=int, default=100, metavar="STEPS", help="between two of them (default 100)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the records")


def run(args: argparse.Namespace) -> int:
    """Train what the cache lacks, print the table; 2 without the data."""
    folder = os.environ.get("SZDNN_DATA")
    if not folder:
        print(f"set SZDNN_DATA to the folder that holds {WEIGHTS}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    records: list[Record] = []
    for number, rate in enumerate(args.rates):
        count = args.checkpoints if number == 0 else min(3, args.checkpoints)
        states = [state for _, state in checkpoints(Path(folder), rate, args.apart, count)]
        records += chain(f"chain of {count}", states, rate)
        if number == 0:
            records += whole_states(f"chain of {count}, Adam's state too", states, rate)
            if len(states) >= 4:
                records += tuned(load_file(Path(folder) / WEIGHTS), states[3]["model"], rate)
    print_table(records)
    if args.csv:
        write_csv(args.csv, records)
    return 0


def plan_of(first: dict[str, torch.Tensor], prefix: str = "") -> szdnn.Plan:
    """A fixed absolute bound for each weight tensor, from its range in the first state."""
    rules = [szdnn.Rule(prefix + name, szdnn.Abs(eps)) for name, eps in bounds_of(first).items()]
    return szdnn.Plan(szdnn.Rel(REL), rules)


def bounds_of(state: dict[str, torch.Tensor]) -> dict[str, float]:
    """eps by name, for the tensors that szdnn's default rules give a bound."""
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        report = szdnn.save(Path(folder, "x.szd.safetensors"), state, szdnn.Rel(REL), verify=False)
    lossy = [tensor.name for tensor in report.tensors if tensor.is_lossy]
    return {name: REL * float(state[name].max() - state[name].min()) for name in lossy}


def chain(name: str, states: Sequence[dict[str, Any]], rate: float) -> list[Record]:
    """The weights of a series of states, by every method."""
    models = [state["model"] for state in states]
    eps = bounds_of(models[0])
    arrays: list[Arrays] = [{key: model[key].numpy() for key in eps} for model in models]
    count = sum(x.size for x in arrays[0].values())

    def record(method: str, sizes: Sequence[tuple[float, int]]) -> Record:
        total = round(sum(weights for weights, _ in sizes))
        return Record(name, method, len(states), rate, count, total, sum(size for _, size in sizes))

    found = [record("szdnn", saved(models, plan_of(models[0]), 0)),
             record("szdnn, reference", saved(models, plan_of(models[0]), LINKS)),
             record("szdnn, lossless", saved(models, lossless(eps), 0)),
             record("szdnn, lossless, reference", saved(models, lossless(eps), LINKS))]  # fmt: skip
    rivals: dict[str, Coder] = {
        "zstd": lambda x, _, eps: xor_zstd(x, None),
        "zstd on the XOR": lambda x, before, _: xor_zstd(x, before),
        "QD-style, zstd": qd_zstd,
        "QD-style, order-0 entropy": qd_entropy,
    }
    return found + [record(method, coded(arrays, eps, coder)) for method, coder in rivals.items()]


def lossless(names: Any) -> szdnn.Plan:
    """Everything bit for bit; as rules, so that the same tensors count as weights."""
    return szdnn.Plan(szdnn.Lossless(), [szdnn.Rule(name, szdnn.Lossless()) for name in names])


def whole_states(name: str, states: Sequence[dict[str, Any]], rate: float) -> list[Record]:
    """Model and optimizer together."""
    plan = plan_of(states[0]["model"], "model/")
    made = []
    for method, links in (("szdnn", 0), ("szdnn, reference", LINKS)):
        sizes = saved(states, plan, links)
        total, files = round(sum(weights for weights, _ in sizes)), sum(size for _, size in sizes)
        raw = sum(tensor.nbytes for state in states for tensor in tensors_of(state))
        made.append(Record(name, method, len(states), rate, 0, total, files, raw, lost_zeros(states, plan)))
    return made


def tensors_of(state: Any) -> list[torch.Tensor]:
    """All tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]


def lost_zeros(states: Sequence[dict[str, Any]], plan: szdnn.Plan) -> int:
    """How many second moments become zero that were not, in all states."""
    count, before = 0, None
    for state in states:
        before = szdnn.loads(szdnn.dumps(state, plan, reference=before), reference=before)
        for key, moments in state["optimizer"]["state"].items():
            back = before["optimizer"]["state"][key]["exp_avg_sq"]
            count += int(((moments["exp_avg_sq"] != 0) & (back == 0)).sum())
    return count


def tuned(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], rate: float) -> list[Record]:
    """A fine-tuned model, given the one it was made of, which does not count."""
    both: list[dict[str, Any]] = [{"model": before}, {"model": after}]
    alone = chain("fine-tuned", both[1:], rate)
    eps = bounds_of(after)
    arrays = [{key: model[key].numpy() for key in eps} for model in (before, after)]
    count = sum(x.size for x in arrays[1].values())
    made = [record for record in alone if record.method in ("szdnn", "szdnn, lossless", "zstd")]
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        for method, plan in (("szdnn", plan_of(after)), ("szdnn, lossless", lossless(eps))):
            size = one(Path(folder, "x.szd.safetensors"), after, plan, before, eps)
            made.append(Record("fine-tuned", f"{method}, reference", 1, rate, count, round(size[0]), size[1]))
    for method, coder in (("zstd on the XOR", lambda x, y, e: xor_zstd(x, y)), ("QD-style, zstd", qd_zstd),
                          ("QD-style, order-0 entropy", qd_entropy)):  # fmt: skip
        total = sum(coder(x, arrays[0][key], eps[key]) for key, x in arrays[1].items())
        made.append(Record("fine-tuned", method, 1, rate, count, round(total), 0))
    return made


def one(path: Path, state: Any, plan: szdnn.Plan, reference: Any, names: Any = None) -> tuple[float, int]:
    """The bytes of the weights' frames and of the file."""
    report = szdnn.save(path, state, plan, reference=reference)  # which checks every value against its bound
    lossy = [t for t in report.tensors if (t.is_lossy if names is None else t.name in names)]
    return sum(tensor.info.frame_bytes for tensor in lossy), report.archive_bytes


def saved(states: Sequence[Any], plan: szdnn.Plan, links: int) -> list[tuple[float, int]]:
    """A series saved as files, each with the one before for its reference but every `links` + 1-th."""
    names = {rule.pattern for rule in plan.rules} if isinstance(plan.default, szdnn.Lossless) else None
    sizes: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        for number, state in enumerate(states):
            alone = links == 0 or number % (links + 1) == 0
            before = None if alone else Path(folder, f"{number - 1}.szd.safetensors")
            sizes.append(one(Path(folder, f"{number}.szd.safetensors"), state, plan, before, names))
    return sizes


def coded(series: Sequence[Arrays], eps: dict[str, float], coder: Coder) -> list[tuple[float, int]]:
    """What a rival takes, with the same checkpoints standing alone."""
    sizes: list[tuple[float, int]] = []
    for number, arrays in enumerate(series):
        before = None if number % (LINKS + 1) == 0 else series[number - 1]
        each = (coder(x, None if before is None else before[key], eps[key]) for key, x in arrays.items())
        sizes.append((sum(each), 0))
    return sizes


def xor_zstd(x: NDArray[np.float32], before: NDArray[np.float32] | None) -> float:
    """zstd on the patterns' XOR with the ones before."""
    patterns = x.view(np.uint32) if before is None else x.view(np.uint32) ^ before.view(np.uint32)
    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(patterns.tobytes()))


def differences(x: NDArray[np.float32], before: NDArray[np.float32] | None, eps: float) -> NDArray[np.int64]:
    """Quantised values less the quantised ones before."""
    return lattice(x, eps) if before is None else lattice(x, eps) - lattice(before, eps)


def qd_zstd(x: NDArray[np.float32], before: NDArray[np.float32] | None, eps: float) -> float:
    """The differences in as few bytes as hold them, by zstd."""
    q = differences(x, before, eps)
    narrow = next(t for t in (np.int8, np.int16, np.int32) if np.abs(q).max() <= np.iinfo(t).max)
    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(q.astype(narrow).tobytes()))


def qd_entropy(x: NDArray[np.float32], before: NDArray[np.float32] | None, eps: float) -> float:
    """What an ideal memoryless code takes for the differences."""
    return histogram_bits(differences(x, before, eps)) / 8


def print_table(records: Sequence[Record]) -> None:
    """A line a method; `of szdnn`: of szdnn's without a reference on the same states."""
    for data in dict.fromkeys((record.data, record.rate) for record in records):
        rows = [record for record in records if (record.data, record.rate) == data]
        base = next(record for record in rows if record.method == "szdnn")
        raw = (
            f", {base.raw_bytes / 1e3:.0f} kB as they are, {base.zeros} second moments zeroed" if base.raw_bytes else ""
        )
        print(f"{data[0]}, Adam at {data[1]:g}{raw}")
        print(f"  {'':<28}{'weights kB':>11}{'bits/weight':>13}{'of szdnn':>10}{'files kB':>10}{'of szdnn':>10}")
        for record in rows:
            bits = 8 * record.weights_bytes / record.states / record.weights if record.weights else None
            cells = [f"{record.weights_bytes / 1e3:.1f}", f"{bits:.3f}" if bits else "-",
                     f"{record.weights_bytes / base.weights_bytes:.3f}"]  # fmt: skip
            files = [f"{record.file_bytes / 1e3:.1f}", f"{record.file_bytes / base.file_bytes:.3f}"]
            print(f"  {record.method:<28}{cells[0]:>11}{cells[1]:>13}{cells[2]:>10}"
                  + "".join(f"{cell if record.file_bytes else '-':>10}" for cell in files))  # fmt: skip


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """The records, with the machine's name and the date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    today = date.today().isoformat()
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["machine", "date", *(field.name for field in fields(Record))])
        writer.writerows([machine.name(), today, *asdict(record).values()] for record in records)
