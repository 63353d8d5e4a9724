"""Files are saved and opened through the dialogs that a user sees."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_cellclf.plugin.classify.form import FOLDER_TAB

pytestmark = pytest.mark.timeout(600)

PATIENCE = 300_000
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def classified(open_widget: Any, qtbot: Any) -> tuple[Any, Any]:
    """A movie of three planes that was classified."""
    viewer, widget = open_widget("grey")
    pixels = np.random.default_rng(2).integers(0, 255, (3, 48, 48), np.uint8)
    viewer.add_image(pixels, name="movie")
    qtbot.waitUntil(widget.form.classify.isEnabled, timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    return viewer, widget


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("key", [False, True])
def test_a_table_is_saved_by_the_dialog(
    classified: Any, qtbot: Any, tmp_path: Path, answer_dialog: Any, key: bool
) -> None:
    _, widget = classified
    qtbot.mouseClick(widget.form.results._save, LEFT)
    answer_dialog(widget, tmp_path / "typed", key=key)
    assert [row["image"] for row in rows_of(tmp_path / "typed.csv")] == [
        "movie[i=0]",
        "movie[i=1]",
        "movie[i=2]",
    ]
    assert widget.form.message.text() == f"Saved 3 rows to {tmp_path / 'typed.csv'}."


def test_a_table_is_saved_under_the_name_that_is_offered(
    classified: Any, qtbot: Any, tmp_path: Path, answer_dialog: Any
) -> None:
    viewer, widget = classified
    qtbot.mouseClick(widget.form.results._save, LEFT)
    widget.findChild(QFileDialog).setDirectory(str(tmp_path))
    # Another image is chosen before the dialog is answered.
    viewer.add_image(np.zeros((48, 48)), name="other")
    qtbot.waitUntil(lambda: widget._shown is None, timeout=5000)
    answer_dialog(widget, None)
    assert len(rows_of(tmp_path / "predictions.csv")) == 3


def test_folders_and_files_are_chosen_by_the_dialogs(
    open_widget: Any, qtbot: Any, tmp_path: Path, answer_dialog: Any, models: Path
) -> None:
    _, widget = open_widget()
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder._browse()
    answer_dialog(widget, tmp_path)
    assert widget.form.folder.path() == str(tmp_path)
    (tmp_path / "t.csv").write_text("path\n")
    widget.form.folder._browse_files()
    answer_dialog(widget, tmp_path / "t.csv", key=True)
    assert widget.form.folder.path() == str(tmp_path / "t.csv")
    widget.form.model._ask(QFileDialog.FileMode.Directory)
    answer_dialog(widget, models / "grey.cellclf")
    assert widget.form.model.current().reference == str(models / "grey.cellclf")
