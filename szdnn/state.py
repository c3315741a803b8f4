"""Nested states in memory <-> named tensors and a JSON skeleton, for torch tensors and NumPy arrays alike.

torch is imported only once a state holds one of its objects, or one of them is to be rebuilt.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from .arrays import CODES
from .errors import ArchiveError, LimitError
from .skeleton import Path as StatePath
from .skeleton import decode_state, dtype_text, encode_state, entry_name, path_name, place, text_dtype
from .source import Array, Json, Source, TensorSpec, take

Framework = Literal["auto", "torch", "numpy"]


def torch_leaves() -> ModuleType:
    """The module for torch's objects. Raises ArchiveError, saying what to do, where torch is not installed."""
    from . import torch_leaves

    return torch_leaves


class Flattener:
    """Gives each tensor of a state a name, tied tensors the same one, and each a node in the skeleton.

    is_flat: whether the state is a dict of tensors alone, whose keys are the names as they are.
    """

    def __init__(self, is_flat: bool) -> None:
        self._is_flat = is_flat
        self.tensors: dict[str, Any] = {}
        self._by_memory: dict[tuple[object, ...], str] = {}

    @property
    def has_torch(self) -> bool:
        """Whether a tensor of the state is torch's."""
        return any(not isinstance(tensor, np.ndarray) for tensor in self.tensors.values())

    def leaf(self, value: object, path: StatePath) -> Json | None:
        """The node of a tensor, array or torch object; None for anything else.

        Raises ArchiveError for a tensor that can't be kept, naming its place.
        """
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        return torch_leaves().node(self, value, path) if sys.modules.get("torch") else None

    def name(self, tensor: Any, memory: tuple[object, ...], path: StatePath) -> str:
        """A new name for a tensor, under which another one over the same memory will be found."""
        name = entry_name(str(path[0])) if self._is_flat and len(path) == 1 else path_name(path)
        if name in self.tensors:
            raise ArchiveError(f"{place(path)}: two tensors would both be called {name!r}")
        self.tensors[name] = tensor
        self._by_memory[memory] = name
        return name

    def tied(self, memory: tuple[object, ...]) -> str | None:
        """The name of the tensor that came before over the same memory."""
        return self._by_memory.get(memory)

    def _array(self, array: Array, path: StatePath) -> Json:
        if type(array) not in (np.ndarray, np.memmap):
            kind = type(array)
            raise ArchiveError(
                f"{place(path)} is a {kind.__module__}.{kind.__qualname__}; szdnn keeps plain arrays only"
            )
        node: dict[str, Json] = {"array": dtype_text(array.dtype, path)}
        if array.dtype.newbyteorder("=") not in CODES:  # strings and dates: their bytes
            node["shape"] = list(array.shape)
        memory = (array.__array_interface__["data"][0], array.dtype, array.shape, array.strides)
        name = self.tied(memory) if array.size else None
        if name is None:
            if "shape" in node:
                array = np.frombuffer(array.tobytes(), np.uint8)
            name = self.name(array, memory, path)
        return {"tensor": name, **node}


class StateSource(Source):
    """A state in memory: nested dicts, lists, tuples, sets, numbers, strings, bytes, tensors and arrays.

    A dict of tensors alone keeps its keys as names; elsewhere names are paths such as `optimizer/state/0/exp_avg`.
    Tensors that share all their memory are stored once and tied again on loading. Views that share part of it are
    stored on their own, each within its bound. A state that is a single NumPy array is not a model: no default rules.

    Raises ArchiveError naming the place of what can't be kept.
    """

    def __init__(self, state: object, path: Path | None = None) -> None:
        flattener = Flattener(_is_flat(state))
        self._state = encode_state(state, flattener.leaf)
        self._tensors = flattener.tensors
        simple = isinstance(state, np.ndarray) or (flattener.tensors and _is_flat(state))
        self.kind = "numpy" if simple and not flattener.has_torch else "torch"
        self.suffix = ".pt" if self.kind == "torch" else ".npy" if isinstance(state, np.ndarray) else ".npz"
        self.is_model = not isinstance(state, np.ndarray)
        specs = {name: _spec(tensor) for name, tensor in self._tensors.items()}
        super().__init__(path or Path("state" + self.suffix), specs)

    def __getitem__(self, name: str) -> Array:
        tensor = self._tensors[name]
        array: Array = tensor if isinstance(tensor, np.ndarray) else torch_leaves().to_numpy(tensor)
        return array

    def skeleton(self) -> dict[str, Json]:
        """See `Source.skeleton`."""
        return {"state": self._state}


def _is_flat(state: object) -> bool:
    """Whether a state is a dict from strings to tensors alone."""
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        return False
    torch = sys.modules.get("torch")
    kinds: tuple[type, ...] = (np.ndarray, torch.Tensor) if torch else (np.ndarray,)
    return all(isinstance(value, kinds) for value in state.values())


def _spec(tensor: Any) -> TensorSpec:
    if isinstance(tensor, np.ndarray):
        return TensorSpec(tensor.dtype, tensor.shape)
    spec: TensorSpec = torch_leaves().spec(tensor)
    return spec


class Rebuilder:
    """Turns nodes of tensors back into tensors or arrays.

    tensors: a mapping from name to array.
    framework: "auto": torch tensors and NumPy arrays as they were saved; "torch" or "numpy": all as that.
    max_bytes: views of more bytes than that are LimitError: one of stride 0 has as many values as its node says, and
        whoever copies it takes memory for them all.
    """

    def __init__(self, tensors: Mapping[str, Array], framework: Framework, max_bytes: int | None = None) -> None:
        self._tensors, self._max_bytes = tensors, max_bytes
        self.framework = framework
        self._arrays: dict[str, Array] = {}
        self.torch_tensors: dict[str, Any] = {}

    def leaf(self, node: dict[str, Json]) -> object:
        """The tensor, array or torch object of a node. Raises ArchiveError for a node that was never written."""
        if "torch" in node:
            return _plain_torch(node) if self.framework == "numpy" else torch_leaves().rebuild_object(node)
        if "array" in node:
            array = self._array(node)
            wanted = self.framework == "torch" and torch_leaves().fits(array.dtype)
            return torch_leaves().to_torch(array) if wanted else array
        if self.framework == "numpy":
            return self._numpy(node)
        return torch_leaves().rebuild(self, node)

    def take(self, name: str) -> Array:
        """A tensor's values as decoded."""
        return take(self._tensors, name)

    def _array(self, node: dict[str, Json]) -> Array:
        name = node["tensor"]
        if name not in self._arrays:
            dtype, array = text_dtype(node["array"]), self.take(name)
            if "shape" in node:
                array = np.frombuffer(array.tobytes(), dtype).reshape(node["shape"]).copy()
            if array.dtype.newbyteorder("=") != dtype.newbyteorder("="):
                raise ArchiveError(f"{name}: holds {array.dtype}; the skeleton says {dtype}")
            self._arrays[name] = array.astype(dtype, copy=False)
        return self._arrays[name]

    def _numpy(self, node: dict[str, Json]) -> Array:
        """A torch tensor's node as an array, a tied one as a view of the same memory."""
        name = node["tensor"]
        if name not in self._arrays:
            self._arrays[name] = self.take(name)
        array = self._arrays[name]
        if "shape" not in node:
            return array
        shape, strides = node["shape"], [step * array.itemsize for step in node["stride"]]
        last = sum((size - 1) * step for size, step in zip(shape, node["stride"], strict=True))
        if min([*shape, *strides, 0]) < 0 or 0 in shape or last >= array.size:
            raise ArchiveError(f"{name}: a view does not fit its tensor")
        self.check_limit(name, math.prod(shape) * array.itemsize)
        return np.lib.stride_tricks.as_strided(array.reshape(-1), shape, strides)

    def check_limit(self, name: str, size: int) -> None:
        """Raises LimitError for a view of so many bytes where that is too many."""
        if self._max_bytes is not None and size > self._max_bytes:
            raise LimitError(f"{name}: a view of it has {size} bytes, more than max_bytes={self._max_bytes}")


def _plain_torch(node: dict[str, Json]) -> object:
    """Without torch: a Size as a tuple, a dtype, device or layout by its name."""
    return tuple(node["value"]) if node["torch"] == "size" else str(node["value"])


def rebuild_state(
    skeleton: dict[str, Json], tensors: Mapping[str, Array], framework: Framework = "auto", max_bytes: int | None = None
) -> object:
    """The nested state of `skeleton` with the values of the mapping `tensors`; see `Rebuilder`."""
    return decode_state(skeleton.get("state"), Rebuilder(tensors, framework, max_bytes).leaf)


def array_names(tree: Json) -> frozenset[str]:
    """The names of the tensors in a skeleton's tree that are NumPy arrays."""
    found: set[str] = set()
    parts = [tree]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(part)
        elif isinstance(part, dict):
            if "array" in part and isinstance(part.get("tensor"), str):
                found.add(part["tensor"])
            parts.extend(part.values())
    return frozenset(found)
