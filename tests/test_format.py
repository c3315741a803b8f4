"""The format: golden frames decode to what they did, and an independent decoder written from FORMAT.md agrees
bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import reference_decoder
from hypothesis import given
from tensors import CODERS, PREDICTORS, simple_bounds, tensors
from test_corruption import (
    FRAMES,
    blocks_end,
    dtype_at,
    forged_frame,
    header_end,
    header_size,
    with_header_crc,
    with_valid_checksums,
)

import szdnn

GOLDEN = Path(__file__).parent / "golden"
INDEX = json.loads((GOLDEN / "index.json").read_text())


def reference_of(name: str) -> np.ndarray | None:
    """What a golden frame of differences was made with: the values of another golden frame."""
    if not name.startswith("reference-"):
        return None
    return szdnn.decompress((GOLDEN / f"{name.split('-')[1]}-lossless.szd").read_bytes())


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()


@pytest.mark.parametrize("name", sorted(INDEX))
def test_golden_frames_decode_to_what_they_did(name):
    frame = (GOLDEN / f"{name}.szd").read_bytes()
    reference = reference_of(name)
    assert digest(szdnn.decompress(frame, reference=reference)) == INDEX[name]
    assert digest(reference_decoder.decode(frame, reference)) == INDEX[name]


def test_every_golden_frame_is_indexed():
    assert {path.stem for path in GOLDEN.glob("*.szd")} == set(INDEX)


def seen_streams(name: str) -> set[str]:
    """What kinds of symbol stream the reference decoder meets in a golden frame."""
    seen: set[str] = set()
    inner = {name: getattr(reference_decoder, name) for name in SPIES}

    def spy(function: str, note: Callable[..., str | None]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            result = inner[function](*args)
            seen.add(note(result, *args) or "")
            return result

        return watched

    with pytest.MonkeyPatch.context() as patch:
        for function, note in SPIES.items():
            patch.setattr(reference_decoder, function, spy(function, note))
        reference_decoder.decode((GOLDEN / f"{name}.szd").read_bytes(), reference_of(name))
    return seen


def _levels(_result: Any, _symbols: Any, _tables: Any, _counts: Any, rows: list[int], columns: list[int]) -> str:
    return f"rows: {max(rows) > 0}, columns: {max(columns) > 0}"


SPIES: dict[str, Callable[..., str | None]] = {
    "arrange": _levels,
    "carried_bytes": lambda _, states, size: "all carried" if size <= 2 * len(states) else "partly carried",
    "interpolated_frequencies": lambda *_: "interpolated",
    "explicit_frequencies": lambda *_: "explicit",
    "read_dominant": lambda *_: "dominant",
    "read_numbered": lambda *_: "palette",
    "decode_mixed": lambda *_: "mixed",
    "decode_huffman": lambda *_: "huffman",
    "decode_rans": lambda result, *_: f"{len(result[1])} lanes",
    "read_escapes": lambda *_: "escapes",
}


def test_golden_frames_hold_every_kind_of_stream():
    seen = set().union(*map(seen_streams, INDEX))
    assert seen >= {f"rows: {r}, columns: {not r or c}" for r in (True, False) for c in (True, False)}
    assert seen >= {"all carried", "partly carried", "interpolated", "explicit", "dominant", "palette", "mixed"}
    assert seen >= {"huffman", "escapes"}
    assert seen >= {"1 lanes", "16 lanes", "64 lanes"}


@given(tensors(max_values=2000), simple_bounds(), st.sampled_from(PREDICTORS), st.sampled_from(CODERS))
def test_the_reference_decoder_agrees(x, bound, predictor, coder):
    frame = szdnn.compress(x, bound, predictor=predictor, coder=coder)
    ours, theirs = szdnn.decompress(frame), reference_decoder.decode(frame)
    assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_both_decoders_refuse_the_same(name, data):
    """On forged bodies under valid checksums too: both refuse, or both give the same values."""
    frame = bytearray(FRAMES[name])
    size = header_size(frame)
    end = blocks_end(frame)
    if size == end:  # no blocks
        return
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(size, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with_valid_checksums(frame, FRAMES[name])
    try:
        theirs = reference_decoder.decode(bytes(frame))
    except (reference_decoder.Damaged, reference_decoder.Unsupported):
        with pytest.raises(szdnn.Error):
            szdnn.decompress(bytes(frame))
        return
    assert szdnn.decompress(bytes(frame)).tobytes() == theirs.tobytes()


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_both_decoders_refuse_the_same_headers(name, data):
    frame = bytearray(FRAMES[name])
    end = header_end(frame)
    for _ in range(data.draw(st.integers(1, 2))):
        frame[data.draw(st.integers(dtype_at(frame), end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with_header_crc(frame)
    try:
        ours = szdnn.decompress(bytes(frame), max_bytes=1 << 16)
    except szdnn.LimitError:
        return
    except szdnn.Error:
        with pytest.raises((reference_decoder.Damaged, reference_decoder.Unsupported)):
            reference_decoder.decode(bytes(frame))
        return
    assert reference_decoder.decode(bytes(frame)).tobytes() == ours.tobytes()


def test_empty_frames_agree():
    for shape in ([0], [3, 0], [0, 2**20]):
        frame = forged_frame(2, shape)
        assert reference_decoder.decode(frame).shape == szdnn.decompress(frame).shape == tuple(shape)
