"""Many threads at once over the same arrays, frames and archives: the C core under ThreadSanitizer, and Python."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import corpus
import numpy as np
import pytest

import szdnn
from bench import platforms
from bench.native import TESTS, Toolchain
from szdnn.archive import Archive

THREADS = 64
TSAN = Toolchain("gcc", ("-fsanitize=thread",), ("-fsanitize=thread", "-pthread"))


@pytest.mark.skipif(os.environ.get("SZDNN_SANITIZED") == "1", reason="two sanitizers do not go together")
@pytest.mark.skipif(bool(TSAN.missing), reason="needs gcc")
def test_the_core_has_no_races(tmp_path):
    program = TSAN.link(TESTS / "native" / "race.c", tmp_path / "race", TSAN.compile_core(tmp_path / "objects"))
    platforms.write_cases([*corpus.cases()[::5], *corpus.large()[:1]], tmp_path / "cases")
    done = TSAN.run(program, tmp_path / "cases", THREADS, 12)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not know this kernel's memory layout")
    assert done.returncode == 0, done.stderr
    assert "64 threads" in done.stdout
    assert "WARNING" not in done.stderr


@pytest.mark.skipif(os.environ.get("SZDNN_SANITIZED") == "1", reason="two sanitizers do not go together")
@pytest.mark.skipif(bool(TSAN.missing), reason="needs gcc")
def test_thread_sanitizer_sees_a_race(tmp_path):
    """The harness is one that can fail."""
    (tmp_path / "bad.c").write_text(
        "#include <pthread.h>\nint shared;\nstatic void *add(void *p) { shared++; return p; }\nint main(void) { "
        "pthread_t t; pthread_create(&t, 0, add, 0); shared++; pthread_join(t, 0); return 0; }\n"
    )
    done = TSAN.run(TSAN.link(tmp_path / "bad.c", tmp_path / "bad", []))
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not know this kernel's memory layout")
    assert "data race" in done.stderr


def together(work: Callable[[int], object], count: int = THREADS) -> list[object]:
    """work(0) ... work(count - 1) on as many threads, which begin at once and change places often."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> object:
        barrier.wait()
        return work(number)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(begin, range(count)))
    finally:
        sys.setswitchinterval(before)


def test_the_same_array_and_frame_on_many_threads():
    array = corpus.cast(corpus.scaled(1, 300, 900), "float32")  # two blocks
    frame = szdnn.compress(array, szdnn.Rel(1e-2))
    values, out = szdnn.decompress(frame), np.empty_like(array)

    def work(number: int) -> bool:
        match number % 4:
            case 0:
                return szdnn.compress(array, szdnn.Rel(1e-2), threads=1 + number % 3) == frame
            case 1:
                return szdnn.decompress(frame, threads=1 + number % 3).tobytes() == values.tobytes()
            case 2:
                return szdnn.read(frame, np.s_[number : number + 9]).tobytes() == values[number : number + 9].tobytes()
        szdnn.decompress(frame, out=out)  # several write the same bytes
        return szdnn.info(frame).shape == array.shape

    assert all(together(work))
    assert out.tobytes() == values.tobytes()


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_same_archive_on_many_threads(tmp_path, in_memory):
    # Each small tensor has a group of its own, so that few decoded groups are kept and all threads exchange them.
    state = {f"small{i}": corpus.cast(corpus.bell(i, 20), "float32") * 2**i for i in range(40)}
    state |= {f"large{i}": corpus.cast(corpus.bell(100 + i, 40, 60), "float32") for i in range(4)}
    path = tmp_path / "x.szd.safetensors"
    plan = szdnn.Plan(szdnn.Rel(1e-2), [szdnn.plan.Rule("small*", szdnn.Rel(1e-3), override=True)])
    szdnn.save(path, state, plan)
    expected = {name: np.asarray(array).tobytes() for name, array in szdnn.load(path, framework="numpy").items()}
    with Archive(path.read_bytes() if in_memory else path, threads=1) as archive:
        names = list(archive)

        def work(number: int) -> bool:
            order = names[number % len(names) :] + names[: number % len(names)]
            good = all(archive[name].tobytes() == expected[name] for name in order)
            return (
                good
                and archive.read(order[0], ...).tobytes() == expected[order[0]]
                and archive.info(order[1]).raw_bytes > 0
            )

        for _ in range(3):
            assert all(together(work))


def test_many_threads_save_and_load_the_same_path(tmp_path):
    states = [{"x": np.full((50, 60), number, np.float32), "n": number} for number in range(8)]
    path = tmp_path / "x.szd.safetensors"
    szdnn.save(path, states[0], szdnn.Rel(1e-2))

    def work(number: int) -> bool:
        if number % 2:
            szdnn.save(path, states[number % 8], szdnn.Rel(1e-2))
            return True
        found = szdnn.load(path)
        return bool((found["x"] == found["n"]).all())

    assert all(together(work, 16))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
