"""Distributed checkpoints: torch.distributed.checkpoint with szdnn's frames, and without pickle.

    from szdnn.integrations import dcp

    dcp.save(state, "checkpoints/1000", szdnn.Rel(1e-4))     # on all ranks; FSDP, DTensor, plain tensors
    dcp.load(state, "checkpoints/1000")                      # in place; any number of ranks, any sharding

These are torch's own functions, given the classes here; call torch's with `storage_writer=StorageWriter(path),
planner=SavePlanner(bound)` and `storage_reader=StorageReader(path), planner=LoadPlanner()` for all their options.
Tensors are kept within the bound by the default rules of `szdnn.plan`, or by a Plan; a bound that depends on all values
(Rel, Std, PSNR) refers to the whole tensor, however it is sharded. What is not a tensor is kept as JSON.

A checkpoint is a folder. It holds, at every moment of a save, the old checkpoint or the new one; nothing in it is
executed when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from ...bounds import Bound
from ...errors import Error
from ...plan import Plan
from .full import load_full
from .planner import LoadPlanner, SavePlanner
from .storage import StorageReader, StorageWriter

__all__ = [
    "LoadPlanner",
    "SavePlanner",
    "StorageReader",
    "StorageWriter",
    "async_save",
    "load",
    "load_full",
    "save",
]

Group = torch.distributed.ProcessGroup


@contextmanager
def _plain_errors(reader: StorageReader | None = None) -> Iterator[None]:
    """Raise what went wrong on some rank as itself; torch wraps it in a CheckpointException, on all ranks."""
    try:
        yield
    except CheckpointException as error:
        if reader is not None and reader.failure is not None:
            raise reader.failure from error
        for cause, _ in error.failures.values():
            if isinstance(cause, (Error, OSError)):
                raise cause from error
        raise


def save(
    state: dict[str, Any],
    path: str | os.PathLike[str],
    bound: Bound | Plan,
    *,
    effort: int = 3,
    threads: int | None = None,
    verify: bool = True,
    generations: int = 0,
    process_group: Group | None = None,
) -> Metadata:
    """Save `state` (nested dicts and lists of tensors, DTensors, values; on all ranks) to the folder `path`.

    bound, generations, effort, threads, verify: see SavePlanner and StorageWriter. Returns torch's metadata of the
    checkpoint.

    Raises BoundError, ArchiveError (values that JSON can't carry), OSError, on all ranks whichever met it.
    """
    writer = StorageWriter(path, effort=effort, threads=threads, verify=verify)
    with _plain_errors():
        metadata = state_dict_saver.save(
            state,
            storage_writer=writer,
            planner=SavePlanner(bound, generations=generations),
            process_group=process_group,
        )
    return cast(Metadata, metadata)


def async_save(
    state: dict[str, Any],
    path: str | os.PathLike[str],
    bound: Bound | Plan,
    *,
    effort: int = 3,
    threads: int | None = None,
    verify: bool = True,
    generations: int = 0,
    process_group: Group | None = None,
    in_process: bool = False,
) -> Future[Metadata]:
    """`save` in a thread, from a copy of `state` taken before this returns. Needs a process group with a CPU backend.

    in_process: in a process of its own on each rank, which torch starts at the first such save and keeps, so that the
        loop does not share its interpreter with the save. A script needs `if __name__ == "__main__":` then. torch hands
        the state over through a pipe between the two, pickled; what is stored is not.

    The future's result() raises what `save` does, inside torch's CheckpointException.
    """
    writer = StorageWriter(path, effort=effort, threads=threads, verify=verify)
    start = cast(Callable[..., Any], state_dict_saver.async_save)
    kind = state_dict_saver.AsyncCheckpointerType
    future = start(
        state,
        storage_writer=writer,
        planner=SavePlanner(bound, generations=generations),
        process_group=process_group,
        async_checkpointer_type=kind.PROCESS if in_process else kind.THREAD,
    )
    return cast("Future[Metadata]", future)


def load(
    state: dict[str, Any],
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    allow_partial_load: bool = False,
    process_group: Group | None = None,
) -> int:
    """Load the checkpoint in the folder `path` into `state`, in place, each rank what it needs.

    `state` has the shape of what was saved, its tensors with any sharding over any number of ranks. Returns how many
    times the values have been through lossy compression: the `generations` of the next save.

    Raises CorruptFrame, UnsupportedFrame, ArchiveError, OSError on all ranks, whichever met it; `state` may then be
    filled in part. Missing items and other sizes are torch's CheckpointException.
    """
    reader = StorageReader(path, threads=threads)
    with _plain_errors(reader):
        state_dict_loader.load(
            state,
            storage_reader=reader,
            planner=LoadPlanner(allow_partial_load=allow_partial_load),
            process_group=process_group,
        )
    return reader.generations
