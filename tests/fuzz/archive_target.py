"""Atheris target: any bytes as an archive. Whatever is wrong with it is a szdnn.Error, and what it takes is bounded."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

LIMIT = 1 << 22


@functools.cache
def folder() -> str:
    """Where restored files go, in memory if there is such a place."""
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="szdnn-fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@functools.cache
def has_torch() -> bool:
    """Without it, modules of szdnn that need it would be compiled and instrumented anew for every archive."""
    return importlib.util.find_spec("torch") is not None


def open_archive(raw: bytes) -> None:
    """Everything that a reader does with an archive from a stranger."""
    import grammar

    import szdnn

    data = grammar.Bytes(raw)
    how = data.number() % 3
    made = raw[1:] if how == 0 else grammar.edited(data) if how == 1 else grammar.reassembled(data)
    try:
        with szdnn.archive.Archive(made, max_bytes=LIMIT, threads=1) as archive:
            for name in archive:
                archive.info(name)
                archive.read(name, ...)
            archive.check_digest()
            if has_torch() or archive.skeleton.get("kind") != "torch":
                szdnn.files.decompress_frames(archive, Path(folder()) / "restored", max_bytes=LIMIT)
        szdnn.loads(made, max_bytes=LIMIT, framework="numpy", threads=1)
    except szdnn.Error:
        return


def main() -> None:
    """Fuzz until told to stop."""
    import atheris

    with atheris.instrument_imports(include=["szdnn"]):
        import szdnn.files  # noqa: F401
    atheris.Setup(sys.argv, open_archive)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
