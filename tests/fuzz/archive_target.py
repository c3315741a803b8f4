"""Atheris target: any bytes as an archive. Whatever is wrong with it is a szdnn.Error, and what it takes is bounded."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

LIMIT = 1 << 22


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
        szdnn.loads(made, max_bytes=LIMIT, framework="numpy", threads=1)
    except szdnn.Error:
        return


def main() -> None:
    """Fuzz until told to stop."""
    import atheris

    with atheris.instrument_imports(include=["szdnn"]):
        import szdnn.archive  # noqa: F401
    atheris.Setup(sys.argv, open_archive)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
