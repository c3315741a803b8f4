"""Other projects' compressors, where they are installed: SZ3, ZFP, ZipNN, and NNCodec in an environment of its own.

They get the weight layers; all other tensors are kept losslessly. SZ3 and ZFP are given each layer's bound as eps = c
standard deviations, as szdnn's Std(c), so that equal settings mean equal bounds.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFrame
from .base import Artefact, Context, Method, State, Unavailable, artefact, register, unpack, weight_names

NNCODEC_PYTHON = "SZDNN_NNCODEC_PYTHON"
"""The environment variable that names a Python in which nncodec is installed (it needs numpy < 2 and a torch of its
own).
"""


@dataclass(frozen=True)
class BoundedPeer(Method):
    """A compressor with an absolute bound, of float32 arrays.

    std: eps in standard deviations of the layer; None for the coarsest that keeps the budget, among factors of sqrt 2.
    """

    std: float | None = None

    def fit(self, state: State, context: Context) -> Artefact:
        """Compress every weight layer."""
        if self.std is None:
            ladder = [replace(self, std=2 ** (1 - step / 2)) for step in range(24, -1, -1)]
            chosen = context.coarsest(state, ladder, lambda m: m.decode(m.fit(state, context).data))
            return chosen.fit(state, context)
        layers = {}
        for name in weight_names(state):
            value = np.ascontiguousarray(state[name], np.float32)
            eps = self.std * float(value.std(dtype=np.float64))
            if not np.isfinite(eps):
                raise Unavailable(f"{name} holds NaN or infinity, which {type(self).__name__} makes finite silently")
            layers[name] = self.compress(value, eps) if eps > 0 else value.tobytes()
        constant = [name for name in layers if layers[name] == np.asarray(state[name], np.float32).tobytes()]
        return artefact(state, layers, {"raw": constant}, details={"bound": f"Std({self.std:.4g})"})

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The streams' arrays."""
        parts = unpack(data)
        raw = set(parts.meta["raw"])
        weights = {}
        for name, blob in parts.layers.items():
            shape = parts.shapes[name]
            weights[name] = np.frombuffer(blob, np.float32) if name in raw else cls.decompress(blob, shape)
        return parts.state(weights)

    @staticmethod
    @abstractmethod
    def compress(value: NDArray[np.float32], eps: float) -> bytes:
        """One stream of one array, every error meant to be at most eps."""

    @staticmethod
    @abstractmethod
    def decompress(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
        """The array of a stream."""


@dataclass(frozen=True)
class SZ3(BoundedPeer):
    """SZ3 (Liang et al. 2023) by pysz: the smaller of its default and its mode without prediction."""

    requires: ClassVar[tuple[str, ...]] = ("pysz",)

    @staticmethod
    def compress(value: NDArray[np.float32], eps: float) -> bytes:
        """The smaller of two streams."""
        pysz = importlib.import_module("pysz")
        folded = value.reshape([n for n in value.shape if n > 1] or [1])
        folded = folded if folded.ndim <= 4 else folded.reshape(len(folded), -1)
        streams = []
        for algorithm in ("INTERP_LORENZO", "NOPRED"):
            config = pysz.szConfig()
            config.errorBoundMode = pysz.szErrorBoundMode.ABS
            config.absErrorBound = eps
            config.cmprAlgo = getattr(pysz.szAlgorithm, algorithm)
            streams.append(bytes(pysz.sz.compress(folded, config)[0].tobytes()))
        return min(streams, key=len)

    @staticmethod
    def decompress(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
        """The stream carries its own configuration."""
        folded = tuple(n for n in shape if n > 1) or (1,)
        folded = folded if len(folded) <= 4 else (folded[0], int(np.prod(folded[1:])))
        pysz = importlib.import_module("pysz")
        decoded, _ = pysz.sz.decompress(np.frombuffer(data, np.uint8), np.dtype(np.float32), folded)
        return np.asarray(decoded)


@dataclass(frozen=True)
class ZFP(BoundedPeer):
    """ZFP (Lindstrom 2014) by zfpy in its fixed-accuracy mode, on the layer's values in a row of 2-D blocks where it
    has rows.
    """

    requires: ClassVar[tuple[str, ...]] = ("zfpy",)

    @staticmethod
    def compress(value: NDArray[np.float32], eps: float) -> bytes:
        """A stream with its header."""
        zfpy = importlib.import_module("zfpy")
        return bytes(zfpy.compress_numpy(value.reshape(len(value), -1), tolerance=eps))

    @staticmethod
    def decompress(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
        """The header says the rest."""
        return np.asarray(importlib.import_module("zfpy").decompress_numpy(data))


@dataclass(frozen=True)
class ZipNN(Method):
    """ZipNN (Hershcovitch et al. 2024), lossless, of bytes of float32, float16 or bfloat16."""

    requires: ClassVar[tuple[str, ...]] = ("zipnn",)

    @staticmethod
    def _codec(dtype: str) -> Any:
        return importlib.import_module("zipnn").ZipNN(input_format="byte", bytearray_dtype=dtype, threads=1)

    def fit(self, state: State, context: Context) -> Artefact:
        """Compress every weight layer."""
        layers = {}
        for name in weight_names(state):
            kind = state[name].dtype.name
            if kind not in ("float32", "float16", "bfloat16"):
                raise Unavailable(f"{name} is {kind}, which ZipNN does not take")
            # It works in place: the bytes are a copy.
            layers[name] = bytes(self._codec(kind).compress(bytearray(np.ascontiguousarray(state[name]).tobytes())))
        return artefact(state, layers)

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The very bytes."""
        from .base import named_dtype

        parts = unpack(data)
        kinds = parts.dtypes
        return parts.state(
            {
                name: np.frombuffer(bytes(cls._codec(kinds[name]).decompress(blob)), named_dtype(kinds[name]))
                for name, blob in parts.layers.items()
            }
        )


@dataclass(frozen=True)
class NNCodec(Method):
    """NNCodec, the ISO neural network coding standard's software, by a Python of its own that $SZDNN_NNCODEC_PYTHON
    names.

    qp: its quantisation parameter (step about 2^(qp / 4)); None for the coarsest that keeps the budget. trellis:
    dependent quantisation.
    """

    qp: int | None = None
    trellis: bool = True

    def check(self) -> None:
        """Raises Unavailable when there is no such Python."""
        _nncodec_python()

    def fit(self, state: State, context: Context) -> Artefact:
        """One bitstream of all weight layers."""
        if self.qp is None:
            ladder = [replace(self, qp=qp) for qp in range(-44, -7, 2)]
            chosen = context.coarsest(state, ladder, lambda m: m.decode(m.fit(state, context).data))
            return chosen.fit(state, context)
        names = weight_names(state)
        weights = {f"w{i}": np.asarray(state[name], np.float32) for i, name in enumerate(names)}
        for name, value in zip(names, weights.values(), strict=True):
            if not np.isfinite(value).all():
                raise Unavailable(f"{name} holds NaN or infinity, which NNCodec makes finite silently")
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder, "in.npz"), **weights)  # type: ignore[arg-type]
            _run_nncodec(["encode", str(self.qp), str(int(self.trellis))], folder)
            stream = Path(folder, "stream").read_bytes()
        whole = dict.fromkeys(names, b"") | ({names[0]: stream} if names else {})
        found = artefact(state, whole, details={"qp": self.qp})
        return replace(found, layer_bytes=_shares(len(stream), {name: state[name].size for name in names}))

    @classmethod
    def decode(cls, data: bytes) -> State:
        """The bitstream's layers."""
        parts = unpack(data)
        if not parts.layers:
            return parts.state({})
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "stream").write_bytes(next(iter(parts.layers.values())))
            _run_nncodec(["decode"], folder)
            with np.load(Path(folder, "out.npz")) as file:
                return parts.state({name: file[f"w{i}"] for i, name in enumerate(parts.layers)})


def _shares(total: int, sizes: dict[str, int]) -> dict[str, int]:
    """One stream's bytes by layer, in proportion to their values: the codec does not tell them apart."""
    values = max(1, sum(sizes.values()))
    return {name: round(total * size / values) for name, size in sizes.items()}


_NNCODEC_PROGRAM = """
import sys, numpy as np
from nncodec import nn
way, folder = sys.argv[1], sys.argv[-1]
if way == "encode":
    with np.load(folder + "/in.npz") as file:
        weights = {name: np.array(file[name]) for name in file}
    settings = {"qp": int(sys.argv[2]), "use_dq": sys.argv[3] == "1", "results": folder, "verbose": False}
    stream = nn.encode(weights, settings)
    open(folder + "/stream", "wb").write(bytes(stream))
else:
    found = nn.decode(bytearray(open(folder + "/stream", "rb").read()))
    np.savez(folder + "/out.npz", **{name: np.asarray(value, np.float32) for name, value in found.items()})
"""


def _nncodec_python() -> str:
    python = os.environ.get(NNCODEC_PYTHON)
    if not python:
        raise Unavailable(f"needs nncodec in an environment of its own, whose Python ${NNCODEC_PYTHON} names")
    if not Path(python).is_file():
        raise Unavailable(f"${NNCODEC_PYTHON} names {python}, which is not there")
    return python


def _run_nncodec(arguments: list[str], folder: str) -> None:
    """Runs the program above. Raises Unavailable with its last line when it fails to encode, CorruptFrame to decode."""
    command = [_nncodec_python(), "-c", _NNCODEC_PROGRAM, *arguments, folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": ""})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise (Unavailable if arguments[0] == "encode" else CorruptFrame)(f"nncodec: {last}")


register("sz3", "SZ3, the coarsest Std bound within the budget", SZ3)
register("zfp", "ZFP, the coarsest Std bound within the budget", ZFP)
register("zipnn", "ZipNN, lossless", ZipNN)
register("nncodec", "NNCodec with dependent quantisation, the coarsest step within the budget", NNCodec)
