"""The szdnn frame as a codec of zarr format 3: `serializer=` of an array.

    import szdnn, zarr
    from szdnn.integrations.zarr import SzdnnCodec
    codec = SzdnnCodec(szdnn.Abs(1e-3))
    a = zarr.create_array(store, shape=..., chunks=..., dtype="float32", serializer=codec, compressors=None)

The entry point `zarr.codecs` lets zarr find it by its name, "szdnn", wherever szdnn is installed. A chunk is one frame,
so that chunks are what is read; within one, szdnn.read takes parts. zarr has no bfloat16 yet (3.1): keep such arrays as
uint16 with Lossless(), or as float32.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import parse_named_configuration

from .. import codec
from ..bounds import Lossless
from ..errors import BoundError
from ..plan import array_bound, bound_to_dict
from .numcodecs import bound_of


@dataclass(frozen=True)
class SzdnnCodec(ArrayBytesCodec):
    """Error-bounded lossy compression of float16, float32 and float64 arrays; `Lossless()` for any dtype.

    bound: a bound such as szdnn.Rel(1e-3), or its JSON form, {"bound": "Rel", "r": 0.001}. Rel, Std, PSNR, RMSE and
        Bits hold for each chunk by itself; Abs and PointwiseRel are the same for every chunk.
    effort, predictor: as in szdnn.compress.

    Raises BoundError where an array of another dtype is made with a lossy bound.
    """

    bound: Any = None
    effort: int = 3
    predictor: str = "auto"

    is_fixed_size = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", bound_of(self.bound))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The codec of an array's metadata."""
        _, found = parse_named_configuration(data, "szdnn", require_configuration=False)
        configuration: dict[str, Any] = dict(found or {})
        return cls(**configuration)

    def to_dict(self) -> dict[str, Any]:
        """What an array's metadata say: JSON."""
        configuration = {"bound": bound_to_dict(self.bound), "effort": self.effort, "predictor": self.predictor}
        return {"name": "szdnn", "configuration": configuration}

    def validate(self, *, shape: Any, dtype: Any, chunk_grid: Any) -> None:
        """Refuses lossy bounds on dtypes that cannot have them."""
        native = dtype.to_native_dtype()
        if not isinstance(self.bound, Lossless) and isinstance(array_bound(native, self.bound), Lossless):
            raise BoundError(f"{type(self.bound).__name__} does not apply to dtype {native}: only Lossless() does")

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        values = np.asarray(chunk_array.as_numpy_array())
        frame = await asyncio.to_thread(self._compress, values)
        return chunk_spec.prototype.buffer.from_bytes(frame)

    def _compress(self, values: Any) -> bytes:
        return bytes(codec.compress(values, self.bound, effort=self.effort, predictor=self.predictor, threads=1))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        data = chunk_bytes.as_numpy_array()
        values = await asyncio.to_thread(codec.decompress, data, threads=1)
        values = values.astype(chunk_spec.dtype.to_native_dtype(), copy=False).reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(values)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before."""
        raise NotImplementedError


__all__ = ["SzdnnCodec"]
