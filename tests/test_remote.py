"""Object stores through fsspec: is an object whole or absent, and is no more fetched than what is asked for?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import szdnn
from szdnn.cli import main

fsspec = pytest.importorskip("fsspec")

from szdnn.integrations import remote  # noqa: E402

BOUND = szdnn.Rel(1e-3)
BUCKETS = itertools.count()


def state(seed: int = 0, size: int = 256) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {f"layer{i}": generator.normal(0, 1, (size, size)).astype(np.float32) for i in range(4)}


def check(loaded: Any, original: dict[str, Any]) -> None:
    assert loaded.keys() == original.keys()
    for name, array in original.items():
        assert np.abs(loaded[name] - array).max() <= 1e-3 * (array.max() - array.min())


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """The URL of a new bucket, and fsspec's file system for it; found by the settings that AWS's tools read."""
    import s3fs

    settings = {
        "AWS_ENDPOINT_URL": s3_server, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    bucket = f"bucket{next(BUCKETS)}"
    system.mkdir(bucket)
    yield f"s3://{bucket}", system
    s3fs.S3FileSystem.clear_instance_cache()


def objects(system: Any, url: str) -> list[str]:
    """What is in a bucket, asked of the server."""
    system.invalidate_cache()
    return sorted(name.split("/", 1)[1] for name in system.find(url))


def unfinished(system: Any, url: str) -> list[Any]:
    """Uploads in parts that were begun and neither completed nor aborted; they cost money and no listing shows them."""
    found: list[Any] = system.call_s3("list_multipart_uploads", Bucket=url.removeprefix("s3://")).get("Uploads", [])
    return found


@pytest.mark.parametrize(
    ("path", "expected"),
    [("s3://a/b", True), ("memory://a", True), ("https://h/x", True), ("file:///a", False), ("a/b", False),
     ("C:\\a", False), ("/a//b", False), (Path("s3://a/b"), False), ("://", False), ("a b://c", False)],
)  # fmt: skip
def test_is_remote(path: Any, expected: bool) -> None:
    assert remote.is_remote(path) is expected


def test_save_and_load_s3(s3: tuple[str, Any]) -> None:
    url, system = s3
    original = state()
    report = szdnn.save(f"{url}/run/a.szd.safetensors", original, BOUND)
    assert objects(system, url) == ["run/a.szd.safetensors"]
    assert system.size(f"{url}/run/a.szd.safetensors") == report.archive_bytes
    check(szdnn.load(f"{url}/run/a.szd.safetensors"), original)
    assert szdnn.verify(f"{url}/run/a.szd.safetensors").ok
    assert szdnn.load(f"{url}/run/a.szd.safetensors", names="layer2").keys() == {"layer2"}


def test_only_what_is_asked_for_is_fetched(s3: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening takes the header, a tensor its frame: by range requests, which the store sees."""
    url, system = s3
    original = state(size=512)
    size = szdnn.save(f"{url}/a.szd.safetensors", original, BOUND).archive_bytes
    ranges: list[int] = []
    call = type(system)._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "get_object":
            first, last = kwargs["Range"].removeprefix("bytes=").split("-")
            ranges.append(int(last) - int(first) + 1)
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(type(system), "_call_s3", counted)
    with szdnn.open(f"{url}/a.szd.safetensors") as archive:
        assert list(archive) == list(original)
        assert sum(ranges) <= remote.FIRST_READ < size / 4
        ranges.clear()
        frame = archive.info("layer3").frame_bytes
        ranges.clear()
        tensor = archive["layer3"]
        assert ranges == [frame]
        assert np.abs(tensor - original["layer3"]).max() <= archive.info("layer3").eps
        assert np.array_equal(archive.read("layer3", np.s_[3:5]), tensor[3:5])


class Failing:
    """Lets an S3 operation fail from its n-th call on."""

    def __init__(self, system: Any, monkeypatch: pytest.MonkeyPatch, operation: str, after: int) -> None:
        call, calls = type(system)._call_s3, itertools.count()

        async def broken(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
            if method == operation and next(calls) >= after:
                raise OSError(5, "the connection was lost")
            return await call(self, method, *args, **kwargs)

        monkeypatch.setattr(type(system), "_call_s3", broken)


@pytest.mark.parametrize(
    ("operation", "after"), [("upload_part", 0), ("upload_part", 1), ("complete_multipart_upload", 0)]
)
def test_a_failed_upload_leaves_no_object(
    s3: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, operation: str, after: int
) -> None:
    """At whatever part it fails; and where there was an object, that one stays."""
    url, system = s3
    monkeypatch.setattr(remote, "PART_BYTES", 5 << 20)
    big = {"noise": np.random.default_rng(0).integers(0, 256, 12 << 20, np.uint8)}  # 12 MB that nothing makes smaller
    szdnn.save(f"{url}/old.szd.safetensors", state(), BOUND)
    with monkeypatch.context() as patch:
        Failing(system, patch, operation, after)
        for name in ("new", "old"):
            with pytest.raises(OSError, match="connection was lost"):
                szdnn.save(f"{url}/{name}.szd.safetensors", big, BOUND)
    assert objects(system, url) == ["old.szd.safetensors"]
    assert unfinished(system, url) == []
    check(szdnn.load(f"{url}/old.szd.safetensors"), state())
    szdnn.save(f"{url}/new.szd.safetensors", big, BOUND)
    assert np.array_equal(szdnn.load(f"{url}/new.szd.safetensors")["noise"], big["noise"])
    assert unfinished(system, url) == []


def test_a_failed_save_uploads_nothing(s3: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it leave its spooled file on local disk."""
    url, system = s3
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(szdnn.ArchiveError, match="object"):
        szdnn.save(f"{url}/a.szd.safetensors", {**state(), "x": object()}, BOUND)
    assert objects(system, url) == []
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_objects(s3: tuple[str, Any]) -> None:
    url, system = s3
    with pytest.raises(FileNotFoundError):
        szdnn.load(f"{url}/nothing.szd.safetensors")
    with pytest.raises(OSError, match=r"bucket|Bucket"):
        szdnn.save("s3://no-such-bucket/a.szd.safetensors", state(), BOUND)
    path = f"{url}/a.szd.safetensors"
    szdnn.save(path, state(), BOUND)
    data = system.cat_file(path)
    for changed in (data[:100], data[: len(data) // 2], b"", data[:-1], data + b"x", b"\xff" * 8 + data[8:]):
        system.pipe_file(path, changed)
        with pytest.raises(szdnn.Error):
            szdnn.load(path)
    system.pipe_file(path, data[:-50] + bytes([data[-50] ^ 1]) + data[-49:])
    with pytest.raises(szdnn.CorruptFrame, match="layer3"):
        szdnn.load(path)


def test_command_line(s3: tuple[str, Any], tmp_path: Path) -> None:
    """compress, info, test and decompress between local files and URLs, -f needed to overwrite."""
    url, system = s3
    original = state()
    np.savez(tmp_path / "a.npz", **original)
    system.put_file(str(tmp_path / "a.npz"), f"{url}/a.npz")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    run("compress", f"{url}/a.npz", "--rel", "1e-3", "-o", f"{url}/a.szd.safetensors")
    assert objects(system, url) == ["a.npz", "a.szd.safetensors"]
    assert "exists" in run("compress", f"{url}/a.npz", "--rel", "1e-3", "-o", f"{url}/a.szd.safetensors", code=2)
    run("compress", f"{url}/a.npz", "--rel", "1e-3", "-f", "-o", f"{url}/a.szd.safetensors")
    run("compress", f"{url}/a.npz", "--rel", "1e-3")
    assert "a.npz.szd.safetensors" in objects(system, url)
    assert "layer2" in run("info", f"{url}/a.szd.safetensors")
    assert "no damage" in run("test", f"{url}/a.szd.safetensors")
    run("decompress", f"{url}/a.szd.safetensors", "-o", str(tmp_path / "back.npz"))
    with np.load(tmp_path / "back.npz") as back:
        check(dict(back), original)
    run("decompress", f"{url}/a.szd.safetensors", "-o", f"{url}/back.npz")
    system.get_file(f"{url}/back.npz", str(tmp_path / "again.npz"))
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "back.npz").read_bytes()
    assert "4 of 4 tensors equal" in run("diff", f"{url}/a.szd.safetensors", f"{url}/back.npz")
    run("compress", str(tmp_path / "a.npz"), "--rel", "1e-3", "-o", f"{url}/up.szd.safetensors")
    assert system.cat_file(f"{url}/up.szd.safetensors") == system.cat_file(f"{url}/a.szd.safetensors")


def test_other_file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file can be seen half written, it is uploaded under another name; what fails leaves neither."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    monkeypatch.setattr(remote, "_STORES", frozenset())
    szdnn.save("memory://folder/a.szd.safetensors", state(), BOUND)
    check(szdnn.load("memory://folder/a.szd.safetensors"), state())
    assert [path.rsplit("/")[-1] for path in system.find("/folder")] == ["a.szd.safetensors"]

    def broken(local: str, path: str, **kwargs: Any) -> None:
        system.pipe_file(path, b"half")
        raise OSError(5, "the connection was lost")

    monkeypatch.setattr(system, "put_file", broken)
    with pytest.raises(OSError, match="connection"):
        szdnn.save("memory://folder/a.szd.safetensors", state(1), BOUND)
    check(szdnn.load("memory://folder/a.szd.safetensors"), state())
    assert [path.rsplit("/")[-1] for path in system.find("/folder")] == ["a.szd.safetensors"]


def test_other_errors_name_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(szdnn.ArchiveError, match="nosuch://x"):
        szdnn.load("nosuch://x")
    system = fsspec.filesystem("memory")

    def broken(*arguments: Any, **kwargs: Any) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(system, "put_file", broken)
    with pytest.raises(szdnn.ArchiveError, match="memory://b: RuntimeError: odd"):
        szdnn.save("memory://b", state(), BOUND)
