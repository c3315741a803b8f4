"""torch.distributed.checkpoint: is the bound that of the whole tensor, does any sharding load, is nothing believed?"""

from __future__ import annotations

import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import szdnn
from szdnn import plan
from szdnn.archive import Archive
from szdnn.plan import Plan

torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or "SZDNN_SANITIZED" in os.environ:
    pytest.skip("needs torch.distributed, in processes that are not sanitized", allow_module_level=True)

import dcp_workers as workers  # noqa: E402
from test_dcp_metadata import forge, seal  # noqa: E402

from szdnn.integrations import dcp  # noqa: E402
from szdnn.integrations.dcp import bounds, metadata  # noqa: E402

IS_QUICK = os.environ.get("SZDNN_HYPOTHESIS") == "quick"
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def array(tensor: Any) -> np.ndarray[Any, Any]:
    return tensor.detach().to(torch.float64).numpy()


def check_lossless(original: Any, loaded: Any, name: str) -> None:
    assert (original.dtype, original.shape) == (loaded.dtype, loaded.shape)
    x, y = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (original, loaded))
    assert torch.equal(x, y), name


def check_bound(original: Any, loaded: Any, bound: szdnn.Bound, name: str) -> None:
    """Each value within the bound of the whole tensor, computed here and in double precision."""
    x, y = array(original), array(loaded)
    assert loaded.dtype == original.dtype
    finite = np.isfinite(x)
    assert np.array_equal(x[~finite], y[~finite], equal_nan=True), name
    x, y = x[finite], y[finite]
    error = np.abs(x - y)
    slack = 1 + 1e-12
    if isinstance(bound, szdnn.Rel):
        low, high = x.min(), x.max()
        if bound.range == "robust":
            low, high = np.quantile(x, [0.001, 0.999], method="inverted_cdf")
        assert error.max() <= bound.r * (high - low) * slack, name
    elif isinstance(bound, szdnn.Std):
        assert error.max() <= bound.c * x.std() * slack, name
    elif isinstance(bound, szdnn.Abs):
        assert error.max() <= bound.eps, name
    elif isinstance(bound, szdnn.PointwiseRel):
        assert (error <= bound.r * np.abs(x)).all(), name
    else:
        assert isinstance(bound, szdnn.PSNR)
        assert math.sqrt(np.square(error).mean()) <= (x.max() - x.min()) * 10 ** (-bound.db / 20) * slack, name


def rule(name: str, tensor: Any, bound: szdnn.Bound) -> szdnn.Bound:
    return plan.bound_for(name, szdnn.arrays.as_array(tensor).dtype, tuple(tensor.shape), bound)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of two ranks: for each of workers.BOUNDS, "lossless", "async", and one of FSDP's."""
    folder = tmp_path_factory.mktemp("saved")
    workers.run(folder, workers.save_all_bounds, workers.save_fsdp, workers.save_in_background)
    return folder


@pytest.mark.parametrize("name", [*workers.BOUNDS, "lossless"])
def test_two_ranks_to_one(saved: Path, name: str) -> None:
    bound = workers.BOUNDS.get(name, szdnn.Lossless())
    originals = workers.originals()
    state = {"tensors": {n: torch.ones_like(t) for n, t in originals.items()}, "values": workers.blank(workers.VALUES)}
    dcp.load(state, saved / name)
    whole = dcp.load_full(saved / name)
    for key, original in originals.items():
        loaded, wanted = state["tensors"][key], rule(key, original, bound)
        check_lossless(loaded, whole["tensors"][key], key)
        if isinstance(wanted, szdnn.Lossless) or key == "constant":
            check_lossless(original, loaded, key)
        else:
            check_bound(original, loaded, wanted, key)
            assert not torch.equal(original, loaded), f"{key} was meant to be lossy"
    assert repr(state["values"]) == repr(workers.VALUES)


def frames_of(folder: Path, name: str) -> list[szdnn.FrameInfo]:
    """What the frames of a tensor's shards say, over all ranks."""
    found = []
    for path in sorted(folder.glob("rank-*.szd.safetensors")):
        with Archive(path) as archive:
            found += [archive.info(entry) for entry in archive if entry.startswith(f"tensors.{name}")]
    return found


@pytest.mark.parametrize("name", ["rel", "robust", "std"])
@pytest.mark.parametrize("key", ["rows", "columns", "spiked", "uneven"])
def test_shards_have_the_bound_of_the_whole(saved: Path, name: str, key: str) -> None:
    """Not only within it: a shard's own range would be several times smaller, and the file larger for nothing."""
    frames = frames_of(saved / name, key)
    assert len(frames) == 2
    whole = szdnn.info(szdnn.compress(workers.originals()[key], workers.BOUNDS[name])).eps
    # A small frame stores its eps in three bytes, rounded down.
    assert [frame.eps for frame in frames] == pytest.approx([whole, whole], rel=2**-12)


def test_rank_files_are_archives(saved: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from szdnn.cli import main

    for path in (saved / "rel").glob("rank-*"):
        assert CliRunner().invoke(main, ["test", str(path)]).exit_code == 0
        restored = tmp_path / f"{path.name}.pt"
        assert CliRunner().invoke(main, ["decompress", str(path), "-o", str(restored)]).exit_code == 0
        assert "tensors.uneven" in "".join(torch.load(restored, weights_only=True))


def test_nothing_is_pickled(saved: Path) -> None:
    """Neither the metadata nor an archive holds a pickle; torch's own writer would leave one in each file."""
    for path in (saved / "rel").iterdir():
        assert path.name == metadata.NAME or metadata.RANK_FILE.fullmatch(path.name)
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(path.read_bytes())
        assert b"PK\x03\x04" not in path.read_bytes()[:4096]


def nested(state: Any, prefix: str = "") -> dict[str, Any]:
    """The tensors of a nested state by their dotted names."""
    found = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        found |= nested(value, name + ".") if isinstance(value, dict) else {name: value}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def test_fsdp_resharded(saved: Path) -> None:
    """FSDP2's model and optimizer, saved on two ranks: whole in one process, and resharded on one or three ranks."""
    original = nested(torch.load(saved / "fsdp.pt", weights_only=True))
    whole = nested(dcp.load_full(saved / "fsdp"))
    assert whole.keys() == original.keys()
    world = 1 if IS_QUICK else 3
    workers.run(saved, workers.load_fsdp, world=world)
    loaded = nested(torch.load(saved / f"fsdp-loaded-{world}.pt", weights_only=True))
    for name, tensor in loaded.items():
        check_lossless(whole[name], tensor, name)
    lossy = 0
    for name, tensor in original.items():
        bound = rule(name, tensor, szdnn.Rel(1e-3))
        if isinstance(bound, szdnn.Lossless):
            check_lossless(tensor, whole[name], name)
        else:
            check_bound(tensor, whole[name], bound, name)
            lossy += 1
        if "exp_avg_sq" in name:
            assert torch.equal(tensor == 0, whole[name] == 0)
    assert lossy >= 6


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """A folder with the checkpoint "single" of one process."""
    state = {"tensors": workers.originals(), "values": workers.VALUES}
    dcp.save(state, tmp_path / "single", szdnn.Rel(1e-3))
    return tmp_path


def test_one_rank_to_two(single: Path) -> None:
    """Sharded along the other axis; then errors, which reach all ranks."""
    workers.run(single, workers.load_resharded, workers.refuse)


def test_async_save(saved: Path) -> None:
    check_async(saved / "async")


def test_async_save_in_a_process(tmp_path: Path) -> None:
    workers.run(tmp_path, workers.save_in_a_process)
    check_async(tmp_path / "process")
    assert dcp.load_full(tmp_path / "again")["after"].eq(1).all()


def check_async(folder: Path) -> None:
    loaded = dcp.load_full(folder)["tensors"]
    for name, original in workers.originals().items():
        bound = rule(name, original, szdnn.Rel(1e-3))
        if isinstance(bound, szdnn.Lossless) or name == "constant":
            check_lossless(original, loaded[name], name)
        else:
            check_bound(original, loaded[name], bound, name)


def test_save_over_an_older_one(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that fails at any tensor leaves the old checkpoint whole; one that succeeds leaves no old file."""
    folder = single / "single"
    before = dcp.load_full(folder)["tensors"]
    compress, calls, limit = szdnn.codec.compress, 0, 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == limit:
            raise OSError(28, "No space left on device")
        return compress(*args, **kwargs)

    monkeypatch.setattr("szdnn.integrations.dcp.storage.codec.compress", failing)
    new = {"tensors": {name: tensor * 0 + 1 for name, tensor in workers.originals().items()}}
    for last in (1, 5, 11):
        calls, limit = 0, last
        with pytest.raises(OSError, match="No space left"):
            dcp.save(new, folder, szdnn.Rel(1e-3))
        for name, tensor in dcp.load_full(folder)["tensors"].items():
            check_lossless(before[name], tensor, name)
        assert len(list(folder.iterdir())) == 2
    limit = 0
    dcp.save(new, folder, szdnn.Rel(1e-3))
    assert dcp.load_full(folder)["tensors"]["copied"].eq(1).all()
    assert len(list(folder.iterdir())) == 2


def test_a_checkpoint_in_a_store() -> None:
    """At a URL: saved over an older one, loaded, damaged."""
    fsspec = pytest.importorskip("fsspec")
    url, system = "memory://bucket/dcp", fsspec.filesystem("memory")
    state = {"x": torch.randn(64, 64), "n": 1}
    assert not dcp.StorageReader.validate_checkpoint_id(url)
    with pytest.raises(szdnn.ArchiveError, match="no complete szdnn checkpoint"):
        dcp.load(state, url)
    for n in (1, 2):
        dcp.save({**state, "n": n}, url, szdnn.Rel(1e-3))
    assert len(system.ls("/bucket/dcp")) == 2
    assert dcp.StorageReader.validate_checkpoint_id(url)
    loaded = {"x": torch.zeros(64, 64), "n": 0}
    dcp.load(loaded, url)
    assert loaded["n"] == 2
    check_bound(state["x"], loaded["x"], szdnn.Rel(1e-3), "x")
    assert torch.equal(dcp.load_full(url)["x"], loaded["x"])
    name = next(file for file in system.ls("/bucket/dcp", detail=False) if "rank" in file)
    raw = bytearray(system.cat_file(name))
    raw[-10] ^= 1
    system.pipe_file(name, bytes(raw))
    with pytest.raises(szdnn.CorruptFrame):
        dcp.load(loaded, url)


KILLED = """
import os, random, signal, sys, time, warnings
import torch
from szdnn import Rel
from szdnn.integrations import dcp
warnings.simplefilter("ignore")
folder, rounds = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
def state(number):
    return {"number": number, "tensors": {str(i): torch.full((64, 64), float(number)) for i in range(20)}}
dcp.save(state(0), folder, Rel(1e-3))
start = time.perf_counter()
dcp.save(state(0), folder, Rel(1e-3))
one = time.perf_counter() - start
seen = set()
for round in range(rounds):
    child = os.fork()
    if child == 0:
        for number in range(1000 * round, 1000 * round + 999):
            dcp.save(state(number), folder, Rel(1e-3), threads=1)
        os._exit(0)
    time.sleep(random.uniform(0, 8 * one))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = dcp.load_full(folder)
    values = {float(value) for tensor in found["tensors"].values() for value in tensor.unique()}
    assert values == {float(found["number"])}, values
    seen.add(found["number"])
assert len(seen) > rounds // 3, seen
dcp.save(state(1), folder, Rel(1e-3))
assert sorted(os.listdir(folder))[1:] == ["szdnn.dcp.json"], os.listdir(folder)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """The checkpoint that is there is always a whole one, all of one save."""
    rounds = 10 if IS_QUICK else 100
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_collectives_are_needed(tmp_path: Path) -> None:
    with pytest.raises(szdnn.ArgumentError, match="use_collectives"):
        dcp.StorageWriter(tmp_path).set_up_storage_writer(True, use_collectives=False)
    with pytest.raises(szdnn.ArgumentError, match="bound"):
        dcp.SavePlanner(1e-3)  # type: ignore[arg-type]


def test_plan(tmp_path: Path) -> None:
    """A plan's rules go by the items' dotted names; an exact name overrides the default rules."""
    weights = {"head": {"weight": torch.randn(64, 64), "bias": torch.randn(2000)}, "body": torch.randn(64, 64)}
    rules = {"head.bias": szdnn.Abs(0.5), "head.*": szdnn.Lossless()}
    dcp.save(weights, tmp_path, Plan(szdnn.Rel(1e-2), rules))
    loaded = dcp.load_full(tmp_path)
    check_lossless(weights["head"]["weight"], loaded["head"]["weight"], "head.weight")
    check_bound(weights["head"]["bias"], loaded["head"]["bias"], szdnn.Abs(0.5), "head.bias")
    assert not torch.equal(weights["head"]["bias"], loaded["head"]["bias"])
    check_bound(weights["body"], loaded["body"], szdnn.Rel(1e-2), "body")


def test_counts_lossy_generations(tmp_path: Path) -> None:
    """A lossy checkpoint counts one more than what it was resumed from, one without loss does not."""
    state = {"w": torch.randn(64, 64)}
    dcp.save(state, tmp_path / "a", szdnn.Rel(1e-3))
    assert dcp.load(state, tmp_path / "a") == 1
    dcp.save(state, tmp_path / "b", szdnn.Rel(1e-3), generations=1)
    assert dcp.load(state, tmp_path / "b") == 2
    dcp.save(state, tmp_path / "c", szdnn.Lossless(), generations=2)
    assert dcp.load(state, tmp_path / "c") == 2
    with Archive(next((tmp_path / "b").glob("rank-*"))) as archive:
        assert archive.generations == 2


def test_partial_load(single: Path) -> None:
    state = {"tensors": {"plain": torch.zeros(50, 50), "new": torch.ones(3)}}
    with pytest.raises(torch.distributed.checkpoint.api.CheckpointException, match="new"):
        dcp.load(state, single / "single")
    dcp.load(state, single / "single", allow_partial_load=True)
    assert state["tensors"]["new"].eq(1).all()
    check_bound(workers.originals()["plain"], state["tensors"]["plain"], szdnn.Rel(1e-3), "plain")


def test_loads_into_another_dtype_and_strides(single: Path) -> None:
    state = {"tensors": {"plain": torch.zeros(50, 50, dtype=torch.float64), "rows": torch.zeros(96, 256).T}}
    dcp.load(state, single / "single")
    whole = dcp.load_full(single / "single")["tensors"]
    assert torch.equal(state["tensors"]["plain"], whole["plain"].double())
    assert torch.equal(state["tensors"]["rows"], whole["rows"])


def test_max_bytes(single: Path) -> None:
    needed = sum(tensor.nbytes for tensor in workers.originals().values())
    assert dcp.load_full(single / "single", max_bytes=needed)
    with pytest.raises(szdnn.LimitError, match=str(needed)):
        dcp.load_full(single / "single", max_bytes=needed - 1)


def test_forged_values(single: Path) -> None:
    """What stands for a value is decoded with no more trust: no tensor, no object, no list without end."""
    for value in ({"tensor": "w"}, {"float": "zz"}, {"dict": 3}, {"object": "os.system"}, {"int": "0x"}):

        def put(items: Any, tensor: Any, chunks: Any, value: Any = value) -> None:
            items["n"]["value"] = value
            del items["w"]

        (single / "single" / metadata.NAME).write_bytes(forge(put))
        with pytest.raises(szdnn.Error):
            dcp.load_full(single / "single")
    (single / "single" / metadata.NAME).write_bytes(
        seal({"generations": 0, "items": {"a": {"path": ["a"], "value": 1}, "a.b": {"path": ["a", "b"], "value": 1}}})
    )
    with pytest.raises(szdnn.CorruptFrame, match="does not fit"):
        dcp.load_full(single / "single")


def test_newer_version(single: Path) -> None:
    path = single / "single" / metadata.NAME
    path.write_bytes(path.read_bytes().replace(b'"version": 0', b'"version": 9'))
    with pytest.raises(szdnn.UnsupportedFrame, match="version 9"):
        dcp.load_full(path.parent)


def test_files_that_are_not_the_ones(single: Path, tmp_path: Path) -> None:
    """A rank's archive of another save, or none, is an error, also where it is a whole archive of the same tensors."""
    dcp.save({"tensors": {n: t * 2 for n, t in workers.originals().items()}}, tmp_path / "other", szdnn.Rel(1e-3))
    mine, other = (next((tmp_path / name).glob("rank-*")) for name in ("single", "other"))
    shutil.copy(other, mine)
    with pytest.raises(szdnn.CorruptFrame, match="not the one"):
        dcp.load_full(single / "single")
    mine.unlink()
    with pytest.raises(OSError, match=mine.name):
        dcp.load_full(single / "single")


def test_joined_summaries_are_those_of_the_whole() -> None:
    """However a tensor is cut, and over what magnitudes its values spread."""
    generator = np.random.default_rng(5)
    for scale, shift in [(1.0, 0.0), (1e-30, 1.0), (1e300, 0.0), (1e-310, 0.0), (3.0, -1e6)]:
        values = generator.normal(0, scale, 10_001) + shift * scale
        values[::977] = np.nan
        cuts = np.split(values, [1, 40, 5000, 5000, 9999])
        for bound in (szdnn.Std(0.1), szdnn.Rel(1e-3), szdnn.Rel(1e-3, range="robust")):
            parts = [bounds.summarize(part, bound, values.size) for part in cuts]
            joined = szdnn.info(szdnn.compress(values, bounds.whole_bound(bound, parts)))
            whole = szdnn.info(szdnn.compress(values, bound))
            # A small frame stores its eps in three bytes, rounded down.
            assert joined.eps == whole.eps or joined.eps == pytest.approx(whole.eps, rel=2**-12)


def test_axis_bounds_of_shards() -> None:
    bound = szdnn.Abs([1.0, 2.0, 3.0, 4.0], axis=-1)
    assert bounds.shard_bound(bound, [8, 1], [8, 2]) == szdnn.Abs([2.0, 3.0], axis=-1)
    assert bounds.shard_bound(szdnn.Rel(1.0), [8, 1], [8, 2]) == szdnn.Rel(1.0)
