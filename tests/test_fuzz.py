"""The fuzz targets over their seeds and over the inputs that once broke something: guard pages around every buffer, but
no sanitizers, which `python -m bench fuzz` has."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import fuzz
from bench.native import Toolchain

FUZZ = Path(__file__).parent / "fuzz"
REGRESSIONS = FUZZ / "regressions"
SEEDS = 40
PLAIN = Toolchain()
sys.path.append(str(FUZZ))

needs_compiler = [
    pytest.mark.skipif(bool(PLAIN.missing), reason="needs a C compiler"),
    pytest.mark.skipif(os.environ.get("SZDNN_SANITIZED") == "1", reason="sanitizers are preloaded into every program"),
]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The core's objects, and the seeds."""
    folder = tmp_path_factory.mktemp("fuzz")
    objects = PLAIN.compile_core(folder / "objects")
    seeds = PLAIN.link(FUZZ / "seeds.c", folder / "make-seeds", objects)
    (folder / "seeds").mkdir()
    done = PLAIN.run(seeds, folder / "seeds", SEEDS)
    assert done.returncode == 0, done.stderr
    return folder, objects


@needs_compiler[0]
@needs_compiler[1]
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_seeds_and_regressions(build, target):
    folder, objects = build
    program = PLAIN.link(FUZZ / f"{target}.c", folder / target, objects, FUZZ / "replay.c")
    inputs = [*(folder / "seeds" / target).iterdir(), *(REGRESSIONS / target).glob("*")]
    assert len(inputs) >= SEEDS // 4
    done = PLAIN.run(program, *inputs)
    assert done.returncode == 0, done.stderr


@needs_compiler[0]
@needs_compiler[1]
def test_guard_pages_catch_a_byte_too_many(tmp_path):
    source = '#include "fuzz.h"\nint LLVMFuzzerTestOneInput(const uint8_t *d, size_t n)\n{ (void)d; '
    source += "return guarded(0, n, true)[n]; }\n"
    (tmp_path / "bad.c").write_text(source)
    for name in ("fuzz.h", "replay.c"):
        shutil.copy(FUZZ / name, tmp_path / name)
    program = PLAIN.link(tmp_path / "bad.c", tmp_path / "bad", [], tmp_path / "replay.c")
    assert PLAIN.run(program, tmp_path / "bad.c").returncode < 0


def test_every_target_has_its_file_and_says_what_it_is_for():
    made = {path.stem for path in FUZZ.glob("*.c")} - {"replay", "seeds"}
    assert made == set(fuzz.TARGETS)
    assert {path.name for path in REGRESSIONS.iterdir()} <= {*fuzz.TARGETS, *fuzz.PYTHON_TARGETS}


def python_target(name: str):
    """A Python target's function, which raises what is no szdnn.Error."""
    return getattr(importlib.import_module(f"{name}_target"), fuzz.PYTHON_TARGETS[name][0])


@given(st.binary(max_size=400))
def test_python_targets_on_any_bytes(data):
    for name in fuzz.PYTHON_TARGETS:
        python_target(name)(data)


@pytest.mark.parametrize("name", fuzz.PYTHON_TARGETS)
def test_python_regressions(name):
    for path in (REGRESSIONS / name).glob("*"):
        python_target(name)(path.read_bytes())


def test_the_grammar_reaches_archives_that_are_whole():
    """What it makes is not refused at the door: some of it loads."""
    import grammar

    import szdnn

    loaded = 0
    for seed in range(300):
        data = grammar.Bytes(bytes((seed * 7 + i * i * 3 + seed * i) % 256 for i in range(60)))
        try:
            szdnn.loads(grammar.reassembled(data), framework="numpy", max_bytes=1 << 22)
            loaded += 1
        except szdnn.Error:
            continue
    assert 20 < loaded < 290
