"""Low rank: truncated singular value decompositions of dense and reshaped convolution weights (Denton et al. 2014).

Exploiting linear structure within convolutional networks, sections 3.2 and 3.3: a layer's weights as a matrix W [m,
n] become U V with U [m, r], V [r, n]; then the network is fine-tuned with the factors as its weights (section 3.4).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from .base import (
    Artefact,
    Context,
    Method,
    Stage,
    State,
    Unavailable,
    artefact,
    named_dtype,
    register,
    unpack,
    weight_names,
)

if TYPE_CHECKING:
    from torch import nn

Matrix = NDArray[np.float32]
Factors = tuple[Matrix, Matrix]


def as_matrix(value: NDArray[Any], reshape: str) -> Matrix:
    """A weight as a matrix. Convolutions [out, in, h, w]: "rows" [out, in h w], "spatial" [out h, in w]; others
    [rows, rest].
    """
    if value.ndim == 4 and reshape == "spatial":
        out, channels, height, width = value.shape
        return np.ascontiguousarray(value.transpose(0, 2, 1, 3), np.float32).reshape(out * height, channels * width)
    return np.ascontiguousarray(value, np.float32).reshape(len(value), -1)


def from_matrix(matrix: Matrix, shape: tuple[int, ...], reshape: str) -> Matrix:
    """The weight of an `as_matrix`."""
    if len(shape) == 4 and reshape == "spatial":
        out, channels, height, width = shape
        return np.ascontiguousarray(matrix.reshape(out, height, channels, width).transpose(0, 2, 1, 3))
    return matrix.reshape(shape)


def truncated(matrix: Matrix, rank: int) -> Factors:
    """The factors U sqrt(S) [m, rank] and sqrt(S) V [rank, n] of the nearest matrix of that rank."""
    u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    root = np.sqrt(s[:rank])
    return (u[:, :rank] * root).astype(np.float32), (root[:, None] * v[:rank]).astype(np.float32)


def rank_of_energy(values: NDArray[np.float64], energy: float) -> int:
    """The fewest singular values, given in falling order, whose squares make up that part of all squares; at least
    1.
    """
    squares = np.cumsum(values**2)
    return int(np.searchsorted(squares, energy * squares[-1] * (1 - 1e-12))) + 1 if squares[-1] > 0 else 1


@dataclass(frozen=True)
class LowRank(Method):
    """Each layer by two factors where these are fewer values, else as it is.

    energy: the part of a layer's squared singular values that is kept; None for the least within the budget. ratio:
    instead, a budget of bytes: weights / ratio, spent on those singular values of all layers that bring the most
    energy a byte. reshape: "rows" or "spatial", see `as_matrix`. dtype: of the stored factors. epochs, rate: of
    fine-tuning; 0 for none.
    """

    energy: float | None = None
    ratio: float | None = None
    reshape: str = "rows"
    dtype: str = "float32"
    epochs: float = 0.0
    rate: float = 5e-3

    trains: ClassVar[bool] = False

    def fit(self, state: State, context: Context) -> Artefact:
        """Decompose, fine-tune, store."""
        if self.reshape not in ("rows", "spatial") or self.dtype not in ("float32", "float16", "bfloat16"):
            raise ArgumentError('reshape is "rows" or "spatial", dtype float32, float16 or bfloat16')
        for name in weight_names(state):
            if not np.isfinite(np.asarray(state[name], np.float32)).all():
                raise Unavailable(f"{name} holds NaN or infinity: it has no singular values")
        if self.energy is None and self.ratio is None:
            return self._within_budget(state, context)
        ranks = self._ranks(state)
        factors = {name: truncated(as_matrix(state[name], self.reshape), rank) for name, rank in ranks.items()}
        stages = []
        if self.epochs:
            before = self._store(state, factors, ())
            stages.append(Stage("decomposed", len(before.data), self.decode(before.data)))
            state, factors = self._fine_tuned(state, factors, context)
        return self._store(state, factors, tuple(stages))

    def _within_budget(self, state: State, context: Context) -> Artefact:
        """The least energy that keeps the budget: found without fine-tuning, which then comes on top."""
        ladder = [replace(self, energy=1 - 2.0 ** (-step / 2), epochs=0) for step in range(24, 0, -1)]
        chosen = context.coarsest(state, ladder, lambda m: m.decode(m.fit(state, context).data))
        return replace(chosen, epochs=self.epochs).fit(state, context)

    def _ranks(self, state: State) -> dict[str, int]:
        """The ranks of those layers that get smaller by them."""
        matrices = {name: as_matrix(state[name], self.reshape) for name in weight_names(state)}
        spectra = {name: np.linalg.svd(m.astype(np.float64), compute_uv=False) for name, m in matrices.items()}
        if self.ratio is not None:
            ranks = self._ranks_of_bytes(matrices, spectra)
        else:
            assert self.energy is not None
            ranks = {name: rank_of_energy(values, self.energy) for name, values in spectra.items()}
        return {name: rank for name, rank in ranks.items() if rank * sum(matrices[name].shape) < matrices[name].size}

    def _ranks_of_bytes(self, matrices: dict[str, Matrix], spectra: dict[str, NDArray[np.float64]]) -> dict[str, int]:
        """Greedy: the next singular value of the layer where it brings most energy a stored value, while there is room.

        Energy counts relative to its layer's, whose outputs later layers normalise.
        """
        assert self.ratio is not None
        room = sum(m.size for m in matrices.values()) / self.ratio
        ranks = dict.fromkeys(matrices, 1)
        room -= sum(sum(m.shape) for m in matrices.values())
        steps = sorted(
            (
                (values[i] ** 2 / max(float((values**2).sum()), 1e-300) / sum(matrices[name].shape), name)
                for name, values in spectra.items()
                for i in range(1, len(values))
            ),
            reverse=True,
        )
        for _, name in steps:
            cost = sum(matrices[name].shape)
            if cost > room:
                break
            room -= cost
            ranks[name] += 1
        return ranks

    def _fine_tuned(
        self, state: State, factors: dict[str, Factors], context: Context
    ) -> tuple[State, dict[str, Factors]]:
        """The factors as the network's weights, trained on."""
        import torch
        from torch.nn.utils import parametrize

        from ..nets.task import state_of
        from ..nets.training import Recipe

        class Product(torch.nn.Module):
            """Weight = U V."""

            def __init__(self, shape: tuple[int, ...], reshape: str, pair: Factors) -> None:
                super().__init__()
                self.shape, self.reshape = shape, reshape
                self.u, self.v = (torch.nn.Parameter(torch.from_numpy(part.copy())) for part in pair)

            def forward(self, _: torch.Tensor) -> torch.Tensor:
                product = self.u @ self.v
                if len(self.shape) == 4 and self.reshape == "spatial":
                    out, channels, height, width = self.shape
                    return product.view(out, height, channels, width).transpose(1, 2).reshape(self.shape)
                return product.view(self.shape)

        model = context.model(state)
        products = {}
        for name, pair in factors.items():
            module, attribute = _owner(model, name)
            getattr(module, attribute).requires_grad_(False)
            products[name] = Product(state[name].shape, self.reshape, pair)
            parametrize.register_parametrization(module, attribute, products[name], unsafe=True)
        context.train(model, Recipe(self.epochs, self.rate))
        trained = {name: (p.u.detach().numpy(), p.v.detach().numpy()) for name, p in products.items()}
        for name in factors:
            parametrize.remove_parametrizations(*_owner(model, name), leave_parametrized=True)
        return state_of(model), trained

    def _store(self, state: State, factors: dict[str, Factors], stages: tuple[Stage, ...]) -> Artefact:
        dtype = named_dtype(self.dtype)
        layers = {}
        for name in weight_names(state):
            parts = factors.get(name, (np.asarray(state[name], np.float32),))
            layers[name] = b"".join(np.ascontiguousarray(part).astype(dtype).tobytes() for part in parts)
        ranks = {name: pair[0].shape[1] for name, pair in factors.items()}
        rest = {name: value for name, value in state.items() if name not in layers}
        meta = {"reshape": self.reshape, "dtype": self.dtype, "ranks": ranks}
        details = {"energy": self.energy, "ranks": ranks}
        return artefact(state, layers, meta, rest=rest, stages=stages, details=details)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The products of the factors."""
        parts = unpack(data)
        dtype, reshape = named_dtype(parts.meta["dtype"]), parts.meta["reshape"]
        weights = {}
        for name, blob in parts.layers.items():
            values, shape = np.frombuffer(blob, dtype).astype(np.float32), parts.shapes[name]
            rank = parts.meta["ranks"].get(name)
            weights[name] = values if rank is None else _product(values, shape, reshape, rank)
        return parts.state(weights)


def _product(values: Matrix, shape: tuple[int, ...], reshape: str, rank: int) -> Matrix:
    rows = shape[0] * shape[2] if len(shape) == 4 and reshape == "spatial" else shape[0]
    columns = math.prod(shape) // rows
    u, v = values[: rows * rank].reshape(rows, rank), values[rows * rank :].reshape(rank, columns)
    return from_matrix((u.astype(np.float64) @ v.astype(np.float64)).astype(np.float32), shape, reshape)


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a parameter, and its name there."""
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


register("lowrank", "truncated SVD, the least energy within the budget (Denton)", LowRank)
register(
    "lowrank-trained",
    "the same factors at half the weights, fine-tuned",
    functools.partial(LowRank, ratio=2.0, epochs=4.0),
)
register(
    "lowrank-spatial",
    "the same without fine-tuning, matrices [out h, in w]",
    functools.partial(LowRank, reshape="spatial"),
)
