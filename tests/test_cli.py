import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import szdnn
from szdnn.archive import Archive
from szdnn.cli import main
from szdnn.diff import diff_arrays

BOUNDS = ["--abs=0.01", "--rel=1e-3", "--std=0.01", "--pw-rel=0.01", "--psnr=60", "--rmse=0.01", "--bits=16"]


def run(*args, code=0, **options):
    result = CliRunner().invoke(main, [str(arg) for arg in args], **options)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def start(*args, **options):
    code = "import sys; from szdnn.cli import main; main(sys.argv[1:], prog_name='szdnn')"
    command = [sys.executable, "-c", code, *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=dict(os.environ), **{**pipes, **options})


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "model.safetensors"
    tensors = {
        "dense.weight": rng.normal(size=(40, 50)).astype(np.float32),
        "dense.bias": rng.normal(size=50).astype(np.float32),
        "ids": np.arange(2000),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    return path


@pytest.fixture
def array(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(30, 40)))
    return path


@pytest.mark.parametrize("bound", BOUNDS)
def test_round_trip_under_every_bound(model, tmp_path, bound):
    before = load_file(model)
    run("compress", model, bound)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "model.szd.safetensors"]
    run("decompress", tmp_path / "model.szd.safetensors", "-o", tmp_path / "out.safetensors")
    after = load_file(tmp_path / "out.safetensors")
    assert before.keys() == after.keys()
    for name in ("dense.bias", "ids"):
        assert before[name].tobytes() == after[name].tobytes()
    error = np.abs(after["dense.weight"].astype(np.float64) - before["dense.weight"])
    w = before["dense.weight"].astype(np.float64)
    limit = {
        "--abs": 0.01, "--rel": 1e-3 * np.ptp(w), "--std": 0.01 * w.std(), "--pw-rel": 0.01 * np.abs(w),
        "--psnr": np.inf, "--rmse": np.inf, "--bits": np.inf,
    }[bound.split("=")[0]]  # fmt: skip
    assert (error <= limit * (1 + 1e-9)).all()
    rmse = np.sqrt((error**2).mean())
    assert rmse <= {"--psnr": np.ptp(w) / 1000, "--rmse": 0.01}.get(bound.split("=")[0], np.inf)
    with Archive(tmp_path / "model.szd.safetensors") as archive:
        assert archive.info("dense.weight").frame_bytes <= (w.size * 2 if bound == "--bits=16" else w.size * 4 + 64)


def test_lossless_restores_the_same_bytes(model, tmp_path):
    data = model.read_bytes()
    assert "every bit equal" in run("compress", model, "--lossless").output
    run("decompress", tmp_path / "model.szd.safetensors", "-f", "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


def test_default_names(array, model, tmp_path):
    run("compress", array, "--abs=0.1", "--rm")
    assert not array.exists()
    run("decompress", tmp_path / "x.npy.szd.safetensors")
    assert array.exists()
    run("compress", model, "--abs=0.1", "--rm")
    run("decompress", tmp_path / "model.szd.safetensors")
    assert model.exists()


def test_nothing_is_overwritten_without_force(model, tmp_path):
    run("compress", model, "--lossless")
    archive, data = tmp_path / "model.szd.safetensors", model.read_bytes()
    for args in (["compress", model, "--abs=1"], ["decompress", archive]):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert "-f overwrites" in run(*args, code=2).output
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    run("compress", model, "--abs=1", "-f")
    run("decompress", archive, "-f")
    assert model.read_bytes() != data
    assert "input itself" in run("compress", model, "--abs=1", "-f", "-o", model, code=2).output


@pytest.mark.parametrize(
    "options",
    [
        [], ["--abs=1", "--rel=1"], ["--lossless", "--rel=1"], ["--rel=-1"], ["--abs=nan"], ["--abs=x"], ["--nope"],
        ["--abs=1", "--effort=10"], ["--abs=1", "--rm", "-c"], ["--abs=1", "-T", "0"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2(model, options):
    assert "Usage:" in run("compress", model, *options, code=2).output
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]


def test_wrong_inputs_are_1_and_leave_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("hello world, hello world")
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    before = sorted(tmp_path.iterdir())
    for name in ("missing.npy", "folder", "text.txt", "cut.safetensors", "empty.safetensors", "objects.npy"):
        for args in (["compress", "--abs=1"], ["decompress"], ["info"], ["test"], ["diff", tmp_path / name]):
            output = run(*args, tmp_path / name, code=1).output
            assert name in output
            assert output.startswith("Error: ")
            assert output.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_pickle_is_1(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "model.pth")
    assert "save its tensors alone" in run("compress", tmp_path / "model.pth", "--abs=1", code=1).output
    torch.save({"w": torch.randn(50, 60)}, tmp_path / "model.pth")
    run("compress", tmp_path / "model.pth", "--abs=0.1")
    run("decompress", "-f", tmp_path / "model.pth.szd.safetensors")
    assert torch.load(tmp_path / "model.pth", weights_only=True)["w"].shape == (50, 60)


def test_a_bound_that_can_not_be_met_is_1(model):
    assert "dense.weight" in run("compress", model, "--bits=0.001", code=1).output
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]


def test_a_bound_found_broken_is_1_and_writes_nothing(model, monkeypatch):
    decompress = szdnn.codec.decompress

    def wrong(frame, **options):
        decoded = decompress(frame, **options)
        return decoded + np.ones((), decoded.dtype)

    monkeypatch.setattr(szdnn.codec, "decompress", wrong)
    assert "beyond" in run("compress", model, "--abs=0.1", "--rm", code=1).output
    assert [path.name for path in model.parent.iterdir()] == ["model.safetensors"]
    assert "errors not checked" in run("compress", model, "--abs=0.1", "--no-verify").output


def test_output_of_compress(model):
    quiet = run("compress", model, "--abs=0.01", "-q")
    assert quiet.output == ""
    total = run("compress", model, "--abs=0.01", "-f").output
    assert total.count("\n") == 1
    for part in ("ratio", "weights only", "bits/weight", "largest error", "MB/s"):
        assert part in total
    verbose = run("compress", model, "--abs=0.01", "-f", "-v").output
    lines = {line.split()[0]: line.split() for line in verbose.strip().split("\n")}
    assert lines["dense.weight"][1:4] == ["float32", "40x50", "Abs(0.01)"]
    assert lines["dense.bias"][1:4] == ["float32", "50", "Lossless"]
    assert lines["ids"][1:4] == ["int64", "2000", "Lossless"]


def test_a_plan_gives_bounds_by_name(model, tmp_path):
    plan = szdnn.Plan(
        szdnn.Lossless(), {"dense.bias": szdnn.Abs(0.1), "dense.*": szdnn.Abs(0.01), "nope": szdnn.Abs(1)}
    )
    (tmp_path / "plan.json").write_text(plan.to_json())
    output = run("compress", model, "--plan", tmp_path / "plan.json").output
    assert "no tensor fits the plan's rule 'nope'" in output
    with Archive(tmp_path / "model.szd.safetensors") as archive:
        found = {name: archive.info(name).bound for name in archive}
    assert found == {"dense.weight": szdnn.Abs(0.01), "dense.bias": szdnn.Abs(0.1), "ids": szdnn.Lossless()}
    for options in (["--plan", tmp_path / "plan.json", "--abs=1"], ["--plan", model]):
        run("compress", "-f", model, *options, code=2)
    assert "No such file" in run("compress", "-f", model, "--plan", tmp_path / "none.json", code=1).output


def test_test_compares_with_the_original(model, tmp_path):
    run("compress", model, "--abs=0.01")
    archive = tmp_path / "model.szd.safetensors"
    assert "no damage, largest error" in run("test", archive, "--original", model).output
    tensors = load_file(model)
    tensors["dense.weight"][3, 3] += 1
    save_file(tensors, model, metadata={"format": "pt"})
    output = run("test", archive, "--original", model, code=1).output
    assert "dense.weight: 1 values are beyond Abs(eps=0.01" in output
    run("test", tmp_path, "--original", model, code=2)


def test_info(model, array, tmp_path):
    run("compress", model, "--abs=0.01")
    output = run("info", tmp_path / "model.szd.safetensors").output
    assert "Abs(0.01)" in output
    assert "dense.bias" in output
    told = json.loads(run("info", "--json", tmp_path / "model.szd.safetensors").output)
    by_name = {tensor["name"]: tensor for tensor in told["tensors"]}
    assert by_name["dense.weight"]["shape"] == [40, 50]
    assert by_name["ids"]["dtype"] == "int64"
    assert told["archive_bytes"] == (tmp_path / "model.szd.safetensors").stat().st_size
    assert told["metadata"] == {"format": "pt"}
    (tmp_path / "x.szd").write_bytes(szdnn.compress(np.load(array), szdnn.Abs(0.5)))
    assert "Abs(0.5)" in run("info", tmp_path / "x.szd").output
    run("decompress", tmp_path / "x.szd", "-o", tmp_path / "y.npy")
    assert np.abs(np.load(tmp_path / "y.npy") - np.load(array)).max() <= 0.5


def test_test_names_the_damaged_tensor(model, tmp_path):
    run("compress", model, "--abs=0.01")
    archive = tmp_path / "model.szd.safetensors"
    assert "3 tensors, no damage" in run("test", archive).output
    with Archive(archive) as opened:
        frame = opened.frame("ids").tobytes()
    data = bytearray(archive.read_bytes())
    data[data.index(frame) + len(frame) - 1] ^= 1
    archive.write_bytes(data)
    output = run("test", archive, code=1).output
    assert "ids: " in output
    assert "1 of 3 tensors are damaged" in output
    assert "ids: " in run("decompress", archive, "-o", tmp_path / "out", code=1).output
    assert not (tmp_path / "out").exists()


def test_max_bytes(model, tmp_path):
    run("compress", model, "--lossless")
    total = sum(array.nbytes for array in load_file(model).values())
    archive = tmp_path / "model.szd.safetensors"
    assert str(total) in run("decompress", archive, "-f", "--max-bytes", total - 1, code=1).output
    run("decompress", archive, "-f", "--max-bytes", total)


def test_diff(model, tmp_path):
    archive, other = tmp_path / "model.szd.safetensors", tmp_path / "other.npz"
    run("compress", model, "--lossless")
    assert "3 of 3 tensors equal" in run("diff", model, archive).output
    run("compress", model, "--abs=0.01", "-f")
    output = run("diff", model, archive, code=1).output
    assert "2 of 3 tensors equal, 1 not" in output
    assert run("diff", "-q", model, archive, code=1).output == ""
    tensors = load_file(model)
    np.savez(other, **{"ids": tensors["ids"].astype(np.int32), "dense.bias": tensors["dense.bias"][1:], "more": 1})
    output = run("diff", model, other, code=1).output
    states = {line.split("  ")[0]: line for line in output.split("\n")}
    for name, state in {
        "dense.weight": "only in A",
        "dense.bias": "shape",
        "ids": "dtype",
        "more": "only in B",
    }.items():
        assert state in states[name]


def test_diff_sees_more_than_tensors(model, tmp_path):
    save_file(load_file(model), tmp_path / "other.safetensors", metadata={"format": "np"})
    assert "beside tensors differs" in run("diff", model, tmp_path / "other.safetensors", code=1).output
    torch = pytest.importorskip("torch")
    for name, epoch in (("a.pt", 1), ("b.pt", 1.0), ("c.pt", 1)):
        torch.save({"w": torch.ones(3), "epoch": epoch}, tmp_path / name)
    run("diff", tmp_path / "a.pt", tmp_path / "b.pt", code=1)
    run("diff", tmp_path / "a.pt", tmp_path / "c.pt")


def test_differences_of_arrays():
    a = np.array([0.0, 1.0, 10.0, np.nan, np.inf, -np.inf])
    equal = diff_arrays("x", a, a.copy())
    assert (equal.state, equal.max_abs_error, equal.rmse, equal.psnr) == ("equal", 0, 0, np.inf)
    b = a.copy()
    b[1] = 3.0
    differs = diff_arrays("x", a, b)
    assert (differs.state, differs.max_abs_error, differs.relative) == ("differs", 2.0, 0.2)
    assert differs.rmse == pytest.approx(np.sqrt(4 / 6))
    assert differs.psnr == pytest.approx(20 * np.log10(10 / differs.rmse))
    b[3] = 1.0
    assert diff_arrays("x", a, b).max_abs_error == np.inf
    assert diff_arrays("x", np.array([0.0]), np.array([-0.0])).state == "differs"
    assert diff_arrays("x", np.array(1j), np.array(2j)).max_abs_error == 1.0
    assert diff_arrays("x", np.zeros((0, 3)), np.zeros((0, 3))).state == "equal"


def test_version_and_help():
    assert szdnn.__version__ in run("--version").output
    for command in ("compress", "decompress", "info", "test", "diff", "demo"):
        assert command in run("--help").output
        assert "Usage:" in run(command, "--help").output


def test_without_torch_its_files_are_refused_with_the_command_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "model.pt").write_bytes(b"\x80\x02}q\x00.")
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("szdnn.torch_file", "szdnn.torch_leaves", "szdnn.demo"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert "pip install" in run("compress", tmp_path / "model.pt", "--abs=1", code=1).output
    assert "pip install" in run("demo", code=1).output


def test_demo(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    lines = run("demo", "--keep", tmp_path).output.split("\n")
    rows = {line.split("  ")[0]: line.split() for line in lines}
    sizes = [int(rows[f"Rel({r})"][1]) for r in (0.1, 0.03, 0.01, 0.001)]
    assert sizes == sorted(sizes)
    assert sizes[-1] < int(rows["Lossless"][1]) < (tmp_path / "lenet.pt").stat().st_size
    assert rows["Lossless"][-1] == rows["original .pt"][-1]
    assert float(rows["Rel(0.001)"][-1].rstrip("%")) > 95
    run("diff", tmp_path / "lenet.pt", tmp_path / "lenet-lossless.pt")
    run("diff", tmp_path / "lenet.pt", tmp_path / "lenet-rel-0.1.pt", code=1)


# --- real processes ---


def test_pipe(array, tmp_path):
    first = start("compress", "-", "--abs=0.01", stdin=subprocess.PIPE)
    archive, messages = first.communicate(array.read_bytes(), timeout=60)
    assert first.returncode == 0, messages
    second = start("decompress", "-", stdin=subprocess.PIPE)
    restored, messages = second.communicate(archive, timeout=60)
    assert second.returncode == 0, messages
    assert np.abs(np.load(io.BytesIO(restored)) - np.load(array)).max() <= 0.01
    third = start("compress", array, "--abs=0.01", "-c")
    assert third.communicate(timeout=60)[0] == archive
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_named_pipe_is_read(array, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = start("compress", tmp_path / "pipe", "--lossless", "-o", tmp_path / "out")
    (tmp_path / "pipe").write_bytes(array.read_bytes())
    assert process.wait(60) == 0
    run("diff", array, tmp_path / "out")


def test_silence_in_a_pipe(array):
    process = start("compress", array, "--abs=0.01")
    output, messages = process.communicate(timeout=60)
    assert messages == b""
    assert output.count(b"\n") == 1
    assert b"\r" not in output
    assert b"\x1b" not in output


def test_a_terminal_gets_a_progress_bar_and_narrow_tables(array, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    for args, expected in ((["compress"], b"100%"), (["compress", "-q", "-f"], b""), (["info"], b"Abs(0.01)")):
        parent, child = pty.openpty()
        termios.tcsetwinsize(child, (24, 50))
        options = ["--abs=0.01", array] if args[0] == "compress" else [f"{array}.szd.safetensors"]
        process = start(*args, *options, stdout=child, stderr=child)
        assert process.wait(60) == 0
        os.close(child)
        output = b""
        with contextlib.suppress(OSError):  # all read: nobody holds the other end
            while chunk := os.read(parent, 100_000):
                output += chunk
        os.close(parent)
        assert expected in output
        assert bool(output) == bool(expected)
        if args[0] == "info":
            assert max(map(len, output.split(b"\r\n")[:2])) <= 50


def test_a_closed_pipe_is_no_traceback(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=100_000))
    process = start("compress", path, "--lossless", "-c")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


def is_writing(pid, folder):
    """Whether a process has begun a file in the folder: one that has no name yet, or a temporary one."""
    links = []
    with contextlib.suppress(OSError):
        links = [os.readlink(link) for link in Path("/proc", str(pid), "fd").iterdir()]
    unnamed = any(link.startswith(str(folder)) and link.endswith("(deleted)") for link in links)
    return unnamed or any(path.name.endswith(".tmp") for path in folder.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing_behind(tmp_path, number, code):
    path = tmp_path / "x.npz"
    values = np.random.default_rng(0).normal(size=1_000_000)
    np.savez(path, **{f"x{i}": values for i in range(30)})
    (tmp_path / "x.npz.szd.safetensors").write_bytes(b"old")
    process = start("compress", path, "--rel=1e-5", "--effort=9", "-f")
    deadline = time.monotonic() + 60
    while not is_writing(process.pid, tmp_path):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in messages
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npz", "x.npz.szd.safetensors"]
    assert (tmp_path / "x.npz.szd.safetensors").read_bytes() == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_1(array):
    with open("/dev/full", "wb") as full:
        process = start("compress", array, "--lossless", "-c", stdout=full)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"No space left" in messages
    assert b"Traceback" not in messages


def test_importing_the_command_line_does_not_import_torch():
    code = "import sys, szdnn.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=60).returncode == 0
