"""Pictures of the errors between two arrays: histograms, as text or PNG, and the structural similarity of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError
from .source import Array

BINS = 41
CHUNK = 1 << 20
SSIM_WINDOW = 7
SSIM_LUMINANCE, SSIM_CONTRAST = 0.01, 0.03
BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class ErrorHistogram:
    """How often errors b - a fall into each of BINS equal bins over [-largest, largest], finite errors only."""

    name: str
    largest: float
    counts: tuple[int, ...]

    def bars(self) -> str:
        """A character a bin, its height by the square root of the count, lest few be invisible beside many."""
        most = max(self.counts) or 1
        return "".join(BARS[-int(-((c / most) ** 0.5) * (len(BARS) - 1) // 1)] for c in self.counts)


def _errors(a: Array, b: Array) -> Iterator[NDArray[np.float64]]:
    flat_a, flat_b = (np.ascontiguousarray(x).reshape(-1) for x in (a, b))
    for i in range(0, a.size, CHUNK):
        x, y = (np.real(flat[i : i + CHUNK]).astype(np.float64) for flat in (flat_a, flat_b))
        with np.errstate(invalid="ignore", over="ignore"):
            error = y - x
        yield error[np.isfinite(error)]


def histogram(name: str, a: Array, b: Array) -> ErrorHistogram:
    """Of two arrays of one shape; of complex ones the real parts."""
    largest = max((float(np.abs(e).max(initial=0.0)) for e in _errors(a, b)), default=0.0)
    counts = np.zeros(BINS, dtype=np.int64)
    for error in _errors(a, b):
        counts += np.histogram(error, bins=BINS, range=(-largest or -1.0, largest or 1.0))[0]
    return ErrorHistogram(name, largest, tuple(counts.tolist()))


def histograms(a: Mapping[str, Array], b: Mapping[str, Array], names: Sequence[str]) -> list[ErrorHistogram]:
    """Of the named tensors, which both have in one shape."""
    return [histogram(name, a[name], b[name]) for name in names]


def is_image(a: Array) -> bool:
    """2-D, or with a last axis of 1 to 4 channels, at least a window wide and high, of real numbers."""
    channels = a.ndim == 3 and 1 <= a.shape[-1] <= 4
    return (a.ndim == 2 or channels) and min(a.shape[:2]) >= SSIM_WINDOW and a.dtype.kind not in "cb"


def _window_means(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of all SSIM_WINDOW x SSIM_WINDOW windows of an image, by sliding sums along each axis."""
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(x, SSIM_WINDOW, axis=axis)
        x = windows.mean(axis=-1)
    return x


def ssim(a: Array, b: Array) -> float:
    """The mean structural similarity of two images (Wang et al. 2004) with a uniform window and sample variances, over
    the range of `a`; of several channels the mean. NaN where a value is not finite or `a` has no range."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    span = float(np.ptp(x)) if x.size else 0.0
    if not (np.isfinite(x).all() and np.isfinite(y).all() and span > 0):
        return float("nan")
    if x.ndim == 3:
        return float(np.mean([_ssim(x[..., c], y[..., c], span) for c in range(x.shape[-1])]))
    return _ssim(x, y, span)


def _ssim(x: NDArray[np.float64], y: NDArray[np.float64], span: float) -> float:
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    mean_x, mean_y = _window_means(x), _window_means(y)
    var_x = unbiased * (_window_means(x * x) - mean_x**2)
    var_y = unbiased * (_window_means(y * y) - mean_y**2)
    both = unbiased * (_window_means(x * y) - mean_x * mean_y)
    c1, c2 = (SSIM_LUMINANCE * span) ** 2, (SSIM_CONTRAST * span) ** 2
    quotient = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(quotient.mean())


def plot(found: Sequence[ErrorHistogram], path: Path) -> None:
    """A PNG with a panel for each histogram. Raises ArgumentError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError("--plot needs matplotlib: pip install matplotlib") from None
    columns = min(3, max(1, len(found)))
    rows = -(-max(1, len(found)) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    panels: list[Any] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, one in zip(panels, found, strict=False):
        edges = np.linspace(-one.largest or -1.0, one.largest or 1.0, BINS + 1)
        panel.stairs(one.counts, edges, fill=True, color="#3b6ea5")
        panel.set_title(one.name, fontsize=9)
        panel.set_yscale("symlog")
        panel.set_xlabel("error")
        panel.set_ylabel("values")
        panel.ticklabel_format(axis="x", scilimits=(-3, 3))
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    figure.savefig(path, dpi=120)
