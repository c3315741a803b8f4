"""Atheris target: any JSON as a state's skeleton. It becomes a state or a szdnn.Error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))


def rebuild(raw: bytes) -> None:
    """A state out of a forged tree over a few real arrays, and a plan out of forged JSON."""
    import grammar
    import numpy as np

    import szdnn
    from szdnn import skeleton, state

    data = grammar.Bytes(raw)
    tree = grammar.node(data)
    arrays = {"w": np.ones((3, 4), np.float32), "b": np.arange(5), "": np.zeros(())}
    for use in (
        lambda: state.rebuild_state({"state": tree}, arrays, "numpy"),
        lambda: state.array_names(tree),
        lambda: skeleton.specs_of({"tensors": tree}),
        lambda: skeleton.unpack(grammar.packed(tree)),
        lambda: szdnn.Plan.from_dict(tree),
    ):
        try:
            use()
        except szdnn.Error:
            continue


def main() -> None:
    """Fuzz until told to stop."""
    import atheris

    with atheris.instrument_imports(include=["szdnn"]):
        import szdnn.state  # noqa: F401
    atheris.Setup(sys.argv, rebuild)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
