"""Opening and restoring checkpoints and arrays of any supported type, told apart by their content."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from .errors import ArchiveError, UnsupportedFrame
from .numpy_file import NpySource, NpzSource, write_npy, write_npz, write_numpy
from .safetensors_file import SafetensorsSource, write_safetensors
from .source import Array, Json, Source

Writer = Callable[[BinaryIO, dict[str, Json], Mapping[str, Array]], None]

FRAME_MAGIC, SMALL_FRAME_MAGIC = b"\xf5SZD", b"\xf5s\0"
SUFFIXES = {
    ".safetensors": "safetensors",
    ".npy": "npy",
    ".npz": "npz",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
}
_DEFAULT_SUFFIX = {"safetensors": ".safetensors", "npy": ".npy", "npz": ".npz", "torch": ".pt", "frame": ".szd"}


def file_kind(path: Path) -> str:
    """What a file is: "safetensors", "npy", "npz", "torch" or "frame"; by its content first, then by its suffix.

    Raises ArchiveError when it is none of them, OSError when it can't be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
    # The length of a .safetensors header may begin as a small frame does: such a frame would be of under nine bytes.
    small = head.startswith(SMALL_FRAME_MAGIC) and int.from_bytes(head[3:5], "little") > 8
    if head.startswith(FRAME_MAGIC) or small:
        return "frame"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(path)
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= 100_000_000:
        return "safetensors"
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ArchiveError(f"{path} is not a file szdnn reads ({' '.join(SUFFIXES)})")
    return kind


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return SUFFIXES.get(path.suffix.lower(), "npz")  # whose reader tells what is wrong with it
    return "torch" if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names) else "npz"


def open_source(path: Path | str) -> Source:
    """Open a .safetensors, .npy, .npz or torch file as a lazy mapping from tensor name to array.

    Raises ArchiveError when it is none of them, damaged, or holds what szdnn can't keep; OSError when it can't be read.
    Nothing in the file is executed.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "frame":
        raise ArchiveError(f"{path} is an szdnn frame already; decompress it first")
    if kind == "torch":
        from .torch_file import TorchSource

        return TorchSource(path)
    readers: dict[str, type[NpySource | NpzSource | SafetensorsSource]]
    readers = {"safetensors": SafetensorsSource, "npy": NpySource, "npz": NpzSource}
    return readers[kind](path)


def source_writer(skeleton: dict[str, Json]) -> Writer:
    """The function that writes the type of file whose skeleton this is: `writer(file, skeleton, tensors)`.

    It raises ArchiveError or CorruptFrame when skeleton and tensors don't fit together. Raises UnsupportedFrame for a
    type unknown here, ArchiveError where torch is needed and missing.
    """
    kind = skeleton.get("kind")
    if kind == "torch":
        from .torch_file import write_torch

        return write_torch
    writers: dict[str, Writer] = {
        "safetensors": write_safetensors,
        "npy": write_npy,
        "npz": write_npz,
        "numpy": write_numpy,
    }
    if not isinstance(kind, str) or kind not in writers:
        raise UnsupportedFrame(f"the source is of the kind {kind!r}, which this szdnn can't write")
    return writers[kind]


def source_suffix(source: Source) -> str:
    """The suffix of a source's name, or that of its kind where the name has none of a supported type."""
    suffix = source.path.suffix
    return suffix if SUFFIXES.get(suffix.lower()) else _DEFAULT_SUFFIX[source.kind]


def restored_suffix(skeleton: dict[str, Json]) -> str:
    """The suffix a restored file gets. Raises ArchiveError for one that no source has."""
    suffix = skeleton.get("suffix")
    if not isinstance(suffix, str) or suffix.lower() not in SUFFIXES:
        raise ArchiveError(f"the skeleton is damaged: the suffix {suffix!r}")
    return suffix
