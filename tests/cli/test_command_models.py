from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]


@pytest.fixture
def my_models(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(bundle, folder / bundle.name)
    monkeypatch.setenv("CELLCLF_MODELS", str(folder))
    return folder


def test_list_names_the_users_models(cellclf: Run, my_models: Path) -> None:
    result = cellclf("models", "list")
    assert result.code == 0
    line = result.lines[0]
    for part in ("tiny", "2 classes", "3 channels", "mine", "Bright nuclei or bright reticulum"):
        assert part in line


def test_list_as_json(cellclf: Run, my_models: Path) -> None:
    first = json.loads(cellclf("models", "list", "--json").out)[0]
    assert first["name"] == "tiny"
    assert first["classes"] == ["nuclei", "reticulum"]
    assert Path(first["path"]) == my_models / "tiny.cellclf"


@pytest.mark.parametrize("option", [(), ("--json",), ("-v",)])
def test_list_says_which_bundles_cannot_be_used(
    cellclf: Run, my_models: Path, option: tuple[str, ...]
) -> None:
    for name in ("broken", "empty"):
        (my_models / f"{name}.cellclf").mkdir()
    (my_models / "broken.cellclf" / "bundle.json").write_text("{")
    result = cellclf("models", "list", *option)
    assert result.code == 0
    assert "tiny" in result.out
    first, second = result.err.splitlines()
    assert first.startswith("cellclf: ")
    assert "broken.cellclf" in first
    assert "empty.cellclf" in second


def test_without_models_it_says_where_they_go(
    cellclf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "none"))
    monkeypatch.setattr("napari_cellclf.bundles.catalogue.bundled_folder", lambda: tmp_path / "no")
    result = cellclf("models", "list")
    assert result.code == 0
    assert str(tmp_path / "none") in result.out


@pytest.mark.parametrize("by_name", [True, False])
def test_show_tells_what_it_is_and_what_it_cannot(
    cellclf: Run, my_models: Path, by_name: bool
) -> None:
    result = cellclf("models", "show", "tiny" if by_name else my_models / "tiny.cellclf")
    assert result.code == 0
    for part in (
        "w1 Hoechst",
        "w5 MitoTracker",
        "`nuclei`",
        "made up",
        "CC0-1.0",
        "knows nothing of cells",
    ):
        assert part in result.out
    assert str(my_models / "tiny.cellclf") in result.out


def test_show_as_json_is_the_whole_spec(cellclf: Run, my_models: Path) -> None:
    spec = json.loads(cellclf("models", "show", "tiny", "--json").out)
    assert spec["name"] == "tiny"
    assert spec["limits"] == ["It was made for tests and knows nothing of cells."]


def test_an_unknown_model_is_one_line_that_names_those_there_are(
    cellclf: Run, my_models: Path
) -> None:
    result = cellclf("models", "show", "tinny")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("cellclf: error: ")
    assert "tiny" in result.err


def test_a_damaged_model_is_one_line(cellclf: Run, my_models: Path) -> None:
    (my_models / "tiny.cellclf" / "test_input.npy").write_bytes(b"x")
    result = cellclf("models", "show", "tiny")
    assert result.code == 1
    assert "test_input.npy" in result.err
    assert result.err.count("\n") == 1
