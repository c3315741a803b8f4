"""Keeps the pages of mapped files from piling up: touched ones count as a process's memory until they are let go."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 32 << 20
"""Bytes of an array whose pages are let go while it is still read."""
_INTERVAL = 0.02

Span = tuple[int, int]
"""First and last address, the last excluded."""


@contextmanager
def released(span: Span | None) -> Iterator[None]:
    """While the block reads the memory of `span`, let go of its pages now and then if it is large, and at the end.

    It must be a file mapped for reading and never written to: pages come back from the system's cache when they are
    touched again. Does nothing for None, and on a system without such a madvise.
    """
    if span is None or _madvise() is None or span[1] - span[0] < LARGE:
        yield
        _release(span)
        return
    done = threading.Event()

    def work() -> None:
        while not done.wait(_INTERVAL):
            _release(span)

    thread = threading.Thread(target=work, daemon=True, name="szdnn-pages")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _release(span)


def mapped_span(array: NDArray[Any]) -> Span | None:
    """The memory of an array that is a view of a file mapped for reading by NumPy; None for any other."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode == "r":
            return span_of(array)
        base = base.base
    return None


def span_of(array: NDArray[Any]) -> Span:
    """The memory of an array."""
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    first = array.__array_interface__["data"][0] + sum(step for step in steps if step < 0)
    return (first, first + sum(map(abs, steps)) + array.itemsize) if array.size else (first, first)


def file_spans(path: Path) -> list[Span]:
    """Where in this process's memory a file is mapped; nothing where the system does not tell."""
    about = path.stat()
    wanted = (f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}", str(about.st_ino))
    spans = []
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        addresses, _, _, device, inode = line.split()[:5]
        if (device, inode) == wanted:
            first, stop = (int(address, 16) for address in addresses.split("-"))
            spans.append((first, stop))
    return spans


def _release(span: Span | None) -> None:
    advise = _madvise()
    if advise is None or span is None or span[0] == span[1]:
        return
    start = span[0] // mmap.PAGESIZE * mmap.PAGESIZE
    advise(ctypes.c_void_p(start), ctypes.c_size_t(span[1] - start), mmap.MADV_DONTNEED)


@functools.cache
def _madvise() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None  # elsewhere MADV_DONTNEED is a hint, or absent
    advise: Callable[..., int] = ctypes.CDLL(None).madvise
    return advise
