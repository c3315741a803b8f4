"""The interface of baseline methods: artefacts hold the whole checkpoint, specifications, damage."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from szdnn.baselines import base
from szdnn.errors import ArgumentError, CorruptFrame


def checkpoint(seed=0):
    """A small network's worth of names, shapes and dtypes."""
    random = np.random.default_rng(seed)
    return {
        "conv.weight": random.normal(0, 0.1, (8, 3, 3, 3)).astype(np.float32),
        "conv.bias": random.normal(0, 0.1, 8).astype(np.float32),
        "bn.num_batches_tracked": np.array(7, np.int64),
        "embed.weight": random.normal(0, 0.1, (20, 16)).astype(ml_dtypes.bfloat16),
        "fc.weight": random.normal(0, 0.1, (40, 50)).astype(np.float64),
        "empty": np.zeros((0, 4), np.float32),
        "half": np.zeros(5, np.float16),
    }


def same(a, b):
    return list(a) == list(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(a.values(), b.values(), strict=True)
    )


@dataclass(frozen=True)
class Raw(base.Method):
    """Weights as they are."""

    level: int = 1
    way: str = "plain"

    def fit(self, state, context):
        return base.artefact(
            state, {name: state[name].tobytes() for name in base.weight_names(state)}, {"way": self.way}
        )

    @classmethod
    def decode(cls, data):
        parts = base.unpack(data)
        return parts.state(
            {n: np.frombuffer(blob, base.named_dtype(parts.dtypes[n])) for n, blob in parts.layers.items()}
        )


def test_an_artefact_holds_every_name_shape_and_dtype():
    state = checkpoint()
    found = Raw().fit(state, base.Context())
    assert same(Raw.decode(found.to_bytes()), state)
    assert found.layer_bytes == {"conv.weight": 864, "embed.weight": 640, "fc.weight": 16_000}
    changed = {"conv.bias": np.ones(8, np.float16)}
    layers = {name: state[name].tobytes() for name in base.weight_names(state)}
    other = Raw.decode(base.artefact(state, layers, rest=changed).data)
    assert same(other, state | changed)


def test_damage_is_seen():
    data = Raw().fit(checkpoint(), base.Context()).data
    for bad in (b"", data[:3], b"X" + data[1:], data[:30], data[:-1], data[:8] + b"\0" * 8 + data[16:]):
        with pytest.raises(CorruptFrame):
            Raw.decode(bad)


def test_specifications():
    name = f"{__name__}:Raw"
    assert base.method(f"{name}:level=3,way=text") == Raw(3, "text")
    with pytest.raises(ArgumentError, match="level, way"):
        base.method(f"{name}:speed=3")
    with pytest.raises(ArgumentError, match="name=value"):
        base.method(f"{name}:fast")
    with pytest.raises(ArgumentError, match="there are"):
        base.method("nothing-of-this-name")
    with pytest.raises(ArgumentError, match="no_such_module"):
        base.method("no_such.no_such_module:Raw")
    base.register("raw-of-test", "as it is", Raw)
    assert base.method("raw-of-test:level=2") == Raw(2)
    with pytest.raises(ArgumentError, match="two methods"):
        base.register("raw-of-test", "again", base.Method)


def test_what_is_missing_is_named():
    @dataclass(frozen=True)
    class Needy(Raw):
        requires = ("no_such_module_a", "json", "no_such_module_b")

    with pytest.raises(base.Unavailable, match="no_such_module_a, no_such_module_b"):
        Needy().timed(checkpoint(), base.Context())
    with pytest.raises(base.Unavailable, match="task"):
        base.Context().evaluate(checkpoint())


CASTS = ["fp16", "bf16", "fp8", "fp8-e5m2", "int8", "int8-group", "int4", "int4-group", "fixed16", "fixed8"]
CASTS += ["binary", "ternary"]
LOSSLESS = ["gzip", "bzip2", "xz", "zstd", "zstd-shuffled", "szdnn-lossless"]
OTHERS = ["szdnn-rel-1e-2", "szdnn:value=0.1", "lowrank:energy=0.9", "lowrank:energy=0.5,reshape=spatial,dtype=float16"]


@pytest.mark.parametrize("spec", CASTS + LOSSLESS + OTHERS)
def test_every_name_shape_and_dtype_comes_back(spec):
    state = checkpoint()
    before = {name: value.copy() for name, value in state.items()}
    method = base.method(spec)
    found = method.fit(state, base.Context())
    assert same(state, before)
    decoded = method.decode(found.to_bytes())
    assert list(decoded) == list(state) or spec.startswith("szdnn")
    for name, value in state.items():
        assert (decoded[name].dtype, decoded[name].shape) == (value.dtype, value.shape), name
    assert set(found.layer_bytes) == set(base.weight_names(state))
    assert sum(found.layer_bytes.values()) < len(found.data)
    if spec in LOSSLESS:
        assert same({name: decoded[name] for name in state}, state)
    assert all(same({n: decoded[n]}, {n: state[n]}) for n in state if n not in found.layer_bytes)
    again = base.method(spec).fit(state, base.Context())
    assert again.data == found.data


def test_every_weight_layer_gets_szdnns_bound():
    state = checkpoint() | {"a/b[*].weight": checkpoint(1)["fc.weight"], "tiny.weight": np.eye(3, dtype=np.float32)}
    method = base.method("szdnn:value=0.25")
    decoded = method.decode(method.fit(state, base.Context()).data)
    for name in base.weight_names(state):
        value = np.asarray(state[name], np.float64)
        assert 0 < np.abs(decoded[name].astype(np.float64) - value).max() <= 0.25 * value.std() * 1.0001


def close(decoded, state, name="fc.weight"):
    return np.abs(decoded[name] - state[name]).max()


@pytest.mark.parametrize(("spec", "step"), [("int8", 1 / 127), ("int4", 1 / 7), ("int:bits=2,group=7", 1)])
def test_integers_are_within_half_a_step(spec, step):
    state = checkpoint()
    method = base.method(spec)
    decoded = method.decode(method.fit(state, base.Context()).data)
    rows = np.abs(state["fc.weight"]).max() * 1.001  # scales are rounded up to float16
    assert close(decoded, state) <= rows * step / 2


def test_fixed_point_is_within_a_step_and_unbiased():
    state = {"w": np.full((200, 200), 0.3, np.float32), "v": np.full((1, 1), 0.93, np.float32)}
    state["w"][0, 0] = 0.93
    nearest, stochastic = (base.method(f"fixed8:word=4,rounding={way}") for way in ("nearest", "stochastic"))
    rounded = nearest.decode(nearest.fit(state, base.Context()).data)["w"]
    drawn = stochastic.decode(stochastic.fit(state, base.Context()).data)["w"]
    step = 0.125
    assert close({"w": rounded}, state, "w") <= step / 2 + 1e-6
    assert close({"w": drawn}, state, "w") <= step
    assert set(np.unique(drawn[1:])) == {0.25, 0.375}
    assert abs(drawn[1:].mean() - 0.3) < 5 * step / 2 / 200
    other = stochastic.decode(stochastic.fit(state, base.Context(seed=1)).data)["w"]
    assert not np.array_equal(other, drawn)


def test_the_rank_of_the_energy_is_the_least():
    random = np.random.default_rng(0)
    left, right = np.linalg.qr(random.normal(size=(30, 4)))[0], np.linalg.qr(random.normal(size=(20, 4)))[0]
    state = {"w": (left * [4, 2, 1, 1e-4] @ right.T).astype(np.float32)}
    for energy, rank in ((0.76, 1), (0.77, 2), (0.96, 3), (0.9999999, 3)):
        found = base.method(f"lowrank:energy={energy}").fit(state, base.Context())
        assert found.details["ranks"] == {"w": rank}
        assert found.layer_bytes["w"] == 4 * rank * 50
    method = base.method("lowrank:energy=0.9999999")
    assert close(method.decode(method.fit(state, base.Context()).data), state, "w") < 2e-4


def test_a_byte_budget_is_kept_and_spent():
    random = np.random.default_rng(0)
    state = {f"w{i}": random.normal(size=(64, 64)).astype(np.float32) for i in range(3)}
    sizes = [len(base.method(f"lowrank:ratio={ratio}").fit(state, base.Context()).data) for ratio in (2, 4, 8)]
    for size, ratio in zip(sizes, (2, 4, 8), strict=True):
        assert 0.9 * 3 * 64 * 64 * 4 / ratio < size < 3 * 64 * 64 * 4 / ratio + 1000


def test_a_value_that_a_format_lacks_is_refused():
    state = checkpoint()
    state["fc.weight"][3, 4] = np.nan
    for spec in ("int8", "fixed8", "binary", "lowrank:energy=0.9"):
        with pytest.raises(base.Unavailable, match=r"fc\.weight"):
            base.method(spec).fit(state, base.Context())
    for spec in ("bf16", "szdnn-rel-1e-2"):
        method = base.method(spec)
        decoded = method.decode(method.fit(state, base.Context()).data)["fc.weight"]
        assert np.isnan(decoded[3, 4])
        assert np.isnan(decoded).sum() == 1


class TestOnDigits:
    @pytest.fixture(scope="class")
    @classmethod
    def context(cls, tmp_path_factory):
        pytest.importorskip("torch")
        pytest.importorskip("sklearn")
        from szdnn import nets

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SZDNN_CACHE", str(tmp_path_factory.mktemp("cache")))
            yield base.Context(nets.load("digits"), budget=1.0, effort=0.5)

    @pytest.mark.parametrize("spec", ["szdnn", "int", "lowrank"])
    def test_the_budget_is_kept_by_the_coarsest(self, context, spec):
        state = context.task.baseline()
        method = base.method(spec)
        found = method.fit(state, context)
        score = context.evaluate(method.decode(found.data))
        assert context.within_budget(score, context.evaluate(state))
        loose = method.fit(state, base.Context(context.task, budget=20))
        assert len(loose.data) < len(found.data)

    @pytest.mark.parametrize("spec", ["binary", "ternary", "fixed8:word=3"])
    def test_training_under_a_format_beats_casting_to_it(self, context, spec):
        state = context.task.baseline()
        plain, trained = base.method(spec), base.method(spec + ("," if ":" in spec else ":") + "epochs=4")
        cast, tuned = (m.decode(m.fit(state, context).data) for m in (plain, trained))
        assert context.evaluate(tuned, "report") > context.evaluate(cast, "report") + 0.02

    def test_fine_tuned_factors_score_better(self, context):
        state = context.task.baseline()
        method = base.method("lowrank:ratio=15,epochs=6")
        found = method.fit(state, context)
        (stage,) = found.stages
        assert abs(stage.bytes - len(found.data)) < 100  # biases changed, losslessly kept
        assert context.evaluate(method.decode(found.data), "report") > context.evaluate(stage.state, "report") + 0.02
