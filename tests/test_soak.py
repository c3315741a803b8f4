"""The soak's judge in C says what bench.exact says, misses nothing by an ulp, and its cases reach everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import exact, native, soak_case, soak_judge
from bench.adversarial import ADVERSARIAL, DTYPES, cast, nudge

needs_compiler = pytest.mark.skipif(bool(native.Toolchain().missing), reason="needs a C compiler")
SIZE = 700  # more than one of the judge's parts


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return soak_judge.Judge(soak_judge.build(tmp_path_factory.mktemp("judge")))


def pair(seed: int, dtype: np.dtype, eps: float):
    """Hard values, and others eps, r x and ulps away from them."""
    rng = np.random.default_rng(seed)
    x = list(ADVERSARIAL.values())[seed % len(ADVERSARIAL)](rng, SIZE, dtype, eps)
    with np.errstate(all="ignore"):
        moved = exact.widen(x) * rng.choice([1, 1, 1 - 2.0**-5, 1 + 2.0**-5], SIZE)
        y = nudge(cast(moved + rng.choice([0, eps, -eps], SIZE), dtype), rng.integers(-1, 2, SIZE))
    special = ~np.isfinite(exact.widen(x))
    return x, np.where(special & (rng.random(SIZE) < 0.9), x, y).astype(dtype)


def expected(x, y, bound: float, pointwise: bool) -> int:
    """How many values break a rule, by bench.exact; a sign that changed counts apart."""
    wrong = exact.violations_pointwise(x, y, bound) if pointwise else exact.violations(x, y, bound)
    zeros = exact.changed_zero(x, y, exact_sign=pointwise)
    over = exact.beyond_pointwise if pointwise else exact.beyond
    finite = np.isfinite(exact.widen(y))
    counted = zeros & finite
    counted[counted] &= ~over(exact.widen(x)[counted], exact.widen(y)[counted], bound)
    return wrong + int(counted.sum())


def broken(said: list[str]) -> int:
    return sum(int(line.split()[0]) for line in said if "signs changed" not in line)


@needs_compiler
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(sorted(DTYPES)),
    eps=st.sampled_from([0.5, 2.0**-7, 1e-3, 3e-40, 1e30]),
    pointwise=st.booleans(),
)
def test_the_judge_agrees_with_rational_arithmetic(judge, seed, name, eps, pointwise):
    x, y = pair(seed, DTYPES[name], eps)
    bound = 2.0**-5 if pointwise else eps
    assert broken(judge.within(x, y, bound, pointwise)) == expected(x, y, bound, pointwise)


@needs_compiler
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("place", [0, 511, 512, 699])
def test_one_value_an_ulp_too_far_is_found(judge, name, place):
    dtype = DTYPES[name]
    x = np.ones(SIZE, dtype)
    y = x + np.asarray(0.5, dtype)
    assert judge.within(x, y, 0.5) == judge.within(x, y, 0.5, pointwise=True) == []
    y[place] = nudge(y[place : place + 1], np.array([1]))[0]
    for pointwise in (False, True):
        (said,) = judge.within(x, y, 0.5, pointwise)
        assert said.startswith("1 values beyond the bound")
        assert said.endswith(f"first at {place}")


@needs_compiler
@pytest.mark.parametrize(
    ("value", "other", "text"),
    [
        (np.nan, 1.0, "NaN or Inf changed"),
        (np.inf, -np.inf, "NaN or Inf changed"),
        (1.0, np.nan, "became NaN"),
        (0.0, 1e-7, "zeros changed"),
    ],
)
def test_every_rule_is_checked(judge, value, other, text):
    x, y = np.ones(SIZE, np.float16), np.ones(SIZE, np.float16)
    x[5], y[5] = value, other
    assert text in judge.within(x, y, 10.0)[0]
    assert "signs" in " ".join(judge.within(np.full(3, 1e-7, np.float32), np.full(3, -1e-9, np.float32), 1.5, True))


@needs_compiler
def test_spread_and_errors_are_those_of_numpy(judge):
    x = np.append(np.random.default_rng(0).normal(3, 2, SIZE), [np.nan, np.inf]).astype(np.float32)
    y = x + np.float32(0.25)
    found, wide = judge.spread(x), x[:-2].astype(np.longdouble)
    assert (found.finite, found.lo, found.hi) == (SIZE, wide.min(), wide.max())
    assert found.deviation == pytest.approx(float(wide.std()), rel=1e-14)
    assert judge.rms_error(x, y) == pytest.approx(
        float(np.sqrt(np.mean((y[:-2].astype(float) - x[:-2]) ** 2))), rel=1e-12
    )


def test_cases_reach_every_option_and_can_be_drawn_again():
    cases = [case for index in range(250) for case in soak_case.draw(1, index) if case.array.size < 10**5]
    assert {case.predictor for case in cases} == {"auto", "none", "lorenzo", "regression", "interpolation", "reference"}
    assert {case.effort for case in cases} == {1, 2, 3, 5, 7, 8, 9}
    assert {case.kind for case in cases} == {*soak_case._KINDS, *soak_case._SEARCHED}
    assert len({case.array.dtype.name for case in cases}) > 7
    assert any(c.reference is not None and c.reference.dtype != c.array.dtype for c in cases)
    again = soak_case.draw(1, cases[5].index)[cases[5].variant]
    assert again.describe() == cases[5].describe()
    assert again.array.tobytes() == cases[5].array.tobytes()
