"""Deep Compression: pruning, trained quantisation, Huffman (Han, Mao and Dally 2016)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from . import masks, prune, sharing
from .base import Artefact, Context, Method, Stage, State, register


@dataclass(frozen=True)
class DeepCompression(sharing.Coding, prune.Pruning, Method):
    """The three stages, each followed by retraining where there is a task.

    bits: of a weight's number, or those of convolutions / dense layers, "8/5". init: of k-means. tune_rate, tune_epochs: of the centroids'
    fine-tuning; the others are of retraining after pruning.
    """

    trains: ClassVar[bool] = True
    huffman: str = "both"
    bits: int | str = "8/5"
    init: str = "linear"
    tune_rate: float = 1e-4
    tune_epochs: float = 1.0

    def fit(self, state: State, context: Context) -> Artefact:
        """The pipeline; stages "pruned", "shared" (numbers and indices packed) and "coded" with their sizes."""
        tuned, kept = self.pruned(state, context)
        return self.quantised(state, tuned, kept, context)

    def quantised(self, state: State, pruned: State, kept: masks.Masks, context: Context) -> Artefact:
        """The second and third stages on a pruned checkpoint."""
        sparse = prune.Prune(half=self.half).stored(state, pruned, kept)
        layers = {
            name: sharing.share(pruned[name], mask, sharing.by_kind(self.bits, mask.ndim), self.init, context.seed)
            for name, mask in kept.items()
        }
        tuning = replace(self, rate=self.tune_rate, epochs=self.tune_epochs)
        tuned, layers = sharing.tune(pruned, layers, tuning, context)
        packed = sharing.stored(state, tuned, layers, replace(self, huffman="none"), self)
        details = {"density": masks.density(kept)}
        stages = (Stage("pruned", len(sparse.data), pruned, details), Stage("shared", len(packed.data), tuned))
        return sharing.stored(state, tuned, layers, self, self, stages=stages, details=details)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The checkpoint with pruned, shared weights."""
        return sharing.restored(data)


register("deep-compression", "prune, share, Huffman; retrained after each", DeepCompression)
