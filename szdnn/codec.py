"""The array API: compress, decompress, read, info, compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import FLOAT_CODES, as_array, dtype_code
from .bounds import FINENESSES, PSNR, RMSE, Abs, Bits, Bound, Lossless, Rel
from .buffers import Bytes, joined
from .decoder import Frame, decode, read_part, usable_output
from .encoder import Choices, FrameMaker
from .errors import ArgumentError, BoundError, CorruptFrame
from .frame_parts import Part, fill
from .reference import Reference, as_reference
from .resolve import FLAG_RANGE, FLAG_ROBUST, FLAG_WIDE, KINDS, check_dtype, power_of_two_near, resolve
from .search import search
from .stats import Statistics

_KIND_NAMES = {0: "lossless", 1: "linear32", 2: "linear64", 3: "geometric"}
_PREDICTOR_NAMES = {number: name for name, number in _native.PREDICTORS.items()} | {_native.REFERENCE: "reference"}
_CODER_NAMES = {
    0: "constant",
    1: "raw",
    2: "huffman",
    3: "rans",
    4: "rans-classes",
    5: "mixing",
    6: "sparse",
}


_BOUNDS: dict[int, Callable[[float], Bound]] = {number: kind for kind, number in KINDS.items()}


class _NoStats:
    """Statistics of a tensor that is to be stored losslessly: only whether it is constant matters."""

    finite = 0
    min = max = 0.0

    def __init__(self, values: NDArray[Any]) -> None:
        flat = values.reshape(-1).view(np.uint8)
        element = values.dtype.itemsize // (2 if values.dtype.kind == "c" else 1)
        # All elements are equal where each equals the one before it. A few tell most tensors.
        few = flat[: 64 * element]
        self.constant = bool(flat.size) and all(np.array_equal(a[element:], a[:-element]) for a in (few, flat))


def _check_choices(effort: int, predictor: str, coder: str, threads: int | None) -> Choices:
    if isinstance(effort, bool) or not isinstance(effort, int) or not 1 <= effort <= 9:
        raise ArgumentError(f"effort must be an integer from 1 to 9, not {effort!r}")
    if predictor != "auto" and predictor not in _PREDICTOR_NAMES.values():
        raise ArgumentError(f"predictor must be 'auto' or one of {[*_PREDICTOR_NAMES.values()]}, not {predictor!r}")
    if coder not in _native.CODERS:
        raise ArgumentError(f"coder must be one of {list(_native.CODERS)}, not {coder!r}")
    _check_threads(threads)
    return Choices(effort, predictor, coder, threads)


def _check_threads(threads: int | None) -> None:
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ArgumentError(f"threads must be a positive integer or None, not {threads!r}")


def _checked_reference(reference: Any, values: NDArray[Any], choices: Choices) -> NDArray[Any] | None:
    if reference is None:
        if choices.predictor == "reference":
            raise ArgumentError("the predictor 'reference' needs a reference=")
        return None
    base = as_array(reference.whole() if isinstance(reference, Reference) else reference)
    if base.shape != values.shape:
        raise ArgumentError(f"the reference has the shape {list(base.shape)}, the tensor {list(values.shape)}")
    return base


@_native.in_environment
def _compressed(array: Any, bound: Bound, choices: Choices, reference: Any, out: Bytes | None) -> list[Part] | int:
    """The frame's parts, or its size where it went to `out`."""
    values = as_array(array)
    if values.ndim > 64:
        raise ArgumentError(f"tensors have at most 64 dimensions, not {values.ndim}")
    code = dtype_code(values.dtype)
    check_dtype(bound, code, values.dtype)
    exact = isinstance(bound, Lossless) or code not in FLOAT_CODES
    stats = _NoStats(values) if exact else Statistics(code, values, choices.threads)
    maker = FrameMaker(values, code, stats, choices, _checked_reference(reference, values, choices))
    if isinstance(bound, (RMSE, PSNR, Bits)):
        parts = search(bound, maker)
        return parts if out is None else fill(out, parts)
    target = resolve(bound, code, values, stats)
    if out is None:
        return maker.make(target)
    # Where the frame is to replace its own input, that must not be written to before all of it is encoded.
    return fill(out, maker.make(target)) if np.may_share_memory(values, out) else maker.make_into(target, out)


def compress(
    array: Any,
    bound: Bound,
    *,
    effort: int = 3,
    predictor: str = "auto",
    coder: str = "auto",
    reference: Any = None,
    out: Any = None,
    threads: int | None = None,
) -> bytes | memoryview:
    """Compresses one tensor into a frame (csrc/FORMAT.md).

    array: NumPy array, torch tensor (f16, bf16, f32, f64), DLPack object or buffer, of any shape, strides and
        byte order; other dtypes (integers, bool, float8, complex) only with Lossless().
    bound: Abs, Rel, Std, PointwiseRel, PSNR, RMSE, Bits or Lossless. NaN and infinities come back bit for bit,
        zeros as zeros. Where a bound leaves nothing to gain (eps below the values' precision, a constant tensor
        under Rel or Std) the frame is lossless.
    effort: 1 (fast: no prediction, one frequency table a block: some 1.4 times the speed of 3 on large weights, more
        on small ones, and a percent larger), 3 (predictor by sample), 7 (tries every predictor on all the data), 8 (3
        and context mixing, some 20 MB/s either way), 9 (7 and context mixing; smallest).
    predictor: "auto", "none", "lorenzo" (Ibarria et al. 2003), "regression" (block-wise plane fit, Liang et
        al. 2018), "interpolation" (level by level from reconstructed values, after Zhao et al. 2021, with fitted
        weights; always coded by rANS; PointwiseRel knows it as "auto"), "repeat" (what came the same distance, up to
        131,072 values, before; "none" where nothing comes again) or "reference": the reference whether it pays or not.
    coder: "auto", "rans" or "huffman".
    reference: another tensor of this shape (as `array`, or a szdnn.reference.Reference), such as the checkpoint
        before or the base model, to which the frame then holds the differences; decompress needs the same again.
        The bound is kept against `array` all the same. Its dtype may be another float, under Lossless() only the
        same. Where differences do not pay (measured on a sample) the frame does without it.
    out: a writable contiguous buffer to put the frame in; then a memoryview of the part that was filled is returned.
        Blocks go there as they come: no second copy of the frame is held (below effort 7, and where the bound
        needs no search). What it holds is undefined if an exception is raised.
    threads: how many at most; None: as many as there are processors. The bytes do not depend on it.

    Returns the frame. Raises BoundError (bound or dtype), ArgumentError (anything else).
    """
    choices = _check_choices(effort, predictor, coder, threads)
    view = None if out is None else _writable(out)
    made = _compressed(array, bound, choices, reference, None if view is None else np.frombuffer(view, dtype=np.uint8))
    if view is None or isinstance(made, list):
        return joined(made)  # type: ignore[arg-type]
    if made > view.nbytes:
        raise ArgumentError(f"out has {view.nbytes} bytes, the frame {made}")
    return view[:made]


def _writable(out: Any) -> memoryview:
    view = memoryview(out)
    if view.readonly or not view.c_contiguous:
        raise ArgumentError("out must be a writable contiguous buffer")
    return view.cast("B")


def decompress(
    frame: Any,
    *,
    out: NDArray[Any] | None = None,
    reference: Any = None,
    max_bytes: int | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """The tensor of a frame, as a NumPy array (ml_dtypes' dtypes for bfloat16 and float8).

    frame: bytes or a contiguous buffer.
    out: an array of the frame's dtype and shape to decode into.
    reference: the tensor that a frame of differences was made with; not looked at for other frames. `out` may be its
        own memory, where it has the frame's dtype.
    max_bytes: refuse, before anything is allocated, an output larger than this.

    Raises CorruptFrame, UnsupportedFrame, LimitError, ArgumentError, and ReferenceMismatch where the reference is
    missing or another one.
    """
    _check_threads(threads)
    parsed = Frame(frame)
    parsed.check_limit(max_bytes)
    return decode(parsed, None if out is None else usable_output(parsed, out), threads, as_reference(reference))


def read(
    frame: Any,
    slices: Any = ...,
    *,
    level: int = 0,
    out: NDArray[Any] | None = None,
    reference: Any = None,
    max_bytes: int | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """decompress(frame)[slices] for basic indexing (integers, slices, ..., None), decoding only the blocks it touches.

    Always an array, also for a single value (0-d).
    level: a coarse look: the slices are of every 2^level-th value along each axis, decompress(frame)[::2**level, ...].
        Interpolated frames have these first: up to level 4, and where all is one block up to any, the rest is not
        decoded. Other frames are decoded whole for it.
    out: an array of the result's shape and dtype to put it in.
    reference: as for decompress; the whole tensor's, of which only the parts at those blocks are looked at.
    max_bytes: refuse a result, or a block to be decoded for it, that is larger.

    Raises as decompress does, and ArgumentError for an index that is out of range or not basic.
    """
    _check_threads(threads)
    parsed = Frame(frame)
    if isinstance(level, bool) or not isinstance(level, int) or level < 0:
        raise ArgumentError(f"level must be an integer of at least 0, not {level!r}")
    part = read_part(parsed, slices, max_bytes, threads, as_reference(reference), level)
    if out is None:
        return part
    if not isinstance(out, np.ndarray) or out.shape != part.shape or out.dtype != part.dtype or not out.flags.writeable:
        raise ArgumentError(f"out must be a writable {part.dtype} array of shape {part.shape}")
    out[...] = part
    return out


@dataclass(frozen=True)
class FrameInfo:
    """What a frame's header tells, without decoding values.

    eps: the absolute bound on every value (largest, with per-axis bounds), None for lossless and pointwise frames. That
        of a small tensor may be up to 1 in 4096 below what was asked for: it takes fewer bytes.
    reference: for a frame of differences, the digest of what it was made with (`szdnn.digest`).
    kind: "linear32", "linear64", "geometric" or "lossless" (also where a lossy bound was asked for and gained nothing).
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    bound: Bound
    kind: str
    eps: float | None
    pointwise: float | None
    predictor: str
    coder: str
    blocks: int
    raw_bytes: int
    frame_bytes: int
    warnings: tuple[str, ...]
    reference: str | None = None

    @property
    def values(self) -> int:
        """How many values the tensor has."""
        return math.prod(self.shape)

    @property
    def bits_per_value(self) -> float:
        """Size of the complete frame in bits a value; infinite for an empty tensor."""
        return self.frame_bytes * 8 / self.values if self.values else math.inf

    @property
    def ratio(self) -> float:
        """Raw bytes over frame bytes."""
        return self.raw_bytes / self.frame_bytes


def _bound_of(header: _native.Header) -> Bound:
    try:
        return _declared_bound(header)
    except BoundError as error:
        raise CorruptFrame(f"frame: the header's bound is not possible: {error}") from None


def _fineness(c: Any) -> int:
    """How much finer than 2 eps the lattice's step is; float32's eps is rounded, the quotient near a power of two."""
    ratio = 2 * c.eps / c.step if c.kind in (_native.LINEAR32, _native.LINEAR64) else 1.0
    return min(FINENESSES, key=lambda f: abs(math.log2(ratio / f))) if ratio > 0 else 1


def _declared_bound(header: _native.Header) -> Bound:
    c = header.c
    value = float(f"{c.bound_digits}e{c.bound_exponent}")
    match c.bound_kind:
        case 0:
            return Lossless()
        case 1 if c.has_axis:
            return Abs(header.axis_eps(), axis=c.axis, fineness=_fineness(c))
        case 1:
            return Abs(value or c.eps, fineness=_fineness(c))
        case 2 if c.bound_flags & FLAG_ROBUST:
            return Rel(value, range="robust")
        case 2 if c.bound_flags & FLAG_RANGE:
            return Rel(value, range=(c.bound_lo, c.bound_hi))
    bound: Bound = _BOUNDS[c.bound_kind](value)
    return bound


def _warnings_of(header: _native.Header) -> tuple[str, ...]:
    if header.c.bound_flags & FLAG_WIDE:
        return (
            "the range is over 1000 times the span of the 0.1 to 99.9% quantiles: a few extreme values make "
            'this bound loose for the rest; Rel(r, range="robust") or Abs(eps) says otherwise',
        )
    return ()


def _coder_of(frame: Frame) -> str:
    """The coder of the first block's main stream."""
    if frame.header.c.blocks == 0:
        return "none"
    mode, coder, _ = _native.Decoder(frame.header).look(0, frame.payload(0))
    return "constant" if mode == 2 else _CODER_NAMES[coder]


def info(frame: Any) -> FrameInfo:
    """Dtype, shape, bound, sizes and ways of a frame. Raises CorruptFrame, UnsupportedFrame."""
    parsed = Frame(frame)
    header = parsed.header
    c = header.c
    linear = c.kind in (_native.LINEAR32, _native.LINEAR64)
    return FrameInfo(
        dtype=parsed.dtype,
        shape=parsed.shape,
        bound=_bound_of(header),
        kind=_KIND_NAMES[c.kind],
        eps=c.eps if linear else None,
        pointwise=c.pointwise if c.kind == _native.GEOMETRIC else None,
        predictor=_PREDICTOR_NAMES[c.predictor],
        coder=_coder_of(parsed),
        blocks=c.blocks,
        raw_bytes=parsed.raw_bytes,
        frame_bytes=parsed.bytes.size,
        warnings=_warnings_of(header),
        reference=header.reference_digest() if c.predictor == _native.REFERENCE else None,
    )


@dataclass(frozen=True)
class Comparison:
    """How a decoded tensor differs from the original.

    violations: values beyond the bound (exact arithmetic), changed NaN or infinities, zeros that are not zero any more.
    fraction: the largest error as a fraction of the bound; inf where a value broke it in another way.
    """

    violations: int
    unequal: int
    max_abs_error: float
    rmse: float
    fraction: float


def compare(original: Any, decoded: Any, frame_info: FrameInfo) -> Comparison:
    """Checks a decoded tensor against the original and the bound that its frame declares.

    original, decoded: arrays of one dtype and shape. Raises ArgumentError where they differ in either.
    """
    x, y = as_array(original), as_array(decoded)
    if x.dtype != y.dtype or x.shape != y.shape:
        raise ArgumentError(f"the original is {x.dtype}{list(x.shape)}, the other {y.dtype}{list(y.shape)}")
    code = dtype_code(x.dtype)
    if code not in FLOAT_CODES:
        unequal = int(np.count_nonzero(x.reshape(-1).view(f"V{x.itemsize}") != y.reshape(-1).view(f"V{x.itemsize}")))
        return Comparison(
            unequal, unequal, math.nan if unequal else 0.0, math.nan if unequal else 0.0, math.inf if unequal else 0.0
        )
    bound = frame_info.bound
    if frame_info.kind != "lossless" and isinstance(bound, Abs) and bound.axis is not None:
        return _compare_axis(code, x, y, bound)
    eps = frame_info.eps or 0.0
    exact = frame_info.kind == "lossless"
    if exact and isinstance(bound, Abs) and bound.axis is None:
        # Kept losslessly since that was smaller; values may have been moved within the bound beforehand.
        eps, exact = float(bound.eps), False  # type: ignore[arg-type]
    unit = power_of_two_near(eps or 1.0)
    found = _native.compare(code, x, y, eps, frame_info.pointwise or 0.0, unit)
    return _comparison([found], found.unequal if exact else found.violations, unit)


def _comparison(found: list[Any], violations: int, unit: float = 1.0) -> Comparison:
    finite = sum(f.finite for f in found)
    fraction = max((f.max_fraction for f in found), default=0.0)
    return Comparison(
        violations=violations,
        unequal=sum(f.unequal for f in found),
        max_abs_error=max((f.max_error for f in found), default=0.0),
        rmse=math.sqrt(sum(f.sum_squares for f in found) / finite) * unit if finite else 0.0,
        fraction=math.inf if violations and fraction <= 1 else fraction,
    )


def _compare_axis(code: int, x: NDArray[Any], y: NDArray[Any], bound: Abs) -> Comparison:
    axis = bound.axis or 0
    found = []
    for i, eps in enumerate(bound.vector()):
        one, other = (np.ascontiguousarray(np.take(a, i, axis=axis)) for a in (x, y))
        found.append(_native.compare(code, one, other, float(eps), 0.0))
    return _comparison(found, sum(f.violations for f in found))
