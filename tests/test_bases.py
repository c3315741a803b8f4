"""Archives of differences: saved, found again through chains, and never restored with another base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import szdnn
from szdnn.cli import main
from szdnn.salvage import salvage

BOUND = szdnn.Rel(1e-3, range=(-4, 4))
State = dict[str, NDArray[Any]]
RNG = np.random.default_rng(0)


def first() -> State:
    """Large and small tensors, integers, one that changes its shape."""
    state: State = {f"layer{i}.weight": RNG.normal(size=(60, 90)).astype(np.float32) for i in range(3)}
    state |= {f"layer{i}.bias": RNG.normal(size=40).astype(np.float32) for i in range(5)}
    return {**state, "step": np.array([1]), "half": RNG.normal(size=(50, 60)).astype(np.float16)}


def later(state: State, by: float = 1e-3) -> State:
    """The state after some training."""
    moved = {name: (x + RNG.normal(0, by, x.shape)).astype(x.dtype) for name, x in state.items() if x.dtype.kind == "f"}
    return {**state, **moved, "step": state["step"] + 1}


def chain(folder: Path, links: int) -> list[tuple[Path, State]]:
    """Archives each of which holds differences to the one before."""
    saved: list[tuple[Path, State]] = []
    state = first()
    for i in range(links):
        path = folder / f"{i}.szd.safetensors"
        szdnn.save(path, state, BOUND, reference=saved[-1][0] if saved else None)
        saved.append((path, state))
        state = later(state)
    return saved


def assert_restored(found: State, state: State) -> None:
    assert list(found) == list(state)
    for name, x in state.items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape)
        assert np.abs(found[name].astype(np.float64) - x).max() <= 8e-3, name


def test_a_chain_is_found_and_keeps_its_bounds(tmp_path):
    saved = chain(tmp_path, 5)
    for path, state in saved:
        assert_restored(szdnn.load(path), state)
        assert szdnn.verify(path, original=state).ok
    assert saved[-1][0].stat().st_size < 0.6 * saved[0][0].stat().st_size
    with szdnn.open(saved[-1][0]) as archive:
        assert isinstance(archive, szdnn.Archive)
        assert archive.info("layer0.weight").predictor == "reference"
        assert archive.info("layer0.bias").predictor == "reference"
        assert archive.skeleton["reference"]["file"] == "3.szd.safetensors"
        assert archive.skeleton["reference"]["links"] == 4
        assert archive.generations == 1
        whole = archive["layer1.weight"]
        for part in (np.s_[3:5], np.s_[::7, 4], ...):
            assert archive.read("layer1.weight", part).tobytes() == whole[part].tobytes()
        assert archive.read("layer1.bias", 3) == archive["layer1.bias"][3]


def as_archive(path: Path, state: State) -> Any:
    return szdnn.Archive(path)


def as_shards(path: Path, state: State) -> Path:
    """A folder of two shards and their index, uncompressed."""
    folder = path.parent / "shards"
    folder.mkdir()
    names = list(state)
    parts = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, members in parts.items():
        save_file({name: state[name] for name in members}, folder / file)
    where = {name: file for file, members in parts.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def as_npz(path: Path, state: State) -> Path:
    np.savez(path.with_suffix(".npz"), **state)  # type: ignore[arg-type]
    return path.with_suffix(".npz")


def as_safetensors(path: Path, state: State) -> Path:
    save_file(state, path.with_name("base.safetensors"))
    return path.with_name("base.safetensors")


@pytest.mark.parametrize(
    "make", [lambda path, _: path, lambda path, _: str(path), as_archive, lambda _, state: state, as_shards, as_npz,
             as_safetensors]
)  # fmt: skip
def test_whatever_a_reference_is(tmp_path, make):
    path, state = chain(tmp_path, 1)[0]
    reference, new = make(path, state), later(state)
    target = tmp_path / "new.szd.safetensors"
    report = szdnn.save(target, new, BOUND, reference=reference)
    assert sum(tensor.info.reference is not None for tensor in report.tensors) > 5
    assert_restored(szdnn.load(target, reference=reference), new)
    message = szdnn.dumps(new, BOUND, reference=reference)
    assert_restored(szdnn.loads(message, reference=reference), new)
    assert len(message) <= target.stat().st_size
    with pytest.raises(szdnn.ReferenceMismatch, match="give that as the reference"):
        szdnn.loads(message)
    if isinstance(reference, (str, Path)):
        assert_restored(szdnn.load(target), new)  # by its own record
    with szdnn.open(target, reference=reference) as frames:
        assert frames.read("layer2.weight", 5).shape == (90,)
    assert szdnn.verify(target, original=new, reference=reference).ok


def test_torch_states(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(60, 60)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def train() -> dict[str, Any]:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 60)).square().sum().backward()
            optimizer.step()
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    torch.save(train(), tmp_path / "one.pt")
    state = train()
    szdnn.save(tmp_path / "two.szd.safetensors", state, szdnn.Rel(1e-3), reference=tmp_path / "one.pt")
    with szdnn.open(tmp_path / "two.szd.safetensors") as archive:
        assert archive.info("model/weight").predictor == "reference"
    back = szdnn.load(tmp_path / "two.szd.safetensors")
    torch.nn.Linear(60, 60).load_state_dict(back["model"])
    assert torch.equal(back["model"]["bias"], state["model"]["bias"])


def test_a_missing_or_other_base_is_a_mismatch(tmp_path):
    saved = chain(tmp_path, 3)
    last, state = saved[-1]
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(last, other)
    with pytest.raises(szdnn.ReferenceMismatch, match=r"1\.szd\.safetensors, which is not there"):
        szdnn.load(other / last.name)
    report = szdnn.verify(other / last.name)
    assert not report.ok
    assert all(isinstance(error, szdnn.ReferenceMismatch) for error in report.errors.values())
    assert_restored(szdnn.load(other / last.name, reference=saved[1][0]), state)
    szdnn.save(saved[1][0], later(saved[1][1]), BOUND)  # another state takes the base's place
    for use in (szdnn.load, lambda p: szdnn.open(p).read("layer0.weight", 3), lambda p: szdnn.open(p)["layer0.bias"]):
        with pytest.raises(szdnn.ReferenceMismatch, match=r"1\.szd\.safetensors"):
            use(last)
    with pytest.raises(szdnn.ReferenceMismatch):
        szdnn.load(last, reference={"layer0.weight": np.zeros(3, np.float32)})
    with pytest.raises(FileNotFoundError):
        szdnn.load(last, reference=tmp_path / "nowhere.safetensors")
    with pytest.raises(FileNotFoundError):
        szdnn.save(tmp_path / "new.szd.safetensors", state, BOUND, reference=tmp_path / "nowhere.safetensors")
    assert not (tmp_path / "new.szd.safetensors").exists()


def test_a_damaged_base_is_told(tmp_path):
    (base, _), (last, _) = chain(tmp_path, 2)
    raw = bytearray(base.read_bytes())
    raw[-200] ^= 1
    base.write_bytes(raw)
    with pytest.raises(szdnn.CorruptFrame, match=r"in the reference .*0\.szd\.safetensors"):
        szdnn.load(last)


def test_tensors_that_fit_nothing_stand_alone(tmp_path):
    state = first()
    szdnn.save(tmp_path / "base.szd.safetensors", state, BOUND)
    new = later(state)
    new["layer0.weight"] = RNG.normal(size=(90, 60)).astype(np.float32)  # another shape
    new["extra"] = RNG.normal(size=(50, 50)).astype(np.float32)  # not in the base
    new["layer2.weight"] = RNG.normal(size=(60, 90)).astype(np.float32)  # no kin of the base's
    new["half"] = new["half"].astype(np.float32)  # another dtype
    path = tmp_path / "new.szd.safetensors"
    szdnn.save(path, new, BOUND, reference=tmp_path / "base.szd.safetensors")
    with szdnn.open(path) as archive:
        alone = {name for name in archive if archive.info(name).reference is None}
        assert alone >= {"layer0.weight", "extra", "layer2.weight"}
        assert not alone & {"layer1.weight", "half"}
    assert_restored(szdnn.load(path), new)
    (tmp_path / "base.szd.safetensors").unlink()
    assert szdnn.load(path, names=["extra", "layer0.weight"]).keys() == {"extra", "layer0.weight"}


def test_circles_and_endless_chains_are_refused(tmp_path):
    (base, state), (last, _) = chain(tmp_path, 2)
    szdnn.save(base, later(state), BOUND, reference=last)
    with pytest.raises(szdnn.ReferenceMismatch, match="circle"):
        szdnn.load(last)
    with pytest.raises(szdnn.Error):
        szdnn.save(last, later(state), BOUND, reference=last)


def test_long_chains(tmp_path, monkeypatch):
    monkeypatch.setattr("szdnn.bases.MAX_LINKS", 10)
    state = {"x": RNG.normal(size=2000).astype(np.float32)}
    path: Path | None = None
    with pytest.raises(szdnn.ArchiveError, match="save this without one"):  # noqa: PT012
        for i in range(12):
            target = tmp_path / f"{i}.szd.safetensors"
            state = later({**state, "step": np.array([i])})
            szdnn.save(target, state, BOUND, reference=path, verify=False)
            path = target
    assert path is not None
    assert path.name == "10.szd.safetensors"
    assert_restored(szdnn.load(path), szdnn.load(path))


@pytest.mark.parametrize("hint", ["/etc/passwd", "../../x", "a/../../x", "", "\0", 3, None, "x" * 5000])
def test_forged_hints_lead_nowhere(tmp_path, hint):
    from szdnn import archive as archives

    _, (last, _) = chain(tmp_path, 2)
    with archives.Archive(last) as frames:
        frames.skeleton["reference"] = {"file": hint}
        with pytest.raises((szdnn.ReferenceMismatch, OSError)):
            frames["layer0.weight"]


def test_threads_and_executors_give_the_same_bytes(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    (base, state), _ = chain(tmp_path, 2)
    new = later(state)
    made = [szdnn.dumps(new, BOUND, reference=base, threads=n) for n in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        szdnn.save(tmp_path / "a.szd.safetensors", new, BOUND, reference=base, executor=pool)
    szdnn.save(tmp_path / "b.szd.safetensors", new, BOUND, reference=base, threads=1)
    assert made[0] == made[1]
    assert (tmp_path / "a.szd.safetensors").read_bytes() == (tmp_path / "b.szd.safetensors").read_bytes()


def test_max_bytes(tmp_path):
    _, (last, _) = chain(tmp_path, 2)
    with szdnn.open(last, max_bytes=1000) as archive:
        with pytest.raises(szdnn.LimitError):
            archive["layer0.weight"]
        assert archive["layer0.bias"].size == 40
    with pytest.raises(szdnn.LimitError):
        szdnn.load(last, max_bytes=1000)


def test_salvage_of_and_through_damage(tmp_path, monkeypatch):
    size = 3 << 20  # blocks of 2^20 differences
    state = {"x": RNG.normal(size=size).astype(np.float32), "y": RNG.normal(size=5000).astype(np.float32)}
    new = later({**state, "step": np.array([0])})
    base, last = tmp_path / "base.szd.safetensors", tmp_path / "last.szd.safetensors"
    szdnn.save(base, state, BOUND)
    szdnn.save(last, new, BOUND, reference=base)
    restored = szdnn.load(last)
    intact = base.read_bytes()
    with szdnn.open(base) as archive:
        place = archive._places["x"]  # type: ignore[union-attr]
    raw = bytearray(intact)
    raw[place[0] + (place[1] - place[0]) // 2] ^= 1  # the block in the middle
    base.write_bytes(raw)
    report = salvage(last, tmp_path / "back.npz")
    found = np.load(tmp_path / "back.npz")
    assert set(report.damaged) == {"x"}
    (start, stop), *others = report.damaged["x"].ranges
    assert not others
    assert 0 < start < stop < size
    assert "base.szd.safetensors" in report.damaged["x"].reason
    for part in (slice(0, start), slice(stop, None)):
        assert found["x"][part].tobytes() == restored["x"][part].tobytes()
    assert found["y"].tobytes() == restored["y"].tobytes()
    base.unlink()
    assert set(salvage(last, tmp_path / "back.npz").damaged) == {"x", "y"}
    base.write_bytes(intact)
    assert salvage(last, tmp_path / "back.npz").ok
    moved = shutil.move(base, tmp_path / "moved.szd.safetensors")
    assert salvage(last, tmp_path / "back.npz", reference=moved).ok


# ---- the command line ----


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_line(tmp_path):
    state = first()
    new = later(state)
    base, model = tmp_path / "base.safetensors", tmp_path / "model.safetensors"
    save_file(state, base)
    save_file(new, model)
    archive, back = tmp_path / "model.szd.safetensors", tmp_path / "back.safetensors"
    run("compress", model, "--rel=1e-3", "--reference", base)
    alone = run("compress", model, "--rel=1e-3", "-o", tmp_path / "alone.szd.safetensors", "-q")
    assert alone == ""
    assert archive.stat().st_size < 0.7 * (tmp_path / "alone.szd.safetensors").stat().st_size
    assert "differences to base.safetensors" in run("info", archive)
    told = json.loads(run("info", "--json", archive))
    assert told["reference"]["file"] == "base.safetensors"
    assert {t["predictor"] for t in told["tensors"] if t["name"] != "step"} == {"reference"}
    run("test", archive, "--original", model)
    run("decompress", archive, "-o", back)
    for name, x in load_file(back).items():
        assert np.abs(x.astype(np.float64) - new[name]).max() <= 1e-2
    run("diff", archive, model, code=1)
    base.rename(tmp_path / "moved.safetensors")
    for command in ("decompress", "test"):
        output = run(command, archive, *(["-o", back, "-f"] if command == "decompress" else []), code=1)
        assert "base.safetensors" in output
        assert "--reference" in output
    assert output.count("\n") < 5
    run("decompress", archive, "-o", back, "-f", "--reference", tmp_path / "moved.safetensors")
    run("test", archive, "--reference", tmp_path / "moved.safetensors", "--original", model)
    run("diff", archive, archive, "--reference", tmp_path / "moved.safetensors")
    run("decompress", archive, "-o", back, "-f", "--reference", archive, code=1)
    noise, target = tmp_path / "noise.npz", tmp_path / "x.szd.safetensors"
    np.savez(noise, **{"layer0.weight": RNG.normal(size=(60, 90)).astype(np.float32)})
    assert "no tensor is smaller" in run("compress", model, "--rel=1e-3", "-o", target, "--reference", noise)


def test_bare_arrays(tmp_path):
    x = RNG.normal(size=(40, 50)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "b.npy", x + np.float32(1e-3))
    run("compress", tmp_path / "b.npy", "--abs=1e-3", "--reference", tmp_path / "a.npy")
    run("decompress", tmp_path / "b.npy.szd.safetensors", "-o", tmp_path / "c.npy")
    assert np.abs(np.load(tmp_path / "c.npy") - np.load(tmp_path / "b.npy")).max() <= 1e-3
    (tmp_path / "b.szd").write_bytes(szdnn.compress(np.load(tmp_path / "b.npy"), szdnn.Abs(1e-3), reference=x))
    run("decompress", tmp_path / "b.szd", "-o", tmp_path / "d.npy", code=1)
    run("decompress", tmp_path / "b.szd", "-o", tmp_path / "d.npy", "--reference", tmp_path / "a.npy")


def test_folders(tmp_path):
    state = first()
    new = later(state)
    for name, values in (("one", state), ("two", new)):
        (tmp_path / name).mkdir()
        as_shards(tmp_path / name / "x", values)
    old, model, small = tmp_path / "one" / "shards", tmp_path / "two" / "shards", tmp_path / "two" / "shards.szd"
    run("compress", old, "--rel=1e-3", "-o", tmp_path / "two" / "old.szd")
    base = tmp_path / "two" / "old.szd"
    run("compress", model, "--rel=1e-3", "--reference", base)
    with szdnn.open(small) as frames:
        assert frames.info("layer0.weight").predictor == "reference"
    assert szdnn.verify(small).ok
    run("test", small)
    run("decompress", small, "-o", tmp_path / "back")
    for file in ("a.safetensors", "b.safetensors"):
        for name, x in load_file(tmp_path / "back" / file).items():
            assert np.abs(x.astype(np.float64) - new[name]).max() <= 1e-2
    base.rename(tmp_path / "moved.szd")
    run("test", small, code=1)
    run("test", small, "--reference", tmp_path / "moved.szd")
    run("decompress", small, "-o", tmp_path / "again", "--reference", tmp_path / "moved.szd")
    assert_restored({name: szdnn.load(small, reference=tmp_path / "moved.szd")[name] for name in new}, new)
    # A base with other shards: one file of everything.
    save_file(state, tmp_path / "two" / "whole.safetensors")
    run("compress", model, "--rel=1e-3", "--reference", tmp_path / "two" / "whole.safetensors", "-f", "-o", small)
    assert szdnn.verify(small).ok
    with szdnn.open(small) as frames:
        assert frames.info("layer0.weight").predictor == "reference"
