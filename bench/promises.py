"""Does a codec keep its bound on hostile arrays? szdnn and rivals on the same ones, each in a child process."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench import campaign, exact, isolated
from bench.adversarial import ADVERSARIAL, DTYPES, NATURAL, Array
from bench.rivals.base import Rival

KEPT, BROKEN, SPECIAL, REFUSED, LEFT_OUT = "kept", "broken", "special", "refused", "left out"
VERDICTS = (KEPT, BROKEN, SPECIAL, REFUSED, LEFT_OUT)
_MOST_VALUES = 30_000


def draw(seed: int, number: int) -> tuple[Array, float]:
    """Array i and its absolute bound: float32 or float64, one or two axes, half of them adversarial."""
    rng = np.random.default_rng([seed, number])
    dtype = DTYPES["float32" if rng.random() < 0.7 else "float64"]
    eps = float(2.0 ** rng.integers(-12, 4)) if rng.random() < 0.3 else float(10.0 ** rng.uniform(-6, 0.5))
    makers = list((ADVERSARIAL if rng.random() < 0.5 else NATURAL).values())
    size = round(10 ** rng.uniform(1, math.log10(_MOST_VALUES)))
    rows = int(rng.integers(1, 1 + math.isqrt(size))) if rng.random() < 0.5 else 1
    values = makers[int(rng.integers(len(makers)))](rng, size // rows * rows, dtype, eps)
    return values.reshape((rows, -1) if rows > 1 else (-1,)), eps


def trial_of(rival: Rival, seed: int) -> isolated.Trial:
    """Trial i compresses and restores array i."""

    def trial(number: int) -> str:
        array, eps = draw(seed, number)
        if not rival.accepts(array):
            return LEFT_OUT
        try:
            decoded = rival.decompress(rival.compress(array, eps), array.shape, array.dtype)
        except Exception:  # whatever it raises
            return REFUSED
        return judge(array, np.asarray(decoded), None if rival.lossless else eps)

    return trial


def judge(array: Array, decoded: Array, eps: float | None) -> str:
    """eps: None where every bit must come back. Special: only NaN or infinities changed."""
    if decoded.shape != array.shape or decoded.dtype != array.dtype:
        return BROKEN
    if eps is None:
        return KEPT if np.array_equal(exact.bits(array), exact.bits(decoded)) else BROKEN
    if exact.violations(array, decoded, eps) == 0:
        return KEPT
    finite = np.isfinite(exact.widen(array))
    return BROKEN if exact.violations(array[finite], decoded[finite], eps) else SPECIAL


def under_abuse(rival: Rival, arrays: int, seed: int, jobs: int) -> campaign.Finding:
    """So many arrays; those that the rival does not take are not counted."""
    found = isolated.run(trial_of(rival, seed), arrays, VERDICTS, jobs)
    dead = found.crashed + found.hung
    tried = arrays - found.of(LEFT_OUT)
    parts = [f"{found.of(BROKEN):,} beyond the bound", f"{found.of(SPECIAL):,} with NaN or infinities changed only",
             f"{found.of(REFUSED):,} refused", f"{found.hung:,} hung"]  # fmt: skip
    bad = found.of(BROKEN, SPECIAL, REFUSED) + dead
    finding = campaign.Finding("promises", "hostile arrays", rival.name, tried, "arrays", found.of(KEPT), bad, dead,
                               ", ".join(parts))  # fmt: skip
    campaign.show([finding])
    return finding


def known(name: str) -> Any:
    """The codec of that name, szdnn too."""
    from bench.rivals import everyone, ours

    return next(rival for rival in (ours.Szdnn(), *everyone()) if rival.name == name)
