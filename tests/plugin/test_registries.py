"""The setting in napari's preferences, through napari's own settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_cellclf.bundles import model_lists
from napari_cellclf.bundles.model_lists import registry_places
from napari_cellclf.plugin.shared.preferences import share_registries

napari_settings = pytest.importorskip("napari.settings", reason="plugins have settings since 0.9")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    found = tmp_path / "config" / "yours.txt", tmp_path / "config" / "naparis.txt"
    monkeypatch.setattr(model_lists, "settings_files", lambda: found)
    monkeypatch.setattr("napari_cellclf.plugin.shared.preferences.settings_files", lambda: found)
    monkeypatch.delenv("CELLCLF_REGISTRY", raising=False)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Any]:
    napari_settings._clear_plugin_settings_cache()
    yield napari_settings.get_plugin_settings("napari-cellclf", path_dir=tmp_path).models
    napari_settings._clear_plugin_settings_cache()


def test_the_command_line_reads_what_napari_was_told(
    files: tuple[Path, Path], settings: Any
) -> None:
    settings.registries = os.pathsep.join(["https://a.org/models.json", "/share/models.json"])
    share_registries()
    assert registry_places() == ("https://a.org/models.json", "/share/models.json")
    settings.registries = ""
    share_registries()
    assert registry_places() == ()


def test_what_was_written_by_hand_is_left_alone(files: tuple[Path, Path], settings: Any) -> None:
    files[0].parent.mkdir()
    files[0].write_text("# ours\n/share/ours.json\n")
    settings.registries = "/share/naparis.json"
    share_registries()
    assert files[0].read_text() == "# ours\n/share/ours.json\n"
    assert registry_places() == ("/share/ours.json", "/share/naparis.json")


def test_without_a_setting_nothing_is_written(files: tuple[Path, Path], settings: Any) -> None:
    share_registries()
    assert not files[0].parent.exists()
