import hashlib
import itertools
import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import szdnn
from szdnn import small
from szdnn.archive import Archive
from szdnn.archive_layout import SKELETON, SMALL
from szdnn.archive_writer import ArchiveWriter
from szdnn.atomic import atomic_file
from szdnn.errors import ArchiveError, CorruptFrame, Error, LimitError, UnsupportedFrame
from szdnn.frame_reader import FrameFile
from szdnn.safetensors_file import SafetensorsSource, read_header
from szdnn.skeleton import DICTIONARY, entry_name
from szdnn.source import TensorSpec

TENSORS = {
    "layer/weight": np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32),
    "bias": np.arange(12, dtype=np.float32).reshape(3, 4),
    "ids": np.random.default_rng(0).integers(-9, 9, 600),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 2), np.float16),
}
SMALLS = ["bias", "scalar", "empty"]
names = st.text(min_size=0, max_size=20).filter(lambda name: name == entry_name(name))


def write(path, tensors, skeleton=None, metadata=None):
    specs = {name: TensorSpec(array.dtype, array.shape) for name, array in tensors.items()}
    groups = small.groups(specs, dict.fromkeys(specs, szdnn.Lossless()))
    grouped = [name for group in groups for name in group.names]
    with atomic_file(path) as file:
        writer = ArchiveWriter(file, specs, grouped, skeleton or {}, metadata or {})
        for group in groups:
            frame = szdnn.compress(small.join([tensors[name] for name in group.names]), szdnn.Lossless())
            assert bytes(writer.read(writer.add_group(group, frame))) == frame
        for name, array in tensors.items():
            if name not in grouped:
                frame = szdnn.compress(array, szdnn.Lossless())
                assert bytes(writer.read(writer.add(name, frame))) == frame
        size = writer.finish()
    assert path.stat().st_size == size
    return path


def contents(path):
    """Everything an archive tells, comparable."""
    with Archive(path) as archive:
        tensors = {name: (array.dtype, array.shape, array.tobytes()) for name, array in archive.items()}
        return tensors, archive.skeleton, archive.metadata


LARGE = {
    "large/weight": np.random.default_rng(3).normal(size=(70, 90)).astype(np.float32),
    "large/ids": np.arange(3000, dtype=np.int64),
}


@pytest.fixture
def archive(tmp_path):
    return write(tmp_path / "a.szd.safetensors", TENSORS, {"kind": "test"}, {"source": "é", "format": "pt"})


@pytest.fixture
def large(tmp_path):
    """An archive of tensors that have entries of their own."""
    return write(tmp_path / "large.szd.safetensors", TENSORS | LARGE, {"kind": "test"}, {"source": "é", "format": "pt"})


def test_is_a_valid_safetensors_file(large):
    with safe_open(large, "numpy") as file:
        assert set(file.keys()) == {*LARGE, SKELETON, SMALL}
        digest = file.metadata()["digest"]
        assert file.metadata() == {"source": "é", "format": "szdnn", "version": "0", "digest": digest}
        for name, array in LARGE.items():
            frame = file.get_tensor(name)
            assert (frame.dtype, frame.ndim) == (np.uint8, 1)
            np.testing.assert_array_equal(szdnn.decompress(frame.tobytes()), array)


def test_reads_back_what_was_written(archive):
    with Archive(archive) as opened:
        assert list(opened) == list(TENSORS)
        assert opened.skeleton["kind"] == "test"
        assert opened.metadata == {"source": "é", "format": "pt"}
        for name, array in TENSORS.items():
            assert opened[name].dtype == array.dtype
            np.testing.assert_array_equal(opened[name], array)
            assert opened.info(name).shape == array.shape
        with pytest.raises(KeyError):
            opened["absent"]


@given(st.dictionaries(names, st.integers(0, 5), max_size=5), st.dictionaries(names, st.text(), max_size=3))
def test_any_names_and_metadata(tmp_path_factory, lengths, metadata):
    path = tmp_path_factory.mktemp("names") / "a"
    tensors = {name: np.arange(length, dtype=np.int16) for name, length in lengths.items()}
    write(path, tensors, metadata=metadata)
    read, _, read_metadata = contents(path)
    assert list(read) == list(tensors)
    assert read == {name: (array.dtype, array.shape, array.tobytes()) for name, array in tensors.items()}
    assert read_metadata == metadata


def test_padding_of_the_header_is_small(tmp_path):
    tensors = {f"layer{i}.weight": np.zeros(1024, np.float32) for i in range(200)}
    path = write(tmp_path / "a", tensors)
    header = path.read_bytes()[8:][: int.from_bytes(path.read_bytes()[:8], "little")]
    assert len(header) % 8 == 0
    assert len(header) - len(header.rstrip(b" ")) <= 12 * len(tensors)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, b"old"])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "a"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error), atomic_file(path) as file:  # noqa: PT012
        file.write(b"half of the new one")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == (["a"] if old else [])
    assert old is None or path.read_bytes() == old


def test_atomic_file_keeps_mode_and_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    with atomic_file(link) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_atomic_file_honours_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "a"):
            pass
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_atomic_file_replaces_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArchiveError, match="not a regular file"), atomic_file(tmp_path / "pipe"):
        pass
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_every_truncation_is_an_error(archive, tmp_path):
    data, cut = archive.read_bytes(), tmp_path / "cut"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(Error):
            contents(cut)
    cut.write_bytes(data + b"\0")
    with pytest.raises(Error):
        contents(cut)


def test_no_bit_flip_goes_unnoticed(archive, tmp_path):
    data, flipped, expected, caught = bytearray(archive.read_bytes()), tmp_path / "flipped", contents(archive), 0
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(data)
        data[bit // 8] ^= 1 << bit % 8
        try:
            assert contents(flipped) == expected
        except Error:
            caught += 1
    assert caught > 0.98 * 8 * len(data)  # but for the spaces after the header


def test_a_damaged_tensor_leaves_the_others_readable(archive):
    with Archive(archive) as opened:
        frame = opened.frame("ids").tobytes()
    data = bytearray(archive.read_bytes())
    data[data.index(frame) + len(frame) // 2] ^= 1
    archive.write_bytes(data)
    with Archive(archive) as opened:
        with pytest.raises(CorruptFrame, match="ids"):
            opened["ids"]
        np.testing.assert_array_equal(opened["layer/weight"], TENSORS["layer/weight"])


def test_max_bytes_is_per_tensor(archive):
    with Archive(archive, max_bytes=4800) as opened:
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(opened[name], array)
    with Archive(archive, max_bytes=47) as opened:
        np.testing.assert_array_equal(opened["scalar"], TENSORS["scalar"])
        for name in ("layer/weight", "bias"):
            with pytest.raises(LimitError, match=name):
                opened[name]


def test_other_safetensors_files_are_refused(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file(TENSORS, path)
    with pytest.raises(ArchiveError, match="not an szdnn archive"):
        Archive(path)
    save_file({"a": np.zeros(3, np.uint8)}, path, metadata={"format": "szdnn", "version": "0"})
    with pytest.raises(CorruptFrame, match="skeleton"):
        Archive(path)
    save_file({"a": np.zeros(3, np.float32)}, path, metadata={"format": "szdnn", "version": "0"})
    with pytest.raises(CorruptFrame, match="U8"):
        Archive(path)
    save_file({"a": np.zeros(3, np.uint8)}, path, metadata={"format": "szdnn", "version": "7"})
    with pytest.raises(UnsupportedFrame, match="7"):
        Archive(path)


def test_entries_of_newer_versions_are_unsupported(large, tmp_path):
    with safe_open(large, "numpy") as file:
        entries = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file({**entries, "__szdnn__.new": np.zeros(3, np.uint8)}, tmp_path / "b", metadata=metadata)
    with pytest.raises(UnsupportedFrame, match="new"):
        Archive(tmp_path / "b")
    save_file({**entries, "more": entries["large/ids"]}, tmp_path / "b", metadata=metadata)
    with pytest.raises(CorruptFrame, match="names"):
        Archive(tmp_path / "b")


def test_writer_wants_each_tensor_once(tmp_path):
    frame, spec = szdnn.compress(TENSORS["ids"], szdnn.Lossless()), TensorSpec(np.dtype(np.int64), (600,))
    group = small.Group(("few",), szdnn.Lossless())
    with (tmp_path / "a").open("wb+") as file:
        writer = ArchiveWriter(file, {"ids": spec, "few": spec}, ["few"], {}, {})
        with pytest.raises(ArchiveError, match="groups of small tensors come first"):
            writer.add("ids", frame)
        writer.add_group(group, frame)
        with pytest.raises(ArchiveError, match="unexpected group"):
            writer.add_group(group, frame)
        with pytest.raises(ArchiveError, match="'ids' was not added"):
            writer.finish()
        with pytest.raises(ArchiveError, match="unexpected"):
            writer.add("other", frame)
        writer.add("ids", frame)
        with pytest.raises(ArchiveError, match="unexpected"):
            writer.add("ids", frame)
        for name in ("__metadata__", "__szdnn__.x"):
            with pytest.raises(ArchiveError, match="name"):
                ArchiveWriter(file, {name: spec}, [], {}, {})


def test_a_bare_frame_is_an_archive_of_one(tmp_path):
    path = tmp_path / "x.szd"
    path.write_bytes(szdnn.compress(TENSORS["layer/weight"], szdnn.Lossless()))
    with FrameFile(path) as frames:
        assert list(frames) == ["array"]
        np.testing.assert_array_equal(frames["array"], TENSORS["layer/weight"])


@pytest.mark.parametrize("name", ["", "missing"])
def test_what_can_not_be_opened_is_an_os_error(tmp_path, name):
    with pytest.raises(OSError, match=r"directory"):
        Archive(Path(tmp_path, name))


@pytest.mark.parametrize("effort", [3, 9])
def test_an_archive_can_be_read_by_its_specification_alone(tmp_path, effort):
    rng = np.random.default_rng(0)
    state = {
        "big": rng.normal(size=(64, 65)).astype(np.float32),
        "middle": rng.normal(size=(40, 50)).astype(np.float32),
        **{f"{kind}{i}": rng.normal(size=i).astype(kind) for i in range(4) for kind in ("float32", "int64", "float16")},
        "lone": np.array(True),
    }
    szdnn.save(tmp_path / "a", state, szdnn.Abs(1e-3), effort=effort)
    data = (tmp_path / "a").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__")
    places = {name: entry["data_offsets"] for name, entry in header.items()}
    text = json.dumps([[name, *place] for name, place in places.items()], separators=(",", ":")).encode()
    assert metadata == {
        "format": "szdnn", "version": "0", "digest": hashlib.sha256(data[start:] + text).hexdigest()
    }  # fmt: skip
    entries = {name: data[start + first : start + stop] for name, (first, stop) in places.items()}
    assert list(entries) == ["__szdnn__.skeleton", "__szdnn__.small", *(["big"] if effort == 3 else [])]
    words = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    unpacker = zstandard.ZstdDecompressor(dict_data=words)
    skeleton = json.loads(unpacker.decompress(entries["__szdnn__.skeleton"]))
    assert [name for name, _, _ in skeleton["tensors"]] == list(state)
    found = {"big": szdnn.decompress(entries["big"])} if effort == 3 else {}
    entry, at, before = entries["__szdnn__.small"], 0, 0
    size = int.from_bytes(entry[-4:], "little")
    for length, steps in json.loads(unpacker.decompress(entry[-4 - size : -4])):
        row = szdnn.decompress(entry[at : at + length]).reshape(-1)
        at += length
        ids = list(itertools.accumulate(steps, initial=before))[1:]
        before = ids[0]
        for i in ids:
            name, dtype, shape = skeleton["tensors"][i]
            assert row.dtype == np.dtype(dtype)
            found[name], row = np.split(row, [math.prod(shape)])[0].reshape(shape), row[math.prod(shape) :]
        assert row.size == 0
    assert at == len(entry) - 4 - size
    assert found.keys() == state.keys()
    assert all(np.abs(found[name].astype(float) - state[name]).max(initial=0) <= 1e-3 for name in state)
    assert all(np.array_equal(found[name], state[name]) for name in state if name not in ("big", "middle"))


@pytest.fixture(params=["before", "after"])
def replace_once(request, monkeypatch):
    """A function: at the next reading of a header, before or after it, one file takes another's place."""
    waiting = []

    def reading(path):
        if request.param == "before" and waiting:
            os.replace(*waiting.pop())
        header = read_header(path)
        if waiting:
            os.replace(*waiting.pop())
        return header

    monkeypatch.setattr("szdnn.safetensors_file.read_header", reading)
    return lambda newer, path: waiting.append((newer, path))


def test_a_file_that_is_replaced_while_it_is_opened_is_read_whole(tmp_path, replace_once):
    path, newer = tmp_path / "state.szd.safetensors", tmp_path / "newer.szd.safetensors"
    for where, n in ((path, 3000), (newer, 70_000)):
        szdnn.save(where, {"w": np.full(n, n, np.float32)}, szdnn.Lossless())
    replace_once(newer, path)
    with Archive(path) as opened:
        assert (opened["w"] == len(opened["w"])).all()
        assert len(opened["w"]) in (3000, 70_000)


def test_a_checkpoint_that_is_replaced_while_it_is_opened_is_read_whole(tmp_path, replace_once):
    path, newer = tmp_path / "model.safetensors", tmp_path / "newer.safetensors"
    for where, n in ((path, 3000), (newer, 70_000)):
        save_file({"w": np.full(n, n, np.float32)}, where)
    replace_once(newer, path)
    values = SafetensorsSource(path)["w"]
    assert (values == len(values)).all()
    assert len(values) in (3000, 70_000)
