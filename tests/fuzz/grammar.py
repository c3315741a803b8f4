"""Archives and JSON out of a fuzzer's bytes, such as nobody's writer makes but a forger may."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import numpy as np
import zstandard

import szdnn
from szdnn import archive_layout, skeleton
from szdnn.safetensors_file import parse_header

KEYS = (
    "tuple", "dict", "counter", "ordered", "attrs", "int", "float", "complex", "bytes", "bytearray", "set", "frozenset",
    "npdtype", "scalar", "tensor", "torch", "value", "array", "shape", "stride", "dtype", "offset", "kind", "parameter",
    "requires_grad", "state", "tensors", "metadata", "suffix", "plan", "generations", "header", "members", "file",
    "deflated", "version", "szdnn_plan", "default", "rules", "name", "bound", "eps", "axis",
)  # fmt: skip
WORDS = (
    "w", "b", "/", "", "float32", "bfloat16", "<f4", ">i8", "S4", "V8", "O", "torch", "numpy", "safetensors", "npy",
    "npz", ".pt", ".npy", "size", "device", "layout", "cpu", "strided", "0x1f", "7ff8000000000000", "AAAA", "00",
    "Abs", "Rel", "Lossless", "r", "__szdnn__.small", "__metadata__", "\ud800", "__class__",
)  # fmt: skip
_WORDS = zstandard.ZstdCompressionDict(skeleton.DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
NUMBERS = (0, 1, 2, 3, 4, 8, -1, 255, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, 1e308)


class Bytes:
    """A cursor over the fuzzer's bytes; zeros after their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        """How many were not taken yet."""
        return len(self._data) - self._at

    def number(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def pick(self, choices: Any) -> Any:
        """One of a sequence."""
        return choices[self.number() % len(choices)]

    def take(self, size: int) -> bytes:
        """So many bytes, or what is left."""
        self._at += size
        return self._data[self._at - size : self._at]


def node(data: Bytes, depth: int = 0) -> Any:
    """A JSON value, mostly of the keys and words that szdnn knows."""
    kind = data.number() % 16 if depth < 12 and data.left > 0 else data.number() % 5
    if kind == 0:
        return data.pick((None, True, False))
    if kind in (1, 2):
        return data.pick(NUMBERS) if kind == 1 else data.number()
    if kind in (3, 4):
        return data.pick(WORDS) if kind == 3 else data.take(data.number() % 9).decode("latin-1")
    if kind < 9:
        return [node(data, depth + 1) for _ in range(data.number() % 5)]
    return {data.pick(KEYS): node(data, depth + 1) for _ in range(1 + data.number() % 4)}


@functools.cache
def originals() -> tuple[bytes, ...]:
    """Small archives of several kinds."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(40, 50)).astype(np.float32)
    flat = {"w": weights, "b": weights[0].copy(), "half": weights.astype(np.float16), "n": np.arange(7)}
    nested = {"model": {"w": weights, 3: [weights[:2].copy(), None, (1, 2.5)]}, "step": 7, "name": "x", "raw": b"\0\1"}
    return tuple(szdnn.dumps(state, szdnn.Rel(1e-2)) for state in (flat, nested, weights, {"only": np.float64(3)}))


def edited(data: Bytes) -> bytes:
    """An original with a few bytes changed, cut or put in."""
    made = bytearray(data.pick(originals()))
    for _ in range(1 + data.number() % 6):
        at = (data.number() | data.number() << 8) % (len(made) + 1)
        how = data.number() % 4
        if how == 0:
            del made[at : at + data.number()]
        elif how == 1:
            made[at:at] = data.take(data.number() % 16)
        else:
            made[at : at + 1] = bytes([data.number()])
    return bytes(made)


def reassembled(data: Bytes) -> bytes:
    """An original with its skeleton or its index of small tensors replaced, everything about it put right."""
    original = data.pick(originals())
    header = parse_header(original[: 8 + int.from_bytes(original[:8], "little")])
    parts = {name: original[entry.start : entry.stop] for name, entry in header.entries.items()}
    how = data.number() % 3
    if how == 0 or archive_layout.SMALL not in parts:
        found = json.loads(zstandard.ZstdDecompressor(dict_data=_WORDS).decompress(parts[archive_layout.SKELETON]))
        key = data.pick(tuple(found))
        found[key] = node(data)
        parts[archive_layout.SKELETON] = packed(found)
    else:
        entry = parts[archive_layout.SMALL]
        index = packed(node(data))
        parts[archive_layout.SMALL] = (
            entry[: -4 - int.from_bytes(entry[-4:], "little")] + index + len(index).to_bytes(4, "little")
        )
    return assembled(parts)


def packed(value: Any) -> bytes:
    """JSON as szdnn packs it."""
    return zstandard.ZstdCompressor(write_checksum=True, dict_data=_WORDS).compress(json.dumps(value).encode())


def assembled(parts: dict[str, bytes]) -> bytes:
    """An archive of these entries with header and digest."""
    places, at = {}, 0
    for name, part in parts.items():
        places[name] = (at, at + len(part))
        at += len(part)
    rows = json.dumps([[name, *place] for name, place in places.items()], separators=(",", ":")).encode()
    digest = hashlib.sha256(b"".join(parts.values()) + rows).hexdigest()
    fields: dict[str, Any] = {"__metadata__": {"format": "szdnn", "version": "0", "digest": digest}}
    for name, (start, stop) in places.items():
        fields[name] = {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}
    text = json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(parts.values())
