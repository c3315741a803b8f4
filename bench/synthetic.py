"""Synthetic scientific arrays with fixed seeds: each function makes the same float32 array every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# (amplitude, wave numbers, phases): SZ3's default takes 0.67 and SZ2 2.10 bits/value at 1e-3 of the range.
_MODES = (
    (1.001, (2, 2, 3), (0.906, 5.961, 1.959)),
    (0.064, (3, 1, 3), (2.571, 3.453, 0.173)),
    (0.090, (3, 2, 3), (4.954, 1.905, 2.849)),
    (-0.618, (1, 2, 2), (1.278, 1.648, 4.715)),
)


def _float32(values: Array) -> Array:
    return np.asarray(values, dtype=np.float32)


def smooth3d(edge: int = 192) -> Array:
    """A few low-frequency modes on a cube plus white noise of 1e-3."""
    t = np.linspace(0, 2 * np.pi, edge, endpoint=False)
    field = np.zeros((edge, edge, edge))
    for amplitude, waves, phases in _MODES:
        x, y, z = (np.sin(k * t + p) for k, p in zip(waves, phases, strict=True))
        field += amplitude * x[:, None, None] * y[None, :, None] * z[None, None, :]
    field += 1e-3 * np.random.default_rng(192).standard_normal(field.shape)
    return _float32(field)


def series(size: int = 1 << 22) -> Array:
    """A sensor's time series: trend, daily and yearly cycles, correlated noise, a few steps."""
    rng = np.random.default_rng(1)
    t = np.arange(size) / 1440.0
    noise = np.convolve(rng.standard_normal(size), 0.9 ** np.arange(64), mode="same")
    steps = np.zeros(size)
    steps[rng.integers(0, size, 40)] = rng.normal(0, 2, 40)
    cycles = 8 * np.sin(2 * np.pi * t) + 12 * np.sin(2 * np.pi * t / 365.25)
    return _float32(15 + 1e-3 * t + cycles + np.cumsum(steps) + 0.05 * noise)


def image(edge: int = 2048) -> Array:
    """An image: smooth shading, discs with sharp edges, texture, sensor noise; about 0 to 255."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:edge, 0:edge] / edge
    pixels = 90 + 60 * np.sin(3 * x + 1) * np.cos(2 * y) + 6 * np.sin(80 * x + 60 * y)
    for cx, cy, radius, shade in zip(*rng.random((3, 60)), rng.normal(0, 40, 60), strict=True):
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < (0.12 * radius) ** 2] += shade
    pixels += rng.normal(0, 1.5, pixels.shape)
    return _float32(np.clip(pixels, 0, 255))


def waves4d(shape: tuple[int, int, int, int] = (24, 48, 64, 64)) -> Array:
    """A wave train moving through a box: time, z, y, x."""
    rng = np.random.default_rng(3)
    axes = [np.linspace(0, 2 * np.pi, n, endpoint=False) for n in shape]
    t, z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    field = np.zeros(shape)
    for _ in range(8):
        k = rng.integers(1, 6, 3)
        phase = rng.uniform(0, 2 * np.pi)
        field += rng.standard_normal() / np.sum(k) * np.sin(k[0] * x + k[1] * y + k[2] * z - 2 * t + phase)
    return _float32(field + 1e-3 * rng.standard_normal(shape))


def turbulence(edge: int = 160, slope: float = 11 / 6) -> Array:
    """A random field with amplitude k^-slope: 11/6 gives Kolmogorov's 5/3 law in three dimensions."""
    rng = np.random.default_rng(4)
    spectrum = np.fft.rfftn(rng.standard_normal((edge, edge, edge)))
    full = np.fft.fftfreq(edge) * edge
    half = np.fft.rfftfreq(edge) * edge
    k = np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2)
    k[0, 0, 0] = np.inf
    field = np.fft.irfftn(spectrum * k**-slope, s=(edge, edge, edge), axes=(0, 1, 2))
    return _float32(field / field.std())


def noise(exponent: float, edge: int = 1024) -> Array:
    """A 2-D random field whose power falls as 1/f^exponent."""
    rng = np.random.default_rng(5)
    spectrum = np.fft.rfft2(rng.standard_normal((edge, edge)))
    f = np.sqrt(np.fft.fftfreq(edge)[:, None] ** 2 + np.fft.rfftfreq(edge)[None, :] ** 2)
    f[0, 0] = np.inf
    return _float32(np.fft.irfft2(spectrum * f ** (-exponent / 2), s=(edge, edge)))


FIELDS: dict[str, Callable[[], Array]] = {
    "smooth3d": smooth3d,
    "series": series,
    "image": image,
    "waves4d": waves4d,
    "turbulence": turbulence,
    "noise-f1": lambda: noise(1.0),
    "noise-f2": lambda: noise(2.0),
    "noise-f3": lambda: noise(3.0),
}
