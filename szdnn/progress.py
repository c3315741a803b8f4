"""A progress line for a whole run on a terminal: part done, bytes, rate and time left."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from .report import format_bytes, shorten
from .tasks import Progress

_INTERVAL = 0.1
_BAR = 24


class ProgressLine:
    """Draws `label  43%  [#####-----]  1.2 of 2.8 GB  340.0 MB/s  0:05 left` on one line, as wide as the terminal lets.

    total: the bytes of the whole run.
    """

    def __init__(self, total: int, label: str, stream: TextIO) -> None:
        self._total = total
        self._label = label
        self._stream = stream
        self._start = self._drawn = time.monotonic()
        self._done = 0

    def update(self, name: str, size: int) -> None:
        """Count a tensor's bytes."""
        del name
        self._done += size
        if time.monotonic() - self._drawn >= _INTERVAL or self._done >= self._total:
            self.draw()

    def draw(self) -> None:
        """Draw the line anew."""
        self._drawn = time.monotonic()
        self._stream.write("\r\x1b[K" + self.text(self._drawn - self._start))
        self._stream.flush()

    def text(self, seconds: float) -> str:
        """The line after so many seconds; parts that do not fit are left out, the bar first."""
        width = shutil.get_terminal_size().columns - 1
        part = min(self._done / self._total, 1.0) if self._total else 1.0
        rate = self._done / seconds if seconds > 0 else 0.0
        left = (self._total - self._done) / rate if rate else None
        filled = int(part * _BAR)
        percent = f"{part:4.0%}"
        sizes = f"{format_bytes(self._done)} of {format_bytes(self._total)}"
        speed = f"{format_bytes(rate)}/s"
        ends = "-:-- left" if left is None else f"{_clock(left)} left" if part < 1 else f"in {_clock(seconds)}"
        for parts in (
            [percent, f"[{'#' * filled}{'-' * (_BAR - filled)}]", sizes, speed, ends],
            [percent, sizes, speed, ends],
            [percent, speed, ends],
            [percent, ends],
        ):
            text = "  ".join([self._label, *parts])
            if len(text) <= width:
                return text
        return f"{shorten(self._label, max(width - len(percent) - 1, 1))} {percent}"[:width]

    def close(self) -> None:
        """End the line."""
        self._stream.write("\n")
        self._stream.flush()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


@contextmanager
def progress_line(total: int, label: str, hidden: bool = False) -> Iterator[Progress | None]:
    """A progress line on standard error where that is a terminal; None, and nothing drawn, elsewhere."""
    if hidden or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    line = ProgressLine(total, label, sys.stderr)
    line.draw()
    try:
        yield line.update
    finally:
        line.close()
