"""The format stands still: golden frames and archives of every dtype, bound, predictor and coder decode to what they
did, and the encoder writes what it wrote, as long as the version is the same."""

from __future__ import annotations

import sys
from pathlib import Path

import corpus
import pytest

import szdnn
from szdnn import _native, archive, archive_layout

sys.path.append(str(Path(__file__).parent / "golden"))
import whole

INDEX = whole.index()
FRAMES = whole.frames()
CASES = {case.name: case for case in corpus.cases()}
CHANGED = (
    "the encoder no longer writes what this version wrote. If FORMAT.md changed, its version has to (version 0 may "
    "change); then, or if only the encoder's choices changed: python tests/golden/make.py"
)


def test_golden_frames_and_archives_decode_to_what_they_did():
    assert whole.changed() == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_encoder_writes_what_this_version_wrote(name):
    frame = CASES[name].frame
    if whole.version_of(frame) != INDEX["frame_version"]:
        pytest.skip("a new version of the format: python tests/golden/make.py")
    assert name in FRAMES, CHANGED
    assert frame == FRAMES[name], CHANGED


def test_archives_are_laid_out_as_this_version_wrote_them():
    """But for the bytes of zstd, which may differ with its version."""
    assert INDEX["archive_version"] == archive_layout.VERSION
    stored = whole.archives()
    for name, data in corpus.archives().items():
        with archive.Archive(data) as new, archive.Archive(stored[name]) as old:
            assert new.skeleton == old.skeleton, CHANGED
            assert list(new) == list(old)
            assert all(new.frame(key).tobytes() == old.frame(key).tobytes() for key in new), CHANGED


def test_the_corpus_has_every_dtype_bound_predictor_and_coder():
    infos = {name: szdnn.info(frame) for name, frame in FRAMES.items()}
    assert {info.dtype.name for info in infos.values()} == {dtype.name for dtype in corpus.CODES}
    for dtype in corpus.FLOATS:
        mine = {name: info for name, info in infos.items() if name.startswith(f"{dtype} ")}
        assert {type(info.bound).__name__ for info in mine.values()} >= {
            "Abs", "Rel", "Std", "PointwiseRel", "PSNR", "RMSE", "Bits", "Lossless",
        }  # fmt: skip
        assert {info.predictor for info in mine.values()} >= set(corpus.predictors())
    assert set(_native.PREDICTORS) - set(corpus.predictors()) <= corpus.OWN_TESTS


def test_a_frame_that_decodes_to_something_else_is_seen(monkeypatch, tmp_path):
    monkeypatch.setattr(whole, "frames", lambda: {**FRAMES, "float32 abs": FRAMES["float32 rel"]})
    assert whole.changed() == ["float32 abs"]
