import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from szdnn.bounds import PSNR, RMSE, Abs, Bits, Lossless, PointwiseRel, Rel, Std
from szdnn.errors import ArgumentError
from szdnn.plan import SECOND_MOMENT_BOUND, Plan, Rule, array_bound, bound_for

F32 = np.dtype(np.float32)
BF16 = np.dtype(ml_dtypes.bfloat16)
REL = Rel(1e-3)


@pytest.mark.parametrize("dtype", [np.float16, BF16, np.float32, np.float64, ">f4"])
def test_large_float_matrices_get_the_bound_asked_for(dtype):
    assert bound_for("layer.weight", np.dtype(dtype), (32, 32), REL) == REL


@pytest.mark.parametrize(
    "dtype", [np.int64, np.uint8, np.bool_, np.complex64, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
)
def test_other_dtypes_are_lossless(dtype):
    assert bound_for("layer.weight", np.dtype(dtype), (1000, 1000), REL) == Lossless()
    assert array_bound(np.dtype(dtype), REL) == Lossless()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), Lossless()),
        ((0, 5), Lossless()),
        ((1023,), Lossless()),
        ((31, 33), Lossless()),
        ((32, 32), REL),
        ((65_535,), Lossless()),
        ((65_536,), REL),
        ((1, 1024), REL),
    ],
)
def test_small_tensors_and_vectors_are_lossless(shape, expected):
    assert bound_for("w", F32, shape, REL) == expected


@pytest.mark.parametrize("name", ["bn.running_mean", "running_var", "model/bn1.num_batches_tracked"])
def test_statistics_are_lossless(name):
    assert bound_for(name, F32, (1000, 1000), REL) == Lossless()


@pytest.mark.parametrize("name", ["optimizer/state/0/exp_avg_sq", "max_exp_avg_sq", "0.square_avg"])
def test_second_moments_are_bounded_pointwise(name):
    assert bound_for(name, F32, (1000, 1000), Abs(1.0)) == PointwiseRel(1e-2)
    assert bound_for(name, F32, (1000, 1000), PointwiseRel(1e-1)) == PointwiseRel(1e-2)
    assert bound_for(name, F32, (1000, 1000), PointwiseRel(1e-4)) == PointwiseRel(1e-4)
    assert bound_for(name, F32, (10,), REL) == Lossless()


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq.weight", "my_running_mean", "w"])
def test_names_count_only_whole_and_last(name):
    assert bound_for(name, F32, (1000, 1000), REL) == REL


@pytest.mark.parametrize("name", ["w", "exp_avg_sq", "running_mean"])
def test_lossless_means_everything(name):
    assert bound_for(name, F32, (1000, 1000), Lossless()) == Lossless()


def test_plain_arrays_have_no_size_rules():
    assert array_bound(F32, REL) == REL


# --- plans ---

PLAN = Plan(
    REL,
    [
        Rule("*.special", Abs(0.5), override=True),
        ("enc.*", Abs(0.1)),
        ("*", Abs(0.2)),
        ("enc.bias", Abs(0.3)),
        Rule("enc.w", Abs(0.4), override=False),
    ],
)
MATRIX, VECTOR = (100, 100), (100,)


@pytest.mark.parametrize(
    ("name", "shape", "bound", "reason"),
    [
        ("enc.x", MATRIX, Abs(0.1), "rule: enc.*"),
        ("dec.x", MATRIX, Abs(0.2), "rule: *"),
        ("enc.x.special", MATRIX, Abs(0.5), "rule: *.special"),  # the first glob
        ("enc.bias", MATRIX, Abs(0.3), "rule: enc.bias"),  # the name before every glob
        ("enc.x", VECTOR, Lossless(), "default: under 1024 values"),  # a glob does not override
        ("enc.x.special", VECTOR, Abs(0.5), "rule: *.special"),  # unless it says so
        ("enc.bias", VECTOR, Abs(0.3), "rule: enc.bias"),  # a name does
        ("enc.w", VECTOR, Lossless(), "default: under 1024 values"),  # unless it says not
        ("dec.exp_avg_sq", MATRIX, PointwiseRel(1e-2), "default: exp_avg_sq"),
    ],
)
def test_precedence(name, shape, bound, reason):
    assert PLAN.explain(name, F32, shape) == (bound, reason)
    assert PLAN.bound(name, F32, shape) == bound


def test_a_plan_has_no_size_rules_for_plain_arrays_and_none_for_integers():
    assert PLAN.bound("x", F32, (3,), is_model=False) == Abs(0.2)
    assert PLAN.bound("enc.bias", np.dtype(np.int64), MATRIX) == Lossless()
    assert PLAN.explain("x", np.dtype(np.int64), MATRIX, is_model=False) == (
        Lossless(),
        "default: int64 is never lossy",
    )


@pytest.mark.parametrize("name", ["w", "exp_avg_sq", "running_mean", "bias"])
@pytest.mark.parametrize("shape", [(), (5,), (100_000,), (40, 50)])
def test_a_bound_alone_is_a_plan_by_the_default_rules(name, shape):
    assert Plan.of(REL).bound(name, F32, shape) == bound_for(name, F32, shape, REL)


def test_a_rule_for_second_moments_overrides_by_name_or_when_it_says_so():
    name = "optimizer/state/0/exp_avg_sq"
    assert Plan(REL, {name: PointwiseRel(0.1)}).bound(name, F32, MATRIX) == PointwiseRel(0.1)
    assert Plan(REL, {"*exp_avg_sq": PointwiseRel(0.1)}).bound(name, F32, MATRIX) == SECOND_MOMENT_BOUND
    assert Plan(REL, {"*exp_avg_sq": Lossless()}).bound(name, F32, MATRIX) == Lossless()
    assert Plan(REL, [Rule("*exp_avg_sq", PointwiseRel(0.1), True)]).bound(name, F32, MATRIX) == PointwiseRel(0.1)


def test_unused_rules_are_told():
    assert PLAN.unused(["enc.bias", "enc.w"]) == ["*.special", "enc.*", "*"]
    assert Plan(REL, {"a[0]": REL, "a": REL}).unused(["a[0]"]) == ["a"]  # the whole name counts before the glob


positive = st.floats(1e-300, 1e300)
some_bound = st.one_of(
    st.builds(Abs, positive),
    st.builds(lambda eps, axis: Abs(eps, axis=axis), st.lists(positive, min_size=1, max_size=3), st.integers(-3, 3)),
    st.builds(
        lambda eps, index: Abs([eps[i % len(eps)] for i in index], axis=0),
        st.lists(positive, min_size=1, max_size=70, unique=True),
        st.lists(st.integers(0, 69), min_size=1, max_size=200),
    ),
    st.builds(Rel, positive, st.sampled_from([None, "robust", (-1.5, 2.0)])),
    st.builds(Std, positive),
    st.builds(PointwiseRel, st.floats(1e-12, 0.5)),
    st.builds(PSNR, st.floats(0, 200)),
    st.builds(RMSE, positive),
    st.builds(Bits, positive),
    st.just(Lossless()),
)
plans = st.builds(
    Plan,
    some_bound,
    st.lists(
        st.builds(Rule, st.text(max_size=8), some_bound, st.sampled_from([None, True, False])),
        max_size=4,
        unique_by=lambda rule: rule.pattern,
    ),
)


@given(plans)
def test_json_there_and_back(plan):
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()


def test_a_vector_of_few_bounds_takes_a_character_an_element():
    bound = Abs([0.25, 0.125] * 500, axis=1)
    plan = Plan(bound)
    written = {"bound": "Abs", "eps": [0.125, 0.25], "index": "10" * 500, "axis": 1}
    assert plan.to_dict()["default"] == written
    assert Plan.from_dict({"szdnn_plan": 1, "default": {"bound": "Abs", "eps": [0.25, 0.125] * 500, "axis": 1}}) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "a plan is an object"),
        ('{"default": {"bound": "Rel", "r": 1}}', "szdnn_plan"),
        ('{"szdnn_plan": 2, "default": {"bound": "Rel", "r": 1}}', "reads 1"),
        ('{"szdnn_plan": 1}', "the plan's default: needs"),
        ('{"szdnn_plan": 1, "default": {"bound": "Real", "r": 1}}', "one of Abs, Rel"),
        ('{"szdnn_plan": 1, "default": {"bound": "Rel", "eps": 1}}', "Rel has r, range, not 'eps'"),
        ('{"szdnn_plan": 1, "default": {"bound": "Rel", "r": -1}}', "the plan's default: Rel: r must be"),
        ('{"szdnn_plan": 1, "default": {"bound": "Rel"}}', "the plan's default"),
        ('{"szdnn_plan": 1, "default": {"bound": "Lossless"}, "rules": {}}', "must be a list"),
        ('{"szdnn_plan": 1, "default": {"bound": "Lossless"}, "rules": [3]}', "a rule is an object"),
        ('{"szdnn_plan": 1, "default": {"bound": "Lossless"}, "rules": [{"name": "a"}]}', "the rule for 'a': needs"),
        ('{"szdnn_plan": 1, "default": {"bound": "Lossless"}, "more": 1}', "a plan is an object"),
        ('{"szdnn_plan": 1, "default": {"bound": "Abs", "eps": [1], "index": "01", "axis": 0}}', '"index" is a string'),
        ('{"szdnn_plan": 1, "default": {"bound": "Abs", "eps": [1], "index": [0], "axis": 0}}', '"index" is a string'),
        ('{"szdnn_plan": 1, "default": {"bound": "Abs", "eps": 1, "index": "0", "axis": 0}}', '"index" is a string'),
        ('{"szdnn_plan": 1, "default": {"bound": "Rel", "r": 1, "index": "0"}}', '"index" is a string'),
        (
            '{"szdnn_plan": 1, "default": {"bound": "Lossless"}, '
            '"rules": [{"name": "a", "bound": "Lossless", "override": 3}]}',
            "override must be",
        ),
        (
            '{"szdnn_plan": 1, "default": {"bound": "Lossless"}, '
            '"rules": [{"name": "a", "bound": "Lossless"}, {"name": "a", "bound": "Lossless"}]}',
            "two rules",
        ),
    ],
)
def test_a_wrong_plan_is_told_what_is_wrong(text, message):
    with pytest.raises(ArgumentError, match=message):
        Plan.from_json(text)


@pytest.mark.parametrize("wrong", [1e-3, "Rel(1e-3)", None, {"*": REL}])
def test_only_bounds_and_plans_are_plans(wrong):
    with pytest.raises(ArgumentError, match="a Plan"):
        Plan.of(wrong)
    with pytest.raises(ArgumentError, match="default"):
        Plan(wrong)
    with pytest.raises(ArgumentError, match="rule"):
        Plan(REL, [wrong])
