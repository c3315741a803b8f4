"""tests/native/judge.c from Python: the soak's passes over all values, in exact arithmetic and without the core."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

from bench import exact
from bench.native import COMPILER, TESTS

Array = NDArray[Any]

_FORMATS = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}
_RULES = ("special", "zero", "unfinite", "beyond", "sign")
_TEXT = {
    "special": "NaN or Inf changed",
    "zero": "zeros changed",
    "unfinite": "finite values became NaN or infinite",
    "beyond": "values beyond the bound",
    "sign": "signs changed",
}
_DECLARATIONS = """
typedef struct { uint64_t special, zero, unfinite, beyond, sign, first[5], near; } verdict;
void judge(int format, int relative, const void *x, const void *y, size_t n, double bound, verdict *found,
           uint64_t *near);
void spread(int format, const void *x, size_t n, uint64_t *finite, double *lo, double *hi, double *deviation);
double rms_error(int format, const void *x, const void *y, size_t n);
"""


@dataclass(frozen=True)
class Spread:
    """Of the finite values; deviation: the standard deviation, its error far below 1e-12 of it."""

    finite: int
    lo: float
    hi: float
    deviation: float


def build(folder: Path) -> Path:
    """Compiles the judge. Raises OSError or CalledProcessError where there is no C compiler, or it fails."""
    made = folder / "judge.so"
    flags = ["-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-shared"]
    subprocess.run([COMPILER, *flags, str(TESTS / "native" / "judge.c"), "-o", str(made), "-lm"], check=True)
    return made


@cache
def load(path: Path) -> Judge:
    """The judge that was built there."""
    return Judge(path)


class Judge:
    """Judges arrays of one shape, C-contiguous, in native byte order, of float dtypes."""

    def __init__(self, path: Path) -> None:
        self._ffi = FFI()
        self._ffi.cdef(_DECLARATIONS)
        self._lib: Any = self._ffi.dlopen(str(path))

    def within(self, x: Array, y: Array, bound: float, pointwise: bool = False) -> list[str]:
        """What is wrong with y: NaN and infinities bit for bit, zeros zero (pointwise: the same zero), finite values
        within bound (pointwise: within bound * |x|, signs kept)."""
        found = self._ffi.new("verdict *")
        near = np.empty(x.size if pointwise else 0, np.uint64)
        self._lib.judge(
            _FORMATS[x.dtype.name], int(pointwise), self._at(x), self._at(y), x.size, bound, found, self._at(near)
        )
        counts = {rule: int(getattr(found, rule)) for rule in _RULES}
        firsts = {rule: int(found.first[i]) for i, rule in enumerate(_RULES)}
        places = near[: int(found.near)].astype(np.int64)
        if places.size:
            over = places[exact.settle_pointwise(exact.widen(x[places]), exact.widen(y[places]), bound)]
            firsts["beyond"] = min([*over[:1], *([firsts["beyond"]] if counts["beyond"] else [])], default=0)
            counts["beyond"] += over.size
        said = f" {bound!r}{' * |x|' if pointwise else ''}"
        return [
            f"{counts[rule]} {_TEXT[rule]}{said if rule == 'beyond' else ''}, first at {firsts[rule]}"
            for rule in _RULES
            if counts[rule]
        ]

    def spread(self, x: Array) -> Spread:
        """Ends and standard deviation of the finite values."""
        finite, numbers = self._ffi.new("uint64_t *"), self._ffi.new("double[3]")
        self._lib.spread(_FORMATS[x.dtype.name], self._at(x), x.size, finite, numbers, numbers + 1, numbers + 2)
        return Spread(int(finite[0]), *numbers)

    def rms_error(self, x: Array, y: Array) -> float:
        """Root mean square error over the values that are finite in x."""
        return float(self._lib.rms_error(_FORMATS[x.dtype.name], self._at(x), self._at(y), x.size))

    def _at(self, array: Array) -> Any:
        return self._ffi.cast("void *", array.ctypes.data)
