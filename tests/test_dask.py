"""A Dask cluster as executor: the same bytes, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import szdnn
from szdnn import tasks
from szdnn.cli import main

distributed = pytest.importorskip("distributed")
if "SZDNN_SANITIZED" in os.environ:
    pytest.skip("needs processes that are not sanitized", allow_module_level=True)

from szdnn.integrations import dask  # noqa: E402

BOUND = szdnn.Rel(1e-3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


def state(tensors: int = 8) -> dict[str, Any]:
    """Of all kinds of dtype: what a cluster must carry there and back unchanged."""
    generator = np.random.default_rng(0)
    dtypes = [np.float32, ml_dtypes.bfloat16, np.float64, np.float16, ml_dtypes.float8_e4m3fn]
    found = {f"t{i}": generator.normal(0, 1, (300, 400)).astype(dtypes[i % len(dtypes)]) for i in range(tensors)}
    return {**found, "turned": found["t0"].T, "small": np.arange(5)}


def test_the_bytes_are_the_same(cluster: Any, tmp_path: Path) -> None:
    szdnn.save(tmp_path / "here", state(), BOUND)
    with dask.cluster(cluster.scheduler_address) as executor:
        report = szdnn.save(tmp_path / "there", state(), BOUND, executor=executor)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert report.largest_fraction is not None


def test_command_line(cluster: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{name: array for name, array in state().items() if array.dtype.kind in "fi"})
    here, there = tmp_path / "here.szd.safetensors", tmp_path / "there.szd.safetensors"
    for target, more in ((here, []), (there, ["--cluster", cluster.scheduler_address])):
        arguments = ["compress", str(tmp_path / "a.npz"), "--rel", "1e-3", "-o", str(target), *more]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    assert here.read_bytes() == there.read_bytes()


def test_a_folder_on_the_command_line(cluster: Any, tmp_path: Path) -> None:
    """Every file of a folder, each tensor wherever there is room."""
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = tmp_path / "model"
    folder.mkdir()
    for shard in range(2):
        tensors = {f"layer{shard}.{name}": array for name, array in state(3).items() if array.dtype == np.float32}
        safetensors.save_file(
            {name: np.ascontiguousarray(a) for name, a in tensors.items()}, folder / f"{shard}.safetensors"
        )
    for name, more in (("here", []), ("there", ["--cluster", cluster.scheduler_address])):
        arguments = ["compress", str(folder), "--rel", "1e-3", "-o", str(tmp_path / name), *more]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    for shard in range(2):
        here, there = (tmp_path / name / f"{shard}.safetensors" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()


def slowly(*arguments: Any) -> Any:
    time.sleep(0.2)
    return tasks.compress_one(*arguments)


def test_a_killed_worker_loses_nothing(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed outright, in the middle of the run, its tasks are done again by the other one or by its successor."""
    big = state(24)
    szdnn.save(tmp_path / "here", big, BOUND)
    workers = {name: info["pid"] for name, info in _pids(cluster).items()}
    assert len(workers) == 2
    done: list[str] = []

    def progress(name: str, size: int) -> None:
        done.append(name)

    def kill() -> None:
        deadline = time.monotonic() + 60
        while len(done) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(next(iter(workers.values())), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with dask.cluster(cluster.scheduler_address) as executor:
        submit = executor.submit
        monkeypatch.setattr(executor, "submit", lambda function, *arguments: submit(slowly, *arguments))
        killer.start()
        szdnn.save(tmp_path / "there", big, BOUND, executor=executor, progress=progress)
        killer.join()
    assert len(done) == len(big)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert set(_pids(cluster)) != set(workers) or len(_pids(cluster)) < 2


def _pids(cluster: Any) -> dict[str, Any]:
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        return {address: {"pid": pid} for address, pid in client.run(os.getpid).items()}


def test_errors_come_back_as_themselves(cluster: Any, tmp_path: Path) -> None:
    with (
        dask.cluster(cluster.scheduler_address) as executor,
        pytest.raises(szdnn.BoundError, match="t0"),
    ):
        szdnn.save(tmp_path / "a", state(), szdnn.Abs([1.0, 2.0], axis=0), executor=executor)
    assert list(tmp_path.iterdir()) == []


def test_no_scheduler_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1"), dask.cluster("tcp://127.0.0.1:9", timeout=1):
        pass
    with pytest.raises(szdnn.ArchiveError, match="scheduler"), dask.cluster("what://is this"):
        pass
