"""All instruction sets, other processors under qemu (a big-endian one too) and the reference decoder write the same
frames and read the same values."""

from __future__ import annotations

import os

import corpus
import pytest

from bench import platforms

CASES = corpus.cases()
LARGE = corpus.large()


def test_instruction_sets_agree_over_the_corpus():
    for finding in platforms.instruction_sets([*CASES, *LARGE]):
        assert finding.bad == 0, finding


def test_the_reference_decoder_agrees_over_the_corpus():
    finding = platforms.reference(CASES)
    assert finding.bad == 0, finding


@pytest.mark.skipif(os.environ.get("SZDNN_SANITIZED") == "1", reason="the other processors' core is another build")
@pytest.mark.parametrize("name", platforms.PLATFORMS)
def test_other_processors_agree(name):
    chain = platforms.PLATFORMS[name]
    if chain.missing:
        pytest.skip(f"needs {', '.join(chain.missing)} (apt-get install qemu-user gcc-{chain.compiler[:-4]})")
    finding = platforms.platform(name, chain, [*CASES, *LARGE[:1]])
    assert finding.bad == 0, finding
    assert finding.good > 190


def test_a_platform_that_differs_is_seen(monkeypatch):
    """The comparison is one that can fail."""
    wrong = platforms.Outcome(b"", b"")
    monkeypatch.setattr(platforms, "_outcome", lambda case: wrong)
    findings = platforms.instruction_sets(CASES[:3])
    assert all(finding.bad == 3 for finding in findings)
