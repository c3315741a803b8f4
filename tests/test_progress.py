import io

import pytest

from szdnn.progress import ProgressLine, progress_line


def line(done, total=2_000_000_000, seconds=4.0, columns=200, monkeypatch=None):
    monkeypatch.setenv("COLUMNS", str(columns))
    drawn = ProgressLine(total, "compress model.pt", io.StringIO())
    drawn.update("x", done)
    return drawn.text(seconds)


def test_it_tells_bytes_rate_and_time_left(monkeypatch):
    assert line(500_000_000, monkeypatch=monkeypatch) == (
        "compress model.pt   25%  [######------------------]  500.0 MB of 2.0 GB  125.0 MB/s  0:12 left"
    )
    assert line(0, monkeypatch=monkeypatch).endswith("0 B/s  -:-- left")
    assert line(2_000_000_000, monkeypatch=monkeypatch).endswith("500.0 MB/s  in 0:04")
    assert line(1_000_000, seconds=60, monkeypatch=monkeypatch).endswith("33:19:00 left")
    assert "100%" in line(0, total=0, monkeypatch=monkeypatch)


@pytest.mark.parametrize("columns", range(3, 100))
def test_it_fits_the_terminal(monkeypatch, columns):
    text = line(700_000_000, columns=columns, monkeypatch=monkeypatch)
    assert len(text) < columns
    assert "35%" in text or columns < 7


def test_it_is_silent_elsewhere(capsys):
    with progress_line(100, "compress") as progress:
        assert progress is None
    assert capsys.readouterr().err == ""
