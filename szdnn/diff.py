"""Comparing two files tensor by tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .diff_errors import is_image, ssim
from .frame_reader import FrameReader
from .source import Array, Source


@dataclass(frozen=True)
class TensorDiff:
    """How a tensor differs between two files. `state` is "equal" (bit for bit), "differs", "dtype", "shape",
    "only in A" or "only in B"; the errors are NaN where there is nothing to subtract."""

    name: str
    state: str
    max_abs_error: float = math.nan
    rmse: float = math.nan
    psnr: float = math.nan
    """Decibels over the range of A's finite values."""
    relative: float = math.nan
    """The largest error over the range of A's finite values."""
    ssim: float = math.nan
    """The structural similarity, of images (2-D, or with 1 to 4 channels behind)."""


def diff_tensors(a: Mapping[str, Array], b: Mapping[str, Array]) -> Iterator[TensorDiff]:
    """Compare two mappings of tensors by name, in A's order and then B's."""
    for name in a:
        yield diff_arrays(name, a[name], b[name]) if name in b else TensorDiff(name, "only in A")
    for name in b:
        if name not in a:
            yield TensorDiff(name, "only in B")


def rest_equal(a: Source | FrameReader, b: Source | FrameReader) -> bool:
    """Whether what two files hold beside tensors is equal; True when they are of different types."""
    first, second = (x.skeleton if isinstance(x, FrameReader) else {"kind": x.kind, **x.skeleton()} for x in (a, b))
    if first["kind"] != second["kind"]:
        return True
    same_state = json.dumps(first.get("state")) == json.dumps(second.get("state"))  # 1, 1.0 and true differ in JSON
    return same_state and a.metadata == b.metadata


def diff_arrays(name: str, a: Array, b: Array) -> TensorDiff:
    """Compare two arrays: bit for bit, and by their errors in double precision."""
    if a.shape != b.shape:
        return TensorDiff(name, "shape")
    flat_a, flat_b = (np.ascontiguousarray(x).reshape(-1) for x in (a, b))
    equal, largest, squares, low, high = a.dtype == b.dtype, 0.0, 0.0, math.inf, -math.inf
    for i in range(0, a.size, 1 << 20):
        x, y = flat_a[i : i + (1 << 20)], flat_b[i : i + (1 << 20)]
        if a.dtype == b.dtype and np.array_equal(x.view(np.uint8), y.view(np.uint8)):
            error = np.zeros(1)
        else:
            equal = False
            error = _errors(x, y)
        finite = _real(x)[np.isfinite(_real(x))]
        low, high = min(low, finite.min(initial=math.inf)), max(high, finite.max(initial=-math.inf))
        largest, squares = max(largest, float(error.max())), squares + float(np.square(error).sum())
    state = "equal" if equal else "dtype" if a.dtype != b.dtype else "differs"
    rmse = math.sqrt(squares / a.size) if a.size else 0.0
    similarity = math.nan if not is_image(a) else 1.0 if equal else ssim(a, b)
    return TensorDiff(name, state, largest, rmse, *_relative(largest, rmse, high - low), similarity)


def _relative(largest: float, rmse: float, span: float) -> tuple[float, float]:
    """PSNR and relative error of errors over a range, which is -inf where there are no finite values."""
    if rmse == 0:
        return math.inf, 0.0
    return (20 * math.log10(span / rmse) if 0 < span < math.inf and rmse < math.inf else math.nan,
            largest / span if span > 0 else math.nan)  # fmt: skip


def _real(values: Array) -> Array:
    return np.abs(values) if values.dtype.kind == "c" else values.astype(np.float64)


def _errors(x: Array, y: Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """|x - y| in double precision: 0 for equal infinities and two NaNs, infinite where only one is finite."""
    wide = np.complex128 if "c" in (x.dtype.kind, y.dtype.kind) else np.float64
    u, v = x.astype(wide), y.astype(wide)
    error: np.ndarray[Any, np.dtype[np.float64]]
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(u - v)
    error[(u == v) | (np.isnan(u) & np.isnan(v))] = 0.0
    error[np.isnan(error)] = math.inf
    return error
