"""File names of other people in napari: dropped, in the preferences, and in both widgets."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from npe2 import PluginManager

from napari_cellclf.core import extensions
from napari_cellclf.plugin import reader
from napari_cellclf.plugin.classify.form import FOLDER_TAB
from napari_cellclf.plugin.classify.request import ModelChoice, plan_folder
from napari_cellclf.plugin.shared import file_names
from napari_cellclf.plugin.shared.messages import Refusal
from napari_cellclf.plugin.train.data import DataQuestion, ask, find

KEY = "cellclf"
PATTERN = "{plate}/{well}_s{site}_W{channel}.tif"


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    """Two classes of two wells, two sites, three channels; the last site lacks channel 3."""
    root = tmp_path / "screen"
    for label in ("control", "treated"):
        for well in ("B02", "B03"):
            for site in (1, 2):
                for channel in (1, 2, 3):
                    if (label, well, site, channel) == ("treated", "B03", 2, 3):
                        continue
                    path = root / label / "plate1" / f"{well}_s{site}_W{channel}.tif"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    tifffile.imwrite(path, np.full((48, 48), 10 * site + channel, np.uint8))
    return root


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(reader, "_notify", messages.append)
    monkeypatch.setattr(reader, "_told_at", {})
    return messages


@pytest.fixture
def preferred(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the pattern stand in napari's preferences."""
    from napari.settings import get_plugin_settings

    PluginManager.instance().discover()
    files = get_plugin_settings("napari-cellclf").files
    monkeypatch.setattr(files, "naming", PATTERN)
    file_names.offer_to_read()
    yield
    monkeypatch.undo()
    file_names.offer_to_read()


def readers_of(name: str) -> set[str]:
    return {found.plugin_name for found in PluginManager.instance().iter_compatible_readers([name])}


@pytest.mark.usefixtures("preferred")
def test_a_dropped_file_opens_its_image(
    make_napari_viewer: Any, screen: Path, told: list[str]
) -> None:
    viewer = make_napari_viewer()
    name = screen / "control" / "plate1" / "B02_s1_W2.tif"
    assert "napari-cellclf" in readers_of(str(name))
    viewer.open(name, plugin="napari-cellclf")
    assert [layer.metadata[KEY]["channel"] for layer in viewer.layers] == [
        "channel 1", "channel 2", "channel 3",
    ]  # fmt: skip
    assert viewer.layers[0].name == "channel 1 | plate plate1, well B02, site 1"
    assert [layer.colormap.name for layer in viewer.layers] == ["blue", "green", "red"]
    assert viewer.layers[0].metadata[KEY]["naming"] == PATTERN
    # The other files that were dropped with it are open already.
    viewer.open(name.with_name("B02_s1_W3.tif"), plugin="napari-cellclf")
    assert len(viewer.layers) == 3
    assert len(told) == 1


def test_a_changed_preference_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari.settings import get_plugin_settings

    PluginManager.instance().discover()
    files = get_plugin_settings("napari-cellclf").files
    file_names.offer_to_read()
    for pattern, expected in (("{x}-{channel}.tif", {"napari-cellclf"}), ("", set())):
        monkeypatch.setattr(files, "naming", pattern)
        found = {one for one in readers_of("B02-1.tif") if one.startswith("napari-cellclf")}
        assert found == expected


@pytest.mark.usefixtures("preferred")
def test_a_dropped_folder_opens_as_a_stack(
    make_napari_viewer: Any, screen: Path, told: list[str]
) -> None:
    viewer = make_napari_viewer()
    viewer.open(screen / "treated", plugin="napari-cellclf")
    assert len(viewer.layers) == 3
    assert viewer.layers[0].data.shape == (4, 48, 48)
    assert "1 of the 4 sites in screen treated" in told[0]
    assert "channel 3" in told[0]


@pytest.fixture
def opera_phenix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the example of the pages on extending, as a stranger would."""
    site = tmp_path / "site"
    info = site / "opera_phenix-1.0.dist-info"
    info.mkdir(parents=True)
    example = Path(__file__).resolve().parents[2] / "docs" / "extending" / "opera_phenix.py"
    shutil.copy(example, site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opera_phenix\nVersion: 1.0\n")
    entry = "[napari_cellclf.naming]\nopera-phenix = opera_phenix:OPERA_PHENIX\n"
    (info / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(site)
    extensions._declared.cache_clear()
    PluginManager.instance().discover()
    yield
    sys.modules.pop("opera_phenix", None)
    monkeypatch.undo()
    extensions._declared.cache_clear()
    extensions._loaded.cache_clear()
    file_names.offer_to_read()


@pytest.mark.usefixtures("opera_phenix")
def test_names_of_another_package_open_as_channels(
    make_napari_viewer: Any, tmp_path: Path, told: list[str]
) -> None:
    for field, channels in ((1, (1, 2, 10)), (2, (1, 2))):
        for channel in channels:
            name = f"r02c03f{field:02d}p01-ch{channel}sk1fk1fl1.tiff"
            tifffile.imwrite(tmp_path / name, np.full((48, 48), channel, np.uint8))
    viewer = make_napari_viewer()
    file_names.offer_to_read()
    first = tmp_path / "r02c03f01p01-ch2sk1fk1fl1.tiff"
    assert "napari-cellclf" in readers_of(str(first))
    viewer.open(first, plugin="napari-cellclf")
    assert [layer.name for layer in viewer.layers] == [
        f"channel {code} | well B03, site 1, plane 1, time 1" for code in (1, 2, 10)
    ]
    viewer.open(tmp_path / "r02c03f02p01-ch1sk1fk1fl1.tiff", plugin="napari-cellclf")
    assert len(viewer.layers) == 5
    assert told == [
        "well B03, site 2, plane 1, time 1 has no file for channel 10; the other channels were "
        "opened."
    ]


def test_without_the_preference_they_are_plain_files(screen: Path) -> None:
    name = screen / "control" / "plate1" / "B02_s1_W2.tif"
    assert reader.get_reader(str(name)) is None
    assert reader.get_reader(str(screen)) is None
    assert not {one for one in readers_of(str(name)) if one.startswith("napari-cellclf")}


def test_a_preference_that_is_no_pattern_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari.settings import get_plugin_settings

    PluginManager.instance().discover()
    monkeypatch.setattr(get_plugin_settings("napari-cellclf").files, "naming", "{well")
    assert file_names.preferred_naming() is None


def test_classify_shows_how_names_are_read(open_widget: Any, qtbot: Any, screen: Path) -> None:
    _, widget = open_widget()
    form = widget.form
    form.tabs.setCurrentIndex(FOLDER_TAB)
    form.folder.set_path(str(screen))
    form.naming.set_naming(PATTERN)
    expected = "23 of 23 file names are understood\ncontrol/plate1/B02_s1_W1.tif -> plate plate1,"
    qtbot.waitUntil(lambda: form.naming.preview.text().startswith(expected), timeout=10_000)
    assert not form.naming.preview.isHidden()
    form.naming.set_naming("{well")
    qtbot.waitUntil(lambda: "brace" in form.naming.preview.text(), timeout=10_000)


def test_what_is_planned_has_the_naming(screen: Path) -> None:
    model = ModelChoice("rxrx1-celltype", "", (), ())
    request = plan_folder(model, str(screen), PATTERN)
    assert not isinstance(request, Refusal)
    assert request.naming == PATTERN
    assert request.command.endswith(f"--naming '{PATTERN}'")
    refused = plan_folder(model, str(screen), "{well")
    assert isinstance(refused, Refusal)
    assert "brace" in refused.message


def test_train_reads_by_the_naming(screen: Path) -> None:
    question = ask(str(screen), naming=PATTERN)
    assert isinstance(question, DataQuestion)
    found = find(question)
    assert len(found.dataset) == 8
    assert found.dataset.naming == PATTERN
    assert set(found.groups) >= {"well", "site"}
    refused = ask(str(screen), naming="{well")
    assert isinstance(refused, Refusal)
