"""szdnn itself, behind the rivals' interface."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.rivals.base import Array, Rival, module

DEFAULT_EFFORT = 3
DEFAULT_ISA = "auto"


class Szdnn(Rival):
    """Error-bounded mode, one thread; `isa` is the instruction set to use at most ("scalar": portable C)."""

    package = "szdnn"
    modules = ("szdnn",)
    suffix = ""

    def __init__(self, effort: int = DEFAULT_EFFORT, isa: str = DEFAULT_ISA) -> None:
        self.effort, self.isa = effort, isa
        self.name = "szdnn" if effort == DEFAULT_EFFORT else f"szdnn-e{effort}"
        self.name += (f"-{isa}" if isa != DEFAULT_ISA else "") + self.suffix

    def available(self) -> bool:
        """Whether this processor has the instruction set, too."""
        if not super().available():
            return False
        native = module("szdnn._native")
        return bool(native.ISAS[self.isa] <= native.ISAS[native.isa_available()])

    def accepts(self, array: Array) -> bool:
        """Every dtype and shape."""
        return True

    def bound(self, eps: float) -> Any:
        """The bound that eps stands for."""
        return module("szdnn").Abs(eps)

    def compress(self, array: Array, eps: float) -> bytes:
        """One frame."""
        module("szdnn._native").isa = self.isa
        return bytes(module("szdnn").compress(array, self.bound(eps), effort=self.effort, threads=1))

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The frame's array."""
        module("szdnn._native").isa = self.isa
        decoded: Array = module("szdnn").decompress(data, threads=1)
        return decoded


class SzdnnLossless(Szdnn):
    """Lossless mode."""

    lossless = True
    suffix = "-lossless"

    def bound(self, eps: float) -> Any:
        """No loss."""
        return module("szdnn").Lossless()


class SzdnnPointwise(Szdnn):
    """Pointwise relative mode."""

    pointwise = True

    def bound(self, eps: float) -> Any:
        """Relative to each value."""
        return module("szdnn").PointwiseRel(eps)


def codecs(efforts: list[int], isas: list[str]) -> list[Rival]:
    """szdnn at each effort and instruction set, with and without loss."""
    kinds = (Szdnn, SzdnnLossless)
    return [kind(effort, isa) for kind in kinds for effort in efforts for isa in isas]
