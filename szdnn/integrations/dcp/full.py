"""A distributed checkpoint as one state in one process, without a process group or a model to load into."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata

from ... import codec
from ...archive import Archive
from ...errors import CorruptFrame, LimitError
from ...frame_reader import naming
from ...torch_leaves import to_numpy
from ..remote import Folder
from .planner import decode_value
from .storage import StorageReader, checked_frame


def load_full(
    path: str | os.PathLike[str], *, max_bytes: int | None = None, threads: int | None = None
) -> dict[str, Any]:
    """The whole state of the checkpoint in the folder `path`, as nested dicts and lists of CPU tensors and values.

    Keys of dicts come back as strings, as torch's checkpoints have them; empty dicts are not kept.
    Raises LimitError, before anything is allocated, when the tensors together take more than `max_bytes`;
    CorruptFrame, UnsupportedFrame, ArchiveError, OSError.
    """
    reader = StorageReader(path)
    metadata = reader.read_metadata()
    tensors = {n: m for n, m in metadata.state_dict_metadata.items() if isinstance(m, TensorStorageMetadata)}
    total = sum(found.size.numel() * found.properties.dtype.itemsize for found in tensors.values())
    if max_bytes is not None and total > max_bytes:
        raise LimitError(f"{path} holds {total} bytes of tensors, more than the {max_bytes} allowed")
    archives: dict[str, Archive] = {}
    state: dict[str, Any] = {}
    try:
        for name in metadata.state_dict_metadata:
            value: object
            if name in tensors:
                with naming(name):
                    value = _tensor(reader, name, tensors[name], metadata.storage_data, archives, threads)
            else:
                value = decode_value(name, metadata.storage_data[MetadataIndex(name)])
            _put(state, metadata.planner_data[name], value)
    finally:
        for archive in archives.values():
            archive.close()
    return state


def _tensor(
    reader: StorageReader,
    name: str,
    found: TensorStorageMetadata,
    storage: dict[MetadataIndex, Any],
    archives: dict[str, Archive],
    threads: int | None,
) -> torch.Tensor:
    """One tensor, put together from its chunks."""
    try:
        tensor = torch.empty(found.size, dtype=found.properties.dtype)
    except RuntimeError as error:
        raise LimitError(f"{list(found.size)} of {found.properties.dtype} cannot be allocated: {error}") from None
    whole = to_numpy(tensor)
    for chunk in found.chunks:
        place = storage[MetadataIndex(name, chunk.offsets)]
        if place.file not in archives:
            archives[place.file] = Folder.of(reader.path).archive(place.file)
        frame = checked_frame(archives[place.file], place)
        part = tuple(slice(o, o + n) for o, n in zip(chunk.offsets, chunk.sizes, strict=True))
        view = whole[part] if part else whole
        if view.flags.c_contiguous:
            codec.decompress(frame, out=view, threads=threads)
        else:
            np.copyto(view, codec.decompress(frame, threads=threads))
    return tensor


def _put(state: dict[str, Any], path: tuple[str | int, ...], value: object) -> None:
    try:
        set_element(state, path, value)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise CorruptFrame(f"the place {path!r:.100} does not fit the others: {error!r}") from None
