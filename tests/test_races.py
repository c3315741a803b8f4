"""Many threads at once over the same arrays, frames and archives: the C core under ThreadSanitizer, and Python."""

from __future__ import annotations

import os

import pytest

from bench import races
from bench.races import TSAN

THREADS = 64
ONE_SANITIZER = pytest.mark.skipif(os.environ.get("SZDNN_SANITIZED") == "1", reason="two sanitizers do not go together")
UNKNOWN = "ThreadSanitizer does not know this kernel's memory layout"


@ONE_SANITIZER
@pytest.mark.skipif(bool(TSAN.missing), reason="needs gcc")
def test_the_core_has_no_races(tmp_path):
    found = races.under_sanitizer(tmp_path, THREADS, 12)
    if found is None:
        pytest.skip(UNKNOWN)
    assert (found.tried, found.bad) == (THREADS * 12, 0), found.note


@ONE_SANITIZER
@pytest.mark.skipif(bool(TSAN.missing), reason="needs gcc")
def test_thread_sanitizer_sees_a_race(tmp_path):
    """The harness is one that can fail."""
    (tmp_path / "bad.c").write_text(
        "#include <pthread.h>\nint shared;\nstatic void *add(void *p) { shared++; return p; }\nint main(void) { "
        "pthread_t t; pthread_create(&t, 0, add, 0); shared++; pthread_join(t, 0); return 0; }\n"
    )
    done = TSAN.run(TSAN.link(tmp_path / "bad.c", tmp_path / "bad", []))
    if "unexpected memory mapping" in done.stderr:
        pytest.skip(UNKNOWN)
    assert "data race" in done.stderr


def test_the_same_array_and_frame_on_many_threads():
    assert all(races.on_one_array(THREADS))


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_same_archive_on_many_threads(tmp_path, in_memory):
    assert all(races.on_one_archive(tmp_path, THREADS, in_memory))


def test_many_threads_save_and_load_the_same_path(tmp_path):
    assert all(races.on_one_path(tmp_path, 16))
