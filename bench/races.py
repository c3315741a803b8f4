"""Many threads over the same arrays, frames, archives and paths at once: the C core under ThreadSanitizer, and Python,
where every result is compared with what one thread found."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench import campaign, platforms
from bench.native import TESTS, Toolchain

sys.path.append(str(TESTS))

import corpus

import szdnn
from szdnn.archive import Archive

TSAN = Toolchain("gcc", ("-fsanitize=thread",), ("-fsanitize=thread", "-pthread"))
_UNKNOWN_MEMORY = "unexpected memory mapping"
_SWITCH_SECONDS = 1e-6


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--threads", type=int, default=64, help="at once (default 64)")
    parser.add_argument("--rounds", type=int, default=24, help="of each thread (default 24)")
    parser.add_argument("--csv", type=Path, help="put the counts into this file")


def run(args: argparse.Namespace) -> int:
    """A line a side; 1 if a race or a wrong result was found, 2 if ThreadSanitizer can't run here."""
    with tempfile.TemporaryDirectory() as folder:
        tested = [under_sanitizer(Path(folder), args.threads, args.rounds), in_python(Path(folder), args)]
    found = [finding for finding in tested if finding]
    campaign.show(found)
    if args.csv:
        campaign.record(args.csv, found)
    if tested[0] is None:
        print("left out: the core under ThreadSanitizer, which needs gcc and a memory layout that it knows")
        return 2
    return int(any(finding.bad for finding in found))


def under_sanitizer(
    folder: Path, threads: int, rounds: int, cases: Sequence[corpus.Case] | None = None
) -> campaign.Finding | None:
    """Encodes and decodes on many threads (tests/native/race.c); None where ThreadSanitizer can't run.

    cases: of tests/corpus.py; every fifth and one of several blocks unless given.
    """
    if TSAN.missing:
        return None
    program = TSAN.link(TESTS / "native" / "race.c", folder / "race", TSAN.compile_core(folder / "objects"))
    platforms.write_cases(cases or [*corpus.cases()[::5], *corpus.large()[:1]], folder / "cases")
    done = TSAN.run(program, folder / "cases", threads, rounds)
    if _UNKNOWN_MEMORY in done.stderr:
        return None
    races = done.stderr.count("WARNING: ThreadSanitizer")
    said = re.match(r"(\d+) threads, (\d+) rounds, (\d+) cases, (\d+) wrong", done.stdout)
    tried = threads * rounds
    if not said:
        return _finding("core, ThreadSanitizer", tried, tried, f"exit code {done.returncode}: {done.stderr[-300:]}")
    bad = min(tried, int(said[4]) + races)
    return _finding("core, ThreadSanitizer", tried, bad, f"{threads} threads, {races} races, {said[4]} wrong results")


def in_python(folder: Path, args: argparse.Namespace) -> campaign.Finding:
    """All that Python offers to several threads."""
    results: list[bool] = []
    for number in range(-(-args.rounds // 8)):
        results += on_one_array(args.threads)
        results += on_one_archive(folder, args.threads, in_memory=bool(number % 2))
        results += on_one_path(folder, args.threads)
    return _finding(
        "arrays, archives and paths in Python", len(results), results.count(False), f"{args.threads} threads"
    )


def _finding(case: str, tried: int, bad: int, note: str) -> campaign.Finding:
    return campaign.Finding("races", case, "szdnn", tried, "rounds of a thread", tried - bad, bad, 0, note)


def together(work: Callable[[int], bool], count: int) -> list[bool]:
    """work(0) ... work(count - 1) on as many threads, which begin at once and change places often."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> bool:
        barrier.wait()
        return work(number)

    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(begin, range(count)))
    finally:
        sys.setswitchinterval(before)


def on_one_array(threads: int) -> list[bool]:
    """One array is compressed, one frame read in all ways, one output written by several. Whether each was right."""
    array = corpus.cast(corpus.scaled(1, 300, 900), "float32")  # two blocks
    frame = szdnn.compress(array, szdnn.Rel(1e-2))
    values, out = szdnn.decompress(frame), np.empty_like(array)

    def work(number: int) -> bool:
        match number % 4:
            case 0:
                return bytes(szdnn.compress(array, szdnn.Rel(1e-2), threads=1 + number % 3)) == frame
            case 1:
                return szdnn.decompress(frame, threads=1 + number % 3).tobytes() == values.tobytes()
            case 2:
                return szdnn.read(frame, np.s_[number : number + 9]).tobytes() == values[number : number + 9].tobytes()
        szdnn.decompress(frame, out=out)  # several write the same bytes
        return szdnn.info(frame).shape == array.shape

    right = together(work, threads)
    return [*right, out.tobytes() == values.tobytes()]


def on_one_archive(folder: Path, threads: int, in_memory: bool) -> list[bool]:
    """One open archive is read by all.

    Each small tensor has a group of its own, so that few decoded groups are kept and all threads exchange them.
    """
    state = {f"small{i}": corpus.cast(corpus.bell(i, 20), "float32") * 2**i for i in range(40)}
    state |= {f"large{i}": corpus.cast(corpus.bell(100 + i, 40, 60), "float32") for i in range(4)}
    path = folder / "x.szd.safetensors"
    plan = szdnn.Plan(szdnn.Rel(1e-2), [szdnn.plan.Rule("small*", szdnn.Rel(1e-3), override=True)])
    szdnn.save(path, state, plan)
    expected = {name: np.asarray(array).tobytes() for name, array in szdnn.load(path, framework="numpy").items()}
    with Archive(path.read_bytes() if in_memory else path, threads=1) as archive:
        names = list(archive)

        def work(number: int) -> bool:
            order = names[number % len(names) :] + names[: number % len(names)]
            good = all(archive[name].tobytes() == expected[name] for name in order)
            part = archive.read(order[0], ...).tobytes() == expected[order[0]]
            return good and part and archive.info(order[1]).raw_bytes > 0

        return [right for _ in range(3) for right in together(work, threads)]


def on_one_path(folder: Path, threads: int) -> list[bool]:
    """Half of the threads save, half load one path: what is loaded is always one of the states, whole."""
    states = [{"x": np.full((50, 60), number, np.float32), "n": number} for number in range(8)]
    path = folder / "shared.szd.safetensors"
    szdnn.save(path, states[0], szdnn.Rel(1e-2))

    def work(number: int) -> bool:
        if number % 2:
            szdnn.save(path, states[number % 8], szdnn.Rel(1e-2))
            return True
        found = szdnn.load(path)
        return bool((found["x"] == found["n"]).all())

    right = together(work, threads)
    return [*right, [file.name for file in folder.glob("*shared*")] == [path.name]]
