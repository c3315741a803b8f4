"""torch's objects in a state: tensors as NumPy arrays and back, their nodes in the skeleton.

This module and `torch_file` import torch, and do so at once: import them only when torch is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from .errors import ArchiveError, CorruptFrame
from .skeleton import Path as StatePath
from .skeleton import place
from .source import Array, Json, TensorSpec

if TYPE_CHECKING:
    from .state import Flattener, Rebuilder

try:
    import torch as torch
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
DTYPES: dict[np.dtype[Any], torch.dtype] = {
    **{np.dtype(str(dtype).removeprefix("torch.")): dtype for dtype in _PLAIN},
    **{view: dtype for dtype, (_, view) in _VIEWS.items()},
}
"""torch's dtype for each of NumPy's that it has."""


def to_numpy(tensor: torch.Tensor) -> Array:
    """A tensor as an array over the same memory where possible, of any strides; bf16 and fp8 by ml_dtypes."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype in _VIEWS:
        seen_as, dtype = _VIEWS[tensor.dtype]
        return tensor.view(seen_as).numpy().view(dtype)
    return tensor.numpy()


def to_torch(array: Array) -> torch.Tensor:
    """The inverse of `to_numpy`."""
    if not array.flags.writeable or not array.dtype.isnative or min(array.strides, default=0) < 0:
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    dtype = DTYPES.get(array.dtype)
    if dtype in _VIEWS:
        return torch.from_numpy(array.view(str(_VIEWS[dtype][0]).removeprefix("torch."))).view(dtype)
    return torch.from_numpy(array)


def fits(dtype: np.dtype[Any]) -> bool:
    """Whether torch has such a dtype."""
    return dtype.newbyteorder("=") in DTYPES


def spec(tensor: torch.Tensor) -> TensorSpec:
    """The dtype and shape that `to_numpy` gives."""
    name = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec(_VIEWS[tensor.dtype][1] if tensor.dtype in _VIEWS else np.dtype(name), tuple(tensor.shape))


def node(flattener: Flattener, value: object, path: StatePath) -> Json | None:
    """The node of a tensor or another object of torch, None for anything else.

    Raises ArchiveError for tensors that can't be kept.
    """
    if isinstance(value, torch.Size):
        return {"torch": "size", "value": list(value)}
    if isinstance(value, (torch.dtype, torch.layout)):
        kind = "dtype" if isinstance(value, torch.dtype) else "layout"
        return {"torch": kind, "value": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"torch": "device", "value": str(value)}
    return _tensor_node(flattener, value, path) if isinstance(value, torch.Tensor) else None


def _tensor_node(flattener: Flattener, tensor: torch.Tensor, path: StatePath) -> Json:
    _check(tensor, path)
    storage = (tensor.device, tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel())
    memory = (*storage, tensor.dtype, tensor.is_conj(), tensor.is_neg())
    name = flattener.tied(memory) if tensor.numel() else None
    if name is None or not _covers(flattener.tensors[name], tensor):
        name = flattener.name(tensor, memory, path)
    result: dict[str, Json] = {"tensor": name}
    base = flattener.tensors[name]
    if (base.shape, base.stride()) != (tensor.shape, tensor.stride()) and base is not tensor:
        result |= {"shape": list(tensor.shape), "stride": list(tensor.stride())}
    if isinstance(tensor, torch.nn.Parameter):
        result["parameter"] = tensor.requires_grad
    elif tensor.requires_grad:
        result["requires_grad"] = True
    return result


def _check(tensor: torch.Tensor, path: StatePath) -> None:
    kind = type(tensor)
    if tensor.is_meta:
        raise ArchiveError(f"{place(path)} is on the meta device and holds no values; load or initialize it first")
    if kind not in (torch.Tensor, torch.nn.Parameter):
        raise ArchiveError(f"{place(path)} is a {kind.__module__}.{kind.__qualname__}; szdnn keeps plain tensors only")
    if tensor.layout != torch.strided or tensor.is_quantized:
        what = "quantized" if tensor.is_quantized else str(tensor.layout)
        raise ArchiveError(f"{place(path)} is a {what} tensor; szdnn keeps dense ones only")
    if tensor.dtype not in _PLAIN and tensor.dtype not in _VIEWS:
        raise ArchiveError(f"{place(path)} has dtype {tensor.dtype}, which szdnn can't keep")


def _covers(base: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether `tensor`, which begins where `base` does and is as large, is a view of the memory of `base` alone."""
    if (base.shape, base.stride()) == (tensor.shape, tensor.stride()):
        return True
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return base.is_contiguous() and last == base.numel() - 1


def rebuild(rebuilder: Rebuilder, node: dict[str, Json]) -> torch.Tensor:
    """The tensor of a node; tied ones share their memory. Raises CorruptFrame for a view that does not fit."""
    name, done = node["tensor"], rebuilder.torch_tensors
    if name not in done:
        done[name] = to_torch(rebuilder.take(name))
    tensor: torch.Tensor = done[name]
    if "shape" in node:
        tensor = _view(tensor, node["shape"], node["stride"], name)
        rebuilder.check_limit(name, tensor.numel() * tensor.element_size())
    if "parameter" in node:
        return torch.nn.Parameter(tensor, requires_grad=node["parameter"])
    return tensor.detach().requires_grad_() if node.get("requires_grad") else tensor


def _view(tensor: torch.Tensor, shape: list[int], stride: list[int], name: str) -> torch.Tensor:
    try:
        return tensor.as_strided(shape, stride)
    except (RuntimeError, TypeError) as error:
        raise CorruptFrame(f"{name}: a view does not fit its tensor: {error}") from None


def rebuild_object(node: dict[str, Json]) -> object:
    """The torch.Size, dtype, device or layout of a node."""
    kind, value = node["torch"], node["value"]
    if kind == "size":
        return torch.Size(value)
    if kind == "device":
        return torch.device(value)
    found = getattr(torch, value, None) if isinstance(value, str) else None
    if kind not in ("dtype", "layout") or not isinstance(found, getattr(torch, kind)):
        raise ValueError(f"a torch.{kind} {value!r}")
    return found
