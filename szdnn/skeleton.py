"""The state's skeleton: everything in a checkpoint that is not a tensor, as one checksummed, zstd'd JSON value.

A nested state becomes a tree of JSON nodes:

    None, bool, str, finite float, 64-bit int   themselves
    list                                        a JSON list
    {"int": "0x..."}                            an int beyond 64 bits
    {"float": "7ff8000000000000"}               NaN and infinities, by their bits
    {"bytes": base64}   {"tuple": [...]}
    {"dict": [[key, node], ...]}                keys are JSON strings or integers, so 1 stays apart from "1"
    {"ordered": [[key, node], ...], "attrs": node}    an OrderedDict with the attributes torch hangs on it
    {"tensor": name, ...}                       a tensor; a tied one names the same entry again
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import zstandard

from .errors import ArchiveError, Error
from .source import Json

MAX_DEPTH = 200
MAX_SKELETON_BYTES = 1 << 28
RESERVED_PREFIX = "__szdnn__."

Path = tuple[str | int, ...]
Leaf = Callable[[object, Path], Json | None]

_ESCAPED = re.compile(r"[%/\x00-\x1f\x7f\ud800-\udfff]")
_INTEGER = re.compile(r"-?[0-9]+")


def pack(skeleton: dict[str, Json]) -> bytes:
    """The skeleton as a zstd frame with a checksum. Raises ArchiveError when it is larger than 256 MB of JSON."""
    text = json.dumps(skeleton, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_SKELETON_BYTES:
        raise ArchiveError(f"what the file holds beside tensors takes {len(text)} bytes; at most {MAX_SKELETON_BYTES}")
    return zstandard.ZstdCompressor(level=12, write_checksum=True).compress(text)


def unpack(data: bytes) -> dict[str, Json]:
    """The inverse of `pack`. Raises ArchiveError for anything damaged."""
    try:
        parameters = zstandard.get_frame_parameters(data)
        if not parameters.has_checksum or not 0 <= parameters.content_size <= MAX_SKELETON_BYTES:
            raise ValueError("its header")
        text = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        skeleton = json.loads(text, parse_constant=_no_constant)
    except (zstandard.ZstdError, ValueError, RecursionError) as error:
        raise ArchiveError(f"the skeleton is damaged: {error}") from None
    if not isinstance(skeleton, dict):
        raise ArchiveError("the skeleton is damaged: not a JSON object")
    return skeleton


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def entry_name(name: str) -> str:
    """`name` itself, or escaped where an archive can't have an entry of that name."""
    if name == "__metadata__" or name.startswith(RESERVED_PREFIX):
        return "%5F" + name[1:]
    return re.sub(r"[\ud800-\udfff]", lambda match: f"%{ord(match[0]):X}", name)


def path_name(path: Path) -> str:
    """A path in a nested state as a name, another for each path.

    Parts are joined by "/"; int 1 is `1`, str "1" is `"1"`, "a/b" is `a%2Fb`; a state that is itself a tensor is "/".
    """
    name = "/".join(str(part) if isinstance(part, int) else _escape(part) for part in path)
    return entry_name(name) if path else "/"


def _escape(key: str) -> str:
    escaped = _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", key).replace('"', "%22")
    return f'"{escaped}"' if not key or _INTEGER.fullmatch(key) else escaped


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
    if value is None or kind in (bool, str):
        return value
    if isinstance(value, (int, float, bytes)) and kind in (int, float, bytes):
        return _encode_scalar(value)
    if isinstance(value, dict) and kind in (dict, OrderedDict):
        return _encode_dict(value, leaf, path)
    if isinstance(value, (list, tuple)) and kind in (list, tuple):
        items = [encode_state(item, leaf, (*path, index)) for index, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    node = leaf(value, path)
    if node is None:
        raise ArchiveError(f"{place(path)} is a {kind.__module__}.{kind.__qualname__}, which szdnn can't keep")
    return node


def _encode_scalar(value: int | float | bytes) -> Json:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else {"int": hex(value)}
    return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}


def _encode_dict(value: dict[Any, object], leaf: Leaf, path: Path) -> Json:
    items = []
    for key, item in value.items():
        if type(key) not in (str, int):
            raise ArchiveError(f"{place(path)} has the key {key!r}; szdnn keeps keys of type str and int only")
        items.append([_encode_scalar(key) if isinstance(key, int) else key, encode_state(item, leaf, (*path, key))])
    if type(value) is dict:
        return {"dict": items}
    return {"ordered": items, "attrs": encode_state(dict(value.__dict__), leaf, (*path, "__dict__"))}


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
    if "tensor" in node:
        return leaf(node)
    if "tuple" in node:
        return tuple(_decode(item, leaf) for item in node["tuple"])
    if "dict" in node:
        return {_decode_key(key): _decode(item, leaf) for key, item in node["dict"]}
    if "ordered" in node:
        ordered = OrderedDict((_decode_key(key), _decode(item, leaf)) for key, item in node["ordered"])
        ordered.__dict__.update(_decode(node["attrs"], leaf))  # type: ignore[call-overload]
        return ordered
    return _decode_scalar(node)


def _decode_scalar(node: dict[str, Json]) -> object:
    if "bytes" in node:
        return base64.b64decode(node["bytes"], validate=True)
    if "int" in node:
        return int(node["int"], 16)
    return struct.unpack(">d", bytes.fromhex(node["float"]))[0]


def _decode_key(key: Json) -> str | int:
    decoded = _decode_scalar(key) if isinstance(key, dict) else key
    if type(decoded) not in (str, int):
        raise ValueError(f"{decoded!r} is not a key")
    return decoded  # type: ignore[return-value]
