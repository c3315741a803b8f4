"""The campaigns of damage and abuse: what they find in szdnn (nothing), and that they would find it."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bench import Grid, Moved

import szdnn
from bench import bitrot, campaign, isolated, promises, readme, soak_case, soak_state
from bench.__main__ import main
from bench.tables.trust import trust_cells, trust_table

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


# ---- isolation ----


def test_a_trial_that_dies_costs_one_trial():
    def trial(number: int) -> str:
        if number == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 5:
            sys.exit(0)
        return "odd" if number % 2 else "even"

    found = isolated.run(trial, 10, ("odd", "even"), jobs=2)
    assert (found.counts, found.crashed, found.hung) == ({"odd": 3, "even": 5}, 2, 0)


def test_a_trial_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(isolated, "_STUCK_SECONDS", 0.3)
    found = isolated.run(lambda number: time.sleep(60) or "never" if number == 1 else "fine", 3, ("fine", "never"))
    assert (found.of("fine"), found.of("never"), found.crashed, found.hung) == (2, 0, 0, 1)


@pytest.mark.skipif(os.environ.get("SZDNN_SANITIZED") == "1", reason="sanitizers have an address space of their own")
def test_a_trial_that_wants_all_memory_does_not_get_it():
    found = isolated.run(lambda _: "got" if np.ones(1 << 30).any() else "", 1, ("got",))
    assert (found.of("got"), found.crashed) == (0, 1)


# ---- damage ----


@given(st.sampled_from(sorted(bitrot.KINDS)), st.binary(min_size=1, max_size=3000), st.integers(0, 2**32))
def test_damage_changes_something(kind, original, seed):
    data = bytearray(original)
    bitrot.KINDS[kind](data, random.Random(seed))
    assert data != original
    assert len(data) <= len(original)


@given(st.binary(min_size=5, max_size=400), st.integers(2, 32), st.integers(0, 2**32))
def test_a_burst_is_as_long_as_it_says(original, bits, seed):
    data = bytearray(original)
    bitrot._burst(data, random.Random(seed), bits)
    changed = int.from_bytes(data, "little") ^ int.from_bytes(original, "little")
    assert changed.bit_length() - ((changed & -changed).bit_length() - 1) == bits


def test_all_damage_to_frames_and_archives_is_detected():
    for finding in bitrot.ours_under_damage(4000, seed=5, jobs=2):
        assert finding.good == finding.tried > 0, finding


def test_damage_that_a_codec_lets_through_is_counted():
    values = np.arange(100, dtype=np.float32)
    careless = bitrot.Subject(values.tobytes(), lambda data: data, values.tobytes())
    trial = bitrot.trial_of([careless], "single bits", 0)
    found = isolated.run(trial, 50, bitrot.VERDICTS)
    assert found.of(bitrot.WRONG) == 50
    deaf = bitrot.Subject(values.tobytes(), lambda data: values.tobytes(), values.tobytes())
    assert isolated.run(bitrot.trial_of([deaf], "truncations", 0), 20, bitrot.VERDICTS).of(bitrot.HARMLESS) == 20


def test_an_exception_other_than_ours_counts_as_a_crash(monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise IndexError

    subject = bitrot.frames()[0]
    monkeypatch.setattr(szdnn, "decompress", broken)
    found = isolated.run(bitrot.trial_of([subject], "single bits", 0), 3, bitrot.VERDICTS)
    assert found.crashed == 3


# ---- promises ----


def test_who_keeps_a_promise_and_who_does_not():
    ours = promises.under_abuse(promises.known("szdnn"), 150, seed=3, jobs=2)
    assert ours.good == ours.tried == 150
    moved = promises.under_abuse(Moved(), 60, seed=3, jobs=1)
    grid = promises.under_abuse(Grid(), 60, seed=3, jobs=1)
    assert moved.bad > grid.bad > 0


# ---- records ----


def test_findings_replace_older_ones_of_their_kind(tmp_path):
    path = tmp_path / "trust.csv"
    one = campaign.Finding("bitrot", "single bits in frames", "szdnn", 10, "errors", 9, 1)
    other = campaign.Finding("bitrot", "single bits in streams", "zfp", 10, "errors", 0, 8)
    campaign.record(path, [one, other])
    campaign.record(path, [campaign.Finding("bitrot", "single bits in frames", "szdnn", 20, "errors", 20, 0)])
    rows = campaign.read(path)
    assert [(row["codec"], row["tried"]) for row in rows] == [("szdnn", "20"), ("zfp", "10")]
    _, lines, _ = trust_cells(rows)
    assert lines[0] == ["single bits detected", "100% of 20", "-", "0.0% of 10", "-", "-"]


def test_a_miss_is_never_rounded_away():
    rows = [{"campaign": "bitrot", "case": "single bits in frames", "codec": "szdnn", "tried": "1000000",
             "good": "999999", "bad": "1", "crashed": "0"}]  # fmt: skip
    assert trust_cells(rows)[1][0][1] == "99.9% of 1,000,000"


def test_the_readme_shows_what_the_campaigns_found():
    if campaign.RESULTS.exists():
        assert trust_table() in readme.README.read_text()


# ---- soak in steps ----


def test_a_soak_goes_on_where_it_stopped(tmp_path, capsys):
    state, csv = tmp_path / "state.json", tmp_path / "trust.csv"
    step = ["soak", "--jobs", "1", "--state", str(state), "--folder", str(tmp_path), "--csv", str(csv)]
    assert main([*step, "--seed", "4", "--values", "1000"]) == 0
    first = soak_state.load(state, None, 0)
    assert first.seed == 4
    assert first.total.cases == soak_case.VARIANTS * first.next > 0
    assert main([*step, "--values", str(first.total.values + 1)]) == 0
    second = soak_state.load(state, 4, 0)
    assert second.next > first.next
    assert second.total.values > first.total.values
    assert f"going on from case {first.next}" in capsys.readouterr().out
    assert int(campaign.read(csv)[0]["tried"]) == second.total.values
    assert main([*step, "--seed", "5"]) == 2
    assert "seed 4, not 5" in capsys.readouterr().err
