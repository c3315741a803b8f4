"""`bench seeds`: the papers' layer shapes, and rows that say what the artefacts are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bench import seeds, seeds_papers, seeds_shapes
from szdnn.baselines.base import weight_names
from szdnn.baselines.deep_compression import DeepCompression
from szdnn.baselines.universal import Universal

PARAMETERS = [(seeds_shapes.ALEXNET, 60_965_224), (seeds_shapes.VGG_16, 138_357_544)]


@pytest.mark.parametrize(("shapes", "parameters"), PARAMETERS)
def test_the_shapes_have_the_published_number_of_parameters(shapes: seeds_shapes.Shapes, parameters: int) -> None:
    assert sum(int(np.prod(shape)) + shape[0] for _, shape, _ in shapes.layers) == parameters


def test_the_published_shares_give_the_published_reduction() -> None:
    """Han et al. 2016, table 1: 9 and 13 times fewer parameters."""
    for shapes, times in ((seeds_shapes.ALEXNET, 9), (seeds_shapes.VGG_16, 13)):
        sizes = [int(np.prod(shape)) for _, shape, _ in shapes.layers]
        kept = sum(size * share for size, (_, _, share) in zip(sizes, shapes.layers, strict=True))
        assert sum(sizes) / kept == pytest.approx(times, rel=0.05)


def test_every_experiment_fits_its_network() -> None:
    from szdnn import nets

    for one in seeds_papers.EXPERIMENTS:
        if one.network in seeds_papers.SHAPES:
            count = len(seeds_papers.SHAPES[one.network].layers)
        else:
            state = nets.load(one.network).build().state_dict()
            count = len(weight_names({name: value.numpy() for name, value in state.items()}))
        assert not one.method.rates or len(one.method.rates.split("/")) == count


def test_rows_of_a_small_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "cache_folder", lambda: tmp_path)
    short = {"density": 0.2, "steps": 1, "epochs": 0.1, "tune_epochs": 0.1}
    paper = seeds_papers.Published("", 2.0, 3.0, (("coded", 10.0),))
    for method in (DeepCompression(**short), Universal(step=0.5, **short)):
        one = seeds_papers.Experiment("test", "digits", method, paper)
        rows = seeds.experiment(one)
        assert [row.stage for row in rows] == ["uncompressed", *rows_between(method), "coded"]
        assert all(row.bytes * row.ratio == pytest.approx(rows[0].bytes) for row in rows)
        assert rows[-1].bytes < rows[1].bytes < rows[0].bytes
        assert rows[-1].paper_ratio == 10
        assert (rows[0].paper_error, rows[-1].paper_error) == (2, 3)
        assert rows == seeds.experiment(one)  # kept from before
    assert len(list(tmp_path.glob("seeds/pruned-*.npz"))) == 1  # both start from one pruned network
    seeds.forget([one])
    assert not list(tmp_path.glob("seeds/pruned-*.npz"))


def rows_between(method: DeepCompression | Universal) -> list[str]:
    return ["pruned", "shared"] if isinstance(method, DeepCompression) else ["pruned", "quantised"]
