"""Is a compressed network as good a start for another task? MNIST's LeNet-300-100, fine-tuned on scikit-learn's digits.

The digits are brought to MNIST's size. Starts: fresh weights, MNIST's network, and that network after Deep
Compression (from `bench seeds`: pruned with the paper's rates, 6 bits) with all its weights free again, with pruned
weights kept zero, or with only the shared values and biases trained, so that it stays as small. Each from several
seeds, on all training digits and on a hundred.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bench import records, seeds, seeds_papers
from szdnn.baselines.base import Context, State, weight_names

NETWORK = "mnist/lenet-300-100"
STARTS = ("fresh", "uncompressed", "compressed, free", "compressed, pruned", "compressed, shared")


@dataclass(frozen=True)
class Row:
    """Errors in percent of the 500 report digits: mean and standard deviation over the seeds."""

    start: str
    examples: int
    error: float
    deviation: float
    error_before: float
    seeds: int


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=20.0)
    records.add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Fine-tune from every start, print a table."""
    from szdnn import nets

    original = nets.load(NETWORK).baseline()
    compressed = _compressed()
    table = []
    print(f"{'start':<22}{'examples':>9}{'error %':>9}{'+-':>6}{'before':>9}")
    for examples in (997, 100):
        for start in STARTS:
            table.append(_row(start, examples, original, compressed, args.seeds, args.epochs))
            row = table[-1]
            print(f"{start:<22}{examples:>9}{row.error:>9.2f}{row.deviation:>6.2f}{row.error_before:>9.2f}", flush=True)
    records.save(args, table)
    return 0


def _compressed() -> State:
    """What the artefact of the papers' settings decodes to."""
    from szdnn import nets

    one = next(one for one in seeds_papers.EXPERIMENTS if one.network == NETWORK)
    task = nets.load(NETWORK)
    state = task.baseline()
    context = Context(task=task)
    made = one.method.quantised(state, *seeds.pruned(one, state, context), context)
    return one.method.decode(made.data)


def _row(start: str, examples: int, original: State, compressed: State, count: int, epochs: float) -> Row:
    errors, before = [], []
    for seed in range(count):
        task = second_task(examples, seed)
        context = Context(task=task, seed=seed)
        first = _start(start, task.build, original, compressed, seed)
        before.append(100 * (1 - context.evaluate(first, "report")))
        errors.append(100 * (1 - context.evaluate(_tuned(start, first, context, epochs), "report")))
    deviation = statistics.stdev(errors) if count > 1 else 0.0
    return Row(start, examples, statistics.mean(errors), deviation, statistics.mean(before), count)


def _start(start: str, build: Callable[[], object], original: State, compressed: State, seed: int) -> State:
    import torch

    if start != "fresh":
        return original if start == "uncompressed" else compressed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    assert isinstance(model, torch.nn.Module)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def _tuned(start: str, state: State, context: Context, epochs: float) -> State:
    from szdnn.baselines import retrain
    from szdnn.nets.training import Recipe

    forms: dict[str, retrain.Form] = {}
    for name in weight_names(state):
        kept = state[name] != 0
        if start == "compressed, pruned":
            forms[name] = retrain.Masked(kept)
        elif start == "compressed, shared":
            book, numbers = np.unique(state[name][kept], return_inverse=True)
            at, zeros = np.flatnonzero(kept), np.zeros(int(kept.sum()), np.float32)
            forms[name] = retrain.Shared(book[:, None], numbers, at, zeros, np.arange(book.size), kept.shape)
    recipe = Recipe(epochs, 1e-3, "adam", decay=1e-4, batch=32)
    return retrain.retrain(state, forms, context, recipe)[0]


def second_task(examples: int, seed: int):  # type: ignore[no-untyped-def]
    """Digits of 28x28 pixels for the MNIST network; the first `examples` of the training digits in the seed's order."""
    import torch

    from szdnn import nets
    from szdnn.nets.images import ImageTask
    from szdnn.nets.task import Examples

    digits, mnist = nets.load("digits"), nets.load(NETWORK)
    assert isinstance(mnist, ImageTask)

    @functools.cache
    def loader(split: str) -> Examples:
        found = digits.examples(split)
        if split == "train":
            order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
            found = found.take(order[:examples])
        large = torch.nn.functional.interpolate(found.inputs * (255 / 16), (20, 20), mode="bilinear")
        return Examples(torch.nn.functional.pad(large, (4, 4, 4, 4)), found.targets)

    return replace(mnist, name="digits-28", loader=loader, _splits={})
