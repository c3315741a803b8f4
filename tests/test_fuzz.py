"""The fuzz targets over their seeds and over the inputs that once broke something: guard pages around every buffer, but
no sanitizers, which `python -m bench fuzz` has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import fuzz
from bench.native import Toolchain

FUZZ = Path(__file__).parent / "fuzz"
REGRESSIONS = FUZZ / "regressions"
SEEDS = 40
PLAIN = Toolchain()

needs_compiler = pytest.mark.skipif(bool(PLAIN.missing), reason="needs a C compiler")


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


@needs_compiler
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_seeds_and_regressions(build, target):
    folder, objects = build
    program = PLAIN.link(FUZZ / f"{target}.c", folder / target, objects, FUZZ / "replay.c")
    inputs = [*(folder / "seeds" / target).iterdir(), *(REGRESSIONS / target).glob("*")]
    assert len(inputs) >= SEEDS // 4
    done = PLAIN.run(program, *inputs)
    assert done.returncode == 0, done.stderr


@needs_compiler
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
