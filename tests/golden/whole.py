"""The golden corpus and archives: written by make.py, read by test_stability.py.

corpus.zip holds the frame of every case of tests/corpus.py; NAME.szd.safetensors in archives/ the archives; stable.json
the format's versions and the digests of what they decode to.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import corpus
import numpy as np

import szdnn
from szdnn import archive_layout

HERE = Path(__file__).parent
CORPUS = HERE / "corpus.zip"
ARCHIVES = HERE / "archives"
INDEX = HERE / "stable.json"


def version_of(frame: bytes) -> int:
    """A frame's version (csrc/FORMAT.md, section 2; 2.2 of small ones)."""
    return frame[2 if frame.startswith(b"\xf5s") else 4]


def digest(value: Any) -> str:
    """Of a nested state, by types, names, dtypes, shapes and bits."""
    return hashlib.sha256(_text(value).encode()).hexdigest()


def _text(value: Any) -> str:
    if isinstance(value, (np.ndarray, np.generic)):
        return f"{type(value).__name__} {value.dtype} {value.shape} {value.tobytes().hex()}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} {sorted(map(_text, value))}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} {list(map(_text, value))}"
    return f"{type(value).__name__} {value!r}"


def frames() -> dict[str, bytes]:
    """The stored frames by case."""
    with zipfile.ZipFile(CORPUS) as file:
        return {name: file.read(name) for name in file.namelist()}


def archives() -> dict[str, bytes]:
    """The stored archives by name."""
    return {path.name.partition(".")[0]: path.read_bytes() for path in sorted(ARCHIVES.iterdir())}


def index() -> dict[str, Any]:
    """The stored index."""
    found: dict[str, Any] = json.loads(INDEX.read_text())
    return found


def write() -> None:
    """Make all of it anew. From version 1 on, SystemExit where what is stored would no longer decode as it did."""
    made = {case.name: case.frame for case in corpus.cases()}
    version = version_of(made["float32 abs"])
    if INDEX.exists() and version >= 1 and index()["frame_version"] == version and (wrong := changed()):
        raise SystemExit(f"the format has changed, its version has not: {wrong}")
    _write_zip(made)
    ARCHIVES.mkdir(exist_ok=True)
    stored = corpus.archives()
    for path in ARCHIVES.iterdir():
        path.unlink()
    for name, data in stored.items():
        (ARCHIVES / f"{name}.szd.safetensors").write_bytes(data)
    found = {
        "frame_version": version,
        "archive_version": archive_layout.VERSION,
        "frames": {name: digest(szdnn.decompress(frame)) for name, frame in made.items()},
        "archives": {name: digest(szdnn.loads(data, framework="numpy")) for name, data in stored.items()},
    }
    INDEX.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def changed() -> list[str]:
    """The stored frames and archives that no longer decode to what they did."""
    wrong = []
    for kind, stored, decode in (
        ("frames", frames(), szdnn.decompress),
        ("archives", archives(), lambda data: szdnn.loads(data, framework="numpy")),
    ):
        for name, expected in index()[kind].items():
            try:
                same = digest(decode(stored[name])) == expected
            except (szdnn.Error, KeyError):
                same = False
            wrong += [] if same else [name]
    return wrong


def _write_zip(made: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, frame in made.items():
            file.writestr(zipfile.ZipInfo(name), frame)  # of 1980, so that only the frames count
    CORPUS.write_bytes(buffer.getvalue())
