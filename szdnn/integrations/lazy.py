"""Models whose weights stay compressed: each layer is decoded when it is used, the least recently used ones are
dropped.

A model's weights are looked up where torch keeps them, in each module's table of parameters; this table is exchanged
for one that decodes on demand. So any use of a weight works (but not writing to it: the change goes with the decoded
copy), not only in its own module's forward pass: functional calls, slices, tied weights.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from .. import api
from ..archive import Archive
from ..errors import ArchiveError, ArgumentError
from ..folder import ShardedArchive
from ..frame_reader import FrameReader
from ..skeleton import decode_state

try:
    import torch
    from torch import nn

    from .. import torch_leaves
except ImportError:
    raise ArchiveError("lazy_load needs torch; install it with: pip install 'szdnn[torch]'") from None

SMALLEST = 4096
"""Bytes: smaller parameters are decoded at once and stay, as all buffers do."""
DEFAULT_BUDGET = 256 << 20
"""Bytes of decoded weights that are kept."""

Frames = FrameReader | Archive | ShardedArchive


@dataclass(frozen=True)
class Stored:
    """A tensor of a state_dict in the archive: the name it has there, its shape, and strides where it is a view."""

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None


class LazyWeights:
    """What keeps a lazily loaded model's weights: the open archive and the decoded weights that fit into the budget.

    Attributes: budget_bytes; resident_bytes, decoded weights that are kept now; decoded and reused, how many look-ups
    had to decode and how many did not. Closing it (or leaving its `with`) ends the model's use.
    """

    def __init__(self, frames: Frames, budget_bytes: int, owned: bool) -> None:
        self.budget_bytes = budget_bytes
        self.resident_bytes = 0
        self.decoded = 0
        self.reused = 0
        self._frames: Frames | None = frames
        self._owned = owned
        self._kept: OrderedDict[tuple[Stored, torch.dtype], nn.Parameter] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all decoded weights and close the archive, if `lazy_load` opened it; the model cannot be used any
        more.
        """
        with self._lock:
            frames, self._frames = self._frames, None
            self._kept.clear()
            self.resident_bytes = 0
        if frames is not None and self._owned:
            frames.close()

    def get(self, place: Stored, dtype: torch.dtype) -> nn.Parameter:
        """A weight, decoded now or kept from an earlier use. Raises ArchiveError after `close`, CorruptFrame."""
        key = place, dtype
        with self._lock:
            if key in self._kept:
                self.reused += 1
                self._kept.move_to_end(key)
                return self._kept[key]
            self._make_room(math.prod(place.shape) * dtype.itemsize)
            self.decoded += 1
            weight = nn.Parameter(self.decode(place, dtype), requires_grad=False)
            if weight.nbytes <= self.budget_bytes:
                self._kept[key] = weight
                self.resident_bytes += weight.nbytes
            return weight

    def decode(self, place: Stored, dtype: torch.dtype) -> torch.Tensor:
        """A tensor of the archive. Raises as `get` does."""
        if self._frames is None:
            raise ArchiveError("the model's archive is closed: its weights cannot be decoded any more")
        tensor: torch.Tensor = torch_leaves.to_torch(np.asarray(self._frames[place.name]))
        if place.stride is not None:
            tensor = tensor.as_strided(place.shape, place.stride)
        return tensor.to(dtype)

    def _make_room(self, size: int) -> None:
        """Drop the least recently used before the new one takes memory; one that is too large to be kept leaves the
        others.
        """
        if size > self.budget_bytes:
            return
        while self._kept and self.resident_bytes + size > self.budget_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.resident_bytes -= dropped.nbytes


class _LazyParameters(dict[str, Any]):
    """A module's table of parameters, of which some are decoded when they are looked up."""

    def __init__(
        self, eager: dict[str, Any], lazy: dict[str, tuple[Stored, torch.dtype]], weights: LazyWeights
    ) -> None:
        super().__init__({name: None if name in lazy else value for name, value in eager.items()})
        self._lazy = lazy
        self._weights = weights

    def __getitem__(self, name: str) -> Any:
        place = self._lazy.get(name)
        return super().__getitem__(name) if place is None else self._weights.get(*place)

    def __setitem__(self, name: str, value: Any) -> None:
        self._lazy.pop(name, None)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self._lazy.pop(name, None)
        super().__delitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's."""
        try:
            return self[name]
        except KeyError:
            return default

    def items(self) -> Any:
        """Pairs one after the other: what is decoded for one need not stay for the next."""
        return ((name, self[name]) for name in list(self))

    def values(self) -> Any:
        """Values one after the other."""
        return (self[name] for name in list(self))

    def copy(self) -> dict[str, Any]:
        """All of them, decoded."""
        return dict(self.items())

    def __reduce__(self) -> NoReturn:
        raise ArgumentError("a lazily loaded model can't be pickled or copied; copy its archive and load that")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce__()
        raise AssertionError


def lazy_load(
    model: nn.Module, archive: Path | str | Frames, *, budget_bytes: int = DEFAULT_BUDGET, key: str | None = None
) -> LazyWeights:
    """Put an archive's weights into a model so that they are decoded when they are used. For inference, on the CPU.

    model: any module; made under `with torch.device("meta")` its own weights take no memory. Its parameters of SMALLEST
        bytes and more become lazy and need no gradient; smaller ones and buffers are loaded at once.
    archive: of the model's state_dict: a path, a URL that fsspec knows, or what szdnn.open returned.
    budget_bytes: decoded weights that are kept, the most recently used ones. One that is larger than the budget is
        decoded for each use, and takes its memory as long as that lasts; 0 keeps none.
    key: where the state_dict is in the saved state, "model" for szdnn.save(path, {"model": model.state_dict(), ...}).

    Outputs are those of the eagerly loaded model, bit for bit. Returns the LazyWeights, to be closed after the model's
    last use. Raises ArgumentError, before it changes anything, when names or shapes do not fit; what szdnn.open raises.
    """
    if budget_bytes < 0:
        raise ArgumentError(f"budget_bytes must be 0 or more, not {budget_bytes}")
    owned = isinstance(archive, Path | str)
    frames: Frames = api.open(archive) if isinstance(archive, Path | str) else archive
    try:
        stored = _stored(frames, key)
        _check_fit(model, stored)
        weights = LazyWeights(frames, budget_bytes, owned)
        for path, module in model.named_modules():
            _load_module(module, f"{path}." if path else "", stored, weights)
    except BaseException:
        if owned:
            frames.close()
        raise
    return weights


def _stored(frames: Frames, key: str | None) -> dict[str, Stored]:
    """Where each tensor of the state_dict is in the archive; tied ones are there once."""
    skeleton = {} if isinstance(frames, ShardedArchive) else frames.skeleton
    if "state" not in skeleton:
        if key is not None:
            raise ArgumentError(f"the archive is of a file with tensors alone: it has no part {key!r}")
        return {name: Stored(name, tuple(spec.shape)) for name, spec in frames.specs.items()}
    state = decode_state(skeleton["state"], lambda node: node)
    if key is not None:
        state = state.get(key) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, dict) and "tensor" in v for v in state.values()):
        where = "" if key is None else f" under {key!r}"
        raise ArgumentError(f"the archive holds no state_dict{where}: names and tensors; see the argument `key`")
    found = {}
    for name, node in state.items():
        place = node["tensor"]
        shape = tuple(node.get("shape", frames.specs[place].shape))
        found[name] = Stored(place, shape, tuple(node["stride"]) if "stride" in node else None)
    return found


def _load_module(module: nn.Module, path: str, stored: dict[str, Stored], weights: LazyWeights) -> None:
    lazy = {}
    # Recurrent modules hold their weights in a second list, which would go stale.
    may_be_lazy = not isinstance(module, nn.RNNBase)
    for name, parameter in list(module._parameters.items()):
        if parameter is None:
            continue
        if may_be_lazy and parameter.nbytes >= SMALLEST:
            lazy[name] = (stored[path + name], parameter.dtype)
        else:
            value = weights.decode(stored[path + name], parameter.dtype)
            module._parameters[name] = nn.Parameter(value, requires_grad=False)
    for name, buffer in list(module._buffers.items()):
        if buffer is not None and name not in module._non_persistent_buffers_set:
            module._buffers[name] = weights.decode(stored[path + name], buffer.dtype)
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()
    if lazy:
        module.__dict__["_parameters"] = _LazyParameters(module._parameters, lazy, weights)
    module.__dict__["_apply"] = module.__dict__["_load_from_state_dict"] = _refuse


def _refuse(*arguments: object, **keywords: object) -> NoReturn:
    raise ArgumentError(
        "a lazily loaded model can't be moved, converted or given other weights; load it eagerly with szdnn.load"
    )


def _check_fit(model: nn.Module, stored: dict[str, Stored]) -> None:
    """Raises ArgumentError naming the first tensor that is missing, left over or of another shape."""
    wanted = dict(_named_tensors(model))
    for name in wanted:
        if name not in stored:
            raise ArgumentError(f"the archive has no {name!r}, which the model needs")
    for name, place in stored.items():
        if name not in wanted:
            raise ArgumentError(f"the model has no {name!r}, which the archive holds")
        if place.shape != tuple(wanted[name].shape):
            raise ArgumentError(f"{name!r} is {place.shape} in the archive, {tuple(wanted[name].shape)} in the model")
    for path, module in model.named_modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            if buffer is not None and buffer.is_meta:
                raise ArgumentError(f"buffer {path}.{name} is on the meta device and in no state_dict: make it first")


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """What a state_dict holds, by name, tied ones each time."""
    yield from model.named_parameters(remove_duplicate=False)
    for path, module in model.named_modules(remove_duplicate=False):
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                yield (f"{path}.{name}" if path else name), buffer
