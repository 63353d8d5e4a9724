"""Prediction sets in Classify and Results: shown when asked for, where the model can say."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from qtpy.QtCore import QPoint, Qt

from napari_cellclf.plugin.classify.form import FOLDER_TAB
from napari_cellclf.plugin.classify.widget import ClassifyWidget
from napari_cellclf.plugin.shared.preferences import plugin_preferences

pytestmark = pytest.mark.timeout(600)

LEFT = Qt.MouseButton.LeftButton
PATIENCE = 300_000
SET_COLUMN = 5

_MAKE = """
import sys
from pathlib import Path
import keras, numpy as np
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.save import save_bundle

keras.utils.set_random_seed(7)
network = build_network("compact-cnn", input_shape=(None, None, 1), n_classes=3, width=8)
image = Image(np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8), "YX")
for name, sets in (("none", None), ("sets", {"coverage": 0.9, "threshold": 0.001})):
    save_bundle(
        network, Path(sys.argv[1], name + ".cellclf"), classes=("RPE", "U2OS", "HUVEC"),
        preprocessing=Preprocessing(channels=[{"name": "DNA"}]), architecture="compact-cnn",
        test_image=image, prediction_sets=sets,
    )
"""


@pytest.fixture
def models(tmp_path: Path, run_python: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    run_python(_MAKE, str(folder))
    monkeypatch.setenv("CELLCLF_MODELS", str(folder))


def _finish(qtbot: Any, widget: ClassifyWidget) -> None:
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.runner.running, widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)


def _click(qtbot: Any, box: Any) -> None:
    """Click the little square, not the empty room beside the text."""
    qtbot.mouseClick(box, LEFT, pos=QPoint(10, box.height() // 2))


@pytest.mark.usefixtures("models")
def test_a_click_shows_the_classes_that_an_image_may_be_of(
    make_napari_viewer: Callable[..., Any], qtbot: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    preferences = plugin_preferences()
    if preferences is not None:
        monkeypatch.setattr(preferences.results, "prediction_sets", False)
    viewer = make_napari_viewer()
    widget = ClassifyWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Classify")
    view, page = widget.form.results, widget.form.page
    planes = np.random.default_rng(3).integers(0, 255, (2, 48, 48), np.uint8)
    viewer.add_image(planes, name="DNA")
    assert widget.form.model.choose("none")
    _finish(qtbot, widget)
    assert view.sets.isVisibleTo(widget)
    assert not view.sets.isEnabled()
    assert "no threshold for prediction sets" in view.sets.toolTip()

    assert widget.form.model.choose("sets")
    _finish(qtbot, widget)
    assert view.sets.isEnabled()
    assert not view._set.isVisibleTo(widget)
    assert view.table.isColumnHidden(SET_COLUMN)
    _click(qtbot, view.sets)
    names = [name for name, _ in widget._shown.rows[0].top]
    assert view._set.isVisibleTo(widget)
    assert view._set.text() == f"one of: {', '.join(names)} (90 %)"
    assert not view.table.isColumnHidden(SET_COLUMN)
    cell = view.table.rows.index(1, SET_COLUMN)
    assert cell.data().split(", ") == [name for name, _ in widget._shown.rows[1].top]
    assert widget.form.minimumSizeHint().width() <= 360
    assert preferences is None or preferences.results.prediction_sets
    assert preferences is None or ClassifyWidget(viewer).form.results.sets.isChecked()
    assert widget.save_csv(widget._shown, str(tmp_path / "t.csv"))
    with (tmp_path / "t.csv").open() as file:
        assert [row["prediction_set"] for row in csv.DictReader(file)] == [
            "; ".join(name for name, _ in row.top) for row in widget._shown.rows
        ]

    # A folder is shown on the page of results, which knows of the click.
    folder = tmp_path / "images"
    folder.mkdir()
    for number, plane in enumerate(planes):
        Pillow.fromarray(plane).save(folder / f"{number}.png")
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder.set_path(str(folder))
    _finish(qtbot, widget)
    qtbot.waitUntil(lambda: page.isVisibleTo(widget), timeout=PATIENCE)
    qtbot.mouseClick(page.as_table, LEFT)
    page.go_to(0)
    assert f"one of: {', '.join(names)}" in page.hint.text()
    assert page.sets.wanted
    assert not page.table.isColumnHidden(SET_COLUMN)
    assert page.table.rows.index(0, SET_COLUMN).data().split(", ") == names
    assert widget.form.minimumSizeHint().width() <= 360
    _click(qtbot, page.sets)
    assert page.table.isColumnHidden(SET_COLUMN)
    assert not view.sets.isChecked()
    assert preferences is None or not preferences.results.prediction_sets
