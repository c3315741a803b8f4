"""The methods that learn: compression layers are the codec's lattice, and archives hold what was scored."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import szdnn  # noqa: E402
from szdnn import nets  # noqa: E402
from szdnn.errors import ArgumentError  # noqa: E402
from szdnn.tune.allocate import measured_curve  # noqa: E402
from szdnn.tune.budget import MaxBytes  # noqa: E402
from szdnn.tune.core import tune  # noqa: E402
from szdnn.tune.layer import CompressionLayer, LatticeStep  # noqa: E402
from szdnn.tune.learned import size_slope  # noqa: E402
from szdnn.tune.prior import Prior  # noqa: E402
from szdnn.tune.rates import RateCurve  # noqa: E402
from szdnn.tune.size_model import EFFORT, SizeModel, frames_of  # noqa: E402
from szdnn.tune.statistics import batch_norms, folded  # noqa: E402
from szdnn.tune.train import Recipe, Training  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    task = nets.load("digits")
    return task, task.model(task.baseline())


@pytest.fixture(scope="module")
def batches(digits):
    return list(digits[0].batches("train", 64, seed=0))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("eps", [0.3, 1e-3, 0.123456, 7e-9])
def test_a_compression_layer_gives_what_the_codec_decodes(eps):
    lattice = LatticeStep(eps)
    values = torch.randn(40, 50) * eps * 20
    rounded = CompressionLayer(lattice)(values).detach().numpy()
    decoded = szdnn.decompress(szdnn.compress(values, lattice.bound))
    # Values half-way between two points may go to either; an error beyond the bound is the codec's to repair.
    assert (decoded != rounded).mean() < 1e-3
    again = szdnn.compress(rounded, lattice.bound, effort=EFFORT)
    assert np.array_equal(szdnn.decompress(again), rounded)


def test_gradients_go_straight_through_and_along_the_error():
    lattice = LatticeStep(0.1)
    values = torch.randn(30, requires_grad=True)
    rounded = CompressionLayer(lattice)(values)
    weights = torch.randn(30)
    (rounded * weights).sum().backward()
    assert torch.equal(values.grad, weights)
    expected = (weights * (rounded - values)).sum()
    assert lattice.log_eps.grad.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("shape", [(7, 9), (5, 3, 2, 2), (11,)])
def test_a_prior_s_derivatives_are_those_of_its_code_length(shape):
    prior = Prior(shape).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    values = 1.5 * torch.randn(shape, dtype=torch.float64)

    def bits(u, log_inverse, logits, rows=0.0, columns=0.0):
        mass, a = 1e-7, u.reshape(prior.rows, -1).abs()
        for weight, log_b in zip(logits.softmax(0), log_inverse, strict=True):
            laplace = torch.distributions.Laplace(0.0, (rows + columns - log_b).exp(), validate_args=False)
            mass = mass + weight * (laplace.cdf(a + 0.5) - laplace.cdf(a - 0.5))
        return -mass.log2().sum()

    parameters = [p.detach().clone().requires_grad_() for p in prior.parameters()]
    at = values.clone().requires_grad_()
    slope = torch.autograd.grad(bits(at, *parameters), at)[0]
    total = bits(values.round(), *parameters)
    wanted = torch.autograd.grad(total, parameters)
    found = prior.measure(values)
    assert found.bits == pytest.approx(total.item(), rel=1e-9)
    assert torch.allclose(found.by_value, slope, rtol=1e-9, atol=1e-9)
    for parameter, gradient in zip(prior.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-5, atol=1e-5)


def test_the_estimate_follows_the_real_bytes_within_two_percent(digits):
    """Calibrated once, it holds for other weights and steps."""
    training = Training(digits[1], Recipe())
    training.size.fit(60)
    training.size.calibrate(training.state(), training.plan())
    with torch.no_grad():
        for lattice in training.lattices.values():
            lattice.log_eps.add_(0.1)
        for weight in training.weights.values():
            weight.mul_(0.97).add_(0.002 * torch.randn_like(weight))
    training.size.refresh()
    real = len(szdnn.dumps(training.state(), training.plan(), effort=EFFORT))
    assert training.size.bytes == pytest.approx(real, rel=0.02)


def test_the_gradient_of_the_size_is_that_of_its_estimate():
    """By finite differences of the code length where the values stand, over the step."""
    lattice = LatticeStep(0.05)
    values = torch.randn(40, 30).requires_grad_()
    model = SizeModel(frames_of({"w": values}, {"w": lattice}))
    model.fit(40)
    model.refresh(learn=False)
    model.add_gradients(8.0)
    step = lattice.step

    def soft_bits(at):
        """Integrates the derivative by each value from zero."""
        grid = torch.linspace(0, 1, 401)
        slopes = [(model.frames[0].prior.measure(at * g, learn=False).by_value * at).sum().item() for g in grid]
        return float(np.trapezoid(slopes, grid.numpy()))

    change = (soft_bits(values.detach() / (step * 1.01)) - soft_bits(values.detach() / (step / 1.01))) / (
        2 * math.log(1.01)
    )
    assert lattice.log_eps.grad.item() == pytest.approx(change, rel=0.02)
    direction = torch.randn(40, 30) * 0.001
    moved = soft_bits((values.detach() + direction) / step) - soft_bits((values.detach() - direction) / step)
    assert (values.grad * direction).sum().item() == pytest.approx(moved / 2, rel=0.05, abs=0.02)


def test_folded_statistics_leave_the_function_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    for _ in range(5):
        net(torch.randn(16, 3, 8, 8) * 3 + 1)
    net.eval()
    x = torch.randn(4, 3, 8, 8)
    before = net(x)
    assert list(batch_norms(net)) == ["1", "4"]
    with torch.no_grad():
        for norm in batch_norms(net).values():
            weight, bias = folded(norm)
            norm.weight.copy_(weight)
            norm.bias.copy_(bias)
            norm.running_mean.zero_()
            norm.running_var.fill_(1)
    assert torch.allclose(net(x), before, atol=1e-4)


ADAM = Recipe(epochs=15, every=2, rate=5e-3)
SGD = Recipe(epochs=15, every=2, rate=0.1, optimizer="sgd", decay=1e-4)


@pytest.mark.parametrize("recipe", [ADAM, SGD], ids=["adam", "sgd"])
def test_networks_with_batch_norm_train_with_it_and_are_archived_without_statistics(recipe, digits, batches):
    """The archive's network, in evaluation mode, is about the one that was trained."""
    task, _ = digits
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, bias=False),
        nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 9, 10),
    )  # fmt: skip
    original = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    training = Training(net, recipe)
    passes = list(training.run(batches, task.loss, training.raw / 16))
    assert passes[-1].bytes <= 1.05 * training.raw / 16
    back = szdnn.loads(szdnn.dumps(training.state(), training.plan(), effort=EFFORT))
    assert list(back) == list(original)
    assert all((back[f"{layer}.running_mean"] == 0).all() for layer in "14")
    assert all((back[f"{layer}.running_var"] == 1).all() for layer in "14")
    assert back["1.num_batches_tracked"] == original["1.num_batches_tracked"]
    net.load_state_dict({name: torch.from_numpy(array) for name, array in back.items()})
    net.eval()
    training.model.eval()
    inputs, targets = next(task.batches("report", 500))
    with torch.no_grad():
        outputs, trained = net(inputs), training.model(inputs)
    assert (outputs.argmax(-1) == targets).float().mean() > 0.9
    assert (outputs.argmax(-1) == trained.argmax(-1)).float().mean() > 0.97


def test_training_reaches_its_bytes_and_the_archive_is_what_was_scored(digits, batches, tmp_path):
    task, model = digits
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = Training(model, Recipe(epochs=12, every=2))
    target = training.raw / 30
    passes = list(training.run(batches, task.loss, target))
    assert passes[-1].done == 1
    assert passes[-1].bytes <= 1.05 * target
    assert all(abs(p.estimate / p.bytes - 1) < 0.05 for p in passes[6:])
    szdnn.save(tmp_path / "a", training.state(), training.plan(), effort=EFFORT)
    assert (tmp_path / "a").stat().st_size == passes[-1].bytes
    back = szdnn.load(tmp_path / "a", framework="numpy")
    trained = training.state()
    assert all(np.array_equal(back[name], trained[name]) for name in trained)
    assert szdnn.verify(tmp_path / "a", trained).ok
    inputs, _ = next(task.batches("report", 100))
    training.model.eval()
    assert torch.equal(task.model(back)(inputs), training.model(inputs))
    assert task.evaluate(task.model(back), "report") > 0.9
    assert np.mean(np.concatenate([array.reshape(-1) for array in back.values()]) == 0) > 0.7  # pruned
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert szdnn.verify(tmp_path / "a").replaced.keys() == trained.keys()


def test_the_same_seed_trains_the_same_network(digits, batches):
    task, model = digits

    def trained():
        torch.manual_seed(1)
        training = Training(model, Recipe(epochs=1))
        list(training.run(batches, task.loss, training.raw / 10))
        return szdnn.dumps(training.state(), training.plan(), effort=EFFORT)

    assert trained() == trained()


def _score(digits):
    task, _ = digits
    inputs, labels = task.examples("search").inputs, task.examples("search").targets

    def evaluate(model):
        with torch.no_grad():
            return (model(task.prepare(inputs)).argmax(1) == labels).float()

    return evaluate


def test_tune_trains_for_a_budget_of_bytes(digits, batches):
    task, model = digits
    options = {"train": batches, "loss": task.loss, "method": "train", "effort": EFFORT}
    budget = MaxBytes(12_000)
    found = tune(model, _score(digits), budget=budget, recipe=Recipe(epochs=10, every=2), **options)
    assert found.best.bytes <= budget.n
    assert found.best.score > 0.9
    assert len(szdnn.dumps(found.state(), found.plan, effort=EFFORT)) <= budget.n
    assert found.plan.replaced == {"*": "trained"}


def test_training_asks_for_what_it_needs(digits):
    _, model = digits
    with pytest.raises(ArgumentError, match="train="):
        tune(model, _score(digits), budget=MaxBytes(9000), method="train")
    with pytest.raises(ArgumentError, match="have a length"):
        tune(model, _score(digits), budget=MaxBytes(9000), method="train", train=iter([]), loss=F.cross_entropy)
    with pytest.raises(ArgumentError, match="no float32"):
        Training(nn.Flatten(), Recipe())
    with pytest.raises(ArgumentError, match="not 'rprop'"):
        list(Training(model, Recipe(optimizer="rprop")).run([], F.cross_entropy, 9000))


def test_bytes_of_learned_bounds_are_estimated_within_two_percent():
    """Between the steps at which frames were made."""
    values = (np.random.default_rng(0).standard_t(4, (200, 300)) * 0.02).astype(np.float32)
    curve = measured_curve(RateCurve(values), 1.0)
    for step in (0.0011, 0.0047, 0.019, 0.031):
        real = len(szdnn.compress(values, szdnn.Abs(step / 2)))
        size, slope = size_slope(curve, math.log(step))
        assert size == pytest.approx(real, rel=0.02)
        assert slope < 0


def test_learned_bounds_lose_less_than_those_of_sensitivities_at_equal_bytes(digits):
    task, model = digits
    calibration = [(task.prepare(task.examples("calibration").inputs),)]
    options = {"budget": MaxBytes(13_000), "calibration": calibration}
    found = {m: tune(model, _score(digits), method=m, **options).best for m in ("sensitivity", "learned")}
    assert found["learned"].bytes <= 13_000
    assert found["learned"].divergence <= found["sensitivity"].divergence
    with pytest.raises(ArgumentError, match="compensate"):
        tune(model, _score(digits), method="learned", compensate=True, **options)


class Seen(nn.Module):
    """A layer that keeps the dtype of what it makes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3)
        self.dtypes = set()

    def forward(self, x):
        y = self.layer(x)
        self.dtypes.add(y.dtype)
        return y.mean((2, 3))


@pytest.mark.parametrize(("capability", "dtype"), [("AVX512", torch.bfloat16), ("AVX2", torch.float32)])
def test_low_precision_is_used_where_the_processor_has_it(capability, dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    training = Training(Seen(), Recipe(epochs=1, low_precision=True))
    batch = (torch.randn(8, 1, 9, 9), torch.zeros(8, dtype=torch.long))
    steps = list(training.run([batch], F.cross_entropy, 1000))
    assert steps[-1].done == 1
    assert training.model.dtypes == {dtype}
    assert training.state()["layer.weight"].dtype == np.float32
