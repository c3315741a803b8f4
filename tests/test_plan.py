import ml_dtypes
import numpy as np
import pytest

from szdnn.bounds import Abs, Lossless, PointwiseRel, Rel
from szdnn.plan import array_bound, bound_for

F32 = np.dtype(np.float32)
BF16 = np.dtype(ml_dtypes.bfloat16)
REL = Rel(1e-3)


@pytest.mark.parametrize("dtype", [np.float16, BF16, np.float32, np.float64, ">f4"])
def test_large_float_matrices_get_the_bound_asked_for(dtype):
    assert bound_for("layer.weight", np.dtype(dtype), (32, 32), REL) == REL


@pytest.mark.parametrize(
    "dtype", [np.int64, np.uint8, np.bool_, np.complex64, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
)
def test_other_dtypes_are_lossless(dtype):
    assert bound_for("layer.weight", np.dtype(dtype), (1000, 1000), REL) == Lossless()
    assert array_bound(np.dtype(dtype), REL) == Lossless()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), Lossless()),
        ((0, 5), Lossless()),
        ((1023,), Lossless()),
        ((31, 33), Lossless()),
        ((32, 32), REL),
        ((65_535,), Lossless()),
        ((65_536,), REL),
        ((1, 1024), REL),
    ],
)
def test_small_tensors_and_vectors_are_lossless(shape, expected):
    assert bound_for("w", F32, shape, REL) == expected


@pytest.mark.parametrize("name", ["bn.running_mean", "running_var", "model/bn1.num_batches_tracked"])
def test_statistics_are_lossless(name):
    assert bound_for(name, F32, (1000, 1000), REL) == Lossless()


@pytest.mark.parametrize("name", ["optimizer/state/0/exp_avg_sq", "max_exp_avg_sq", "0.square_avg"])
def test_second_moments_are_bounded_pointwise(name):
    assert bound_for(name, F32, (1000, 1000), Abs(1.0)) == PointwiseRel(1e-2)
    assert bound_for(name, F32, (1000, 1000), PointwiseRel(1e-1)) == PointwiseRel(1e-2)
    assert bound_for(name, F32, (1000, 1000), PointwiseRel(1e-4)) == PointwiseRel(1e-4)
    assert bound_for(name, F32, (10,), REL) == Lossless()


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq.weight", "my_running_mean", "w"])
def test_names_count_only_whole_and_last(name):
    assert bound_for(name, F32, (1000, 1000), REL) == REL


@pytest.mark.parametrize("name", ["w", "exp_avg_sq", "running_mean"])
def test_lossless_means_everything(name):
    assert bound_for(name, F32, (1000, 1000), Lossless()) == Lossless()


def test_plain_arrays_have_no_size_rules():
    assert array_bound(F32, REL) == REL
