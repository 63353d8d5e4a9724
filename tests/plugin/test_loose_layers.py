"""Layers without names of their own, images of one name, files of a folder: told apart and used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_cellclf.core.stains import STAINS
from napari_cellclf.plugin.classify.form import FOLDER_TAB
from napari_cellclf.plugin.classify.results import plane_name

pytestmark = pytest.mark.timeout(600)

PATIENCE = 300_000
LEFT = Qt.MouseButton.LeftButton
KEY = "cellclf"


def settle(qtbot: Any, widget: Any) -> None:
    """Let the widget take notice of what changed in the viewer."""
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)


def classify(qtbot: Any, widget: Any) -> None:
    """Click the button and wait for the end."""
    settle(qtbot, widget)
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.runner.running, widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)


def test_six_loose_layers_in_order_are_one_click(
    open_widget: Any, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget()
    # As after opening six files: the last layer alone is selected.
    layers = [viewer.add_image(plane, name=f"export {i}") for i, plane in enumerate(site_pixels)]
    settle(qtbot, widget)
    form = widget.form
    assert form.image.currentText() == "all 6 single layers together"
    assert "press Match in order" in form.message.text()
    assert "the lowest is the first" in form.message.text()
    qtbot.mouseClick(form.channels._order, LEFT)
    assert form.channels.sources() == (0, 1, 2, 3, 4, 5)
    classify(qtbot, widget)
    used = layers[0].metadata[KEY]["result"]["channels"]
    assert used == {stain: f"export {i}" for i, stain in enumerate(STAINS)}


def test_selected_layers_are_taken_in_order_too(
    open_widget: Any, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget()
    layers = [viewer.add_image(plane, name=f"export {i}") for i, plane in enumerate(site_pixels)]
    viewer.add_image(np.zeros((48, 48)), name="not of it")
    settle(qtbot, widget)
    assert "select all 6 layers" in widget.form.message.text()
    viewer.layers.selection = set(layers)
    settle(qtbot, widget)
    qtbot.mouseClick(widget.form.channels._order, LEFT)
    assert widget.form.classify.isEnabled()
    assert widget.form.channels.box(5).currentText() == "export 5"


def test_a_channel_that_is_used_twice_counts_once(
    open_widget: Any, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget()
    layers = [viewer.add_image(site_pixels[i], name=name) for i, name in enumerate(STAINS)]
    viewer.layers.selection = set(layers)
    settle(qtbot, widget)
    channels = widget.form.channels
    assert channels._header.text().endswith("6 of 6 found")
    channels.unfold(True)
    qtbot.keyClick(channels.box(1), Qt.Key.Key_Up)
    assert "5 of 6 found, some used twice" in channels._header.text()
    message = widget.form.message
    assert message.text().startswith(f"{STAINS[0]} is used for {STAINS[0]} and {STAINS[1]};")
    assert message.is_wrong()


def test_the_tab_key_reaches_every_channel(open_widget: Any, qtbot: Any, site_pixels: Any) -> None:
    viewer, widget = open_widget()
    viewer.window.show()
    layers = [viewer.add_image(plane, name=f"export {i}") for i, plane in enumerate(site_pixels)]
    viewer.layers.selection = set(layers)
    settle(qtbot, widget)
    channels = widget.form.channels
    widget.window().activateWindow()
    channels._header.setFocus()
    qtbot.waitUntil(channels._header.hasFocus, timeout=5000)
    for expected in (channels._order, *(channels.box(i) for i in range(6))):
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert QApplication.focusWidget() is expected


def test_two_plates_of_one_name_are_told_apart(
    open_widget: Any, qtbot: Any, plate: Path, tmp_path: Path
) -> None:
    viewer, widget = open_widget()
    for place in ("RPE-01", "backup/HUVEC-01"):
        shutil.copytree(plate, tmp_path / place / "Plate1")
    plates = [plate, tmp_path / "RPE-01" / "Plate1", tmp_path / "backup" / "HUVEC-01" / "Plate1"]
    for one in plates:
        viewer.open(one, plugin="napari-cellclf")
    settle(qtbot, widget)
    box = widget.form.image
    titles = [box.itemText(i).partition("  (3 planes)")[0] for i in range(box.count())]
    assert titles == [
        "HUVEC-01 Plate1 (backup/HUVEC-01)",
        "RPE-01 Plate1",
        f"HUVEC-01 Plate1 ({tmp_path.name}/HUVEC-01)",
    ]
    assert "w1 Hoechst | RPE-01 Plate1" in [layer.name for layer in viewer.layers]


def test_plates_that_are_dropped_together_all_open(
    open_widget: Any, plate: Path, tmp_path: Path
) -> None:
    from napari_cellclf.plugin.reader import read

    shutil.copytree(plate, tmp_path / "RPE-01" / "Plate1")
    layers = read([str(plate), str(tmp_path / "RPE-01" / "Plate1")])
    assert len({one[1]["metadata"][KEY]["path"] for one in layers}) == 2


def test_files_of_a_folder_that_napari_opened_keep_their_names(
    open_widget: Any, qtbot: Any, tmp_path: Path
) -> None:
    from skimage.io import imsave

    folder = tmp_path / "cells"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for name in ("b10.png", "b9.png", "a (1).png"):
        imsave(folder / name, rng.integers(0, 255, (48, 48), np.uint8), check_contrast=False)
    viewer, widget = open_widget("grey")
    viewer.open(folder, plugin="napari")
    classify(qtbot, widget)
    names = ["a (1).png", "b9.png", "b10.png"]
    results = widget._shown
    assert [plane_name(results, row) for row in range(3)] == names
    assert [row["image"] for row in results.records] == [str(folder / name) for name in names]
    alone = {}
    for name in names:
        viewer.layers.clear()
        viewer.open(folder / name, plugin="napari")
        classify(qtbot, widget)
        alone[str(folder / name)] = widget._shown.records[0]["p_late"]
    for row in results.records:
        assert row["p_late"] == pytest.approx(alone[row["image"]], abs=1e-5)


def test_a_row_of_a_folder_opens_in_the_viewer(
    open_widget: Any, qtbot: Any, plate: Path, tmp_path: Path
) -> None:
    viewer, widget = open_widget()
    other = viewer.add_image(np.zeros((48, 48)), name="other")
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder.set_path(str(plate))
    classify(qtbot, widget)
    view = widget.form.results
    place = view.table.visualRect(view.table.model().index(1, 0)).center()
    qtbot.mouseClick(view.table.viewport(), LEFT, pos=place)
    qtbot.mouseClick(view.open, LEFT)
    titles = {layer.metadata[KEY]["title"] for layer in viewer.layers.selection}
    assert titles == {"HUVEC-01 Plate1 B02 s2"}
    assert not other.visible
    count = len(viewer.layers)
    # Another one, by the keys; then the first again, which is open.
    view.table.setFocus()
    qtbot.keyClick(view.table, Qt.Key.Key_Down)
    qtbot.keyClick(view.table, Qt.Key.Key_Return)
    assert {layer.metadata[KEY]["title"] for layer in viewer.layers.selection} == {
        "HUVEC-01 Plate1 B03 s1"
    }
    grown = len(viewer.layers)
    assert grown > count
    qtbot.keyClick(view.table, Qt.Key.Key_Up)
    qtbot.keyClick(view.table, Qt.Key.Key_Return)
    assert len(viewer.layers) == grown
    # The predictions stay where they are.
    assert view.table.model().rowCount() == 3


def test_a_plane_of_a_stack_in_a_folder_opens_at_its_place(
    open_widget: Any, qtbot: Any, tmp_path: Path
) -> None:
    from tifffile import imwrite

    pixels = np.random.default_rng(2).integers(0, 255, (4, 48, 48), np.uint8)
    imwrite(tmp_path / "movie.tif", pixels, imagej=True, metadata={"axes": "TYX"})
    viewer, widget = open_widget("grey")
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder.set_path(str(tmp_path))
    classify(qtbot, widget)
    table = widget.form.results.table
    assert table.model().rowCount() == 4
    table.selectRow(2)
    qtbot.mouseClick(widget.form.results.open, LEFT)
    assert viewer.dims.current_step[0] == 2
    (tmp_path / "movie.tif").unlink()
    viewer.layers.clear()
    qtbot.mouseClick(widget.form.results.open, LEFT)
    assert "was not opened" in widget.form.message.text()
    assert widget.form.message.is_wrong()
