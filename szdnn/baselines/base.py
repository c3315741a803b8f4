'''The one interface of all methods, their registry, and what they share.

A method is a class with `fit(state, context) -> Artefact` and `decode(data) -> state`. The artefact is real bytes
from which alone `decode` gives the whole checkpoint back: every name, shape and dtype. What `decode` gives is what is
scored; nothing else is.

A new method is one file in this folder (or any importable module, named `package.module:Class` on the command line):

    @register("sign", "one bit a weight and a scale")
    @dataclass(frozen=True)
    class Sign(Method):
        """Courbariaux et al. 2015, BinaryConnect, section 2.2."""

        scale: str = "mean"  # settings are fields: --methods sign:scale=max

        def fit(self, state: State, context: Context) -> Artefact:
            layers = {name: encode(state[name]) for name in weight_names(state)}  # bytes
            return artefact(state, layers, {"any": "JSON that decode needs"})

        @classmethod
        def decode(cls, data: bytes) -> State:
            parts = unpack(data)
            weights = {name: decode_one(blob, parts.shapes[name]) for name, blob in parts.layers.items()}
            return parts.state(weights)

`fit` must not change `state`. Methods that train do so by `context.train(model, Recipe(...), hooks)`, choose among
candidates by `context.evaluate(state, "search")`, and never look at "report". They raise `Unavailable` when they
cannot run (a package, a task, training data that is missing); the comparison names them and goes on. `decode` trusts
nothing but the bytes, and raises CorruptFrame for other bytes than an artefact's; these are files of experiments, not
archives: no promise of format is made.

`register` may be used several times on a class, or as a function, to name settings of it:

    register("int4", "4 bits, a scale a group of 64", functools.partial(Integers, bits=4, group=64))

Sizes. `len(artefact.data)` is the whole file. `artefact.layer_bytes` says how many of them stand for each weight
layer (index, codebook, tables), so that a ratio can be given with either denominator: all tensors, or the compressed
layers alone as the papers count.
'''

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import zstandard
from numpy.typing import NDArray

from ..errors import ArgumentError, CorruptFrame, Error

if TYPE_CHECKING:
    from torch import nn

    from ..nets.task import Task
    from ..nets.training import Recipe

State = dict[str, NDArray[Any]]
"""A checkpoint: name -> array."""


_Candidate = TypeVar("_Candidate")


class Unavailable(Error):
    """A method cannot run here: what is missing, and how to get it."""


@dataclass(frozen=True)
class Stage:
    """A step on a method's way: its name ("pruned"), the bytes that it would take, its checkpoint, details for a
    table.
    """

    name: str
    bytes: int
    state: State
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artefact:
    """A compressed checkpoint.

    data: all of it. layer_bytes: bytes by weight layer; the rest is header and tensors that are not weights.
    stages: steps on the way, where a method has some. details: figures for a table (density, bits, rank ...), JSON's
    types.
    """

    data: bytes
    layer_bytes: Mapping[str, int]
    stages: tuple[Stage, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The artefact as it would be stored."""
        return self.data


@dataclass(frozen=True)
class Context:
    """What a method may use besides the checkpoint.

    task: network, data and score; None when only sizes and errors are compared. budget: the score that may be lost, in
    the task's units (0.5: half a point of accuracy). seed: of all randomness. effort: multiplies the epochs of
    fine-tuning (a table of minutes: 1; a test: 0.05). say: is told what happens. score: instead of a task, a function
    of a checkpoint and a split that gives a score; methods that train cannot run with that alone.
    """

    task: Task | None = None
    budget: float = 0.5
    seed: int = 0
    effort: float = 1.0
    say: Callable[[str], object] = lambda line: None
    score: Callable[[State, str], float] | None = None

    def need_task(self) -> Task:
        """The task. Raises Unavailable without one."""
        if self.task is None:
            raise Unavailable("needs a --task: it trains")
        return self.task

    def model(self, state: Mapping[str, NDArray[Any]]) -> nn.Module:
        """The task's network with these weights, in evaluation mode."""
        return self.need_task().model(state)

    def evaluate(self, state: Mapping[str, NDArray[Any]], split: str = "search", limit: int | None = None) -> float:
        """The score of a checkpoint on a split; higher is better. For choosing: "search".

        Raises Unavailable where nothing can be scored.
        """
        if self.task is None and self.score is not None:
            return self.score(dict(state), split)
        if self.task is None:
            raise Unavailable("needs a --task or --eval: it chooses by the score")
        task = self.task
        return task.evaluate(task.model(state), split, limit)

    def train(self, model: nn.Module, recipe: Recipe, **hooks: Any) -> nn.Module:
        """Fine-tune in place by `nets.training.train` (see its hooks) from the context's seed, its epochs times
        `effort`.
        """
        from ..nets.training import train

        scaled = replace(recipe, epochs=recipe.epochs * self.effort)
        return train(model, self.need_task(), scaled, **{"seed": self.seed, **hooks})

    def generator(self, salt: int = 0) -> np.random.Generator:
        """Random numbers that depend on the seed and a salt alone."""
        return np.random.default_rng([self.seed, salt])

    def coarsest(
        self, before: State, candidates: Sequence[_Candidate], make: Callable[[_Candidate], State]
    ) -> _Candidate:
        """Of candidates from the finest to the coarsest, the coarsest whose checkpoint keeps the budget on "search".

        By bisection: scores are taken to fall as candidates get coarser. Raises Unavailable if not even the finest
        keeps it, or without a task.
        """
        score = self.evaluate(before)
        good, bad = -1, len(candidates)
        while bad - good > 1:
            middle = (good + bad) // 2
            if self.within_budget(self.evaluate(make(candidates[middle])), score):
                good = middle
            else:
                bad = middle
        if good < 0:
            raise Unavailable(f"even {candidates[0]} loses more than the budget of {self.budget:g}")
        return candidates[good]

    def within_budget(self, score: float, before: float) -> bool:
        """Whether a score keeps the budget, beside that of the uncompressed checkpoint on the same examples."""
        unit = self.task.unit if self.task is not None else 0.01
        return before - score <= self.budget * unit + 1e-12


class Method(ABC):
    """A way of making a checkpoint smaller; settings are fields of a frozen dataclass.

    requires: modules that must be importable. trains: whether it fits weights to data.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False

    @abstractmethod
    def fit(self, state: State, context: Context) -> Artefact:
        """Compress. Raises Unavailable when it cannot be done here."""

    @classmethod
    @abstractmethod
    def decode(cls, data: bytes) -> State:
        """The checkpoint of an artefact's bytes. Raises CorruptFrame for other bytes."""

    def check(self) -> None:
        """Raises Unavailable naming the packages that are missing."""
        missing = [name for name in self.requires if _missing(name)]
        if missing:
            raise Unavailable(f"needs {', '.join(missing)}, not installed")

    def timed(self, state: State, context: Context) -> tuple[Artefact, float, State, float]:
        """fit and decode, and the CPU seconds of this process and its children that each took."""
        self.check()
        start = _cpu_seconds()
        found = self.fit(state, context)
        middle = _cpu_seconds()
        decoded = self.decode(found.data)
        return found, middle - start, decoded, _cpu_seconds() - middle


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _missing(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return True
    return False


@dataclass(frozen=True)
class Entry:
    """A registered method: what makes it, a line of what it does, the family it is listed under."""

    name: str
    make: Callable[..., Method]
    summary: str
    family: str


_ENTRIES: dict[str, Entry] = {}
_Made = TypeVar("_Made", bound=Callable[..., Method])


def register(name: str, summary: str, make: Callable[..., Method] | None = None, *, family: str = "") -> Any:
    """Give a method its name: as a decorator of a class, or with `make`, which returns a method for settings by
    keyword.

    family: the heading it is listed under; its module's name without it. Raises ArgumentError for a name that is taken.
    """

    def enter(make: _Made) -> _Made:
        inner = make.func if isinstance(make, functools.partial) else make
        entry = Entry(name, make, summary, family or inner.__module__.rpartition(".")[2])
        if name in _ENTRIES and _ENTRIES[name].make is not make:
            raise ArgumentError(f"two methods are called {name!r}")
        _ENTRIES[name] = entry
        return make

    return enter if make is None else enter(make)


_WITHOUT_METHODS = ("base", "retrain")
"""Modules of this folder that need not be imported for their methods; retrain takes torch along."""


def methods() -> dict[str, Entry]:
    """Every method by name, of all modules in this folder."""
    from .. import baselines

    for module in pkgutil.iter_modules(baselines.__path__):
        if module.name not in _WITHOUT_METHODS:
            importlib.import_module(f"{baselines.__name__}.{module.name}")
    return dict(_ENTRIES)


def method(spec: str) -> Method:
    """The method of a specification: `int4`, `kmeans:bits=5,init=linear`, `package.module:Class`.

    Values are JSON where they can be (numbers, true, null), else text. Raises ArgumentError for what it does not know.
    """
    name, _, settings = spec.partition(":")
    known = methods()
    if name in known:
        make = known[name].make
    elif settings.partition(":")[0].isidentifier():
        make, settings = _imported(name, settings)
    else:
        raise ArgumentError(f"no method {name!r}; there are {', '.join(known)}")
    values = dict(_setting(spec, item) for item in settings.split(",") if item)
    inner = make.func if isinstance(make, functools.partial) else make
    known_fields = {item.name: item for item in fields(inner)} if is_dataclass(inner) else {}
    for key, value in values.items():
        if key not in known_fields:
            raise ArgumentError(f"{spec}: {name} has the settings {', '.join(known_fields) or 'none'}")
        takes = known_fields[key]
        number = isinstance(takes.default, int | float) and "str" not in str(takes.type)
        if number and not isinstance(value, int | float | None):
            raise ArgumentError(f"{spec}: {key} is a number, not {value!r}")
    return make(**values)


def _imported(module: str, rest: str) -> tuple[Callable[..., Method], str]:
    attribute, _, settings = rest.partition(":")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(f"no method {module}:{attribute}: {error}") from None
    return make, settings


def _setting(spec: str, item: str) -> tuple[str, Any]:
    key, equals, text = item.partition("=")
    if not equals:
        raise ArgumentError(f"{spec}: a setting is name=value, not {item!r}")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, text


def weight_names(state: Mapping[str, NDArray[Any]]) -> list[str]:
    """The weight layers: floating-point tensors of two dimensions or more (dense, convolution, embedding), in order.

    Biases and batch-norm statistics are not among them: the papers leave them alone, and so do the methods here.
    """
    return [name for name, value in state.items() if value.ndim >= 2 and is_floating(value) and value.size]


def is_floating(value: NDArray[Any]) -> bool:
    """Whether an array holds floating-point numbers, bfloat16 and float8 too."""
    return value.dtype.kind == "f" or value.dtype.name.startswith(("bfloat", "float"))


# The container of all artefacts: "SZBL", zstd of a JSON header, the layers' blobs one after another, a lossless frame
# of the rest.
_MAGIC = b"SZBL"


@dataclass(frozen=True)
class Parts:
    """An artefact's contents. layers: blobs by weight layer; shapes, dtypes: of the original tensors; meta: the
    method's own.
    """

    layers: dict[str, bytes]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    rest: State
    meta: dict[str, Any]
    order: tuple[str, ...]

    def state(self, weights: Mapping[str, NDArray[Any]]) -> State:
        """The whole checkpoint in its order, of decoded weights (brought to their shape and dtype) and the rest."""
        cast = {
            name: np.asarray(value).reshape(self.shapes[name]).astype(named_dtype(self.dtypes[name]), copy=False)
            for name, value in weights.items()
        }
        return {name: cast[name] if name in cast else self.rest[name] for name in self.order}


def artefact(
    state: State,
    layers: Mapping[str, bytes],
    meta: Mapping[str, Any] | None = None,
    *,
    rest: Mapping[str, NDArray[Any]] | None = None,
    stages: Iterable[Stage] = (),
    details: Mapping[str, Any] | None = None,
    pack: Callable[[State], bytes] | None = None,
) -> Artefact:
    """An artefact of the standard container: a blob for each compressed layer, everything else of the state losslessly.

    rest: other values for tensors outside `layers`, where a method changed them (fine-tuned biases); they keep name
    and shape, and may have another dtype that holds them (float16), which decoding then returns.
    pack: how the rest becomes bytes, where it is not `pack_rest`.
    """
    others = {name: value for name, value in state.items() if name not in layers} | dict(rest or {})
    others = {name: others[name] for name in state if name not in layers}
    header = {
        "order": list(state),
        "layers": {name: [list(state[name].shape), state[name].dtype.name, len(blob)] for name, blob in layers.items()},
        "meta": dict(meta or {}),
    }
    packed = _json_zstd(header)
    body = b"".join([*layers.values(), (pack or pack_rest)(others)])
    data = _MAGIC + len(packed).to_bytes(4, "little") + packed + body
    sizes = {name: len(blob) for name, blob in layers.items()}
    return Artefact(data, sizes, tuple(stages), dict(details or {}))


def _json_zstd(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return zstandard.ZstdCompressor(level=19).compress(text)


def unpack(data: bytes, unpack: Callable[[bytes], State] | None = None) -> Parts:
    """The parts of an `artefact`; `unpack` undoes its `pack`. Raises CorruptFrame for other bytes."""
    if data[:4] != _MAGIC:
        raise CorruptFrame("not an artefact of a baseline method")
    end = 8 + int.from_bytes(data[4:8], "little")
    try:
        header = json.loads(zstandard.ZstdDecompressor().decompress(data[8:end]))
        layers = {}
        for name, (_, _, size) in header["layers"].items():
            layers[name] = data[end : end + size]
            end += size
        shapes = {name: tuple(item[0]) for name, item in header["layers"].items()}
        dtypes = {name: item[1] for name, item in header["layers"].items()}
    except (ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise CorruptFrame(f"the artefact's header is damaged: {error}") from None
    rest = (unpack or unpack_rest)(data[end:])
    return Parts(layers, shapes, dtypes, rest, header["meta"], tuple(header["order"]))


def pack_rest(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Tensors bit for bit: a JSON header by zstd, and the values of each dtype together as one lossless frame."""
    from .. import codec
    from ..bounds import Lossless

    groups: dict[str, list[str]] = {}
    for name, value in tensors.items():
        groups.setdefault(value.dtype.name, []).append(name)
    frames = []
    for names in groups.values():
        joined = np.concatenate([np.asarray(tensors[name]).ravel() for name in names])
        frames.append(bytes(codec.compress(joined, Lossless())))
    header = {
        "groups": [
            [dtype, [[name, list(tensors[name].shape)] for name in names], len(frame)]
            for (dtype, names), frame in zip(groups.items(), frames, strict=True)
        ]
    }
    packed = _json_zstd(header)
    return len(packed).to_bytes(4, "little") + packed + b"".join(frames)


def unpack_rest(data: bytes) -> State:
    """The tensors of a `pack_rest`. Raises CorruptFrame for other bytes."""
    from .. import codec

    end = 4 + int.from_bytes(data[:4], "little")
    tensors: State = {}
    try:
        for _, members, size in json.loads(zstandard.ZstdDecompressor().decompress(data[4:end]))["groups"]:
            values = np.asarray(codec.decompress(data[end : end + size]))
            end += size
            counts = [int(np.prod(shape, dtype=np.int64)) for _, shape in members]
            parts = np.split(values, np.cumsum(counts)[:-1])
            tensors |= {name: part.reshape(shape) for (name, shape), part in zip(members, parts, strict=True)}
    except (KeyError, TypeError, ValueError, zstandard.ZstdError) as error:
        raise CorruptFrame(f"the artefact's other tensors are damaged: {error}") from None
    return tensors


def named_dtype(name: str) -> np.dtype[Any]:
    """The dtype of a name, bfloat16 and the float8s too."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


__all__ = [
    "Artefact",
    "Context",
    "Entry",
    "Method",
    "Parts",
    "Stage",
    "State",
    "Unavailable",
    "artefact",
    "is_floating",
    "method",
    "methods",
    "named_dtype",
    "pack_rest",
    "register",
    "unpack",
    "unpack_rest",
    "weight_names",
]
