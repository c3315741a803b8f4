"""Saving and loading whole states: save, load, open, dumps, loads, verify."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from . import files, numpy_file
from .archive import Archive
from .bases import base_for, open_base, opened_for
from .bounds import Bound
from .errors import ArchiveError, ArgumentError, LimitError
from .files import Options, SaveReport, compress_source, compress_to_bytes
from .folder import ShardedArchive, archives_in, is_folder
from .frame_reader import FrameReader
from .integrations.remote import is_remote, local_target
from .plan import Plan
from .source import Array
from .state import Framework, StateSource, array_names, rebuild_state, torch_leaves
from .tasks import Progress
from .verify import VerifyReport, original_of, verify_frames

_Frames = TypeVar("_Frames", FrameReader, Archive, ShardedArchive)


def save(
    path: Path | str,
    state: object,
    bound_or_plan: Bound | Plan,
    *,
    effort: int = 3,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    generations: int = 0,
    reference: Any = None,
) -> SaveReport:
    """Save a state in an archive; `path` is at every moment the old file or the whole new one.

    path: a file, or a URL that fsspec knows, such as s3://bucket/model.szd.safetensors (`szdnn.integrations.remote`).
    state: nested dicts, lists, tuples, sets, numbers, strings, bytes and None around torch tensors and NumPy arrays,
        such as {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}; everything comes back
        with its type. Tensors that share all their memory are stored once and share it again on loading.
    bound_or_plan: a bound for the weights, within the default rules (`szdnn.plan`), or a Plan.
    effort, threads: as for szdnn.compress.
    executor: anything with concurrent.futures' submit(function, *args) -> future; it compresses several tensors at a
        time. None: threads of this process. The bytes do not depend on it.
    progress: called after each tensor with its name and uncompressed bytes.
    verify: decode each frame and compare it before the file takes its name.
    generations: how many times the values have been through lossy compression before; the archive counts one more if
        anything in it is lossy.
    reference: a state of which this one is a later or an altered version: the path of a file (compressed or not), a
        folder or index of shards, an open archive, or a state in memory. Tensors of the same name and shape are then
        kept as differences to its, where that is smaller. Loading needs it again: the archive names the file, as seen
        from its own folder, and the digests of what it holds. Bounds are kept against `state` all the same.

    Raises ArchiveError naming what in the state can't be kept, BoundError, ArgumentError, OSError; the old file is
    then as it was, and nothing else is left behind.
    """
    final = None if is_remote(path) else Path(path)
    with StateSource(state) as source, opened_for(reference, final) as base, local_target(path) as target:
        return compress_source(
            source, target, _plan(bound_or_plan), effort=effort, threads=threads, verify=verify, progress=progress,
            executor=executor, generations=generations, reference=base,
        )  # fmt: skip


def dumps(
    state: object,
    bound_or_plan: Bound | Plan,
    *,
    effort: int = 3,
    threads: int | None = None,
    verify: bool = True,
    generations: int = 0,
    reference: Any = None,
) -> bytes:
    """The archive that `save` writes, as bytes: a message, such as one update in federated learning.

    Never longer than the file. Raises as `save` does.
    """
    with StateSource(state) as source, opened_for(reference, None) as base:
        options = Options(effort, threads, verify)
        return compress_to_bytes(source, _plan(bound_or_plan), options, generations, base)


def _plan(bound_or_plan: Bound | Plan) -> Plan:
    return Plan.of(bound_or_plan)


def open(
    path: Path | str, *, reference: Any = None, max_bytes: int | None = None, threads: int | None = None
) -> FrameReader | Archive | ShardedArchive:
    """Open an archive, a bare frame, or a sharded checkpoint's folder or index, as a lazy mapping: name -> array.

    The archive may be at a URL that fsspec knows; then only what is asked for is fetched.

    A tensor is read, checked and decoded when it is asked for; `.read(name, slices)` decodes the blocks of a part,
    `.info(name)` tells of its frame, `.specs` of all dtypes and shapes. Use it as a context manager.
    reference: what an archive of differences was saved with, as for `save`; without it, the file that the archive names
        is looked for, from its own folder on, and so on through a chain. It is opened once it is needed; reading a
        tensor raises ReferenceMismatch where it is missing or another.
    max_bytes: tensors of more bytes are LimitError before they are decoded.

    Raises ArchiveError, CorruptFrame or UnsupportedFrame when this is not a whole archive, OSError.
    """
    if not is_remote(path) and is_folder(Path(path)):
        return _with_base(ShardedArchive(Path(path), max_bytes=max_bytes, threads=threads), reference)
    return _with_base(files.open_frames(path, max_bytes=max_bytes, threads=threads), reference)


def _with_base(frames: _Frames, reference: Any) -> _Frames:
    """An archive that takes `reference` for what it holds differences to."""
    if reference is not None:
        try:
            frames.set_reference(open_base(reference))
        except BaseException:
            frames.close()
            raise
    return frames


def load(
    path: Path | str,
    *,
    names: str | Iterable[str] | None = None,
    framework: Framework = "auto",
    reference: Any = None,
    max_bytes: int | None = None,
    threads: int | None = None,
) -> Any:
    """Load the state in an archive, a bare frame, or a sharded checkpoint's folder or index. Nothing is unpickled.

    names: only the tensors of these names, or globs over names, as a dict from name to tensor.
    framework: "auto": what was saved, torch tensors on the CPU and NumPy arrays (of .safetensors files: torch tensors
        if they were written by torch and torch is there); "torch" or "numpy": all as that.
    reference: what an archive of differences was saved with, as for `open`; a chain in one folder is found without.
    max_bytes: refuse a larger state, counted in its tensors' bytes, before anything is decoded.

    Raises ArchiveError, CorruptFrame, UnsupportedFrame, LimitError, OSError, ArgumentError, and ReferenceMismatch where
    the reference is missing or another one.
    """
    _check_framework(framework)
    with open(path, reference=reference, max_bytes=max_bytes, threads=threads) as frames:
        if isinstance(frames, ShardedArchive):
            return _load_shards(frames, names, framework, max_bytes)
        return _load(frames, names, framework, max_bytes)


def loads(
    data: bytes | bytearray | memoryview,
    *,
    names: str | Iterable[str] | None = None,
    framework: Framework = "auto",
    reference: Any = None,
    max_bytes: int | None = None,
    threads: int | None = None,
) -> Any:
    """The state in the bytes of an archive; see `load`."""
    _check_framework(framework)
    with _with_base(Archive(memoryview(data), max_bytes=max_bytes, threads=threads), reference) as archive:
        return _load(archive, names, framework, max_bytes)


def _check_framework(framework: str) -> None:
    if framework not in ("auto", "torch", "numpy"):
        raise ArgumentError(f'framework must be "auto", "torch" or "numpy", not {framework!r}')


def _load(frames: FrameReader, names: str | Iterable[str] | None, framework: Framework, max_bytes: int | None) -> Any:
    if names is not None:
        chosen = _chosen(frames, names)
        _check_size(sum(frames.specs[name].nbytes for name in chosen), max_bytes)
        arrays = array_names(frames.skeleton.get("state")) if framework == "auto" else frozenset()
        wanted = _framework_of(frames, framework)
        return {name: _as(frames[name], "numpy" if name in arrays else wanted) for name in chosen}
    _check_size(frames.raw_bytes, max_bytes)
    kind = frames.skeleton.get("kind")
    if kind in ("torch", "numpy"):
        return rebuild_state(frames.skeleton, frames, framework, max_bytes)
    if kind in ("npy", "npz"):
        found = numpy_file.arrays_of(frames.skeleton, frames)
        wanted = "torch" if framework == "torch" else "numpy"
        return _as(found, wanted) if kind == "npy" else {name: _as(a, wanted) for name, a in found.items()}
    wanted = _framework_of(frames, framework)
    return {name: _as(frames[name], wanted) for name in frames}


def _check_size(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise LimitError(f"this takes {size} bytes, more than max_bytes={max_bytes}")


def _chosen(tensors: Mapping[str, Array], names: str | Iterable[str]) -> list[str]:
    """The names asked for, in the archive's order. Raises ArchiveError for what fits none."""
    patterns = [names] if isinstance(names, str) else list(names)
    found: set[str] = set()
    for pattern in patterns:
        fitting = [pattern] if pattern in tensors else fnmatch.filter(tensors, pattern)
        if not fitting:
            raise ArchiveError(f"there is no tensor {pattern!r}")
        found.update(fitting)
    return [name for name in tensors if name in found]


def _framework_of(frames: FrameReader, framework: Framework) -> Framework:
    """What "auto" means for tensors that are not told apart one by one."""
    if framework != "auto":
        return framework
    kind, by = frames.skeleton.get("kind"), frames.metadata.get("format")
    is_torch = kind == "torch" or (kind == "safetensors" and by == "pt" and importlib.util.find_spec("torch"))
    return "torch" if is_torch else "numpy"


def _as(array: Any, framework: Framework) -> Any:
    if framework == "torch" and isinstance(array, np.ndarray) and torch_leaves().fits(array.dtype):
        return torch_leaves().to_torch(array)
    return array


def _load_shards(
    archive: ShardedArchive, names: str | Iterable[str] | None, framework: Framework, max_bytes: int | None
) -> dict[str, Any]:
    chosen = list(archive) if names is None else _chosen(archive, names)
    _check_size(sum(archive.specs[name].nbytes for name in chosen), max_bytes)
    by_shard = {id(shard): _framework_of(shard, framework) for shard in archive.archives.values()}
    return {name: _as(archive[name], by_shard[id(archive.shard(name))]) for name in chosen}


def verify(
    path: Path | str,
    original: object = None,
    *,
    reference: Any = None,
    max_bytes: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check an archive, frame or folder of archives: every checksum and the digest, by decoding all of it.

    original: the path of the file it was made of, or the state itself; then every value is checked against its bound,
        in exact arithmetic, and all else for equality. Not for folders.
    reference: what an archive of differences was saved with, as for `open`.
    max_bytes: refuse, before anything is decoded, a file with a tensor of more bytes.

    Returns a report whose `ok` and `errors` tell what was found. Raises ArchiveError, CorruptFrame, UnsupportedFrame,
    LimitError or OSError for what can't be opened.
    """
    if not is_remote(path) and is_folder(Path(path)):
        if original is not None:
            raise ArgumentError("a folder can't be compared with an original as a whole; verify its files")
        return _verify_folder(Path(path), reference, max_bytes, threads, progress)
    with _with_base(files.open_frames(path, max_bytes=max_bytes, threads=threads), reference) as frames:
        _check_size(max((spec.nbytes for spec in frames.specs.values()), default=0), max_bytes)
        if original is None:
            return verify_frames(frames, None, progress)
        with original_of(original) as source:
            return verify_frames(frames, source, progress)


def _verify_folder(
    path: Path, reference: Any, max_bytes: int | None, threads: int | None, progress: Progress | None
) -> VerifyReport:
    reports = {
        file.name: verify(
            file, reference=base_for(file.name, reference), max_bytes=max_bytes, threads=threads, progress=progress
        )
        for file in archives_in(path)
    }
    return VerifyReport(
        tuple(tensor for report in reports.values() for tensor in report.tensors),
        {f"{name}: {key}": error for name, report in reports.items() for key, error in report.errors.items()},
        sum(report.archive_bytes for report in reports.values()),
        sum(report.seconds for report in reports.values()),
    )
