"""The one dock: its tabs, its doors in the menus, and what is open in it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget

from napari_cellclf.core.predictions import Predictions
from napari_cellclf.plugin.bench.images_page import LAYERS, OBJECTS
from napari_cellclf.plugin.bench.opening import Question, labels_path
from napari_cellclf.plugin.bench.widget import IMAGES, LABEL, RESULTS, TRAIN, BenchWidget
from napari_cellclf.plugin.classify.form import FOLDER_TAB

PATIENCE = 30_000
NAME = "Cell Classifier"
WIDEST = 360


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], models: Path) -> Any:
    return make_napari_viewer(show=True)


@pytest.fixture
def bench(viewer: Any) -> BenchWidget:
    _, widget = viewer.window.add_plugin_dock_widget("napari-cellclf", NAME)
    return widget


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from skimage.io import imsave

    place = tmp_path / "cells"
    place.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24), np.uint8)
        imsave(place / f"cell{number}.png", pixels, check_contrast=False)
    return place


def docks(viewer: Any) -> list[QDockWidget]:
    """Return our docks that are shown or behind a tab."""
    inside = viewer.window._qt_window.findChildren(QDockWidget)
    return [dock for dock in inside if "napari-cellclf" in dock.windowTitle() and dock.widget()]


def click_tab(qtbot: Any, bench: BenchWidget, tab: int) -> None:
    bar = bench.tabs.tabBar()
    qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=bar.tabRect(tab).center())


@pytest.mark.parametrize(
    ("door", "tab"), [("Label", LABEL), ("Train", TRAIN), ("Classify", RESULTS)]
)
def test_a_menu_entry_opens_the_one_dock_on_its_tab(
    viewer: Any, qtbot: Any, door: str, tab: int
) -> None:
    viewer.window.add_plugin_dock_widget("napari-cellclf", door)
    qtbot.waitUntil(lambda: len(docks(viewer)) == 1, timeout=PATIENCE)
    qtbot.waitUntil(lambda: isinstance(docks(viewer)[0].widget(), BenchWidget), timeout=PATIENCE)
    opened = docks(viewer)[0].widget()
    assert opened.tabs.currentIndex() == tab
    # Another door leads to the same dock, with what is in it.
    viewer.window.add_plugin_dock_widget("napari-cellclf", "Train")
    qtbot.waitUntil(lambda: opened.tabs.currentIndex() == TRAIN, timeout=PATIENCE)
    qtbot.waitUntil(lambda: len(docks(viewer)) == 1, timeout=PATIENCE)
    assert docks(viewer)[0].widget() is opened


def test_the_menus_of_layers_have_our_entries() -> None:
    from npe2 import PluginManager

    menus = PluginManager.instance().get_manifest("napari-cellclf").contributions.menus
    commands = {menu: [item.command for item in items] for menu, items in menus.items()}
    assert commands == {
        "napari/layers/annotate": ["napari-cellclf.label"],
        "napari/layers/classify": ["napari-cellclf.classify", "napari-cellclf.train"],
        "napari/layers/measure": ["napari-cellclf.classify"],
    }


def test_no_tab_is_wider_than_a_dock_may_be(bench: BenchWidget, qtbot: Any) -> None:
    for tab in (IMAGES, LABEL, TRAIN, RESULTS):
        click_tab(qtbot, bench, tab)
        assert bench.tabs.currentIndex() == tab
        bench.train.form.advanced_section.unfold(True)
        qtbot.wait(50)
        assert bench.minimumSizeHint().width() <= WIDEST


def test_long_names_of_classes_make_nothing_wider(
    viewer: Any, bench: BenchWidget, qtbot: Any, folder: Path
) -> None:
    names = tuple(f"{letter} " + "very long name of a class " * 2 + "ends" for letter in "abc")
    names = tuple(name.ljust(60, "x") for name in names)
    assert {len(name) for name in names} == {60}
    bench.images.files.set_path(str(folder))
    qtbot.waitUntil(lambda: bench.label.page is not None, timeout=PATIENCE)
    page, rows = bench.label.page, bench.images.collection
    for number, name in enumerate((*names, names[0])):
        page.book.label([rows.ids[number]], name)
    page.gallery.go_to(1)
    click_tab(qtbot, bench, RESULTS)
    form = bench.results.form
    form.tabs.setCurrentIndex(FOLDER_TAB)
    predicted = np.full((4, 3), 1 / 3, np.float32)
    predicted[:, 2] = 0.5
    found = Predictions(predicted, names, rows.ids)
    form.page.show_results(rows, found, book=page.book, failures={"x" * 80: "y" * 90})
    form.page.go_to(0)
    form.page.overview.confusion_section.unfold(True)
    form.page.overview.failed_section.unfold(True)
    form.results.bars.show_classes([(name, 0.3) for name in names])
    form.results.objects.show_counts([(name, 5) for name in names], 3)
    bench.train.form.split.table.show_rows(tuple((name, (20, 30, 40)) for name in names))
    dock = bench.parent()
    for tab in (IMAGES, LABEL, TRAIN, RESULTS, RESULTS):
        click_tab(qtbot, bench, tab)
        if tab == RESULTS:
            # What is said of layers and their objects, and the page of results.
            on_page = not form.page.isVisible()
            for part in (form.page, form.page.overview):
                part.setVisible(on_page)
            form.results.give_way(on_page)
            form.results.objects.setVisible(not on_page)
        viewer.window._qt_window.resizeDocks([dock], [100], Qt.Orientation.Horizontal)
        qtbot.wait(100)
        assert bench.minimumSizeHint().width() <= WIDEST
        assert bench.width() <= WIDEST


def test_a_second_dock_is_a_tab_beside_the_first(viewer: Any, qtbot: Any) -> None:
    from qtpy.QtWidgets import QLabel

    first = viewer.window.add_dock_widget(QLabel("another plugin"), name="other", area="right")
    viewer.window.add_plugin_dock_widget("napari-cellclf", NAME)
    window = viewer.window._qt_window
    (own,) = docks(viewer)
    qtbot.waitUntil(lambda: own in window.tabifiedDockWidgets(first), timeout=PATIENCE)


def test_a_folder_opens_as_rows(bench: BenchWidget, qtbot: Any, folder: Path) -> None:
    page = bench.images
    assert not page.start.isEnabled()
    assert "Choose a folder" in page.message.text()
    page.files.set_path(str(folder))
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)
    assert len(page.collection) == 4
    assert "4 images" in page.summary.text()
    assert page.labels_file() == folder / "labels.csv"
    qtbot.mouseClick(page.start, Qt.MouseButton.LeftButton)
    assert bench.tabs.currentIndex() == LABEL


def test_a_folder_that_is_not_there_is_refused_in_a_sentence(
    bench: BenchWidget, qtbot: Any, tmp_path: Path
) -> None:
    page = bench.images
    page.files.set_path(str(tmp_path / "nothing"))
    qtbot.waitUntil(lambda: "does not exist" in page.message.text(), timeout=PATIENCE)
    assert page.collection is None
    assert not page.start.isEnabled()


def test_the_planes_of_an_open_layer_are_rows(viewer: Any, bench: BenchWidget, qtbot: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 20, 30), np.uint8)
    viewer.add_image(pixels, name="film", axis_labels=("t", "y", "x"))
    page = bench.images
    page.origin.setCurrentIndex(LAYERS)
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)
    assert page.collection.ids == ("film[t=0]", "film[t=1]", "film[t=2]")
    np.testing.assert_array_equal(page.collection.read(2).to_cyx()[0], pixels[2])
    # Removing the layer leaves nothing to label.
    viewer.layers.remove("film")
    qtbot.waitUntil(lambda: page.collection is None, timeout=PATIENCE)
    assert "No image layer" in page.message.text()


def test_another_group_is_used_for_the_estimate(
    bench: BenchWidget, qtbot: Any, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    rows = [f"cells/cell{n}.png,p{n // 2},d{n % 2}" for n in range(4)]
    table.write_text("\n".join(["path,plate,tray", *rows]))
    page = bench.images
    page.files.set_path(str(table))
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)
    assert list(page.collection.groups) == ["p0", "p0", "p1", "p1"]
    page.keeping.unfold(True)
    page.group.setCurrentIndex(page.group.findData("tray"))
    assert list(page.collection.groups) == ["d0", "d1", "d0", "d1"]


def test_labels_of_images_that_cannot_be_written_beside_are_kept_at_home(tmp_path: Path) -> None:
    path = labels_path(Question(str(tmp_path)), lambda folder: False)
    assert path.parent.name == "cellclf-labels"
    assert labels_path(Question(str(tmp_path)), lambda folder: True) == tmp_path / "labels.csv"


def test_the_objects_of_a_layer_are_rows(viewer: Any, bench: BenchWidget, qtbot: Any) -> None:
    mask = np.zeros((40, 50), np.uint16)
    mask[4:8, 5:9] = 3
    mask[20:30, 10:20] = 7
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8), name="field")
    page = bench.images
    page.origin.setCurrentIndex(LAYERS)
    page.rows.setCurrentIndex(OBJECTS)
    qtbot.waitUntil(lambda: "Labels layer" in page.message.text(), timeout=PATIENCE)
    viewer.add_labels(mask, name="cells")
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)
    assert page.collection.ids == ("field[object=3]", "field[object=7]")
    assert "2 objects in 1 image" in page.summary.text()
    viewer.add_points([[10, 10], [20, 30], [30, 40]], name="centres")
    page.objects.setCurrentIndex(page.objects.findText("centres"))
    qtbot.waitUntil(
        lambda: page.collection is not None and len(page.collection) == 3, timeout=PATIENCE
    )
    assert page.collection.rows[1].object.centre == (20, 30)


def test_images_without_masks_are_told_in_words_of_the_dock(
    bench: BenchWidget, qtbot: Any, folder: Path
) -> None:
    page = bench.images
    page.files.set_path(str(folder))
    page.rows.setFocus()
    qtbot.keyClick(page.rows, Qt.Key.Key_Down)
    qtbot.waitUntil(page.message.is_wrong, timeout=PATIENCE)
    said = page.message.text()
    assert said.startswith("There is no mask beside ")
    assert "give the folder" in said
    assert "model" not in said
    assert "--" not in said
    assert not page.start.isEnabled()


def test_a_folder_with_masks_opens_as_objects(
    bench: BenchWidget, qtbot: Any, tmp_path: Path
) -> None:
    import tifffile

    place = tmp_path / "fields"
    place.mkdir()
    mask = np.zeros((40, 50), np.uint16)
    mask[4:8, 5:9] = 3
    tifffile.imwrite(place / "a.tif", np.zeros((40, 50), np.uint8))
    tifffile.imwrite(place / "a_masks.tif", mask)
    page = bench.images
    page.files.set_path(str(place))
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)
    assert page.collection.ids == (str(place / "a.tif"),)
    page.rows.setCurrentIndex(OBJECTS)
    qtbot.waitUntil(lambda: "1 object in 1 image" in page.summary.text(), timeout=PATIENCE)
    assert page.collection.ids == (f"{place / 'a.tif'}[object=3]",)


def test_painted_objects_are_opened_again(viewer: Any, bench: BenchWidget, qtbot: Any) -> None:
    mask = np.zeros((40, 50), np.uint16)
    mask[4:8, 5:9] = 3
    viewer.add_image(np.zeros((40, 50), np.uint8), name="field")
    layer = viewer.add_labels(mask, name="cells")
    page = bench.images
    page.origin.setCurrentIndex(LAYERS)
    page.rows.setCurrentIndex(OBJECTS)
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)
    assert page.collection.ids == ("field[object=3]",)
    layer.selected_label = 9
    layer.brush_size = 4
    layer.paint((20, 30), 9)
    click_tab(qtbot, bench, LABEL)
    qtbot.waitUntil(
        lambda: page.collection is not None and len(page.collection) == 2, timeout=PATIENCE
    )
    assert page.collection.ids == ("field[object=3]", "field[object=9]")


def test_selecting_layers_does_not_open_the_same_objects_again(
    viewer: Any, bench: BenchWidget, qtbot: Any
) -> None:
    image = viewer.add_image(np.zeros((40, 50), np.uint8), name="field")
    points = viewer.add_points([[10, 10], [20, 30]], name="centres")
    page = bench.images
    page.origin.setCurrentIndex(LAYERS)
    page.rows.setCurrentIndex(OBJECTS)
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)
    opened = page.collection
    for layer in (image, points, image):
        viewer.layers.selection.active = layer
        qtbot.wait(600)
    assert page.collection is opened
    points.add([[30, 40]])
    qtbot.waitUntil(
        lambda: page.collection is not None and len(page.collection) == 3, timeout=PATIENCE
    )


def test_what_failed_can_be_chosen_again(
    bench: BenchWidget, qtbot: Any, folder: Path, tmp_path: Path
) -> None:
    page, place = bench.images, tmp_path / "later"
    page.files.set_path(str(place))
    qtbot.waitUntil(lambda: "does not exist" in page.message.text(), timeout=PATIENCE)
    folder.rename(place)
    page.read()
    qtbot.waitUntil(lambda: page.collection is not None, timeout=PATIENCE)


@pytest.mark.parametrize("whole_viewer", [False, True])
def test_full_searches_for_garbage_are_rare_only_while_a_dock_is_open(
    make_napari_viewer: Callable[..., Any], models: Path, qtbot: Any, whole_viewer: bool
) -> None:
    before = gc.get_threshold()
    rare = (*before[:2], before[2] * 100)
    viewers = [make_napari_viewer() for _ in range(2)]
    opened = []
    for viewer in viewers:
        opened.append(viewer.window.add_plugin_dock_widget("napari-cellclf", NAME)[1])
        assert gc.get_threshold() == rare
    for viewer, bench in zip(viewers, opened, strict=True):
        assert gc.get_threshold() == rare
        with qtbot.waitSignal(bench.destroyed, timeout=PATIENCE):
            if whole_viewer:
                viewer.close()
            else:
                viewer.window.remove_dock_widget(bench)
    assert gc.get_threshold() == before
