"""Do all processors write the same frames and read the same values? The C core's portable C and its vectors here, the
core compiled for others and run under qemu-user, and the plain-Python reference decoder, over a fixed corpus."""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import campaign
from bench.native import TESTS, Toolchain
from build import EXCESS_PRECISION

sys.path.append(str(TESTS))

import corpus

import szdnn
from szdnn import _native

PROGRAM = TESTS / "native" / "agree.c"
PLATFORMS = {
    "aarch64, little-endian": Toolchain("aarch64-linux-gnu-gcc", (), ("-static",), ("qemu-aarch64",)),
    "s390x, big-endian": Toolchain(
        "s390x-linux-gnu-gcc",
        tuple(EXCESS_PRECISION["s390x"]),
        (*EXCESS_PRECISION["s390x"], "-static"),
        ("qemu-s390x",),
    ),
}


class Outcome(NamedTuple):
    """What one way of running made of a case: values as little-endian bytes, and the frame of the values."""

    values: bytes
    frame: bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--small", action="store_true", help="without the arrays of several blocks")
    parser.add_argument("--csv", type=Path, help="put the counts into this file")


def run(args: argparse.Namespace) -> int:
    """A line a platform; 1 if one disagrees, 2 if none of the others can be run."""
    cases = corpus.cases() if args.small else [*corpus.cases(), *corpus.large()]
    found = [*instruction_sets(cases), reference(corpus.cases())]
    absent = {name: chain.missing for name, chain in PLATFORMS.items() if chain.missing}
    for name, chain in PLATFORMS.items():
        if name in absent:
            print(f"{name}: left out, needs {', '.join(absent[name])}")
        else:
            found.append(platform(name, chain, cases))
    campaign.show(found)
    if args.csv:
        campaign.record(args.csv, found)
    return 2 if len(absent) == len(PLATFORMS) else int(any(finding.bad for finding in found))


def _finding(name: str, cases: Sequence[corpus.Case], wrong: list[str]) -> campaign.Finding:
    note = f"first: {wrong[0]}" if wrong else ""
    return campaign.Finding(
        "platforms", name, "szdnn", len(cases), "frames", len(cases) - len(wrong), len(wrong), 0, note
    )


def instruction_sets(cases: Sequence[corpus.Case]) -> list[campaign.Finding]:
    """This processor's own, those that it has."""
    best = _native.ISAS[_native.isa_available()]
    found, before = [], _native.isa
    try:
        for name, number in _native.ISAS.items():
            if 0 < number <= best:
                _native.isa = name
                found.append(_finding(f"this processor, {name}", cases, _wrong(cases, map(_outcome, cases))))
    finally:
        _native.isa = before
    return found


def _outcome(case: corpus.Case) -> Outcome:
    made = bytes(szdnn.compress(case.array, case.bound, threads=1, **case.options))
    return Outcome(_little_endian(szdnn.decompress(case.frame)), made)


def expected(case: corpus.Case) -> Outcome:
    """What the usual way makes of a case."""
    return Outcome(_little_endian(szdnn.decompress(case.frame)), case.frame)


def _wrong(cases: Sequence[corpus.Case], outcomes: Iterator[Outcome]) -> list[str]:
    """The names of the cases that came out otherwise."""
    return [case.name for case, outcome in zip(cases, outcomes, strict=True) if outcome != expected(case)]


def reference(cases: Sequence[corpus.Case]) -> campaign.Finding:
    """The decoder in plain Python, written from FORMAT.md alone."""
    import reference_decoder

    decoded = (Outcome(_little_endian(reference_decoder.decode(case.frame)), case.frame) for case in cases)
    return _finding("reference decoder", cases, _wrong(cases, decoded))


def platform(name: str, chain: Toolchain, cases: Sequence[corpus.Case]) -> campaign.Finding:
    """Another processor: it decodes our frames and encodes our values."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = outcomes_of(chain, cases, Path(folder))
    return _finding(name, cases, _wrong(cases, iter(outcomes)))


def outcomes_of(chain: Toolchain, cases: Sequence[corpus.Case], folder: Path) -> list[Outcome]:
    """Compiles the program, runs the cases. Raises RuntimeError with what the program said if it failed."""
    program = chain.link(PROGRAM, folder / "agree", chain.compile_core(folder / "objects"))
    write_cases(cases, folder / "cases")
    done = chain.run(program, folder / "cases", folder / "results")
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    return list(_unpacked((folder / "results").read_bytes()))


def write_cases(cases: Sequence[corpus.Case], path: Path) -> None:
    """The file that the programs of tests/native read."""
    path.write_bytes(b"".join(map(_packed, cases)))


def _packed(case: corpus.Case, isa: str = "auto") -> bytes:
    coder = _native.CODERS[case.options.get("coder", "auto")]
    frame, values = case.frame, _little_endian(case.array)
    parts = struct.pack("<IIQ", coder, _native.ISAS[isa], len(frame)), frame, struct.pack("<Q", len(values)), values
    return b"".join(parts)


def _unpacked(results: bytes) -> Iterator[Outcome]:
    at = 0
    while at < len(results):
        parts = []
        for _ in range(2):
            size = struct.unpack_from("<Q", results, at)[0]
            parts.append(results[at + 8 : at + 8 + size])
            at += 8 + size
        yield Outcome(*parts)


def _little_endian(array: Any) -> bytes:
    flat = np.ascontiguousarray(array)
    if sys.byteorder == "big":
        flat = flat.byteswap()
    return flat.tobytes()
