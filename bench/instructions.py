"""Does a change make the C core slower? Instructions a value, of each operation and source file, under valgrind.

bench/callgrind/stages.c runs the public interface on one block of each kind of data; callgrind attributes every
instruction to the file of the function that executed it, so the split into stages (lattice, tokens, rans ...) outlives
changes of functions. Counts do not depend on the machine's speed or load, only on the compiler and a little on libc.
valgrind knows no AVX-512: the portable and the AVX2 kernels are counted.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "bench" / "callgrind" / "stages.c"
RESULTS = ROOT / "bench" / "results" / "instructions.csv"
ISAS = ("scalar", "avx2")
COLUMNS = ("isa", "data", "operation", "source", "instructions_per_value")
TOTAL = "total"
LEAST = 0.05
"""Sources with fewer instructions a value are in the total only."""
TOLERANCE, SLACK = 0.05, 0.25
"""A count may grow by this part of it, and this many instructions a value, before it is a slowdown."""
OTHER_COMPILER = 4
"""Another compiler than the figures' own gets so many times the tolerance."""
NO_STRING_INSTRUCTIONS = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000"
"""callgrind counts `rep movsb` as an instruction a byte; which processors' libc uses it differs."""

Key = tuple[str, str, str, str]
Counts = dict[Key, float]


def configure(parser: argparse.ArgumentParser) -> None:
    """--check, --csv."""
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it; 1 if slower")
    parser.add_argument(
        "--csv", type=Path, default=RESULTS, metavar="FILE", help="(default bench/results/instructions.csv)"
    )


def run(args: argparse.Namespace) -> int:
    """Count; then write the figures, or compare them with the file's."""
    compiler, counts = count()
    show(counts)
    if not args.check:
        write(args.csv, compiler, counts)
        return 0
    made_with, before = read(args.csv)
    factor = 1 if made_with == compiler else OTHER_COMPILER
    if factor > 1:
        print(f"\n{args.csv.name} was made with {made_with}, this is {compiler}: {factor} times the tolerance")
    slower, others = compare(before, counts, factor)
    for line in [*slower, *others]:
        print(line)
    if others:
        print("if this is meant: python -m bench instructions, and commit its CSV")
    return int(bool(slower))


def count() -> tuple[str, Counts]:
    """The compiler's name and all counts."""
    counts: Counts = {}
    with tempfile.TemporaryDirectory() as folder:
        compiler = compile_program(Path(folder) / "stages")
        for isa in ISAS:
            for dump in callgrind(Path(folder), isa):
                counts |= {(isa, *key): value for key, value in parse(dump.read_text().splitlines()).items()}
    return compiler, counts


def compile_program(target: Path) -> str:
    """Compiles stages.c with the core's sources and flags; the processor's family and the compiler's version."""
    from build import FLAGS

    compiler = os.environ.get("CC", "cc")
    sources = map(str, [PROGRAM, *sorted((ROOT / "csrc").glob("*.c"))])
    flags = [*FLAGS, "-g", "-DNDEBUG", "-Wl,-z,now", f"-I{ROOT / 'csrc'}"]
    command = [compiler, *flags, "-o", str(target), *sources, "-lm"]
    subprocess.run(command, check=True)
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True)
    return f"{platform.machine()}, {version.stdout.splitlines()[0]}"


def callgrind(folder: Path, isa: str) -> list[Path]:
    """Runs the program; one file an operation. None where the processor lacks the instruction set."""
    out = folder / f"{isa}.out"
    options = ["-q", "--tool=callgrind", "--collect-atstart=no", "--compress-strings=no", "--compress-pos=no"]
    command = ["valgrind", *options, f"--callgrind-out-file={out}", str(folder / "stages"), isa]
    done = subprocess.run(command, check=False, env={**os.environ, "GLIBC_TUNABLES": NO_STRING_INSTRUCTIONS})
    if done.returncode == 3:
        return []
    done.check_returncode()
    return sorted(folder.glob(f"{isa}.out.*"), key=lambda path: int(path.suffix[1:]))


def parse(lines: Iterable[str]) -> dict[tuple[str, str, str], float]:
    """(data, operation, source) -> instructions a value, from one of callgrind's files.

    The program names the dump "data|operation|values". `fl=` is the file of the function whose own costs follow, one
    "line instructions" each; the line after `calls=` repeats what callees cost. Files outside csrc count as libc.
    """
    data = operation = source = ""
    values, skip = 1, False
    found: dict[str, int] = defaultdict(int)
    for line in lines:
        if match := re.fullmatch(r"desc: Trigger: Client Request: (.*)\|(.*)\|(\d+)", line):
            data, operation, values = match[1], match[2], int(match[3])
        elif line.startswith("fl="):
            path = Path(line[3:])
            source = path.stem if path.parent.name == "csrc" else "" if path.name == PROGRAM.name else "libc"
        elif line.startswith("calls="):
            skip = True
        elif re.fullmatch(r"\d+ \d+", line):
            if source and not skip:
                found[source] += int(line.split()[1])
            skip = False
    if not data:  # what ran outside the named parts
        return {}
    counts = {source: cost / values for source, cost in sorted(found.items()) if cost / values >= LEAST}
    counts[TOTAL] = sum(found.values()) / values
    return {(data, operation, source): round(cost, 3) for source, cost in counts.items()}


def compare(before: Mapping[Key, float], now: Mapping[Key, float], factor: float = 1) -> tuple[list[str], list[str]]:
    """What became slower, and what else changed (faster, new, gone), a line each.

    Only an operation that was counted both times is compared, by its total and by each source it has both times. What
    instructions this processor could not run is left out.
    """
    slower, others = [], []
    isas = {isa for isa, *_ in now}
    for key in sorted(before.keys() | now.keys()):
        if key[0] not in isas:
            continue
        isa, data, operation, source = key
        name = f"{isa}, {data}, {operation}: {source}"
        if key not in before or key not in now:
            others.append(f"new      {name}" if key in now else f"gone     {name}")
            continue
        old, new = before[key], now[key]
        room = factor * (TOLERANCE * old + SLACK)
        if new > old + room:
            slower.append(f"SLOWER   {name}: {old:.2f} -> {new:.2f} instructions a value")
        elif new < old - room:
            others.append(f"faster   {name}: {old:.2f} -> {new:.2f} instructions a value")
    return slower, others


def show(counts: Mapping[Key, float]) -> None:
    """A line an operation: the total, then its sources, the largest first."""
    for key, total in counts.items():
        if key[3] != TOTAL:
            continue
        parts = sorted(((n, k[3]) for k, n in counts.items() if k[:3] == key[:3] and k[3] != TOTAL), reverse=True)
        split = "  ".join(f"{source} {number:.2f}" for number, source in parts)
        print(f"{key[0]:<8}{key[1]:<19}{key[2]:<9}{total:>8.2f}   {split}")


def write(path: Path, compiler: str, counts: Mapping[Key, float]) -> None:
    """One line a count; the compiler stands in each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["compiler", *COLUMNS])
        writer.writerows([compiler, *key, number] for key, number in counts.items())


def read(path: Path) -> tuple[str, Counts]:
    """What `write` wrote."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    counts = {(r["isa"], r["data"], r["operation"], r["source"]): float(r[COLUMNS[-1]]) for r in lines}
    return lines[0]["compiler"], counts
