import warnings
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import szdnn  # noqa: E402
from szdnn.checkpoint import open_source  # noqa: E402
from szdnn.errors import ArchiveError  # noqa: E402
from szdnn.files import compress_source, decompress_frames, open_frames  # noqa: E402
from szdnn.torch_leaves import to_numpy, to_torch  # noqa: E402

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
OTHERS = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
    torch.uint64, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def tensor_of(dtype, shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (values * 4).abs().to(dtype) if dtype in (torch.uint16, torch.uint32, torch.uint64) else values.to(dtype)


def same_bits(a, b):
    flat = [x.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8) for x in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*flat)


def names_of(path):
    with open_source(path) as source:
        return list(source)


def restore(tmp_path, state, bound=None, **save):
    """Save, compress, restore and load a state."""
    path, archive, restored = (tmp_path / name for name in ("model.pt", "archive", "restored.pt"))
    torch.save(state, path, **save)
    with open_source(path) as source:
        compress_source(source, archive, bound or szdnn.Lossless())
    with open_frames(archive) as frames:
        decompress_frames(frames, restored)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return torch.load(restored, weights_only=True)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", FLOATS + OTHERS)
def test_every_dtype_and_rank_comes_back(tmp_path, dtype, shape):
    tensor = tensor_of(dtype, shape)
    assert same_bits(to_torch(np.ascontiguousarray(to_numpy(tensor)).reshape(shape)), tensor)
    assert same_bits(restore(tmp_path, {"w": tensor})["w"], tensor)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_bound_holds(tmp_path, dtype):
    state = {"w": tensor_of(dtype, (50, 60)), "b": tensor_of(dtype, (60,))}
    restored = restore(tmp_path, state, szdnn.Abs(0.05))
    assert (restored["w"].double() - state["w"].double()).abs().max() <= 0.05
    assert same_bits(restored["b"], state["b"])
    with open_frames(tmp_path / "archive") as frames:
        assert frames.info("w").bound == szdnn.Abs(0.05)


def test_nested_state_comes_back(tmp_path):
    state = {
        "model": OrderedDict([("a.b", torch.ones(2)), ("a/b", torch.zeros(2))]),
        "state": {0: {"step": torch.tensor(3.0)}, "0": (1, [2.5, None], True)},
        "epoch": 7,
        "best": float("inf"),
        "note": "é",
        "raw": b"\0\xff",
        "a": {"b": torch.full((2,), 5.0)},
    }
    restored = restore(tmp_path, state)
    assert list(restored) == list(state)
    assert isinstance(restored["model"], OrderedDict)
    assert torch.equal(restored["model"]["a.b"], torch.ones(2))
    assert torch.equal(restored["model"]["a/b"], torch.zeros(2))
    assert torch.equal(restored["a"]["b"], torch.full((2,), 5.0))
    assert restored["state"][0]["step"] == 3.0
    assert restored["state"]["0"] == (1, [2.5, None], True)
    assert {key: restored[key] for key in ("epoch", "best", "note", "raw")} == {
        key: state[key] for key in ("epoch", "best", "note", "raw")
    }
    assert names_of(tmp_path / "model.pt") == ["model/a.b", "model/a%2Fb", "state/0/step", "a/b"]


def test_a_flat_state_dict_keeps_its_names(tmp_path):
    state = {"a.b": torch.ones(1), "1": torch.ones(1), "a/b": torch.ones(1), "": torch.ones(1)}
    assert list(restore(tmp_path, state)) == list(state)
    assert names_of(tmp_path / "model.pt") == list(state)


def test_a_lone_tensor_or_list_comes_back(tmp_path):
    assert torch.equal(restore(tmp_path, torch.arange(3)), torch.arange(3))
    assert torch.equal(restore(tmp_path, [torch.arange(3)])[0], torch.arange(3))


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path):
    w = torch.randn(40, 50)
    state = {"w": w, "same": w, "t": w.t(), "alike": w.clone(), "part": w[1:]}
    restored = restore(tmp_path, state, szdnn.Abs(1e-3))
    assert names_of(tmp_path / "model.pt") == ["w", "alike", "part"]
    for name in state:
        assert (restored[name] - state[name]).abs().max() <= 1e-3
    pointers = {name: tensor.untyped_storage().data_ptr() for name, tensor in restored.items()}
    assert pointers["w"] == pointers["same"] == pointers["t"]
    assert len(set(pointers.values())) == 3


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.t(), lambda w: w[::2, 1:], lambda w: w[:1].expand(3, -1), lambda w: w.flip(0), lambda w: w[0, 0],
        lambda w: torch.complex(w, w).conj(), lambda w: w.to(torch.bfloat16).t(),
    ],
)  # fmt: skip
def test_any_strides(tmp_path, view):
    tensor = view(torch.randn(6, 7))
    assert same_bits(restore(tmp_path, {"w": tensor})["w"], tensor)


def test_parameters_and_gradients_flags_come_back(tmp_path):
    state = {"p": torch.nn.Parameter(torch.ones(2)), "q": torch.ones(2, requires_grad=True), "r": torch.ones(2)}
    restored = restore(tmp_path, state)
    assert [type(restored[name]) for name in state] == [torch.nn.Parameter, torch.Tensor, torch.Tensor]
    assert [restored[name].requires_grad for name in state] == [True, True, False]


def test_a_training_run_goes_on_after_restoring(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.BatchNorm1d(40), torch.nn.Linear(40, 3))
    optimizer = torch.optim.AdamW(model.parameters(), amsgrad=True)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 40)).square().mean().backward()
        optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    restored = restore(tmp_path, state, szdnn.Rel(1e-2))
    assert restored["model"]._metadata == state["model"]._metadata
    model.load_state_dict(restored["model"])
    optimizer.load_state_dict(restored["optimizer"])
    assert restored["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    before, after = (s["optimizer"]["state"][0]["exp_avg_sq"] for s in (state, restored))
    assert torch.equal(before == 0, after == 0)
    assert ((after - before).abs().double() <= 0.01 * before.double()).all()
    with open_frames(tmp_path / "archive") as frames:
        assert frames.info("optimizer/state/0/exp_avg_sq").bound == szdnn.PointwiseRel(1e-2)
        assert frames.info("optimizer/state/0/exp_avg").bound == szdnn.Rel(1e-2)
        assert frames.info("model/1.running_mean").bound == szdnn.Lossless()


def test_files_of_the_old_format_are_read(tmp_path):
    restored = restore(tmp_path, {"w": torch.arange(5)}, _use_new_zipfile_serialization=False)
    assert torch.equal(restored["w"], torch.arange(5))


class Planted:
    """What a hostile pickle would run."""

    ran = False

    def __reduce__(self):
        return setattr, (Planted, "ran", True)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, new):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(2), "x": Planted()}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(ArchiveError, match=r"refused: its pickle asks for \S*setattr.*state_dict"):
        open_source(path)
    assert not Planted.ran


def test_a_whole_module_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ArchiveError, match=r"Linear.*state_dict"):
        open_source(path)


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_damaged_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    torch.save({"w": torch.arange(100)}, path)
    data = path.read_bytes()
    for damaged in (b"", b"hello world, not a model", data[: len(data) // 2], data[:-1], data[:4]):
        path.write_bytes(damaged)
        with pytest.raises(ArchiveError, match="model"):
            open_source(path)


@pytest.mark.parametrize("tensor", [torch.eye(3).to_sparse(), torch.empty(3, device="meta")])
def test_tensors_that_are_not_dense_are_refused_by_place(tmp_path, tensor):
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"layers": [tensor]}, path)
        with pytest.raises(ArchiveError, match=r"state\['layers'\]\[0\]"):
            open_source(path)
