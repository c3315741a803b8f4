"""The C core's small parts against independent answers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
import reference_decoder
from hypothesis import given
from tensors import bits, tensors, wide

import szdnn
from bench import exact
from szdnn import _native
from szdnn.arrays import dtype_code
from szdnn.resolve import points_per_octave

CSRC = Path(__file__).resolve().parent.parent / "csrc"


def test_crc32c_of_known_strings():
    assert _native.crc32c(_native.as_bytes(b"123456789")) == 0xE3069283
    assert _native.crc32c(_native.as_bytes(bytes(32))) == 0x8A9136AA
    assert _native.crc32c(_native.as_bytes(b"\xff" * 32)) == 0x62A8AB43


@given(st.integers(0, 2**32), st.integers(0, 9000), st.integers(0, 7))
def test_crc32c_of_any_length_and_place(seed, size, offset):
    """There is a way for few bytes, for some and for many."""
    data = np.random.default_rng(seed).integers(0, 256, size + offset, dtype=np.uint8)[offset:]
    assert _native.crc32c(data) == reference_decoder.crc32c(data.tobytes())


def test_the_roots_of_two_are_what_the_specification_says():
    constants = [int(text, 16) for text in re.findall(r"0x([0-9a-f]{16})", (CSRC / "roots.inc").read_text())]
    root, expected = 1 << 64, []
    for _ in range(48):
        root = math.isqrt(root << 63)
        expected.append(root)
    assert constants == expected


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_half_width_float_survives(dtype):
    """All 65,536 patterns: a bound far below one ulp forces every conversion to be exact."""
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    for bound in (szdnn.Lossless(), szdnn.Abs(1e-12), szdnn.PointwiseRel(1e-7)):
        y = szdnn.decompress(szdnn.compress(x, bound))
        zero = x.view(np.uint16) & 0x7FFF == 0
        np.testing.assert_array_equal(x.view(np.uint16)[~zero], y.view(np.uint16)[~zero])
        assert not np.any(y.view(np.uint16)[zero] & 0x7FFF)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_lattice_points_round_to_the_dtype_as_numpy_does(dtype):
    q = np.arange(-30000, 30001)
    for step in (1.0, 2.0**-9, 3e-3, 2.0**-24):
        lattice = q.astype(np.float32) * np.float32(step)
        with np.errstate(all="ignore"):
            x = lattice.astype(dtype)
        keep = np.isfinite(x.astype(np.float32)) & (np.abs(x.astype(np.float64) - lattice) < 0.45 * step)
        x, expected = x[keep], lattice[keep].astype(dtype)
        frame = szdnn.compress(x, szdnn.Abs(float(np.float32(step)) / 2), predictor="none")
        if szdnn.info(frame).kind == "linear32":
            np.testing.assert_array_equal(szdnn.decompress(frame).view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("r", [0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-6])
def test_points_per_octave_is_the_least_that_reaches_every_value(r):
    n = points_per_octave(r)
    assert 2 ** (1 / (2 * n)) - 1 <= r * (1 + 1e-12)
    assert n == 1 or 2 ** (1 / (2 * (n - 1))) - 1 > r * (1 - 1e-12)


@given(tensors(max_values=500), st.sampled_from([1, 7, 40]))
def test_statistics_are_what_numpy_says_at_every_instruction_set(x, repeats):
    x = np.tile(x.reshape(-1), repeats)
    values = wide(x)
    finite = values[np.isfinite(values)]
    expected = (
        finite.size,
        finite.min(initial=np.inf) if finite.size else 0,
        finite.max(initial=-np.inf) if finite.size else 0,
        int(x.size == 0 or len({value.tobytes() for value in x}) == 1),
    )
    try:
        for name, number in _native.ISAS.items():
            if number <= _native.ISAS[_native.isa_available()]:
                _native.isa = name
                s = _native.stats(dtype_code(x.dtype), x)
                assert (s.finite, s.min, s.max, s.constant) == expected
    finally:
        _native.isa = "auto"


@given(tensors(max_values=300), st.integers(0, 2**32), st.sampled_from([1, 30]), st.sampled_from([0.0, 1e-3, 1.0]))
def test_differences_are_what_numpy_says_at_every_instruction_set(x, seed, repeats, eps):
    x = np.tile(x.reshape(-1), repeats)
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        y = np.where(rng.random(x.shape) < 0.5, x, (wide(x) + eps * rng.normal(size=x.shape)).astype(x.dtype))
    a, b = wide(x), wide(y)
    finite = np.isfinite(a)
    with np.errstate(all="ignore"):
        error = np.abs(a - b)[finite]
    try:
        for name, number in _native.ISAS.items():
            if number <= _native.ISAS[_native.isa_available()]:
                _native.isa = name
                d = _native.compare(dtype_code(x.dtype), x, y, eps, 0.0)
                bad = ~finite & (bits(x) != bits(y)) | finite & np.where(a == 0, b != 0, exact.beyond(a, b, eps))
                assert d.finite == finite.sum()
                assert d.violations == bad.sum()
                assert d.unequal == np.count_nonzero(bits(x) != bits(y))
                if np.isfinite(error).all():
                    assert d.max_error == error.max(initial=0)
                    np.testing.assert_allclose(d.sum_squares, np.sum(error.astype(np.longdouble) ** 2), rtol=1e-12)
    finally:
        _native.isa = "auto"


def test_isa_levels_are_known():
    assert _native.isa_available() in _native.ISAS


def test_the_library_reports_small_buffers_as_the_callers_fault():
    from szdnn._core import lib

    header = _native.Header()
    header.c.dtype, header.c.rank = 2, 1
    header.c.shape[0] = 10
    header.complete()
    index = np.zeros(8, np.uint8)
    with pytest.raises(szdnn.ArgumentError, match="too small"):
        header.write(index, np.zeros(4, np.uint8))
    x, out = np.zeros(10, np.float32), np.zeros(1 << 16, np.uint8)
    size, saving = _native.ffi.new("size_t *"), _native.ffi.new("int64_t *")
    status = lib.szd_encode_block(
        header.c,
        _native.options(),
        _native.pointer(x),
        0,
        _native.pointer(out),
        3,
        _native.pointer(out),
        out.size,
        size,
        saving,
    )
    assert status == lib.SZD_ARGUMENT


def test_statuses_have_texts():
    from szdnn._core import ffi, lib

    numbers = [
        getattr(lib, name) for name in dir(lib) if name.startswith("SZD_") and isinstance(getattr(lib, name), int)
    ]
    codes = [n for n in numbers if n in (1, 2, 20, 21, 22, 23) or 40 <= n <= 48 or 60 <= n <= 68]
    texts = {ffi.string(lib.szd_status_text(code)) for code in codes}
    assert b"unknown status" not in texts
