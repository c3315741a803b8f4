"""What a search costs: evaluations against weight layers, of networks trained on scikit-learn's digits."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import szdnn
from bench import machine
from szdnn import nets
from szdnn.report import table

LAYERS = (4, 8, 16, 50, 152)
WIDTH = 48
EPOCHS = 3
METHODS = ("sensitivity", "uniform", "deepsz")
DEEPSZ_AT_MOST = 16
"""DeepSZ's assessment takes about 13 evaluations a layer; deeper networks show nothing new."""


class Residual(nn.Module):
    """Digits through a linear layer, residual blocks of a norm and one more, and a classifier."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(layers - 2)
        )
        self.last = nn.Linear(WIDTH, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [n, 10] of images [n, 1, 8, 8]."""
        x = self.first(images.flatten(1))
        for block in self.blocks:
            x = x + block(x) / len(self.blocks) ** 0.5
        logits: torch.Tensor = self.last(x)
        return logits


def trained(layers: int) -> nn.Module:
    """A network trained from a fixed seed."""
    task = nets.load("digits")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Residual(layers)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for epoch in range(EPOCHS):
            for images, labels in task.batches("train", 32, seed=epoch):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return model.eval()


def _score(model: nn.Module) -> Any:
    task = nets.load("digits")
    examples = task.examples("search")
    return 100.0 * (model(task.prepare(examples.inputs)).argmax(1) == examples.targets).float()


def measured() -> list[dict[str, Any]]:
    """A row for each depth and method."""
    rows = []
    for layers in LAYERS:
        model = trained(layers)
        for method in METHODS:
            if method == "deepsz" and layers > DEEPSZ_AT_MOST:
                continue
            started = time.process_time()
            found = szdnn.tune(model, _score, budget=szdnn.MaxDrop(0.5), method=method)
            rows.append(
                {"layers": layers, "method": method, "evaluations": found.evaluations, "limit": 2 * layers + 30,
                 "bytes": found.best.bytes, "cpu_seconds": round(time.process_time() - started, 1)}
            )  # fmt: skip
    return rows


def fit(rows: Sequence[Mapping[str, Any]], method: str) -> tuple[float, float]:
    """Slope and intercept of evaluations against layers, by least squares."""
    own = [row for row in rows if row["method"] == method]
    slope, intercept = np.polyfit([row["layers"] for row in own], [row["evaluations"] for row in own], 1)
    return float(slope), float(intercept)


def cost(path: Path | None) -> int:
    """Measure, print, write; 1 where a search by sensitivities took more than 2 L + 30 evaluations."""
    rows = measured()
    print(table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    for method in METHODS:
        slope, intercept = fit(rows, method)
        print(f"{method}: {slope:.2f} L + {intercept:.1f} evaluations")
    if path:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "machine", "date"])
            writer.writeheader()
            writer.writerows({**r, "machine": machine.name(), "date": date.today().isoformat()} for r in rows)
    return int(any(r["evaluations"] > r["limit"] for r in rows if r["method"] == "sensitivity"))
