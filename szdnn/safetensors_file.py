"""Reading and restoring .safetensors files, header and layout byte for byte."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from . import skeleton as skeletons
from .errors import ArchiveError, CorruptFrame
from .skeleton import RESERVED_PREFIX
from .source import Array, Json, Source, TensorSpec, take, write_array

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(scalar)
    for name, scalar in {
        "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
        "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
        "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E8M0": ml_dtypes.float8_e8m0fnu, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    }.items()
}  # fmt: skip
"""NumPy's dtype for each of safetensors' that takes whole bytes; of the others the bytes are kept."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a .safetensors file: its dtype as spelled there, shape, and first and last byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def spec(self) -> TensorSpec:
        """How the tensor is read: its own dtype and shape, or as bytes where NumPy has no such dtype."""
        if self.dtype in DTYPES:
            return TensorSpec(DTYPES[self.dtype], self.shape)
        return TensorSpec(np.dtype(np.uint8), (self.stop - self.start,))


@dataclass(frozen=True)
class Header:
    """A .safetensors header: its bytes with their length before them, the entries by offset, and the metadata."""

    raw: bytes
    entries: dict[str, Entry]
    metadata: dict[str, str]


def parse_header(raw: bytes) -> Header:
    """Read the bytes of a header that the safetensors library has accepted."""
    fields = json.loads(raw[8:], object_pairs_hook=_unique)
    metadata = fields.pop("__metadata__", None) or {}
    entries = {}
    for name, field in sorted(fields.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = (len(raw) + offset for offset in field["data_offsets"])
        entries[name] = Entry(field["dtype"], tuple(field["shape"]), start, stop)
    return Header(raw, entries, metadata)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands there twice")
    return fields


def read_header(path: Path) -> Header:
    """Check a .safetensors file with the safetensors library, then read its header.

    Raises ArchiveError when the file is not valid, OSError when it can't be read.
    """
    with path.open("rb") as file:  # before the library: its messages for folders and missing files help nobody
        try:
            with safe_open(path, "numpy"):
                pass
            raw = file.read(8)
            raw += file.read(int.from_bytes(raw, "little"))
            return parse_header(raw)
        except SafetensorError as error:
            raise ArchiveError(f"{path} is not a whole .safetensors file: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{path} is not a whole .safetensors file: header: {error!r}") from None


def header_of_file(file: BinaryIO, path: Path) -> tuple[BinaryIO, Header]:
    """The header of an open file, which is closed and opened anew where another took its place at `path` meanwhile.

    Raises as read_header does, and closes the file then.
    """
    try:
        while True:
            header = read_header(path)
            file.seek(0)
            if file.read(len(header.raw)) == header.raw:
                return file, header
            file.close()
            file = path.open("rb")
    except BaseException:
        file.close()
        raise


def check_layout(header: Header, size: int) -> None:
    """Check that entries follow each other without gaps to the end of a file of that size. Raises ValueError."""
    stop = len(header.raw)
    for name, entry in header.entries.items():
        whole = entry.dtype not in DTYPES or entry.spec.nbytes == entry.stop - entry.start
        if entry.start != stop or entry.stop < entry.start or not whole:
            raise ValueError(f"the place of {name}")
        stop = entry.stop
    if stop != size:
        raise ValueError(f"it ends at byte {size}, its last tensor at {stop}")


def canonical_header(entries: Iterable[tuple[str, str, tuple[int, ...], int]], metadata: dict[str, str]) -> bytes:
    """The header as the safetensors library writes it for (name, dtype, shape, bytes) in this order."""
    fields: dict[str, Json] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, dtype, shape, size in entries:
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def map_bytes(file: BinaryIO, start: int, stop: int) -> Array:
    """Bytes of an open file as a read-only mapped array that lets go of its pages when it is dropped."""
    if start == stop:
        return np.empty(0, np.uint8)
    if stop > os.fstat(file.fileno()).st_size:
        raise ArchiveError(f"{file.name} was cut short while it was read")
    return np.memmap(file, np.uint8, "r", start, (stop - start,))


class SafetensorsSource(Source):
    """A .safetensors file; tensors are mapped, not read, until their values are touched."""

    kind = "safetensors"

    def __init__(self, path: Path) -> None:
        self._file, self.header = header_of_file(path.open("rb"), path)
        try:
            self._refuse_archives(path)
        except ArchiveError:
            self._file.close()
            raise
        super().__init__(path, {n: e.spec for n, e in self.header.entries.items()}, self.header.metadata)

    def _refuse_archives(self, path: Path) -> None:
        if self.header.metadata.get("format") == "szdnn":
            raise ArchiveError(f"{path} is an szdnn archive already; decompress it first")
        for name in self.header.entries:
            if name.startswith(RESERVED_PREFIX):
                raise ArchiveError(f"{path} has a tensor {name!r}; names with {RESERVED_PREFIX!r} are reserved")

    def __getitem__(self, name: str) -> Array:
        entry = self.header.entries[name]
        raw = map_bytes(self._file, entry.start, entry.stop)
        return np.require(raw.view(entry.spec.dtype).reshape(entry.spec.shape), requirements="A")

    def skeleton(self) -> dict[str, Json]:
        """See `Source.skeleton`: the header's text, or nothing where it is as the library writes it."""
        if self.header.raw == _expected(self.specs, self.metadata):
            return {}
        return {"header": self.header.raw[8:].decode()}

    def close(self) -> None:
        """See `Source.close`."""
        self._file.close()


_SPELLED = {dtype.newbyteorder("="): name for name, dtype in DTYPES.items()}


def _expected(specs: Mapping[str, TensorSpec], metadata: dict[str, str]) -> bytes:
    native = {name: _SPELLED[spec.dtype.newbyteorder("=")] for name, spec in specs.items()}
    return canonical_header(((n, native[n], spec.shape, spec.nbytes) for n, spec in specs.items()), metadata)


def header_of(skeleton: dict[str, Json]) -> Header:
    """The source's header as the skeleton keeps it."""
    try:
        if "header" in skeleton:
            text = skeleton["header"].encode()
            raw = len(text).to_bytes(8, "little") + text
        else:
            raw = _expected(skeletons.specs_of(skeleton), skeleton["metadata"])
        header = parse_header(raw)
        check_layout(header, max([len(raw), *(entry.stop for entry in header.entries.values())]))
        return header
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f"the source's header in the skeleton is damaged: {error!r}") from None


def write_safetensors(file: BinaryIO, skeleton: dict[str, Json], tensors: Any) -> None:
    """Write a .safetensors file with the header of `skeleton` and the values of the mapping `tensors`."""
    header = header_of(skeleton)
    file.write(header.raw)
    for name, entry in header.entries.items():
        array, spec = take(tensors, name), entry.spec
        if array.dtype != spec.dtype or array.shape != spec.shape:
            raise CorruptFrame(f"{name}: holds {array.dtype} {array.shape}; the header says {spec.dtype} {spec.shape}")
        write_array(file, array)
        del array  # before the next one is decoded
