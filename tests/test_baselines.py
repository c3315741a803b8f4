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
