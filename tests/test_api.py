"""save, load, open, dumps, loads, verify."""

import random
import subprocess
import sys
import warnings
from collections import Counter, OrderedDict
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import szdnn
from szdnn.errors import ArchiveError, ArgumentError, BoundError, CorruptFrame, Error, LimitError

REL = szdnn.Rel(1e-3)
RNG = np.random.default_rng(0)
WEIGHTS = {
    "a.weight": RNG.normal(size=(40, 50)).astype(np.float32),
    "a.bias": RNG.normal(size=50).astype(np.float32),
    "b.weight": RNG.normal(size=(30, 50)).astype(ml_dtypes.bfloat16),
    "ids": np.arange(9, dtype=np.int16),
    "scalar": np.array(2.5),
    "none": np.zeros((3, 0)),
}


def within(before, after, r=1e-3):
    wide = before.astype(np.float64)
    return np.abs(after.astype(np.float64) - wide).max(initial=0) <= r * np.ptp(wide)


def same(before, after):
    return (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.szd.safetensors"


@pytest.mark.parametrize("in_memory", [False, True])
def test_arrays_there_and_back(path, in_memory):
    szdnn.save(path, WEIGHTS, REL)
    after = szdnn.loads(szdnn.dumps(WEIGHTS, REL)) if in_memory else szdnn.load(str(path))
    assert list(after) == list(WEIGHTS)
    for name in ("a.bias", "ids", "scalar", "none"):
        assert same(WEIGHTS[name], after[name])
    for name in ("a.weight", "b.weight"):
        assert after[name].dtype == WEIGHTS[name].dtype
        assert within(WEIGHTS[name], after[name])
        assert not same(WEIGHTS[name], after[name])


def test_dumps_is_a_valid_archive_never_longer_than_the_file(path):
    data = szdnn.dumps(WEIGHTS, REL)
    szdnn.save(path, WEIGHTS, REL)
    assert len(data) <= path.stat().st_size
    path.write_bytes(data)
    assert szdnn.verify(path, WEIGHTS).ok
    with safe_open(path, "numpy") as file:
        assert file.metadata()["format"] == "szdnn"


def test_a_lone_array_is_no_model(path):
    values = RNG.normal(size=20)
    szdnn.save(path, values, szdnn.Abs(0.1))
    after = szdnn.load(path)
    assert np.abs(after - values).max() <= 0.1
    assert not np.array_equal(after, values)


def test_small_tensors_cost_at_most_forty_bytes_each():
    scalars = {f"optimizer/state/{i}/step": np.array(i, np.float32) for i in range(300)}
    biases = {f"layers.{i}.bias": RNG.normal(size=16).astype(np.float32) for i in range(300)}
    for state in (scalars, biases):
        payload = len(szdnn.compress(np.stack(list(state.values())), szdnn.Lossless()))
        assert len(szdnn.dumps(state, REL)) - payload <= 40 * len(state)
    bounds = szdnn.Plan(REL, [szdnn.Rule("*", szdnn.Abs(0.01), override=True)])
    payload = len(szdnn.compress(np.stack(list(biases.values())), szdnn.Abs(0.01)))
    data = szdnn.dumps(biases, bounds)
    assert len(data) - payload <= 40 * len(biases)
    after = szdnn.loads(data)
    assert all(np.abs(after[name].astype(float) - biases[name]).max() <= 0.01 for name in biases)


small_arrays = st.builds(
    lambda dtype, shape, seed: np.asarray(np.random.default_rng(seed).normal(size=shape) * 50).astype(dtype),
    st.sampled_from([np.float32, np.float64, ml_dtypes.bfloat16, np.int64, np.bool_, np.complex64, ">f4"]),
    st.lists(st.integers(0, 6), max_size=3).map(tuple),
    st.integers(0, 9),
)
bounds_for_all = st.sampled_from(
    [szdnn.Lossless(), szdnn.Abs(0.5), szdnn.Rel(0.1), szdnn.Rel(0.1, range=(-1, 1)), szdnn.Std(0.1),
     szdnn.PointwiseRel(0.1), szdnn.PSNR(30), szdnn.RMSE(0.3)]
)  # fmt: skip


@given(st.lists(st.tuples(small_arrays, bounds_for_all), max_size=8))
def test_groups_of_small_tensors_keep_each_ones_bound(pairs):
    state = {f"t{i}": array for i, (array, _) in enumerate(pairs)}
    plan = szdnn.Plan(szdnn.Lossless(), {f"t{i}": bound for i, (_, bound) in enumerate(pairs)})
    data = szdnn.dumps(state, plan)
    with szdnn.Archive(data) as archive:
        for i, (array, bound) in enumerate(pairs):
            after, info = archive[f"t{i}"], archive.info(f"t{i}")
            assert (after.shape, info.shape, info.raw_bytes) == (array.shape, array.shape, array.nbytes)
            assert type(info.bound) in (type(bound), szdnn.Lossless)
            if isinstance(bound, szdnn.Lossless) or "float" not in array.dtype.name:
                assert np.array_equal(after, array)
            elif isinstance(bound, szdnn.Abs) and array.size:
                assert np.abs(after.astype(float) - array.astype(float)).max() <= bound.eps
            elif isinstance(bound, szdnn.Rel) and array.size:
                lo, hi = bound.range or (array.astype(float).min(), array.astype(float).max())
                assert np.abs(after.astype(float) - array.astype(float)).max() <= bound.r * (hi - lo)
            elif isinstance(bound, szdnn.PointwiseRel):
                before = array.astype(float)
                assert (np.abs(after.astype(float) - before) <= bound.r * np.abs(before)).all()


def test_open_is_a_lazy_mapping(path):
    szdnn.save(path, WEIGHTS, REL)
    with szdnn.open(path) as archive:
        assert list(archive) == list(WEIGHTS)
        assert {name: spec.shape for name, spec in archive.specs.items()} == {n: a.shape for n, a in WEIGHTS.items()}
        for name, array in archive.items():
            assert archive.info(name).shape == array.shape
            for index in (..., (slice(1, 2),), -1) if array.ndim and array.shape[0] and array.size else (...,):
                np.testing.assert_array_equal(archive.read(name, index), array[index])
        for wrong in ([0], "x", 99):
            with pytest.raises(ArgumentError):
                archive.read("a.bias", wrong)
        with pytest.raises(KeyError):
            archive["absent"]
    with szdnn.open(path, max_bytes=100) as archive:
        assert same(archive["ids"], WEIGHTS["ids"])
        for name in ("a.weight", "a.bias"):
            with pytest.raises(LimitError, match=name):
                archive[name]


def test_only_some_names(path):
    szdnn.save(path, {"x": WEIGHTS, "y": 3}, REL)
    assert list(szdnn.load(path, names="x/a.*")) == ["x/a.weight", "x/a.bias"]
    assert list(szdnn.load(path, names=["x/ids", "*.bias"])) == ["x/a.bias", "x/ids"]
    with pytest.raises(ArchiveError, match="nope"):
        szdnn.load(path, names=["x/ids", "nope*"])
    assert szdnn.load(path, names="x/ids", max_bytes=18)["x/ids"].size == 9
    with pytest.raises(LimitError):
        szdnn.load(path, names="x/ids", max_bytes=17)
    with pytest.raises(LimitError):
        szdnn.load(path, max_bytes=8000)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_changes_nothing(path, tmp_path, pool):
    szdnn.save(path, WEIGHTS, REL)
    seen = []
    with pool(2) as executor:
        report = szdnn.save(tmp_path / "b", WEIGHTS, REL, executor=executor, progress=lambda *args: seen.append(args))
    assert (tmp_path / "b").read_bytes() == path.read_bytes()
    assert sorted(seen) == sorted((name, array.nbytes) for name, array in WEIGHTS.items())
    assert [tensor.name for tensor in report.tensors] == list(WEIGHTS)
    assert 0 < report.largest_fraction <= 1


def test_an_error_on_an_executor_names_the_tensor_and_leaves_the_old_file(path):
    path.write_bytes(b"old")
    plan = szdnn.Plan(REL, {"b.weight": szdnn.Bits(0.001)})
    with ThreadPoolExecutor(2) as executor, pytest.raises(BoundError, match=r"b\.weight"):
        szdnn.save(path, WEIGHTS, plan, executor=executor)
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 1


def test_the_report_tells_of_unused_rules_and_the_archive_of_its_plan(path):
    plan = szdnn.Plan(REL, {"a.weight": szdnn.Abs(0.1), "c.*": REL})
    report = szdnn.save(path, WEIGHTS, plan, generations=2)
    assert report.unused_rules == ("c.*",)
    with szdnn.open(path) as archive:
        assert archive.plan == plan
        assert archive.generations == 3
        assert archive.info("a.weight").bound == szdnn.Abs(0.1)
    szdnn.save(path, WEIGHTS, szdnn.Lossless(), generations=2)
    with szdnn.open(path) as archive:
        assert archive.generations == 2


def test_verify_finds_damage_and_differences(path):
    szdnn.save(path, WEIGHTS, REL)
    report = szdnn.verify(path, WEIGHTS)
    assert report.ok
    assert 0 < report.largest_fraction <= 1
    assert szdnn.verify(path).largest_fraction is None
    changed = {name: array.copy() for name, array in WEIGHTS.items()}
    changed["a.weight"][3, 4] += 1
    changed["ids"] = changed["ids"].astype(np.int32)
    del changed["scalar"]
    assert sorted(szdnn.verify(path, changed).errors) == ["", "a.weight", "ids", "scalar"]
    with szdnn.open(path) as archive:
        frame = archive.frame("b.weight").tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(frame) + len(frame) - 1] ^= 1
    path.write_bytes(data)
    report = szdnn.verify(path)
    assert sorted(report.errors) == ["", "b.weight"]
    assert "digest" in str(report.errors[""])
    assert len(report.tensors) == len(WEIGHTS) - 1


def test_the_digest_covers_which_frame_is_whose():
    x, y = (RNG.normal(size=(40, 50)) for _ in range(2))
    data = szdnn.dumps({"x": x, "y": y}, szdnn.Bits(40))
    with szdnn.Archive(data) as archive:
        frames = [archive.frame(name).tobytes() for name in archive]
    if len(frames[0]) == len(frames[1]):
        at = data.index(frames[0])
        swapped = data[:at] + frames[1] + frames[0] + data[at + 2 * len(frames[0]) :]
        with szdnn.Archive(swapped) as archive, pytest.raises(CorruptFrame, match="digest"):
            archive.check_digest()


def test_every_truncation_and_flip_in_memory_is_noticed():
    state = {"x": np.arange(20.0), "n": 3, "y": RNG.normal(size=600)}
    data = szdnn.dumps(state, REL)
    for length in range(len(data)):
        with pytest.raises(Error):
            szdnn.loads(data[:length])
    with pytest.raises(Error):
        szdnn.loads(data + b"\0")
    expected, caught = repr(szdnn.loads(data)), 0
    for bit in range(0, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert repr(szdnn.loads(flipped)) == expected
        except Error:
            caught += 1
    assert caught > 0.9 * 8 * len(data) / 5  # not in the digest's own digits, which only verify reads


@pytest.mark.parametrize("state", [{"x": object()}, {"x": np.array([{}], object)}, {"x": np.ma.zeros(3)}, lambda: 3])
def test_what_can_not_be_kept_is_refused_and_leaves_the_old_file(path, state):
    path.write_bytes(b"old")
    with pytest.raises(ArchiveError, match="state"):
        szdnn.save(path, state, REL)
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 1


def test_wrong_arguments(path):
    for wrong in (1e-3, None, "rel"):
        with pytest.raises(ArgumentError, match="bound"):
            szdnn.save(path, WEIGHTS, wrong)
    szdnn.save(path, WEIGHTS, REL)
    with pytest.raises(ArgumentError, match="framework"):
        szdnn.load(path, framework="jax")
    with pytest.raises(OSError, match="missing"):
        szdnn.load(path.with_name("missing"))
    with pytest.raises(OSError, match="no-folder"):
        szdnn.save(path.with_name("no-folder") / "x", WEIGHTS, REL)


def test_arrays_of_other_dtypes_and_orders_come_back(path):
    shared = np.arange(6.0).reshape(2, 3)
    state = {
        "text": np.array([["a", "bcd"]]),
        "dates": np.array(["2024-01-01"], "datetime64[D]"),
        "big": np.arange(3, dtype=">f4"),
        "fortran": np.asfortranarray(shared),
        "strided": np.arange(20.0)[::-3],
        "tied": [shared, shared, shared[:1]],
        "scalars": (np.float32(0.1), np.int64(3), np.bool_(True)),
    }
    szdnn.save(path, state, REL)
    after = szdnn.load(path)
    for name in ("text", "dates", "big", "fortran", "strided"):
        assert after[name].dtype == state[name].dtype
        np.testing.assert_array_equal(after[name], state[name])
    assert after["tied"][0] is after["tied"][1]
    assert repr(after["scalars"]) == repr(state["scalars"])
    assert list(map(type, after["scalars"])) == list(map(type, state["scalars"]))


def test_without_torch_nothing_of_it_is_imported():
    code = (
        "import sys, numpy, szdnn; sys.modules['torch'] = None; "
        "s = szdnn.loads(szdnn.dumps({'x': numpy.ones((50, 50)), 1: 'a'}, szdnn.Rel(0.1))); assert s[1] == 'a'"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# --- torch ---


def trained(torch, make):
    """A model, its optimizer and scheduler after a few steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(40, 60), torch.nn.BatchNorm1d(60), torch.nn.ReLU(), torch.nn.Linear(60, 30, bias=False)
    )
    optimizer = make(model)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])
    step(torch, model, optimizer, scheduler, 4)
    return model, optimizer, scheduler


def step(torch, model, optimizer, scheduler, count):
    for _ in range(count):
        optimizer.zero_grad()
        loss = model(torch.randn(16, 40)).square().mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return loss.item()


def everything(torch, model, optimizer, scheduler):
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "rng": {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()},
        "epoch": 4,
        "best": float("nan"),
    }


@pytest.mark.parametrize("bound", [REL, szdnn.Lossless()])
@pytest.mark.parametrize(
    "make",
    [
        lambda torch, model: torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=True),
        lambda torch, model: torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9),
    ],
)
def test_a_training_run_goes_on(path, make, bound):
    torch = pytest.importorskip("torch")
    parts = trained(torch, lambda model: make(torch, model))
    state = everything(torch, *parts)
    szdnn.save(path, state, bound)
    expected = step(torch, *parts, 5)
    random_after = (torch.rand(1).item(), random.random(), np.random.random())
    others = trained(torch, lambda model: make(torch, model))
    after = szdnn.load(path)
    for part, name in zip(others, ("model", "optimizer", "scheduler"), strict=True):
        part.load_state_dict(after[name])
    torch.set_rng_state(after["rng"]["torch"])
    np.random.set_state(after["rng"]["numpy"])
    random.setstate(after["rng"]["python"])
    assert after["epoch"] == 4
    assert np.isnan(after["best"])
    assert isinstance(after["model"], OrderedDict)
    assert isinstance(after["scheduler"]["milestones"], Counter)
    found = step(torch, *others, 5)
    assert random_after == (torch.rand(1).item(), random.random(), np.random.random())
    assert found == (expected if isinstance(bound, szdnn.Lossless) else pytest.approx(expected, rel=0.02))


def test_second_moments_never_become_zero(path):
    torch = pytest.importorskip("torch")
    state = {"exp_avg_sq": torch.logspace(-44, 2, 4096, dtype=torch.float64).float().reshape(64, 64)}
    state["exp_avg_sq"][5] = 0
    szdnn.save(path, state, szdnn.Abs(1.0))
    after = szdnn.load(path)["exp_avg_sq"].double()
    before = state["exp_avg_sq"].double()
    assert torch.equal(before == 0, after == 0)
    assert ((after - before).abs() <= 0.01 * before).all()


def test_torch_objects_come_back_tied(path):
    torch = pytest.importorskip("torch")
    w = torch.randn(40, 50)
    embedding = torch.nn.Parameter(torch.randn(20, 30))
    state = {
        "w": w, "same": w, "t": w.t(), "part": w[1:], "strided": w[::2, ::3],
        "tied": {"embedding": embedding, "head": embedding, ("k", 1): torch.arange(3)},
        "size": torch.Size([2, 3]), "dtype": torch.bfloat16, "device": torch.device("cuda:1"),
        "layout": torch.strided, "none": torch.zeros(0, 3), "half": torch.randn(50, 60).bfloat16(),
        1: "int", "1": "str", "array": np.arange(3), "keys": {(1, 2): 3, None: 4, True: 5, b"x": {1, "y"}},
    }  # fmt: skip
    szdnn.save(path, state, szdnn.Lossless())
    after = szdnn.load(path)
    assert list(after) == list(state)
    pointers = {name: after[name].untyped_storage().data_ptr() for name in ("w", "same", "t", "part")}
    assert pointers["w"] == pointers["same"] == pointers["t"] != pointers["part"]
    tied = after["tied"]
    assert tied["embedding"].data_ptr() == tied["head"].data_ptr()
    assert isinstance(tied["head"], torch.nn.Parameter)
    for name in ("w", "t", "part", "strided", "none", "half"):
        assert torch.equal(after[name], state[name])
        assert after[name].dtype == state[name].dtype
    for name in ("size", "dtype", "device", "layout", 1, "1", "keys"):
        assert after[name] == state[name]
        assert type(after[name]) is type(state[name])
    assert isinstance(after["array"], np.ndarray)
    with szdnn.open(path) as archive:
        assert sum(name in archive for name in ("w", "same", "t", "tied/embedding", "tied/head")) == 2


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_framework_says_what_tensors_become(path, framework):
    torch = pytest.importorskip("torch")
    w = torch.randn(20, 30)
    state = {"w": w, "t": w.t(), "array": np.arange(3), "size": torch.Size([2]), "half": torch.ones(3).bfloat16()}
    szdnn.save(path, state, szdnn.Lossless())
    after = szdnn.load(path, framework=framework)
    kind = np.ndarray if framework == "numpy" else torch.Tensor
    assert all(isinstance(after[name], kind) for name in ("w", "t", "array", "half"))
    assert np.array_equal(np.asarray(after["t"]), w.t().numpy())
    assert tuple(after["size"]) == (2,)
    assert isinstance(szdnn.load(path, names="w", framework=framework)["w"], kind)


def test_meta_and_sparse_tensors_are_refused_by_place(path):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tensor, message in ((torch.empty(3, device="meta"), "meta device"), (torch.eye(3).to_sparse(), "sparse")):
            with pytest.raises(ArchiveError, match=rf"state\['layers'\]\[0\].*{message}"):
                szdnn.save(path, {"layers": [tensor]}, REL)
    assert not path.exists()


def test_a_restored_pt_file_is_as_torch_writes_them(path, tmp_path):
    torch = pytest.importorskip("torch")
    from szdnn.files import decompress_frames, open_frames

    w = torch.randn(40, 50)
    state = {
        "w": w, "t": w.t(), "p": torch.nn.Parameter(w + 1), "u16": torch.arange(5).to(torch.uint16),
        "f8": torch.ones(4).to(torch.float8_e4m3fn), "n": np.arange(4.0), "x": np.float32(0.5), "i": {np.int64(3), 4},
        "empty": torch.zeros(0, 2), "scalar": torch.tensor(1.5), "c": torch.ones(3, dtype=torch.complex64),
    }  # fmt: skip
    szdnn.save(path, state, szdnn.Lossless())
    with open_frames(path) as frames:
        decompress_frames(frames, tmp_path / "out.pt")
    for mapped in (False, True):
        after = torch.load(tmp_path / "out.pt", weights_only=True, mmap=mapped)
        for name in ("w", "t", "p", "empty", "scalar", "c", "u16"):
            assert torch.equal(after[name], state[name])
            assert after[name].dtype == state[name].dtype
        assert after["w"].data_ptr() == after["t"].data_ptr()
        assert after["w"].data_ptr() % 64 == 0 or not mapped
        assert torch.equal(after["f8"].float(), state["f8"].float())
        assert torch.equal(after["n"], torch.arange(4.0, dtype=torch.float64))
        assert (after["x"], after["i"]) == (0.5, {3, 4})
        assert isinstance(after["p"], torch.nn.Parameter)
