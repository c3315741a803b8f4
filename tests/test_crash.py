"""Saves that are killed, interrupted or out of room leave the old file or the new one, and nothing else."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import szdnn
from bench.kill import campaign
from szdnn import atomic
from szdnn.atomic import atomic_file

STATE = {"x": np.random.default_rng(0).normal(size=(600, 1000)).astype(np.float32), "n": 3}


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def unnamed(request, monkeypatch):
    """Once with temporary files that have no name, once as where the system can't have such."""
    if not request.param:
        monkeypatch.setattr(atomic, "_open_unnamed", lambda folder: None)
    return request.param


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments(tmp_path, unnamed):
    found = campaign(tmp_path, kills=25, seed=1, megabytes=1)
    assert found["broken"] == 0
    assert found["old"] + found["new"] == 25
    if unnamed:
        assert found["left behind"] <= 2  # killed between getting its name and replacing the old one


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_differences_killed_at_random_moments(tmp_path):
    found = campaign(tmp_path, kills=12, seed=2, megabytes=1, reference=True)
    assert found["broken"] == 0
    assert found["old"] + found["new"] == 12


def test_a_temporary_file_has_no_name_where_the_system_can(tmp_path, unnamed):
    with atomic_file(tmp_path / "x") as file:
        file.write(b"abc")
        is_linux = sys.platform.startswith("linux")
        assert len(list(tmp_path.iterdir())) == (0 if unnamed and is_linux else 1)
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_without_links_the_file_is_copied(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.EXDEV, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "x.szd.safetensors"
    path.touch(0o640)
    szdnn.save(path, STATE, szdnn.Rel(1e-3))
    assert szdnn.verify(path, STATE).ok
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_file(tmp_path, unnamed, number):
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(OSError, match="x'") as caught, atomic_file(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert caught.value.filename == str(tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_size_limit_is_an_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.szd.safetensors"
    szdnn.save(path, {"x": 1}, szdnn.Lossless())
    old = path.read_bytes()
    np.save(tmp_path / "big.npy", STATE["x"])

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "szdnn", "compress", "-f", "--rel=1e-3", "-o", path, tmp_path / "big.npy"]
    done = subprocess.run(list(map(str, command)), preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"{path}: File too large" in done.stderr
    assert path.read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.npy", path.name]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte; skipped where it can't be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not Path("/bin/mount").exists() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("can't mount a tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_file_and_no_temporary(small_disk, unnamed):
    path = small_disk / "x.szd.safetensors"
    szdnn.save(path, {"x": 1}, szdnn.Lossless())
    old = path.read_bytes()
    for _ in range(3):  # what a failed one took is free again
        with pytest.raises(OSError, match="No space left") as caught:
            szdnn.save(path, STATE, szdnn.Lossless())
        assert caught.value.filename == str(path)
        assert path.read_bytes() == old
        assert [p.name for p in small_disk.iterdir()] == [path.name]
    szdnn.save(path, {"x": STATE["x"][:100]}, szdnn.Rel(1e-2))
    assert szdnn.verify(path).ok


def test_an_interrupt_on_an_executor_leaves_nothing(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    def interrupt(name, size):
        raise KeyboardInterrupt

    state = {f"x{i}": STATE["x"] + i for i in range(6)}
    with ThreadPoolExecutor(2) as executor, pytest.raises(KeyboardInterrupt):
        szdnn.save(tmp_path / "x", state, szdnn.Rel(1e-3), executor=executor, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
