"""Reading and restoring torch checkpoints (.pt, .pth, .bin), and torch tensors as NumPy arrays.

This is the only module that imports torch, and it does so at once: import it only when torch is needed.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from .errors import ArchiveError, CorruptFrame
from .skeleton import Path as StatePath
from .skeleton import decode_state, encode_state, entry_name, path_name, place
from .source import Array, Json, Source, TensorSpec, take

try:
    import torch
except ImportError:
    raise ArchiveError("this file needs torch; install it with: pip install 'szdnn[torch]'") from None

# The dtypes NumPy lacks: what torch shows them to NumPy as, and what of ml_dtypes reads them.
_VIEWS: dict[torch.dtype, tuple[torch.dtype, np.dtype[Any]]] = {
    torch.bfloat16: (torch.int16, np.dtype(ml_dtypes.bfloat16)),
    torch.float8_e4m3fn: (torch.uint8, np.dtype(ml_dtypes.float8_e4m3fn)),
    torch.float8_e5m2: (torch.uint8, np.dtype(ml_dtypes.float8_e5m2)),
    torch.float8_e4m3fnuz: (torch.uint8, np.dtype(ml_dtypes.float8_e4m3fnuz)),
    torch.float8_e5m2fnuz: (torch.uint8, np.dtype(ml_dtypes.float8_e5m2fnuz)),
}
if hasattr(torch, "float8_e8m0fnu"):
    _VIEWS[torch.float8_e8m0fnu] = (torch.uint8, np.dtype(ml_dtypes.float8_e8m0fnu))
_PLAIN = {
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128,
}  # fmt: skip


def to_numpy(tensor: torch.Tensor) -> Array:
    """A CPU tensor as an array over the same memory where possible, of any strides; bf16 and fp8 by ml_dtypes."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype in _VIEWS:
        seen_as, dtype = _VIEWS[tensor.dtype]
        return tensor.view(seen_as).numpy().view(dtype)
    return tensor.numpy()


def to_torch(array: Array) -> torch.Tensor:
    """The inverse of `to_numpy`."""
    for torch_dtype, (seen_as, dtype) in _VIEWS.items():
        if array.dtype == dtype:
            return torch.from_numpy(array.view(str(seen_as).removeprefix("torch."))).view(torch_dtype)
    return torch.from_numpy(array)


def load_state(path: Path) -> object:
    """What a torch checkpoint holds, its tensors mapped where the file allows it; no code in it is run.

    Raises ArchiveError when the file is damaged, or when its pickle holds anything torch can't load safely.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # torch.load lets anything through, KeyError and IndexError included
        raise ArchiveError(_refusal(path, error)) from None


def _refusal(path: Path, error: Exception) -> str:
    text = str(error)
    if "Unsupported global" in text:
        culprit = re.sub(r"(?s)^.*?Unsupported global:\s*(GLOBAL )?(\S+).*$", r"\2", text)
        return (
            f"{path} is refused: its pickle asks for {culprit}, and loading that may run any code. If you trust the "
            "file, load it in Python and save its tensors alone: torch.save(model.state_dict(), 'weights.pt')"
        )
    if "TorchScript" in text:
        return f"{path} is a TorchScript program; save its tensors alone: torch.save(model.state_dict(), 'weights.pt')"
    first = text.strip().split("\n", 1)[0][:200]
    return f"{path} is not a torch checkpoint szdnn can read, or is damaged ({type(error).__name__}: {first})"


class _Flattener:
    """Gives each tensor of a state a name, tied tensors the same one, and each a node in the skeleton."""

    def __init__(self, is_flat: bool) -> None:
        self._is_flat = is_flat
        self.tensors: dict[str, torch.Tensor] = {}
        self._by_memory: dict[tuple[object, ...], str] = {}

    def leaf(self, value: object, path: StatePath) -> Json | None:
        """The node of a tensor, None for anything else. Raises ArchiveError for tensors that can't be kept."""
        if not isinstance(value, torch.Tensor):
            return None
        _check(value, path)
        node: dict[str, Json] = {"tensor": self._name(value, path)}
        base = self.tensors[node["tensor"]]
        if (base.shape, base.stride()) != (value.shape, value.stride()) and base is not value:
            node |= {"shape": list(value.shape), "stride": list(value.stride())}
        if isinstance(value, torch.nn.Parameter):
            node["parameter"] = value.requires_grad
        elif value.requires_grad:
            node["requires_grad"] = True
        return node

    def _name(self, tensor: torch.Tensor, path: StatePath) -> str:
        """The name of the tensor's entry: that of one tied to it that came before, or a new one."""
        storage = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel())
        memory = (*storage, tensor.dtype, tensor.is_conj(), tensor.is_neg())
        tied = self._by_memory.get(memory)
        if tied is not None and tensor.numel() and _covers(self.tensors[tied], tensor):
            return tied
        name = entry_name(str(path[0])) if self._is_flat and len(path) == 1 else path_name(path)
        if name in self.tensors:
            raise ArchiveError(f"{place(path)}: two tensors would both be called {name!r}")
        self.tensors[name] = tensor
        self._by_memory[memory] = name
        return name


def _check(tensor: torch.Tensor, path: StatePath) -> None:
    kind = type(tensor)
    if kind not in (torch.Tensor, torch.nn.Parameter):
        raise ArchiveError(f"{place(path)} is a {kind.__module__}.{kind.__qualname__}; szdnn keeps plain tensors only")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        what = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else str(tensor.layout)
        raise ArchiveError(f"{place(path)} is a {what} tensor; szdnn keeps dense ones only")
    if tensor.dtype not in _PLAIN and tensor.dtype not in _VIEWS:
        raise ArchiveError(f"{place(path)} has dtype {tensor.dtype}, which szdnn can't keep")


def _covers(base: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether `tensor`, which begins where `base` does and is as large, is a view of the memory of `base` alone."""
    if (base.shape, base.stride()) == (tensor.shape, tensor.stride()):
        return True
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return base.is_contiguous() and last == base.numel() - 1


class TorchSource(Source):
    """A torch checkpoint of nested dicts, lists, tuples, scalars, strings, bytes and tensors.

    A dict of tensors alone keeps its keys as names; elsewhere names are paths such as `optimizer/state/0/exp_avg`.
    Tensors that share all their memory are stored once and tied again on restoring. Views that share part of it are
    stored on their own, each within its bound.
    """

    kind = "torch"

    def __init__(self, path: Path) -> None:
        state = load_state(path)
        flat = isinstance(state, dict) and all(
            isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
        )
        flattener = _Flattener(flat)
        self._state = encode_state(state, flattener.leaf)
        self._tensors = flattener.tensors
        super().__init__(path, {name: _spec(tensor) for name, tensor in self._tensors.items()})

    def __getitem__(self, name: str) -> Array:
        return to_numpy(self._tensors[name])

    def skeleton(self) -> dict[str, Json]:
        """See `Source.skeleton`."""
        return {"state": self._state}


def _spec(tensor: torch.Tensor) -> TensorSpec:
    return TensorSpec(to_numpy(tensor[:0] if tensor.dim() else tensor).dtype, tuple(tensor.shape))


def write_torch(file: BinaryIO, skeleton: dict[str, Json], tensors: Any) -> None:
    """Write a torch checkpoint of the state in `skeleton` with the values of the mapping `tensors`."""
    state = rebuild_state(skeleton, tensors)
    torch.save(state, file)


def rebuild_state(skeleton: dict[str, Json], tensors: Any) -> object:
    """The nested state of `skeleton` with the values of the mapping `tensors` as torch tensors."""
    done: dict[str, torch.Tensor] = {}

    def leaf(node: dict[str, Json]) -> torch.Tensor:
        name = node["tensor"]
        if name not in done:
            done[name] = to_torch(take(tensors, name))
        tensor = done[name]
        if "shape" in node:
            tensor = _view(tensor, node["shape"], node["stride"], name)
        if "parameter" in node:
            return torch.nn.Parameter(tensor, requires_grad=node["parameter"])
        return tensor.detach().requires_grad_() if node.get("requires_grad") else tensor

    return decode_state(skeleton.get("state"), leaf)


def _view(tensor: torch.Tensor, shape: list[int], stride: list[int], name: str) -> torch.Tensor:
    try:
        return tensor.as_strided(shape, stride)
    except (RuntimeError, TypeError) as error:
        raise CorruptFrame(f"{name}: a view does not fit its tensor: {error}") from None
