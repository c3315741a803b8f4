"""Fuzzes the C core with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer, and the Python side with
Atheris: the targets of tests/fuzz, from seeds that its seeds.c makes."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench import campaign
from bench.native import ROOT, SANITIZERS, TESTS, Toolchain

FUZZ = TESTS / "fuzz"
TARGETS = {
    "frame": "any bytes as a frame, checksums put right",
    "block": "any bytes as a block under any header",
    "roundtrip": "any values, bound, dtype, predictor and coder: encode, decode, portable C against vectors",
    "huffman": "Huffman streams",
    "rans": "rANS streams",
    "symbols": "symbol streams, row and column classes and sparse ones too",
    "tokens": "residuals: direct, dominant, palette, mixed",
    "planes": "lossless elements: raw, bytes, split, dictionary",
    "mix": "the mixing coder",
}
PYTHON_TARGETS = {
    "archive": ("open_archive", "any bytes as an archive; names, skeleton, small tensors and digest put right"),
    "skeleton": ("rebuild", "any JSON as a state's skeleton"),
}
"""The function of tests/fuzz/NAME_target.py, and what it is for."""
# Edges, without libFuzzer's hook in every comparison: that took three quarters of the time, and found no edge that the
# seeds, all valid streams, do not lead to.
LIBFUZZER = Toolchain(
    "clang",
    ("-O2", *SANITIZERS, "-fsanitize-coverage=inline-8bit-counters,pc-table"),
    ("-O2", *SANITIZERS, "-fsanitize=fuzzer", "-fno-sanitize-coverage=trace-cmp"),
)
_SEEDS = Toolchain("clang", LIBFUZZER.core_flags, ("-O2", *SANITIZERS))
_LONGEST_INPUT = {"roundtrip": 1 << 9, "mix": 1 << 11, "huffman": 1 << 12, "rans": 1 << 12, "symbols": 1 << 12}
_LONGEST_OTHER_INPUT = 1 << 13
_SLOWEST_SECONDS = 60  # of wall time, on a busy machine too
_INTERRUPTED = 72


@dataclass(frozen=True)
class Result:
    """One target's run. seconds: of CPU."""

    target: str
    executions: int
    edges: int
    seconds: float
    crashers: tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    every = [*TARGETS, *PYTHON_TARGETS]
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target (default 1)")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=every, metavar=",".join(every))
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default 2)")
    parser.add_argument("--corpus", type=Path, help="folder in which what was found is kept and built on (default: a "
                        "temporary one)")  # fmt: skip
    parser.add_argument("--csv", type=Path, help="put the counts into this file")


def run(args: argparse.Namespace) -> int:
    """A line a target; 1 if one of them crashed."""
    unknown = [name for name in args.targets if name not in {**TARGETS, **PYTHON_TARGETS}]
    if unknown or LIBFUZZER.missing:
        print(f"no such target: {unknown[0]}" if unknown else "fuzzing needs clang: apt-get install clang")
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        corpus = args.corpus or Path(temporary) / "corpus"
        results = fuzz(args.targets, Path(temporary), corpus, 60 * args.minutes, args.jobs)
    if args.csv:
        campaign.record(args.csv, findings(results))
    return int(any(result.crashers for result in results))


def findings(results: list[Result]) -> list[campaign.Finding]:
    """The runs as rows of trust.csv."""
    return [
        campaign.Finding("fuzz", r.target, "szdnn", r.executions, "executions", r.executions - len(r.crashers),
                         len(r.crashers), len(r.crashers), f"{r.edges} edges, {r.seconds:.0f} s of CPU")
        for r in results
    ]  # fmt: skip


def fuzz(targets: list[str], build: Path, corpus: Path, seconds: float, jobs: int) -> list[Result]:
    """Builds and runs the targets, so many at a time; prints a line each."""
    wanted = [name for name in targets if name in TARGETS]
    if wanted:
        compile_targets(build, wanted)
        make_seeds(build, corpus / "seeds")
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda name: _show(_fuzz_one(name, build, corpus, seconds)), available(targets)))


def available(targets: list[str]) -> list[str]:
    """Without the Python targets where Atheris is not installed, which is said."""
    if importlib.util.find_spec("atheris"):
        return targets
    left_out = [name for name in targets if name in PYTHON_TARGETS]
    if left_out:
        print(f"left out: {', '.join(left_out)}, which need the package atheris", flush=True)
    return [name for name in targets if name not in PYTHON_TARGETS]


def compile_targets(build: Path, targets: list[str]) -> None:
    """The libFuzzer programs and `seeds`, into the folder."""
    objects = LIBFUZZER.compile_core(build / "objects")
    for name in targets:
        LIBFUZZER.link(FUZZ / f"{name}.c", build / name, objects)
    _SEEDS.link(FUZZ / "seeds.c", build / "seeds", objects)


def make_seeds(build: Path, folder: Path) -> None:
    """The seed corpora: folder/TARGET/."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(build / "seeds"), str(folder), "400"], check=True, stdout=subprocess.DEVNULL)


def _command(name: str, build: Path) -> list[str]:
    return [sys.executable, str(FUZZ / f"{name}_target.py")] if name in PYTHON_TARGETS else [str(build / name)]


def _fuzz_one(name: str, build: Path, corpus: Path, seconds: float) -> Result:
    found, crashers = corpus / name, corpus / "crashers"
    found.mkdir(parents=True, exist_ok=True)
    crashers.mkdir(parents=True, exist_ok=True)
    prefix = crashers / f"{name}-"
    options = [f"-max_total_time={round(seconds)}", f"-max_len={_LONGEST_INPUT.get(name, _LONGEST_OTHER_INPUT)}",
               f"-timeout={_SLOWEST_SECONDS}", "-detect_leaks=0",
               f"-artifact_prefix={prefix}", "-print_final_stats=1",
               f"-report_slow_units={_SLOWEST_SECONDS}"]  # fmt: skip
    folders = [str(path) for path in (found, corpus / "seeds" / name, FUZZ / "regressions" / name) if path.is_dir()]
    before = set(crashers.iterdir())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (corpus / f"{name}.log").open("w+b") as log:  # targets may write a lot
        command = ["nice", "-n", "5", *_command(name, build), *options, *folders]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
        code, seconds = _wait(process)
        log.seek(0)
        text = log.read().decode(errors="replace")
    new = tuple(str(path) for path in sorted(set(crashers.iterdir()) - before) if path.name.startswith(f"{name}-"))
    if code not in (0, _INTERRUPTED) and not new:
        print(text[-4000:])
        new = (f"exit code {code} without an input",)
    elif new:
        print("\n".join(line for line in text.splitlines() if re.search(r"does not hold|ERROR|Error|#[0-6] ", line)))
    return Result(name, _executions(text), _edges(text), seconds, new)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Exit code, and seconds of CPU: others may have most of the machine."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def _executions(text: str) -> int:
    counts = re.findall(r"stat::number_of_executed_units: (\d+)", text) or re.findall(r"^#(\d+)", text, re.MULTILINE)
    return int(counts[-1]) if counts else 0


def _edges(text: str) -> int:
    counts = re.findall(r" cov: (\d+)", text)
    return int(counts[-1]) if counts else 0


def _show(result: Result) -> Result:
    rate = result.executions / max(result.seconds, 1e-9)
    print(f"{result.target:<10} {result.executions:>12,} executions, {rate:>8,.0f}/s of CPU, {result.edges:>6,} edges, "
          f"{len(result.crashers)} crashes", flush=True)  # fmt: skip
    for path in result.crashers:
        print(f"  {path}", flush=True)
    return result
