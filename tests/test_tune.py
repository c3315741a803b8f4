"""Tuning: plans under a budget, on a small network for scikit-learn's digits."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra demo")

from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

import szdnn  # noqa: E402
from szdnn.tune.allocate import allocate, measured_curve  # noqa: E402
from szdnn.tune.compensate import feedback_rounding, inverse_factor  # noqa: E402
from szdnn.tune.deepsz import Option, combine  # noqa: E402
from szdnn.tune.distance import Distance  # noqa: E402
from szdnn.tune.fisher import sensitivities  # noqa: E402
from szdnn.tune.layers import inputs_of  # noqa: E402
from szdnn.tune.rates import RateCurve  # noqa: E402
from szdnn.tune.verify import paired_interval  # noqa: E402

_DIGITS = load_digits()
_IMAGES = torch.from_numpy(_DIGITS.images).float().div(16).unsqueeze(1)
_LABELS = torch.from_numpy(_DIGITS.target).long()
_TRAIN, _SEARCH, _REPORT = slice(0, 1000), slice(1000, 1400), slice(1400, None)


class SmallNet(nn.Module):
    """Two convolutions, one of them with a batch norm and one in groups, and a linear layer; a tied vector."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.body(x)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Trained to about 97%."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallNet()
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(6):
            for which in torch.randperm(1000).split(50):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(_IMAGES[which]), _LABELS[which]).backward()
                optimizer.step()
    model.zero_grad()
    return model.eval()


def points(model: nn.Module, part: slice) -> Any:
    return (model(_IMAGES[part]).argmax(1) == _LABELS[part]).float() * 100


def search_score(model: nn.Module) -> Any:
    return points(model, _SEARCH)


def report_score(model: nn.Module) -> Any:
    return points(model, _REPORT)


def restored(path: Path) -> nn.Module:
    model = SmallNet()
    model.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in szdnn.load(path, framework="numpy").items()})
    return model.eval()


# --- budgets and results


@pytest.mark.parametrize("options", [{}, {"compensate": True}, {"correct": True, "compensate": True}], ids=str)
def test_drop_is_kept_and_file_is_what_was_measured(net: nn.Module, tmp_path: Path, options: Any) -> None:
    result = szdnn.tune(net, search_score, budget=szdnn.MaxDrop(1.0), report=report_score, **options)
    path = tmp_path / "net.szd.safetensors"
    saved = result.save(path)
    assert result.baseline is not None
    assert result.best.score is not None
    assert result.baseline - result.best.score <= 1.0
    with torch.no_grad():
        assert float(search_score(restored(path)).mean()) == pytest.approx(result.best.score)
    assert saved.archive_bytes == result.best.bytes
    assert saved.archive_bytes * 4 < result.raw_bytes
    assert result.held_out is not None
    assert result.held_out.difference is not None
    assert result.held_out.difference.low <= -result.held_out.drop <= result.held_out.difference.high


@pytest.mark.parametrize("options", [{"compensate": True}, {"correct": True}, {}], ids=str)
def test_bounds_to_the_original_hold_but_for_what_is_told(net: nn.Module, tmp_path: Path, options: Any) -> None:
    original = {n: t.detach().numpy().copy() for n, t in net.state_dict().items()}
    result = szdnn.tune(net, search_score, budget=szdnn.MaxBytes(6000), **options)
    path = tmp_path / "net.szd.safetensors"
    assert result.save(path).archive_bytes == result.best.bytes <= 6000
    found = szdnn.verify(path, original)
    assert found.ok, found.errors
    assert bool(found.replaced) == ("correct" in options)
    changed = set(result.changed) - set(found.replaced)
    assert bool(changed) == ("compensate" in options)
    for name in changed:
        bound = result.plan.bound(name, original[name].dtype, original[name].shape)
        assert isinstance(bound, szdnn.Abs)
        assert np.abs(result.changed[name].astype(np.float64) - original[name]).max() <= bound.eps
    back = szdnn.load(path, framework="numpy")
    moved = [name for name in original if name in found.replaced and not np.array_equal(back[name], original[name])]
    assert bool(moved) == ("correct" in options)


def test_model_and_random_state_are_left_alone(net: nn.Module) -> None:
    before = {n: t.clone() for n, t in net.state_dict().items()}
    random = torch.get_rng_state()
    szdnn.tune(net.train(), search_score, budget=szdnn.MaxBits(8), compensate=True, correct=True)
    assert net.training
    net.eval()
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_same_call_same_result(net: nn.Module) -> None:
    plans = [szdnn.tune(net, search_score, budget=szdnn.MaxBits(6), compensate=True).plan for _ in range(2)]
    assert plans[0].to_json() == plans[1].to_json()


def test_methods_and_their_order(net: nn.Module) -> None:
    """In the same bytes, sensitivities keep outputs nearer than one bound for all, compensation nearer still."""
    runs = {"uniform": {}, "sensitivity": {}, "compensated": {"compensate": True}}
    distances = {}
    for name, options in runs.items():
        method = name if name in ("uniform", "sensitivity") else "sensitivity"
        result = szdnn.tune(net, search_score, budget=szdnn.MaxBits(6), method=method, **options)
        assert result.best.bytes * 8 <= 6 * result.values
        distances[name] = result.best.divergence
    assert distances["compensated"] < distances["sensitivity"] < distances["uniform"]


def test_curve_is_one_search_of_many_budgets(net: nn.Module) -> None:
    result = szdnn.tune(net, search_score, budget=szdnn.MaxBits(6), curve=5)
    data = json.loads(result.curve_json())
    assert len(data["points"]) == len(result.candidates) >= 6
    assert [p["bytes"] for p in data["points"]] == sorted(p["bytes"] for p in data["points"])
    front = [p for p in data["points"] if p["front"]]
    assert [p["distance"] for p in front] == sorted((p["distance"] for p in front), reverse=True)
    assert sum(p["best"] for p in data["points"]) >= 1
    for point in data["points"]:
        assert szdnn.Plan.from_dict(point["plan"]).to_dict() == point["plan"]


def test_picture(net: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra bench")
    from szdnn.tune.picture import draw

    result = szdnn.tune(net, search_score, budget=szdnn.MaxDrop(1.0), curve=3, method="uniform")
    draw(result, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_bytes_without_an_evaluation(net: nn.Module) -> None:
    result = szdnn.tune(net, None, budget=szdnn.MaxBits(5), calibration=[_IMAGES[:200], (_IMAGES[200:400],)])
    assert result.best.bytes * 8 <= 5 * result.values
    assert result.best.score is None
    assert result.held_out is None


def test_impossible_budgets(net: nn.Module) -> None:
    with pytest.raises(szdnn.BoundError, match="the smallest has"):
        szdnn.tune(net, search_score, budget=szdnn.MaxBytes(100))

    def moody(model: nn.Module) -> float:
        return 1.0 if all(torch.equal(a, b) for a, b in zip(model.parameters(), net.parameters(), strict=True)) else 0.0

    calibration = [_IMAGES[:64]]
    with pytest.raises(szdnn.BoundError, match="no plan within"):
        szdnn.tune(net, lambda m: (m(_IMAGES[:8]), moody(m))[1], budget=szdnn.MaxDrop(0.5), calibration=calibration)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0.5}, "budget"),
        ({"method": "best"}, "method"),
        ({"evaluate": None}, "MaxDrop needs"),
        ({"evaluate": lambda model: "good"}, "number"),
        ({"evaluate": lambda model: []}, "number"),
        ({"evaluate": lambda model: 1.0}, "did not run"),
        ({"calibration": []}, "no calibration"),
        ({"calibration": [3]}, "calibration batch"),
        ({"curve": -1}, "curve"),
        ({"distance": "euclid"}, "distance"),
    ],
)
def test_wrong_arguments(net: nn.Module, arguments: dict[str, Any], message: str) -> None:
    given = {"evaluate": search_score, "budget": szdnn.MaxDrop(1.0), **arguments}
    with pytest.raises(szdnn.ArgumentError, match=message):
        szdnn.tune(net, given.pop("evaluate"), **given)
    with pytest.raises(szdnn.ArgumentError):
        szdnn.tune("net", search_score, budget=szdnn.MaxDrop(1.0))


@pytest.mark.parametrize(
    "make", [lambda: szdnn.MaxDrop(-1), lambda: szdnn.MaxBytes(0), lambda: szdnn.MaxBits(float("nan"))]
)
def test_budgets_refuse_nonsense(make: Any) -> None:
    with pytest.raises(szdnn.ArgumentError):
        make()


# --- evaluations: interruption, resumption, executors


class Interrupting:
    """A score that is interrupted after so many evaluations."""

    def __init__(self, after: int) -> None:
        self.after, self.calls = after, 0

    def __call__(self, model: nn.Module) -> Any:
        self.calls += 1
        if self.calls > self.after:
            raise KeyboardInterrupt
        return search_score(model)


def test_interruption_keeps_the_best_and_is_resumed(net: nn.Module, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    budget = szdnn.MaxDrop(2.0)
    counting = Interrupting(1000)
    whole = szdnn.tune(net, counting, budget=budget)
    first = szdnn.tune(net, Interrupting(4), budget=budget, state=state)
    assert first.interrupted
    assert len(first.candidates) == 3  # one evaluation was the original's
    again = Interrupting(1000)
    resumed = szdnn.tune(net, again, budget=budget, state=state)
    assert not resumed.interrupted
    assert resumed.plan.to_json() == whole.plan.to_json()
    assert again.calls == counting.calls - 3
    with pytest.raises(szdnn.ArgumentError, match="another network"):
        szdnn.tune(SmallNet(), Interrupting(1000), budget=budget, state=state)
    state.write_text("{}")
    with pytest.raises(szdnn.ArgumentError, match="not a state"):
        szdnn.tune(net, Interrupting(1000), budget=budget, state=state)


def test_interruption_before_anything_is_found(net: nn.Module) -> None:
    with pytest.raises(KeyboardInterrupt):
        szdnn.tune(net, Interrupting(1), budget=szdnn.MaxDrop(2.0))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_executors_give_the_same_plan(net: nn.Module, kind: str) -> None:
    import multiprocessing

    budget = szdnn.MaxDrop(1.0)
    alone = szdnn.tune(net, search_score, budget=budget, method="deepsz")
    seen: list[tuple[int, int | None, str]] = []
    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, mp_context=context) as executor:
        result = szdnn.tune(
            net, search_score, budget=budget, method="deepsz", executor=executor,
            progress=lambda *told: seen.append(told),
        )  # fmt: skip
    assert result.plan.to_json() == alone.plan.to_json()
    assert [done for done, _, _ in seen] == list(range(1, result.evaluations + 1))


def test_an_executor_needs_what_can_be_sent(net: nn.Module) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(szdnn.ArgumentError, match="pickled"):
        szdnn.tune(
            net, lambda model: search_score(model), budget=szdnn.MaxDrop(1.0), method="deepsz", executor=executor
        )


# --- the parts


@pytest.mark.parametrize("kind", ["kl", "cosine", "mse"])
def test_distance_hessian_and_cotangents(kind: Any) -> None:
    """E[v v^T] is the Hessian: half of d^T H d is the distance of a small change d."""
    generator = torch.Generator().manual_seed(1)
    output = torch.randn(1, 6, generator=generator)
    output = output / output.norm() if kind == "cosine" else output
    distance = Distance(kind)
    drawn = torch.cat([distance.cotangents(output.expand(20_000, -1), generator)]).double()
    hessian = drawn.T @ drawn / len(drawn)
    change = 1e-2 * torch.randn(6, generator=generator).double()
    truth = float(distance(output.double(), output.double() + change))
    assert float(change @ hessian @ change) / 2 == pytest.approx(truth, rel=0.06)
    assert float(distance(output, output)) == pytest.approx(0, abs=1e-12)


def test_sensitivities_predict_the_distance(net: nn.Module) -> None:
    """Random errors of a given size in one tensor move the outputs by what its sensitivity says."""
    calls = [((_IMAGES[part],), {}) for part in torch.arange(1000).split(50)]
    distance = Distance("kl")
    found = sensitivities(net, calls, distance, torch.Generator().manual_seed(0), draws=4)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        reference = net(_IMAGES[:1000])
        for name in ("body.4.weight", "body.7.weight", "body.1.weight", "body.1.running_mean", "body.1.running_var"):
            tensor = net.state_dict()[name]
            size = 0.02 * float(tensor.std())
            measured = []
            for _ in range(12):
                noise = size * torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise)
                measured.append(float(distance(reference, net(_IMAGES[:1000])).mean()))
                tensor.sub_(noise)
            predicted = 0.5 * size**2 * float(found[name].sum())
            assert 0.5 < np.mean(measured) / predicted < 2, name


_LAYERS = [
    nn.Linear(6, 4),
    nn.Conv2d(6, 4, 3),
    nn.Conv2d(6, 4, 3, padding=1, stride=2, groups=2),
    nn.Conv1d(6, 4, 3, dilation=2),
    nn.Conv2d(6, 6, (3, 1), padding="same", groups=6),
    nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
]


@pytest.mark.parametrize("layer", _LAYERS, ids=str)
def test_inputs_of_layers_are_what_weights_multiply(layer: Any) -> None:
    """weight x inputs gives outputs of the layer, whichever positions were drawn."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 7, 6) if isinstance(layer, nn.Linear) else (3, 6, 9) if isinstance(layer, nn.Conv1d) else (3, 6, 9, 8)
    x = torch.randn(shape, generator=generator)
    with torch.no_grad():
        inputs = inputs_of(layer, x, 10, generator)
        groups = getattr(layer, "groups", 1)
        matrices = layer.weight.reshape(groups, -1, inputs.shape[2])
        found = (inputs @ matrices.transpose(1, 2)).permute(1, 0, 2).reshape(inputs.shape[1], -1) + layer.bias
        outputs = layer(x)
        outputs = outputs.flatten(0, -2) if isinstance(layer, nn.Linear) else outputs.movedim(1, -1).flatten(0, -2)
        distances = torch.cdist(found.double(), outputs.double()).min(dim=1).values
    assert float(distances.max()) < 1e-5


@given(seed=st.integers(0, 2**32 - 1), groups=st.integers(1, 3), rows=st.integers(1, 6), columns=st.integers(1, 150))
def test_compensated_values_are_neighbours_on_the_lattice(seed: int, groups: int, rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(groups, rows, columns, generator=generator).double()
    weights[weights.abs() < 0.2] = 0
    steps = torch.rand(groups, rows, 1, generator=generator).double() + 0.1
    inputs = torch.randn(groups, 40, columns, generator=generator).double()
    counts = feedback_rounding(weights, steps, *inverse_factor(inputs.transpose(1, 2) @ inputs))
    scaled = weights / steps
    assert bool(((counts == scaled.floor()) | (counts == scaled.ceil())).all())
    assert bool((counts[weights == 0] == 0).all())


def test_compensation_keeps_outputs() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(60, 60, generator=generator).double() * 0.9 ** torch.arange(60)[:, None]
    inputs = (torch.randn(500, 60, generator=generator).double() @ mixing)[None]
    weights = torch.randn(1, 20, 60, generator=generator).double()
    steps = torch.full((1, 1, 1), 0.5).double()
    counts = feedback_rounding(weights, steps, *inverse_factor(inputs.transpose(1, 2) @ inputs))

    def error(values: Any) -> float:
        return float(((values - weights) @ inputs.transpose(1, 2)).square().mean())

    assert error(counts * steps) < 0.5 * error((weights / steps).round() * steps)


def test_allocation_is_where_slopes_agree() -> None:
    """At high rates steps go as 1/sqrt(sensitivity), and the total is what was asked for."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 40_000).astype(np.float32)
    means = {"a": 1.0, "b": 16.0, "c": 256.0}
    curves = {name: measured_curve(RateCurve(values), mean) for name, mean in means.items()}
    steps = allocate(curves, distance=50.0)
    assert steps["a"] / steps["b"] == pytest.approx(4, rel=0.2)
    assert steps["b"] / steps["c"] == pytest.approx(4, rel=0.2)
    total = sum(0.5 * means[n] * values.size * step**2 / 12 for n, step in steps.items())
    assert total == pytest.approx(50.0, rel=0.25)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 50), st.integers(-3, 12)), min_size=1, max_size=4), min_size=1, max_size=4
    )
)
def test_deepsz_combination_is_the_best_there_is(tensors: list[list[tuple[int, int]]]) -> None:
    """Against all combinations; drops are whole parts of the budget, so rounding costs nothing."""
    import itertools

    options = {
        str(i): [Option(eps=j + 1.0, bytes=float(size), drop=drop / 10) for j, (size, drop) in enumerate(choices)]
        for i, choices in enumerate(tensors)
    }
    chosen = combine(options, 1.0)
    best = min(
        (
            sum(o.bytes for o in combination)
            for combination in itertools.product(*options.values())
            if sum(max(round(o.drop * 10), 0) for o in combination) <= 10
        ),
        default=None,
    )
    if best is not None:
        by_eps = {name: {o.eps: o for o in choices} for name, choices in options.items()}
        picked = [by_eps[name][eps] for name, eps in chosen.items()]
        assert sum(max(round(o.drop * 10), 0) for o in picked) <= 10
        if len(picked) == len(options):
            assert sum(o.bytes for o in picked) == best


def test_paired_interval() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2, 400).astype(float)
    after = before.copy()
    after[:20] = 1 - after[:20]
    interval = paired_interval(before.tolist(), after.tolist())
    assert interval.low < interval.mean < interval.high
    assert interval.high - interval.low < 0.06
    same = paired_interval(before.tolist(), before.tolist())
    assert (same.low, same.mean, same.high) == (0, 0, 0)


def test_curve_of_rates() -> None:
    rates = RateCurve(np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32))
    numbers, sizes, squares = rates.curve(6)
    assert (np.diff(numbers) < 0).all()
    assert (np.diff(sizes)[1:] > 0).all()
    assert squares[0] == pytest.approx(rates.power)
    assert squares[-1] == pytest.approx(5000 * rates.step(numbers[-1]) ** 2 / 12, rel=0.1)
    frame = szdnn.compress(rates.values, szdnn.Abs(rates.step(3) / 2))
    assert rates.bytes_at(rates.step(3)) == len(frame)


# --- finer lattices, provenance


@given(
    st.sampled_from([np.float16, np.float32, np.float64]), st.sampled_from([1, 2, 4, 16]), st.integers(0, 2**32 - 1),
    st.booleans(),
)  # fmt: skip
def test_values_on_a_finer_lattice_are_stored_as_they_are(dtype: Any, fineness: int, seed: int, by_axis: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (7, 30)).astype(dtype)
    bound = (
        szdnn.Abs(rng.uniform(0.05, 0.2, 30), axis=1, fineness=fineness)
        if by_axis
        else szdnn.Abs(0.1, fineness=fineness)
    )
    frame = szdnn.compress(values, bound)
    moved = szdnn.decompress(frame)
    assert szdnn.info(frame).kind == "lossless" or szdnn.info(frame).bound == bound
    assert szdnn.compare(values, moved, szdnn.info(frame)).violations == 0
    assert np.abs(moved.astype(float) - values).max() <= 0.2 / fineness * 1.01 + 1e-2 * (dtype == np.float16)
    again = szdnn.decompress(szdnn.compress(moved, bound))
    assert np.array_equal(again, moved)


def test_provenance_travels(tmp_path: Path) -> None:
    told = {"made_by": "a test", "not_the_original": {"w": "corrected"}}
    plan = szdnn.Plan(szdnn.Lossless(), {"w": szdnn.Abs(0.1, fineness=2)}, told)
    assert szdnn.Plan.from_json(plan.to_json()) == plan
    original = {"w": np.arange(3000, dtype=np.float32)}
    szdnn.save(tmp_path / "a.szd.safetensors", {"w": original["w"] + 5}, plan)
    found = szdnn.verify(tmp_path / "a.szd.safetensors", original)
    assert found.ok
    assert found.replaced == {"w": "corrected"}
    for bad in ([], "x", {"a": float("nan")}, {"a": object()}):
        with pytest.raises(szdnn.ArgumentError):
            szdnn.Plan(szdnn.Lossless(), None, bad)  # type: ignore[arg-type]
    for fineness in (0, 3, True, 32, 1.5):
        with pytest.raises(szdnn.BoundError):
            szdnn.Abs(0.1, fineness=fineness)
