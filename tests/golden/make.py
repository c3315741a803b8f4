"""Writes the golden frames of this version: `python tests/golden/make.py`. Only for a change of the format's
version."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tensors import WEIGHT_KINDS, dtype_of, make_values, make_weights  # noqa: E402

import szdnn  # noqa: E402

BOUNDS = {
    "abs": szdnn.Abs(1e-2),
    "rel": szdnn.Rel(1e-3),
    "std": szdnn.Std(1e-1),
    "pointwise": szdnn.PointwiseRel(1e-2),
    "psnr": szdnn.PSNR(50),
    "rmse": szdnn.RMSE(1e-2),
    "bits": szdnn.Bits(9),
    "lossless": szdnn.Lossless(),
}


def frames() -> dict[str, bytes]:
    """By name: every dtype, bound, predictor and coder."""
    made = {}
    for name in ("float16", "bfloat16", "float32", "float64"):
        for kind, bound in BOUNDS.items():
            x = make_values("normal", 5, (11, 45), dtype_of(name))
            made[f"{name}-{kind}"] = szdnn.compress(x, bound)
    for predictor in ("none", "lorenzo", "regression"):
        for coder in ("rans", "huffman"):
            x = make_values("smooth", 6, (6, 9, 10), dtype_of("float32"))
            made[f"{predictor}-{coder}"] = szdnn.compress(x, szdnn.Abs(1e-2), predictor=predictor, coder=coder)
    for kind in WEIGHT_KINDS:
        x = make_weights(kind, 7, 1500, dtype_of("float32"))
        made[f"weights-{kind.replace(' ', '-')}"] = szdnn.compress(x, szdnn.Lossless())
    special = make_values("special", 7, (300,), dtype_of("float64"))
    made["special"] = szdnn.compress(special, szdnn.Abs(1e-3))
    made["axis"] = szdnn.compress(
        make_values("normal", 8, (3, 50), dtype_of("float32")), szdnn.Abs([1e-1, 1e-2, 1e-3], axis=0)
    )
    made["integers"] = szdnn.compress(
        make_values("integers", 9, (400,), dtype_of("float32")).astype("int32"), szdnn.Lossless()
    )
    made["constant"] = szdnn.compress(make_values("constant", 9, (400,), dtype_of("float32")), szdnn.Rel(1e-3))
    return {name: bytes(frame) for name, frame in made.items()}


def main() -> None:
    """Writes the frames and the digests of what they decode to."""
    index = {}
    for name, frame in frames().items():
        (HERE / f"{name}.szd").write_bytes(frame)
        y = szdnn.decompress(frame)
        index[name] = hashlib.sha256(f"{y.dtype} {y.shape} ".encode() + y.tobytes()).hexdigest()
    (HERE / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
