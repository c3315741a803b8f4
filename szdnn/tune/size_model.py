"""An estimate of an archive's bytes that is differentiable by the values and by the lattices' steps.

Frame by frame: the code length of the lattice integers under a learned prior (`prior`), times a gain, plus the frame's
header. Now and then the estimate is calibrated: the archive is made, every frame's gain is set so that its estimate is
its real size, and what the archive has beside frames is counted as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import api, codec
from ..plan import Plan
from ..small import SMALL_BYTES, join
from ..source import Array
from .layer import LatticeStep
from .prior import CodeLength, Prior

EFFORT = 9
"""The mixing coder, whose contexts the prior stands for."""
DRIFT = 0.04
"""Between two calibrations, in the logarithm of the bytes."""
FRAME_HEADER = 30
"""About the bytes of a frame beside its integers' code."""


@dataclass
class Frame:
    """Tensors that share a lattice and a frame.

    values: what is rounded to the lattice, by name; float32.
    bits: at the last refresh. gain: real bytes of code over those of `bits`.
    """

    values: dict[str, Tensor]
    lattice: LatticeStep
    prior: Prior
    bits: float = math.nan
    gain: float = 1.0
    _last: CodeLength | None = field(default=None, repr=False)
    _step: float = math.nan

    @property
    def bytes(self) -> float:
        """The estimated bytes of the frame."""
        return FRAME_HEADER + self.gain * self.bits / 8

    def refresh(self, learn: bool) -> None:
        """Measure the code length anew."""
        self._step = self.lattice.step
        joined = torch.cat([v.detach().reshape(-1) for v in self.values.values()])
        if len(self.values) == 1:
            joined = joined.view(next(iter(self.values.values())).shape)
        self._last = self.prior.measure(joined / self._step, learn=learn)
        self.bits = self._last.bits

    def add_gradients(self, price: float) -> None:
        """Add the derivative of price x bytes, as of the last refresh, to the gradients of values and step."""
        assert self._last is not None
        slope, at = self._last.by_value.reshape(-1), 0
        by_log_step = 0.0
        for value in self.values.values():
            part = slope[at : at + value.numel()].view(value.shape)
            at += value.numel()
            by_log_step -= float(torch.dot(part.reshape(-1), value.detach().reshape(-1))) / self._step
            if value.requires_grad:
                _add(value, part, price * self.gain / 8 / self._step)
        _add(self.lattice.log_eps, torch.tensor(by_log_step), price * self.gain / 8)


def _add(to: Tensor, gradient: Tensor, scale: float) -> None:
    if to.grad is None:
        to.grad = gradient * scale
    else:
        to.grad.add_(gradient, alpha=scale)


class SizeModel:
    """The estimated bytes of an archive.

    frames: all lossy ones. `overhead`: the bytes of the archive beside them, known once calibrated.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.frames = list(frames)
        self.overhead = 0.0
        self._calibrated = math.nan
        self._optimizer = torch.optim.Adam([p for f in self.frames for p in f.prior.parameters()], lr=0.02)

    @property
    def bytes(self) -> float:
        """The estimate as of the last refresh."""
        return self.overhead + sum(frame.bytes for frame in self.frames)

    @property
    def has_drifted(self) -> bool:
        """Whether the estimate is so far from that of the last calibration that the gains may no longer hold."""
        return not abs(math.log(self.bytes / self._calibrated)) < DRIFT

    def refresh(self, *, learn: bool = True) -> None:
        """Measure the code lengths anew; with `learn`, let the priors take a step towards the integers."""
        for frame in self.frames:
            frame.refresh(learn)
        if learn:
            self._optimizer.step()
            self._optimizer.zero_grad()

    def fit(self, steps: int) -> None:
        """Let the priors take many steps at once, as at the start."""
        for _ in range(steps):
            self.refresh()

    def add_gradients(self, price: float) -> None:
        """Add the derivative of price x bytes, as of the last refresh, to all gradients."""
        for frame in self.frames:
            frame.add_gradients(price)

    def calibrate(self, state: Mapping[str, Array], plan: Plan) -> int:
        """Set gains and overhead by the real archive of a state; its bytes."""
        total = len(api.dumps(state, plan, effort=EFFORT, verify=False))
        self.refresh(learn=False)
        real = 0
        for frame in self.frames:
            size = len(codec.compress(join([state[name] for name in frame.values]), frame.lattice.bound, effort=EFFORT))
            code = max(frame.bits / 8, 1.0)
            frame.gain = min(max((size - FRAME_HEADER) / code, 0.25), 4.0)
            real += size
        self.overhead = total - real
        self._calibrated = self.bytes
        return total


def frames_of(
    values: Mapping[str, Tensor], lattices: Mapping[str, LatticeStep], *, contexts: bool = True
) -> list[Frame]:
    """The frames of tensors under their lattices' bounds: small ones of one lattice share a frame, as in the archive.

    Tensors that share a lattice without sharing a frame have a prior each.
    """
    shared: dict[int, list[str]] = {}
    for name, value in values.items():
        is_small = value.numel() * value.element_size() < SMALL_BYTES
        shared.setdefault(id(lattices[name]) if is_small else -1 - len(shared), []).append(name)
    return [
        Frame({n: values[n] for n in names}, lattices[names[0]], Prior(_shape(names, values), contexts=contexts))
        for names in shared.values()
    ]


def _shape(names: list[str], values: Mapping[str, Tensor]) -> tuple[int, ...]:
    if len(names) == 1:
        return tuple(values[names[0]].shape)
    return (sum(values[name].numel() for name in names),)
