"""Shared settings: hypothesis profiles (SZDNN_HYPOTHESIS=quick or long), where bench is, the data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # at the end: szdnn is the installed one

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
for name, examples in {"quick": 40, "szdnn": 300, "long": 5000}.items():
    # On CI the same examples each time: what is new there shall be the change, not the dice.
    settings.register_profile(
        name, deadline=None, max_examples=examples, suppress_health_check=CHECKS, derandomize="CI" in os.environ
    )
settings.load_profile(os.environ.get("SZDNN_HYPOTHESIS", "szdnn"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; tests that need it are skipped where SZDNN_DATA does not name one."""
    folder = os.environ.get("SZDNN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SZDNN_DATA does not name the folder of data sets")
    return Path(folder)
