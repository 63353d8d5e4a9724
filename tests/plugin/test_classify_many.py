"""Folders and the bench's rows, classified and shown on the page of results in a real viewer."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLineEdit

from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.image import Image
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.core.objects import objects_in_mask
from napari_cellclf.plugin.classify.form import FOLDER_TAB, ROWS_TAB
from napari_cellclf.plugin.classify.widget import ClassifyWidget

pytestmark = pytest.mark.timeout(600)

LEFT = Qt.MouseButton.LeftButton
PATIENCE = 300_000
OpenWidget = Callable[..., tuple[Any, ClassifyWidget]]


def finish(qtbot: Any, widget: ClassifyWidget) -> None:
    """Click Classify and wait until the page of results is there."""
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.runner.running, widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    qtbot.waitUntil(lambda: widget.form.page.isVisibleTo(widget), timeout=PATIENCE)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images and a film, in folders that name their class."""
    from tifffile import imwrite

    rng = np.random.default_rng(2)
    for name in ("early/a.tif", "late/b.tif"):
        path = tmp_path / name
        path.parent.mkdir()
        imwrite(path, rng.integers(0, 255, (48, 48), np.uint8))
    film = rng.integers(0, 255, (3, 48, 48), np.uint8)
    imwrite(tmp_path / "early" / "film.tif", film, imagej=True, metadata={"axes": "TYX"})
    (tmp_path / "late" / "broken.tif").write_bytes(b"II*\0not a picture")
    return tmp_path


def test_a_folder_is_shown_on_the_page(
    open_widget: OpenWidget, qtbot: Any, images: Path, tmp_path: Path
) -> None:
    viewer, widget = open_widget("grey")
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder.set_path(str(images))
    finish(qtbot, widget)
    page = widget.form.page
    assert not widget.form.results.isVisibleTo(widget)
    assert page.overview.summary.text().startswith("5 images predicted, 1 not classified.")
    assert widget.form.minimumSizeHint().width() <= 360
    wanted: list[Any] = []
    widget.retrain_wanted.connect(lambda *sent: wanted.append(sent))
    page.go_to(page.collection.row_of(str(images / "early" / "film.tif[t=2]")))
    qtbot.mouseClick(page.show_in_viewer, LEFT)
    assert viewer.dims.current_step[0] == 2
    # Again, when it is open, at another plane.
    page.go_to(page.collection.row_of(str(images / "early" / "film.tif[t=1]")))
    qtbot.mouseClick(page.show_in_viewer, LEFT)
    assert (len(viewer.layers), viewer.dims.current_step[0]) == (1, 1)
    page.correct("late")
    qtbot.mouseClick(page.retrain, LEFT)
    labels, collection = wanted[0]
    assert labels[str(images / "early" / "film.tif[t=1]")].class_name == "late"
    assert collection is page.collection
    assert widget.save_csv(widget._shown, str(tmp_path / "table.csv"))
    # Another question has no results, and the old one still has them, corrections as well.
    widget.form.tabs.setCurrentIndex(0)
    assert not page.isVisibleTo(widget)
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    assert page.isVisibleTo(widget)
    assert page.retrain.isEnabled()


def test_rows_of_the_bench_are_classified(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("objects")
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (96, 96), np.uint8)
    mask = np.zeros((96, 96), int)
    for number in range(9):
        y, x = divmod(number, 3)
        mask[32 * y + 4 : 32 * y + 20, 32 * x + 4 : 32 * x + 24] = number + 1
    layer = viewer.add_image(pixels, name="field")
    rows = [Row("field", object=one) for one in objects_in_mask(mask)]
    collection = Collection(rows, lambda row: Image(pixels, "YX", ("DNA",)), title="nuclei")
    assert not widget.form.tabs.isTabVisible(ROWS_TAB)
    book = LabelBook("me")
    widget.show_collection(collection, book)
    assert widget.form.tabs.currentIndex() == ROWS_TAB
    assert widget.form.rows.text() == "9 objects of nuclei"
    assert widget.form.model.choose("grey")
    assert "classifies whole images" in widget.form.message.text()
    assert widget.form.model.choose("objects")
    finish(qtbot, widget)
    page = widget.form.page
    assert page.overview.summary.text() == "9 objects predicted."
    assert "Classified 9 objects" in widget.form.message.text()
    # The same as the objects of a layer.
    viewer.add_labels(mask, name="nuclei")
    viewer.layers.selection = {layer}
    widget.form.tabs.setCurrentIndex(0)
    qtbot.waitUntil(lambda: widget.form.objects.count() == 1, timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    of_layer = [row.record["p_resting"] for row in widget._shown.rows]
    widget.form.tabs.setCurrentIndex(ROWS_TAB)
    assert [row.record["p_resting"] for row in widget._shown.rows] == of_layer
    assert [row.record["image"] for row in widget._shown.rows] == list(collection.ids)
    # Shown in the viewer, in the middle; corrected in the labels of the bench.
    page.go_to(7)
    qtbot.mouseClick(page.show_in_viewer, LEFT)
    assert viewer.scene.camera.center[-2:] == pytest.approx(rows[7].object.centre, abs=0.01)
    page.correct("resting")
    assert book.label_of(collection.ids[7]).class_name == "resting"
    widget.show_collection(None)
    assert not widget.form.tabs.isTabVisible(ROWS_TAB)
    assert not page.isVisibleTo(widget)


def test_objects_of_a_folder_with_masks_elsewhere(
    open_widget: OpenWidget, qtbot: Any, tmp_path: Path, run_python: Callable[..., str]
) -> None:
    from tifffile import imwrite

    rng = np.random.default_rng(4)
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for name in ("a", "b"):
        mask = np.zeros((96, 96), np.uint16)
        for number in range(9):
            y, x = divmod(number, 3)
            mask[32 * y + 4 : 32 * y + 20, 32 * x + 4 : 32 * x + 24] = number + 1
        imwrite(images / f"{name}.tif", rng.integers(0, 255, (96, 96), np.uint8))
        imwrite(masks / f"{name}_cp_masks.tif", mask)
    _, widget = open_widget("grey")
    form = widget.form
    form.tabs.setCurrentIndex(FOLDER_TAB)
    line = form.folder.findChild(QLineEdit)
    qtbot.mouseClick(line, LEFT)
    qtbot.keyClicks(line, str(images))
    assert not form.masks.isVisibleTo(widget)
    assert form.model.choose("objects")
    assert form.masks.isVisibleTo(widget)
    assert form.minimumSizeHint().width() <= 360
    line = form.masks.findChild(QLineEdit)
    qtbot.mouseClick(line, LEFT)
    qtbot.keyClicks(line, str(masks) + "x")
    assert "choose masks that exist" in form.message.text()
    qtbot.keyClick(line, Qt.Key.Key_Backspace)
    finish(qtbot, widget)
    assert form.page.overview.summary.text() == "18 objects predicted."
    command = shlex.split(form.command.text())
    assert command[command.index("--objects") + 1] == str(masks)
    command[command.index("--out") + 1] = str(tmp_path / "predictions.csv")
    run_python(
        "import sys; from napari_cellclf.cli import main; sys.exit(main(sys.argv[1:]))",
        *command[1:],
    )
    assert widget.save_csv(widget._shown, str(tmp_path / "widget.csv"))
    tables = []
    for name in ("predictions.csv", "widget.csv"):
        with (tmp_path / name).open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    assert len(tables[0]) == 18
    for theirs, ours in zip(*tables, strict=True):
        shared = ("image", "label", "confidence", "p_dividing", "p_resting", "object", "y", "x")
        assert [theirs[name] for name in shared] == [ours[name] for name in shared]
    # Without masks beside its images, a folder has no objects.
    qtbot.keyClick(line, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(line, Qt.Key.Key_Delete)
    qtbot.mouseClick(form.classify, LEFT)
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert "There is no mask beside" in form.message.text()


def test_a_mask_that_cannot_be_used_is_listed_with_the_reason(
    open_widget: OpenWidget, qtbot: Any, tmp_path: Path
) -> None:
    from tifffile import imwrite

    mask = np.zeros((40, 48), np.uint16)
    mask[4:20, 4:24] = 1
    for name, shape in (("a", (40, 48)), ("b", (40, 50))):
        imwrite(tmp_path / f"{name}.tif", np.full(shape, 90, np.uint8))
        imwrite(tmp_path / f"{name}_masks.tif", mask)
    _, widget = open_widget("objects")
    form = widget.form
    form.tabs.setCurrentIndex(FOLDER_TAB)
    form.folder.set_path(str(tmp_path))
    finish(qtbot, widget)
    overview = form.page.overview
    assert overview.summary.text() == "1 object predicted."
    assert "1 could not be; open Not classified to see why." in form.message.text()
    assert overview.failed_section.isVisibleTo(widget)
    # What was predicted is in view; the question is above it.
    bar = form._area.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.value() == min(overview.y(), bar.maximum()), timeout=PATIENCE)
    qtbot.mouseClick(overview.failed_section.heading, LEFT)
    said = overview.reasons.toPlainText()
    assert "b.tif" in said
    assert "40" in said
    assert "\n" not in said
