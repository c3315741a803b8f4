import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import szdnn
from szdnn.atomic import atomic_folder
from szdnn.cli import main
from szdnn.errors import ArchiveError, CorruptFrame, LimitError
from szdnn.folder import compress_folder, decompress_folder

REL = szdnn.Rel(1e-3)
RNG = np.random.default_rng(0)
SHARDS = {
    f"model-0000{i}-of-00002.safetensors": {
        f"layer{i}.weight": RNG.normal(size=(50, 60)).astype(np.float32),
        f"layer{i}.bias": RNG.normal(size=60).astype(np.float32),
    }
    for i in (1, 2)
}
INDEX = "model.safetensors.index.json"


def index_of(shards, metadata=None):
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    return {"metadata": {"total_size": 24480} if metadata is None else metadata, "weight_map": weight_map}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file, tensors in SHARDS.items():
        save_file(tensors, folder / file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps(index_of(SHARDS), indent=2) + "\n")
    (folder / "config.json").write_text("{}")
    (folder / "sub").mkdir()
    np.save(folder / "sub" / "extra.npy", RNG.normal(size=(40, 40)))
    return folder


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(*args, code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result.output


def test_lossless_restores_every_file_byte_for_byte(model, tmp_path):
    compress_folder(model, tmp_path / "small", szdnn.Lossless())
    assert files_of(tmp_path / "small").keys() == files_of(model).keys()
    decompress_folder(tmp_path / "small", tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(model)


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
@pytest.mark.parametrize("metadata", [{}, {"total_size": 1}, {"a": 1, "total_size": 2, "z": 3}, {"a": [1]}])
def test_any_index_comes_back(model, tmp_path, indent, metadata):
    (model / INDEX).write_text(json.dumps(index_of(SHARDS, metadata), indent=indent))
    compress_folder(model, tmp_path / "small", REL)
    written = json.loads((tmp_path / "small" / INDEX).read_text())
    assert written["weight_map"] == index_of(SHARDS)["weight_map"]
    assert written["metadata"]["total_size"] == sum((tmp_path / "small" / file).stat().st_size for file in SHARDS)
    decompress_folder(tmp_path / "small", tmp_path / "back")
    assert (tmp_path / "back" / INDEX).read_bytes() == (model / INDEX).read_bytes()


def test_a_sharded_archive_is_one_mapping_and_one_state(model, tmp_path):
    compress_folder(model, tmp_path / "small", REL)
    expected = {name: array for tensors in SHARDS.values() for name, array in tensors.items()}
    for path in (tmp_path / "small", tmp_path / "small" / INDEX):
        with szdnn.open(path) as archive:
            assert archive.keys() == expected.keys()
            assert archive.info("layer2.weight").bound == REL
            np.testing.assert_array_equal(archive.read("layer1.bias", slice(3)), expected["layer1.bias"][:3])
        state = szdnn.load(path, framework="numpy")
        for name, array in expected.items():
            assert np.abs(state[name].astype(float) - array).max() <= 1e-3 * np.ptp(array)
        assert list(szdnn.load(path, names="*.bias")) == ["layer1.bias", "layer2.bias"]
        with pytest.raises(LimitError):
            szdnn.load(path, max_bytes=1000)
    assert szdnn.verify(tmp_path / "small").ok


def test_an_index_alone_takes_its_shards_alone(model, tmp_path):
    run("compress", model / INDEX, "--rel=1e-3")
    assert files_of(tmp_path / "model.szd").keys() == {INDEX, *SHARDS}
    run("decompress", tmp_path / "model.szd" / INDEX, "-o", tmp_path / "back")
    assert files_of(tmp_path / "back").keys() == {INDEX, *SHARDS}


def test_the_command_line_takes_folders(model, tmp_path):
    assert "ratio" in run("compress", model, "--rel=1e-3")
    assert "no damage" in run("test", tmp_path / "model.szd")
    told = run("info", tmp_path / "model.szd")
    assert all(file in told for file in SHARDS)
    assert json.loads(run("info", "--json", tmp_path / "model.szd")).keys() == {*SHARDS, "extra.npy"}
    assert "-f overwrites" in run("decompress", tmp_path / "model.szd", code=2)
    before = files_of(model)
    run("decompress", "-f", tmp_path / "model.szd")
    after = files_of(model)
    assert after.keys() == before.keys()
    assert after[INDEX] == before[INDEX]
    assert after["config.json"] == before["config.json"]
    run("compress", model, "--lossless", "-f")
    for wrong in (["-o", model], ["-o", "-"], ["-c"], ["--rm"]):
        run("compress", model, "--rel=1", "-f", *wrong, code=2)
    assert "or in it" in run("compress", model, "--rel=1", "-o", model / "sub" / "x", code=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "model.szd"]


def test_torch_shards_and_pickles_of_objects(tmp_path):
    torch = pytest.importorskip("torch")
    folder = tmp_path / "model"
    folder.mkdir()
    shards = {f"pytorch_model-{i}.bin": {f"w{i}": torch.randn(40, 50)} for i in range(2)}
    for file, tensors in shards.items():
        torch.save(tensors, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index_of(shards)))
    torch.save(torch.nn.Linear(2, 2), folder / "training_args.bin")
    output = run("compress", folder, "--rel=1e-3")
    assert "training_args.bin is copied as it is" in output
    assert "Linear" in output
    run("decompress", tmp_path / "model.szd", "-o", tmp_path / "back")
    for file, tensors in shards.items():
        after = torch.load(tmp_path / "back" / file, weights_only=True)
        assert all((after[name] - tensor).abs().max() <= 1e-3 * (tensor.max() - tensor.min())
                   for name, tensor in tensors.items())  # fmt: skip
    assert (tmp_path / "back" / "training_args.bin").read_bytes() == (folder / "training_args.bin").read_bytes()
    torch.save(torch.nn.Linear(2, 2), folder / "pytorch_model-0.bin")
    with pytest.raises(ArchiveError, match="refused"):
        compress_folder(folder, tmp_path / "other", REL)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "index",
    [b"", b"[]", b"{}", b'{"weight_map": {"a": "../x"}}', b'{"weight_map": {"a": ".."}}', b'{"weight_map": {"a": 3}}',
     b'{"weight_map": {"a": "missing"}}', b'{"weight_map": {}, "metadata": 3}'],
)  # fmt: skip
def test_a_wrong_index_is_refused(model, tmp_path, index):
    (model / INDEX).write_bytes(index)
    with pytest.raises(ArchiveError, match="index"):
        compress_folder(model, tmp_path / "small", REL)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_index_that_does_not_fit_its_archives_is_damage(model, tmp_path):
    compress_folder(model, tmp_path / "small", REL)
    index = json.loads((tmp_path / "small" / INDEX).read_text())
    index["weight_map"]["layer1.weight"] = "model-00002-of-00002.safetensors"
    (tmp_path / "small" / INDEX).write_text(json.dumps(index))
    with pytest.raises(CorruptFrame, match=r"layer1\.weight"):
        szdnn.open(tmp_path / "small")


def test_a_failure_leaves_the_old_folder_and_nothing_else(model, tmp_path, monkeypatch):
    compress_folder(model, tmp_path / "small", REL)
    before = files_of(tmp_path / "small")
    (model / "sub" / "extra.npy").write_bytes(b"\x93NUMPY broken")
    shard = model / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="00002"):
        compress_folder(model, tmp_path / "small", szdnn.Lossless())
    assert files_of(tmp_path / "small") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "small"]


def test_a_folder_with_other_files_is_not_replaced(model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ArchiveError, match=r"thesis\.tex"):
        compress_folder(model, tmp_path / "mine", REL)
    assert files_of(tmp_path / "mine").keys() == {"thesis.tex"}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_atomic_folder_replaces_in_one_step(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr("ctypes.CDLL", lambda *args, **options: object())
    path = tmp_path / "folder"
    for content in ("one", "two"):
        with atomic_folder(path) as folder:
            (folder / "file").write_text(content)
            assert not path.exists() or (path / "file").read_text() != content
        assert (path / "file").read_text() == content
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as folder:  # noqa: PT012
        (folder / "file").write_text("three")
        raise KeyboardInterrupt
    assert (path / "file").read_text() == "two"
    assert os.listdir(tmp_path) == ["folder"]


def test_loading_a_model_of_transformers_names(model, tmp_path):
    """The restored folder reads with the safetensors library, as those who load by index do."""
    compress_folder(model, tmp_path / "small", szdnn.Lossless())
    decompress_folder(tmp_path / "small", tmp_path / "back")
    weight_map = json.loads((tmp_path / "back" / INDEX).read_text())["weight_map"]
    for name, file in weight_map.items():
        assert load_file(tmp_path / "back" / file)[name].tobytes() == SHARDS[file][name].tobytes()
