"""The state's skeleton: everything in a checkpoint that is not a tensor, as one checksummed, zstd'd JSON value.

A nested state becomes a tree of JSON nodes:

    None, bool, str, finite float, 64-bit int   themselves
    list                                        a JSON list
    {"int": "0x..."}                            an int beyond 64 bits
    {"float": "7ff8000000000000"}               NaN and infinities, by their bits
    {"complex": [hex, hex]}                     real and imaginary part, by their bits
    {"bytes": base64}   {"bytearray": base64}   {"tuple": [...]}
    {"set": [...]}   {"frozenset": [...]}       elements in a fixed order
    {"dict": [[key, node], ...]}                keys are nodes too, so 1 stays apart from "1"
    {"counter": [[key, node], ...]}             a collections.Counter
    {"ordered": [[key, node], ...], "attrs": node}    an OrderedDict with the attributes torch hangs on it
    {"npdtype": text}   {"scalar": text, "bytes": hex}    a NumPy dtype, a NumPy scalar
    {"tensor": name, ...}                       a tensor or array; a tied one names the same entry again
    {"torch": kind, "value": ...}               a torch.Size, dtype, device or layout
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import zstandard

from .arrays import DTYPES
from .errors import ArchiveError, Error, LimitError
from .source import Json, TensorSpec

MAX_DEPTH = 200
MAX_SKELETON_BYTES = 1 << 28
FREE_BYTES, MOST_RATIO = 1 << 14, 256
"""JSON takes at most FREE_BYTES + MOST_RATIO times its packed bytes: a small file shall not make large objects."""
_SMALL_WINDOW = 10
RESERVED_PREFIX = "__szdnn__."

Path = tuple[Hashable, ...]
Leaf = Callable[[object, Path], Json | None]

_ESCAPED = re.compile(r"[%/\x00-\x1f\x7f\ud800-\udfff]")
_DTYPES: dict[str, np.dtype[Any]] = {dtype.name: dtype for dtype in DTYPES.values()}
_INTEGER = re.compile(r"-?[0-9]+")

DICTIONARY = (
    b'"attrs":{"dict":[]},"parameter":true,"_metadata":{"ordered":[["",{"dict":[["version",1]]}]],"array":"<i8"}]'
    b'["optimizer","scheduler","epoch","step","lr","exp_avg","exp_avg_sq","float64","bfloat16","float16",'
    b'"bound":"PointwiseRel","r":0.01,{"bound":"Rel","r":0.001},"provenance":{"made_by":"szdnn.tune","method":"train",'
    b'"not_the_original":{"*":"trained"}},"fineness":1,{"name":"*.weight","bound":"Abs","eps":0.0'
    b'["bn1.running_mean",{"tensor":"bn1.running_mean"}],["bn1.running_var",{"tensor":"bn1.running_var"}],'
    b'["bn1.num_batches_tracked","int64",[]],["conv1.weight","float32",[64,3,3,3]],["layer1.0.conv2.weight",'
    b'{"tensor":"layer1.0.conv2.weight","array":"<f4"}],["fc1.weight",{"tensor":"fc1.weight","array":"<f4"}],["fc1.bias",'
    b'{"tensor":"fc1.bias","array":"<f4"}]]},{"kind":"torch","suffix":".pt","plan":{"szdnn_plan":1,"default":{"bound":'
    b'"Lossless"},"rules":[{"name":"fc1.weight","bound":"Abs","eps":0.1},{"name":"*.bias","bound":"Abs","eps":0.01,'
    b'"override":true}]},"generations":1,"state":{"ordered":[["{"kind":"numpy","suffix":".npz","state":{"dict":[["'
    b'"tensors":[["weight","float32",[300]],["bias","float32",[10]],"metadata":{"format":"pt"}}'
)
"""What JSON in archives is full of: a zstd dictionary of raw content."""
_DICTIONARY = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def pack(skeleton: dict[str, Json]) -> bytes:
    """The skeleton as a zstd frame with a checksum. Raises ArchiveError when it is larger than 256 MB of JSON."""
    return pack_json(skeleton)


def pack_json(value: Json) -> bytes:
    """A JSON value as a zstd frame with a checksum. Raises ArchiveError when it is larger than 256 MB of JSON."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_SKELETON_BYTES:
        raise ArchiveError(f"what the file holds beside tensors takes {len(text)} bytes; at most {MAX_SKELETON_BYTES}")
    packed = zstandard.ZstdCompressor(level=12, write_checksum=True, dict_data=_DICTIONARY).compress(text)
    if len(text) <= _most_json(len(packed)):
        return packed
    # Blocks are no longer than the window, and none takes less than four bytes: the ratio is below 256.
    parameters = zstandard.ZstdCompressionParameters(window_log=_SMALL_WINDOW, write_checksum=True)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=_DICTIONARY).compress(text)


def _most_json(packed: int) -> int:
    return min(FREE_BYTES + MOST_RATIO * packed, MAX_SKELETON_BYTES)


def unpack(data: bytes, max_bytes: int | None = None) -> dict[str, Json]:
    """The inverse of `pack`. Raises ArchiveError for anything damaged, LimitError where `unpack_json` does."""
    try:
        skeleton = unpack_json(data, max_bytes)
    except LimitError:
        raise
    except ValueError as error:
        raise ArchiveError(f"the skeleton is damaged: {error}") from None
    if not isinstance(skeleton, dict):
        raise ArchiveError("the skeleton is damaged: not a JSON object")
    return skeleton


def unpack_json(data: bytes, max_bytes: int | None = None) -> Json:
    """The inverse of `pack_json`. Raises ValueError for anything damaged.

    max_bytes: the caller's limit of what is decoded; JSON of more bytes, and of more than 1 MB, is LimitError.
    """
    try:
        parameters = zstandard.get_frame_parameters(data)
        if not parameters.has_checksum or not 0 <= parameters.content_size <= _most_json(len(data)):
            raise ValueError("its header")
        if max_bytes is not None and parameters.content_size > max(max_bytes, 1 << 20):
            raise LimitError(f"{parameters.content_size} bytes of JSON beside the tensors, more than {max_bytes=}")
        text = zstandard.ZstdDecompressor(dict_data=_DICTIONARY).decompress(data, allow_extra_data=False)
        return json.loads(text, parse_constant=_no_constant)
    except (zstandard.ZstdError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def pack_specs(specs: Mapping[str, TensorSpec]) -> Json:
    """Names, dtypes and shapes of an archive's tensors, for the skeleton."""
    return [[name, spec.dtype.newbyteorder("=").name, list(spec.shape)] for name, spec in specs.items()]


def specs_of(skeleton: dict[str, Json]) -> dict[str, TensorSpec]:
    """Dtypes and shapes by name, as `pack_specs` put them there. Raises ArchiveError for anything else."""
    try:
        rows = [(str(name), _DTYPES[dtype], tuple(map(_extent, shape))) for name, dtype, shape in skeleton["tensors"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"the skeleton is damaged: its tensors: {error!r}") from None
    specs = {name: TensorSpec(dtype, shape) for name, dtype, shape in rows}
    if len(specs) != len(rows):
        raise ArchiveError("the skeleton is damaged: a name stands there twice")
    return specs


def _extent(value: Json) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"the extent {value!r}")
    return value


def entry_name(name: str) -> str:
    """`name` itself, or escaped where an archive can't have an entry of that name."""
    if name == "__metadata__" or name.startswith(RESERVED_PREFIX):
        return "%5F" + name[1:]
    return re.sub(r"[\ud800-\udfff]", lambda match: f"%{ord(match[0]):X}", name)


def path_name(path: Path) -> str:
    """A path in a nested state as a name, another for each path.

    Parts are joined by "/"; int 1 is `1`, str "1" is `"1"`, "a/b" is `a%2Fb`, any other key is `=` and its repr; a
    state that is itself a tensor is "/".
    """
    return entry_name("/".join(map(_part_name, path))) if path else "/"


def _part_name(part: Hashable) -> str:
    if type(part) is int:
        return str(part)
    if not isinstance(part, str):
        return "=" + _quoted(repr(part))
    escaped = _quoted(part)
    return f'"{escaped}"' if not part or part[0] == "=" or _INTEGER.fullmatch(part) else escaped


def _quoted(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", text).replace('"', "%22")


def place(path: Path) -> str:
    """Where in a state, for messages: `state['model'][0]`."""
    return "state" + "".join(f"[{part!r}]" for part in path)


def encode_state(value: object, leaf: Leaf, path: Path = ()) -> Json:
    """A nested state as a JSON tree. `leaf(value, path)` gives the node of a tensor, None for anything else.

    Raises ArchiveError naming the place of a value or key that can't be kept.
    """
    if len(path) > MAX_DEPTH:
        raise ArchiveError(f"{place(path[:3])}... is nested more than {MAX_DEPTH} deep, or holds itself")
    kind = type(value)
    if isinstance(value, dict) and kind in (dict, OrderedDict, Counter):
        return _encode_dict(value, leaf, path)
    if isinstance(value, (list, tuple)) and kind in (list, tuple):
        items = [encode_state(item, leaf, (*path, index)) for index, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    node = leaf(value, path)
    return _encode_plain(value, path) if node is None else node


def _encode_plain(value: object, path: Path) -> Json:
    """The node of a value without tensors in it."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if isinstance(value, (int, float, complex)) and kind in (int, float, complex):
        return _encode_number(value)
    if isinstance(value, (bytes, bytearray)) and kind in (bytes, bytearray):
        return {kind.__name__: base64.b64encode(value).decode()}
    if isinstance(value, (set, frozenset)) and kind in (set, frozenset):
        nodes = [_encode_key(item, path, "element") for item in value]
        return {kind.__name__: sorted(nodes, key=json.dumps)}
    if isinstance(value, np.dtype):
        return {"npdtype": dtype_text(value, path)}
    if isinstance(value, np.generic):
        return {"scalar": dtype_text(value.dtype, path), "bytes": value.tobytes()[: value.dtype.itemsize].hex()}
    advice = "pass its state_dict()" if hasattr(value, "state_dict") else "turn it into these first"
    raise ArchiveError(
        f"{place(path)} is a {kind.__module__}.{kind.__qualname__}, which szdnn can't keep; it keeps tensors, arrays, "
        f"numbers, strings, bytes, None, and dicts, lists, tuples and sets of them: {advice}"
    )


def _encode_number(value: int | float | complex) -> Json:
    if isinstance(value, complex):
        return {"complex": [struct.pack(">d", part).hex() for part in (value.real, value.imag)]}
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else {"int": hex(value)}
    return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}


def _encode_key(key: object, path: Path, what: str = "key") -> Json:
    """The node of a dict's key or a set's element: plain values and tuples of them."""
    if type(key) is tuple:
        return {"tuple": [_encode_key(item, path, what) for item in key]}
    if type(key) in (bytearray, set) or isinstance(key, np.dtype):
        raise ArchiveError(f"{place(path)} has the {what} {key!r}, which szdnn can't keep")
    try:
        return _encode_plain(key, path)
    except ArchiveError:
        raise ArchiveError(f"{place(path)} has the {what} {key!r}, which szdnn can't keep") from None


def _encode_dict(value: dict[Any, object], leaf: Leaf, path: Path) -> Json:
    items = [[_encode_key(key, path), encode_state(item, leaf, (*path, key))] for key, item in value.items()]
    if type(value) is OrderedDict:
        return {"ordered": items, "attrs": encode_state(dict(value.__dict__), leaf, (*path, "__dict__"))}
    return {"counter" if type(value) is Counter else "dict": items}


def dtype_text(dtype: np.dtype[Any], path: Path) -> str:
    """A NumPy dtype as text that `text_dtype` reads. Raises ArchiveError for records and objects."""
    if hasattr(ml_dtypes, dtype.name):
        return dtype.name
    if dtype.hasobject or dtype.fields or dtype.subdtype or dtype.char == "V":
        raise ArchiveError(f"{place(path)} has the NumPy dtype {dtype}, which szdnn can't keep")
    return dtype.str


def text_dtype(text: Json) -> np.dtype[Any]:
    """The inverse of `dtype_text`. Raises ValueError or TypeError for anything else."""
    if not isinstance(text, str) or len(text) > 40:
        raise ValueError("a dtype")
    try:
        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, text, None) or text)
    except SyntaxError:  # so NumPy, of texts such as "08a"
        raise ValueError(f"the dtype {text!r}") from None
    if dtype.hasobject or dtype.fields or dtype.subdtype:
        raise ValueError(f"the dtype {text!r}")
    return dtype


def decode_state(node: Json, leaf: Callable[[dict[str, Json]], object]) -> object:
    """The inverse of `encode_state`; `leaf` turns the node of a tensor into the tensor.

    Raises ArchiveError for a tree that `encode_state` can't have made.
    """
    try:
        return _decode(node, leaf)
    except Error:
        raise
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RuntimeError, struct.error) as error:
        raise ArchiveError(f"the skeleton is damaged: {error!r}") from None


def _decode(node: Json, leaf: Callable[[dict[str, Json]], object]) -> object:
    if isinstance(node, list):
        return [_decode(item, leaf) for item in node]
    if not isinstance(node, dict):
        return node
    if "tensor" in node or "torch" in node:
        return leaf(node)
    if "tuple" in node:
        return tuple(_decode(item, leaf) for item in node["tuple"])
    for kind in ("dict", "counter", "ordered"):
        if kind in node:
            return _decode_dict(kind, node, leaf)
    return _decode_plain(node)


def _decode_dict(kind: str, node: dict[str, Json], leaf: Callable[[dict[str, Json]], object]) -> object:
    items = [(_decode_key(key), _decode(item, leaf)) for key, item in node[kind]]
    if kind == "ordered":
        ordered = OrderedDict(items)
        ordered.__dict__.update(_decode(node["attrs"], leaf))  # type: ignore[call-overload]
        return ordered
    return Counter(dict(items)) if kind == "counter" else dict(items)


def _decode_plain(node: dict[str, Json]) -> object:
    if "scalar" in node:
        return _decode_scalar(text_dtype(node["scalar"]), bytes.fromhex(node["bytes"]))
    if "bytes" in node:
        return base64.b64decode(node["bytes"], validate=True)
    if "bytearray" in node:
        return bytearray(base64.b64decode(node["bytearray"], validate=True))
    if "int" in node:
        return int(node["int"], 16)
    if "set" in node:
        return set(map(_decode_key, node["set"]))
    if "frozenset" in node:
        return frozenset(map(_decode_key, node["frozenset"]))
    if "npdtype" in node:
        return text_dtype(node["npdtype"])
    if "complex" in node:
        real, imaginary = (struct.unpack(">d", bytes.fromhex(part))[0] for part in node["complex"])
        return complex(real, imaginary)
    return struct.unpack(">d", bytes.fromhex(node["float"]))[0]


def _decode_scalar(dtype: np.dtype[Any], raw: bytes) -> object:
    if len(raw) != dtype.itemsize:
        raise ValueError(f"a scalar of dtype {dtype} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype, 1)[0] if raw else dtype.type()


def _decode_key(key: Json) -> Hashable:
    def no_leaf(node: dict[str, Json]) -> object:
        raise ValueError("a tensor for a key")

    decoded = _decode(key, no_leaf)
    hash(decoded)
    return decoded
