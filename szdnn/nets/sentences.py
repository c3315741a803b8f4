"""Similarity of sentences: STS-B with MiniLM."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from . import data
from .downloads import MINILM, packaged
from .minilm import MiniLM, tokenize
from .task import Examples, State, Task, state_of

_PARTS = {"train": slice(0, 4249), "calibration": slice(4249, 4749), "search": slice(4749, None)}


class Stsb(Task):
    """STS-B: cosine similarity of two sentences' embeddings, by Spearman's correlation with people's judgement.

    Of the 5,749 training pairs, in a fixed random order, 4,249 train, 500 calibration, 1,000 search; report is the
    1,500 dev pairs. Inputs are token ids [n, 2, tokens], outputs embeddings [n, 2, 384], targets similarities 0 to 5.
    """

    name = "stsb"
    network = "minilm"
    metric = "Spearman's correlation"
    batch = 32

    def __init__(self) -> None:
        self._splits: dict[str, Examples] = {}

    def build(self) -> nn.Module:
        """MiniLM with fresh weights."""
        return MiniLM()

    def baseline(self) -> State:
        """The published checkpoint, out of the package that carries it."""
        from safetensors.numpy import load_file

        found = load_file(packaged(MINILM))
        return {name: found[name] for name in state_of(self.build())}

    def load_split(self, split: str) -> Examples:
        """Token ids and similarities."""
        if split not in self._splits:
            pairs, scores = data.stsb("train" if split in _PARTS else "dev")
            order = torch.arange(len(pairs))
            if split in _PARTS:
                order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[_PARTS[split]]
            sentences = [sentence for index in order.tolist() for sentence in pairs[index]]
            targets = torch.from_numpy(scores).float()[order]
            self._splits[split] = Examples(tokenize(sentences).view(len(targets), 2, -1), targets)
        return self._splits[split]

    def prepare(self, inputs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Cut to the longest sentence of the batch."""
        longest = int((inputs != 0).sum(-1).max())
        return inputs[..., :longest]

    def evaluation_order(self, examples: Examples) -> torch.Tensor:
        """Short sentences first: batches hold little padding."""
        return torch.argsort((examples.inputs != 0).sum((1, 2)), stable=True)

    def score_of(self, outputs: torch.Tensor, targets: torch.Tensor) -> float:
        """Spearman's rank correlation, -1 to 1."""
        ranks = torch.stack([_ranks((outputs[:, 0] * outputs[:, 1]).sum(-1)), _ranks(targets)])
        return float(torch.corrcoef(ranks)[0, 1])

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared difference of cosine and similarity / 5."""
        return F.mse_loss((outputs[:, 0] * outputs[:, 1]).sum(-1), targets / 5)

    def divergence(self, reference: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """1 - cosine of the embeddings, mean of the two sentences [n]."""
        return (1 - F.cosine_similarity(reference, outputs, dim=-1)).mean(-1).clamp_min(0)


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks [n] from 0, equal values sharing their mean rank."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    means: torch.Tensor = ends - (counts.double() + 1) / 2
    return means[inverse]


def stsb(network: str) -> Stsb:
    """The task."""
    return Stsb()
