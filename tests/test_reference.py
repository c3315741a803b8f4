"""References: frames of differences keep every bound against the original, decode to the same bits everywhere, and
never silently with another reference."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import given
from numpy.typing import NDArray
from tensors import FLOATS, KINDS, assert_within, bits, dtype_of, make_values, simple_bounds, tensors
from test_corruption import (
    blocks_end,
    dtype_at,
    header_end,
    header_size,
    is_single,
    with_header_crc,
    with_valid_checksums,
)
from test_guarantee import allowed_eps

import szdnn
from szdnn import _native

RNG = np.random.default_rng(3)


@st.composite
def pairs(draw: st.DrawFn, max_values: int = 20_000) -> tuple[NDArray[Any], NDArray[Any]]:
    """A float tensor and a reference of its shape: near to it, or anything."""
    x = draw(tensors(max_values=max_values))
    dtype = dtype_of(draw(st.sampled_from(FLOATS)))
    if draw(st.booleans()):
        return x, make_values(draw(st.sampled_from(KINDS)), draw(st.integers(0, 999)), x.shape, dtype)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    with np.errstate(all="ignore"):
        near = x.astype(np.float64) * (1 + rng.normal(0, 10.0 ** draw(st.integers(-6, -1)), x.shape))
        return x, np.asarray(near).astype(dtype)


@given(pairs(), simple_bounds(), st.integers(1, 9), st.sampled_from(["auto", "reference"]))
def test_every_bound_holds_with_any_reference(pair, bound, effort, predictor):
    x, reference = pair
    frame = szdnn.compress(x, bound, reference=reference, predictor=predictor, effort=effort)
    y, info = szdnn.decompress(frame, reference=reference), szdnn.info(frame)
    assert_within(x, y, allowed_eps(x, bound), bound.r if isinstance(bound, szdnn.PointwiseRel) else None)
    assert szdnn.compare(x, y, info).violations == 0
    if predictor == "reference" and info.kind != "lossless" and x.size:
        assert info.predictor == "reference"


@given(st.sampled_from(FLOATS), st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(0, 99))
def test_lossless_differences_are_lossless(name, kind, other, seed):
    x, reference = (make_values(k, seed + i, (300,), dtype_of(name)) for i, k in enumerate((kind, other)))
    frame = szdnn.compress(x, szdnn.Lossless(), reference=reference, predictor="reference")
    assert bits(szdnn.decompress(frame, reference=reference)).tobytes() == bits(x).tobytes()


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64", "bool", "float8_e5m2", "complex64"])
def test_lossless_differences_of_other_dtypes(dtype):
    raw = RNG.integers(0, 2 if dtype == "bool" else 256, 4096, dtype=np.uint8)
    x = raw.view(dtype_of(dtype))
    reference = np.roll(x, 1)
    frame = szdnn.compress(x, szdnn.Lossless(), reference=reference, predictor="reference")
    assert szdnn.info(frame).predictor == "reference"
    assert szdnn.decompress(frame, reference=reference).tobytes() == x.tobytes()
    assert reference_decoder.decode(frame, reference).tobytes() == x.tobytes()


@given(pairs(max_values=800), simple_bounds(), st.integers(1, 9))
def test_the_reference_decoder_agrees(pair, bound, effort):
    x, reference = pair
    frame = szdnn.compress(x, bound, reference=reference, predictor="reference", effort=effort)
    theirs = reference_decoder.decode(frame, reference)
    assert bits(szdnn.decompress(frame, reference=reference)).tobytes() == bits(theirs).tobytes()


@given(pairs(), simple_bounds(), st.data())
def test_bytes_and_values_depend_on_nothing_else(pair, bound, data):
    """Threads, instruction sets, strides of the reference, decoding over the reference's memory."""
    x, reference = pair
    frame = szdnn.compress(x, bound, reference=reference, predictor="reference", threads=1)
    whole = szdnn.decompress(frame, reference=reference, threads=1)
    swapped = reference.astype(reference.dtype.newbyteorder()) if reference.dtype.kind == "f" else reference
    apart = np.repeat(swapped[..., None], 2, -1)[..., 0]
    for isa in ("scalar", "avx2", "auto"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_native, "isa", isa)
            assert szdnn.compress(x, bound, reference=apart, predictor="reference", threads=2) == frame
            assert bits(szdnn.decompress(frame, reference=apart, threads=2)).tobytes() == bits(whole).tobytes()
            assert szdnn.digest(apart) == szdnn.digest(reference)
    if reference.dtype == x.dtype:
        over = reference.copy()
        assert szdnn.decompress(frame, reference=over, out=over) is over
        assert bits(over).tobytes() == bits(whole).tobytes()


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of several blocks without many values."""
    complete = _native.Header.complete

    def cut(header: _native.Header) -> None:
        if not header.c.tile_rank and not header.c.has_axis:
            count = int(np.prod(header.shape))
            header.c.tile_rank, header.c.dims[0], header.c.tile[0] = 1, count, min(count, 5000)
        complete(header)

    monkeypatch.setattr(_native.Header, "complete", cut)


def test_parts_need_only_their_parts_of_the_reference(monkeypatch):
    small_blocks(monkeypatch)
    reference = RNG.normal(size=(200, 300)).astype(np.float32)
    x = (reference + RNG.normal(0, 1e-3, reference.shape)).astype(np.float32)
    for bound in (szdnn.Abs(1e-4), szdnn.PointwiseRel(1e-2), szdnn.Lossless()):
        frame = szdnn.compress(x, bound, reference=reference)
        info = szdnn.info(frame)
        assert (info.predictor, info.reference) == ("reference", szdnn.digest(reference))
        assert info.blocks in (12, 3)  # four in one where a value takes less than a bit
        whole = szdnn.decompress(frame, reference=reference)
        damaged = reference.copy()
        damaged[150:] += 1
        part = np.s_[10:20, ::7]
        assert szdnn.read(frame, part, reference=damaged).tobytes() == whole[part].tobytes()
        for use in (lambda f: szdnn.read(f, np.s_[160:170], reference=damaged),  # noqa: B023
                    lambda f: szdnn.decompress(f, reference=damaged)):  # noqa: B023  # fmt: skip
            with pytest.raises(szdnn.ReferenceMismatch, match="block"):
                use(frame)


def near(x: NDArray[Any], scale: float = 1e-3) -> NDArray[Any]:
    return (x + RNG.normal(0, scale, x.shape)).astype(x.dtype)


def test_another_reference_is_a_mismatch():
    x = RNG.normal(size=(30, 40)).astype(np.float32)
    frame = szdnn.compress(near(x), szdnn.Abs(1e-3), reference=x)
    flipped = x.copy()
    flipped.view(np.uint32)[29, 39] ^= 1
    swapped = x.copy()
    swapped[0, :2] = swapped[0, 1::-1]
    for wrong in (None, flipped, swapped, x.T, x.reshape(-1), x.astype(np.float64), np.zeros_like(x)):
        with pytest.raises(szdnn.ReferenceMismatch):
            szdnn.decompress(frame, reference=wrong)
        with pytest.raises(szdnn.ReferenceMismatch):
            szdnn.read(frame, 3, reference=wrong)
    assert issubclass(szdnn.ReferenceMismatch, szdnn.Error)


def test_a_frame_that_needs_no_reference_does_without():
    x = RNG.normal(size=5000).astype(np.float32)
    for bound in (szdnn.Abs(1e-3), szdnn.Lossless(), szdnn.PointwiseRel(1e-3)):
        frame = szdnn.compress(x, bound, reference=RNG.normal(size=5000).astype(np.float32))
        assert frame == szdnn.compress(x, bound)
        assert szdnn.info(frame).reference is None
        assert szdnn.decompress(frame, reference=x[:3]).tobytes() == szdnn.decompress(frame).tobytes()


@pytest.mark.parametrize("size", [100, 5000, 300_000])
@pytest.mark.parametrize("bound", [szdnn.Rel(1e-3), szdnn.PointwiseRel(1e-2), szdnn.Lossless()])
def test_near_references_pay(size, bound):
    reference = RNG.normal(size=size).astype(np.float32)
    x = (reference * (1 + RNG.normal(0, 1e-3, size))).astype(np.float32)
    alone, with_it = szdnn.compress(x, bound), szdnn.compress(x, bound, reference=reference)
    assert len(with_it) < (0.9 if size > 100 else 1) * len(alone)


@pytest.mark.parametrize("predictor", ["none", "lorenzo", "regression"])
def test_another_predictor_that_is_named_is_used(predictor):
    x = RNG.normal(size=(50, 60)).astype(np.float32)
    for bound in (szdnn.Rel(1e-3), szdnn.Lossless()):
        frame = szdnn.compress(near(x), bound, reference=x, predictor=predictor)
        assert szdnn.info(frame).reference is None


def test_a_copy_of_its_reference_costs_next_to_nothing():
    x = RNG.normal(size=100_000).astype(np.float32)
    for bound in (szdnn.Rel(1e-3), szdnn.Lossless()):
        assert len(szdnn.compress(x, bound, reference=x)) < 200


@given(pairs(max_values=3000), simple_bounds())
def test_a_reference_never_costs_much(pair, bound):
    x, reference = pair
    assert len(szdnn.compress(x, bound, reference=reference)) <= x.nbytes + 64
    assert len(szdnn.compress(x, bound, reference=reference)) <= len(szdnn.compress(x, bound))


def test_a_reference_that_is_asked_for_keeps_the_largest_size():
    rng = np.random.default_rng(5)
    before, after = (rng.integers(0, 1 << 32, 1 << 20, dtype=np.uint32).view(np.float32) for _ in range(2))
    for coder in ("auto", "huffman"):
        frame = szdnn.compress(after, szdnn.Lossless(), reference=before, predictor="reference", coder=coder)
        assert len(frame) <= after.nbytes + 64
        assert np.array_equal(bits(szdnn.decompress(frame, reference=before)), bits(after))


def test_a_chain_does_not_drift():
    """Fifty links: each value within its bound of the original, as at the first."""
    x = RNG.normal(size=4000).astype(np.float32)
    decoded = szdnn.decompress(szdnn.compress(x, szdnn.Abs(1e-3)))
    for _ in range(50):
        x = near(x)
        frame = szdnn.compress(x, szdnn.Abs(1e-3), reference=decoded)
        assert szdnn.info(frame).predictor == "reference"
        decoded = szdnn.decompress(frame, reference=decoded)
        assert szdnn.compare(x, decoded, szdnn.info(frame)).violations == 0


def test_arguments():
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    with pytest.raises(szdnn.ArgumentError, match="shape"):
        szdnn.compress(x, szdnn.Abs(1e-3), reference=x[:3])
    with pytest.raises(szdnn.ArgumentError, match="reference"):
        szdnn.compress(x, szdnn.Abs(1e-3), predictor="reference")
    with pytest.raises(szdnn.ArgumentError):
        szdnn.compress(x, szdnn.Abs(1e-3), reference="model.pt")
    integers = np.arange(20, dtype=np.int32).reshape(4, 5)
    assert szdnn.info(szdnn.compress(x, szdnn.Abs(1e-3), reference=integers)).reference is None
    torch = pytest.importorskip("torch")
    frame = szdnn.compress(torch.tensor(x), szdnn.Abs(1e-3), reference=torch.tensor(x))
    assert szdnn.decompress(frame, reference=torch.tensor(x)).shape == (4, 5)


# ---- damage ----

BASE = RNG.normal(size=600).astype(np.float32)
FRAMES: dict[str, bytes] = {
    "lattice": szdnn.compress(near(BASE), szdnn.Abs(1e-3), reference=BASE),
    "wide": szdnn.compress(near(BASE), szdnn.Abs(1e-9), reference=BASE, predictor="reference"),
    "pointwise": szdnn.compress(near(BASE), szdnn.PointwiseRel(1e-2), reference=BASE, predictor="reference"),
    "mixed": szdnn.compress(near(BASE), szdnn.Abs(1e-3), reference=BASE, effort=9),
    "lossless": szdnn.compress(near(BASE), szdnn.Lossless(), reference=BASE),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_truncations_and_flipped_bits_are_seen(name):
    frame = FRAMES[name]
    assert szdnn.info(frame).predictor == "reference"
    for size in range(len(frame)):
        with pytest.raises(szdnn.Error):
            szdnn.decompress(frame[:size], reference=BASE)
    damaged = bytearray(frame)
    for bit in range(8 * len(frame)):
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(szdnn.Error):
            szdnn.decompress(bytes(damaged), reference=BASE)
        damaged[bit // 8] ^= 1 << bit % 8


def outcome(decode: Any, frame: bytes) -> str | bytes:
    try:
        return bytes(decode(frame, reference=BASE).tobytes())
    except (szdnn.ReferenceMismatch, reference_decoder.WrongReference):
        return "mismatch"
    except (szdnn.Error, reference_decoder.Damaged, reference_decoder.Unsupported):
        return "refused"


@given(st.sampled_from(sorted(FRAMES)), st.booleans(), st.data())
def test_both_decoders_refuse_the_same(name, in_header, data):
    """Under valid checksums, in the header and in the blocks: both refuse, or both give the same values."""
    frame = bytearray(FRAMES[name])
    size = header_size(frame)
    index = 0 if is_single(frame) else 8
    low, high = (dtype_at(frame), header_end(frame) - index - 1) if in_header else (size, blocks_end(frame) - 1)
    for _ in range(data.draw(st.integers(1, 2))):
        frame[data.draw(st.integers(low, high))] ^= 1 << data.draw(st.integers(0, 7))
    forged = with_header_crc(frame) if in_header else with_valid_checksums(frame, FRAMES[name])
    ours, theirs = outcome(szdnn.decompress, forged), outcome(reference_decoder.decode, forged)
    assert ours == theirs or {ours, theirs} == {"mismatch", "refused"}  # which of two faults is seen first may differ


def test_forged_predictor_fields_are_refused():
    frame = FRAMES["lattice"]
    field = frame.index(b"\x05\x0a\x03\x02")  # id 5, ten bytes, reference, float32
    for byte, value in itertools.product(range(4), range(256)):
        forged = bytearray(frame)
        forged[field + byte] = value
        if bytes(forged) != frame:
            with contextlib.suppress(szdnn.Error):
                decoded = szdnn.decompress(with_header_crc(forged), reference=BASE)
                pytest.fail(f"byte {byte} = {value} gave {decoded}")
