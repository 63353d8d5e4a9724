"""From the tab Images to results, corrections and training again, in one dock."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

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
