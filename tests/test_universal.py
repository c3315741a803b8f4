"""Lattices and universal compression: nearest points, dithers, and that bytes decode to what was scored."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sparse_sharing import digits, odd_state

from szdnn.baselines import base, integers, universal
from szdnn.baselines.base import Context
from szdnn.baselines.lattices import LATTICES, Lattice
from szdnn.errors import ArgumentError, Error

MOMENTS = {"Z": 1 / 12, "A2": 5 / (36 * np.sqrt(3)), "D4": 0.076603, "E8": 929 / 12960}
"""Mean squares a dimension of points even over a cell of volume 1: Conway and Sloane 1982, table I."""
NEIGHBOURS = {"Z": 2, "A2": 6, "D4": 24, "E8": 240}
"""Points at the least distance from each (kissing numbers)."""


def raw_points(name: str, reach: int) -> Any:
    """Lattice points near 0 [k, d] by the lattice's definition alone, scaled to cells of volume 1."""
    if name == "A2":
        basis = np.array([[1, 0], [0.5, np.sqrt(3) / 2]]) * np.sqrt(2 / np.sqrt(3))
        return np.array(list(itertools.product(range(-2 * reach, 2 * reach + 1), repeat=2))) @ basis
    d = {"Z": 1, "D4": 4, "E8": 8}[name]
    whole = np.array(list(itertools.product(range(-reach, reach + 1), repeat=d)), np.float64)
    if name == "Z":
        return whole
    even = whole[whole.sum(axis=1) % 2 == 0]
    if name == "D4":
        return even * 2**-0.25
    half = np.array(list(itertools.product((-1.5, -0.5, 0.5, 1.5), repeat=d)))
    return np.concatenate([even, half[half.sum(axis=1) % 2 == 0]])


@pytest.mark.parametrize("name", LATTICES)
def test_nearest_points_by_brute_force(name: str) -> None:
    lattice = LATTICES[name]
    near = raw_points(name, 1 if name == "E8" else 3)
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (200, lattice.dimension))
    found = lattice.points(lattice.nearest(x))
    distances = ((x - found) ** 2).sum(axis=1)
    squares = (near**2).sum(axis=1)
    best = (squares[None, :] - 2 * x @ near.T).min(axis=1) + (x**2).sum(axis=1)
    assert np.allclose(distances, best, atol=1e-12)


@pytest.mark.parametrize("name", LATTICES)
def test_names_are_the_points(name: str) -> None:
    """Every name is a point of the lattice, and no point has two; the nearest to 0 are as many as they should be."""
    lattice = LATTICES[name]
    near = raw_points(name, 1 if name == "E8" else 2)
    names = lattice.nearest(near)
    assert np.allclose(lattice.points(names), near)
    assert np.unique(names, axis=0).shape == names.shape
    squares = np.sort((near**2).sum(axis=1))
    assert np.isclose(squares[1:], squares[1]).sum() == NEIGHBOURS[name]
    some = np.random.default_rng(1).integers(-9, 9, (300, lattice.dimension))
    assert np.array_equal(lattice.nearest(lattice.points(some)), some)


@pytest.mark.parametrize("name", LATTICES)
def test_dithers_are_even_over_the_cell(name: str) -> None:
    lattice = LATTICES[name]
    dithers = lattice.dither(universal.uniform(5, 40_000 * lattice.dimension).reshape(-1, lattice.dimension))
    assert not lattice.points(lattice.nearest(dithers * 0.999)).any()
    assert (dithers**2).mean() == pytest.approx(MOMENTS[name], rel=0.02)
    assert np.abs(dithers.mean(axis=0)).max() < 0.01


@given(st.sampled_from([*LATTICES.values()]), st.integers(0, 2**20), st.floats(0.05, 3))
def test_the_error_of_dithered_points_is_a_cells(lattice: Lattice, seed: int, step: float) -> None:
    weights = np.random.default_rng(seed).normal(size=(5, 24)).astype(np.float32)
    kept = np.abs(weights) > 0.4
    dithers = universal.dither(lattice, seed, 0, int(kept.sum()))
    layer = universal.quantise(weights, kept, lattice, step, dithers)
    error = (layer.build(lattice, dithers, 1) - weights)[kept] / layer.step
    rows = np.zeros(dithers.size)
    rows[: error.size] = error
    whole = rows.reshape(dithers.shape)[: error.size // lattice.dimension] * 0.999
    assert not lattice.points(lattice.nearest(whole)).any()  # whole vectors: the error lies in the cell around 0


def test_the_error_does_not_depend_on_the_weights() -> None:
    """What the dither is for (Zamir and Feder): without it all of these would be off by the same."""
    weights = np.full((100, 100), 0.3, np.float32)
    dithers = universal.dither(LATTICES["Z"], 1, 0, weights.size)
    layer = universal.quantise(weights, weights != 0, LATTICES["Z"], 1.0, dithers)
    error = (layer.build(LATTICES["Z"], dithers, 1) - weights) / layer.step
    assert abs(error.mean()) < 0.01
    assert (error**2).mean() == pytest.approx(1 / 12, rel=0.05)


def test_uniform_numbers_are_splitmix64() -> None:
    """Of seed 0, the reference implementation's first outputs."""
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert universal.uniform(0, 3).tolist() == [(value >> 11) * 2.0**-53 for value in first]


SPECS = [
    *(f"universal:lattice={lattice}" for lattice in LATTICES),
    *(f"universal:coder={coder}" for coder in integers.CODERS),
    "universal-zlib:dithered=false", "universal-huffman:density=1,step=0.1", "universal-lzw:scope=layer,lattice=E8",
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
def test_any_checkpoint_without_a_task(spec: str) -> None:
    state = odd_state()
    method = base.method(spec)
    made = method.fit(state, Context(seed=4))
    decoded = method.decode(made.data)
    assert list(decoded) == list(state)
    weights = base.weight_names(state)
    for name, value in state.items():
        assert (decoded[name].dtype, decoded[name].shape) == (value.dtype, value.shape)
        if name not in weights:
            assert np.array_equal(decoded[name], value)
    assert set(made.layer_bytes) == set(weights)
    assert sum(made.layer_bytes.values()) < len(made.data)
    quantised = made.stages[-1]
    assert all(np.array_equal(quantised.state[name], decoded[name]) for name in state)
    pruned = made.stages[0].state
    for name in weights:
        assert not decoded[name][pruned[name] == 0].any() or not pruned[name].any()


def test_a_finer_step_is_closer_and_larger() -> None:
    state = {"weight": np.random.default_rng(2).laplace(size=(60, 60)).astype(np.float32)}
    errors, sizes = [], []
    for step in (1.0, 0.3, 0.1, 0.03):
        made = universal.Universal(density=1, step=step).fit(state, Context())
        errors.append(float(np.abs(universal.Universal.decode(made.data)["weight"] - state["weight"]).max()))
        sizes.append(len(made.data))
    assert errors == sorted(errors, reverse=True)
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("lattice", ["Z", "E8"])
def test_fine_tuning_moves_only_frequent_points(lattice: str) -> None:
    task, state = digits()
    context = Context(task=task, seed=2)
    spec = f"universal:lattice={lattice},density=0.2,epochs=1,steps=1,batch=32,rate=0.003,members=20,step=2.0"
    method = base.method(f"{spec},tune_epochs=1,tune_rate=0.003,half=true")
    made = method.fit(state, context)
    decoded = method.decode(made.data)
    pruned, quantised = made.stages
    assert made.details["coders"]["bzip2"] == made.details["gap bytes"] + made.details["name bytes"]
    assert context.evaluate(decoded) > context.evaluate(quantised.state) - 0.1
    moved = same = 0
    for name in base.weight_names(state):
        kept = pruned.state[name] != 0
        assert not decoded[name][~kept].any()
        moved += int((decoded[name] != quantised.state[name])[kept].sum())
        same += int((decoded[name] == quantised.state[name])[kept].sum())
    assert moved > 0
    assert lattice == "Z" or same > 0


def test_another_seed_is_another_dither() -> None:
    state = {"weight": np.random.default_rng(3).normal(size=(40, 40)).astype(np.float32)}
    first, second = (
        universal.Universal.decode(universal.Universal().fit(state, Context(seed=seed)).data) for seed in (0, 1)
    )
    assert not np.array_equal(first["weight"], second["weight"])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("universal:lattice=L24", "lattice"), ("universal:coder=rar", "coder"),
        ("universal:step=-1", "step"), ("universal:density=7", "density"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(spec: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        base.method(spec).fit(odd_state(), Context())


def test_values_that_are_not_finite() -> None:
    with pytest.raises(ArgumentError, match="finite"):
        universal.Universal().fit({"weight": np.array([[1.0, np.nan]], np.float32)}, Context())


def test_truncated_artefacts_are_refused() -> None:
    data = universal.Universal().fit(odd_state(), Context()).data
    for size in (0, 3, 40, len(data) // 2, len(data) - 1):
        with pytest.raises(Error):
            universal.Universal.decode(data[:size])
