"""Small tensors: what a frame takes beyond their values, its layout's limits, and that no bound is lost on the way."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import given
from safetensors.numpy import save_file
from tensors import assert_within, bits

import szdnn
from szdnn import _native, archive
from szdnn.checkpoint import file_kind
from szdnn.resolve import short_eps

RNG = np.random.default_rng(12)


def order0_bytes(q):
    _, counts = np.unique(q, return_counts=True)
    return float((counts * np.log2(q.size / counts)).sum()) / 8


@pytest.mark.parametrize("law", ["laplace", "normal"])
def test_a_frame_of_2000_values_takes_at_most_40_bytes_more_than_its_ideal_code(law):
    over = []
    for scale in 10 ** RNG.uniform(-3, 0, 20):
        x = getattr(RNG, law)(0, scale, (40, 50)).astype(np.float32)
        eps = 1e-2 * float(x.max() - x.min())
        over.append(len(szdnn.compress(x, szdnn.Rel(1e-2))) - order0_bytes(np.rint(x / (2 * eps))))
    assert np.mean(over) < 40


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_a_constant_takes_forty_bytes_whatever_its_size(dtype):
    x = np.full((1000, 1000), 3, dtype)
    frame = szdnn.compress(x, szdnn.Lossless())
    assert len(frame) <= 40
    assert szdnn.decompress(frame).tobytes() == x.tobytes()
    assert bytes(szdnn.compress(x, szdnn.Lossless(), out=np.empty(100, np.uint8))) == frame


def test_many_small_tensors_in_an_archive_cost_hardly_more_than_their_frames(tmp_path):
    state = {f"layers.{i}.weight": RNG.laplace(0, 0.02, (40, 50)).astype(np.float32) for i in range(200)}
    szdnn.save(tmp_path / "a", state, szdnn.Rel(1e-2))
    frames = sum(len(szdnn.compress(x, szdnn.Rel(1e-2))) for x in state.values())
    assert (tmp_path / "a").stat().st_size < frames + 10 * len(state) + 1000
    with archive.Archive(tmp_path / "a") as opened:
        assert list(opened) == list(state)
        assert opened["layers.7.weight"].shape == (40, 50)


@given(
    st.sampled_from([szdnn.Abs, szdnn.Rel, szdnn.PointwiseRel]),
    st.one_of(st.floats(1e-6, 0.9), st.sampled_from([1e-15, 1e-9, 1e-3, 0.1, 0.5, 0.02, 7e-5, 0.123456789])),
    st.sampled_from(["float16", "float32", "float64"]),
    st.lists(st.integers(0, 4), max_size=20),
)
def test_any_bound_and_rank_comes_back(bound, value, dtype, shape):
    shape = [min(extent, 1 if i > 3 else 4) for i, extent in enumerate(shape)]
    x = np.random.default_rng(len(shape)).normal(size=shape).astype(dtype)
    frame = szdnn.compress(x, bound(value))
    info = szdnn.info(frame)
    assert info.shape == x.shape
    assert info.bound == bound(value) or info.kind == "lossless"  # which keeps six digits
    y = szdnn.decompress(frame)
    assert_within(x, y, info.eps, info.pointwise)
    assert bits(reference_decoder.decode(frame)).tobytes() == bits(y).tobytes()


@given(st.floats(1e-300, 1e300))
def test_a_short_eps_is_never_more_and_hardly_less(eps):
    assert eps * (1 - 2.0**-12) <= short_eps(eps) <= eps
    assert short_eps(5e-324) == 5e-324


def test_an_absolute_bound_is_kept_to_the_last_digit():
    x = RNG.normal(size=500).astype(np.float32)
    for eps in (0.01, 0.1234567890123, 1 / 3):
        assert szdnn.info(szdnn.compress(x, szdnn.Abs(eps))).eps == eps


def test_the_layout_ends_at_64_kilobytes():
    for size in (60_000, 65_000, 65_480, 65_520, 65_536, 66_000):
        x = RNG.integers(0, 256, size, dtype=np.uint8)
        frame = szdnn.compress(x, szdnn.Lossless())
        assert frame.startswith(b"\xf5s") == (size == 60_000)  # near the end, the other layout is as good
        assert len(frame) <= size + 64
        assert szdnn.decompress(frame).tobytes() == x.tobytes()


def test_what_a_file_is(tmp_path):
    """A .safetensors file's first bytes are its header's length, which may look like a small frame's."""
    frame = szdnn.compress(np.arange(9.0), szdnn.Abs(0.1))
    (tmp_path / "a").write_bytes(frame)
    assert file_kind(tmp_path / "a") == "frame"
    save_file({"x": np.zeros(3)}, tmp_path / "b", {"note": "n" * 29_000})
    data = (tmp_path / "b").read_bytes()
    wanted, length = 0x73F5, int.from_bytes(data[:8], "little")
    (tmp_path / "b").write_bytes(wanted.to_bytes(8, "little") + data[8 : 8 + length] + b" " * (wanted - length))
    assert file_kind(tmp_path / "b") == "safetensors"


def test_a_changed_version_is_unsupported_and_a_changed_checksum_is_named():
    frame = bytearray(szdnn.compress(RNG.normal(size=100).astype(np.float32), szdnn.Rel(1e-2)))
    with pytest.raises(szdnn.CorruptFrame, match="the frame's checksum"):
        szdnn.decompress(bytes([*frame[:-1], frame[-1] ^ 1]))
    frame[2] = 1
    with pytest.raises(szdnn.UnsupportedFrame):
        szdnn.decompress(bytes(frame))


@pytest.mark.parametrize("rest", range(8))
@pytest.mark.parametrize("bound", [szdnn.Rel(1e-2), szdnn.Rel(1e-3), szdnn.Rel(1e-4)])
def test_blocks_of_any_length_have_the_short_form(rest, bound):
    """Also where slices of raw low bits end within bytes."""
    x = np.random.default_rng(1).normal(size=2000 + rest).astype(np.float32)
    frame = np.frombuffer(szdnn.compress(x, bound), np.uint8)
    assert frame[int(_native.Header.read(frame).c.header_bytes)] >= 16
