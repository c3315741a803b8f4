"""Run by test_memory.py in a process of its own: `memory_probe.py DATA THREADS`.

Compresses and decompresses 64 MB of float32, each with and without `out=`. Before each, the input and a buffer given as
`out=` are in memory and the kernel's high-water mark is reset; by how much it rose is what the call took. Prints these
bytes and the sizes of values and frame as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import szdnn

SIZE = 1 << 24

BOUNDS = {
    "weights": szdnn.Rel(1e-2),
    "fine weights": szdnn.Rel(1e-5),
    "smooth": szdnn.Rel(1e-4),
    "noise": szdnn.Lossless(),
    "noise within a bound": szdnn.Abs(1e-3),
}


def make(data: str) -> np.ndarray[Any, Any]:
    """Random bits, a wave, or Laplace values whose rows have scales of their own."""
    rng = np.random.default_rng(0)
    if data.startswith("noise"):
        return np.frombuffer(rng.bytes(4 * SIZE), dtype=np.float32)
    if data == "smooth":
        return np.sin(np.arange(SIZE, dtype=np.float32) * np.float32(1e-4)).reshape(4096, -1)
    part = rng.laplace(0, 0.02, 1 << 18).astype(np.float32)
    return np.resize(part, SIZE).reshape(4096, -1) * np.linspace(0.5, 2, 4096, dtype=np.float32)[:, None]


def status(key: str) -> int:
    """A line of the process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def peak(work: Callable[[], object]) -> int:
    """Bytes that it took at most beyond what was held before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def main(data: str, threads: int) -> dict[str, int]:
    """All four measurements."""
    array, bound = make(data), BOUNDS[data]
    frame = szdnn.compress(array, bound, threads=threads)  # also loads what the first use loads
    values = szdnn.decompress(frame, threads=threads)
    given = bytearray(frame)
    return {
        "values": array.nbytes,
        "frame": len(frame),
        "compress": peak(lambda: szdnn.compress(array, bound, threads=threads)),
        "compress into out": peak(lambda: szdnn.compress(array, bound, threads=threads, out=given)),
        "decompress": peak(lambda: szdnn.decompress(frame, threads=threads)),
        "decompress into out": peak(lambda: szdnn.decompress(frame, threads=threads, out=values)),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
