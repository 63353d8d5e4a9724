from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _numpy_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its devices are known without importing TensorFlow.
    monkeypatch.setenv("KERAS_BACKEND", "numpy")


def test_json_has_versions_backend_devices_and_folders(
    cellclf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path))
    facts = json.loads(cellclf("info", "--json").out)
    assert facts["napari-cellclf"] == version("napari-cellclf")
    assert facts["keras"] == version("keras")
    assert facts["python"] == platform.python_version()
    assert facts["backend"] == "numpy"
    assert facts["devices"] == ["CPU"]
    assert facts["engine"] in facts["engines"]
    assert facts["engines"][-1] == "keras"
    assert facts["models_folder"] == str(tmp_path)
    assert Path(facts["cache_folder"]).is_absolute()


def test_for_people_it_is_one_fact_a_line(cellclf: Run) -> None:
    result = cellclf("info")
    assert (result.code, result.err) == (0, "")
    assert result.lines[0].split() == ["napari-cellclf", version("napari-cellclf")]
    assert any(line.startswith("why no gpu") for line in result.lines)


def test_a_backend_that_does_not_exist_is_one_line(
    cellclf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    result = cellclf("info")
    assert result.code == 1
    assert result.err.startswith("cellclf: error: KERAS_BACKEND")
    assert result.err.count("\n") == 1
