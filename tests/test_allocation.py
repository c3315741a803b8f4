"""A small file never makes much of anything: measured by the kernel's high-water mark, in a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import corpus
import pytest
import zstandard
from test_corruption import forged_frame
from test_memory import NO_HOARD, pytestmark  # noqa: F401

import szdnn
from szdnn import _native, skeleton
from szdnn.archive import Archive

MB = 1 << 20
PROBE = Path(__file__).parent / "allocation_probe.py"
SMALL = 100
HUGE = b"\x80\x80\x80\x80\x80\x80\x01"  # 2^42
TILE = b"\x80\x80\x80\x80\x02"  # 2^29


def framed(block: bytes, count: int = 1, extent: bytes = TILE, shape: int = 1 << 29, crc: bool = True) -> bytes:
    """A lossless float32 frame of `count` equal blocks of 2 GB each, their checksums right or not."""
    content = b"\x01" + extent + TILE
    entry = struct.pack("<II", len(block), _native.crc32c(_native.as_bytes(block)) ^ (not crc))
    fields = bytes([4, len(content)]) + content + b"\0"
    return forged_frame(2, [shape], fields=fields, index=entry * count) + block * count


def bomb(size: int) -> bytes:
    """A zstd frame that says it holds so much JSON, and ends."""
    whole = zstandard.ZstdCompressor(write_checksum=True).compress(b" " * size)
    return whole[:SMALL]


def hostile() -> dict[str, tuple[str, bytes]]:
    """Inputs of at most 100 bytes by name, each with the way in."""
    made = {
        "two gigabytes of nothing": framed(b"\x02", crc=False),
        "two gigabytes cut short": framed(b"\x02\0\0"),
        "two gigabytes of an unknown mode": framed(b"\x09"),
        "two gigabytes of a table that is none": framed(b"\x01\x02\x00"),
        "two gigabytes of symbols that end": framed(b"\x01\x01\x03\xff\xff\xff"),
        "four terabytes of no blocks": forged_frame(2, [1 << 40]),
        "a shape that overflows": forged_frame(2, [1 << 40] * 3),
        "dims that overflow": forged_frame(2, [0], fields=bytes([4, 15, 2]) + HUGE + HUGE + b"\x01\x01" + b"\0"),
        "coefficients without end": forged_frame(
            2, [1 << 17], kind=1, index=bytes(8),
            fields=b"\x02\x09" + struct.pack("<dB", 1e-2, 0) + bytes([4, 13, 4]) + b"\x01" * 3 + b"\x80\x80\x08"
            + b"\x01" * 3 + b"\x80\x80\x08" + b"\x05\x03\x02\x02\x04\0",
        ),
    }  # fmt: skip
    for case in corpus.cases()[::17]:
        if len(case.frame) > SMALL:
            made[f"the start of {case.name}"] = case.frame[:SMALL]
    inputs = {f"{name}, {kind}": (kind, data) for name, data in made.items() for kind in ("decompress", "read", "info")}
    huge = framed(b"\x02\0\0\0\0", 1)
    inputs |= {f"two gigabytes of zeros, {kind}": (kind, huge) for kind in ("limited", "read", "info")}
    for size in (1 << 20, 1 << 26, 1 << 28):
        inputs[f"{size} bytes of JSON"] = ("json", bomb(size))
    for kind in ("loads", "archive"):
        inputs[f"an archive's start, {kind}"] = (kind, corpus.archives()["nested-rel"][:SMALL])
        inputs[f"a header without end, {kind}"] = (kind, b"\xff" * 7 + b"\x0f{" + b" " * 90)
        inputs[f"nothing in brackets, {kind}"] = (kind, (92).to_bytes(8, "little") + b"[" * 92)
    assert all(len(data) <= SMALL for _, data in inputs.values())
    return inputs


def test_a_100_byte_file_never_takes_a_megabyte():
    environment = {**os.environ, **NO_HOARD, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(PROBE)]
    done = subprocess.run(command, input=pickle.dumps(hostile()), check=True, stdout=subprocess.PIPE, env=environment)
    found = json.loads(done.stdout)
    assert len(found) > 50
    for name, (taken, seconds, outcome) in found.items():
        assert taken < MB, f"{name}: {taken / MB:.1f} MB"
        assert seconds < 2, f"{name}: {seconds:.1f} s"
        assert outcome != "accepted" or name.endswith("info"), name


def test_json_is_no_larger_than_its_bytes_justify():
    bombs = [zstandard.ZstdCompressor(write_checksum=True).compress(b" " * size + b"0") for size in (1 << 20, 1 << 24)]
    for data in bombs:
        assert len(data) < 3000
        with pytest.raises(szdnn.Error):
            skeleton.unpack(data)
    tracemalloc.start()
    with pytest.raises(szdnn.Error):
        skeleton.unpack(bombs[1])
    assert tracemalloc.get_traced_memory()[1] < MB
    tracemalloc.stop()


@pytest.mark.parametrize("state", [[0] * 3_000_000, ["x" * 100] * 100_000, {"a": [[]] * 500_000}, "y" * 2_000_000])
def test_repetitive_states_are_kept_all_the_same(state):
    data = szdnn.dumps({"state": state}, szdnn.Lossless())
    assert szdnn.loads(data) == {"state": state}


def test_max_bytes_holds_for_what_is_not_a_tensor():
    text = szdnn.dumps({"text": "x" * 3_000_000}, szdnn.Lossless())
    assert szdnn.loads(text, max_bytes=4_000_000)["text"] == "x" * 3_000_000
    with pytest.raises(szdnn.LimitError, match="JSON"):
        szdnn.loads(text, max_bytes=1000)
    with pytest.raises(szdnn.LimitError, match="JSON"):
        Archive(text, max_bytes=1000)


def test_max_bytes_of_load_open_and_verify(tmp_path):
    path = tmp_path / "x.szd.safetensors"
    szdnn.save(path, {"w": corpus.cast(corpus.bell(1, 5000), "float32"), "n": 1}, szdnn.Rel(1e-2))
    assert szdnn.verify(path, max_bytes=20_000).ok
    for use in (szdnn.verify, szdnn.load):
        with pytest.raises(szdnn.LimitError):
            use(path, max_bytes=19_999)
    with szdnn.open(path, max_bytes=19_999) as archive, pytest.raises(szdnn.LimitError):
        archive["w"]
