"""Folders of checkpoints: sharded ones with their `*.index.json`, and plain ones. Every file keeps its name.

In a compressed folder the checkpoint files are archives under the names they had, indexes are rewritten, and all other
files are copied. An index keeps its weight_map; its `total_size` counts the archives' bytes, and `szdnn` in its
metadata holds what it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import checkpoint, codec, files
from .archive import Archive
from .atomic import atomic_folder
from .bounds import Bound
from .errors import ArchiveError, CorruptFrame
from .files import LoadReport, Options, SaveReport
from .plan import Plan
from .reference import Reference
from .source import Array, Json, TensorSpec

if TYPE_CHECKING:
    from .bases import Base

INDEX_SUFFIX = ".index.json"
_FORMATS = [(indent, end) for indent in (2, 4, 1, None) for end in ("\n", "")]


@dataclass(frozen=True)
class Index:
    """A shard index: which file holds each tensor.

    text: how the JSON was written: indent and what follows it.
    """

    path: Path
    data: dict[str, Json]
    text: tuple[int | None, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a `*.index.json`. Raises ArchiveError when it is none, OSError when it can't be read."""
        text = path.read_bytes()
        try:
            data = json.loads(text)
            weights = data["weight_map"]
            plain = all(isinstance(v, str) and v == PurePath(v).name and v not in ("", "..") for v in weights.values())
            if not plain or not isinstance(data.get("metadata", {}), dict):
                raise ValueError("its weight_map names what is no file beside it")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArchiveError(f"{path} is not an index of shards: {error!r}") from None
        written = next((form for form in _FORMATS if _dump(data, form) == text), (2, "\n"))
        return cls(path, data, written)

    @property
    def weight_map(self) -> dict[str, str]:
        """File name by tensor name."""
        return dict(self.data["weight_map"])

    @property
    def shards(self) -> list[str]:
        """The files, each once, in order of their names. Raises ArchiveError where one is missing."""
        names = sorted(set(self.weight_map.values()))
        for name in names:
            if not (self.path.parent / name).is_file():
                raise ArchiveError(f"{self.path} names the shard {name}, which is not there")
        return names

    @property
    def is_compressed(self) -> bool:
        """Whether its shards are archives."""
        return "szdnn" in self.data.get("metadata", {})

    def compressed(self, total: int) -> bytes:
        """The index of the archives, `total` bytes of them."""
        metadata = dict(self.data.get("metadata", {}))
        was = {"total_size": metadata["total_size"]} if "total_size" in metadata else {}
        own = {"has_metadata": "metadata" in self.data, "indent": self.text[0], "end": self.text[1], **was}
        return _dump({**self.data, "metadata": {**metadata, "total_size": total, "szdnn": own}}, self.text)

    def restored(self) -> bytes:
        """The index as it was before `compressed`."""
        metadata = dict(self.data["metadata"])
        own = metadata.pop("szdnn")
        try:
            metadata.pop("total_size")
            if "total_size" in own:  # in its old place
                metadata = {k: own["total_size"] if k == "total_size" else v for k, v in self.data["metadata"].items()}
                metadata.pop("szdnn")
            data = {**self.data, "metadata": metadata}
            if not own["has_metadata"]:
                del data["metadata"]
            return _dump(data, (own["indent"], own["end"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{self.path}: its metadata is damaged: {error!r}") from None


def _dump(data: Json, form: tuple[int | None, str]) -> bytes:
    return (json.dumps(data, indent=form[0]) + str(form[1])).encode()


def is_folder(path: Path) -> bool:
    """Whether a path is a folder or the index of one."""
    return path.is_dir() or path.name.endswith(INDEX_SUFFIX)


@dataclass(frozen=True)
class Listing:
    """The files of a folder, or of one index, by their path in it."""

    root: Path
    indexes: dict[str, Index]
    models: list[str]
    others: list[str]

    @classmethod
    def of(cls, path: Path) -> Self:
        """List a folder with all below it, or an index with its shards. Raises ArchiveError, OSError."""
        if not path.is_dir():
            index = Index.read(path)
            return cls(path.parent, {path.name: index}, index.shards, [])
        names = sorted(_walk(path))
        indexes = {name: Index.read(path / name) for name in names if name.endswith(INDEX_SUFFIX)}
        shards = {str(PurePath(name).parent / shard) for name, index in indexes.items() for shard in index.shards}
        models = [n for n in names if n in shards or Path(n).suffix.lower() in checkpoint.SUFFIXES]
        if not models:
            raise ArchiveError(f"{path} holds no checkpoint ({' '.join(checkpoint.SUFFIXES)})")
        others = [n for n in names if n not in indexes and n not in models]
        return cls(path, indexes, models, others)

    def shards_of(self, name: str) -> list[str]:
        """The paths of an index's shards."""
        return [str(PurePath(name).parent / shard) for shard in self.indexes[name].shards]

    @property
    def all_shards(self) -> set[str]:
        """The paths of the shards of all indexes."""
        return {shard for name in self.indexes for shard in self.shards_of(name)}


def _walk(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_file():
                raise ArchiveError(f"{path} is not a regular file")
            yield path.relative_to(folder).as_posix()


@dataclass(frozen=True)
class FolderReport:
    """What became of a folder.

    files: the report of each checkpoint file by its path in the folder.
    copied: what was copied as it is, with the reason, "" for files of other types.
    """

    files: dict[str, SaveReport]
    copied: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def total(self) -> SaveReport:
        """All files as one."""
        tensors = tuple(tensor for saved in self.files.values() for tensor in saved.tensors)
        rules = [set(saved.unused_rules) for saved in self.files.values()]
        size = sum(saved.archive_bytes for saved in self.files.values())
        return SaveReport(tensors, size, self.seconds, tuple(sorted(set.intersection(*rules))) if rules else ())


def check_target(target: Path, listing: Listing) -> None:
    """Raises ArchiveError where the folder `target` is the input or in it, or holds what the new one would not."""
    if target.resolve().is_relative_to(listing.root.resolve()):
        raise ArchiveError(f"{target} is the input itself, or in it; give another folder")
    if target.is_dir():
        new = {*listing.indexes, *listing.models, *listing.others}
        lost = sorted(set(_walk(target)) - new)
        if lost:
            raise ArchiveError(f"{target} holds {lost[0]}, which the new folder would not; give another folder")


BaseOf = Callable[[str, Path], AbstractContextManager["Base | None"]]


def no_base(name: str, target: Path) -> AbstractContextManager[None]:
    """No differences."""
    return nullcontext()


def compress_folder(
    path: Path,
    target: Path,
    bound: Bound | Plan,
    options: Options | None = None,
    *,
    generations: int = 0,
    base_of: BaseOf = no_base,
) -> FolderReport:
    """Compress a folder, or the shards of an index, into a new folder that takes its place at the end.

    base_of: given a file's path in the folder and its final place, what it is to hold differences to, as a context.

    A checkpoint that is no shard and can't be read, such as a pickle of objects, is copied; a shard is ArchiveError.
    """
    start, listing, plan = time.perf_counter(), Listing.of(path), Plan.of(bound)
    reports: dict[str, SaveReport] = {}
    copied: dict[str, str] = {}
    chosen = options or Options()
    shards = listing.all_shards
    check_target(target, listing)
    with atomic_folder(target) as folder:
        for name in listing.models:
            _make_parent(folder / name)
            try:
                source = checkpoint.open_source(listing.root / name)
            except ArchiveError as error:
                if name in shards:
                    raise
                copied[name] = str(error)
                continue
            with source, base_of(name, target / name) as base:
                reports[name] = files.compress_source(
                    source, folder / name, plan, effort=chosen.effort, threads=chosen.threads, verify=chosen.verify,
                    progress=chosen.progress, executor=chosen.executor, generations=generations, reference=base,
                )  # fmt: skip
        for name, index in listing.indexes.items():
            total = sum(reports[shard].archive_bytes for shard in listing.shards_of(name))
            _write(folder / name, index.compressed(total))
        copied |= dict.fromkeys(listing.others, "")
        for name in copied:
            _copy(listing.root / name, folder / name)
    return FolderReport(reports, copied, time.perf_counter() - start)


def decompress_folder(
    path: Path,
    target: Path,
    *,
    threads: int | None = None,
    max_bytes: int | None = None,
    progress: files.Progress | None = None,
    base_of: BaseOf | None = None,
) -> LoadReport:
    """Restore a folder that `compress_folder` made, into a new folder that takes its place at the end.

    base_of: as for `compress_folder`, instead of what the archives name themselves.
    """
    start, listing = time.perf_counter(), Listing.of(path)
    check_target(target, listing)
    tensors = total = 0
    with atomic_folder(target) as folder:
        for name in listing.models:
            _make_parent(folder / name)
            if not _is_archive(listing.root / name):
                if name in listing.all_shards:
                    raise ArchiveError(f"{listing.root / name} is not an szdnn archive")
                _copy(listing.root / name, folder / name)
                continue
            with files.open_frames(listing.root / name, threads=threads) as frames, ExitStack() as stack:
                if base_of is not None:
                    frames.set_reference(stack.enter_context(base_of(name, target / name)))
                left = None if max_bytes is None else max_bytes - total
                loaded = files.decompress_frames(frames, folder / name, max_bytes=left, progress=progress)
            tensors, total = tensors + loaded.tensors, total + loaded.raw_bytes
        for name, index in listing.indexes.items():
            _write(folder / name, index.restored() if index.is_compressed else index.path.read_bytes())
        for name in listing.others:
            _copy(listing.root / name, folder / name)
    return LoadReport(tensors, total, time.perf_counter() - start)


def _is_archive(path: Path) -> bool:
    try:
        return files.is_archive(path)
    except ArchiveError:
        return False


def _make_parent(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    _make_parent(target)
    shutil.copy2(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _write(path: Path, data: bytes) -> None:
    _make_parent(path)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def archives_in(path: Path) -> list[Path]:
    """The archives of a folder or index. Raises ArchiveError when there is none."""
    listing = Listing.of(path)
    found = [listing.root / name for name in listing.models if _is_archive(listing.root / name)]
    if not found:
        raise ArchiveError(f"{path} holds no szdnn archive")
    return found


def nbytes(path: Path, size: Callable[[Path], int]) -> int:
    """The sum of `size` over the checkpoint files of a folder or index, those left out that it can't read."""
    listing, total = Listing.of(path), 0
    for name in listing.models:
        try:
            total += size(listing.root / name)
        except ArchiveError:
            continue
    return total


class ShardedArchive(Mapping[str, Array]):
    """The archives of a sharded checkpoint as one lazy mapping from tensor name to decoded array.

    Raises ArchiveError, CorruptFrame and OSError as opening each of them does, or where the index does not fit them.
    """

    def __init__(self, path: Path | str, *, max_bytes: int | None = None, threads: int | None = None) -> None:
        self.path = index_path(Path(path))
        index = Index.read(self.path)
        self.archives: dict[str, Archive] = {}
        try:
            for shard in index.shards:
                self.archives[shard] = Archive(self.path.parent / shard, max_bytes=max_bytes, threads=threads)
            self._places = {name: self.archives[shard] for name, shard in index.weight_map.items()}
            for name, archive in self._places.items():
                if name not in archive.specs:
                    raise CorruptFrame(f"{self.path}: the tensor {name!r} is not in the shard {archive.path.name}")
        except BaseException:
            self.close()
            raise

    def set_reference(self, base: Base | None) -> None:
        """As `FrameReader.set_reference`, for all shards."""
        for archive in self.archives.values():
            archive.set_reference(base)

    def parts(self, name: str) -> Reference:
        """See `FrameReader.parts`."""
        return self._places[name].parts(name)

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Each tensor's dtype and shape."""
        return {name: archive.specs[name] for name, archive in self._places.items()}

    @property
    def raw_bytes(self) -> int:
        """The bytes of all tensors once decoded."""
        return sum(spec.nbytes for spec in self.specs.values())

    def shard(self, name: str) -> Archive:
        """The archive that holds a tensor."""
        return self._places[name]

    def info(self, name: str) -> codec.FrameInfo:
        """What the frame of `name` says about itself."""
        return self._places[name].info(name)

    def read(self, name: str, slices: Any = ...) -> Array:
        """A part of a tensor by basic indexing, decoding only the blocks it touches."""
        return self._places[name].read(name, slices)

    def __getitem__(self, name: str) -> Array:
        return self._places[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Release the files."""
        for archive in self.archives.values():
            archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def index_path(path: Path) -> Path:
    """The index itself, or the only one in a folder. Raises ArchiveError where there is none or several."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{INDEX_SUFFIX}"))
    if len(found) != 1:
        raise ArchiveError(f"{path} holds {len(found)} indexes of shards; name one file in it")
    return found[0]
