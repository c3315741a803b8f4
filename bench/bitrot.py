"""Random damage to frames and archives: is all of it detected, and does nothing crash? The rivals' streams beside.

CRC-32C finds every burst of at most 32 bits in what it covers; of longer ones one in 2^32 would escape it."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import campaign, isolated
from bench.native import TESTS

sys.path.append(str(TESTS))

import corpus

import szdnn

DETECTED, HARMLESS, WRONG = "detected", "harmless", "wrong"
VERDICTS = (DETECTED, HARMLESS, WRONG)
RIVALS = ("sz3", "zfp", "pcodec", "zipnn")


def single_bit(data: bytearray, dice: random.Random) -> None:
    """One bit flipped."""
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _burst(data: bytearray, dice: random.Random, bits: int) -> None:
    """A run of so many bits, the first and the last of them flipped, those between at random."""
    total = 8 * len(data)
    bits = min(bits, total)
    pattern = dice.getrandbits(bits) | 1 | 1 << (bits - 1)
    at = dice.randrange(total - bits + 1)
    first, last = at // 8, (at + bits + 7) // 8
    flipped = int.from_bytes(data[first:last], "little") ^ pattern << at % 8
    data[first:last] = flipped.to_bytes(last - first, "little")


def short_burst(data: bytearray, dice: random.Random) -> None:
    """2 to 32 bits: CRC-32C finds all of them."""
    _burst(data, dice, dice.randint(2, 32))


def long_burst(data: bytearray, dice: random.Random) -> None:
    """33 to 32,768 bits."""
    _burst(data, dice, round(2 ** dice.uniform(5.05, 15)))


def truncation(data: bytearray, dice: random.Random) -> None:
    """Cut short."""
    del data[dice.randrange(len(data)) :]


def lost_sector(data: bytearray, dice: random.Random) -> None:
    """512 bytes on their border became zeros, as where a disk lost a sector; a flipped bit where they were zeros."""
    start = dice.randrange(0, len(data), 512)
    part = bytes(data[start : start + 512])
    if any(part):
        data[start : start + 512] = bytes(len(part))
    else:
        single_bit(data, dice)


KINDS: dict[str, Callable[[bytearray, random.Random], None]] = {
    "single bits": single_bit,
    "bursts to 32 bits": short_burst,
    "bursts to 4 KB": long_burst,
    "truncations": truncation,
    "lost sectors": lost_sector,
}


@dataclass(frozen=True)
class Subject:
    """Bytes, what they decode to, and how; decode raises for what it refuses."""

    data: bytes
    decode: Callable[[bytes], bytes]
    expected: bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--errors", type=float, default=1e6, help="in szdnn's frames and archives (default 1e6)")
    parser.add_argument("--rival-errors", type=float, default=0, help="in the streams of each rival (default none)")
    parser.add_argument("--rivals", type=lambda text: text.split(","), default=list(RIVALS), metavar=",".join(RIVALS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--csv", type=Path, help="put the counts into this file")


def run(args: argparse.Namespace) -> int:
    """A line for each kind of damage; 1 if szdnn missed some or crashed."""
    ours = ours_under_damage(int(args.errors), args.seed, args.jobs) if args.errors else []
    theirs = [
        finding
        for name in (args.rivals if args.rival_errors else [])
        for finding in rival_under_damage(name, int(args.rival_errors), args.seed, args.jobs)
    ]
    if args.csv:
        campaign.record(args.csv, [*ours, *theirs])
    return int(any(finding.bad for finding in ours))


def ours_under_damage(errors: int, seed: int, jobs: int) -> list[campaign.Finding]:
    """Three quarters of the errors in frames, which are quicker to try, the rest in archives."""
    found = []
    for what, subjects, share in (("frames", frames(), 3 / 4), ("archives", archives(), 1 / 4)):
        for kind in KINDS:
            count = round(errors * share / len(KINDS))
            found.append(_campaign(f"{kind} in {what}", "szdnn", subjects, kind, count, seed, jobs))
    return found


def rival_under_damage(name: str, errors: int, seed: int, jobs: int) -> list[campaign.Finding]:
    """The same kinds of damage; nothing where the rival is not installed, which is said."""
    subjects = rival_subjects(name)
    if not subjects:
        print(f"{name} is not installed", flush=True)
        return []
    count = errors // len(KINDS)
    return [_campaign(f"{kind} in streams", name, subjects, kind, count, seed, jobs) for kind in KINDS]


def _campaign(
    case: str, codec: str, subjects: Sequence[Subject], kind: str, count: int, seed: int, jobs: int
) -> campaign.Finding:
    verdicts = isolated.run(trial_of(subjects, kind, seed), count, VERDICTS, jobs)
    harmless = verdicts.of(HARMLESS)
    parts = [f"{harmless:,} changed no value" if harmless else "", f"{verdicts.of(WRONG):,} wrong values",
             f"{verdicts.hung:,} hung" if verdicts.hung else ""]  # fmt: skip
    dead = verdicts.crashed + verdicts.hung
    good = verdicts.of(DETECTED)
    finding = campaign.Finding(
        "bitrot", case, codec, count, "errors", good, verdicts.of(WRONG) + dead, dead, ", ".join(filter(None, parts))
    )
    campaign.show([finding])
    return finding


def trial_of(subjects: Sequence[Subject], kind: str, seed: int) -> isolated.Trial:
    """Trial i damages one of the subjects, which one and how by (seed, i) alone."""
    damage = KINDS[kind]

    def trial(number: int) -> str:
        dice = random.Random(f"{seed} {kind} {number}")
        subject = subjects[number % len(subjects)]
        data = bytearray(subject.data)
        damage(data, dice)
        return judge(subject, bytes(data))

    return trial


def judge(subject: Subject, data: bytes) -> str:
    """Refused, the right values all the same, or others."""
    try:
        values = subject.decode(data)
    except Exception:  # whatever a rival raises is a refusal
        return DETECTED
    return HARMLESS if values == subject.expected else WRONG


def decode_frame(data: bytes) -> bytes:
    """The values of a frame. Only szdnn.Error is a refusal: any other exception ends the child, as a crash does."""
    try:
        return szdnn.decompress(data, threads=1, max_bytes=1 << 24).tobytes()
    except szdnn.Error:
        raise
    except BaseException:
        sys.exit(1)


def decode_archive(data: bytes) -> bytes:
    """All that an archive holds, its digest checked, as `szdnn test` does."""
    try:
        with szdnn.archive.Archive(data, threads=1) as archive:
            archive.check_digest()
            return repr(archive.skeleton).encode() + b"".join(archive[name].tobytes() for name in archive)
    except szdnn.Error:
        raise
    except BaseException:
        sys.exit(1)


def frames() -> list[Subject]:
    """The corpus' frames, of every dtype, bound, predictor and coder."""
    chosen = [*corpus.cases(), *corpus.large()[:1]]
    return [Subject(case.frame, decode_frame, szdnn.decompress(case.frame).tobytes()) for case in chosen]


def archives() -> list[Subject]:
    """Of nested and flat states, a bare array, arrays' files and a .safetensors file; small and large tensors."""
    return [Subject(data, decode_archive, decode_archive(data)) for data in corpus.archives().values()]


def rival_subjects(name: str) -> list[Subject]:
    """Streams of one rival, of arrays such as the corpus has; none where it is not installed."""
    from bench.rivals import everyone

    rival = next(rival for rival in everyone() if rival.name == name)
    if not rival.available():
        return []
    made = []
    for values in (corpus.scaled(1, 40, 60), corpus.smooth(2, 48, 50), corpus.bell(3, 3000)):
        array = corpus.cast(values, "float32")
        stream = rival.compress(array, 1e-2 * float(array.max() - array.min()))
        made.append(
            Subject(stream, _decoder(rival, array), rival.decompress(stream, array.shape, array.dtype).tobytes())
        )
    return made


def _decoder(rival: Any, array: Any) -> Callable[[bytes], bytes]:
    return lambda data: np.ascontiguousarray(rival.decompress(data, array.shape, array.dtype)).tobytes()
