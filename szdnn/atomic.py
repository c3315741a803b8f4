"""Files and folders that are at every moment the old ones or the whole new ones."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import ArchiveError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_UNNAMED_IMPOSSIBLE = (errno.EISDIR, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL, errno.EPERM)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A new binary file, readable too, that becomes `path` when the block ends and vanishes if it fails.

    It is written in the folder of `path` (of its target, if that is a link), synced, and renamed over it, and the
    folder synced; so `path` is at every moment the old file or the whole new one. Where the system can (Linux), the
    file has no name until it is whole: a process that is killed leaves nothing behind. Elsewhere it is `.NAME.*.tmp`.

    Raises ArchiveError if `path` is something other than a file, OSError (a full disk: with the name of `path`).
    """
    path = Path(os.path.realpath(path))
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise ArchiveError(f"{path} is not a regular file")
    temporary = temporary_name(path)
    descriptor = _open_unnamed(path.parent)
    unnamed = descriptor is not None
    try:
        with os.fdopen(descriptor, "wb+") if descriptor is not None else open(temporary, "xb+") as file:
            yield file
            file.flush()
            if mode is not None:
                os.chmod(file.fileno(), stat.S_IMODE(mode))
            os.fsync(file.fileno())
            if unnamed:
                _name(file, temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else has: hidden, ending in `.tmp`."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")


def _open_unnamed(folder: Path) -> int | None:
    """A descriptor of a new file in the folder without a name; None where the system has no such thing."""
    if not hasattr(os, "O_TMPFILE") or not os.path.exists("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _UNNAMED_IMPOSSIBLE and folder.is_dir():
            return None
        raise


def _name(file: BinaryIO, path: Path) -> None:
    """Give an unnamed file a name, or copy it to that name where the file system knows no links."""
    try:
        _link(file.fileno(), path)
    except OSError:
        file.seek(0)
        with open(path, "xb") as copy:
            os.chmod(copy.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            shutil.copyfileobj(file, copy, 1 << 24)
            copy.flush()
            os.fsync(copy.fileno())


def _link(descriptor: int, path: Path) -> None:
    """Link an unnamed file (open(2), O_TMPFILE). The folder's descriptor only makes Python call linkat."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(f"/proc/self/fd/{descriptor}", path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def sync_folder(folder: Path) -> None:
    """Make sure that new names in a folder outlast a crash of the machine."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows has no such thing
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place when the block ends and vanishes if it fails.

    An existing folder is exchanged for it in one step where the system can (Linux), else by two renames, and then
    removed. Raises ArchiveError if `path` exists and is no folder.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise ArchiveError(f"{path} exists and is not a folder")
    temporary = temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        sync_folder(temporary)
        if path.exists():
            _exchange(temporary, path)
        else:
            os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)
    shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: Path, old: Path) -> None:
    """Exchange the names of two folders."""
    with suppress(AttributeError, OSError, TypeError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        if rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
            return
    aside = temporary_name(old)
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    os.rename(aside, new)
