"""Builds programs out of the C core alone: fuzz targets, the harness of threads, the programs for other processors."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from build import FLAGS

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "csrc"
TESTS = ROOT / "tests"
COMPILER = os.environ.get("CC", "cc")
# -O3 and NDEBUG are for what is shipped: here assertions count, and compiling is most of the time.
_FLAGS = [*(flag for flag in FLAGS if not flag.startswith("-O")), "-g", "-O1", "-UNDEBUG"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


@dataclass(frozen=True)
class Toolchain:
    """A compiler with flags for the core's sources and for what is linked with them.

    runner: what runs the programs, where this machine can't do it itself, such as ("qemu-s390x",).
    """

    compiler: str = COMPILER
    core_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    runner: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """The programs of it that are not installed."""
        return [name for name in (self.compiler, *self.runner[:1]) if not shutil.which(name)]

    def compile_core(self, folder: Path, jobs: int = 2) -> list[Path]:
        """The objects of csrc/*.c, in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        sources = sorted(CORE.glob("*.c"))
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(lambda source: self._compile(source, folder), sources))

    def _compile(self, source: Path, folder: Path) -> Path:
        made = folder / f"{source.stem}.o"
        command = [self.compiler, *_FLAGS, *self.core_flags, f"-I{CORE}", "-c", str(source), "-o", str(made)]
        subprocess.run(command, check=True)
        return made

    def link(self, program: Path, target: Path, objects: Sequence[Path], *more: Path) -> Path:
        """The program of one source and the core's objects; `more`: other sources."""
        sources = [str(path) for path in (program, *more)]
        include = [f"-I{CORE}", f"-I{program.parent}"]
        flags = [*_FLAGS, *self.link_flags, *include]
        subprocess.run([self.compiler, *flags, *sources, *map(str, objects), "-lm", "-o", str(target)], check=True)
        return target

    def run(self, program: Path, *arguments: object, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a program; its output as text."""
        command = [*self.runner, str(program), *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)
