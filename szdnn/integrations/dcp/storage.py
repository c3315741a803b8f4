"""Storage of distributed checkpoints: a folder with one archive a rank and one metadata file.

    rank-00000-<save>.szd.safetensors    the frames of the tensors and shards that rank 0 wrote
    rank-00001-<save>.szd.safetensors
    szdnn.dcp.json                       all else, and where everything is (see `metadata`)

<save> is drawn anew for each save, and the metadata is written last; so a folder that is saved to again holds at every
moment the old checkpoint or the new one. Files of older saves go when the new one is complete.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint import storage as interface
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    ReadItem,
    SavePlan,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner import LoadPlanner as AnyLoadPlanner
from torch.distributed.checkpoint.planner import SavePlanner as AnySavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from ... import _native, codec
from ...archive import Archive
from ...archive_writer import ArchiveWriter
from ...arrays import as_array
from ...atomic import atomic_file
from ...errors import ArchiveError, ArgumentError, BoundError, CorruptFrame, Error
from ...frame_reader import naming
from ...skeleton import entry_name
from ...source import Json, TensorSpec
from ...torch_leaves import to_numpy, to_torch
from ..remote import Folder, Url, local_target, place_of
from . import metadata as files
from .metadata import Place
from .planner import LoadPlanner, SavePlanner

CheckpointId = str | os.PathLike[str]


def _done(value: Any) -> Any:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _is_folder(checkpoint_id: CheckpointId) -> bool:
    path = place_of(checkpoint_id)
    return isinstance(path, Url) or path.is_dir() or not path.exists()


def _holds_checkpoint(checkpoint_id: CheckpointId) -> bool:
    try:
        return bool(Folder.of(checkpoint_id).read(files.NAME))
    except (Error, OSError):
        return False


class StorageWriter(interface.StorageWriter):
    """Writes a distributed checkpoint to the folder `path`, which all ranks share, or that URL. Needs `SavePlanner`.

    effort, threads: as in szdnn.compress.
    verify: decode each frame and compare it with the original before it is written.

    Raises BoundError where a bound can't be met, ArchiveError, OSError; the folder then holds the checkpoint it held.
    """

    def __init__(self, path: CheckpointId, *, effort: int = 3, threads: int | None = None, verify: bool = True) -> None:
        self.path = place_of(path)
        self._effort, self._threads, self._verify = effort, threads, verify
        self._generations = 0

    @property
    def checkpoint_id(self) -> str:
        """The folder, by the name torch's logging knows it."""
        return str(self.path)

    def reset(self, checkpoint_id: CheckpointId | None = None) -> None:
        """Begin a new checkpoint, in another folder if one is given."""
        if checkpoint_id is not None:
            self.path = place_of(checkpoint_id)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Raises ArgumentError for use_collectives=False, which has every rank write metadata of its own."""
        if kwargs.get("use_collectives") is False:
            raise ArgumentError("szdnn writes one checkpoint of all ranks together; leave use_collectives at True")
        Folder.of(self.path).make()

    def storage_meta(self) -> StorageMeta:
        """See torch's StorageWriter."""
        return StorageMeta(checkpoint_id=self.checkpoint_id)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """See torch's StorageWriter."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Give each rank the name of its file."""
        save = secrets.token_hex(8)
        names = (f"rank-{rank:05d}-{save}.szd.safetensors" for rank in range(len(plans)))
        return [replace(plan, storage_data=name) for plan, name in zip(plans, names, strict=True)]

    def write_data(self, plan: SavePlan, planner: AnySavePlanner) -> Any:
        """Compress this rank's part. Raises ArgumentError with any planner but szdnn's."""
        if not isinstance(planner, SavePlanner):
            raise ArgumentError("szdnn's StorageWriter needs planner=szdnn.integrations.dcp.SavePlanner(bound)")
        self._generations = planner.generations_after
        results: list[WriteResult] = []
        tensors: dict[str, WriteItem] = {}
        for item in plan.items:
            if item.type is WriteItemType.BYTE_IO:
                value = planner.resolve_data(item)
                assert isinstance(value, io.BytesIO)
                results.append(WriteResult(item.index, len(value.getvalue()), json.loads(value.getvalue())))
            elif item.tensor_data is not None and item.tensor_data.chunk.sizes.numel():
                tensors[_entry(item, tensors)] = item
        if tensors:
            results += self._write_archive(plan.storage_data, tensors, planner)
        return _done(results)

    def _write_archive(self, name: str, tensors: dict[str, WriteItem], planner: SavePlanner) -> list[WriteResult]:
        specs = {entry: _spec(item) for entry, item in tensors.items()}
        state = {"dict": [[entry, {"tensor": entry}] for entry in tensors]}
        skeleton = {"kind": "torch", "suffix": ".pt", "generations": self._generations, "state": state}
        results = []
        with local_target(Folder.of(self.path).file(name)) as local, atomic_file(local) as file:
            archive = ArchiveWriter(file, specs, (), skeleton, {})
            for entry, item in tensors.items():
                with naming(item.index.fqn):
                    frame = self._compress(item, planner)
                archive.add(entry, frame)
                results.append(WriteResult(item.index, len(frame), _place(name, entry, item, frame)))
            archive.finish()
        return results

    def _compress(self, item: WriteItem, planner: SavePlanner) -> bytes:
        values = as_array(planner.resolve_data(item))
        frame = bytes(codec.compress(values, planner.bound_of(item), effort=self._effort, threads=self._threads))
        if self._verify:
            decoded = codec.decompress(frame, threads=self._threads)
            found = codec.compare(values, decoded, codec.info(frame))
            if found.violations:
                raise BoundError(f"{found.violations} values came back beyond the bound: a bug in szdnn, please report")
        return frame

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the metadata, which makes the checkpoint; then remove the files of the one it replaces."""
        places: dict[MetadataIndex, Place] = {}
        values: dict[str, Json] = {}
        for result in (result for rank in results for result in rank):
            if isinstance(result.storage_data, Place):
                places[result.index] = result.storage_data
            else:
                values[result.index.fqn] = result.storage_data
        folder = Folder.of(self.path)
        with local_target(folder.file(files.NAME)) as local, atomic_file(local) as file:
            file.write(files.encode(metadata, places, values, self._generations))
        used = {place.file for place in places.values()}
        for old in folder.files():
            if old.name not in used and (files.RANK_FILE.fullmatch(old.name) or files.TEMPORARY.fullmatch(old.name)):
                folder.remove(old.name)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: CheckpointId) -> bool:
        """Whether it is a folder, or could become one."""
        return _is_folder(checkpoint_id)


def _entry(item: WriteItem, taken: Iterable[str]) -> str:
    """A name for an item in its rank's archive: that of the tensor, with the place of the shard if it is one."""
    data = item.tensor_data
    assert data is not None
    name = entry_name(item.index.fqn)
    if data.chunk.sizes != data.size:
        sides = zip(data.chunk.offsets, data.chunk.sizes, strict=True)
        name += "[" + ", ".join(f"{offset}:{offset + size}" for offset, size in sides) + "]"
    while name in taken:
        name += "'"
    return name


def _spec(item: WriteItem) -> TensorSpec:
    assert item.tensor_data is not None
    dtype = as_array(torch.empty(0, dtype=item.tensor_data.properties.dtype)).dtype
    return TensorSpec(dtype, tuple(item.tensor_data.chunk.sizes))


def _place(file: str, entry: str, item: WriteItem, frame: bytes) -> Place:
    data = item.tensor_data
    assert data is not None
    dtype = str(data.properties.dtype).removeprefix("torch.")
    crc = frame_crc(np.frombuffer(frame, np.uint8))
    return Place(file, entry, dtype, tuple(data.chunk.sizes), len(frame), crc)


def frame_crc(frame: Any) -> int:
    """A checksum that tells frames apart: of all but the last four bytes. Those of a small frame are its own CRC, with
    which the CRC of every such frame would be the same."""
    return _native.crc32c(frame[:-4])


class StorageReader(interface.StorageReader):
    """Reads a distributed checkpoint from the folder `path`, decoding only what each rank needs. Needs `LoadPlanner`.

    Raises CorruptFrame and ArchiveError for damage, as CheckpointException on all ranks where torch calls it; the state
    that is loaded into may then be filled in part.
    """

    def __init__(self, path: CheckpointId, *, threads: int | None = None) -> None:
        self.path = place_of(path)
        self.failure: Exception | None = None
        self.generations = 0
        """How many times the values have been through lossy compression; known once the metadata is read."""
        self._threads = threads
        self._storage: dict[MetadataIndex, Any] = {}

    @property
    def checkpoint_id(self) -> str:
        """The folder, by the name torch's logging knows it."""
        return str(self.path)

    def reset(self, checkpoint_id: CheckpointId | None = None) -> None:
        """Begin to read another checkpoint, from another folder if one is given."""
        self._storage = {}
        if checkpoint_id is not None:
            self.path = place_of(checkpoint_id)

    def read_metadata(self) -> Metadata:
        """What the checkpoint holds, every field checked. Raises ArchiveError where there is none.

        The error stays in `failure`, since torch makes an AssertionError of it.
        """
        try:
            metadata, self.generations = files.decode(Folder.of(self.path).read(files.NAME))
            return metadata
        except FileNotFoundError:
            what = f"{self.path} holds no complete szdnn checkpoint: there is no {files.NAME}"
            self.failure = ArchiveError(what)
            raise self.failure from None
        except Exception as error:
            self.failure = error
            raise

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Keep the places of the frames."""
        self._storage = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """See torch's StorageReader."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """See torch's StorageReader."""
        return plans

    def read_data(self, plan: LoadPlan, planner: AnyLoadPlanner) -> Any:
        """Read what this rank needs. Raises ArgumentError with any planner but szdnn's, since torch's unpickles."""
        if not isinstance(planner, LoadPlanner):
            raise ArgumentError("szdnn's StorageReader needs planner=szdnn.integrations.dcp.LoadPlanner()")
        by_file: dict[str, dict[MetadataIndex, list[ReadItem]]] = {}
        for item in plan.items:
            if item.type is LoadItemType.BYTE_IO:
                planner.load_bytes(item, io.BytesIO(json.dumps(self._storage[item.storage_index]).encode()))
            else:
                place = self._storage[item.storage_index]
                by_file.setdefault(place.file, {}).setdefault(item.storage_index, []).append(item)
        for file, frames in by_file.items():
            with Folder.of(self.path).archive(file) as archive:
                for index, items in frames.items():
                    with naming(index.fqn):
                        frame = checked_frame(archive, self._storage[index])
                        for item in items:
                            self._read(frame, item, planner)
        return _done(None)

    def _read(self, frame: Any, item: ReadItem, planner: LoadPlanner) -> None:
        target = planner.resolve_tensor(item).detach()
        place: Place = self._storage[item.storage_index]
        is_whole = tuple(item.lengths) == place.shape and str(target.dtype) == f"torch.{place.dtype}"
        if is_whole and target.is_contiguous() and target.device.type == "cpu":
            codec.decompress(frame, out=to_numpy(target), threads=self._threads)
        else:
            corners = zip(item.storage_offsets, item.lengths, strict=True)
            part = tuple(slice(offset, offset + length) for offset, length in corners)
            values = codec.read(frame, part, threads=self._threads)
            target.copy_(to_torch(np.ascontiguousarray(values)).reshape(target.shape))
        planner.commit_tensor(item, target)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: CheckpointId) -> bool:
        """Whether it is a folder with a checkpoint of szdnn's."""
        return _is_folder(checkpoint_id) and _holds_checkpoint(checkpoint_id)


def checked_frame(archive: Archive, place: Place) -> Any:
    """The frame at a place, its length and checksum compared. Raises CorruptFrame."""
    if place.entry not in archive:
        raise CorruptFrame(f"{archive.path} has no entry {place.entry!r}")
    frame = archive.frame(place.entry)
    if frame.size != place.length or frame_crc(frame) != place.crc:
        raise CorruptFrame(f"{archive.path}: the frame is not the one that the metadata tells of")
    info = codec.info(frame)
    if info.shape != place.shape or info.dtype.name != place.dtype:
        raise CorruptFrame(f"the frame holds {info.dtype}{list(info.shape)}, not {place.dtype}{list(place.shape)}")
    return frame
