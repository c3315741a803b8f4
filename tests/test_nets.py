"""Tasks: splits that do not mix, given checkpoints that fit and score as they should, training that repeats."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from szdnn import nets
from szdnn.errors import ArchiveError, ArgumentError

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from szdnn.nets import downloads  # noqa: E402
from szdnn.nets.task import SPLITS, Task, state_of  # noqa: E402
from szdnn.nets.training import Recipe, train  # noqa: E402

needs_data = pytest.mark.skipif("SZDNN_DATA" not in os.environ, reason="SZDNN_DATA does not name the data folder")


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    """A cache of the tests' own, except for packages that are there already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SZDNN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def rows(task, split):
    """A digest of each example."""
    inputs = task.examples(split).inputs
    return {hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in inputs}


@pytest.mark.parametrize("name", ["digits", pytest.param("mnist", marks=needs_data)])
def test_splits_share_no_example(name):
    task = nets.load(name)
    seen = [rows(task, split) for split in SPLITS]
    for i, one in enumerate(seen):
        for other in seen[i + 1 :]:
            assert one
            assert len(one & other) <= 2  # the data sets hold a few images twice


def test_digits_trains_the_same_network_twice():
    task = nets.load("digits")
    first = task.baseline()
    assert task.evaluate(task.model(first)) > 0.95
    again = nets.load("digits").train_baseline()
    cached = nets.load("digits").baseline()
    assert all(np.array_equal(first[name], again[name]) and np.array_equal(first[name], cached[name]) for name in first)


def test_hooks_see_gradients_and_weights():
    task = nets.load("digits")
    model = task.model(task.baseline())
    mask = {name: torch.rand_like(p) < 0.5 for name, p in model.named_parameters()}

    def masked(model):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.mul_(mask[name])

    before = torch.random.get_rng_state()
    train(model, task, Recipe(0.2, 1e-2), after_step=masked)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in state_of(model).items():
        assert not value[~mask[name].numpy()].any()
        assert value[mask[name].numpy()].any()


def test_distillation_brings_outputs_closer():
    task = nets.load("digits")
    teacher = task.model(task.baseline())
    state = {name: value + 0.05 * np.random.default_rng(0).standard_normal(value.shape).astype(np.float32)
             for name, value in task.baseline().items()}  # fmt: skip
    reference = task.outputs(teacher, "search")

    def distance(model):
        return float(task.divergence(reference, task.outputs(model, "search")).mean())

    model = task.model(state)
    before = distance(model)
    train(model, task, Recipe(2, 1e-3, "adam", distill=1.0), teacher=teacher)
    assert distance(model) < before / 2


def test_interval_holds_the_difference_and_is_nothing_for_equal_outputs():
    task = nets.load("digits")
    examples = task.examples("report")
    outputs = task.outputs(task.model(task.baseline()), "report")
    worse = outputs + 3 * torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0))
    low, high = task.interval(outputs, worse, examples.targets, draws=200)
    assert low <= task.score_of(worse, examples.targets) - task.score_of(outputs, examples.targets) <= high < 0
    assert task.interval(outputs, outputs, examples.targets, draws=10) == (0, 0)
    arguments = outputs, worse, examples.targets, 1000, 0
    general = Task.differences(task, *arguments)  # by drawing the examples themselves
    quick = task.differences(*arguments)
    assert np.allclose([quick.mean(), quick.std()], [general.mean(), general.std()], atol=0.002)


@needs_data
@pytest.mark.parametrize(("network", "accuracy"), [("resnet-20", 0.8774), ("resnet-32", 0.8909)])
def test_given_resnets_score_as_published(network, accuracy):
    pytest.importorskip("PIL")
    task = nets.load(f"cifar10/{network}")
    model = task.model(task.baseline())
    assert abs(task.evaluate(model, "test", limit=600) - accuracy) < 0.04
    assert sum(p.numel() for p in model.parameters()) == {"resnet-20": 269_722, "resnet-32": 464_154}[network]


def test_wrong_names_and_checkpoints_are_refused():
    with pytest.raises(ArgumentError, match="digits/lenet"):
        nets.load("imagenet")
    with pytest.raises(ArgumentError, match="lenet-5"):
        nets.load("mnist/resnet")
    task = nets.load("digits")
    with pytest.raises(ArgumentError, match="digits/lenet"):
        task.model({"weight": np.zeros(3, np.float32)})
    with pytest.raises(ArgumentError, match="calibration"):
        task.examples("validation")


def test_downloads_are_checked(tmp_path, monkeypatch):
    home = tmp_path / "home.bin"
    home.write_bytes(b"data")
    monkeypatch.setenv("SZDNN_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"data").hexdigest()
    url = Path(home).as_uri()
    with pytest.raises(ArchiveError, match="not the file"):
        downloads.fetch(downloads.Download(url, "sha256:" + "0" * 64))
    assert downloads.fetch(downloads.Download(url, "sha256:" + digest[:8])).read_bytes() == b"data"
    home.unlink()
    assert downloads.fetch(downloads.Download(url, "sha256:" + digest)).read_bytes() == b"data"
    with pytest.raises(ArchiveError, match="SZDNN_DATA"):
        downloads.fetch(downloads.Download(url + "x", "sha256:" + digest))
    assert {path.name for path in (tmp_path / "cache" / "downloads").iterdir()} == {"home.bin"}


def test_minilm_is_the_bert_that_its_checkpoint_is_for():
    transformers = pytest.importorskip(
        "transformers", reason="transformers, the reference for MiniLM, is not installed"
    )
    from szdnn.nets import minilm

    torch.manual_seed(0)
    own = minilm.MiniLM().eval()
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, hidden_act="gelu"
    )
    reference = transformers.BertModel(config).eval()
    state = own.state_dict()
    state.pop("embeddings.position_ids")
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("position_ids" in name or "token_type_ids" in name for name in missing)
    ids = torch.randint(1, 30_000, (3, 2, 12))
    ids[0, 0, 5:] = 0
    ids[2, 1, 9:] = 0
    flat = ids.view(6, 12)
    with torch.no_grad():
        hidden = reference(input_ids=flat, attention_mask=(flat != 0).long()).last_hidden_state
        mask = (flat != 0).unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        expected = torch.nn.functional.normalize(mean, dim=-1).view(3, 2, 384)
        assert torch.allclose(own(ids), expected, atol=1e-5)
        trimmed = own(ids[:, :, :5])
    assert torch.allclose(trimmed[0, 0], expected[0, 0], atol=1e-5)  # padding changes nothing
