"""Inputs and outputs of the command line: names, pipes, terminals."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from .archive import FrameReader
from .checkpoint import restored_suffix

ARCHIVE_SUFFIX = ".szd.safetensors"
FOLDER_SUFFIX = ".szd"


def is_dash(path: Path | None) -> bool:
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


def archive_path(path: Path) -> Path:
    """The archive that a file is compressed into."""
    return path.with_name(path.name.removesuffix(".safetensors") + ARCHIVE_SUFFIX)


def restored_path(path: Path, frames: FrameReader) -> Path:
    """The file that an archive is restored into."""
    suffix = restored_suffix(frames.skeleton)
    name = path.name
    for known in (ARCHIVE_SUFFIX, ".safetensors", ".szd"):
        if name.endswith(known):
            name = name[: -len(known)]
            break
    return path.with_name(name if name.endswith(suffix) else name + suffix)


def check_target(target: Path, path: Path, force: bool) -> None:
    """Raises UsageError for a target that is the input, or exists and is not to be overwritten."""
    if target.exists():
        if not is_dash(path) and path.exists() and target.samefile(path):
            raise click.UsageError(f"{target} is the input itself; give another with -o")
        if not force:
            raise click.UsageError(f"{target} exists; -f overwrites it")


@contextmanager
def spooled(path: Path) -> Iterator[Path]:
    """The input as a file that can be mapped: itself, or a temporary copy of standard input or a pipe."""
    if not (is_dash(path) or path.is_fifo()):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="szdnn-") as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as file, sys.stdin.buffer if is_dash(path) else path.open("rb") as stream:
            shutil.copyfileobj(stream, file)
        yield copy


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
