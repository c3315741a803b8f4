"""Tensors past 2^31 values. Needs some 12 GB and a minute: SZDNN_LARGE=1 runs it."""

from __future__ import annotations

import os

import numpy as np
import pytest

import szdnn

pytestmark = pytest.mark.skipif(os.environ.get("SZDNN_LARGE") != "1", reason="SZDNN_LARGE=1 runs it")

COUNT = 2**31 + 12_345


def test_more_values_than_fit_31_bits():
    rng = np.random.default_rng(0)
    part = rng.normal(size=1 << 20).astype(np.float16)
    x = np.resize(part, COUNT)
    x[-1] = 3.25
    frame = szdnn.compress(x, szdnn.Abs(1e-2))
    y = szdnn.decompress(frame)
    for start in range(0, COUNT, 1 << 26):
        stop = min(start + (1 << 26), COUNT)
        difference = np.abs(x[start:stop].astype(np.float32) - y[start:stop].astype(np.float32))
        assert difference.max() <= 1e-2
    np.testing.assert_array_equal(szdnn.read(frame, slice(COUNT - 5, None)), y[-5:])


def test_more_bytes_than_fit_31_bits_that_do_not_compress():
    x = np.random.default_rng(0).integers(0, 256, COUNT, dtype=np.uint8)
    frame = szdnn.compress(x, szdnn.Lossless())
    assert len(frame) <= x.nbytes + 64 + 17
    assert np.array_equal(szdnn.decompress(frame), x)
