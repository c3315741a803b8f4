"""The szdnn frame as a numcodecs codec, for zarr format 2 and everything else that numcodecs serves.

    import numcodecs, szdnn.integrations.numcodecs
    codec = szdnn.integrations.numcodecs.Szdnn(szdnn.Rel(1e-3))
    zarr.create_array(store, zarr_format=2, compressors=codec, ...)

The entry point `numcodecs.codecs` lets numcodecs find it by its id, "szdnn", wherever szdnn is installed. A chunk is
one frame: it checks itself, and holds its own dtype and shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray_like, ndarray_copy
from numpy.typing import NDArray

from .. import codec
from ..bounds import Bound, Lossless
from ..errors import ArgumentError
from ..plan import bound_from_dict, bound_to_dict


def bound_of(bound: Any) -> Bound:
    """A bound, its JSON form, or None for Lossless(). Raises ArgumentError for anything else."""
    return bound if isinstance(bound, Bound) else Lossless() if bound is None else bound_from_dict(bound, "szdnn codec")


class Szdnn(Codec):  # type: ignore[misc]  # numcodecs has no types
    """Error-bounded lossy compression of float16, bfloat16, float32 and float64 chunks; `Lossless()` for any dtype.

    bound: a bound such as szdnn.Rel(1e-3), or its JSON form, {"bound": "Rel", "r": 0.001}. Rel, Std, PSNR, RMSE and
        Bits hold for each chunk by itself; Abs and PointwiseRel are the same for every chunk.
    effort, predictor: as in szdnn.compress.

    A lossy bound refuses other dtypes (BoundError); chunks in a foreign byte order are refused (ArgumentError).
    """

    codec_id = "szdnn"

    def __init__(self, bound: Any = None, effort: int = 3, predictor: str = "auto") -> None:
        self._bound = bound_of(bound)
        self.bound = bound_to_dict(self._bound)
        self.effort, self.predictor = effort, predictor

    def encode(self, buf: Any) -> bytes:
        """A frame of an array; other buffers are bytes, which only Lossless() takes."""
        array = np.asarray(buf)
        if array.dtype == object:
            raise ArgumentError("objects have no frame: encode them first (numcodecs.VLenUTF8 and the like)")
        if not array.dtype.isnative:
            raise ArgumentError(f"a frame does not keep the byte order of {array.dtype}: use the native one")
        return bytes(codec.compress(array, self._bound, effort=self.effort, predictor=self.predictor))

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The array of a frame. Raises CorruptFrame where it is damaged."""
        frame = np.frombuffer(ensure_contiguous_ndarray_like(buf), dtype=np.uint8)
        made: NDArray[Any] = codec.decompress(frame)
        return made if out is None else ndarray_copy(made, out)

    def get_config(self) -> dict[str, Any]:
        """JSON: the same codec comes back from numcodecs.get_codec."""
        return {"id": self.codec_id, "bound": self.bound, "effort": self.effort, "predictor": self.predictor}
