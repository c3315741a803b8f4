"""What may be compressed, as C-contiguous NumPy arrays in native byte order; and the codes of the dtypes in a frame."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, BoundError

_NAMES: dict[int, str] = {
    0: "float16", 1: "bfloat16", 2: "float32", 3: "float64",
    16: "uint8", 17: "uint16", 18: "uint32", 19: "uint64",
    20: "int8", 21: "int16", 22: "int32", 23: "int64", 24: "bool",
    32: "float8_e4m3fn", 33: "float8_e5m2", 34: "float8_e4m3fnuz", 35: "float8_e5m2fnuz",
    36: "float8_e8m0fnu", 37: "float8_e4m3", 38: "float8_e3m4", 39: "float8_e4m3b11fnuz",
    48: "complex64", 49: "complex128",
}  # fmt: skip
DTYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(getattr(ml_dtypes, name, None) or name) for code, name in _NAMES.items() if name != "bool"
}
DTYPES[24] = np.dtype(np.bool_)
CODES: dict[np.dtype[Any], int] = {dtype: code for code, dtype in DTYPES.items()}

FLOAT_CODES = frozenset({0, 1, 2, 3})
COMPLEX_CODES = frozenset({48, 49})


def dtype_code(dtype: np.dtype[Any]) -> int:
    """A dtype's code in FORMAT.md. Raises BoundError naming what is supported."""
    code = CODES.get(dtype)
    if code is None:
        code = CODES.get(dtype.newbyteorder("="))
    if code is None:
        raise BoundError(f"dtype {dtype} cannot be compressed; supported are {', '.join(_NAMES.values())}")
    return code


def _torch_to_numpy(tensor: Any) -> NDArray[Any]:
    """A torch tensor's values; torch is loaded already if there is one. bfloat16 and float8 go through
    integers of their width."""
    torch = sys.modules["torch"]
    if tensor.is_meta:
        raise ArgumentError("the tensor is on the meta device and holds no values")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise ArgumentError(f"only dense strided tensors can be compressed, not {tensor.layout}; call .to_dense()")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    name = str(plain.dtype).removeprefix("torch.")
    if hasattr(np, name) or name == "bool":
        return np.asarray(plain.numpy())
    if not hasattr(ml_dtypes, name):
        raise BoundError(f"torch dtype {plain.dtype} cannot be compressed")
    carrier = torch.int16 if plain.element_size() == 2 else torch.uint8
    return np.asarray(plain.view(carrier).numpy()).view(np.dtype(getattr(ml_dtypes, name)))


def as_array(source: Any) -> NDArray[Any]:
    """A NumPy array, torch tensor, DLPack object or buffer as a C-contiguous array in native byte order.

    Copies only where strides or byte order require it. Raises ArgumentError for what holds no such array,
    BoundError for a dtype that has no code.
    """
    if type(source) is np.ndarray and source.flags.c_contiguous and source.dtype in CODES:
        return source  # as it is
    if type(source).__module__.split(".")[0] == "torch" and hasattr(source, "detach"):
        array = _torch_to_numpy(source)
    elif isinstance(source, np.ndarray) or hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        array = np.asarray(source)
    elif hasattr(source, "__dlpack__"):
        array = np.from_dlpack(source)
    else:
        try:
            array = np.asarray(memoryview(source))
        except TypeError:
            raise ArgumentError(f"cannot take an array out of {type(source).__name__}; pass a NumPy array") from None
    dtype_code(array.dtype)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native if native.flags.c_contiguous else native.copy(order="C")
