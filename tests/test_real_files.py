"""Real checkpoints through the command line and back (SZDNN_DATA names their folder)."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file
from tensors import assert_within

import szdnn
from szdnn.cli import main

FILES = ["resnet20_cifar_jpeg.safetensors", "resnet32_cifar_jpeg.safetensors"]


def run(*arguments: object) -> None:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("r", [1e-1, 1e-2, 1e-3, 1e-4])
def test_every_weight_within_its_bound_and_all_else_equal(data_folder, tmp_path, name, r):
    archive, back = tmp_path / "a.szd.safetensors", tmp_path / "back.safetensors"
    run("compress", data_folder / name, "--rel", r, "-o", archive, "-q")
    run("test", archive)
    run("decompress", archive, "-o", back, "-q")
    original, decoded = load_file(data_folder / name), load_file(back)
    assert list(original) == list(decoded)
    lossy = 0
    for key, x in original.items():
        exact = x.dtype != np.float32 or x.size < 1024 or (x.ndim == 1 and x.size < 65536) or "running" in key
        lossy += not exact
        width = float(x.max()) - float(x.min()) if x.size else 0.0
        assert_within(x, decoded[key], None if exact else r * width * (1 + 1e-12), None)
    assert lossy > 10
    assert archive.stat().st_size < (data_folder / name).stat().st_size / 2


@pytest.mark.parametrize("name", FILES)
def test_lossless_restores_the_file(data_folder, tmp_path, name):
    archive, back = tmp_path / "a.szd.safetensors", tmp_path / "back.safetensors"
    run("compress", data_folder / name, "--lossless", "-o", archive, "-q")
    run("decompress", archive, "-o", back, "-q")
    assert back.read_bytes() == (data_folder / name).read_bytes()


@pytest.mark.parametrize("bound", [szdnn.Rel(1e-2), szdnn.Std(1e-1), szdnn.PointwiseRel(1e-2), szdnn.Bits(4)])
def test_weights_of_a_network_by_every_bound(data_folder, bound):
    for x in load_file(data_folder / FILES[0]).values():
        if x.dtype == np.float32 and x.size >= 1024:
            frame = szdnn.compress(x, bound)
            assert szdnn.compare(x, szdnn.decompress(frame), szdnn.info(frame)).violations == 0
