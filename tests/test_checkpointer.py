"""Checkpointer: does a loop get its state back, whatever happened, and is it held up by no more than a copy?"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import szdnn

torch = pytest.importorskip("torch")

from szdnn.integrations import checkpoint as module  # noqa: E402
from szdnn.integrations.checkpoint import Checkpointer, Entry, entry_name, superfluous  # noqa: E402
from szdnn.integrations.snapshot import Copier  # noqa: E402

BOUND = szdnn.Rel(1e-3)


def state(number: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(number)
    return {"number": number, "weight": torch.randn(64, 64, generator=generator), "epoch": [number, "x"]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_saves_and_restores(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, BOUND, keep=2) as checkpoints:
        assert checkpoints.restore() is None
        for step in range(1, 6):
            assert checkpoints.step(step, state(step))
        report = checkpoints.wait()
        assert report is not None
        assert report.ratio > 2
    assert names(tmp_path) == [entry_name(4), entry_name(5)]
    with Checkpointer(tmp_path, BOUND) as checkpoints:
        found = checkpoints.restore()
        assert found is not None
        assert (found.step, found.state["number"], found.state["epoch"]) == (5, 5, [5, "x"])
        weight = state(5)["weight"]
        assert (found.state["weight"] - weight).abs().max() <= 1e-3 * (weight.max() - weight.min())
        older = checkpoints.restore(4)
        assert older is not None
        assert older.state["number"] == 4
        with pytest.raises(FileNotFoundError, match="step 3"):
            checkpoints.restore(3)


@pytest.mark.parametrize("background", [True, False])
def test_training_goes_on_as_if_nothing_had_happened(tmp_path: Path, background: bool) -> None:
    """With Lossless, a run that is cut in two ends bit for bit where one run ends."""

    def train(steps: int, folder: Path | None) -> list[Any]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule}

        def whole() -> dict[str, Any]:
            return {**{name: part.state_dict() for name, part in parts.items()}, "rng": torch.get_rng_state()}

        if folder is None:
            run(1, steps, model, optimizer, schedule)
        else:
            with Checkpointer(folder, szdnn.Lossless(), every=4, background=background) as checkpoints:
                found = checkpoints.restore()
                if found:
                    for name, part in parts.items():
                        part.load_state_dict(found.state[name])
                    torch.set_rng_state(found.state["rng"])
                for step in range(found.step + 1 if found else 1, steps + 1):
                    run(step, step, model, optimizer, schedule)
                    checkpoints.step(step, whole)
        return [value.clone() for value in model.state_dict().values()]

    def run(first: int, last: int, model: Any, optimizer: Any, schedule: Any) -> None:
        for _ in range(first, last + 1):
            x = torch.randn(16, 20)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    straight = train(12, None)
    train(10, tmp_path)  # the last checkpoint is of step 8
    assert names(tmp_path) == [entry_name(4), entry_name(8)]
    resumed = train(12, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))


def test_damaged_ones_are_passed_over_and_left(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, BOUND, keep=None) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, state(step))
    for step, change in ((4, lambda data: data[: len(data) // 2]), (3, lambda data: data[:-9] + b"!" + data[-8:])):
        path = tmp_path / entry_name(step)
        path.write_bytes(change(path.read_bytes()))
    with Checkpointer(tmp_path, BOUND, keep=2) as checkpoints:
        with pytest.warns(RuntimeWarning, match="passed over") as warned:
            found = checkpoints.restore()
        assert found is not None
        assert found.step == 2
        assert len(warned) == 2
        assert len(names(tmp_path)) == 4
        checkpoints.save(5, state(5))
        checkpoints.save(6, state(6))
        checkpoints.wait()
        assert names(tmp_path) == [entry_name(step) for step in (3, 4, 5, 6)]
        checkpoints.save(4, state(4))  # replaced by a whole one, and so no longer left alone
        checkpoints.save(7, state(7))
    assert names(tmp_path) == [entry_name(step) for step in (3, 6, 7)]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    others = ["notes.txt", "step-12.szd.safetensors", "best.szd.safetensors", "step-0000000001.pt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    with Checkpointer(tmp_path, BOUND, keep=1) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step))
    assert names(tmp_path) == sorted([*others, entry_name(3)])


class Slow:
    """szdnn.save that waits until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.begun, self._save = threading.Event(), threading.Event(), szdnn.save
        monkeypatch.setattr(module.szdnn, "save", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.begun.set()
        assert self.go.wait(30)
        return self._save(*args, **kwargs)


def test_the_loop_goes_on_while_it_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`save` returns before anything is compressed, and what is saved is the state as it was."""
    slow = Slow(monkeypatch)
    live = state(1)
    with Checkpointer(tmp_path, szdnn.Lossless()) as checkpoints:
        checkpoints.save(1, live)
        live["weight"].zero_()
        live["epoch"].append("changed")
        assert slow.begun.wait(30)
        assert names(tmp_path) == []
        slow.go.set()
        found = checkpoints.restore()
    assert found is not None
    assert torch.equal(found.state["weight"], state(1)["weight"])
    assert found.state["epoch"] == [1, "x"]


def test_blocked_for_the_copy_only(tmp_path: Path) -> None:
    """On a real state: the loop waits for a part of what a save takes."""
    big = {str(i): torch.randn(1 << 20) for i in range(16)}
    with Checkpointer(tmp_path, szdnn.Rel(1e-4)) as checkpoints:
        for step in range(1, 4):
            checkpoints.save(step, big)
            checkpoints.wait()
        times = checkpoints.times
    assert times.saves == 3
    assert times.copied < 0.9 * times.saved, times


def test_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with Checkpointer(tmp_path, BOUND) as checkpoints:
        checkpoints.save(1, state(1))
        threading.Timer(0.3, slow.go.set).start()
        checkpoints.save(2, state(2))
        assert checkpoints.times.waited > 0.1
    assert names(tmp_path) == [entry_name(1), entry_name(2)]


class Broken(Exception):
    pass


def broken(*args: Any, **kwargs: Any) -> Any:
    raise Broken("no space")


def settle(checkpoints: Checkpointer) -> None:
    deadline = time.monotonic() + 30
    while not checkpoints._running.done():  # type: ignore[union-attr]
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("call", ["step", "save", "wait", "restore", "close"])
def test_errors_in_the_background_surface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """At the next call, whichever it is; once."""
    checkpoints = Checkpointer(tmp_path, BOUND, every=100)
    checkpoints.save(100, state(1))
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(module.szdnn, "save", broken)
        checkpoints.save(200, state(2))
        settle(checkpoints)
    calls = {"step": (201, state(3)), "save": (300, state(3))}
    with pytest.raises(Broken, match="no space"):
        getattr(checkpoints, call)(*calls.get(call, ()))
    if call != "close":
        found = checkpoints.restore()
        assert found is not None
        assert found.step == 100
        checkpoints.save(400, state(4))
        checkpoints.close()
        assert names(tmp_path) == [entry_name(100), entry_name(400)]


def test_an_error_in_the_loop_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint is completed; where that fails too, the loop's error says so."""

    def loop(step: int) -> None:
        with Checkpointer(tmp_path, BOUND) as checkpoints:
            checkpoints.save(step, state(step))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop(1)
    assert names(tmp_path) == [entry_name(1)]
    monkeypatch.setattr(module.szdnn, "save", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        loop(2)
    assert "no space" in "".join(caught.value.__notes__)


def test_effort_and_threads_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(module.szdnn, "save", lambda *args, **kwargs: given.update(kwargs))
    with Checkpointer(tmp_path, BOUND, effort=7, threads=1) as checkpoints:
        checkpoints.save(1, state(1))
    assert (given["effort"], given["threads"]) == (7, 1)


def test_what_can_not_be_saved_says_where(tmp_path: Path) -> None:
    with (
        pytest.raises(szdnn.ArchiveError, match=r"\['model'\]\['x'\]"),
        Checkpointer(tmp_path, BOUND) as checkpoints,
    ):
        checkpoints.save(1, {"model": {"x": object()}})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("every", "calls", "saved"),
    [(1, range(1, 5), [1, 2, 3, 4]), (10, range(1, 31), [10, 20, 30]), (10, range(0, 40, 7), [14, 21, 35])],
)
def test_every_so_many_steps(tmp_path: Path, every: int, calls: Any, saved: list[int]) -> None:
    evaluated = []
    with Checkpointer(tmp_path, BOUND, keep=None, every=every) as checkpoints:
        for step in calls:

            def make(step: int = step) -> Any:
                evaluated.append(step)
                return {"step": step}

            assert checkpoints.step(step, make) == (step in saved)
    assert evaluated == saved
    assert names(tmp_path) == [entry_name(step) for step in saved]


def test_every_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Checkpointer(tmp_path, BOUND, keep=None, every=timedelta(minutes=1), background=False) as checkpoints:
        for step in range(1, 30):
            now += 10.0
            checkpoints.step(step, {"step": step})
    assert names(tmp_path) == [entry_name(step) for step in (6, 12, 18, 24)]


def test_counts_lossy_generations(tmp_path: Path) -> None:
    """One more for each time that values come out of a lossy checkpoint and go into another."""
    for expected in (1, 2, 3):
        with Checkpointer(tmp_path, BOUND) as checkpoints:
            checkpoints.restore()
            checkpoints.save(10 * expected, state(1))
            checkpoints.save(10 * expected + 1, state(1))
            found = checkpoints.restore()
            assert found is not None
            assert found.generations == expected
    with Checkpointer(tmp_path, szdnn.Lossless()) as checkpoints:
        checkpoints.restore()
        checkpoints.save(99, state(1))
        found = checkpoints.restore()
        assert found is not None
        assert found.generations == 3


@pytest.mark.parametrize(
    "options", [{"keep": 0}, {"keep": True}, {"keep": 1.5}, {"every": 0}, {"every": "1h"}, {"every": -3}]
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(szdnn.ArgumentError, match=next(iter(options))):
        Checkpointer(tmp_path, BOUND, **options)


@pytest.mark.parametrize("step", [-1, 1.0, True, "1"])
def test_steps_are_checked(tmp_path: Path, step: Any) -> None:
    with Checkpointer(tmp_path, BOUND) as checkpoints, pytest.raises(szdnn.ArgumentError, match="step"):
        checkpoints.save(step, state(1))


def chain(*links: tuple[int, int | None]) -> list[Entry]:
    return [Entry(Path(entry_name(step, base)), step, base) for step, base in links]


def test_names_say_what_is_needed() -> None:
    for step, base in [(0, None), (7, None), (7, 3), (10**12, 10**11)]:
        assert Entry.of(Path("runs") / entry_name(step, base)) == Entry(
            Path("runs") / entry_name(step, base), step, base
        )
    for name in (
        "step-7.szd.safetensors",
        "step-0000000007.szd.safetensors.tmp",
        "step-0000000007.on-.szd.safetensors",
    ):
        assert Entry.of(Path(name)) is None


def test_a_needed_base_is_kept() -> None:
    """Differences to differences need the whole chain down to its base."""
    entries = chain((1, None), (2, 1), (3, 2), (4, None), (5, 4), (6, 5))
    assert [entry.step for entry in superfluous(entries, 1)] == [1, 2, 3]
    assert [entry.step for entry in superfluous(entries, 3)] == [1, 2, 3]
    assert superfluous(entries, 4) == []


@given(st.lists(st.integers(0, 7), max_size=30), st.integers(1, 10))
def test_what_is_kept_can_be_read(backs: list[int], keep: int) -> None:
    """Each entry refers to one a few before it, or to none: whatever stays has all it needs, and no more stays."""
    entries = chain(*((i, i - back if 0 < back <= i else None) for i, back in enumerate(backs)))
    gone = {entry.step for entry in superfluous(entries, keep)}
    kept = {entry.step: entry for entry in entries if entry.step not in gone}
    newest = [entry.step for entry in entries[-keep:]]
    assert set(newest) <= kept.keys()
    assert all(entry.base is None or entry.base in kept for entry in kept.values())
    reachable = set()
    for step in newest:
        link: int | None = step
        while link is not None:
            reachable.add(link)
            link = entries[link].base
    assert reachable == kept.keys()


def test_copies_share_nothing_but_what_was_shared() -> None:
    base = torch.arange(24.0).reshape(4, 6)
    original: dict[str, Any] = {
        "base": base, "row": base[2], "turned": base.T, "tied": base,
        "parameter": torch.nn.Parameter(torch.ones(3), requires_grad=False),
        "empty": torch.zeros(0, 3), "half": torch.ones(2, 2, dtype=torch.bfloat16), "bool": torch.tensor(True),
        "conj": torch.tensor([1 + 2j]).conj(), "grad": torch.ones(2, requires_grad=True),
        "list": [1, (torch.ones(2), "x")], "array": np.arange(6).reshape(2, 3).T, "set": {1, 2},
        "ordered": OrderedDict(a=torch.ones(1)),
    }  # fmt: skip
    original["ordered"]._metadata = {"version": 2}
    copier = Copier()
    for _ in range(3):
        copied = copier.copy(original)
        for name, value in original.items():
            if isinstance(value, torch.Tensor):
                twin = copied[name]
                assert type(twin) is type(value)
                assert torch.equal(twin, value)
                assert (twin.stride(), twin.requires_grad) == (value.stride(), value.requires_grad)
        assert copied["tied"].data_ptr() == copied["base"].data_ptr()
        assert copied["row"].data_ptr() == copied["base"].data_ptr() + 48
        assert copied["ordered"]._metadata == {"version": 2}
        assert copied["array"].strides == original["array"].strides
        live = {t.untyped_storage().data_ptr() for t in original.values() if isinstance(t, torch.Tensor) and t.numel()}
        mine = {t.untyped_storage().data_ptr() for t in copied.values() if isinstance(t, torch.Tensor) and t.numel()}
        assert not live & mine
        copier.release()


def test_copies_use_memory_again() -> None:
    tensors = [torch.randn(1000), torch.randn(1000), torch.randn(500)]
    copier = Copier()
    places = []
    for _ in range(3):
        copied = copier.copy(tensors)
        places.append({tensor.data_ptr() for tensor in copied})
        copier.release()
    assert all(a == b for a, b in itertools.pairwise(places))


KILLED = """
import os, random, signal, sys, time
import torch
import szdnn
from szdnn.integrations.checkpoint import Checkpointer
torch.set_num_threads(1)
folder, kills = sys.argv[1], int(sys.argv[2])

def train(folder, steps=120):
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    done = 0
    with Checkpointer(folder, szdnn.Lossless(), keep=2, every=2) as checkpoints:
        if (found := checkpoints.restore()) is not None:
            model.load_state_dict(found.state["model"])
            optimizer.load_state_dict(found.state["optimizer"])
            done = found.step
        for step in range(done + 1, steps + 1):
            torch.manual_seed(step)
            loss = (model(torch.randn(8, 64)) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            checkpoints.step(step, lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    return model.weight.detach()

def child(folder):
    pid = os.fork()
    if pid == 0:
        train(folder)
        os._exit(0)
    return pid

start = time.perf_counter()
os.waitpid(child(folder + "/straight"), 0)
whole = time.perf_counter() - start
for _ in range(kills):
    pid = child(folder + "/killed")
    time.sleep(random.uniform(0, 2 * whole / kills))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
_, status = os.waitpid(child(folder + "/killed"), 0)
assert status == 0
a, b = (szdnn.load(f"{folder}/{name}/step-0000000120.szd.safetensors") for name in ("straight", "killed"))
assert torch.equal(a["model"]["weight"], b["model"]["weight"])
assert len(os.listdir(folder + "/killed")) == 2, os.listdir(folder + "/killed")
"""


@pytest.mark.skipif(not hasattr(os, "fork") or "SZDNN_SANITIZED" in os.environ, reason="needs fork, not sanitized")
def test_killed_again_and_again(tmp_path: Path) -> None:
    """A run that is killed at random moments and started again ends bit for bit where an undisturbed one ends."""
    kills = 8 if os.environ.get("SZDNN_HYPOTHESIS") == "quick" else 60
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
