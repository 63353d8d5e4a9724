"""From the tab Images to results, corrections and training again, in one dock."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_cellclf.plugin.bench.images_page import LAYERS
from napari_cellclf.plugin.bench.widget import RESULTS, BenchWidget

pytestmark = pytest.mark.timeout(600)

LEFT = Qt.MouseButton.LeftButton
PATIENCE = 300_000


@pytest.fixture
def bench(make_napari_viewer: Callable[..., Any], models: Path) -> BenchWidget:
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
    return widget


def test_open_rows_are_classified_corrected_and_trained_on(
    bench: BenchWidget, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skimage.io import imsave

    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 48), np.uint8)
        imsave(tmp_path / f"cell{number}.png", pixels, check_contrast=False)
    bench.images.files.set_path(str(tmp_path))
    qtbot.waitUntil(lambda: bench.images.collection is not None, timeout=PATIENCE)
    bench.show_tab(RESULTS)
    results = bench.results
    assert results.form.rows.text().startswith("4 images")
    assert results.form.model.choose("grey")
    qtbot.mouseClick(results.form.classify, LEFT)
    qtbot.waitUntil(lambda: not results.runner.running, timeout=PATIENCE)
    page = results.form.page
    assert page.overview.summary.text() == "4 images predicted."
    assert bench.minimumSizeHint().width() <= 360
    # Corrections are labels like all others, and go to the same file.
    for number, name in ((0, "late"), (1, "early"), (2, "late")):
        page.go_to(number)
        page.correct(name)
    book = bench.label.page.book
    assert book.label_of(page.collection.ids[0]).class_name == "late"
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file) if row["path"]] == [
            "late", "early", "late",
        ]  # fmt: skip
    # And labels that are given on the other page are known here.
    book.label([page.collection.ids[3]], "early")
    assert "Of 4 labelled" in page.overview.summary.text()
    # What speaks against labels there is known here, too, before and after results are shown.
    bench.label.page.doubt(np.array([0.0, 0.7, 0.0, np.nan]))
    box = page.gallery.tab_stops[0]
    assert "Sort: likely wrong labels" in [box.itemText(at) for at in range(box.count())]
    page.gallery.sort_by("score:likely wrong labels")
    assert page.gallery.rows.number(0) == 1
    tables: list[str] = []
    monkeypatch.setattr(bench, "train_on", tables.append)
    qtbot.mouseClick(page.retrain, LEFT)
    with Path(tables[0]).open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["late", "early", "late", "early"]
    bench.images.files.set_path("")
    qtbot.waitUntil(lambda: bench.images.collection is None, timeout=PATIENCE)
    assert not page.isVisibleTo(results)


def test_rows_of_layers_are_shown_and_explained_whatever_these_are_called_by_now(
    make_napari_viewer: Callable[..., Any], models: Path, qtbot: Any
) -> None:
    viewer = make_napari_viewer(show=True)
    _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
    viewer.window._qt_window.resize(1200, 900)
    pixels = np.random.default_rng(1).integers(0, 255, (3, 4, 48, 60), np.uint8)
    colours = viewer.add_image(pixels, channel_axis=0, name=["red", "green", "blue"])
    viewer.layers.selection = set(colours)
    viewer.add_image(np.zeros((48, 60), np.uint8), name="another")
    viewer.layers.selection = set(colours)
    bench.images.origin.setCurrentIndex(LAYERS)
    qtbot.waitUntil(lambda: bench.images.collection is not None, timeout=PATIENCE)
    assert len(bench.images.collection) == 4
    results, page = bench.results, bench.results.form.page
    bench.show_tab(RESULTS)
    assert results.form.model.choose("colour")
    # As one layer among others, they are no image of their own any more.
    viewer.layers.selection = {viewer.layers["another"]}
    viewer.layers["green"].name = "fluorescein"
    qtbot.waitUntil(results.form.classify.isEnabled, timeout=PATIENCE)
    qtbot.mouseClick(results.form.classify, LEFT)
    qtbot.waitUntil(page.isVisible, timeout=PATIENCE)
    # Most of the height is the images'.
    form = results.form
    qtbot.waitUntil(lambda: page.height() > form.height() / 2, timeout=PATIENCE)
    page.go_to(2)
    qtbot.mouseClick(page.show_in_viewer, LEFT)
    assert viewer.layers.selection == set(colours)
    assert viewer.dims.current_step[0] == 2
    page.go_to(1)
    why = results.form.why.button
    qtbot.mouseClick(why, LEFT)
    qtbot.waitUntil(lambda: why.text() == "Why?", timeout=PATIENCE)
    assert results.form.message.text().startswith("Orange is evidence for ")
    assert viewer.dims.current_step[0] == 1
    viewer.layers.remove(colours[0])
    qtbot.mouseClick(page.show_in_viewer, LEFT)
    assert "was removed; open it again on the tab Images" in results.form.message.text()
