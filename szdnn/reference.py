"""References: the tensors that frames hold differences to (csrc/FORMAT.md, section 10)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import DTYPES, as_array, dtype_code
from .buffers import Bytes
from .errors import ReferenceMismatch


class Reference:
    """A tensor whose values are at hand, or can be had a part at a time.

    Wherever one is asked for, an array will do too.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @abstractmethod
    def part(self, start: int, stop: int) -> Bytes:
        """The bytes of elements start ... stop - 1 in C order (a complex value is two), native byte order."""

    @abstractmethod
    def whole(self) -> NDArray[Any]:
        """All values; the caller may write to them only if they are `spare`."""

    spare = False
    """Whether `whole` gives memory that nobody else uses."""


class Values(Reference):
    """A tensor in memory."""

    def __init__(self, values: Any, spare: bool = False) -> None:
        self._values = as_array(values)
        self.dtype, self.shape = self._values.dtype, self._values.shape
        self._flat = self._values.reshape(-1).view(np.uint8)
        self._width = element_bytes(self.dtype)
        self.spare = spare

    def part(self, start: int, stop: int) -> Bytes:
        """See `Reference.part`."""
        return self._flat[start * self._width : stop * self._width]

    def whole(self) -> NDArray[Any]:
        """See `Reference.whole`."""
        return self._values


def element_bytes(dtype: np.dtype[Any]) -> int:
    """The bytes of an element in a frame: of each part, for complex values."""
    return dtype.itemsize // (2 if dtype.kind == "c" else 1)


def as_reference(reference: Any) -> Reference | None:
    """A reference as the public functions take it: an array or tensor, a Reference, None."""
    return reference if reference is None or isinstance(reference, Reference) else Values(reference)


def digest(array: Any) -> str:
    """The digest of a tensor's values, by which a frame knows its reference: 16 hexadecimal digits.

    array: as for szdnn.compress, of any supported dtype. `szdnn.info(frame).reference` holds that of the reference.
    """
    values = as_array(array)
    count = values.nbytes // element_bytes(values.dtype)
    return f"{_native.digest(dtype_code(values.dtype), values.reshape(-1).view(np.uint8), 0, count):016x}"


def checked(header: _native.Header, shape: tuple[int, ...], reference: Reference | None) -> Reference | None:
    """The reference where the frame needs one. Raises ReferenceMismatch where it is missing or of another dtype or
    shape; its values are compared block by block."""
    if header.c.predictor != _native.REFERENCE:
        return None
    dtype = DTYPES[header.c.reference_dtype]
    wanted = f"{dtype}{list(shape)} with the digest {header.reference_digest()}"
    if reference is None:
        raise ReferenceMismatch(f"this holds differences to another tensor, {wanted}: give that as reference=")
    if reference.dtype != dtype or reference.shape != shape:
        given = f"{reference.dtype}{list(reference.shape)}"
        raise ReferenceMismatch(f"the reference is {given}; this was made with {wanted}")
    return reference
