import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from szdnn.bounds import Abs, Lossless, Rel
from szdnn.report import format_bound, format_bytes, format_error, format_number, format_shape, shorten, table


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (90_900_000, "90.9 MB"), (999_960, "1.0 MB"), (5e15, "5000.0 TB")],
)
def test_bytes(count, text):
    assert format_bytes(count) == text


def test_numbers():
    assert [format_number(x) for x in (None, math.nan, 1.005, math.inf)] == ["-", "-", "1.00", "inf"]
    assert [format_error(x) for x in (None, math.nan, 1.2345e-5)] == ["-", "-", "1.23e-05"]
    assert [format_shape(x) for x in ((), (3,), (2, 0))] == ["scalar", "3", "2x0"]


def test_bounds():
    assert [format_bound(x) for x in (Abs(0.5), Rel(1e-3), Lossless())] == ["Abs(0.5)", "Rel(0.001)", "Lossless"]
    assert format_bound(Rel(1e-3, range=(0.0, 1.0))) == "Rel(0.001, range=(0.0, 1.0))"


@given(st.text(), st.integers(1, 30))
def test_shorten_never_exceeds_the_width(text, width):
    short = shorten(text, width)
    assert len(short) == min(len(text), width)
    assert short == text or "…" in short


cells = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=30)


@given(st.lists(st.tuples(cells, cells, cells), max_size=5), st.integers(80, 200))
def test_tables_fit_the_width(rows, width):
    lines = table(["name", "first", "second"], rows, width).split("\n")
    assert len(lines) == len(rows) + 1
    assert max(map(len, lines)) <= width


def test_tables_lose_the_middle_of_names_before_columns():
    rows = [["encoder.layer.0.attention.self.query.weight", "float32", "384x384"]]
    wide, narrow, tiny = (table(["name", "dtype", "shape"], rows, width) for width in (None, 36, 24))
    assert rows[0][0] in wide
    assert "…" in narrow
    assert "384x384" in narrow
    assert "384x384" not in tiny
    assert max(map(len, tiny.split("\n"))) <= 24
