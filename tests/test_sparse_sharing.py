"""Pruning, weight sharing and the integer codes under them: what comes back, and in how many bytes."""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from szdnn import _native
from szdnn.baselines import base, bits, blob, integers, kmeans, lzw, masks, prune, sharing, sparse
from szdnn.baselines.base import Context
from szdnn.errors import ArgumentError, CorruptFrame, Error

SMALL = {"lo": 0, "hi": 300}


def odd_state() -> dict[str, Any]:
    """Weights of several dtypes and ranks, and all that is to stay as it is."""
    rng = np.random.default_rng(3)
    return {
        "conv.weight": rng.normal(0, 0.1, (8, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(0, 0.1, 8).astype(np.float32),
        "half.weight": rng.normal(0, 0.1, (30, 40)).astype(np.float16),
        "brain.weight": rng.normal(0, 0.1, (30, 40)).astype(ml_dtypes.bfloat16),
        "double.weight": rng.normal(0, 0.1, (20, 20)),
        "one.weight": np.array([[0.25]], np.float32),
        "zero.weight": np.zeros((6, 5), np.float32),
        "empty.weight": np.zeros((0, 4), np.float32),
        "scalar": np.float32(2.5).reshape(()),
        "count": np.arange(6).reshape(2, 3),
        "flag": np.array([[True, False]]),
    }


@given(st.lists(st.integers(0, 2**40), max_size=40), st.data())
def test_packed_numbers_come_back(numbers: list[int], data: st.DataObject) -> None:
    widths = np.array([data.draw(st.integers(bits.width(n), 64)) for n in numbers], np.int64)
    packed = bits.pack(np.array(numbers, np.uint64), widths)
    assert len(packed) == -(-int(widths.sum()) // 8)
    assert bits.unpack(packed, widths).tolist() == numbers


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_lzw_round_trip(data: bytes, times: int) -> None:
    data = data * times
    coded = lzw.encode(data)
    assert lzw.decode(coded, len(data)) == data
    if data:
        with pytest.raises(CorruptFrame):
            lzw.decode(coded[:-1], len(data))


def test_lzw_of_a_full_dictionary() -> None:
    data = np.random.default_rng(0).integers(0, 256, 150_000, dtype=np.uint8).tobytes()
    assert lzw.decode(lzw.encode(data), len(data)) == data
    assert len(lzw.encode(b"a" * 100_000)) < 700  # codes of a, aa, aaa ...: about sqrt(2 * 100,000) of them


@given(
    st.sampled_from(integers.CODERS),
    st.lists(st.one_of(st.integers(0, 9), st.integers(150, 300), st.integers(0, 2**45)), max_size=60),
)
def test_integers_come_back(coder: str, numbers: list[int]) -> None:
    coded = integers.encode(np.array(numbers, np.int64), coder)
    assert integers.decode(coded, len(numbers), coder).tolist() == numbers


@pytest.mark.parametrize("coder", integers.CODERS)
def test_damaged_integers_are_refused_or_other_integers(coder: str) -> None:
    numbers = np.random.default_rng(1).geometric(0.2, 400) - 1
    coded = integers.encode(numbers, coder)
    for damaged in [coded[:-1], coded[:3], b"", coded[:2] + b"\xff" * 9 + coded[11:]]:
        try:
            found = integers.decode(damaged, numbers.size, coder)
        except CorruptFrame:
            continue
        assert found.size == numbers.size
    with pytest.raises(CorruptFrame):
        integers.decode(coded, 0, coder)


def test_negative_integers_and_unknown_coders_are_refused() -> None:
    with pytest.raises(ArgumentError, match="negative"):
        integers.encode(np.array([-1]), "huffman")
    with pytest.raises(ArgumentError, match="no coder"):
        integers.encode(np.array([1]), "rar")
    with pytest.raises(CorruptFrame):
        integers.decode(b"x", 1, "rar")


@given(st.lists(st.integers(0, 255), max_size=2000))
def test_huffman_is_within_a_bit_of_the_entropy(symbols: list[int]) -> None:
    data = np.array(symbols, np.uint8)
    coded = _native.huffman_encode(data)
    assert np.array_equal(_native.huffman_decode(coded, data.size), data)
    shares = np.bincount(data, minlength=256) / max(1, data.size)
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    table = 300 if np.count_nonzero(shares) > 1 else 2
    assert len(coded) <= data.size * (entropy + 1) / 8 + table


def test_damaged_huffman_is_refused() -> None:
    data = (np.random.default_rng(2).geometric(0.3, 500) - 1).astype(np.uint8)
    coded = _native.huffman_encode(data)
    for size in range(len(coded)):
        with pytest.raises(CorruptFrame):
            _native.huffman_decode(coded[:size], data.size)
    for trailing, count in ((coded + b"\0", data.size), (b"\0\5\0", 4), (b"\2", 1), (b"\0", 0)):
        with pytest.raises(CorruptFrame):
            _native.huffman_decode(trailing, count)


@given(st.lists(st.integers(0, 2000), unique=True, max_size=80), st.integers(1, 12))
def test_relative_indices(at: list[int], width: int) -> None:
    kept = np.array(sorted(at), np.int64)
    indices, is_weight = sparse.relative(kept, width)
    assert indices.size == 0 or (indices.min() >= 0 and indices.max() < 1 << width)
    assert np.array_equal(sparse.positions(indices, 2001)[is_weight], kept)
    assert (indices[~is_weight] == (1 << width) - 1).all()
    gaps = np.diff(kept, prepend=-1) - 1
    assert (~is_weight).sum() == sum(gap // (1 << width) for gap in gaps)


def test_the_example_of_the_paper() -> None:
    """Han et al. 2016, figure 2: weights at 1, 4 and 15 with 3 bits; the distance of 11 takes a filler."""
    indices, is_weight = sparse.relative(np.array([1, 4, 15]), 3)
    assert is_weight.tolist() == [True, True, False, True]
    assert sparse.positions(indices, 16).tolist() == [1, 4, 12, 15]


def test_the_cheapest_index_is_the_cheapest() -> None:
    kept = np.flatnonzero(np.random.default_rng(4).random(20_000) < 0.06)
    sizes = {width: sparse.relative(kept, width)[0].size * (width + 8) for width in range(1, 17)}
    assert sizes[sparse.cheapest_bits(kept, 8)] == min(sizes.values())


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_rows_and_columns_are_those_of_scipy(layout: str) -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(7, 4, 3, 3)) * (rng.random((7, 4, 3, 3)) < 0.2)
    order, numbers, starts = sparse.compressed(weights != 0, layout)
    theirs = getattr(scipy_sparse, f"{layout}_matrix")(weights.reshape(7, 36))
    assert np.array_equal(theirs.indices, numbers)
    assert np.array_equal(theirs.indptr, starts)
    assert np.array_equal(theirs.data, weights.ravel()[order])
    assert np.array_equal(sparse.order_of(numbers, starts, weights.shape, layout), order)
    with pytest.raises(CorruptFrame):
        sparse.order_of(numbers + 30, starts, weights.shape, layout)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_masks_keep_the_largest(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    state = {"a": np.round(rng.normal(size=(9, 7)), 1), "b": np.round(rng.normal(0, 3, size=(20, 5)), 1)}
    for found in (masks.by_layer(state, dict.fromkeys(state, density)), masks.by_threshold(state, ["a"], density)):
        for name, mask in found.items():
            size = np.abs(state[name])
            assert mask.sum() == np.ceil(density * mask.size)
            assert size[mask].min() >= size[~mask].max(initial=0)
    both = masks.by_threshold(state, ["a", "b"], density)
    assert all(mask.any() for mask in both.values())
    assert sum(mask.sum() for mask in both.values()) - np.ceil(density * 163) in (0, 1)  # 1: nothing of `a` would stay


@pytest.mark.parametrize("density", [0.0, -1.0, 1.5])
def test_shares_that_make_no_sense(density: float) -> None:
    with pytest.raises(ArgumentError, match="density"):
        masks.by_threshold({"a": np.ones((2, 2))}, ["a"], density)


@pytest.mark.parametrize("init", kmeans.INITIALISATIONS)
def test_kmeans_is_lloyds(init: str) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    values = np.random.default_rng(6).normal(size=1000)
    start = kmeans.initial(values, 12, init, seed=1)
    assert start.size == 12
    assert np.all(np.diff(start) >= 0)
    ours = kmeans.lloyd(values, start, iterations=300)
    theirs = cluster.KMeans(12, init=start[:, None], n_init=1, max_iter=300, tol=0, algorithm="lloyd")
    theirs.fit(values[:, None])
    assert np.allclose(ours, np.sort(theirs.cluster_centers_.ravel()), atol=1e-9)


def test_initialisations_are_the_papers() -> None:
    values = np.concatenate([np.random.default_rng(7).normal(size=999), [50.0]])
    assert np.allclose(kmeans.initial(values, 5, "linear"), np.linspace(values.min(), 50, 5))
    assert set(kmeans.initial(values, 5, "forgy", seed=2)) <= set(values)
    shares = [(values <= c).mean() for c in kmeans.initial(values, 10, "density")]
    assert np.allclose(shares, np.arange(0.05, 1, 0.1), atol=0.01)
    with pytest.raises(ArgumentError, match="initialisation"):
        kmeans.initial(values, 3, "random")


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60), st.integers(1, 20))
def test_every_value_gets_its_nearest_centroid(values: list[float], k: int) -> None:
    array = np.array(values, np.float32)
    numbers, centroids = kmeans.share(array, k)
    assert centroids.size <= k
    distances = np.abs(array.astype(np.float64)[:, None] - centroids)
    assert np.allclose(distances[np.arange(array.size), numbers], distances.min(axis=1), atol=1e-9)
    if np.unique(array).size <= k:
        assert np.array_equal(centroids[numbers].astype(np.float32), array)


@pytest.mark.parametrize(("n", "k"), [(16, 4), (40_000, 16), (9_000, 256)])
def test_the_rate_is_the_papers_formula(n: int, k: int) -> None:
    """Han et al. 2016, equation 1: n numbers of log2 k bits and k shared weights of b bits."""
    weights = np.random.default_rng(8).uniform(size=(n // 4, 4)).astype(np.float32)
    layer = sharing.share(weights, None, int(np.log2(k)), "linear")
    data = sharing.encode(layer, ("packed", "packed"))
    assert 0 <= len(data) - 4 * n / kmeans.ratio(n, k) <= 12  # numbers of the blob, and the last byte's unused bits
    assert kmeans.ratio(16, 4, 32) == 3.2  # the paper's example
    assert np.unique(sharing.decode(data, weights.shape, "float32", ("packed", "packed"))).size == k


SPECS = [
    "prune", "prune:density=0.3,index_bits=2", "prune-csr", "prune-csc:scope=layer", "sharing", "sharing:bits=1",
    "sharing-huffman:init=density", "deep-compression", "deep-compression:huffman=none,init=forgy",
    "deep-compression:huffman=weights,bits=3,index_bits=8/5", "deep-compression:huffman=indices,density=1",
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
def test_any_checkpoint_without_a_task(spec: str) -> None:
    pytest.importorskip("scipy")
    state = odd_state()
    before = {name: value.copy() for name, value in state.items()}
    method = base.method(spec)
    made = method.fit(state, Context())
    decoded = method.decode(made.data)
    assert list(decoded) == list(state)
    weights = base.weight_names(state)
    for name, value in state.items():
        assert np.array_equal(value, before[name])
        assert (decoded[name].dtype, decoded[name].shape) == (value.dtype, value.shape)
        if name not in weights:
            assert np.array_equal(decoded[name], value)
    for stage in made.stages:
        if stage.name == "shared":
            assert all(np.array_equal(stage.state[name], decoded[name]) for name in state)


def test_kept_weights_are_exact_and_pruned_ones_zero() -> None:
    state = odd_state()
    decoded = prune.Prune.decode(prune.Prune(density=0.25, scope="layer").fit(state, Context()).data)
    for name in base.weight_names(state):
        kept = decoded[name] != 0
        assert np.array_equal(decoded[name][kept], state[name][kept])
        assert kept.sum() == min(np.ceil(0.25 * kept.size), np.count_nonzero(state[name]))


def test_truncated_artefacts_are_refused() -> None:
    state = odd_state()
    for spec in ("prune", "prune-csr", "deep-compression"):
        data = base.method(spec).fit(state, Context()).data
        for size in (0, 3, 40, len(data) // 2, len(data) - 1):
            with pytest.raises(Error):
                base.method(spec).decode(data[:size])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("prune:density=2", "density"), ("prune:scope=world", "scope"), ("prune:storage=zip", "storage"),
        ("prune:index_bits=40", "bits"), ("prune:rates=0.1/0.2", "rates"), ("prune:rates=a/b", "rates"),
        ("sharing:bits=0", "bits"), ("sharing:bits=many", "bits"), ("sharing:init=x", "initialisation"),
        ("deep-compression:huffman=all", "huffman"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(spec: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        base.method(spec).fit(odd_state(), Context())


def test_values_that_are_not_finite() -> None:
    state = {"weight": np.array([[1.0, np.nan], [np.inf, 0.5]], np.float32)}
    decoded = prune.Prune.decode(prune.Prune(density=0.5).fit(state, Context()).data)
    assert np.array_equal(decoded["weight"], [[0, np.nan], [np.inf, 0]], equal_nan=True)
    with pytest.raises(ArgumentError, match="finite"):
        sharing.Sharing().fit(state, Context())


def test_blobs_hold_just_their_parts() -> None:
    data = blob.join([0, 300], [b"", b"abc"])
    assert blob.split(data, 2, 2) == ([0, 300], [b"", b"abc"])
    for damaged in (data + b"x", data[:-1], b"", b"\xff" * 12):
        with pytest.raises(CorruptFrame):
            blob.split(damaged, 2, 2)


@functools.cache
def digits() -> tuple[Any, dict[str, Any]]:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from szdnn import nets

    task = nets.load("digits")
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return task, {name: value.numpy() for name, value in task.build().state_dict().items()}


def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_members() -> None:
    """Han et al. 2016, section 3.3."""
    torch = pytest.importorskip("torch")
    from szdnn.baselines.retrain import Shared

    numbers = np.array([0, 1, 1, 2, 0, 1])
    form = Shared(
        np.array([[1.0], [2.0], [3.0]], np.float32), numbers, np.array([0, 2, 3, 5, 6, 8]), np.zeros(6, np.float32),
        np.arange(3), (3, 3),
    )  # fmt: skip
    trained = form.right_inverse(torch.empty(0)).requires_grad_()
    weights = form(trained)
    gradient = torch.arange(9.0).reshape(3, 3)
    weights.backward(gradient)
    assert weights.detach().flatten().tolist() == [1, 0, 2, 2, 0, 3, 1, 0, 2]
    assert trained.grad.tolist() == [0 + 6, 2 + 3 + 8, 5]


def test_retraining_keeps_zeros_and_sharing() -> None:
    task, state = digits()
    context = Context(task=task)
    spec = "deep-compression:density=0.2,steps=2,epochs=2,tune_epochs=1,batch=32,bits=3,half=true,rate=0.003"
    method = base.method(spec)
    made = method.fit(state, context)
    decoded = method.decode(made.data)
    pruned, shared = made.stages
    assert made.details["density"] == pytest.approx(0.2, abs=0.001)
    assert pruned.bytes > shared.bytes > len(made.data) * 0.99
    for name in base.weight_names(state):
        assert not decoded[name][pruned.state[name] == 0].any()
        assert np.unique(decoded[name]).size <= 8
        assert not np.array_equal(decoded[name], state[name])
    assert decoded["0.bias"].dtype == np.float32
    assert np.array_equal(decoded["0.bias"], decoded["0.bias"].astype(np.float16))
    assert context.evaluate(decoded) > 0.5  # from random weights: it has learnt


def test_pruning_stops_at_the_budget() -> None:
    task, state = digits()
    states = {"loose": 100.0, "strict": -100.0}
    found = {}
    for name, budget in states.items():
        _, kept = prune.Prune(epochs=0.05).pruned(state, Context(task=task, budget=budget))
        found[name] = masks.density(kept)
    assert found["loose"] == pytest.approx(prune.LADDER[-1], rel=0.01)
    assert found["strict"] == 1


def test_retraining_is_the_same_again() -> None:
    task, state = digits()
    spec = "prune:density=0.3,epochs=0.1,steps=1"
    first, second = (base.method(spec).fit(state, Context(task=task, seed=3)).data for _ in range(2))
    assert first == second
