"""What a task is: a network, its checkpoint, its data in splits that never mix, its loss and its score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArchiveError, ArgumentError

try:
    import torch
    from torch import nn
except ImportError:
    raise ArchiveError("tasks need torch; install it with: pip install 'szdnn[tasks]'") from None

State = dict[str, NDArray[Any]]
"""A checkpoint: name -> array, in the network's own order."""

SPLITS = ("train", "calibration", "search", "report")
"""train: weights may be fitted to it. calibration: statistics, sensitivities. search: choosing among candidates.
report: only the score that is printed."""


@dataclass(frozen=True)
class Examples:
    """Inputs [n, ...] and targets [n] of some examples; uint8 inputs are images that `Task.prepare` makes floats of."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, which: Any) -> Examples:
        """Those of some indices or of a slice."""
        return Examples(self.inputs[which], self.targets[which])


class Task(ABC):
    """One network on one data set. Higher scores are better.

    Attributes: name ("mnist"), network ("lenet-5"), metric ("top-1 accuracy"), unit (what a drop of the budget
    counts: 0.01 is a point), batch (examples evaluated at a time).
    """

    name: str
    network: str
    metric: str
    unit: float = 0.01
    batch: int = 250

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with fresh weights, drawn from torch's random state."""

    @abstractmethod
    def baseline(self) -> State:
        """The checkpoint that is compressed: given, downloaded, or trained once by a fixed recipe and kept in the
        cache.
        """

    @abstractmethod
    def load_split(self, split: str) -> Examples:
        """All examples of a split of SPLITS, or of "test": the data set's official test examples where there are such
        (search and report may be parts of them), for comparing with published figures alone. Raises ArchiveError for
        missing data."""

    @abstractmethod
    def score_of(self, outputs: torch.Tensor, targets: torch.Tensor) -> float:
        """The score of outputs [n, ...] of the examples whose targets [n] are given."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean training loss, differentiable."""

    @abstractmethod
    def divergence(self, reference: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """How far outputs are from a reference network's on the same examples, one number >= 0 each [n],
        differentiable; no labels.

        Classifiers: Kullback-Leibler divergence in nats of the softmax distributions; embeddings: cosine distance.
        """

    def prepare(self, inputs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """A batch of stored inputs as the network takes it; with a generator, augmented as in training."""
        return inputs

    @property
    def training_split(self) -> str:
        """Where methods fit weights: "train", or "calibration" where a task has no training examples."""
        return "train"

    def examples(self, split: str, limit: int | None = None) -> Examples:
        """The first `limit` examples of a split, all without it. Raises ArgumentError for a split that is not there."""
        if split not in (*SPLITS, "test"):
            raise ArgumentError(f"no split {split!r}; there are {', '.join(SPLITS)} and test")
        found = self.load_split(split)
        return found if limit is None else found.take(slice(0, limit))

    def model(self, state: Mapping[str, NDArray[Any]]) -> nn.Module:
        """The network with these weights, in evaluation mode. Raises ArgumentError when names or shapes differ."""
        model = self.build()
        try:
            model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        except (RuntimeError, TypeError) as error:
            raise ArgumentError(f"the checkpoint does not fit {self.name}/{self.network}: {error}") from None
        return model.eval()

    def batches(
        self, split: str, size: int = 64, limit: int | None = None, seed: int | None = None, augment: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Prepared inputs and targets, `size` at a time: in order, or shuffled (and augmented) from a seed."""
        found = self.examples(split, limit)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        order = torch.arange(len(found)) if generator is None else torch.randperm(len(found), generator=generator)
        if augment and generator is None:
            raise ArgumentError("augmented batches need a seed")
        for start in range(0, len(found), size):
            part = found.take(order[start : start + size])
            yield self.prepare(part.inputs, generator if augment else None), part.targets

    @torch.no_grad()
    def outputs(self, model: nn.Module, split: str, limit: int | None = None) -> torch.Tensor:
        """The network's outputs [n, ...] on a split's examples in their order; the module's mode is left as it was."""
        found = self.examples(split, limit)
        if len(found) == 0:
            raise ArgumentError(f"{self.name} has no {split} examples")
        training = model.training
        model.eval()
        order = self.evaluation_order(found)
        parts = [model(self.prepare(found.inputs[which])) for which in torch.split(order, self.batch)]
        model.train(training)
        outputs = torch.cat(parts)
        return outputs[torch.argsort(order)]

    def evaluation_order(self, examples: Examples) -> torch.Tensor:
        """The order [n] in which examples are evaluated fastest."""
        return torch.arange(len(examples))

    def evaluate(self, model: nn.Module, split: str = "report", limit: int | None = None) -> float:
        """The score on a split; higher is better."""
        return self.score_of(self.outputs(model, split, limit), self.examples(split, limit).targets)

    def interval(
        self,
        reference: torch.Tensor,
        outputs: torch.Tensor,
        targets: torch.Tensor,
        *,
        level: float = 0.95,
        draws: int = 1000,
        seed: int = 0,
    ) -> tuple[float, float]:
        """A paired bootstrap interval of score(outputs) - score(reference) over the same examples (percentiles)."""
        differences = self.differences(reference, outputs, targets, draws, seed)
        tail = 50 * (1 - level)
        low, high = np.percentile(differences, [tail, 100 - tail])
        return float(low), float(high)

    def differences(
        self, reference: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor, draws: int, seed: int
    ) -> NDArray[np.float64]:
        """score(outputs) - score(reference) [draws], each time on as many examples drawn anew from these."""
        generator = np.random.default_rng(seed)
        found = []
        for _ in range(draws):
            which = torch.from_numpy(generator.integers(0, len(targets), len(targets)))
            before = self.score_of(reference[which], targets[which])
            found.append(self.score_of(outputs[which], targets[which]) - before)
        return np.array(found)


def state_of(model: nn.Module) -> State:
    """A module's weights and buffers as arrays of their own."""
    return {name: np.array(value.detach().numpy()) for name, value in model.state_dict().items()}
