"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test may depend on how busy the machine is.
settings.register_profile("any-load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-load")

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CELLCLF_DATA", _DEFAULT))
    if not folder.is_dir():
        pytest.skip("the real images are not here (set CELLCLF_DATA to their folder)")
    return folder
