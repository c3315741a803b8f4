"""Fewer bits a number: floating-point casts, integers with scales, fixed point, binary and ternary weights.

Biases and norm statistics stay as they are; weights that are not finite are refused where a format has no such values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, CorruptFrame
from . import bits
from .base import Artefact, Context, Method, State, Unavailable, artefact, named_dtype, register, unpack, weight_names

if TYPE_CHECKING:
    from torch import nn

Floats = NDArray[np.float32]


def _finite(state: State) -> dict[str, Floats]:
    """The weight layers as float32. Raises Unavailable for values that are not finite."""
    layers = {name: np.asarray(state[name], np.float32) for name in weight_names(state)}
    for name, value in layers.items():
        if not np.isfinite(value).all():
            raise Unavailable(f"{name} holds NaN or infinity, which this format lacks")
    return layers


@dataclass(frozen=True)
class FloatCast(Method):
    """A narrower floating-point type, to nearest even; larger values become its largest, NaN stays NaN.

    dtype: float16, bfloat16, float8_e4m3fn, float8_e5m2. scaled: each layer is divided first by a float32 that takes
    its largest magnitude to the type's largest (as for FP8: Micikevicius et al. 2022, FP8 formats for deep learning,
    section 4).
    """

    dtype: str = "float16"
    scaled: bool = False

    def fit(self, state: State, context: Context) -> Artefact:
        """Cast every weight layer."""
        layers, scales = {}, []
        most = float(ml_dtypes.finfo(named_dtype(self.dtype)).max)  # type: ignore[no-untyped-call]
        for name in weight_names(state):
            value = np.asarray(state[name], np.float32)
            peak = float(np.max(np.abs(value), initial=0.0, where=np.isfinite(value)))
            scale = float(np.float32(peak / most)) if self.scaled and peak > 0 else 1.0
            scales.append(scale)
            layers[name] = np.clip(value / np.float32(scale), -most, most).astype(named_dtype(self.dtype)).tobytes()
        return artefact(state, layers, {"dtype": self.dtype, "scales": scales if self.scaled else None})

    @classmethod
    def decode(cls, data: bytes) -> State:
        """Values of the narrow type, times their scales."""
        parts = unpack(data)
        dtype = named_dtype(parts.meta["dtype"])
        scales = parts.meta["scales"] or [1.0] * len(parts.layers)
        return parts.state(
            {
                name: np.frombuffer(blob, dtype).astype(np.float32) * np.float32(scale)
                for (name, blob), scale in zip(parts.layers.items(), scales, strict=True)
            }
        )


@dataclass(frozen=True)
class Integers(Method):
    """Symmetric integers: round(w / s), s the largest magnitude of a channel or group / (2^(bits-1) - 1), as float16.

    bits: 2 to 8, None for the fewest that keep the budget. group: "channel" (a scale for each index of the first
    axis) or the number of consecutive values that share a scale. Krishnamoorthi 2018, Quantizing deep convolutional
    networks, section 2.
    """

    bits: int | None = 8
    group: str | int = "channel"

    def fit(self, state: State, context: Context) -> Artefact:
        """Quantise every weight layer."""
        if self.bits is None:
            ladder = [replace(self, bits=number) for number in range(8, 1, -1)]
            return context.coarsest(state, ladder, lambda m: m.decode(m.fit(state, context).data)).fit(state, context)
        if not 2 <= self.bits <= 8 or not (self.group == "channel" or (isinstance(self.group, int) and self.group > 0)):
            raise ArgumentError('integers have 2 to 8 bits, and a scale for each "channel" or group of so many values')
        layers = {name: self._encode(value) for name, value in _finite(state).items()}
        return artefact(state, layers, {"bits": self.bits, "group": self.group}, details={"bits": self.bits})

    def _encode(self, value: Floats) -> bytes:
        assert self.bits is not None
        most = (1 << (self.bits - 1)) - 1
        groups = _grouped(value, self.group)
        scale = _up_to_half(np.abs(groups).max(1, keepdims=True) / most)
        codes = np.rint(np.divide(groups, scale, out=np.zeros_like(groups), where=scale > 0))
        codes = np.clip(codes, -most, most).ravel()[: value.size] + most
        return scale.astype(np.float16).tobytes() + bits.pack(codes.astype(np.uint64), self.bits)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """Integers times their scales."""
        parts = unpack(data)
        word, group = parts.meta["bits"], parts.meta["group"]
        weights = {}
        for name, blob in parts.layers.items():
            shape = parts.shapes[name]
            size, length = math.prod(shape), _group_length(shape, group)
            count = -(-size // length)
            scales = np.frombuffer(blob[: 2 * count], np.float16).astype(np.float32)
            codes = bits.unpack_even(blob[2 * count :], size, word).astype(np.float32) - ((1 << (word - 1)) - 1)
            weights[name] = codes * np.repeat(scales, length)[:size]
        return parts.state(weights)


def _group_length(shape: tuple[int, ...], group: str | int) -> int:
    return math.prod(shape[1:]) if group == "channel" else int(group)


def _grouped(value: Floats, group: str | int) -> Floats:
    """The values [groups, length], the last group filled with zeros."""
    length = _group_length(value.shape, group)
    filled = np.zeros(-(-value.size // length) * length, np.float32)
    filled[: value.size] = value.ravel()
    return filled.reshape(-1, length)


def _up_to_half(scale: Floats) -> Floats:
    """The nearest float16 that is not smaller, so that the largest value still fits; 65504 at most."""
    half = np.minimum(scale, 65504).astype(np.float16)
    up = np.where(half.astype(np.float32) < scale, np.nextafter(half, np.float16(np.inf)), half)
    return np.where(np.isfinite(up), up, np.float16(65504)).astype(np.float32)


@dataclass(frozen=True)
class FixedPoint(Method):
    """Gupta et al. 2015, Deep learning with limited numerical precision, section 3: <IL, FL> fixed point.

    word: bits of a number (IL + FL), of which a layer's largest magnitude decides how many stand before the point.
    rounding: "stochastic" (up with the probability of the fraction, from the seed) or "nearest". epochs: fine-tuning
    in which every updated weight is rounded again, as the paper trains; 0 for none.
    """

    word: int = 8
    rounding: str = "stochastic"
    epochs: float = 0.0
    rate: float = 1e-2

    def fit(self, state: State, context: Context) -> Artefact:
        """Round every weight layer, once or after each step of training."""
        if not 2 <= self.word <= 16 or self.rounding not in ("stochastic", "nearest"):
            raise ArgumentError('fixed point has words of 2 to 16 bits and rounds "stochastic" or "nearest"')
        random = context.generator()
        points = {name: self._fraction_bits(value) for name, value in _finite(state).items()}
        if self.epochs:
            state = _trained(state, context, self.epochs, self.rate, lambda n, v: self._value(v, points[n], random))
        layers = {}
        for name, value in _finite(state).items():
            codes = self._round(value, points[name], random) + (1 << (self.word - 1))
            layers[name] = bits.pack(codes.ravel().astype(np.uint64), self.word)
        rest = {name: value for name, value in state.items() if name not in layers}
        return artefact(state, layers, {"word": self.word, "points": list(points.values())}, rest=rest)

    def _fraction_bits(self, value: Floats) -> int:
        """The most fraction bits with which the largest magnitude is within half a step of a word."""
        peak = float(np.abs(value).max(initial=0))
        most = (1 << (self.word - 1)) - 0.5
        bits = 60 if peak == 0 else math.floor(math.log2(most / peak))
        return max(-60, min(60, bits))

    def _round(self, value: Floats, point: int, random: np.random.Generator) -> NDArray[np.int64]:
        scaled = np.ldexp(value.astype(np.float64), point)
        shift = random.random(scaled.shape) if self.rounding == "stochastic" else 0.5
        limit = 1 << (self.word - 1)
        codes: NDArray[np.int64] = np.clip(np.floor(scaled + shift), -limit, limit - 1).astype(np.int64)
        return codes

    def _value(self, value: Floats, point: int, random: np.random.Generator) -> Floats:
        return np.ldexp(self._round(value, point, random).astype(np.float32), -point)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """Words times their power of two."""
        parts = unpack(data)
        word = parts.meta["word"]
        weights = {}
        for (name, blob), point in zip(parts.layers.items(), parts.meta["points"], strict=True):
            codes = bits.unpack_even(blob, math.prod(parts.shapes[name]), word).astype(np.float32) - (1 << (word - 1))
            weights[name] = np.ldexp(codes, -point)
        return parts.state(weights)


@dataclass(frozen=True)
class Binary(Method):
    """One bit a weight, or three levels, with a float32 scale an output channel.

    levels 2: the sign (Courbariaux et al. 2015, BinaryConnect, section 2.2), times the channel's mean magnitude
    (Rastegari et al. 2016, XNOR-Net, section 3.1). levels 3: zero below 0.7 mean magnitudes, the rest's mean
    magnitude above (Li et al. 2016, Ternary weight networks, section 2.2), five values a byte. epochs:
    straight-through fine-tuning, as BinaryConnect trains: gradients at the quantised weights move real-valued ones; 0
    for none.
    """

    levels: int = 2
    epochs: float = 0.0
    rate: float = 1e-3

    requires: ClassVar[tuple[str, ...]] = ()

    def fit(self, state: State, context: Context) -> Artefact:
        """Quantise every weight layer, once or throughout a training."""
        if self.levels not in (2, 3):
            raise ArgumentError("levels are 2 (binary) or 3 (ternary)")
        _finite(state)
        if self.epochs:
            state = _straight_through(state, context, self.epochs, self.rate, lambda v: _scaled(*self._split(v)))
        layers = {}
        for name, value in _finite(state).items():
            signs, scale = self._split(value)
            packed = bits.pack((signs > 0).ravel().astype(np.uint64), 1) if self.levels == 2 else _pack_ternary(signs)
            layers[name] = scale.tobytes() + packed
        rest = {name: value for name, value in state.items() if name not in layers}
        return artefact(state, layers, {"levels": self.levels}, rest=rest)

    def _split(self, value: Floats) -> tuple[Floats, Floats]:
        """Signs [channels, rest] in -1, 0, 1 and scales [channels]."""
        rows = value.reshape(len(value), -1)
        size = np.abs(rows)
        if self.levels == 2:
            return np.where(rows >= 0, np.float32(1), np.float32(-1)), size.mean(1, dtype=np.float32)
        kept = size > 0.7 * size.mean(1, keepdims=True)
        scale = (size * kept).sum(1) / np.maximum(kept.sum(1), 1)
        return (np.sign(rows) * kept).astype(np.float32), scale.astype(np.float32)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """Signs times their scales."""
        parts = unpack(data)
        weights = {}
        for name, blob in parts.layers.items():
            shape = parts.shapes[name]
            size, rows = math.prod(shape), shape[0]
            scale, packed = np.frombuffer(blob[: 4 * rows], np.float32), blob[4 * rows :]
            if parts.meta["levels"] == 2:
                signs = bits.unpack_even(packed, size, 1).astype(np.float32) * 2 - 1
            else:
                signs = _unpack_ternary(packed, size)
            weights[name] = _scaled(signs.reshape(rows, -1), scale)
        return parts.state(weights)


def _scaled(signs: Floats, scale: Floats) -> Floats:
    return signs * scale[:, None]


_POWERS = 3 ** np.arange(5)


def _pack_ternary(signs: Floats) -> bytes:
    """Five digits of base 3 a byte."""
    digits = np.ones(-(-signs.size // 5) * 5, np.uint8)
    digits[: signs.size] = signs.ravel() + 1
    codes: NDArray[np.uint8] = (digits.reshape(-1, 5) * _POWERS).sum(1).astype(np.uint8)
    return codes.tobytes()


def _unpack_ternary(data: bytes, count: int) -> Floats:
    codes = np.frombuffer(data, np.uint8)
    if len(codes) != -(-count // 5) or codes.max(initial=0) >= 243:
        raise CorruptFrame(f"not {count} ternary values")
    digits = codes[:, None] // _POWERS % 3
    return digits.ravel()[:count].astype(np.float32) - 1


def _trained(
    state: State, context: Context, epochs: float, rate: float, quantise: Callable[[str, Floats], Floats]
) -> State:
    """Fine-tuned with every weight layer quantised after each step."""
    from ..nets.task import state_of
    from ..nets.training import Recipe

    model = context.model(state)
    names = set(weight_names(state))

    def after_step(model: nn.Module) -> None:
        _set(model, {name: quantise(name, value) for name, value in _weights(model, names).items()})

    return state_of(context.train(model, Recipe(epochs, rate), after_step=after_step))


def _straight_through(
    state: State, context: Context, epochs: float, rate: float, quantise: Callable[[Floats], Floats]
) -> State:
    """Fine-tuned real-valued weights whose gradients are taken where their quantised twins are; batch norm's
    statistics, too.
    """
    from ..nets.task import state_of
    from ..nets.training import Recipe

    model = context.model(state)
    names = set(weight_names(state))
    real = {name: value.copy() for name, value in _weights(model, names).items()}

    def show() -> None:
        _set(model, {name: quantise(value).reshape(value.shape) for name, value in real.items()})

    def after_step(model: nn.Module) -> None:
        real.update({name: value.copy() for name, value in _weights(model, names).items()})
        show()

    show()
    recipe = Recipe(epochs, rate, "adam")
    trained = context.train(model, recipe, after_backward=lambda model: _set(model, real), after_step=after_step)
    return state_of(trained) | real


def _weights(model: nn.Module, names: set[str]) -> dict[str, Floats]:
    return {name: p.detach().numpy() for name, p in model.named_parameters() if name in names}


def _set(model: nn.Module, values: dict[str, Floats]) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in values:
                parameter.copy_(torch.from_numpy(np.asarray(values[name], np.float32)))


_made = functools.partial
register("fp16", "float16, rounded", _made(FloatCast, dtype="float16"))
register("bf16", "bfloat16, rounded", _made(FloatCast, dtype="bfloat16"))
register("fp8", "float8 e4m3, a scale a layer", _made(FloatCast, dtype="float8_e4m3fn", scaled=True))
register("fp8-e5m2", "float8 e5m2, a scale a layer", _made(FloatCast, dtype="float8_e5m2", scaled=True))
register("int8", "8 bits, a scale an output channel", _made(Integers, bits=8))
register("int8-group", "8 bits, a scale every 64 values", _made(Integers, bits=8, group=64))
register("int4", "4 bits, a scale an output channel", _made(Integers, bits=4))
register("int4-group", "4 bits, a scale every 64 values", _made(Integers, bits=4, group=64))
register("int", "the fewest bits within the budget, a scale every 64 values", _made(Integers, bits=None, group=64))
register("fixed16", "16-bit fixed point, stochastic rounding (Gupta)", _made(FixedPoint, word=16))
register("fixed8", "8-bit fixed point, stochastic rounding (Gupta)", _made(FixedPoint, word=8))
register("fixed8-trained", "the same, trained on with rounded updates", _made(FixedPoint, word=8, epochs=2.0))
register("binary", "signs and a scale a channel", _made(Binary, levels=2))
register("binary-trained", "the same, fine-tuned (BinaryConnect)", _made(Binary, levels=2, epochs=4.0))
register("ternary", "-1, 0, 1 and a scale a channel", _made(Binary, levels=3))
register("ternary-trained", "the same, fine-tuned", _made(Binary, levels=3, epochs=4.0))
