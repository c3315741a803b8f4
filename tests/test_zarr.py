"""zarr, numcodecs, xarray and Dask: do arrays come back within the bound, from disk and from s3?"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_remote import s3, s3_server  # noqa: F401  fixtures

import szdnn

numcodecs = pytest.importorskip("numcodecs")
zarr = pytest.importorskip("zarr", minversion="3.1")

from szdnn.integrations.numcodecs import Szdnn  # noqa: E402
from szdnn.integrations.zarr import SzdnnCodec  # noqa: E402

numcodecs.register_codec(Szdnn)  # what the entry points do where szdnn is installed
zarr.registry.register_codec("szdnn", SzdnnCodec)

EPS = 1e-3
FLOATS = ["float16", "float32", "float64"]


def field(shape: tuple[int, ...], dtype: str = "float32") -> NDArray[Any]:
    axes = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij", sparse=True)
    values = sum(np.sin(a + i) for i, a in enumerate(axes))
    return (values + np.random.default_rng(0).normal(0, 1e-3, shape)).astype(dtype)


def create(store: Any, zarr_format: int, x: NDArray[Any], bound: szdnn.Bound, chunks: tuple[int, ...]) -> Any:
    codecs = (
        {"serializer": SzdnnCodec(bound), "compressors": None}
        if zarr_format == 3
        else {"compressors": Szdnn(bound), "filters": None}
    )
    made = zarr.create_array(
        store, shape=x.shape, chunks=chunks, dtype=x.dtype, zarr_format=zarr_format, overwrite=True, **codecs
    )
    made[...] = x
    return zarr.open_array(store, mode="r+", zarr_format=zarr_format)


def close(x: NDArray[Any], y: Any, eps: float = EPS) -> bool:
    return x.dtype == y.dtype and bool((np.abs(x.astype(float) - np.asarray(y).astype(float)) <= eps).all())


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_store_on_disk(tmp_path, zarr_format, dtype):
    x = field((50, 37, 20), dtype)
    a = create(tmp_path / "a.zarr", zarr_format, x, szdnn.Abs(EPS), (16, 16, 20))
    assert close(x, a[...])
    assert close(x[7:40:3, 5, ::-1], a[7:40:3, 5, :][:, ::-1])
    stored = sum(p.stat().st_size for p in (tmp_path / "a.zarr").rglob("*") if p.is_file())
    assert dtype == "float16" or stored < x.nbytes / 2


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_is_appended_to(tmp_path, zarr_format):
    x = field((40, 30))
    a = create(tmp_path / "a.zarr", zarr_format, x[:25], szdnn.Abs(EPS), (10, 30))
    a.append(x[25:])
    a[0, 0] = 7.0
    again = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert again.shape == x.shape
    assert abs(again[0, 0] - 7) <= EPS
    assert np.abs(again[1:] - x[1:]).max() <= 2 * EPS  # chunks that were rewritten are lossy twice


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_on_s3(s3, zarr_format):  # noqa: F811
    url, system = s3
    x = field((30, 40))
    create(f"{url}/a.zarr", zarr_format, x, szdnn.Abs(EPS), (16, 16))
    assert close(x[3:20, 10:35], zarr.open_array(f"{url}/a.zarr", mode="r")[3:20, 10:35])
    assert any("a.zarr" in name for name in system.find(url))


@pytest.mark.parametrize(
    "bound", [szdnn.Rel(1e-3), szdnn.Abs(0.5), szdnn.PointwiseRel(1e-2), szdnn.Rel(0.1, range=(0, 1)), szdnn.Lossless()]
)
def test_configurations_survive_json(bound):
    codec = Szdnn(bound, effort=5, predictor="lorenzo")
    assert numcodecs.get_codec(json.loads(json.dumps(codec.get_config()))) == codec
    third = SzdnnCodec(bound, effort=5, predictor="lorenzo")
    assert SzdnnCodec.from_dict(json.loads(json.dumps(third.to_dict()))) == third


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64", "float32"])
def test_lossless_keeps_any_dtype(tmp_path, dtype):
    x = (field((20, 30)) * 100).astype(dtype)
    for zarr_format in (2, 3):
        a = create(tmp_path / f"{zarr_format}.zarr", zarr_format, x, szdnn.Lossless(), (7, 30))
        np.testing.assert_array_equal(x, a[...])


def test_what_cannot_be_is_refused(tmp_path):
    integers = np.arange(20, dtype=np.int32)
    with pytest.raises(szdnn.BoundError, match="int32"):
        create(tmp_path / "a.zarr", 3, integers, szdnn.Rel(1e-3), (20,))
    with pytest.raises(szdnn.BoundError):
        Szdnn(szdnn.Rel(1e-3)).encode(integers)
    with pytest.raises(szdnn.ArgumentError, match="byte order"):
        Szdnn(szdnn.Rel(1e-3)).encode(integers.astype(">f4"))
    with pytest.raises(szdnn.ArgumentError, match="szdnn codec"):
        Szdnn({"bound": "None such"})
    with pytest.raises(szdnn.CorruptFrame):
        Szdnn().decode(Szdnn().encode(integers)[:-1])


def test_bfloat16_through_numcodecs():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = field((40, 40)).astype(ml_dtypes.bfloat16)
    y = Szdnn(szdnn.Abs(1e-2)).decode(Szdnn(szdnn.Abs(1e-2)).encode(x))
    assert close(x, y, 1e-2)


def test_an_xarray_dataset(tmp_path):
    xarray = pytest.importorskip("xarray")
    x = field((24, 30, 40))
    data = xarray.Dataset({"t": (("time", "y", "x"), x), "n": (("time",), np.arange(24))})
    encoding = {"t": {"serializer": SzdnnCodec(szdnn.Abs(EPS)), "compressors": None, "chunks": (8, 30, 40)}}
    data.to_zarr(tmp_path / "d.zarr", zarr_format=3, encoding=encoding, consolidated=False)
    back = xarray.open_zarr(tmp_path / "d.zarr", consolidated=False, chunks=None)
    assert close(x, back["t"].values)
    assert close(x[3:9, 4], back["t"].isel(time=slice(3, 9), y=4).values)
    np.testing.assert_array_equal(back["n"], np.arange(24))


def test_dask_arrays_on_two_processes(tmp_path):
    distributed = pytest.importorskip("distributed")
    array = pytest.importorskip("dask.array")
    x = field((64, 40, 30))
    a = zarr.create_array(
        tmp_path / "a.zarr", shape=x.shape, chunks=(16, 40, 30), dtype=x.dtype, serializer=SzdnnCodec(szdnn.Abs(EPS)),
        compressors=None,
    )  # fmt: skip
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        client.run(_register)
        array.store(array.from_array(x, chunks=(16, 40, 30)), a, lock=False)
        back = array.from_zarr(tmp_path / "a.zarr").compute()
    assert close(x, back)


def _register() -> None:
    from szdnn.integrations.zarr import SzdnnCodec as codec

    zarr.registry.register_codec("szdnn", codec)
