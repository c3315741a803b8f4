"""Run by test_allocation.py in a process of its own: what each input on standard input makes szdnn take.

Standard input is a pickle of {name: (kind, bytes)}. Prints as JSON, for each, the bytes by which the kernel's
high-water mark rose, the seconds, and the error's name. The first inputs are for warming up.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable

from memory_probe import peak

import szdnn
from szdnn import skeleton

LIMIT = 1 << 20


def load(data: bytes) -> object:
    """All that an archive holds."""
    with szdnn.archive.Archive(data, max_bytes=LIMIT, threads=2) as archive:
        return [archive[name] for name in archive]


WAYS: dict[str, Callable[[bytes], object]] = {
    "decompress": lambda data: szdnn.decompress(data, threads=2),  # without a limit
    "limited": lambda data: szdnn.decompress(data, max_bytes=LIMIT, threads=2),
    "read": lambda data: szdnn.read(data, ..., max_bytes=LIMIT),
    "info": szdnn.info,
    "loads": lambda data: szdnn.loads(data, max_bytes=LIMIT, framework="numpy"),
    "archive": load,
    "json": skeleton.unpack,
}


def measure(kind: str, data: bytes) -> tuple[int, float, str]:
    """Bytes, seconds, and what came of it."""
    outcome = ""

    def work() -> None:
        nonlocal outcome
        try:
            WAYS[kind](data)
            outcome = "accepted"
        except szdnn.Error as error:
            outcome = type(error).__name__

    start = time.perf_counter()
    taken = peak(work)
    return taken, time.perf_counter() - start, outcome


def main() -> None:
    """Measure them all."""
    inputs: dict[str, tuple[str, bytes]] = pickle.load(sys.stdin.buffer)
    for kind, data in inputs.values():  # what the first use loads, and scratch memory that threads keep
        measure(kind, data)
    sys.stdout.write(json.dumps({name: measure(kind, data) for name, (kind, data) in inputs.items()}))


if __name__ == "__main__":
    main()
