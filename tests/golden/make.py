"""Writes the golden frames of this version: `python tests/golden/make.py`. Only for a change of the format's
version."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import whole  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
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


def scaled(seed: int, rows: int, width: int, row_spread: float, column_spread: float) -> NDArray[Any]:
    """A matrix whose rows and columns have scales of their own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width))
    x *= np.exp(rng.normal(0, row_spread, (rows, 1))) * np.exp(rng.normal(0, column_spread, (1, width)))
    return x.astype(np.float32)


def streams() -> dict[str, bytes]:
    """By name: every kind of symbol stream, and of how its levels are carried."""
    made = {}
    for name, spreads in {"rows": (1, 0), "columns": (0, 1), "both": (1, 1)}.items():
        made[f"classes-{name}"] = szdnn.compress(scaled(10, 40, 60, *spreads), szdnn.Std(0.2))
    # 8 lanes carry 16 bytes of levels, 64 lanes 128.
    made["classes-few-levels"] = szdnn.compress(scaled(12, 24, 2000, 1, 0), szdnn.Std(0.1), predictor="none")
    made["classes-many-levels"] = szdnn.compress(scaled(13, 560, 220, 1, 1), szdnn.Std(0.02), predictor="none")
    made["escapes"] = szdnn.compress(scaled(14, 50, 50, 2, 2), szdnn.Std(1e-3), predictor="none")
    rng = np.random.default_rng(15)
    sparse = np.where(rng.random((100, 300)) < 0.03, rng.normal(0, 20, (100, 300)), 0).astype(np.float32)
    made["dominant"] = szdnn.compress(sparse, szdnn.Abs(0.5), predictor="none")
    own = np.random.default_rng(23)
    rare = np.where(own.random(200_000) < 2e-4, own.normal(0, 4, 200_000), 0).astype(np.float32)
    made["sparse"] = szdnn.compress(rare, szdnn.Abs(1), predictor="none")
    made["sparse-flags"] = szdnn.compress(rare, szdnn.Abs(1e-3), predictor="none")
    assert szdnn.info(made["sparse"]).coder == "sparse"
    few = np.array([-7.1, -0.3, 0.01, 2.2, 6.5], np.float32)[rng.integers(0, 5, (40, 50))]
    few += rng.uniform(-4e-4, 4e-4, few.shape).astype(np.float32)
    made["palette"] = szdnn.compress(few, szdnn.Abs(1e-3), predictor="none")
    mixing = scaled(16, 40, 30, 0.5, 0.5)
    made["mixed"] = szdnn.compress(mixing, szdnn.Std(0.1), effort=9, predictor="none")
    made["mixed-lorenzo"] = szdnn.compress(mixing.cumsum(0), szdnn.Std(0.01), effort=9, predictor="lorenzo")
    made["interpolated"] = szdnn.compress(rng.normal(size=3000), szdnn.Std(0.1), predictor="none", coder="rans")
    return made


def base(name: str) -> NDArray[Any]:
    """The reference of the golden frames that have one."""
    return make_values("normal", 5, (11, 45), dtype_of(name))


def differences() -> dict[str, bytes]:
    """By name: every kind of frame with a reference, made of `base`."""
    made = {}
    nudges = 1 + np.random.default_rng(20).normal(0, 1e-3, (11, 45))
    for name in ("float16", "bfloat16", "float32", "float64"):
        x = (base(name).astype(np.float64) * nudges).astype(dtype_of(name))
        for kind in ("rel", "pointwise", "lossless"):
            made[f"reference-{name}-{kind}"] = szdnn.compress(
                x, BOUNDS[kind], reference=base(name), predictor="reference"
            )
    x, y = (base("float64") * nudges, base("float64"))
    made["reference-float64-wide"] = szdnn.compress(x, szdnn.Abs(1e-11), reference=y, predictor="reference")
    made["reference-float64-axis"] = szdnn.compress(x, szdnn.Abs([1e-2] * 11, axis=0), reference=y)
    made["reference-float64-mixed"] = szdnn.compress(x, szdnn.Rel(1e-3), reference=y, effort=9)
    return made


def interpolated(kind: str, shape: tuple[int, ...], dtype: Any, bound: szdnn.Bound) -> bytes:
    """A frame of the interpolation predictor."""
    return szdnn.compress(make_values(kind, 21, shape, dtype), bound, predictor="interpolation")


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
    for name in ("float16", "bfloat16", "float32", "float64"):
        made[f"interpolation-{name}"] = interpolated("smooth", (6, 9, 10), dtype_of(name), szdnn.Abs(1e-2))
    for shape in ((700,), (30, 41), (4, 5, 6, 7)):
        made[f"interpolation-{len(shape)}d"] = interpolated("smooth", shape, dtype_of("float32"), szdnn.Rel(1e-3))
    made["interpolation-fine"] = interpolated("smooth", (20, 21), dtype_of("float64"), szdnn.Rel(1e-9))
    made["interpolation-coarse"] = interpolated("smooth", (16, 17, 18), dtype_of("float32"), szdnn.Rel(3e-2))
    made["interpolation-zeros"] = interpolated("sparse", (20, 31), dtype_of("float32"), szdnn.Rel(1e-3))
    pixels = np.rint(make_values("smooth", 22, (20, 31), dtype_of("float64")) * 40)
    for eps in (0.3, 1.2):  # pixels apart by less and by more than the bound
        made[f"interpolation-grid-{eps}"] = szdnn.compress(
            pixels.astype("float32"), szdnn.Abs(eps), predictor="interpolation"
        )
    made["interpolation-special"] = interpolated("special", (300,), dtype_of("float32"), szdnn.Abs(1e-2))
    for kind in WEIGHT_KINDS:
        x = make_weights(kind, 7, 1500, dtype_of("float32"))
        made[f"weights-{kind.replace(' ', '-')}"] = szdnn.compress(x, szdnn.Lossless())
    for name in ("float16", "bfloat16", "float32", "float64"):
        x = np.resize(make_values("normal", 22, (230,), dtype_of(name)), 800)
        x[400:440:9] = 0
        for kind in ("abs", "pointwise", "lossless"):
            made[f"repeat-{name}-{kind}"] = szdnn.compress(x, BOUNDS[kind], predictor="repeat")
    special = make_values("special", 7, (300,), dtype_of("float64"))
    made["special"] = szdnn.compress(special, szdnn.Abs(1e-3))
    made["axis"] = szdnn.compress(
        make_values("normal", 8, (3, 50), dtype_of("float32")), szdnn.Abs([1e-1, 1e-2, 1e-3], axis=0)
    )
    made["axis-table"] = szdnn.compress(
        make_values("normal", 8, (40, 6), dtype_of("float32")), szdnn.Abs([1e-1, 1e-2, 1e-1, 1 / 3] * 10, axis=0)
    )
    made["integers"] = szdnn.compress(
        make_values("integers", 9, (400,), dtype_of("float32")).astype("int32"), szdnn.Lossless()
    )
    made["constant"] = szdnn.compress(make_values("constant", 9, (400,), dtype_of("float32")), szdnn.Rel(1e-3))
    return {name: bytes(frame) for name, frame in (made | streams() | differences()).items()}


def main() -> None:
    """Writes the frames and the digests of what they decode to, then the corpus and the archives."""
    whole.write()
    index = {}
    for name, frame in frames().items():
        (HERE / f"{name}.szd").write_bytes(frame)
        y = szdnn.decompress(frame, reference=base(name.split("-")[1]) if name.startswith("reference-") else None)
        index[name] = hashlib.sha256(f"{y.dtype} {y.shape} ".encode() + y.tobytes()).hexdigest()
    (HERE / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
