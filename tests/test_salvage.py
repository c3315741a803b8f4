import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import szdnn
from szdnn.cli import main
from szdnn.errors import ArchiveError, CorruptFrame
from szdnn.salvage import recover, salvage

RNG = np.random.default_rng(0)
BLOCK = 1 << 18
STATE = {
    "big": RNG.normal(size=(1000, 1024)).astype(np.float32),
    "whole": RNG.normal(size=(70, 60)).astype(np.float32),
    "ids": RNG.integers(0, 9, 3000),
    "small.a": RNG.normal(size=30).astype(np.float32),
    "small.b": RNG.normal(size=40).astype(np.float32),
    "count": np.array([7]),
}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "state.npz.szd.safetensors"
    szdnn.save(path, STATE, szdnn.Abs(1e-3))
    return path


def damage(path, name, part):
    """Flip a bit in the middle of the frame of a tensor, at this part of its bytes."""
    with szdnn.open(path) as opened:
        frame = opened.frame(name).tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(frame) + int(len(frame) * part)] ^= 16
    path.write_bytes(data)


def restored(path):
    with np.load(path) as arrays:
        return dict(arrays)


def check(after, report, fill=0.0):
    """All values that are not said to be lost are within the bound, the others filled."""
    for name, before in STATE.items():
        flat, lost = after[name].reshape(-1), np.zeros(before.size, bool)
        for start, stop in report.damaged[name].ranges if name in report.damaged else ():
            lost[start:stop] = True
        assert np.abs(flat[~lost].astype(float) - before.reshape(-1)[~lost]).max(initial=0) <= 1e-3
        assert np.array_equal(flat[lost], np.full(lost.sum(), fill, flat.dtype), equal_nan=True)


def test_an_intact_archive_comes_back_whole(archive, tmp_path):
    report = salvage(archive, tmp_path / "out.npz")
    assert report.ok
    assert set(report.intact) == set(STATE)
    check(restored(tmp_path / "out.npz"), report)


@pytest.mark.parametrize(("part", "block"), [(0.01, 0), (0.3, 1), (0.6, 2), (0.999, 3)])
@pytest.mark.parametrize("fill", ["zero", "nan"])
def test_only_the_damaged_block_is_lost(archive, tmp_path, part, block, fill):
    damage(archive, "big", part)
    report = salvage(archive, tmp_path / "out.npz", fill=fill)
    loss = report.damaged["big"]
    assert report.damaged.keys() == {"big"}
    assert loss.ranges == ((block * BLOCK, min((block + 1) * BLOCK, 1000 * 1024)),)
    assert loss.values == loss.ranges[0][1] - loss.ranges[0][0]
    check(restored(tmp_path / "out.npz"), report, np.nan if fill == "nan" else 0)


def test_damage_of_small_tensors_is_theirs_alone(archive, tmp_path):
    damage(archive, "small.a", 0.9)
    report = salvage(archive, tmp_path / "out.npz")
    assert set(report.damaged) == {"small.a", "small.b"}
    check(restored(tmp_path / "out.npz"), report)


@pytest.mark.parametrize("part", [0.0, 0.9999])
def test_an_archive_cut_short_gives_what_is_there(archive, tmp_path, part):
    data = archive.read_bytes()
    with szdnn.open(archive) as opened:
        frame = opened.frame("big").tobytes()
    archive.write_bytes(data[: data.index(frame) + int(part * len(frame))])
    with pytest.raises(ArchiveError):
        szdnn.open(archive)
    report = salvage(archive, tmp_path / "out.npz")
    assert "cut short" in report.notes[0]
    assert {"small.a", "small.b", "count"} <= set(report.intact)
    assert report.damaged["big"].values == (1000 * 1024 if part == 0 else 1000 * 1024 - 3 * BLOCK)
    check(restored(tmp_path / "out.npz"), report)


def test_without_its_skeleton_an_archive_gives_its_large_tensors(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    data[data.index(b"\x28\xb5\x2f\xfd") + 20] ^= 1  # the first zstd frame
    archive.write_bytes(data)
    report = salvage(archive, tmp_path / "out.safetensors")
    from safetensors.numpy import load_file

    after = load_file(tmp_path / "out.safetensors")
    assert set(after) == {"big", "whole", "ids"} == set(report.intact)
    assert np.abs(after["big"] - STATE["big"]).max() <= 1e-3
    assert any("skeleton" in note for note in report.notes)
    assert not report.ok


def test_without_its_header_nothing_is_found(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    data[12] ^= 0x40
    archive.write_bytes(data)
    with pytest.raises(ArchiveError, match="header is damaged"):
        salvage(archive, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_bare_frame(tmp_path):
    path = tmp_path / "x.szd"
    frame = bytearray(szdnn.compress(STATE["big"], szdnn.Abs(1e-3)))
    frame[len(frame) // 2] ^= 1
    path.write_bytes(frame)
    report = salvage(path, tmp_path / "x.npy")
    assert 0 < report.damaged["array"].values <= BLOCK
    assert np.load(tmp_path / "x.npy").shape == (1000, 1024)


def test_the_command_line_lists_what_is_lost(archive, tmp_path):
    out = tmp_path / "out.npz"
    damage(archive, "big", 0.3)
    result = CliRunner().invoke(main, ["decompress", str(archive), "-o", str(out)])
    assert result.exit_code == 1
    assert not out.exists()
    result = CliRunner().invoke(main, ["decompress", "--salvage", "--fill=nan", str(archive), "-o", str(out)])
    assert result.exit_code == 1
    assert f"big: {BLOCK} of 1024000 values lost, {BLOCK}:{2 * BLOCK}: block 1" in result.output
    assert "5 tensors intact, 1 damaged" in result.output
    assert np.isnan(restored(out)["big"]).sum() == BLOCK


@given(
    st.lists(st.integers(1, 40), max_size=3).map(tuple),
    st.lists(st.tuples(st.integers(0, 64000), st.integers(1, 5000)), max_size=3),
)
def test_exactly_what_can_not_be_read_is_lost(shape, holes):
    values = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.int64).reshape(shape)
    bad = np.zeros(values.size, bool)
    for start, length in holes:
        bad[start : start + length] = True

    def read(box):
        if bad.reshape(shape)[box].any():
            raise CorruptFrame("a hole")
        return values[box]

    out = np.zeros(shape, np.int64)
    lost = np.zeros(values.size, bool)
    for start, stop in recover(read, out):
        assert start < stop
        assert not lost[start:stop].any()
        lost[start:stop] = True
    flat = out.reshape(-1)
    assert (flat[lost] == 0).all()
    assert np.array_equal(flat[~lost], values.reshape(-1)[~lost])
    assert (lost | ~bad).all()
    if len(holes) <= 1:  # of several, what lies between two nearer than 4096 may be given up
        assert np.array_equal(lost, bad)
