"""The metadata file of distributed checkpoints: nothing in it is believed."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import pytest

import szdnn

torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or "SZDNN_SANITIZED" in os.environ:
    pytest.skip("needs torch.distributed, in processes that are not sanitized", allow_module_level=True)

from szdnn.integrations.dcp import metadata  # noqa: E402


def seal(content: Any) -> bytes:
    """A metadata file with a valid seal."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = {"format": metadata.FORMAT, "version": metadata.VERSION, "bytes": len(text)}
    return json.dumps({**head, "sha256": hashlib.sha256(text).hexdigest()}).encode() + b"\n" + text + b"\n"


def forge(change: Any) -> bytes:
    """The sealed metadata of a checkpoint of one 8x8 tensor in two chunks and a number, with `change` made to it."""
    chunk = {"file": "rank-00000-0123456789abcdef.szd.safetensors", "entry": "w", "bytes": 100, "crc32c": 1}
    chunks = [{"offset": [0, 0], "shape": [4, 8], **chunk}, {"offset": [4, 0], "shape": [4, 8], **chunk}]
    tensor = {"path": ["w"], "dtype": "float32", "shape": [8, 8], "chunks": chunks}
    content = {"generations": 1, "items": {"w": tensor, "n": {"path": ["n"], "value": 1}}}
    change(content["items"], tensor, chunks)
    return seal(content)


FORGERIES = {
    "another folder": lambda items, tensor, chunks: chunks[0].update(file="../" + chunks[0]["file"]),
    "an absolute path": lambda items, tensor, chunks: chunks[0].update(file="/etc/passwd"),
    "a newline in the name": lambda items, tensor, chunks: chunks[0].update(file=chunks[0]["file"] + "\n"),
    "a file that is a number": lambda items, tensor, chunks: chunks[0].update(file=3),
    "a hole": lambda items, tensor, chunks: chunks.pop(),
    "no chunk": lambda items, tensor, chunks: chunks.clear(),
    "a chunk twice": lambda items, tensor, chunks: chunks.append(chunks[0]),
    "two of the same": lambda items, tensor, chunks: chunks[1].update(offset=[0, 0]),
    "an overlap": lambda items, tensor, chunks: chunks[1].update(offset=[2, 0]),
    "a chunk beyond": lambda items, tensor, chunks: chunks[1].update(offset=[5, 0]),
    "a negative offset": lambda items, tensor, chunks: chunks[1].update(offset=[-4, 0]),
    "an offset of another rank": lambda items, tensor, chunks: chunks[1].update(offset=[4]),
    "an empty chunk": lambda items, tensor, chunks: chunks[1].update(shape=[0, 8]),
    "a float for a size": lambda items, tensor, chunks: tensor.update(shape=[8.0, 8]),
    "true for a size": lambda items, tensor, chunks: tensor.update(shape=[True, 8]),
    "a huge shape": lambda items, tensor, chunks: tensor.update(shape=[1 << 40, 1 << 40]),
    "an overflowing size": lambda items, tensor, chunks: tensor.update(shape=[1 << 70, 8]),
    "too many dimensions": lambda items, tensor, chunks: tensor.update(shape=[1] * 65),
    "an unknown dtype": lambda items, tensor, chunks: tensor.update(dtype="object"),
    "a dtype that is a list": lambda items, tensor, chunks: tensor.update(dtype=["float32"]),
    "no path": lambda items, tensor, chunks: tensor.update(path=[]),
    "a path into a long list": lambda items, tensor, chunks: tensor.update(path=["w", 1 << 40]),
    "a path that starts with a number": lambda items, tensor, chunks: tensor.update(path=[0, "w"]),
    "a path of a float": lambda items, tensor, chunks: tensor.update(path=["w", 0.5]),
    "no chunks": lambda items, tensor, chunks: tensor.pop("chunks"),
    "an item that is a list": lambda items, tensor, chunks: items.update(w=[1]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_metadata(name: str) -> None:
    assert metadata.decode(forge(lambda *parts: None))[0].state_dict_metadata.keys() == {"w", "n"}
    with pytest.raises(szdnn.CorruptFrame):
        metadata.decode(forge(FORGERIES[name]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"items": []}',
        b'{"items": {}}',
        b'{"generations": "1", "items": {}}',
        b'{"items": {"a": NaN}}',
        b'{"items": {"a": 1, "a": 1}}',
        b"[" * 100_000,
    ],
)
def test_metadata_of_another_kind(content: bytes) -> None:
    with pytest.raises(szdnn.CorruptFrame):
        metadata.decode(seal(content))


def test_damaged_metadata() -> None:
    """Any byte cut off or changed is noticed."""
    data = forge(lambda *parts: None)
    for length in range(len(data)):
        with pytest.raises(szdnn.CorruptFrame):
            metadata.decode(data[:length])
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 4
        if metadata_text(bytes(flipped)) != metadata_text(data):
            with pytest.raises((szdnn.CorruptFrame, szdnn.UnsupportedFrame)):
                metadata.decode(bytes(flipped))


def metadata_text(data: bytes) -> Any:
    """The two JSON values of a metadata file; other white space in the seal is no damage."""
    try:
        return [json.loads(part) for part in data.split(b"\n", 1)] + [data.split(b"\n", 1)[1]]
    except (ValueError, IndexError):
        return None
