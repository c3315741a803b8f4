"""What forged blocks cost: never more, by the bytes read and written, than the slowest coder takes honestly."""

from __future__ import annotations

import time

import numpy as np
import pytest
from szdnn._core import ffi, lib

import szdnn

FLOAT16, LINEAR32, GEOMETRIC = 0, 1, 3
CODES = 65
ROUNDS = 300


def header(n: int, **fields):
    """Of one block of n float16 values."""
    h = ffi.new("szd_header *", {"dtype": FLOAT16, "rank": 1, "kind": LINEAR32, "eps": 2.0**-10, "step": 2.0**-9})
    h.shape[0] = n
    for name, value in fields.items():
        setattr(h, name, value)
    assert lib.szd_header_complete(h) == 0
    return h


def decode(h, payload: bytes, rounds: int = 1) -> tuple[int, float]:
    """The status, and the least seconds of CPU that a call took."""
    scratch, out = ffi.new("uint8_t[]", lib.szd_decode_scratch(h)), ffi.new("uint8_t[]", 2 * int(h.elements))
    options, strides = ffi.new("szd_options *"), ffi.new("uint64_t[]", [1])
    best = np.inf
    for _ in range(5):
        start = time.process_time()
        for _ in range(rounds):
            status = lib.szd_decode_block(h, options, 0, payload, len(payload), scratch, len(scratch), out, strides)
        best = min(best, (time.process_time() - start) / rounds)
    return status, best


@pytest.fixture(scope="module")
def honest() -> float:
    """Seconds a value of context mixing."""
    residuals = np.rint(np.random.default_rng(0).laplace(scale=4, size=20_000)).astype(np.int32)
    scratch, coded = ffi.new("uint8_t[]", lib.szd_mix_scratch(100)), ffi.new("uint8_t[]", 99_999)
    size = ffi.new("size_t *")
    values, out = ffi.from_buffer("int32_t[]", residuals), ffi.new("int32_t[]", residuals.size)
    assert lib.szd_mix_encode(values, residuals.size, 100, 0, scratch, coded, len(coded), size) == 0
    best = np.inf
    for _ in range(5):
        start = time.process_time()
        assert lib.szd_mix_decode(coded, size[0], 100, 0, scratch, out, residuals.size) == 0
        best = min(best, time.process_time() - start)
    return best / residuals.size


GEOMETRY = {"kind": GEOMETRIC, "points_per_octave": 1023, "has_signs": 1, "pointwise": 0.01}
FORGED = {
    "a constant": (1, b"\x02\x00\x3c", {}),
    "a geometric constant": (1, b"\x02\x00\x3c", GEOMETRY),
    "a geometric value": (1, bytes([0, 0, 0, 0, 2, 0, 0, 0]), GEOMETRY),
    "a value after regression": (1, bytes([0, 0, 0, 1, 1, 0, 1, 1, 0, 0, 2, 0, 0, 0]), {"predictor": 2, "edge": 2}),
    "an interpolated value": (1, bytes([0, 0, 0, 0xE4, 0, 0, 0, 0, 0, 0]), {"predictor": 4}),
    "a mixed value": (1, bytes([0, 0, 3, 64, 1]), {"mixed": 1}),
    "200 mixed values": (200, bytes([0, 0, 3, 64, 1]), {"mixed": 1}),
    "256 mixed values": (256, bytes([0, 0, 3, 64, 1]), {"mixed": 1}),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_block_costs_no_more_than_its_bytes(name, honest):
    n, payload, fields = FORGED[name]
    h = header(n, **fields)
    _, seconds = decode(h, payload, ROUNDS // n + 1)
    index = 8  # a block has an entry in the header, too
    assert seconds <= 2.5 * honest * (len(payload) + index + n)


def test_mixing_needs_bytes_that_justify_its_time():
    stream = bytes([0, 0, 3, 64, 1])
    for n in (1, 239, 4096 * 2 + 1, 1 << 18):
        assert decode(header(n, mixed=1), stream)[0] == CODES


@pytest.mark.parametrize("n", [3, 100, 255, 256, 5000, 20_000, 1 << 18])
def test_what_the_encoder_mixes_it_can_justify(n):
    rng = np.random.default_rng(n)
    for values in (rng.normal(size=n), np.linspace(0, 1, n), (rng.random(n) < 1e-4) * 1.0):
        x = values.astype(np.float32)
        frame = szdnn.compress(x, szdnn.Abs(1e-2), effort=9)
        assert szdnn.compare(x, szdnn.decompress(frame), szdnn.info(frame)).violations == 0
