"""Work on threads of its own pool: the native core lets go of the interpreter."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def thread_count(threads: int | None, blocks: int) -> int:
    """As many threads as asked for (None: the processors this process may use), never more than blocks."""
    if threads is None and blocks > 1:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(threads or 1, blocks))


def drain(waiting: deque[int]) -> Iterator[int]:
    """Takes numbers until there are none; any number of threads may share the queue."""
    while True:
        try:
            yield waiting.popleft()
        except IndexError:
            return


def run_threads(work: Any, threads: int) -> None:
    """Runs work(i) on `threads` threads and raises the first exception of any."""
    if threads == 1:
        work(0)
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work, i) for i in range(1, threads)]
        work(0)  # this thread takes its share
        for result in others:
            result.result()
