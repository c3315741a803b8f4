"""Memory that is quick to come by: where pages are touched for the first time, the kernel's work is soon most of it."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

LARGE = 4 << 20
"""Bytes of a result for which large pages are asked for. NumPy does so for its own arrays of that size."""
KEPT = 32 << 20
"""Bytes of scratch memory that a thread keeps for each use."""

NOTHING: Bytes = np.empty(0, dtype=np.uint8)

_local = threading.local()


def scratch(size: int, use: str = "work") -> Bytes:
    """This thread's scratch memory for some use, at least `size` bytes; valid until its next call."""
    kept: Bytes | None = getattr(_local, use, None)
    if kept is None or kept.size < size:
        kept = np.empty(size, dtype=np.uint8)
        if size <= KEPT:
            setattr(_local, use, kept)
    return kept


class Arena:
    """Room for byte strings of unknown length, one after the other, without copying them."""

    def __init__(self, slab: int) -> None:
        self._slab = slab
        self._room: Bytes = NOTHING

    def room(self, size: int) -> Bytes:
        """At least `size` bytes to write to."""
        if self._room.size < size:
            self._room = np.empty(max(size, self._slab), dtype=np.uint8)
        return self._room

    def take(self, size: int) -> Bytes:
        """The first `size` bytes of the room, which are kept from now on."""
        taken, self._room = self._room[:size], self._room[size:]
        return taken


@functools.cache
def _new_bytes() -> Callable[[int], tuple[bytes, int]] | None:
    """A function that makes uninitialised bytes and tells their address, with large pages if they are many; None where
    that takes more than CPython on Linux."""
    if sys.implementation.name != "cpython" or not sys.platform.startswith("linux"):
        return None
    api, advice = ctypes.pythonapi, getattr(mmap, "MADV_HUGEPAGE", None)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(("PyBytes_FromStringAndSize", api))
    address_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", api))
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def work(size: int) -> tuple[bytes, int]:
        made: bytes = make(None, size)
        address: int = address_of(made)
        first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        if advice is not None:
            advise(first, (address + size - first) // mmap.PAGESIZE * mmap.PAGESIZE, advice)
        return made, address

    return work


def joined(parts: Sequence[Any]) -> bytes:
    """The parts (bytes or uint8 arrays) one after the other."""
    if len(parts) == 1 and isinstance(parts[0], bytes):
        return parts[0]
    size = sum(map(len, parts))
    new_bytes = _new_bytes()
    if size < LARGE or new_bytes is None:
        return b"".join(parts)
    made, address = new_bytes(size)
    for part in parts:
        ctypes.memmove(address, part if isinstance(part, bytes) else part.ctypes.data, len(part))
        address += len(part)
    return made


class Room:
    """A buffer that takes a frame's parts as they come, so that they are not held besides. Without a buffer, or where
    it is too small, they are only counted."""

    def __init__(self, buffer: Bytes | None) -> None:
        self._buffer = buffer
        self._lock = threading.Lock()

    def begin(self, header_bytes: int) -> None:
        """Starts a frame anew."""
        self._at, self._next = header_bytes, 0
        self._early: dict[int, Bytes] = {}

    def put(self, block: int, data: Bytes) -> None:
        """Block number `block`; blocks that come before their turn are copied."""
        with self._lock:
            if block != self._next:
                self._early[block] = data if self._buffer is None else data.copy()
                return
            while True:
                self._write(self._at, data)
                self._at += data.size
                self._next += 1
                if self._next not in self._early:
                    return
                data = self._early.pop(self._next)

    def finish(self, header: Bytes) -> None:
        """Puts the header before the blocks."""
        self._write(0, header)

    @property
    def size(self) -> int:
        """The frame's size, blocks that wait for their turn aside."""
        return self._at

    def _write(self, at: int, data: Bytes) -> None:
        if self._buffer is not None and at + data.size <= self._buffer.size:
            self._buffer[at : at + data.size] = data
