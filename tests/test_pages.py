import mmap
import sys

import numpy as np
import pytest

from szdnn import pages

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 1 << 20)
    monkeypatch.setattr(pages, "_INTERVAL", 0.001)
    np.arange(1 << 21, dtype=np.int32).tofile(tmp_path / "x")
    return tmp_path / "x"


def test_values_stay_while_pages_are_let_go(path):
    array = np.memmap(path, np.int32, "r")
    for view in (array, array[3:-5], array.reshape(2048, -1)[::2].T, np.asarray(array)[::-1], array[:0]):
        expected = np.fromfile(path, np.int32)[view.astype(np.int64)]
        with pages.released(pages.mapped_span(view)):
            for _ in range(20):
                assert np.array_equal(view, expected)


def test_only_files_mapped_for_reading_are_let_go(path):
    assert pages.mapped_span(np.memmap(path, np.int32, "r")) is not None
    assert pages.mapped_span(np.asarray(np.memmap(path, np.int32, "r"))[3:].view(np.uint8)) is not None
    for array in (np.arange(9), np.memmap(path, np.int32, "c"), np.memmap(path, np.int32, "r").copy()):
        assert pages.mapped_span(array) is None
    with pages.released(None):
        pass


@linux
def test_pages_are_really_let_go(path):
    def resident():
        return int(next(x for x in open("/proc/self/status") if x.startswith("RssFile")).split()[1]) * 1024

    array = np.memmap(path, np.int32, "r")
    with pages.released(pages.mapped_span(array)):
        array.sum()
    before = resident()
    assert int(array.sum()) == (1 << 21) * ((1 << 21) - 1) // 2
    assert resident() - before > array.nbytes / 2


@linux
def test_where_a_file_is_mapped(path):
    array = np.memmap(path, np.int32, "r")
    first, stop = pages.span_of(array)
    assert any(low <= first and stop <= high for low, high in pages.file_spans(path))
    other = path.with_name("other")
    other.write_bytes(b"x" * mmap.PAGESIZE)
    assert pages.file_spans(other) == []


@linux
def test_tensors_of_a_checkpoint_are_mapped(tmp_path):
    torch = pytest.importorskip("torch")
    from szdnn.torch_file import TorchSource

    weight = torch.arange(1 << 20, dtype=torch.float32)
    torch.save({"w": weight, "t": weight.reshape(1024, -1).t()[:5]}, tmp_path / "x.pt")
    with TorchSource(tmp_path / "x.pt") as source:
        assert source._mapped
        for name in source:
            with source.reading(name) as array:
                assert np.array_equal(array, source[name])
            assert np.array_equal(source["w"], weight.numpy())
