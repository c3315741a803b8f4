"""Reading and restoring torch checkpoints (.pt, .pth, .bin)."""

from __future__ import annotations

import io
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from . import pages
from .errors import ArchiveError, CorruptFrame, Error
from .skeleton import decode_state, specs_of, text_dtype
from .source import Array, Json, TensorSpec, take
from .state import StateSource
from .torch_leaves import DTYPES, rebuild_object, torch

_STORAGES = {
    torch.float64: torch.DoubleStorage, torch.float32: torch.FloatStorage, torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage, torch.int64: torch.LongStorage, torch.int32: torch.IntStorage,
    torch.int16: torch.ShortStorage, torch.int8: torch.CharStorage, torch.uint8: torch.ByteStorage,
    torch.bool: torch.BoolStorage, torch.complex64: torch.ComplexFloatStorage,
    torch.complex128: torch.ComplexDoubleStorage,
}  # fmt: skip
"""How the format spells the storages of old dtypes; those of newer ones are untyped."""
_ALIGNMENT = 64
_CHUNK = 1 << 24


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
            "file, load it in Python and save its tensors alone: torch.save(model.state_dict(), 'weights.pt'); or, "
            "NumPy arrays and all: szdnn.save('x.szd.safetensors', torch.load(path, weights_only=False), bound)"
        )
    if "TorchScript" in text:
        return f"{path} is a TorchScript program; save its tensors alone: torch.save(model.state_dict(), 'weights.pt')"
    first = text.strip().split("\n", 1)[0][:200]
    return f"{path} is not a torch checkpoint szdnn can read, or is damaged ({type(error).__name__}: {first})"


class TorchSource(StateSource):
    """A torch checkpoint, whatever of a `StateSource` its pickle may hold."""

    def __init__(self, path: Path) -> None:
        super().__init__(load_state(path), path)
        self.kind = "torch"
        is_mapped = zipfile.is_zipfile(path) and _byte_order(path) == sys.byteorder
        self._mapped = pages.file_spans(path) if is_mapped else []

    @contextmanager
    def reading(self, name: str) -> Iterator[Array]:
        """See `Source.reading`. torch maps the file for reading and writing, and nothing here writes to it."""
        tensor = self._tensors[name]
        steps = [(size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True)]
        first = tensor.data_ptr()
        stop = first + (sum(steps) + 1) * tensor.element_size()
        is_mapped = tensor.numel() and any(low <= first and stop <= high for low, high in self._mapped)
        with pages.released((first, stop) if is_mapped else None):
            yield self[name]


def _byte_order(path: Path) -> str:
    """The byte order a checkpoint was written in: torch swaps the bytes of others in memory."""
    with zipfile.ZipFile(path) as archive:
        record = next((name for name in archive.namelist() if name.endswith("/byteorder")), None)
        return archive.read(record).decode("ascii", "replace") if record else "little"


# --- writing: torch.save's own format, but with one tensor in memory at a time ---


@dataclass(frozen=True)
class _Storage:
    """Stands for the storage of a tensor of the archive in the pickle; its bytes are written later."""

    key: str
    dtype: torch.dtype
    spec: TensorSpec


@dataclass(frozen=True)
class _Tensor:
    """Stands for a tensor over a storage."""

    storage: _Storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool

    def reduce(self) -> tuple[Any, ...]:
        """What to call to make the tensor, and its arguments, as torch.Tensor.__reduce_ex__ has them."""
        args: tuple[Any, ...] = (self.storage, 0, self.shape, self.stride, self.requires_grad, OrderedDict())
        if self.storage.dtype in _STORAGES:
            return torch._utils._rebuild_tensor_v2, args
        return torch._utils._rebuild_tensor_v3, (*args, self.storage.dtype)


@dataclass(frozen=True)
class _Parameter:
    """Stands for a torch.nn.Parameter of a tensor."""

    tensor: _Tensor
    requires_grad: bool


class _Pickler(pickle.Pickler):
    """torch.save's pickler, for the stand-ins."""

    def persistent_id(self, obj: object) -> Any:
        """The format's name for a storage; None for anything else."""
        if not isinstance(obj, _Storage):
            return None
        if obj.dtype in _STORAGES:
            return "storage", _STORAGES[obj.dtype], obj.key, "cpu", obj.spec.size
        return "storage", torch.UntypedStorage, obj.key, "cpu", obj.spec.nbytes

    def reducer_override(self, obj: object) -> Any:
        """How a tensor or parameter is made."""
        if isinstance(obj, _Tensor):
            return obj.reduce()
        if isinstance(obj, _Parameter):
            return torch._utils._rebuild_parameter, (obj.tensor, obj.requires_grad, OrderedDict())
        return NotImplemented


class _Stubs:
    """Turns the nodes of tensors into stand-ins, and remembers the order of their storages."""

    def __init__(self, specs: dict[str, TensorSpec]) -> None:
        self._specs = specs
        self.storages: dict[str, _Storage] = {}

    def leaf(self, node: dict[str, Json]) -> object:
        """A stand-in, or the torch object itself. NumPy arrays become tensors, which torch.load reads safely."""
        if "torch" in node:
            return rebuild_object(node)
        name = node["tensor"]
        if name not in self._specs:
            raise ArchiveError(f"the archive has no tensor {name!r}")
        spec = self._specs[name]
        if "array" in node and "shape" in node:
            raise ArchiveError(f"{name}: a .pt file can't hold an array of {text_dtype(node['array'])}; use szdnn.load")
        if spec.dtype not in DTYPES:
            raise ArchiveError(f"{name}: torch has no dtype {spec.dtype}; use szdnn.load")
        storage = self.storages.setdefault(name, _Storage(str(len(self.storages)), DTYPES[spec.dtype], spec))
        shape, stride = spec.shape, _strides(spec.shape)
        if "shape" in node:
            shape, stride = tuple(node["shape"]), tuple(node["stride"])
            _check_view(name, shape, stride, spec.size)
        flag = bool(node.get("parameter", node.get("requires_grad", False)))
        if "parameter" in node:
            return _Parameter(_Tensor(storage, shape, stride, False), flag)
        return _Tensor(storage, shape, stride, flag)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def _check_view(name: str, shape: tuple[int, ...], stride: tuple[int, ...], size: int) -> None:
    """Raises CorruptFrame for a view that would reach beyond its tensor."""
    last = sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True))
    if min((*shape, *stride, 0)) < 0 or not all(type(n) is int for n in (*shape, *stride)) or last >= size:
        raise CorruptFrame(f"{name}: a view does not fit its tensor")


def write_torch(file: BinaryIO, skeleton: dict[str, Json], tensors: Any) -> None:
    """Write a torch checkpoint of the state in `skeleton` with the values of the mapping `tensors`, one at a time.

    NumPy arrays and scalars in the state become tensors and Python numbers, since torch.load refuses them.
    """
    specs = specs_of(skeleton)
    stubs = _Stubs(specs)
    pickled = io.BytesIO()
    try:
        _Pickler(pickled, protocol=2).dump(decode_state(_plain_scalars(skeleton.get("state")), stubs.leaf))
    except Error:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArchiveError(f"the skeleton is damaged: {error!r}") from None
    with zipfile.ZipFile(file, "w") as archive:
        _record(archive, file, "data.pkl", pickled.getvalue())
        _record(archive, file, ".format_version", b"1")
        _record(archive, file, ".storage_alignment", str(_ALIGNMENT).encode())
        _record(archive, file, "byteorder", sys.byteorder.encode())
        for name, storage in stubs.storages.items():
            array = take(tensors, name)
            if (array.dtype, array.shape) != (storage.spec.dtype, storage.spec.shape):
                raise CorruptFrame(f"{name}: holds {array.dtype} {array.shape}; the skeleton says {storage.spec}")
            _record(archive, file, f"data/{storage.key}", np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            del array  # before the next one is decoded
        _record(archive, file, "version", b"3\n")


def _plain_scalars(node: Json) -> Json:
    """A tree with NumPy's scalars as Python's numbers."""
    if isinstance(node, list):
        return [_plain_scalars(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "scalar" in node:
        dtype, raw = text_dtype(node["scalar"]), bytes.fromhex(node["bytes"])
        if len(raw) == dtype.itemsize and dtype.kind in "biuf" and dtype.isbuiltin == 1:
            value = np.frombuffer(raw, dtype, 1)[0].item()
            return {"float": struct.pack(">d", value).hex()} if dtype.kind == "f" else value
        return node
    return {key: _plain_scalars(item) for key, item in node.items()}


def _record(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes | memoryview) -> None:
    """One record, stored, its data at a multiple of 64 bytes as torch.save puts it."""
    member = zipfile.ZipInfo(f"archive/{name}")
    member.file_size = len(data)
    is_large = len(data) * 1.05 > (1 << 31) - 1  # as zipfile judges
    at = file.tell() + 30 + len(member.filename) + 20 * is_large + 4
    padding = -at % _ALIGNMENT
    member.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    with archive.open(member, "w", force_zip64=is_large) as target:
        for start in range(0, len(data), _CHUNK):
            target.write(data[start : start + _CHUNK])
