"""Shared settings: hypothesis without deadlines, `bench` importable beside the installed package, the data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # at the end: szdnn is the installed one

settings.register_profile(
    "szdnn", deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile(
    "quick", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("SZDNN_HYPOTHESIS", "szdnn"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; tests that need it are skipped where SZDNN_DATA does not name one."""
    folder = os.environ.get("SZDNN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SZDNN_DATA does not name the folder of data sets")
    return Path(folder)
