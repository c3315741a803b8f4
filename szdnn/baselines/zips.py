"""Lossless compressors of bytes: each weight layer on its own, all other tensors together."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from ..errors import ArgumentError, CorruptFrame
from .base import Artefact, Context, Method, State, artefact, named_dtype, register, unpack, weight_names

Bytes = Callable[[bytes], bytes]


def _shuffle(data: bytes, width: int) -> bytes:
    """First bytes of all values, then second ones, and so on; what is left over at the end stays there."""
    whole = len(data) // width * width
    planes = np.frombuffer(data[:whole], np.uint8).reshape(-1, width)
    return np.ascontiguousarray(planes.T).tobytes() + data[whole:]


def _unshuffle(data: bytes, width: int) -> bytes:
    whole = len(data) // width * width
    planes = np.frombuffer(data[:whole], np.uint8).reshape(width, -1)
    return np.ascontiguousarray(planes.T).tobytes() + data[whole:]


CODERS: dict[str, tuple[Bytes, Bytes]] = {
    "gzip": (functools.partial(gzip.compress, compresslevel=9, mtime=0), gzip.decompress),
    "bzip2": (functools.partial(bz2.compress, compresslevel=9), bz2.decompress),
    "xz": (functools.partial(lzma.compress, preset=9 | lzma.PRESET_EXTREME), lzma.decompress),
    "zstd": (
        lambda data: zstandard.ZstdCompressor(level=19).compress(data),
        lambda data: zstandard.ZstdDecompressor().decompress(data),
    ),
}
"""Name -> compress and decompress of bytes, each at its highest usual level."""


@dataclass(frozen=True)
class Zip(Method):
    """A general compressor at its highest usual level. shuffle: bytes of equal place in their values together,
    first.
    """

    coder: str = "zstd"
    shuffle: bool = False

    def fit(self, state: State, context: Context) -> Artefact:
        """Compress the bytes of every layer."""
        if self.coder not in CODERS:
            raise ArgumentError(f"no coder {self.coder!r}; there are {', '.join(CODERS)}")
        compress = CODERS[self.coder][0]

        def one(value: NDArray[Any]) -> bytes:
            data = np.ascontiguousarray(value).tobytes()
            return compress(_shuffle(data, value.itemsize) if self.shuffle else data)

        layers = {name: one(state[name]) for name in weight_names(state)}
        meta = {"coder": self.coder, "shuffle": self.shuffle}
        others = {name: [value.dtype.name, list(value.shape)] for name, value in state.items() if name not in layers}
        return artefact(state, layers, meta | {"rest": others}, pack=lambda rest: compress(_joined(rest)))

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The very bytes."""
        found: list[bytes] = []

        def keep(rest: bytes) -> State:
            found.append(rest)
            return {}

        parts = unpack(data, keep)
        decompress = CODERS[parts.meta["coder"]][1]
        try:
            rest = _split(decompress(found[0]), parts.meta["rest"])
            weights = {name: decompress(blob) for name, blob in parts.layers.items()}
        except (OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError) as error:
            raise CorruptFrame(f"damaged: {error}") from None
        parts.rest.update(rest)
        arrays = {}
        for name, raw in weights.items():
            dtype = named_dtype(parts.dtypes[name])
            arrays[name] = np.frombuffer(_unshuffle(raw, dtype.itemsize) if parts.meta["shuffle"] else raw, dtype)
        return parts.state(arrays)


def _joined(tensors: State) -> bytes:
    return b"".join(np.ascontiguousarray(value).tobytes() for value in tensors.values())


def _split(data: bytes, specs: dict[str, list[Any]]) -> State:
    tensors: State = {}
    start = 0
    for name, (kind, shape) in specs.items():
        dtype = named_dtype(kind)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        tensors[name] = np.frombuffer(data[start : start + size], dtype).reshape(shape)
        start += size
    return tensors


register("gzip", "gzip -9", functools.partial(Zip, coder="gzip"))
register("bzip2", "bzip2 -9", functools.partial(Zip, coder="bzip2"))
register("xz", "xz -9e", functools.partial(Zip, coder="xz"))
register("zstd", "zstd -19", functools.partial(Zip, coder="zstd"))
register("zstd-shuffled", "bytes shuffled, then zstd -19", functools.partial(Zip, coder="zstd", shuffle=True))
