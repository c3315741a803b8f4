"""What `szdnn diff` says of errors: histograms, the PNG, structural similarity."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import szdnn
from szdnn.cli import main
from szdnn.diff_errors import BINS, histogram, is_image, ssim


def image(seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[0:64, 0:80] / 20
    return (np.sin(x) * np.cos(y) + np.random.default_rng(seed).normal(0, 0.01, x.shape)).astype(np.float32)


def test_a_histogram_counts_every_finite_error():
    a = np.zeros(1000)
    b = np.linspace(-2, 2, 1000)
    b[3] = np.nan
    found = histogram("x", a, b)
    assert sum(found.counts) == 999
    assert found.largest == 2.0
    assert max(found.counts) - min(found.counts) <= 2
    assert len(found.bars()) == BINS
    assert histogram("x", a, a).largest == 0.0


def test_similarity_is_one_for_the_same_and_falls_with_noise():
    a = image()
    values = [ssim(a, a + s * image(1)) for s in (0.0, 0.01, 0.1, 1.0)]
    assert values[0] == pytest.approx(1.0)
    assert values == sorted(values, reverse=True)
    assert ssim(a, -a) < 0.5
    assert np.isnan(ssim(a, np.full_like(a, np.nan)))
    assert is_image(a)
    assert is_image(np.stack([a] * 3, -1))
    assert not is_image(a[:5])
    assert not is_image(np.stack([a] * 5, -1))


def test_similarity_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = image(), image(1)
    # scikit-image leaves out the windows at the border, as sliding ones do
    expected = metrics.structural_similarity(a, b, data_range=float(np.ptp(a)))
    assert ssim(a, b) == pytest.approx(expected, abs=1e-6)


def test_the_command_shows_them(tmp_path):
    np.save(tmp_path / "a.npy", image())
    runner = CliRunner()
    assert runner.invoke(main, ["compress", str(tmp_path / "a.npy"), "--psnr", "60"]).exit_code == 0
    archive = next(path for path in tmp_path.iterdir() if ".szd" in path.name)
    args = ["diff", str(tmp_path / "a.npy"), str(archive), "--histogram", "--plot", str(tmp_path / "p.png")]
    shown = runner.invoke(main, args)
    assert shown.exit_code == 1, shown.output
    assert "ssim" in shown.output
    assert "█" in shown.output
    pytest.importorskip("matplotlib")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    (restored,) = szdnn.load(archive).values() if isinstance(szdnn.load(archive), dict) else (szdnn.load(archive),)
    error = restored.astype(float) - image()
    assert 20 * np.log10(np.ptp(image()) / np.sqrt(np.mean(error**2))) >= 60
