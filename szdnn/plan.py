"""Which bound each tensor of a model gets.

One bound for every tensor would cost more accuracy than it saves bytes: what is small, or a statistic, or a state that
must not become zero, is kept exactly or within a bound of its own. A `Plan` says otherwise by name.
"""

from __future__ import annotations

import fnmatch
import json
import math
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from . import bounds
from .bounds import Bound, Lossless, PointwiseRel
from .errors import ArgumentError, BoundError
from .source import Json

SMALL_TENSOR = 1024
"""Tensors with fewer values are lossless."""
SMALL_VECTOR = 65_536
"""1-D tensors (biases, norms) with fewer values are lossless."""
STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
"""Last parts of names of batch-norm statistics, which are lossless."""
SECOND_MOMENTS = frozenset(
    {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "exp_inf", "exp_avg_sq_row", "exp_avg_sq_col"}
)
"""Last parts of names of optimizer state that steps are divided by: PointwiseRel(1e-2), so none becomes zero."""
SECOND_MOMENT_BOUND = PointwiseRel(1e-2)
PLAN_VERSION = 1
DIGITS = string.digits + string.ascii_letters
"""What stands for the distinct bounds of a vector, in a plan's JSON."""
_LOSSY_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
_GLOB = re.compile(r"[*?\[]")
_KINDS: dict[str, type[Bound]] = {
    kind.__name__: kind
    for kind in (
        bounds.Abs, bounds.Rel, bounds.Std, bounds.PointwiseRel, bounds.PSNR, bounds.RMSE, bounds.Bits, Lossless,
    )
}  # fmt: skip


def array_bound(dtype: np.dtype[Any], bound: Bound) -> Bound:
    """The bound of a plain array: `bound` where its dtype can be lossy (f16, bf16, f32, f64), else Lossless()."""
    return bound if dtype.newbyteorder("=").name in _LOSSY_DTYPES else Lossless()


def bound_for(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], bound: Bound) -> Bound:
    """The bound of a model's tensor when the user asks for `bound`, by the default rules.

    `name` is the tensor's name or path, parts separated by "." or "/". Lossless() asks for everything lossless; a
    tighter PointwiseRel than that of second moments holds for them too.
    """
    return _by_defaults(name, dtype, shape, bound)[0]


def _by_defaults(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], bound: Bound) -> tuple[Bound, str]:
    """The bound by the default rules, and the default that decided; "" where `bound` itself holds."""
    if isinstance(bound, Lossless):
        return bound, ""
    if isinstance(array_bound(dtype, bound), Lossless):
        return Lossless(), f"default: {dtype} is never lossy"
    size = math.prod(shape)
    last = re.split(r"[./]", name)[-1]
    if size < SMALL_TENSOR:
        return Lossless(), f"default: under {SMALL_TENSOR} values"
    if len(shape) == 1 and size < SMALL_VECTOR:
        return Lossless(), f"default: 1-D and under {SMALL_VECTOR} values"
    if last in STATISTICS:
        return Lossless(), f"default: {last}"
    if last in SECOND_MOMENTS and not (isinstance(bound, PointwiseRel) and bound.r < SECOND_MOMENT_BOUND.r):
        return SECOND_MOMENT_BOUND, f"default: {last}"
    return bound, ""


@dataclass(frozen=True)
class Rule:
    """One line of a plan: what tensors it is for, and their bound.

    pattern: a tensor's name, or a glob over names in which `*` takes anything, "." and "/" too (`?` one character,
        `[abc]` one of these; `[*]` is a plain star).
    bound: their bound.
    override: whether the bound holds even where the default rules keep a tensor lossless or bound it pointwise. None:
        yes for a name, no for a glob, since who names one tensor means it. Lossless() always holds.
    """

    pattern: str
    bound: Bound
    override: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not isinstance(self.bound, Bound):
            raise ArgumentError(f"a rule is a name or glob and a bound, not {self.pattern!r} and {self.bound!r}")
        if self.override not in (None, True, False):
            raise ArgumentError(f"override must be True, False or None, not {self.override!r}")

    @property
    def is_glob(self) -> bool:
        """Whether the pattern is a glob and not the name of one tensor."""
        return _GLOB.search(self.pattern) is not None

    @property
    def overrides(self) -> bool:
        """Whether the bound holds against the default rules."""
        return not self.is_glob if self.override is None else self.override

    def matches(self, name: str) -> bool:
        """Whether the rule is for the tensor of this name."""
        return name == self.pattern or (self.is_glob and fnmatch.fnmatchcase(name, self.pattern))


@dataclass(frozen=True)
class Plan:
    """Bounds by tensor name: a default and rules.

    default: the bound of tensors that no rule is for.
    rules: Rule values, (pattern, bound) pairs, or a mapping from pattern to bound.
    provenance: where the plan comes from, as JSON's own types; it decides nothing and travels with the plan into
        archives. `szdnn.tune` tells here what it was asked for, what it measured, and which tensors in the archive are
        not the original's within their bounds (corrected or trained ones).

    Which rule is for a tensor: the one with exactly its name; else the first glob, in the order given, that matches.
    Then, for models, the default rules (README): integers, small tensors, biases, norms, batch-norm statistics are
    lossless, second moments pointwise. They win over `default` and over globs, unless the rule says `override`; a rule
    with the tensor's exact name overrides them unless it says `override=False`. What is not floating point stays
    lossless always.

    Raises ArgumentError for what is no rule or two rules of one pattern.
    """

    default: Bound
    rules: tuple[Rule, ...] = ()
    provenance: Mapping[str, Json] = field(default_factory=dict, hash=False)
    _exact: dict[str, Rule] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        default: Bound,
        rules: Mapping[str, Bound] | Iterable[Rule | tuple[str, Bound]] | None = None,
        provenance: Mapping[str, Json] | None = None,
    ) -> None:
        if not isinstance(default, Bound):
            raise ArgumentError(f"a plan's default must be a bound, not {default!r}")
        pairs: Iterable[Any] = rules.items() if isinstance(rules, Mapping) else rules or ()
        made = tuple(rule if isinstance(rule, Rule) else _rule_of(rule) for rule in pairs)
        exact: dict[str, Rule] = {}
        for rule in made:
            if exact.setdefault(rule.pattern, rule) is not rule:
                raise ArgumentError(f"the plan has two rules for {rule.pattern!r}")
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "rules", made)
        object.__setattr__(self, "provenance", _checked_provenance(provenance))
        object.__setattr__(self, "_exact", exact)

    @classmethod
    def of(cls, bound_or_plan: Bound | Plan) -> Plan:
        """A plan as it is; a bound as the plan of that default alone. Raises ArgumentError for anything else."""
        if isinstance(bound_or_plan, Plan):
            return bound_or_plan
        if not isinstance(bound_or_plan, Bound):
            raise ArgumentError(f"give a bound, such as Rel(1e-3), or a Plan; not {bound_or_plan!r}")
        return Plan(bound_or_plan)

    def rule(self, name: str) -> Rule | None:
        """The rule that is for the tensor of this name, None where only the default is."""
        exact = self._exact.get(name)
        return exact or next((rule for rule in self.rules if rule.matches(name)), None)

    def explain(
        self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], *, is_model: bool = True
    ) -> tuple[Bound, str]:
        """The bound of a tensor and why: the rule's pattern, "default" or the default rule that decided.

        is_model: whether the default rules apply; they do not for plain arrays (.npy, .npz).
        """
        rule = self.rule(name)
        bound, reason = (rule.bound, f"rule: {rule.pattern}") if rule else (self.default, "the plan's default")
        if not is_model or (rule and rule.overrides):
            allowed = array_bound(dtype, bound)
            return allowed, reason if allowed is bound else f"default: {dtype} is never lossy"
        decided, by = _by_defaults(name, dtype, shape, bound)
        return decided, by or reason

    def bound(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], *, is_model: bool = True) -> Bound:
        """The bound of a tensor, as `explain` tells it."""
        return self.explain(name, dtype, shape, is_model=is_model)[0]

    @property
    def replaced(self) -> dict[str, str]:
        """The tensors, or globs over their names, whose values in the archive are not the original's within their
        bounds, and why.

        Tuning corrects some and training makes new ones; the bounds then hold of what was compressed.
        """
        told = self.provenance.get("not_the_original")
        return {str(name): str(why) for name, why in told.items()} if isinstance(told, dict) else {}

    def unused(self, names: Iterable[str]) -> list[str]:
        """The patterns of rules that are for none of these tensors: misspelt, most likely."""
        used = {rule.pattern for rule in map(self.rule, names) if rule}
        return [rule.pattern for rule in self.rules if rule.pattern not in used]

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON's own types; `from_dict` is the inverse."""
        rules = []
        for rule in self.rules:
            entry = {"name": rule.pattern, **bound_to_dict(rule.bound)}
            rules.append(entry if rule.override is None else {**entry, "override": rule.override})
        plan = {"szdnn_plan": PLAN_VERSION, "default": bound_to_dict(self.default), "rules": rules}
        return {**plan, "provenance": dict(self.provenance)} if self.provenance else plan

    def to_json(self) -> str:
        """The plan as JSON text:

        {"szdnn_plan": 1, "default": {"bound": "Rel", "r": 0.001},
         "rules": [{"name": "*.embed*", "bound": "Lossless"}, {"name": "head.bias", "bound": "Abs", "eps": 1e-4}]}
        """
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The plan of a `to_dict`. Raises ArgumentError saying what is wrong with it."""
        if not isinstance(data, dict) or data.keys() - {"szdnn_plan", "default", "rules", "provenance"}:
            raise ArgumentError('a plan is an object of "szdnn_plan", "default", "rules" and "provenance"')
        if data.get("szdnn_plan") != PLAN_VERSION:
            raise ArgumentError(
                f'the plan has "szdnn_plan": {data.get("szdnn_plan")!r}; this szdnn reads {PLAN_VERSION}'
            )
        rules = data.get("rules", [])
        if not isinstance(rules, list):
            raise ArgumentError('the plan\'s "rules" must be a list')
        default = bound_from_dict(data.get("default"), "the plan's default")
        return cls(default, map(_rule_from_dict, rules), data.get("provenance"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The plan of a `to_json`. Raises ArgumentError saying what is wrong with it."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"the plan is not JSON: {error}") from None
        return cls.from_dict(data)


def _checked_provenance(provenance: Mapping[str, Json] | None) -> dict[str, Json]:
    if provenance is not None and not isinstance(provenance, Mapping):
        raise ArgumentError(f"a plan's provenance is an object, not {provenance!r}")
    try:
        made: dict[str, Json] = json.loads(json.dumps(dict(provenance or {}), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"a plan's provenance must be JSON: {error}") from None
    return made


def _rule_of(pair: Any) -> Rule:
    try:
        pattern, bound = pair
    except (TypeError, ValueError):
        raise ArgumentError(f"a rule is a pattern and a bound, not {pair!r}") from None
    return Rule(pattern, bound)


def _rule_from_dict(data: Any) -> Rule:
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise ArgumentError(f'a rule is an object with a "name" and a "bound", not {data!r}')
    rest = {key: value for key, value in data.items() if key not in ("name", "override")}
    bound = bound_from_dict(rest, f"the rule for {data['name']!r}")
    return Rule(data["name"], bound, data.get("override"))


def bound_to_dict(bound: Bound) -> dict[str, Any]:
    """A bound as JSON's own types: `{"bound": "Rel", "r": 0.001}`; fields at their defaults are left out.

    Of a vector of few distinct bounds these, ascending, and a string with a character for each of its elements, the
    n-th of DIGITS for the n-th of them: `{"bound": "Abs", "eps": [0.01, 0.02], "index": "0110", "axis": 0}`."""
    values = {f.name: getattr(bound, f.name) for f in fields(bound) if getattr(bound, f.name) != f.default}  # type: ignore[arg-type]
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    if isinstance(plain.get("eps"), list):
        plain |= _by_index(plain["eps"])
    return {"bound": type(bound).__name__, **plain}


def _by_index(vector: list[float]) -> dict[str, Any]:
    distinct = sorted(set(vector))
    if len(distinct) > min(len(DIGITS), len(vector) // 2):
        return {}
    digit = dict(zip(distinct, DIGITS, strict=False))
    return {"eps": distinct, "index": "".join(digit[eps] for eps in vector)}


def _without_index(data: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields of a bound, a vector as a list of all its elements."""
    if "index" not in data:
        return data
    distinct, index = data.get("eps"), data["index"]
    numbers = {digit: n for n, digit in enumerate(DIGITS[: len(distinct)])} if isinstance(distinct, list) else {}
    if not isinstance(distinct, list) or not isinstance(index, str) or not numbers.keys() >= set(index):
        raise ArgumentError(
            f'{where}: "index" is a string of digits ({DIGITS[:12]}...), one for each of the list "eps"'
        )
    vector = [distinct[numbers[digit]] for digit in index]
    return {name: value for name, value in data.items() if name != "index"} | {"eps": vector}


def bound_from_dict(data: Any, where: str) -> Bound:
    """The bound of a `bound_to_dict`. Raises ArgumentError that begins with `where`."""
    kind = _KINDS.get(str(data.get("bound"))) if isinstance(data, dict) else None
    if kind is None:
        raise ArgumentError(f'{where}: needs a "bound", one of {", ".join(_KINDS)}')
    values = {name: value for name, value in _without_index(data, where).items() if name != "bound"}
    allowed = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    unknown = values.keys() - set(allowed)
    if unknown:
        raise ArgumentError(f"{where}: {kind.__name__} has {', '.join(allowed) or 'no field'}, not {min(unknown)!r}")
    try:
        return kind(**values)
    except (BoundError, TypeError, ValueError) as error:
        raise ArgumentError(f"{where}: {error}") from None
