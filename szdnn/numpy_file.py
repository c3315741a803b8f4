"""Reading and restoring .npy and .npz files; pickled objects are refused."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from .errors import ArchiveError, CorruptFrame
from .safetensors_file import map_bytes
from .skeleton import decode_state, entry_name
from .source import Array, Json, Source, TensorSpec, take, write_array
from .state import Rebuilder

NPY_NAME = "array"
"""The name of the only tensor of a .npy file."""
_PLAIN = frozenset("?bBhHiIlLqQefdFD")


@dataclass(frozen=True)
class NpyHeader:
    """The header of an array in .npy format: its bytes, and the dtype, memory order and shape it tells of."""

    raw: bytes
    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the codec knows the dtype; of others (strings, dates, records) the bytes are kept."""
        return self.dtype.char in _PLAIN

    @property
    def nbytes(self) -> int:
        """The bytes of the array that follow the header."""
        return TensorSpec(self.dtype, self.shape).nbytes

    @property
    def spec(self) -> TensorSpec:
        """How the tensor is read."""
        return TensorSpec(self.dtype, self.shape) if self.is_plain else TensorSpec(np.dtype(np.uint8), (self.nbytes,))

    def array(self, raw: Array) -> Array:
        """The array whose bytes are `raw`, as a view."""
        if not self.is_plain:
            return raw
        return np.require(raw.view(self.dtype).reshape(self.shape, order=self._order), requirements="A")

    def array_of(self, decoded: Array) -> Array:
        """A decoded tensor as the array that the file held; byte and memory order are the machine's."""
        return decoded if self.is_plain else decoded.view(self.dtype).reshape(self.shape)

    def write(self, file: Any, array: Array) -> None:
        """Write header and values as they stood in the source, byte order and memory order included."""
        native = self.spec.dtype.newbyteorder("=")
        if array.dtype != native or array.shape != self.spec.shape:
            raise CorruptFrame(f"holds {array.dtype} {array.shape}; the header says {native} {self.spec.shape}")
        file.write(self.raw)
        array = array.astype(self.spec.dtype, copy=False)
        write_array(file, array.T if self.fortran and self.is_plain else array)

    @property
    def _order(self) -> Any:
        return "F" if self.fortran else "C"


def read_npy_header(file: Any, where: str) -> NpyHeader:
    """Read the header of an array in .npy format. Raises ArchiveError when it is damaged or holds Python objects."""
    recorder = _Recorder(file)
    try:
        version = npy.read_magic(recorder)  # type: ignore[arg-type]
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f".npy version {version[0]}.{version[1]} is not one szdnn reads (1.0, 2.0)")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(recorder)  # type: ignore[arg-type]
    except ValueError as error:
        raise ArchiveError(f"{where}: {error}") from None
    if dtype.hasobject:
        raise ArchiveError(f"{where}: holds Python objects, which are pickled; szdnn never unpickles: convert it first")
    if any(side < 0 for side in shape):
        raise ArchiveError(f"{where}: the shape {shape} is damaged")
    return NpyHeader(bytes(recorder.seen), dtype, bool(fortran), shape)


class _Recorder:
    """A file that keeps what is read of it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seen = bytearray()

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self.seen += data
        return data


class NpySource(Source):
    """A .npy file, mapped; its only tensor is called "array"."""

    kind = "npy"
    is_model = False

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._header = read_npy_header(self._file, str(path))
            excess = path.stat().st_size - len(self._header.raw) - self._header.nbytes
            if excess:
                state = f"{excess} bytes after its array" if excess > 0 else f"{-excess} bytes too few"
                raise ArchiveError(f"{path} has {state}")
        except BaseException:
            self._file.close()
            raise
        super().__init__(path, {NPY_NAME: self._header.spec})

    def __getitem__(self, name: str) -> Array:
        self.specs[name]
        start = len(self._header.raw)
        return self._header.array(map_bytes(self._file, start, start + self._header.nbytes))

    def skeleton(self) -> dict[str, Json]:
        """See `Source.skeleton`."""
        return {"header": base64.b64encode(self._header.raw).decode()}

    def close(self) -> None:
        """See `Source.close`."""
        self._file.close()


def write_npy(file: BinaryIO, skeleton: dict[str, Json], tensors: Any) -> None:
    """Write a .npy file with the header of `skeleton` and the values of the mapping `tensors`."""
    array = take(tensors, NPY_NAME)
    if "header" in skeleton:
        _header_of(skeleton).write(file, array)
        return
    if array.dtype.isbuiltin != 1:
        raise ArchiveError(f".npy files can't hold {array.dtype}; use szdnn.decompress in Python")
    npy.write_array(file, array, allow_pickle=False)


def _header_of(fields: dict[str, Json]) -> NpyHeader:
    try:
        raw = base64.b64decode(fields["header"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"the source's header in the skeleton is damaged: {error!r}") from None
    return read_npy_header(io.BytesIO(raw), "the source's header in the skeleton")


class NpzSource(Source):
    """A .npz file; a member is read when it is asked for, under its name without ".npy"."""

    kind = "npz"
    is_model = False

    def __init__(self, path: Path) -> None:
        with _zip_errors(path):
            self._zip = zipfile.ZipFile(path)
        try:
            self._members: dict[str, tuple[zipfile.ZipInfo, NpyHeader]] = {}
            for member in self._zip.infolist():
                self._add(path, member)
        except BaseException:
            self._zip.close()
            raise
        super().__init__(path, {name: header.spec for name, (_, header) in self._members.items()})

    def _add(self, path: Path, member: zipfile.ZipInfo) -> None:
        name = entry_name(member.filename.removesuffix(".npy"))
        if not member.filename.endswith(".npy") or name in self._members:
            raise ArchiveError(f"{path}: the member {member.filename!r} is not a named array; not a plain .npz file")
        with _zip_errors(path), self._zip.open(member) as file:
            header = read_npy_header(file, f"{path}: {member.filename}")
        if header.nbytes + len(header.raw) != member.file_size:
            raise ArchiveError(f"{path}: {member.filename} is not as long as its header says")
        self._members[name] = (member, header)

    def __getitem__(self, name: str) -> Array:
        member, header = self._members[name]
        with _zip_errors(self.path), self._zip.open(member) as file:
            file.read(len(header.raw))
            data = file.read()
        if len(data) != header.nbytes:
            raise ArchiveError(f"{self.path}: {member.filename} is not as long as its header says")
        return header.array(np.frombuffer(data, np.uint8))

    def skeleton(self) -> dict[str, Json]:
        """See `Source.skeleton`."""
        return {
            "members": [
                {
                    "tensor": name,
                    "file": member.filename,
                    "deflated": member.compress_type != zipfile.ZIP_STORED,
                    "header": base64.b64encode(header.raw).decode(),
                }
                for name, (member, header) in self._members.items()
            ]
        }

    def close(self) -> None:
        """See `Source.close`."""
        self._zip.close()


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"{path} is not a whole .npz file: {error}") from None


def write_npz(file: BinaryIO, skeleton: dict[str, Json], tensors: Any) -> None:
    """Write a .npz file with the members of `skeleton` and the values of the mapping `tensors`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, filename, deflated, header in _members(skeleton):
            member = zipfile.ZipInfo(filename)
            member.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            member.external_attr = 0o600 << 16
            with archive.open(member, "w", force_zip64=True) as target:
                header.write(target, take(tensors, name))


def _members(skeleton: dict[str, Json]) -> list[tuple[str, str, bool, NpyHeader]]:
    """Tensor name, file name, whether it is deflated and header of each member of a .npz file, from its skeleton."""
    try:
        members = [(str(m["tensor"]), str(m["file"]), bool(m["deflated"]), _header_of(m)) for m in skeleton["members"]]
        names = {filename.encode() for _, filename, _, _ in members}
    except (KeyError, TypeError, UnicodeError) as error:
        raise ArchiveError(f"the list of members in the skeleton is damaged: {error!r}") from None
    if len(names) != len(members):
        raise ArchiveError("the list of members in the skeleton is damaged: a name stands there twice")
    return members


def write_numpy(file: BinaryIO, skeleton: dict[str, Json], tensors: Any) -> None:
    """Write a .npy file of a state that is an array, a .npz file of one that is a dict of arrays."""
    state = skeleton.get("state")
    if not isinstance(state, dict):
        raise ArchiveError("the skeleton is damaged: its state is not of arrays")
    if "tensor" in state:
        npy.write_array(file, _array_of(state, tensors), allow_pickle=False)
        return
    with zipfile.ZipFile(file, "w") as archive:
        for key, node in _pairs(state):
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as target:
                npy.write_array(target, _array_of(node, tensors), allow_pickle=False)


def _pairs(state: dict[str, Json]) -> list[tuple[str, Json]]:
    try:
        pairs = [(str(key), node) for key, node in state["dict" if "dict" in state else "ordered"]]
        names = {key.encode() for key, _ in pairs}
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"the skeleton is damaged: {error!r}") from None
    if len(names) != len(pairs):
        raise ArchiveError("the skeleton is damaged: a name stands there twice")
    return pairs


def _array_of(node: Json, tensors: Any) -> Array:
    """The array of a node, of one of NumPy's own dtypes."""
    array = decode_state(node, Rebuilder(tensors, "numpy").leaf)
    if not isinstance(array, np.ndarray):
        raise ArchiveError("the skeleton is damaged: its state is not of arrays")
    if array.dtype.isbuiltin not in (0, 1):
        raise ArchiveError(f".npy files can't hold {array.dtype}; use szdnn.load in Python")
    return array


def arrays_of(skeleton: dict[str, Json], tensors: Any) -> Any:
    """The array of a .npy file, the arrays of a .npz file by name, with the dtypes that their headers tell."""
    if skeleton.get("kind") == "npz":
        rows = _members(skeleton)
        return {
            filename.removesuffix(".npy"): header.array_of(take(tensors, name)) for name, filename, _, header in rows
        }
    array = take(tensors, NPY_NAME)
    return _header_of(skeleton).array_of(array) if "header" in skeleton else array
