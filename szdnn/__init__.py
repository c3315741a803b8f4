"""szdnn: error-bounded lossy compression of neural-network weights and any float tensor.

>>> import numpy as np, szdnn
>>> weights = np.random.default_rng(0).normal(0, 0.02, (256, 256)).astype(np.float32)
>>> frame = szdnn.compress(weights, szdnn.Abs(1e-3))
>>> restored = szdnn.decompress(frame)
>>> bool(np.abs(restored - weights).max() <= 1e-3), len(frame) * 5 < weights.nbytes
(True, True)
"""

from .api import dumps, load, loads, open, save, verify
from .archive import Archive
from .bounds import PSNR, RMSE, Abs, Bits, Bound, Lossless, PointwiseRel, Rel, Std
from .codec import Comparison, FrameInfo, compare, compress, decompress, info, read
from .errors import (
    ArchiveError,
    ArgumentError,
    BoundError,
    CorruptFrame,
    Error,
    LimitError,
    ReferenceMismatch,
    UnsupportedFrame,
)
from .files import SaveReport
from .folder import ShardedArchive
from .plan import Plan, Rule
from .tune import MaxBits, MaxBytes, MaxDrop, tune
from .verify import VerifyReport

__version__ = "0.1.0"

__all__ = [
    "PSNR",
    "RMSE",
    "Abs",
    "Archive",
    "ArchiveError",
    "ArgumentError",
    "Bits",
    "Bound",
    "BoundError",
    "Comparison",
    "CorruptFrame",
    "Error",
    "FrameInfo",
    "LimitError",
    "Lossless",
    "MaxBits",
    "MaxBytes",
    "MaxDrop",
    "Plan",
    "PointwiseRel",
    "ReferenceMismatch",
    "Rel",
    "Rule",
    "SaveReport",
    "ShardedArchive",
    "Std",
    "UnsupportedFrame",
    "VerifyReport",
    "compare",
    "compress",
    "decompress",
    "dumps",
    "info",
    "load",
    "loads",
    "open",
    "read",
    "save",
    "tune",
    "verify",
]
