"""The benches' own arithmetic: what they count, compare and transform, without which their figures mean nothing."""

from __future__ import annotations

import csv
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import entropy, exact, instructions, measure, records, sparse, threads
from bench.__main__ import main
from bench.rivals.base import Array, Rival
from bench.rivals.pointwise import Logarithms

R = 1e-2
FLOATS = st.floats(2.0**-60, 2.0**60, width=32).flatmap(lambda x: st.sampled_from([x, -x, 0.0]))
VALUES = arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=12), elements=FLOATS)


class Grid(Rival):
    """Rounds to multiples of 2 eps (`factor` times that), values as bytes."""

    name = package = "grid"
    modules = ()

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def compress(self, array: Array, eps: float) -> bytes:
        step = 2 * eps * self.factor
        return (np.rint(array.astype(np.float64) / step) * step).tobytes()

    def decompress(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return np.frombuffer(data, dtype=np.float64).reshape(shape).astype(dtype)


class Moved(Grid):
    """Adds 2 eps to every value."""

    def compress(self, array: Array, eps: float) -> bytes:
        return (array.astype(np.float64) + 2 * eps).tobytes()


# ---- ideal codes ----


def test_order0_bits():
    halves = np.array([0.0, 1.0] * 50, dtype=np.float32)
    assert entropy.order0_bits(halves, 0.1) == pytest.approx(100)
    assert entropy.order0_bits(np.full(100, 3.0, dtype=np.float32), 0.1) == 0
    assert entropy.order0_bits(np.repeat([0.0, 1.0, 5.0], [50, 25, 25]), 0.1) == pytest.approx(150)


@given(VALUES)
def test_one_value_serves_a_whole_pointwise_cell(x):
    cells = entropy.pointwise_lattice(x, R)
    flat = x.astype(np.float64).ravel()
    np.testing.assert_array_equal(cells == 0, flat == 0)
    np.testing.assert_array_equal(np.sign(cells), np.sign(flat))
    for cell in np.unique(cells[cells != 0]):
        magnitudes = np.abs(flat[cells == cell])
        assert magnitudes.max() * (1 - R) <= magnitudes.min() * (1 + R) * (1 + 1e-12)


# ---- judging ----


def test_violations_pointwise_counts_each_rule():
    x = np.array([1.0, 1.0, 0.0, -2.0, np.nan, np.inf, 5.0], dtype=np.float32)
    assert exact.violations_pointwise(x, x.copy(), R) == 0
    y = np.array([1.0099, 1.02, 1e-30, 2.0, 0.0, -np.inf, np.nan], dtype=np.float32)
    assert exact.violations_pointwise(x, y, R) == 6


def test_measure_counts_violations_and_lost_zeros():
    x = np.array([0.0, 0.0, 0.26, -1.0], dtype=np.float32)
    jobs = [measure.Job(x, 0.125), measure.Job(x.reshape(2, 2), 0.125)]
    fine, coarse, moved = measure.run([Grid(), Grid(8.0), Moved()], jobs, reps=1)
    assert (fine.values, fine.size, fine.violations, fine.zeros, fine.zeros_changed) == (8, 64, 0, 4, 0)
    assert coarse.violations == 4
    assert coarse.worst == 8
    assert (moved.violations, moved.zeros_changed) == (8, 4)


# ---- rivals behind a logarithm ----


@given(VALUES)
def test_logarithms_keep_bound_zeros_and_signs(x):
    codec = Logarithms(Grid())
    if not codec.accepts(x):
        assert not x.any()
        return
    data = codec.compress(x, R)
    y = codec.decompress(data, x.shape, x.dtype)
    assert exact.violations_pointwise(x, y, R) == 0
    np.testing.assert_array_equal(np.signbit(y)[x != 0], np.signbit(x)[x != 0])


def test_logarithms_use_the_whole_bound():
    x = np.geomspace(1e-3, 1e3, 10_001).astype(np.float32)
    codec = Logarithms(Grid())
    y = codec.decompress(codec.compress(x, R), x.shape, x.dtype)
    errors = y.astype(np.float64) / x - 1
    assert errors.max() > 0.99 * R
    assert errors.min() < -0.99 * R


def test_logarithms_charge_zeros_and_signs():
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=8000)).astype(np.float32)
    plain = len(Logarithms(Grid()).compress(x, R))
    assert len(Logarithms(Grid()).compress(x * rng.choice(np.float32([-1, 1]), x.size), R)) >= plain + 1000
    holes = np.where(rng.random(x.size) < 0.5, np.float32(0), x)
    kept = np.count_nonzero(holes)
    assert len(Logarithms(Grid()).compress(holes, R)) >= plain - 8 * (x.size - kept) + 1000


# ---- sparse ----


@pytest.mark.parametrize(("name", "zeros"), [("90% zeros, laplace", 0.9), ("99% zeros, normal", 0.99)])
def test_pruned_arrays_have_their_share_of_zeros(name, zeros):
    (x,) = sparse.DATA[name]()
    assert np.mean(x == 0) == pytest.approx(zeros, abs=1e-4)
    assert np.abs(x[x != 0]).min() > 0.02  # survivors lie away from zero


def test_small_tensors_and_constants():
    tensors = sparse.small()
    assert len(tensors) == 1000
    assert {t.size for t in tensors} == {2000}
    (flat,) = sparse.constant()
    assert sparse.bound_of(flat, 1e-2) == pytest.approx(4.21e-4)
    assert np.unique(sparse.few()[0]).size == 16


def test_beside_ideal():
    row = records.Row("d", "b", "c", 100, bytes=1100)
    found = sparse.beside_ideal(row, 1000.0, 10)
    assert found.above_ideal_percent == pytest.approx(10)
    assert found.bytes_over_ideal == pytest.approx(10)
    assert sparse.beside_ideal(row, 0.0, 1).above_ideal_percent is None


# ---- threads ----


def test_scaling_compares_within_rounds():
    found = threads.scaling("work", 100.0, [(2.0, 1.0, 2.0), (4.0, 2.5, 4.0), (2.0, 1.25, 2.0)])
    assert found.thread_scaling == pytest.approx(1.6)
    assert found.process_scaling == pytest.approx(2)
    assert found.threads_vs_processes == pytest.approx(0.8)


# ---- instruction counts ----

DUMP = """\
desc: Trigger: Client Request: weights 1e-2|encode|100
fl=/x/csrc/tokens.c
fn=tokens_encode
10 500
fi=/x/csrc/bits.h
11 100
cfi=/x/csrc/rans.c
cfn=rans_encode
calls=1 5
12 9000
13 400
fl=/x/csrc/rans.c
fn=rans_encode
5 9000
fl=./string/memcpy.S
fn=memcpy
1 3
fl=/x/bench/callgrind/stages.c
fn=main
1 77777
"""


def test_instructions_are_those_of_the_functions_own_file():
    found = instructions.parse(DUMP.splitlines())
    name = ("weights 1e-2", "encode")
    assert found == {(*name, "tokens"): 10.0, (*name, "rans"): 90.0, (*name, "total"): 100.03}
    assert instructions.parse(["fl=/x/csrc/rans.c", "5 100"]) == {}


def test_a_slowdown_is_named_and_a_speed_up_told():
    def key(source, isa="scalar"):
        return (isa, "weights", "encode", source)

    before = {key("rans"): 40.0, key("tokens"): 10.0, key("old"): 1.0, key("total"): 51.0, key("rans", "avx2"): 1.0}
    now = {key("rans"): 43.0, key("tokens"): 5.0, key("new"): 1.0, key("total"): 49.0}
    slower, others = instructions.compare(before, now)
    assert [line.split(":")[1].strip() for line in slower] == ["rans"]
    assert [line.split()[0] for line in others] == ["new", "gone", "faster"]
    assert instructions.compare(before, now, factor=4)[0] == []
    assert instructions.compare(before, before) == ([], [])


def test_instruction_figures_survive_their_file(tmp_path):
    counts = {("scalar", "99% zeros, say", "encode", "total"): 12.345}
    instructions.write(tmp_path / "i.csv", "gcc (Debian) 12", counts)
    assert instructions.read(tmp_path / "i.csv") == ("gcc (Debian) 12", counts)


def test_rivals_of_differences():
    """XOR and quantised differences: what they are made of can be made again, and near states take less."""
    pytest.importorskip("torch")
    from bench import deltas

    rng = np.random.default_rng(0)
    before = rng.normal(size=(64, 64)).astype(np.float32)
    x = before + rng.normal(0, 1e-3, before.shape).astype(np.float32)
    codes = deltas.differences(x, before, 1e-3) + deltas.differences(before, None, 1e-3).ravel()
    assert np.abs(codes.reshape(x.shape) * 2e-3 - x).max() <= 1e-3 * (1 + 1e-6)
    for coder in (deltas.qd_zstd, deltas.qd_entropy):
        assert coder(x, before, 1e-3) < 0.5 * coder(x, None, 1e-3)
    assert deltas.xor_zstd(x, before) < deltas.xor_zstd(x, None)
    assert deltas.xor_zstd(x, x) < 100
    links = deltas.coded([{"x": before}, {"x": x}] * 6, {"x": 1e-3}, deltas.qd_entropy)
    alone = [i for i, (size, _) in enumerate(links) if size > 0.6 * links[0][0]]
    assert alone == [0, 9]


def test_bench_compare_writes_and_replaces_rows(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    monkeypatch.setenv("SZDNN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "compare.csv"
    for methods in ("fp16,gzip", "int8,fp16"):
        assert main(["compare", "--tasks", "digits", "--methods", methods, "--limit", "50", "--csv", str(path)]) == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["gzip", "int8", "fp16"]
    assert all(row["task"] == "digits/lenet" and row["examples"] == "50" for row in rows)
    assert all(row["decoded_ok"] == "True" and float(row["bytes"]) > 0 for row in rows)
