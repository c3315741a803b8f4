"""Which bound each tensor of a model gets.

One bound for every tensor would cost more accuracy than it saves bytes: what is small, or a statistic, or a state that
must not become zero, is kept exactly or within a bound of its own.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from .bounds import Bound, Lossless, PointwiseRel

SMALL_TENSOR = 1024
"""Tensors with fewer values are lossless."""
SMALL_VECTOR = 65_536
"""1-D tensors (biases, norms) with fewer values are lossless."""
STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
"""Last parts of names of batch-norm statistics, which are lossless."""
SECOND_MOMENTS = frozenset(
    {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "exp_inf", "exp_avg_sq_row", "exp_avg_sq_col"}
)
"""Last parts of names of optimizer state that steps are divided by: PointwiseRel(1e-2), so none becomes zero."""
SECOND_MOMENT_BOUND = PointwiseRel(1e-2)
_LOSSY_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})


def array_bound(dtype: np.dtype[Any], bound: Bound) -> Bound:
    """The bound of a plain array: `bound` where its dtype can be lossy (f16, bf16, f32, f64), else Lossless()."""
    return bound if dtype.newbyteorder("=").name in _LOSSY_DTYPES else Lossless()


def bound_for(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], bound: Bound) -> Bound:
    """The bound of a model's tensor when the user asks for `bound`, by the default rules.

    `name` is the tensor's name or path, parts separated by "." or "/". Lossless() asks for everything lossless; a
    tighter PointwiseRel than that of second moments holds for them too.
    """
    if isinstance(bound, Lossless) or isinstance(array_bound(dtype, bound), Lossless):
        return Lossless()
    size = math.prod(shape)
    last = re.split(r"[./]", name)[-1]
    if size < SMALL_TENSOR or (len(shape) == 1 and size < SMALL_VECTOR) or last in STATISTICS:
        return Lossless()
    if last in SECOND_MOMENTS:
        is_tighter = isinstance(bound, PointwiseRel) and bound.r < SECOND_MOMENT_BOUND.r
        return bound if is_tighter else SECOND_MOMENT_BOUND
    return bound
