"""Scatter plots as SVG, in colours that the page's style sheet gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 14, 40
_TEXT = 6.4
"""About the width of a character in pixels."""


@dataclass(frozen=True)
class Dot:
    """A method: its place, its name, its colour, whether a ring marks it, whether its name is written where there is
    room.
    """

    x: float
    y: float
    text: str
    paint: str
    ring: bool = False
    label: bool = True


@dataclass(frozen=True)
class Trace:
    """A line through points in order, with its name at its end."""

    points: Sequence[tuple[float, float]]
    paint: str
    text: str


@dataclass(frozen=True)
class Plot:
    """Dots and lines over axes. floor: the least y that is shown; lower dots are triangles there. line: a dashed
    level.
    """

    x_title: str
    y_title: str
    dots: list[Dot]
    traces: list[Trace] = field(default_factory=list)
    log_x: bool = True
    log_y: bool = False
    floor: float | None = None
    line: float | None = None

    def svg(self, width: int, height: int, name: str) -> str:
        """The picture as wide and high as that, of a CSS class."""
        x_axis, y_axis = self._axes(width, height)
        parts = [*self._grid(x_axis, y_axis, width, height)]
        if self.line is not None:
            y = y_axis.place(self.line)
            parts.append(f'<line class="base" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        taken: list[tuple[float, float, float, float]] = []
        for trace in self.traces:
            parts += self._trace(trace, x_axis, y_axis, taken, width)
        places = [(dot, x_axis.place(dot.x), y_axis.place(self._shown(dot.y))) for dot in self.dots]
        taken += [(x - 5, y - 5, x + 5, y + 5) for _, x, y in places]
        parts += [self._dot(dot, x, y) for dot, x, y in places]
        parts += [_label(dot, x, y, taken, width) for dot, x, y in places if dot.label]
        title = escape(f"{self.y_title} against {self.x_title}")
        return (
            f'<svg class="{name}" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
        )

    def _shown(self, y: float) -> float:
        return y if self.floor is None else max(y, self.floor)

    def _axes(self, width: int, height: int) -> tuple[Axis, Axis]:
        xs = [dot.x for dot in self.dots] + [x for trace in self.traces for x, _ in trace.points]
        ys = [self._shown(dot.y) for dot in self.dots] + [
            self._shown(y) for trace in self.traces for _, y in trace.points
        ]
        ys += [self.line] if self.line is not None else []
        xs = [1.0, *xs] if self.log_x else [0.0, *xs]
        return (
            Axis.over(xs, _LEFT, width - _RIGHT, self.log_x),
            Axis.over(ys or [0.1, 1.0], height - _BOTTOM, _TOP, self.log_y),
        )

    def _grid(self, x_axis: Axis, y_axis: Axis, width: int, height: int) -> list[str]:
        parts, bottom = [], height - _BOTTOM
        for value, text in x_axis.ticks(width // 90):
            x = x_axis.place(value)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
            parts.append(f'<text class="soft" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
        for value, text in y_axis.ticks(height // 60):
            y = y_axis.place(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="soft" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        middle = (_LEFT + width - _RIGHT) / 2
        parts.append(
            f'<text class="soft" x="{middle}" y="{height - 6}" text-anchor="middle">{escape(self.x_title)}</text>'
        )
        y = (_TOP + bottom) / 2
        turned = f'transform="translate(12 {y}) rotate(-90)" text-anchor="middle"'
        parts.append(f'<text class="soft" {turned}>{escape(self.y_title)}</text>')
        return parts

    def _trace(
        self, trace: Trace, x_axis: Axis, y_axis: Axis, taken: list[tuple[float, float, float, float]], width: int
    ) -> list[str]:
        if not trace.points:
            return []
        places = [(x_axis.place(x), y_axis.place(self._shown(y))) for x, y in trace.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        line = f'<polyline class="curve" style="stroke:{trace.paint}" points="{path}"/>'
        x, y = places[len(places) // 2]
        half = _TEXT * len(trace.text) / 2
        x = min(max(x, _LEFT + half), width - _RIGHT - half)
        for offset in (-10, 18, -24, 32):
            box = (x - half, y + offset - 10, x + half, y + offset + 3)
            if not _overlaps(box, taken):
                break
        taken.append(box)
        where = f'x="{x:.1f}" y="{y + offset:.1f}" text-anchor="middle"'
        text = f'<text {where} style="fill:{trace.paint}">{escape(trace.text)}</text>'
        return [line, text]

    def _dot(self, dot: Dot, x: float, y: float) -> str:
        title = f"<title>{escape(dot.text)}: {self.x_title} {dot.x:.4g}, {self.y_title} {dot.y:.4g}</title>"
        if self.floor is not None and dot.y < self.floor:
            shape = f'<path d="M{x - 5:.1f} {y - 4:.1f}h10l-5 8z" style="fill:{dot.paint}">{title}</path>'
        else:
            shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" style="fill:{dot.paint}">{title}</circle>'
        ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" style="stroke:{dot.paint}"/>' if dot.ring else ""
        return shape + ring


@dataclass(frozen=True)
class Axis:
    """Values from low to high onto pixels from start to end."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, log: bool) -> Axis:
        """An axis with a little room on both sides of the values."""
        low, high = min(values), max(values)
        if log:
            low, high = math.log10(low), math.log10(high)
        room = 0.05 * (high - low) or 0.05
        return cls(low - room, high + room, start, end, log)

    def place(self, value: float) -> float:
        """A value's pixel."""
        position = math.log10(value) if self.log else value
        return self.start + (position - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Round values and their texts, about so many."""
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            for leading in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
                values = [
                    d * 10.0**e for e in decades for d in leading if self.low <= math.log10(d * 10.0**e) <= self.high
                ]
                if len(values) <= max(2, most):
                    break
            return [(value, f"{value:g}") for value in values]
        span = self.high - self.low
        step = 10 ** math.floor(math.log10(span / max(1, most)))
        step = next(step * f for f in (1.0, 2.0, 5.0, 10.0, 20.0) if span / (step * f) <= most)
        first = math.ceil(self.low / step)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(i * step, f"{i * step:.{digits}f}") for i in range(first, math.floor(self.high / step) + 1)]


def _overlaps(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    x0, y0, x1, y1 = box
    return any(x0 < right and left < x1 and y0 < bottom and top < y1 for left, top, right, bottom in taken)


def _label(dot: Dot, x: float, y: float, taken: list[tuple[float, float, float, float]], width: int) -> str:
    """The dot's name beside it, where it covers nothing; else nothing: the dot's title and the table have it."""
    length = _TEXT * len(dot.text)
    for left, base in ((x + 8, y + 4), (x - 8 - length, y + 4), (x - length / 2, y - 9), (x - length / 2, y + 18)):
        box = (left, base - 10, left + length, base + 3)
        if left >= _LEFT and left + length <= width - 2 and base > _TOP and not _overlaps(box, taken):
            taken.append(box)
            return f'<text x="{left:.1f}" y="{base:.1f}">{escape(dot.text)}</text>'
    return ""
