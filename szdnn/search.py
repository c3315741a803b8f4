"""Bounds that need a search: RMSE, PSNR and Bits. Each is judged on complete frames, really decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

from . import _native
from .bounds import PSNR, RMSE, Bits, Bound
from .buffers import joined
from .decoder import Frame, decode
from .encoder import FrameMaker
from .errors import BoundError
from .frame_parts import Part, total
from .reference import as_reference
from .resolve import EPS_MAX, EPS_MIN, Target, float_below, power_of_two_near

MAX_STEPS = 40
CLOSE = 0.989  # of the error allowed: 0.1 dB


def search(bound: Bound, maker: FrameMaker) -> list[Part]:
    """The parts of a frame that meets an RMSE, PSNR or Bits bound."""
    if isinstance(bound, Bits):
        return _search_bits(bound, maker)
    if maker.stats.finite == 0 or maker.stats.constant:
        return maker.lossless(Target(bound))
    return _search_rmse(bound, maker, _rmse_target(bound, maker))


def _power_of_ten(exponent: float) -> float:
    """10^x by decimal arithmetic: libm's differs from machine to machine, and the frame's bytes shall not."""
    with localcontext() as context:
        context.prec = 40
        return float(Decimal(10) ** Decimal(exponent))


def _power_of_two(exponent: float) -> float:
    """About 2^x: exact at whole numbers, straight lines between."""
    whole = math.floor(exponent)
    return math.ldexp(1 + (exponent - whole), whole)


def _rmse_target(bound: Bound, maker: FrameMaker) -> float:
    if isinstance(bound, RMSE):
        return bound.v
    assert isinstance(bound, PSNR)
    width = Fraction(maker.stats.max) - Fraction(maker.stats.min)
    return float_below(width) * _power_of_ten(-bound.db / 20) * (1 - 2.0**-40) if width > 0 else 0.0


def _rmse(maker: FrameMaker, parts: list[Part], unit: float) -> float:
    """Root mean square error over the finite values, in units, rounded up by 2^-40."""
    decoded = decode(Frame(joined(parts)), None, maker.choices.threads, as_reference(maker.reference))
    difference = _native.compare(maker.code, maker.values, decoded, math.inf, 0.0, unit)
    return math.sqrt(difference.sum_squares / max(1, difference.finite)) * (1 + 2.0**-40)


def _search_rmse(bound: Bound, maker: FrameMaker, limit: float) -> list[Part]:
    """The largest eps found whose error stays at or below the limit. Uniform errors have an RMSE of eps / sqrt(3)."""
    best: list[Part] | None = None
    unit = power_of_two_near(limit)
    good, bad = 0.0, math.inf
    eps = min(limit * math.sqrt(3), EPS_MAX)
    largest = 2 * max(abs(maker.stats.min), abs(maker.stats.max), 1e-300)
    for _ in range(MAX_STEPS):
        if not eps >= EPS_MIN:
            break
        parts = maker.make(Target(bound, eps=eps))
        error = _rmse(maker, parts, unit) * unit
        if error <= limit:
            best = parts if best is None or total(parts) <= total(best) else best
            good = max(good, eps)
            if error >= CLOSE * limit or eps >= largest or bad < good / CLOSE:
                break
            grown = eps * min(2.0, limit / error if error > 0 else 2.0)
            eps = grown if grown < bad else (good + bad) / 2
        else:
            bad = min(bad, eps)
            shrunk = eps * max(0.5, limit / error) * 0.999
            eps = shrunk if shrunk > good else (good + bad) / 2
            if good > 0 and bad < good / CLOSE:
                break
    return best if best is not None else maker.lossless(Target(bound))


@dataclass
class _Bracket:
    """What the search for Bits knows: the largest eps that was too big a frame, the smallest that fitted."""

    too_fine: float
    fits: float
    best: list[Part]


def _search_bits(bound: Bits, maker: FrameMaker) -> list[Part]:
    """The smallest eps found whose frame fits; one bit a value is about a factor of two in eps."""
    count = max(1, maker.values.size)
    limit = math.floor(Fraction(bound.b) * count / 8)
    exact = maker.lossless(Target(bound))
    if total(exact) <= limit:
        return exact
    reach = max(abs(maker.stats.min), abs(maker.stats.max))
    coarsest = min(4 * reach, EPS_MAX) if reach > 0 else 1.0
    least = maker.make(Target(bound, eps=coarsest))
    if total(least) > limit:
        bits = Fraction(total(least) * 8, count)
        raise BoundError(
            f"Bits: {bound.b:g} bits a value cannot be met; the least is {float(bits):.6g} ({total(least)} bytes)"
        )
    bracket = _Bracket(EPS_MIN, coarsest, least)
    eps = coarsest / _power_of_two(min(50.0, bound.b))
    for _ in range(MAX_STEPS):
        if bracket.fits <= bracket.too_fine * 1.005 or total(bracket.best) > 0.998 * limit:
            break
        parts = maker.make(Target(bound, eps=eps))
        excess = (total(parts) - limit) * 8 / count
        if total(parts) <= limit:
            bracket.fits, bracket.best = eps, parts
        else:
            bracket.too_fine = eps
        guess = eps * _power_of_two(max(-8.0, min(8.0, excess + (0.002 if excess > 0 else 0.0))))
        inside = bracket.too_fine * 1.001 < guess < bracket.fits * 0.999
        eps = guess if inside else math.sqrt(bracket.too_fine) * math.sqrt(bracket.fits)
    return bracket.best
