import contextlib
import io
import json
import math
import zipfile
from collections import Counter, OrderedDict

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import szdnn
from szdnn.checkpoint import open_source, source_writer
from szdnn.errors import ArchiveError, CorruptFrame, Error
from szdnn.files import compress_source, decompress_frames, open_frames
from szdnn.safetensors_file import write_safetensors
from szdnn.skeleton import decode_state, encode_state, pack, path_name, unpack


def restore(path, bound=None):
    """Compress a file, restore it beside itself, and give the restored one."""
    archive, restored = path.with_name("archive"), path.with_name("restored" + path.suffix)
    with open_source(path) as source:
        compress_source(source, archive, bound or szdnn.Lossless())
    with open_frames(archive) as frames:
        decompress_frames(frames, restored)
    return restored


# --- .safetensors ---


def safetensors_bytes(entries, metadata=None, padding=b""):
    """A .safetensors file of (name, dtype, shape, data) in this order."""
    header, data = ({"__metadata__": metadata} if metadata is not None else {}), b""
    for name, dtype, shape, raw in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode() + padding
    return len(text).to_bytes(8, "little") + text + data


SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "U16": 2, "I16": 2,
    "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@pytest.mark.parametrize("padding", [b"", b" ", b"   "])
@pytest.mark.parametrize("shape", [[], [0, 3], [7], [2, 3, 5]])
def test_lossless_restores_safetensors_byte_for_byte(tmp_path, shape, padding):
    rng, count = np.random.default_rng(0), math.prod(shape)
    entries = [
        (name, name, shape, rng.bytes(size * count) if name != "BOOL" else bytes([0, 1] * count)[:count])
        for name, size in SIZES.items()
    ]
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes([*entries, ("half", "F4", [4], b"\x12\x34")], {"format": "pt"}, padding))
    assert restore(path).read_bytes() == path.read_bytes()
    with open_source(path) as source:
        assert source.specs["BF16"].dtype == ml_dtypes.bfloat16
        assert source.metadata == {"format": "pt"}
        assert source["F32"].tobytes() == entries[13][3]


def test_restores_a_safetensors_file_without_tensors(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes([]))
    assert restore(path).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("bound", [szdnn.Abs(1e-3), szdnn.Rel(1e-3), szdnn.Abs(1e-6)])
def test_lossy_safetensors_keeps_header_and_bound(tmp_path, bound):
    weights = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    bias = weights[0].copy()
    path = tmp_path / "model.safetensors"
    entries = [("b", "F32", [64], bias.tobytes()), ("a", "F32", [64, 64], weights.tobytes())]
    path.write_bytes(safetensors_bytes(entries))
    restored = restore(path, bound)
    assert len(restored.read_bytes()) == len(path.read_bytes())
    eps = bound.eps if isinstance(bound, szdnn.Abs) else bound.r * float(np.ptp(weights))
    with open_source(restored) as source:
        assert list(source) == ["b", "a"]
        assert source["b"].tobytes() == bias.tobytes()
        assert np.abs(source["a"].astype(np.float64) - weights).max() <= eps


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x10", safetensors_bytes([("a", "F32", [2], bytes(8))])[:-1], b"hello world, not a model",
        safetensors_bytes([("a", "F32", [2], bytes(8))]) + b"\0", safetensors_bytes([("a", "F32", [3], bytes(8))]),
        safetensors_bytes([("__szdnn__.x", "U8", [1], b"1")]),
    ],
)  # fmt: skip
def test_damaged_safetensors_files_are_refused(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"model\.safetensors"):
        open_source(path)


def test_archives_and_frames_are_not_compressed_again(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(5))
    restore(path)
    with pytest.raises(ArchiveError, match="archive already"):
        open_source(tmp_path / "archive")
    path.write_bytes(szdnn.compress(np.arange(5), szdnn.Lossless()))
    with pytest.raises(ArchiveError, match="frame already"):
        open_source(path)


def test_a_tensor_unlike_the_header_is_damage(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes([("a", "F32", [2], bytes(8))]))
    with open_source(path) as source, pytest.raises(CorruptFrame, match="a: holds"):
        write_safetensors(io.BytesIO(), source.skeleton(), {"a": np.zeros(3, np.float32)})


@given(st.binary(max_size=40))
def test_a_forged_source_header_is_an_error(forged):
    skeleton = {"header": forged.decode("latin-1"), "tensors": [], "metadata": {}}
    with pytest.raises(Error):
        write_safetensors(io.BytesIO(), skeleton, {})


# --- .npy, .npz ---

ARRAYS = {
    "plain": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.float64).reshape(3, 4)),
    "big": np.arange(6, dtype=">f4").reshape(2, 3),
    "scalar": np.array(3.5),
    "empty": np.zeros((0, 4), np.int16),
    "bools": np.array([True, False]),
    "complex": np.array([1 + 2j, np.nan], np.complex64),
    "text": np.array(["a", "bcd"]),
    "dates": np.array(["2024-01-01"], "datetime64[D]"),
    "records": np.array([(1, 2.0)], dtype=[("i", "i4"), ("f", "f8")]),
    "halves": np.array([1, 2], np.float16),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_lossless_restores_npy_byte_for_byte(tmp_path, name):
    path = tmp_path / "x.npy"
    np.save(path, ARRAYS[name])
    assert restore(path).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["plain", "fortran", "big", "scalar", "halves"])
def test_npy_gets_the_bound_whatever_its_size(tmp_path, name):
    path, bound = tmp_path / "x.npy", szdnn.Abs(0.01)
    np.save(path, ARRAYS[name])
    restored = np.load(restore(path, bound))
    assert np.abs(restored.astype(np.float64) - ARRAYS[name]).max() <= 0.01
    with open_frames(tmp_path / "archive") as frames:
        assert frames.info("array").bound == bound


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_restores_npz(tmp_path, save):
    path = tmp_path / "x.npz"
    save(path, **ARRAYS)
    restored = restore(path)
    with np.load(path) as before, np.load(restored) as after:
        assert before.files == after.files
        for name in before.files:
            assert (before[name].dtype, before[name].shape) == (after[name].dtype, after[name].shape)
            assert before[name].tobytes() == after[name].tobytes()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(restored) as after:
        assert [m.compress_type for m in before.infolist()] == [m.compress_type for m in after.infolist()]


def test_npz_members_may_have_any_name(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **{"__metadata__": np.arange(3), "__szdnn__.skeleton": np.arange(4), "": np.arange(5)})
    with np.load(restore(path)) as after:
        assert {name: len(after[name]) for name in after.files} == {
            "__metadata__": 3, "__szdnn__.skeleton": 4, "": 5,
        }  # fmt: skip


def test_objects_are_refused(tmp_path):
    for path, save in ((tmp_path / "x.npy", np.save), (tmp_path / "x.npz", np.savez)):
        save(path, np.array([{}, None], dtype=object))
        with pytest.raises(ArchiveError, match="Python objects"):
            open_source(path)


def test_every_truncation_of_npy_and_npz_is_refused(tmp_path):
    for path, save in ((tmp_path / "x.npy", np.save), (tmp_path / "x.npz", np.savez_compressed)):
        save(path, np.arange(40))
        data = path.read_bytes()
        for length in range(len(data)):
            path.write_bytes(data[:length])
            with pytest.raises(ArchiveError), open_source(path) as source:
                dict(source)


def test_npy_with_more_after_its_array_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.save(file, np.arange(3))
        np.save(file, np.arange(3))
    with pytest.raises(ArchiveError, match="after its array"):
        open_source(path)


def test_a_zip_of_other_things_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ArchiveError, match=r"readme\.txt"):
        open_source(path)


@pytest.mark.parametrize("name", ["x.txt", "x"])
def test_other_files_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"hello world" * 10)
    with pytest.raises(ArchiveError, match="not a file szdnn reads"):
        open_source(path)


# --- nested state ---

plain_keys = (
    st.none() | st.booleans() | st.text(max_size=5) | st.integers() | st.floats(allow_nan=False) | st.binary(max_size=3)
)
keys = plain_keys | st.lists(plain_keys, max_size=3).map(tuple) | st.frozensets(plain_keys, max_size=2)
numbers = st.integers(-100, 100)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text(max_size=5)
    | st.binary(max_size=5) | st.binary(max_size=5).map(bytearray) | st.sets(keys, max_size=3) | st.frozensets(keys)
    | st.floats(width=32).map(np.float32) | numbers.map(np.int16) | st.booleans().map(np.bool_)
    | numbers.map(ml_dtypes.bfloat16) | st.sampled_from([np.dtype("f4"), np.dtype(">i8"), np.dtype("U7")])
    | st.just(np.datetime64("2024-02-29")) | st.text(alphabet="aé", max_size=3).map(np.str_)
)  # fmt: skip
states = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(keys, numbers, max_size=3).map(Counter)
    ),
    max_leaves=20,
)


def frozen(state):
    """A state as nested tuples that are equal only if types, key order and bits are."""
    if isinstance(state, dict):
        return type(state), tuple((frozen(k), frozen(v)) for k, v in state.items())
    if isinstance(state, (set, frozenset)):
        return type(state), frozenset(map(frozen, state))
    if isinstance(state, np.generic):
        return type(state), state.dtype, state.tobytes()
    if isinstance(state, complex):
        return complex, frozen(state.real), frozen(state.imag)
    if isinstance(state, (list, tuple)):
        return type(state), tuple(map(frozen, state))
    if isinstance(state, float) and math.isnan(state):
        return float, np.float64(state).tobytes()
    return type(state), repr(state)


@given(states)
def test_any_state_comes_back(state):
    tree = unpack(pack({"state": encode_state(state, lambda value, path: None)}))["state"]
    assert frozen(decode_state(tree, lambda node: pytest.fail("no tensors here"))) == frozen(state)


@given(st.lists(st.lists(keys, max_size=3).map(tuple), min_size=2, max_size=2, unique_by=repr))
def test_different_paths_have_different_names(paths):
    first, second = map(path_name, paths)
    assert first != second


def test_path_names():
    assert path_name(("model", "layer.0.weight")) == "model/layer.0.weight"
    assert path_name(("state", 1, "exp_avg")) == "state/1/exp_avg"
    assert path_name(("state", "1", "a/b")) == 'state/"1"/a%2Fb'
    assert path_name(((1, "x"), None, True, "=None")) == "=(1, 'x')/=None/=True/\"=None\""


@pytest.mark.parametrize(
    "value", [object(), range(3), {object(): 1}, {(1, object())}, {np.dtype("f4"): 1}, np.dtype("i4,f4"), slice(3)]
)
def test_other_values_are_refused_by_place(value):
    with pytest.raises(ArchiveError, match=r"state\['a'\]\[0\]"):
        encode_state({"a": [value]}, lambda value, path: None)


def test_a_state_that_holds_itself_is_refused():
    state = {}
    state["self"] = state
    with pytest.raises(ArchiveError, match="holds itself"):
        encode_state(state, lambda value, path: None)


def test_every_damage_to_a_skeleton_is_an_error():
    skeleton = {"state": encode_state({"a": [1, 2.5, "x"]}, lambda value, path: None)}
    data, caught = pack(skeleton), 0
    for length in range(len(data)):
        with pytest.raises(ArchiveError):
            unpack(data[:length])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert unpack(bytes(flipped)) == skeleton
        except ArchiveError:
            caught += 1
    assert caught >= 8 * len(data) - 1  # a zstd header has one bit without a meaning


def mutated(data, node):
    """A JSON value with one of its parts replaced, removed or doubled."""
    parts = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    if not parts or data.draw(st.integers(0, 3)) == 0:
        names = st.sampled_from(["array", "a", "npz", "torch", "../x", "\ud800", "f.npy", "AAAA", "", "-1"])
        plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        return data.draw(names | plain | st.just([]) | st.just({}))
    key, value = data.draw(st.sampled_from(parts))
    if data.draw(st.integers(0, 5)) == 0:
        return {k: v for k, v in parts if k != key} if isinstance(node, dict) else node + node
    changed = dict(node) if isinstance(node, dict) else list(node)
    changed[key] = mutated(data, value)
    return changed


def make_npy(path):
    np.save(path, np.arange(3))


def make_npz(path):
    np.savez(path, a=np.arange(3), f=np.ones((2, 3)))


def make_torch(path):
    torch = pytest.importorskip("torch")
    w = torch.ones(2, 3)
    torch.save(OrderedDict(w=w, t=w.t(), p=torch.nn.Parameter(w + 1), i=[torch.arange(3), (1, b"x", math.inf)]), path)


@pytest.mark.parametrize(("name", "make"), [("x.npy", make_npy), ("x.npz", make_npz), ("x.pt", make_torch)])
def test_a_forged_skeleton_is_an_error_at_worst(tmp_path, name, make):
    make(tmp_path / name)
    with open_source(tmp_path / name) as source:
        skeleton, tensors = {"kind": source.kind, **source.skeleton()}, dict(source)

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def forge(data):
        forged = mutated(data, skeleton)
        with contextlib.suppress(Error):
            source_writer(forged if isinstance(forged, dict) else {})(io.BytesIO(), forged, tensors)

    forge()


@pytest.mark.parametrize("scalar", ["08a", "", 3, "nope", "O", "x" * 100])
def test_a_forged_scalar_is_an_error_in_a_torch_file_too(scalar):
    forged = {"tensors": [], "state": {"tuple": [{"scalar": scalar, "bytes": "00"}]}}
    with pytest.raises(ArchiveError, match="damaged"):
        source_writer({"kind": "torch"})(io.BytesIO(), forged, {})


@pytest.mark.parametrize(
    "tree",
    [
        {}, {"tuple": 3}, {"dict": [1]}, {"dict": [[[], 1]]}, {"dict": [[{"tensor": "x"}, 1]]}, {"float": "x"},
        {"bytes": "é"}, {"ordered": []}, {"scalar": "<f4", "bytes": "00"}, {"scalar": "|O", "bytes": "00112233"},
        {"npdtype": "nope"}, {"npdtype": "08a"}, {"scalar": "08a", "bytes": ""},
        {"set": [[1]]}, {"counter": 3}, {"complex": ["00"]},
    ],
)  # fmt: skip
def test_a_forged_tree_is_an_error(tree):
    with pytest.raises(ArchiveError):
        decode_state([tree], lambda node: None)
