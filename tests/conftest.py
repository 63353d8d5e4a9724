"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CELLCLF_DATA", _DEFAULT))
    if not folder.is_dir():
        pytest.skip("the real images are not here (set CELLCLF_DATA to their folder)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep windows and TensorFlow apart: in one process they crash each other."""
    windows = [item for item in items if "plugin" in item.path.parts]
    if len(windows) == len(items):
        return
    reason = "windows need a process without TensorFlow; run: pytest tests/plugin"
    for item in windows:
        item.add_marker(pytest.mark.skip(reason=reason))
