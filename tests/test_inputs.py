"""What may be passed in and out: arrays, tensors, buffers; options out of range."""

from __future__ import annotations

import array

import numpy as np
import pytest
from tensors import bits

import szdnn
from szdnn import Abs, Lossless, Rel


def test_buffers_and_scalars():
    for source in (array.array("f", [1.0, 2.0, 3.0]), memoryview(np.arange(6.0)), np.float32(1.5), bytes(10)):
        x = np.asarray(source if not isinstance(source, bytes) else np.frombuffer(source, np.uint8))
        np.testing.assert_array_equal(szdnn.decompress(szdnn.compress(source, Lossless())), x)


class OnlyDLPack:
    def __init__(self, values):
        self._values = values

    def __dlpack__(self, **kwargs):
        return self._values.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()


def test_dlpack():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(szdnn.decompress(szdnn.compress(OnlyDLPack(x), Lossless())), x)


@pytest.mark.parametrize("source", [None, "text", object(), {"a": 1}, 3])
def test_what_holds_no_array(source):
    with pytest.raises(szdnn.ArgumentError):
        szdnn.compress(source, Lossless())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_torch_tensors(dtype):
    torch = pytest.importorskip("torch")
    t = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    for source in (t, t.T, t[::2, 1:], torch.nn.Parameter(t), t[0, 0]):
        y = szdnn.decompress(szdnn.compress(source, Abs(1e-3)))
        assert y.dtype.name == dtype
        assert y.shape == tuple(source.shape)
        assert np.abs(y.astype(np.float64) - source.detach().double().numpy()).max() <= 1e-3


def test_other_torch_dtypes_and_refusals():
    torch = pytest.importorskip("torch")
    for t in (
        torch.arange(10),
        torch.ones(3, dtype=torch.bool),
        torch.ones(3).to(torch.float8_e4m3fn),
        torch.ones(2, dtype=torch.complex64),
    ):
        y = szdnn.decompress(szdnn.compress(t, Lossless()))
        assert y.shape == tuple(t.shape)
        assert y.nbytes == t.numel() * t.element_size()
    conj = torch.tensor([1 + 2j, 3 - 1j]).conj()
    np.testing.assert_array_equal(szdnn.decompress(szdnn.compress(conj, Lossless())), conj.resolve_conj().numpy())
    for bad in (torch.ones(3, device="meta"), torch.ones(3, 3).to_sparse()):
        with pytest.raises(szdnn.ArgumentError):
            szdnn.compress(bad, Lossless())


def test_decompress_into_out():
    x = np.random.default_rng(0).normal(size=(50, 60)).astype(np.float32)
    frame = szdnn.compress(x, Rel(1e-2))
    expected = szdnn.decompress(frame)
    for out in (
        np.empty((50, 60), np.float32),
        np.empty((60, 50), np.float32).T,
        np.empty((50, 120), np.float32)[:, ::2],
        np.empty((50, 60), ">f4"),
    ):
        assert szdnn.decompress(frame, out=out) is out
        np.testing.assert_array_equal(out, expected)
    locked = np.empty((50, 60), np.float32)
    locked.flags.writeable = False
    for wrong in (np.empty((50, 61), np.float32), np.empty((50, 60)), locked, bytearray(12000)):
        with pytest.raises(szdnn.ArgumentError):
            szdnn.decompress(frame, out=wrong)


def test_compress_into_out():
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    frame = szdnn.compress(x, Rel(1e-2))
    room = bytearray(len(frame) + 10)
    view = szdnn.compress(x, Rel(1e-2), out=room)
    assert bytes(view) == frame == bytes(room[: len(frame)])
    for wrong in (bytearray(10), bytes(100_000)):
        with pytest.raises(szdnn.ArgumentError):
            szdnn.compress(x, Rel(1e-2), out=wrong)


@pytest.mark.parametrize("bound", [Abs(1e-7), Lossless()])
def test_compress_over_its_own_input(bound):
    """Blocks are larger than the values they stand for here, and the lossless frame is tried after the lossy one."""
    noise = np.random.default_rng(0).bytes(2_400_000)
    room = np.zeros(len(noise) + 4096, np.uint8)
    x = room[: len(noise)].view(np.float32)
    x[:] = np.frombuffer(noise, np.float32)
    expected = szdnn.compress(np.frombuffer(noise, np.float32), bound)
    assert bytes(szdnn.compress(x, bound, out=room)) == expected


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("effort", [0, 10, 2.0, True]),
        ("predictor", ["best", 1]),
        ("coder", ["zip", None]),
        ("threads", [0, -1, 1.5]),
    ],
)
def test_options_out_of_range(option, values):
    for value in values:
        with pytest.raises(szdnn.ArgumentError):
            szdnn.compress(np.ones(10, np.float32), Rel(1e-2), **{option: value})


def test_frames_may_be_any_buffer():
    x = np.arange(100, dtype=np.float32)
    frame = szdnn.compress(x, Lossless())
    for data in (frame, bytearray(frame), memoryview(frame), np.frombuffer(frame, np.uint8)):
        np.testing.assert_array_equal(szdnn.decompress(data), x)
    for bad in (None, 5, "frame"):
        with pytest.raises(szdnn.ArgumentError):
            szdnn.decompress(bad)


def test_max_bytes():
    frame = szdnn.compress(np.zeros(1000, np.float32), Lossless())
    assert szdnn.decompress(frame, max_bytes=4000).nbytes == 4000
    with pytest.raises(szdnn.LimitError, match="max_bytes=3999"):
        szdnn.decompress(frame, max_bytes=3999)


def test_efforts_give_what_they_promise():
    rng = np.random.default_rng(0)
    x = (np.add.outer(np.linspace(0, 3, 300), np.linspace(0, 5, 300)) + rng.normal(0, 1e-4, (300, 300))).astype(
        np.float32
    )
    sizes = [len(szdnn.compress(x, Rel(1e-4), effort=effort)) for effort in range(1, 10)]
    assert szdnn.info(szdnn.compress(x, Rel(1e-4), effort=1)).predictor == "none"
    assert sizes[2] < sizes[0] / 2
    assert sizes[8] <= min(sizes)


def test_comparison_sees_each_kind_of_violation():
    x = np.array([1.0, np.nan, 0.0, np.inf, 5.0], np.float32)
    info = szdnn.info(szdnn.compress(np.tile(x, 100), Abs(1e-2)))
    good = szdnn.compare(x, x, info)
    assert (good.violations, good.unequal, good.fraction) == (0, 0, 0.0)
    for place, value in ((0, 1.02), (1, 1.0), (2, 1e-3), (3, -np.inf), (4, np.nan)):
        y = x.copy()
        y[place] = value
        assert szdnn.compare(x, y, info).violations == 1
        assert szdnn.compare(x, y, info).fraction > 1
    with pytest.raises(szdnn.ArgumentError):
        szdnn.compare(x, x[:3], info)


def test_a_quiet_look_at_the_docstring():
    import doctest

    assert doctest.testmod(szdnn).failed == 0
    assert bits(np.float32([0.0]))[0] == 0
