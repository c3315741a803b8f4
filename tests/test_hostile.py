"""Archives of a stranger: what they declare is limited, and JSON makes no more objects than its bytes justify."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import szdnn
from szdnn import archive_layout
from szdnn.safetensors_file import parse_header

sys.path.append(str(Path(__file__).parent / "fuzz"))

import grammar

LIMIT = 1 << 22


@pytest.fixture(scope="module")
def parts() -> dict[str, bytes]:
    """The entries of a small archive."""
    made = szdnn.dumps({"w": np.arange(5000, dtype=np.float32)}, szdnn.Rel(1e-3))
    header = parse_header(made[: 8 + int.from_bytes(made[:8], "little")])
    return {name: made[entry.start : entry.stop] for name, entry in header.entries.items()}


def with_state(parts: dict[str, bytes], state: object) -> bytes:
    """The archive with another state, everything about it put right."""
    found = {"kind": "torch", "suffix": ".pt", "generations": 1, "metadata": {}, "state": state}
    found |= {"plan": {"szdnn_plan": 1, "default": {"bound": "Rel", "r": 0.001}, "rules": []}}
    return grammar.assembled(
        parts | {archive_layout.SKELETON: grammar.packed(found | {"tensors": [["w", "float32", [5000]]]})}
    )


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize(("shape", "stride"), [([1 << 40], [0]), ([1 << 20, 5000], [0, 1]), ([4000, 1000], [1, 1])])
def test_a_view_may_not_be_larger_than_the_limit(parts, framework, shape, stride):
    """Its memory is small, a copy of it is not."""
    if framework == "torch":
        pytest.importorskip("torch")
    made = with_state(parts, {"tensor": "w", "shape": shape, "stride": stride})
    with pytest.raises(szdnn.LimitError, match="a view"):
        szdnn.loads(made, framework=framework, max_bytes=LIMIT)
    small = with_state(parts, {"tensor": "w", "shape": [5000, 2], "stride": [1, 0]})
    assert tuple(szdnn.loads(small, framework=framework, max_bytes=LIMIT).shape) == (5000, 2)


@pytest.mark.parametrize("state", [[[]] * 5000, [{}] * 5000, [0.5] * 3000, ["ab"] * 3000, [[[[[[[]]]]]]] * 1000])
def test_an_archive_of_a_few_hundred_bytes_makes_less_than_a_megabyte(parts, state):
    made = with_state({name: part for name, part in parts.items() if name != "w"}, state)
    assert len(made) < 600
    for data in (made, made[:-1], json.dumps(state).encode()):
        tracemalloc.start()
        with pytest.raises(szdnn.Error):
            szdnn.loads(data, framework="numpy", max_bytes=LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1e6
