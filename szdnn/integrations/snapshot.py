"""Copies of nested states in CPU memory, taken as fast as memory can be copied, into memory that is used again."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import torch


class Copier:
    """Copies states. The memory of a copy that is no longer needed (`release`) serves the next, which then costs no
    page faults: for large states most of the time."""

    def __init__(self) -> None:
        self._spare: dict[int, list[torch.UntypedStorage]] = {}
        self._used: list[torch.UntypedStorage] = []

    def copy(self, state: object) -> Any:
        """A copy that shares nothing with `state`: containers, tensors (on the CPU), arrays, other values by deepcopy.

        Tensors that share memory share it in the copy.
        """
        return self._copy(state, {})

    def release(self) -> None:
        """The copies are not needed any more; the next one may take their memory."""
        self._spare = {}  # of sizes that were not asked for again
        for storage in self._used:
            self._spare.setdefault(storage.nbytes(), []).append(storage)
        self._used = []

    def _copy(self, value: Any, memo: dict[Any, Any]) -> Any:
        kind = type(value)
        if kind in (torch.Tensor, torch.nn.Parameter):
            return self._tensor(value, memo)
        if kind is dict:
            return {key: self._copy(item, memo) for key, item in value.items()}
        if kind is OrderedDict:
            ordered = OrderedDict((key, self._copy(item, memo)) for key, item in value.items())
            ordered.__dict__.update(copy.deepcopy(value.__dict__))  # torch hangs its _metadata there
            return ordered
        if kind in (list, tuple):
            return kind(self._copy(item, memo) for item in value)
        if kind is np.ndarray:
            return memo.setdefault(id(value), value.copy(order="K"))
        if isinstance(value, torch.Tensor):
            return value  # of a kind that can't be saved, which the one who saves will say
        return copy.deepcopy(value, memo)

    def _tensor(self, tensor: torch.Tensor, memo: dict[Any, Any]) -> torch.Tensor:
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
            return tensor  # as above
        plain = tensor.detach().resolve_conj().resolve_neg()
        storage = plain.untyped_storage()
        key = (storage.device, storage.data_ptr(), storage.nbytes())
        if key not in memo or not storage.nbytes():
            memo[key] = self._storage(storage)
        twin = torch.empty(0, dtype=plain.dtype)
        twin.set_(memo[key], plain.storage_offset(), plain.size(), plain.stride())
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(twin, requires_grad=tensor.requires_grad)
        return twin.requires_grad_(tensor.requires_grad) if tensor.requires_grad else twin

    def _storage(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        spare = self._spare.get(storage.nbytes())
        twin = spare.pop() if spare else _new_storage(storage.nbytes())
        twin.copy_(storage)
        self._used.append(twin)
        return twin


def _new_storage(size: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(size)  # type: ignore[no-untyped-call]
