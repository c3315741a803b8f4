"""Checkpoints that hold differences: chains that end, are kept as long as they are needed, and survive damage."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import szdnn

torch = pytest.importorskip("torch")

from szdnn.integrations.checkpoint import Checkpointer, Entry, chain_of, entry_name  # noqa: E402

BOUND = szdnn.Rel(1e-3, range=(-4, 4))


def state(step: int) -> dict[str, Any]:
    """What a run has after a step: it moves a little with each."""
    start, way = (torch.randn(64, 64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    return {"step": step, "weight": start + 1e-3 * step * way}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, steps: int, **options: Any) -> None:
    with Checkpointer(folder, BOUND, reference=True, **options) as checkpoints:
        for step in range(1, steps + 1):
            checkpoints.save(step, state(step))


def assert_step(found: Any, step: int) -> None:
    assert found is not None
    assert (found.step, found.state["step"]) == (step, step)
    assert (found.state["weight"] - state(step)["weight"]).abs().max() <= 8e-3


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("background", [True, False])
def test_a_chain_is_restored_and_begins_anew(tmp_path, background):
    fill(tmp_path, 6, keep=None, links=2, background=background)
    assert names(tmp_path) == sorted(
        [entry_name(1), entry_name(2, 1), entry_name(3, 2), entry_name(4), entry_name(5, 4), entry_name(6, 5)]
    )
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert max(sizes[1], sizes[2]) < 0.7 * sizes[0]
    with Checkpointer(tmp_path, BOUND) as checkpoints:
        assert_step(checkpoints.restore(), 6)
        for step in range(1, 7):
            assert_step(checkpoints.restore(step), step)
        assert checkpoints.generations == 1


def test_another_process_goes_on_with_the_chain(tmp_path):
    fill(tmp_path, 2, keep=None)
    with Checkpointer(tmp_path, BOUND, keep=None, reference=True) as checkpoints:
        found = checkpoints.restore()
        assert_step(found, 2)
        checkpoints.save(3, state(3))
    assert names(tmp_path)[-1] == entry_name(3, 2)
    with Checkpointer(tmp_path, BOUND) as checkpoints:
        found = checkpoints.restore()
        assert_step(found, 3)
        assert found is not None
        assert found.generations == 2


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 14))
def test_what_is_kept_can_be_read(tmp_path_factory, keep, links, steps):
    folder = tmp_path_factory.mktemp("run")
    with Checkpointer(folder, BOUND, keep=keep, links=links, reference=True, background=False) as checkpoints:
        for step in range(1, steps + 1):
            checkpoints.save(step, {"weight": state(step)["weight"][:16]})
        entries = checkpoints.entries()
        chains = [chain_of(entries, entry) for entry in entries[-keep:]]
        assert all(chain is not None and len(chain) <= links + 1 for chain in chains)
        assert {e for chain in chains for e in chain or []} == set(entries)
        assert [e.step for e in entries[-keep:]] == [*range(max(1, steps - keep + 1), steps + 1)]
        for entry in entries[-keep:]:
            assert checkpoints.restore(entry.step) is not None


def test_a_damaged_base_is_damage_to_all_that_need_it(tmp_path):
    fill(tmp_path, 6, keep=None, links=2)
    damage(tmp_path / entry_name(4))
    with Checkpointer(tmp_path, BOUND, reference=True) as checkpoints:
        with pytest.warns(RuntimeWarning, match="passed over") as warned:
            found = checkpoints.restore()
        assert_step(found, 3)
        assert len(warned) == 3
        checkpoints.save(4, state(4))
    assert entry_name(4) not in names(tmp_path)  # the damaged one made place
    with Checkpointer(tmp_path, BOUND) as checkpoints:
        with pytest.warns(RuntimeWarning, match="passed over"):  # 5 and 6 were made with another 4
            found = checkpoints.restore()
        assert_step(found, 4)
        (tmp_path / entry_name(1)).unlink()
        with pytest.warns(RuntimeWarning, match="which is not there"):
            assert checkpoints.restore() is None


def test_nothing_is_built_upon_damage(tmp_path):
    fill(tmp_path, 2, keep=None)
    damage(tmp_path / entry_name(1))
    with Checkpointer(tmp_path, BOUND, keep=None, reference=True, background=False) as checkpoints:
        with pytest.warns(RuntimeWarning, match="not built upon"):
            checkpoints.save(3, state(3))
        assert names(tmp_path) == [entry_name(1), entry_name(2, 1), entry_name(3)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checkpoints.save(4, state(4))
            assert_step(checkpoints.restore(), 4)
    assert names(tmp_path)[-1] == entry_name(4, 3)


def test_a_state_that_has_nothing_of_the_one_before_stands_alone(tmp_path):
    with Checkpointer(tmp_path, BOUND, reference=True, keep=1) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, {"other": torch.randn(30, 40)})
        checkpoints.save(3, {"other": torch.randn(30, 40)})
        checkpoints.wait()
        assert names(tmp_path) == [entry_name(3)]
        assert checkpoints.restore() is not None


def test_a_step_that_is_saved_again_takes_the_place(tmp_path):
    fill(tmp_path, 3, keep=None)
    with Checkpointer(tmp_path, BOUND, keep=None) as checkpoints:  # this one keeps no differences
        assert_step(checkpoints.restore(2), 2)
        checkpoints.save(2, {**state(2), "again": True})
        with pytest.warns(RuntimeWarning, match="passed over"):  # step 3 was made with the other one
            found = checkpoints.restore()
        assert found is not None
        assert found.state["again"]
    assert names(tmp_path) == [entry_name(1), entry_name(2), entry_name(3, 2)]


def test_in_a_store(tmp_path):
    """A folder at a URL: saved, pruned, damaged, restored."""
    fsspec = pytest.importorskip("fsspec")
    url = "memory://bucket/run"
    system = fsspec.filesystem("memory")

    def files() -> list[str]:
        return sorted(Path(name).name for name in system.ls("/bucket/run", detail=False))

    with Checkpointer(url, BOUND, keep=2, links=2, reference=True) as checkpoints:
        assert checkpoints.restore() is None
        for step in range(1, 6):
            checkpoints.save(step, state(step))
    assert files() == [entry_name(4), entry_name(5, 4)]
    with Checkpointer(url, BOUND) as checkpoints:
        found = checkpoints.restore()
        assert_step(found, 5)
        assert found is not None
        assert str(found.path) == f"{url}/{entry_name(5, 4)}"
        assert_step(checkpoints.restore(4), 4)
    with system.open(f"/bucket/run/{entry_name(4)}", "rb") as file:
        raw = bytearray(file.read())
    raw[-10] ^= 1
    system.pipe_file(f"/bucket/run/{entry_name(4)}", bytes(raw))
    with Checkpointer(url, BOUND, reference=True) as checkpoints:
        with pytest.warns(RuntimeWarning, match="passed over"):
            assert checkpoints.restore() is None
        checkpoints.save(6, {"other": torch.randn(30, 40)})
        checkpoints.wait()
        assert entry_name(6) in files()
        assert checkpoints.restore() is not None


@pytest.mark.parametrize("links", [0, -1, 1.5, None, True])
def test_links_are_checked(tmp_path, links):
    with pytest.raises(szdnn.ArgumentError, match="links"):
        Checkpointer(tmp_path, BOUND, reference=True, links=links)


def test_chains_of_names():
    entries = [Entry(Path(str(i)), i, base) for i, base in [(1, None), (2, 1), (3, 2), (5, 4), (6, 6)]]
    assert chain_of(entries, entries[2]) == [entries[2], entries[1], entries[0]]
    assert chain_of(entries, entries[3]) is None
    assert chain_of(entries, entries[4]) is None
