"""Builds the C core into szdnn/ as the extension module szdnn._core (cffi, API mode, limited API).

Hatchling calls the hook for wheels and editable installs; `python build.py` rebuilds in place.
SZDNN_SANITIZE=1 builds with assertions, AddressSanitizer and UndefinedBehaviorSanitizer, SZDNN_WERROR=1 with
warnings as errors.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent

FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden"]
# There, gcc's -std=c11 would compute floats as doubles, as its ABI once said; the processor need not.
EXCESS_PRECISION = {"s390x": ["-fexcess-precision=fast"]}
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wno-sign-conversion", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-UNDEBUG"]


def declarations() -> str:
    """The public header without its preprocessor lines, as cffi's cdef wants it."""
    lines = (ROOT / "csrc" / "szdnn.h").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    return re.sub(r"1 << (\d+)", lambda shift: str(1 << int(shift[1])), text)


def compile_core(target: Path) -> Path:
    """Compiles csrc/*.c and puts the module into `target`; returns its path."""
    import cffi

    # The code that 2.0 generates takes alloca and memset for granted, which Python's headers no longer bring.
    if cffi.__version_info__ < (2, 1):
        raise SystemExit(f"building szdnn needs cffi 2.1 or later, not {cffi.__version__}: pip install -U cffi")
    flags = FLAGS + EXCESS_PRECISION.get(platform.machine(), [])
    sanitize = os.environ.get("SZDNN_SANITIZE") == "1"
    warnings = WARNINGS if os.environ.get("SZDNN_WERROR") == "1" else []
    compile_objects: list[str] = []
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "szdnn._core",
        '#include "szdnn.h"\n',
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args=flags + (SANITIZERS if sanitize else []),
        extra_link_args=["-fsanitize=address,undefined"] if sanitize else [],
        extra_objects=compile_objects,
        define_macros=[("Py_LIMITED_API", "0x030b0000")],
        py_limited_api=True,
    )
    # setuptools scans the folder it builds in: give it an empty one.
    with tempfile.TemporaryDirectory() as build:
        compile_objects += compile_sources(Path(build), flags + warnings + (SANITIZERS if sanitize else []))
        made = Path(ffi.compile(tmpdir=build))
        final = target / made.name
        fresh = final.with_name(final.name + ".new")
        shutil.copy2(made, fresh)
        os.replace(fresh, final)  # and not over the old one, which a running process may have mapped
    return final


def compile_sources(build: Path, flags: list[str]) -> list[str]:
    """Our own sources apart from cffi's generated one, so that warnings can be errors here and not there."""
    from setuptools._distutils import ccompiler
    from setuptools._distutils import sysconfig as build_config

    compiler = ccompiler.new_compiler()
    build_config.customize_compiler(compiler)
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*.c"))
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        objects: list[str] = compiler.compile(sources, output_dir=str(build), extra_postargs=flags)
    finally:
        os.chdir(before)
    return objects


def wheel_tag() -> str:
    """cp311-abi3 on this platform."""
    return f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `python build.py` needs no hatchling
    BuildHookInterface = object  # type: ignore[assignment,misc,unused-ignore]


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
    """Adds the compiled core to the wheel and tags it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling calls this before it collects files; `version` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        made = compile_core(ROOT / "szdnn")
        build_data["artifacts"].append(f"szdnn/{made.name}")
        build_data["pure_python"] = False
        build_data["tag"] = wheel_tag()


if __name__ == "__main__":
    sys.stdout.write(f"{compile_core(ROOT / 'szdnn')}\n")
