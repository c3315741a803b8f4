"""Models loaded lazily beside eagerly: peak memory and latency, each in a process of its own, outputs compared bit
for bit.

MiniLM with its real weights, and a stack of transformer layers with synthetic ones. Peak: the most memory that the
process had, less what it had with torch, szdnn and the empty model, before it opened the archive. Pages of the
archive itself, which the system may drop at any time, are in it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import szdnn
from bench import machine, records

_CHILD = """
import hashlib, json, resource, statistics, sys, time
import torch
import szdnn
from szdnn.integrations import lazy_load
from bench.lazy import empty_model, inputs
name, archive, budget, passes = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)
def resident(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024
model, x = empty_model(name), inputs(name)
torch.nn.functional.linear(torch.ones(64, 64), torch.ones(64, 64))
open("/proc/self/clear_refs", "w").write("5")
before, start = resident("VmRSS"), time.process_time()
if budget == "eager":
    model.load_state_dict(szdnn.load(archive, threads=1), assign=True)
else:
    weights = lazy_load(model, szdnn.open(archive, threads=1), budget_bytes=int(budget))
loaded, times = time.process_time() - start, []
with torch.no_grad():
    for _ in range(passes):
        start = time.process_time()
        y = model(x)
        times.append(time.process_time() - start)
print(json.dumps({"peak": resident("VmHWM") - before, "load": loaded, "first": times[0],
                  "later": statistics.median(times[1:]), "digest": hashlib.sha256(y.numpy().tobytes()).hexdigest()}))
"""
LAYERS, WIDTH = 12, 1024


@dataclass(frozen=True)
class Row:
    """Megabytes and CPU seconds of one thread. budget_mb: of decoded weights, None for the eagerly loaded model."""

    model: str
    weights_mb: float
    archive_mb: float
    budget_mb: float | None
    peak_mb: float
    load_s: float
    first_pass_s: float
    later_pass_s: float
    same_outputs: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """--models, --passes and the outputs."""
    parser.add_argument("--models", default="minilm,stack", help="which (default both)")
    parser.add_argument("--passes", type=int, default=4, help="forward passes (default 4)")
    records.add_output_options(parser)


def empty_model(name: str) -> Any:
    """The module on the meta device, in evaluation mode."""
    import torch

    if name == "minilm":
        from szdnn.nets.minilm import POSITIONS, MiniLM

        with torch.device("meta"):
            model: Any = MiniLM()
        model.embeddings.position_ids = torch.arange(POSITIONS).unsqueeze(0)
        return model.eval()
    with torch.device("meta"):
        layer = torch.nn.TransformerEncoderLayer(WIDTH, 16, 4 * WIDTH, batch_first=True, norm_first=True)
        return torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).eval()


def inputs(name: str) -> Any:
    """One short sentence's worth of tokens, or of vectors."""
    import torch

    if name == "minilm":
        return torch.arange(1000, 1016).view(1, 16)
    return torch.randn(1, 16, WIDTH, generator=torch.Generator().manual_seed(0))


def _state(name: str) -> dict[str, Any]:
    import torch

    if name == "minilm":
        from szdnn.nets import load

        return {key: torch.from_numpy(value) for key, value in load("stsb").baseline().items()}
    generator = torch.Generator().manual_seed(0)
    found = {}
    for key, value in empty_model(name).state_dict().items():
        is_norm = key.endswith("weight") and value.ndim == 1
        noise = torch.randn(value.shape, generator=generator) if value.ndim > 1 else torch.zeros(value.shape)
        found[key] = torch.ones(value.shape) if is_norm else 0.02 * noise
    return found


def run(args: argparse.Namespace) -> int:
    """A line a budget; 1 if outputs differ."""
    print(f"{machine.name()}; one thread, CPU time")
    print("model      weights MB  archive  budget  peak MB  load s  first s  later s  outputs")
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            archive = Path(folder, f"{name}.szd.safetensors")
            szdnn.save(archive, _state(name), szdnn.Rel(1e-2))
            table += _measure(name, archive, args.passes)
    records.save(args, table)
    return int(not all(row.same_outputs for row in table))


def _measure(name: str, archive: Path, passes: int) -> list[Row]:
    with szdnn.open(archive) as frames:
        size = frames.raw_bytes
    rows: list[Row] = []
    eager = _child(name, archive, "eager", passes)
    for budget in (None, size, size // 4, 0):
        found = eager if budget is None else _child(name, archive, str(budget), passes)
        row = Row(
            name,
            size / 1e6,
            archive.stat().st_size / 1e6,
            None if budget is None else budget / 1e6,
            found["peak"] / 1e6,
            found["load"],
            found["first"],
            found["later"],
            found["digest"] == eager["digest"],
        )
        rows.append(row)
        _print(row)
    return rows


def _child(name: str, archive: Path, budget: str, passes: int) -> dict[str, Any]:
    command = [sys.executable, "-c", _CHILD, name, str(archive), budget, str(passes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print(row: Row) -> None:
    budget = "eager" if row.budget_mb is None else f"{row.budget_mb:.0f}"
    print(
        f"{row.model:<10}{row.weights_mb:>11.1f}{row.archive_mb:>9.1f}{budget:>8}{row.peak_mb:>9.1f}{row.load_s:>8.2f}"
        f"{row.first_pass_s:>9.3f}{row.later_pass_s:>9.3f}  {'equal' if row.same_outputs else 'DIFFERENT'}",
        flush=True,
    )
