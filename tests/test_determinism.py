"""The same bytes for any thread count, instruction set, memory order and floating-point environment; and the
same values back."""

from __future__ import annotations

import ctypes
import ctypes.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tensors import CODERS, PREDICTORS, simple_bounds, tensors

import szdnn
from szdnn import _native

LEVELS = [name for name, number in _native.ISAS.items() if 0 < number <= _native.ISAS[_native.isa_available()]]


@pytest.fixture(scope="module")
def big():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 0.02, (1500, 900)).astype(np.float32)
    x[::100, 3] = 7.5
    return x


@given(tensors(), simple_bounds(), st.sampled_from(PREDICTORS), st.sampled_from(CODERS))
def test_instruction_sets_agree(x, bound, predictor, coder):
    made, back = set(), set()
    try:
        for level in LEVELS:
            _native.isa = level
            made.add(szdnn.compress(x, bound, predictor=predictor, coder=coder))
            back.add(szdnn.decompress(next(iter(made))).tobytes())
    finally:
        _native.isa = "auto"
    assert len(made) == len(back) == 1


@given(
    # from too short for vectors (16 lanes from 10 kB on) to 64 lanes and several blocks, with rests of every length
    size=st.sampled_from([3_000, 30_000, 70_000, 130_000, 300_000]).flatmap(lambda n: st.integers(n, n + 150)),
    scale=st.sampled_from([0.05, 0.4, 1.0, 3.0, 12.0, 60.0]),  # of the integers: from nearly constant to 8 bits
    heavy=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20)
def test_instruction_sets_read_each_others_symbols(size, scale, heavy, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.laplace(0, scale, size) if heavy else rng.normal(0, scale, size)
    x = np.rint(drawn).astype(np.float32)
    frames = {}
    try:
        for level in LEVELS:
            _native.isa = level
            frames[level] = szdnn.compress(x, szdnn.Abs(0.4), predictor="none", coder="rans")
        for level in LEVELS:
            _native.isa = level
            for frame in frames.values():
                assert np.abs(szdnn.decompress(frame) - x).max() <= 0.4
    finally:
        _native.isa = "auto"
    assert len(set(frames.values())) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bound", [szdnn.Rel(1e-2), szdnn.Rel(1e-4), szdnn.PointwiseRel(1e-3), szdnn.Lossless()])
def test_instruction_sets_agree_on_many_blocks(big, bound, dtype):
    frames = {}
    try:
        for level in LEVELS:
            _native.isa = level
            frames[level] = szdnn.compress(big.astype(dtype), bound)
            frames[level + " decoded"] = szdnn.decompress(frames[LEVELS[0]]).tobytes()
    finally:
        _native.isa = "auto"
    assert len({frames[level] for level in LEVELS}) == 1
    assert len({frames[level + " decoded"] for level in LEVELS}) == 1


@pytest.mark.parametrize(
    "bound", [szdnn.Rel(1e-2), szdnn.PointwiseRel(1e-2), szdnn.Lossless(), szdnn.RMSE(1e-3), szdnn.Bits(3)]
)
def test_thread_counts_agree(big, bound):
    frames = {szdnn.compress(big, bound, threads=n) for n in (1, 2, 3, 16, None)}
    assert len(frames) == 1
    frame = frames.pop()
    assert len({szdnn.decompress(frame, threads=n).tobytes() for n in (1, 2, 7, None)}) == 1


@given(tensors(max_values=1000), st.data())
@settings(max_examples=100)
def test_memory_order_does_not_matter(x, data):
    bound = szdnn.Abs(1e-2)
    frame = szdnn.compress(x, bound)
    if x.ndim:  # asfortranarray makes 0-d arrays 1-d
        assert szdnn.compress(np.asfortranarray(x), bound) == frame
    readonly = x.copy()
    readonly.flags.writeable = False
    assert szdnn.compress(readonly, bound) == frame
    if x.dtype.kind == "f" and x.dtype.name != "bfloat16":
        assert szdnn.compress(x.astype(x.dtype.newbyteorder(">")), bound) == frame
    spaced = np.zeros((*x.shape, 3), x.dtype)
    spaced[..., 1] = x
    assert szdnn.compress(spaced[..., 1], bound) == frame
    if x.ndim:
        flipped = np.ascontiguousarray(x[::-1])
        assert szdnn.compress(flipped[::-1], bound) == frame
    unaligned = np.frombuffer(b"\0" + x.tobytes(), dtype=np.uint8)[1:].view(x.dtype).reshape(x.shape) if x.size else x
    assert szdnn.compress(unaligned, bound) == frame


IN_ANY_ENVIRONMENT = [
    szdnn.Abs(1e-3), szdnn.Rel(1e-3), szdnn.Rel(1.7e-3, range="robust"), szdnn.Std(0.0137), szdnn.PointwiseRel(1.3e-3),
    szdnn.RMSE(1e-3), szdnn.PSNR(51.3), szdnn.Bits(9), szdnn.Lossless(),
]  # fmt: skip


@pytest.mark.parametrize("bound", IN_ANY_ENVIRONMENT, ids=repr)
def test_the_rounding_mode_is_ours_and_then_theirs_again(big, bound):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    big = big.reshape(-1)[:30_000]
    expected = szdnn.compress(big, bound, threads=1)
    values = szdnn.decompress(expected, threads=1).tobytes()
    for mode in (0x400, 0x800, 0xC00):  # x86's FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO
        assert libm.fesetround(mode) == 0
        try:
            frame = szdnn.compress(big, bound, threads=1)
            decoded = szdnn.decompress(expected, threads=1).tobytes()
            assert libm.fegetround() == mode
        finally:
            libm.fesetround(0)
        assert frame == expected
        assert decoded == values


@pytest.mark.parametrize("bound", IN_ANY_ENVIRONMENT, ids=repr)
def test_flushing_denormals_changes_no_byte(bound):
    torch = pytest.importorskip("torch")
    x = (np.random.default_rng(0).integers(-9000, 9000, 7000) * 2.0**-149).astype(np.float32)
    expected = szdnn.compress(x, bound, threads=1)
    assert torch.set_flush_denormal(True)
    try:
        frame = szdnn.compress(x, bound, threads=1)
        assert float(np.float32(2.0**-100) * np.float32(2.0**-40)) == 0  # still theirs
    finally:
        torch.set_flush_denormal(False)
    assert frame == expected


def test_flushing_denormals_does_not_break_the_bound():
    torch = pytest.importorskip("torch")
    x = (np.random.default_rng(0).integers(-900, 900, 70_000) * 2.0**-149).astype(np.float32)
    many = np.random.default_rng(0).normal(size=(2, 3000))
    expected = szdnn.compress(x, szdnn.Abs(2.0**-146), threads=1)
    assert torch.set_flush_denormal(True)
    try:
        frame = szdnn.compress(x, szdnn.Abs(2.0**-146), threads=1)
        y = szdnn.decompress(frame, threads=1)
        axis = szdnn.Abs([1e-310, 1e-2], axis=0)
        fine = szdnn.compress(many, axis, threads=1)
        back = szdnn.decompress(fine, threads=1)
    finally:
        torch.set_flush_denormal(False)
    assert np.abs(many - back)[0].max() <= 1e-310
    assert np.abs(many - back)[1].max() <= 1e-2
    assert frame == expected
    assert np.abs(x.astype(np.float64) - y.astype(np.float64)).max() <= 2.0**-146
    assert np.count_nonzero(y)


def test_many_threads_share_one_array_and_one_frame(big):
    frame = szdnn.compress(big, szdnn.Rel(1e-2))
    values = szdnn.decompress(frame).tobytes()
    with ThreadPoolExecutor(16) as pool:
        made = [pool.submit(szdnn.compress, big, szdnn.Rel(1e-2)) for _ in range(16)]
        back = [pool.submit(szdnn.decompress, frame) for _ in range(16)]
        assert all(result.result() == frame for result in made)
        assert all(result.result().tobytes() == values for result in back)


def test_importing_szdnn_does_not_import_torch():
    code = "import sys, szdnn, szdnn.cli; print([m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
