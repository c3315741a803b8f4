"""tests/kernels.c: blocks of weights are the same bytes at every instruction set, and on aarch64 with NEON (run by
qemu's user-mode emulation where that and a cross compiler are installed). tests/kernels_internal.c: single kernels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"

sys.path.append(str(ROOT))


def output(compiler: str, folder: Path, *runner: str, source: str = "kernels.c") -> str:
    """What the program prints, built with the core's sources and flags."""
    from build import FLAGS

    program = folder / compiler
    sources = [str(path) for path in (ROOT / "tests" / source, *sorted((ROOT / "csrc").glob("*.c")))]
    command = [compiler, *FLAGS, "-O2", "-static", f"-I{ROOT / 'csrc'}", "-o", str(program), *sources, "-lm"]
    subprocess.run(command, check=True)
    done = subprocess.run([*runner, str(program)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs gcc on Linux")
def test_every_instruction_set_gives_the_same_blocks(tmp_path):
    assert len(output("gcc", tmp_path).splitlines()) == 20


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs gcc on Linux")
def test_kernels_agree_with_their_scalar_twins(tmp_path):
    assert output("gcc", tmp_path, source="kernels_internal.c") == ""


@pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which(CROSS) and shutil.which(EMULATOR)),
    reason=f"needs {CROSS} (gcc-aarch64-linux-gnu) and {EMULATOR} (qemu-user)",
)
def test_aarch64_with_neon_gives_the_same_blocks(tmp_path):
    assert output(CROSS, tmp_path, EMULATOR) == output("gcc", tmp_path)
    assert output(CROSS, tmp_path, EMULATOR, source="kernels_internal.c") == ""
