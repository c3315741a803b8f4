"""Peak memory, measured from outside the allocator, by the kernel's high-water mark of a process of its own.

Beyond its input, compressing takes twice the frame (its blocks, and the whole that is returned), with `out=` not even
that; decompressing takes the values, with `out=` not even them; both 16 MB a thread; compressing by interpolation,
whose blocks are larger, 48 MB.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).resolve().parent / "memory_probe.py"
MB = 1 << 20
PER_THREAD, PER_INTERPOLATING_THREAD = 16 * MB, 48 * MB
# What is freed goes back to the kernel: an earlier call's leftovers shall not serve a later one.
NO_HOARD = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "16384", "MALLOC_ARENA_MAX": "1"}
# How often frame and values may be held beyond the input and beyond `out=`.
HELD = {"compress": (2, 0), "compress into out": (0, 0), "decompress": (0, 1), "decompress into out": (0, 0)}


def _can_reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.skipif(not _can_reset_peak(), reason="the kernel does not let a process reset its peak memory"),
    pytest.mark.skipif(os.environ.get("SZDNN_SANITIZED") == "1", reason="sanitizers take memory of their own"),
]


@functools.cache
def measure(data: str, threads: int) -> dict[str, int]:
    """What memory_probe.py prints, with this process's szdnn."""
    environment = {**os.environ, **NO_HOARD, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(PROBE), data, str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("work", HELD)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("data", ["weights", "fine weights", "smooth", "noise", "noise within a bound"])
def test_peak_memory(data: str, threads: int, work: str):
    found = measure(data, threads)
    frames, values = HELD[work]
    each = PER_INTERPOLATING_THREAD if data == "smooth" and work.startswith("compress") else PER_THREAD
    allowed = frames * found["frame"] + values * found["values"] + threads * each
    assert found[work] <= allowed, f"{found[work] / MB:.1f} MB, allowed are {allowed / MB:.1f}: {found}"
