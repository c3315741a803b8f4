"""Inputs and outputs of the command line: names, pipes, terminals."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import click

from . import files
from .checkpoint import restored_suffix
from .folder import is_folder as is_local_folder
from .frame_reader import FrameReader
from .integrations.remote import Url, fetched, is_remote

ARCHIVE_SUFFIX = ".szd.safetensors"
FOLDER_SUFFIX = ".szd"


class FilePath(click.Path):
    """A path or URL on the command line, as a Path or Url."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        return Url(value) if is_remote(value) else super().convert(value, param, ctx)


def is_folder(path: Path | Url) -> TypeGuard[Path]:
    """Whether a path is a local folder or the index of one."""
    return isinstance(path, Path) and not is_dash(path) and is_local_folder(path)


def is_dash(path: Path | Url | None) -> bool:
    """Whether a path stands for standard input or output."""
    return path is not None and str(path) == "-"


def folder_path(path: Path) -> Path:
    """The folder that a folder, or that of an index, is compressed into."""
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return folder.with_name(folder.name + FOLDER_SUFFIX)


def restored_folder_path(path: Path) -> Path:
    """The folder that a compressed folder, or one's index, is restored into."""
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    if folder.name.endswith(FOLDER_SUFFIX):
        return folder.with_name(folder.name.removesuffix(FOLDER_SUFFIX))
    return folder.with_name(folder.name + "-restored")


def archive_path(path: Path | Url) -> Path | Url:
    """The archive that a file is compressed into."""
    return path.with_name(path.name.removesuffix(".safetensors") + ARCHIVE_SUFFIX)


def restored_path(path: Path | Url, frames: FrameReader) -> Path | Url:
    """The file that an archive is restored into."""
    suffix = restored_suffix(frames.skeleton)
    name = path.name
    for known in (ARCHIVE_SUFFIX, ".safetensors", ".szd"):
        if name.endswith(known):
            name = name[: -len(known)]
            break
    return path.with_name(name if name.endswith(suffix) else name + suffix)


def check_target(target: Path | Url, path: Path | Url, force: bool) -> None:
    """Raises UsageError for a target that is the input, or exists and is not to be overwritten."""
    if target.exists():
        if _same(target, path):
            raise click.UsageError(f"{target} is the input itself; give another with -o")
        if not force:
            raise click.UsageError(f"{target} exists; -f overwrites it")


def _same(target: Path | Url, path: Path | Url) -> bool:
    if isinstance(target, Url) or isinstance(path, Url):
        return str(target) == str(path)
    return not is_dash(path) and path.exists() and target.samefile(path)


@contextmanager
def spooled(path: Path | Url) -> Iterator[Path]:
    """The input as a file that can be mapped: itself, or a temporary copy of standard input, a pipe or a URL."""
    if isinstance(path, Url):
        with fetched(str(path)) as copy:
            yield copy
        return
    if not (is_dash(path) or path.is_fifo()):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as file, sys.stdin.buffer if is_dash(path) else path.open("rb") as stream:
            shutil.copyfileobj(stream, file)
        yield copy


@contextmanager
def readable(path: Path | Url, whole: bool) -> Iterator[Path | str]:
    """What to open an archive by; that at a URL is fetched before only if it is needed `whole`."""
    if isinstance(path, Url) and not whole:
        yield str(path)
    else:
        with spooled(path) as file:
            yield file


def local_folder(output: Path | Url | None) -> Path | None:
    """A folder to write. Raises UsageError for a URL."""
    if isinstance(output, Url):
        raise click.UsageError(f"{output}: folders are written to local disk only")
    return output


@contextmanager
def target_for(to_stdout: bool, force: bool) -> Iterator[Path | None]:
    """For standard output, a file in a temporary folder to write before; else None."""
    if not to_stdout:
        yield None
        return
    if is_terminal(False) and not force:
        raise click.UsageError("binary data is not written to a terminal; redirect it, or -f")
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        yield Path(folder, "stdout")


def copy_to_stdout(path: Path) -> None:
    """Write a file to standard output."""
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def is_terminal(err: bool) -> bool:
    """Whether standard output, or error, is a terminal."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty()


def width(err: bool) -> int | None:
    """The columns of the terminal; None, for no limit, where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if is_terminal(err) else None


def frame_bytes(path: Path | str) -> int:
    """The bytes of what an archive or frame holds, decompressed."""
    with files.open_frames(path) as frames:
        return frames.raw_bytes
