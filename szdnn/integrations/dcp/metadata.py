"""The metadata file of a distributed checkpoint: two lines of JSON, a seal and the content.

The seal gives format, version, length and SHA-256 of the content. The content names the ranks' files and tells for
each item either its value or dtype, shape and chunks, each chunk with its place in a rank's archive and the CRC-32C of
its frame. What is read is taken for hostile: every field is checked before anything is opened or allocated.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from ...errors import CorruptFrame, UnsupportedFrame
from ...source import Json

NAME = "szdnn.dcp.json"
FORMAT = "szdnn.dcp"
VERSION = 0
MAX_DIMENSIONS = 64
MAX_BYTES = 1 << 60
MAX_LIST = 1 << 20
"""Items a list in the nested state may have."""
RANK_FILE = re.compile(r"rank-[0-9]{5,9}-[0-9a-f]{16}\.szd\.safetensors")
TEMPORARY = re.compile(r"\.(rank-|szdnn\.dcp\.json).*\.tmp")
"""What a save that was killed may leave behind (see szdnn.archive.atomic_file)."""
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32,
        torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
        torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the frame of a chunk lies, and what it must be: dtype (as torch spells it), shape, length, CRC-32C."""

    file: str
    entry: str
    dtype: str
    shape: tuple[int, ...]
    length: int
    crc: int


def encode(metadata: Metadata, places: dict[MetadataIndex, Place], values: dict[str, Json], generations: int) -> bytes:
    """The metadata file of a checkpoint, from torch's metadata, the frames' places and the other items' values."""
    items: dict[str, Json] = {}
    for name, found in metadata.state_dict_metadata.items():
        item: dict[str, Json] = {"path": list((metadata.planner_data or {}).get(name, (name,)))}
        if isinstance(found, TensorStorageMetadata):
            item |= {"dtype": str(found.properties.dtype).removeprefix("torch."), "shape": list(found.size)}
            item["chunks"] = [_encode_chunk(name, chunk, places) for chunk in found.chunks if chunk.sizes.numel()]
        else:
            item["value"] = values[name]
        items[name] = item
    content = json.dumps({"generations": generations, "items": items}, separators=(",", ":"), allow_nan=False).encode()
    digest = hashlib.sha256(content).hexdigest()
    seal = {"format": FORMAT, "version": VERSION, "bytes": len(content), "sha256": digest}
    return json.dumps(seal).encode() + b"\n" + content + b"\n"


def _encode_chunk(name: str, chunk: ChunkStorageMetadata, places: dict[MetadataIndex, Place]) -> Json:
    place = places[MetadataIndex(name, chunk.offsets)]
    return {
        "offset": list(chunk.offsets), "shape": list(chunk.sizes),
        "file": place.file, "entry": place.entry, "bytes": place.length, "crc32c": place.crc,
    }  # fmt: skip


def decode(data: bytes) -> tuple[Metadata, int]:
    """The inverse of `encode`: torch's metadata, whose storage_data maps an index to a Place or a value's JSON; and the
    count of lossy generations.

    Raises CorruptFrame for anything that `encode` can't have made, UnsupportedFrame for a newer version.
    """
    try:
        content = json.loads(_unseal(data), parse_constant=_refuse, object_pairs_hook=_unique)
        items = _expect(content["items"], dict, "items")
        found: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
        paths, storage = {}, {}
        for name, item in items.items():
            paths[name] = _path(item["path"])
            if "value" in item:
                found[name] = BytesStorageMetadata()
                storage[MetadataIndex(name)] = item["value"]
            else:
                found[name], places = _decode_tensor(name, item)
                storage |= places
        generations: int = _expect(content["generations"], int, "the count of generations")
        return Metadata(found, planner_data=paths, storage_data=storage), generations
    except (UnsupportedFrame, CorruptFrame):
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise CorruptFrame(f"{NAME} is damaged: {error!r}") from None


def _unseal(data: bytes) -> bytes:
    first, newline, rest = data.partition(b"\n")
    seal = _expect(json.loads(first[:4096]), dict, "the seal")
    if seal.get("format") != FORMAT or not newline:
        raise ValueError("not the metadata of an szdnn checkpoint")
    if seal.get("version") != VERSION:
        raise UnsupportedFrame(f"{NAME} has version {str(seal.get('version'))[:20]}; this szdnn reads {VERSION}")
    content = rest[:-1]
    if rest[-1:] != b"\n" or len(content) != seal["bytes"]:
        raise ValueError("its length is not what it says")
    if hashlib.sha256(content).hexdigest() != seal["sha256"]:
        raise ValueError("its checksum does not match")
    return content


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands there twice")
    return fields


def _expect(value: Json, kind: type, what: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{what} is not a {kind.__name__}")
    return value


def _path(parts: Json) -> tuple[str | int, ...]:
    path = tuple(_expect(parts, list, "a path"))
    if not path or type(path[0]) is not str:
        raise ValueError(f"{path!r:.100} is not a path")
    for part in path:
        if type(part) is not str and not (type(part) is int and 0 <= part < MAX_LIST):
            raise ValueError(f"{part!r:.100} is not a part of a path")
    return path


def _integers(values: Json, what: str) -> torch.Size:
    numbers = _expect(values, list, what)
    if len(numbers) > MAX_DIMENSIONS or any(type(n) is not int or not 0 <= n <= MAX_BYTES for n in numbers):
        raise ValueError(f"{what} is {numbers!r:.100}")
    return torch.Size(numbers)


def _decode_tensor(name: str, item: Json) -> tuple[TensorStorageMetadata, dict[MetadataIndex, Place]]:
    dtype, size = DTYPES[item["dtype"]], _integers(item["shape"], f"{name}: shape")
    if math.prod(size) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"{name}: its shape is {list(size)}")
    chunks, places = [], {}
    for field in _expect(item["chunks"], list, f"{name}: chunks"):
        chunk = ChunkStorageMetadata(_integers(field["offset"], "an offset"), _integers(field["shape"], "a shape"))
        chunks.append(chunk)
        places[MetadataIndex(name, chunk.offsets)] = _place(field, item["dtype"], tuple(chunk.sizes))
    _check_cover(name, size, chunks)
    return TensorStorageMetadata(TensorProperties(dtype=dtype), size, chunks), places


def _place(field: Json, dtype: str, shape: tuple[int, ...]) -> Place:
    file = _expect(field["file"], str, "a file name")
    if not RANK_FILE.fullmatch(file):
        raise ValueError(f"{file!r:.100} is not the name of a rank's file")
    length, crc = (_expect(field[key], int, key) for key in ("bytes", "crc32c"))
    return Place(file, _expect(field["entry"], str, "an entry"), dtype, shape, length, crc)


def _check_cover(name: str, size: Sequence[int], chunks: Sequence[ChunkStorageMetadata]) -> None:
    """Refuse chunks that leave a value out, which would then stay what it was, or give one twice."""
    for chunk in chunks:
        if len(chunk.offsets) != len(size) or len(chunk.sizes) != len(size) or 0 in chunk.sizes:
            raise ValueError(f"{name}: a chunk of {list(chunk.sizes)} at {list(chunk.offsets)}")
        if any(o + n > whole for o, n, whole in zip(chunk.offsets, chunk.sizes, size, strict=True)):
            raise ValueError(f"{name}: a chunk reaches beyond the tensor")
    if sum(math.prod(chunk.sizes) for chunk in chunks) != math.prod(size):
        raise ValueError(f"{name}: the chunks do not make up the tensor")
    if any(_overlap(*pair) for pair in _neighbours(chunks)):
        raise ValueError(f"{name}: chunks overlap")


def _neighbours(chunks: Sequence[ChunkStorageMetadata]) -> Iterable[tuple[ChunkStorageMetadata, ChunkStorageMetadata]]:
    """Pairs of chunks whose extents along the axis with the most offsets meet."""
    if len(chunks) < 2:
        return
    rank = len(chunks[0].offsets)
    if rank == 0:
        yield chunks[0], chunks[1]
        return
    axis = max(range(rank), key=lambda axis: len({chunk.offsets[axis] for chunk in chunks}))
    active: list[ChunkStorageMetadata] = []
    for chunk in sorted(chunks, key=lambda chunk: chunk.offsets[axis]):
        active = [other for other in active if other.offsets[axis] + other.sizes[axis] > chunk.offsets[axis]]
        yield from ((chunk, other) for other in active)
        active.append(chunk)


def _overlap(a: ChunkStorageMetadata, b: ChunkStorageMetadata) -> bool:
    sides = zip(a.offsets, a.sizes, b.offsets, b.sizes, strict=True)
    return all(x < y + m and y < x + n for x, n, y, m in sides)
