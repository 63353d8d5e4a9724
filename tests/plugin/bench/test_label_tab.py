"""From a flat folder to labels, by keys, in a real window; and to Train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QLineEdit, QPushButton

from napari_cellclf.io import label_file
from napari_cellclf.io.label_file import read_labels
from napari_cellclf.plugin.bench.images_page import LAYERS
from napari_cellclf.plugin.bench.keys_window import KeysWindow, preferred_keys
from napari_cellclf.plugin.bench.widget import IMAGES, LABEL, RESULTS, TRAIN, BenchWidget
from napari_cellclf.plugin.gallery.keys import ACTIONS
from napari_cellclf.plugin.shared.preferences import plugin_preferences

PATIENCE = 30_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from skimage.io import imsave

    place = tmp_path / "cells"
    place.mkdir()
    for number in range(6):
        pixels = np.full((24, 24), 40 * number, np.uint8)
        imsave(place / f"cell{number}.png", pixels, check_contrast=False)
    return place


@pytest.fixture
def open_bench(make_napari_viewer: Callable[..., Any], models: Path, qtbot: Any) -> Any:
    """Open a folder in the dock of a new viewer, ready to be labelled."""

    def opener(folder: Path) -> tuple[Any, BenchWidget]:
        viewer = make_napari_viewer(show=True)
        _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
        bench.window().activateWindow()
        bench.images.choose_path(str(folder))
        qtbot.waitUntil(bench.images.start.isEnabled, timeout=PATIENCE)
        qtbot.mouseClick(bench.images.start, Qt.MouseButton.LeftButton)
        assert bench.tabs.currentIndex() == LABEL
        return viewer, bench

    return opener


def add_class(qtbot: Any, bench: BenchWidget, name: str) -> None:
    bench.label.page.bar.ask_for_class()
    line = bench.label.page.bar.name.line
    qtbot.keyClicks(line, name)
    qtbot.keyClick(line, Qt.Key.Key_Return)


def press(qtbot: Any, bench: BenchWidget, keys: str) -> None:
    view = bench.label.page.gallery.view
    view.setFocus()
    qtbot.waitUntil(view.hasFocus, timeout=PATIENCE)
    for key in keys:
        qtbot.keyClick(view, key)


def test_keys_label_after_a_button_refused(open_bench: Any, qtbot: Any, folder: Path) -> None:
    _, bench = open_bench(folder)
    tab = bench.label
    add_class(qtbot, bench, "dark")
    add_class(qtbot, bench, "bright")
    assert "Press 1 or 2" in tab.page.hint.text()
    view = tab.page.gallery.view
    qtbot.waitUntil(view.hasFocus, timeout=PATIENCE)
    for button in (tab.train, tab.use):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        assert tab.message.is_wrong()
        assert view.hasFocus()
        before = len(tab.page.book.labels)
        qtbot.keyClick(view, Qt.Key.Key_1)
        assert len(tab.page.book.labels) == before + 1
        # What was refused is no longer said.
        assert not tab.message.is_wrong()
        assert "Labels are kept in" in tab.message.text()


def test_labels_are_kept_at_once_and_opened_again(
    open_bench: Any, qtbot: Any, folder: Path
) -> None:
    viewer, bench = open_bench(folder)
    add_class(qtbot, bench, "dark")
    add_class(qtbot, bench, "bright")
    press(qtbot, bench, "1122")
    kept = read_labels(folder / "labels.csv")
    assert kept.counts() == {"dark": 2, "bright": 2}
    # A folder with labels in it is opened again with them.
    viewer.window.remove_dock_widget("all")
    qtbot.waitUntil(lambda: not bench.label.isVisible(), timeout=PATIENCE)
    _, again = open_bench(folder)
    assert again.label.page.book.counts() == {"dark": 2, "bright": 2}
    assert "4 labels are in it already" in again.label.message.text()
    press(qtbot, again, "1")
    assert read_labels(folder / "labels.csv").counts() == {"dark": 3, "bright": 2}


def test_two_windows_do_not_write_one_file(open_bench: Any, qtbot: Any, folder: Path) -> None:
    viewer, _ = open_bench(folder)
    _, second = open_bench(folder)
    tab = second.label
    assert tab.page is None
    assert "open in another window" in tab.message.text()
    assert "Come back to this tab" in tab._empty.text()
    assert not any(widget.isVisible() for widget in (tab.train, tab.use, tab.backbone))
    # Once the other window is closed, coming back to the tab is enough.
    viewer.window.remove_dock_widget("all")
    second.show_tab(IMAGES)
    second.show_tab(LABEL)
    qtbot.waitUntil(lambda: tab.page is not None, timeout=PATIENCE)
    assert tab.train.isVisible()
    assert not tab.message.is_wrong()


def test_what_is_redone_from_the_beginning_asks_for_no_name(
    open_bench: Any, qtbot: Any, folder: Path
) -> None:
    _, bench = open_bench(folder)
    for name in ("dark", "bright"):
        add_class(qtbot, bench, name)
    press(qtbot, bench, "12")
    page = bench.label.page
    while page.book.can_undo:
        qtbot.mouseClick(page._undo, Qt.MouseButton.LeftButton)
    assert page.book.classes == ()
    assert page.bar.name.isVisible()
    while page.book.can_redo:
        qtbot.mouseClick(page._redo, Qt.MouseButton.LeftButton)
    assert page.book.counts() == {"dark": 1, "bright": 1}
    assert not page.bar.name.isVisible()
    qtbot.waitUntil(page.gallery.view.hasFocus, timeout=PATIENCE)


def test_labels_that_cannot_be_written_stay_in_the_window(
    open_bench: Any, qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as read_only:
        read_only.setattr(label_file.FileLock, "acquire", refuse)
        _, bench = open_bench(folder)
        page = bench.label.page
        assert page.message.is_wrong()
        assert "Permission denied" in page.message.text()
        add_class(qtbot, bench, "dark")
        add_class(qtbot, bench, "bright")
        press(qtbot, bench, "12")
        assert len(page.book.labels) == 2
        assert not (folder / "labels.csv").exists()
    press(qtbot, bench, "1")
    assert not page.message.is_wrong()
    assert len(read_labels(folder / "labels.csv").labels) == 3


def test_labels_are_handed_to_train(open_bench: Any, qtbot: Any, folder: Path) -> None:
    _, bench = open_bench(folder)
    add_class(qtbot, bench, "dark")
    add_class(qtbot, bench, "bright")
    qtbot.mouseClick(bench.label.train, Qt.MouseButton.LeftButton)
    assert "at least two classes" in bench.label.message.text()
    press(qtbot, bench, "111222")
    qtbot.mouseClick(bench.label.train, Qt.MouseButton.LeftButton)
    assert bench.tabs.currentIndex() == TRAIN
    data = bench.train.data
    qtbot.waitUntil(lambda: data.found is not None, timeout=PATIENCE)
    assert data.found.dataset.counts()["unsplit"].to_dict() == {"dark": 3, "bright": 3}


def test_labelled_planes_of_stacks_are_handed_to_train(
    open_bench: Any, qtbot: Any, tmp_path: Path
) -> None:
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    for number in range(4):
        planes = np.random.default_rng(number).integers(0, 255, (3, 24, 24), np.uint8)
        path = stacks / f"{number}.ome.tif"
        tifffile.imwrite(path, planes, metadata={"axes": "TYX"}, photometric="minisblack")
    _, bench = open_bench(stacks)
    assert len(bench.images.collection) == 12
    add_class(qtbot, bench, "early")
    add_class(qtbot, bench, "late")
    press(qtbot, bench, "112212112212")
    qtbot.mouseClick(bench.label.train, Qt.MouseButton.LeftButton)
    assert bench.tabs.currentIndex() == TRAIN
    data = bench.train.data
    qtbot.waitUntil(lambda: data.found is not None, timeout=PATIENCE)
    found = data.found.dataset
    assert found.counts()["unsplit"].to_dict() == {"early": 6, "late": 6}
    assert set(found.ids) == set(bench.images.collection.ids)
    assert found.ids[0].endswith("ome.tif[t=0]")
    given = dict(bench.label.page.book.items())
    assert {row: label.class_name for row, label in given.items()} == {
        row: found.classes[number].name for row, number in zip(found.ids, found.labels, strict=True)
    }
    # Planes of one stack stay on one side of the split.
    assert found.group_column == "path"


def test_a_row_is_shown_in_the_viewer(open_bench: Any, qtbot: Any, folder: Path) -> None:
    viewer, bench = open_bench(folder)
    add_class(qtbot, bench, "dark")
    press(qtbot, bench, "1s")
    (layer,) = viewer.layers
    np.testing.assert_array_equal(layer.data, np.full((24, 24), 40))


@pytest.fixture
def _usual_keys() -> Iterator[None]:
    """Leave no changed key to other tests, however the test ends."""
    keys = plugin_preferences().labels
    before = keys.keys
    yield
    keys.keys = before


@pytest.mark.usefixtures("_usual_keys")
def test_a_key_can_be_changed_and_stays_changed(open_bench: Any, qtbot: Any, folder: Path) -> None:
    viewer, bench = open_bench(folder)
    add_class(qtbot, bench, "dark")
    qtbot.mouseClick(bench.keys, Qt.MouseButton.LeftButton)
    (window,) = bench.findChildren(KeysWindow)
    qtbot.waitUntil(window.isVisible, timeout=PATIENCE)
    field = window.fields["label 1"]
    field.setFocus()
    qtbot.keyClick(field, Qt.Key.Key_A)
    qtbot.waitUntil(lambda: preferred_keys() == {"label 1": "A"}, timeout=PATIENCE)
    # One key cannot do two things.
    field.clear()
    qtbot.keyClick(field, Qt.Key.Key_U)
    qtbot.waitUntil(window.message.is_wrong, timeout=PATIENCE)
    assert preferred_keys() == {"label 1": "A"}
    window.close()
    press(qtbot, bench, "a")
    assert bench.label.page.book.counts() == {"dark": 1}
    viewer.window.remove_dock_widget("all")
    _, again = open_bench(folder)
    assert again.label.page.keys.key_of("label 1") == QKeySequence("A").toString(
        QKeySequence.SequenceFormat.NativeText
    )
    qtbot.mouseClick(again.keys, Qt.MouseButton.LeftButton)
    (window,) = again.findChildren(KeysWindow)
    (usual,) = (one for one in window.findChildren(QPushButton) if one.text() == "Usual keys")
    qtbot.mouseClick(usual, Qt.MouseButton.LeftButton)
    assert preferred_keys() == {}
    window.close()


def test_keys_are_looked_up_on_every_tab_and_changed_on_both_pages(
    open_bench: Any, qtbot: Any, folder: Path
) -> None:
    _, bench = open_bench(folder)
    bench.show_tab(RESULTS)
    qtbot.mouseClick(bench.keys, Qt.MouseButton.LeftButton)
    (window,) = bench.findChildren(KeysWindow)
    qtbot.waitUntil(window.isVisible, timeout=PATIENCE)
    assert list(window.fields) == [action.name for action in ACTIONS]
    field = window.fields["skip"]
    field.setFocus()
    qtbot.keyClick(field, Qt.Key.Key_N)
    pages = (bench.label.page, bench.results.form.page)
    qtbot.waitUntil(lambda: [page.keys.key_of("skip") for page in pages] == ["N", "N"])
    (usual,) = (one for one in window.findChildren(QPushButton) if one.text() == "Usual keys")
    qtbot.mouseClick(usual, Qt.MouseButton.LeftButton)
    assert [page.keys.key_of("skip") for page in pages] == ["Space", "Space"]
    window.close()


def test_a_row_of_a_layer_is_shown_whatever_it_is_called_by_now(
    open_bench: Any, qtbot: Any, folder: Path
) -> None:
    viewer, bench = open_bench(folder)
    layer = viewer.add_image(np.zeros((3, 20, 30), np.uint8), name="film")
    bench.show_tab(IMAGES)
    bench.images.labels.set_path(str(folder / "film.csv"))
    bench.images.origin.setCurrentIndex(LAYERS)
    qtbot.waitUntil(
        lambda: bench.images.collection is not None and len(bench.images.collection) == 3,
        timeout=PATIENCE,
    )
    qtbot.mouseClick(bench.images.start, Qt.MouseButton.LeftButton)
    add_class(qtbot, bench, "dark")
    press(qtbot, bench, "1s")
    assert not bench.label.message.is_wrong()
    assert viewer.dims.point[0] == 1
    layer.name = "other"
    press(qtbot, bench, "1s")
    assert not bench.label.message.is_wrong()
    assert viewer.dims.point[0] == 2
    viewer.layers.remove(layer)
    press(qtbot, bench, "s")
    assert bench.label.message.text() == "“film” was removed; open it again on the tab Images."


def test_labels_can_be_kept_elsewhere_after_opening(
    open_bench: Any, qtbot: Any, folder: Path, tmp_path: Path
) -> None:
    _, bench = open_bench(folder)
    add_class(qtbot, bench, "dark")
    press(qtbot, bench, "1")
    bench.show_tab(IMAGES)
    bench.images.keeping.unfold(True)
    line = bench.images.labels.findChild(QLineEdit)
    qtbot.keyClicks(line, str(tmp_path / "mine.csv"))
    qtbot.waitUntil(
        lambda: bench.label.page is not None and "mine.csv" in bench.label.message.text(),
        timeout=PATIENCE,
    )
    # Another file has labels of its own.
    assert bench.label.page.book.counts() == {}
    bench.images.who.selectAll()
    qtbot.keyClicks(bench.images.who, "Ada")
    qtbot.keyClick(bench.images.who, Qt.Key.Key_Return)
    bench.show_tab(LABEL)
    add_class(qtbot, bench, "bright")
    press(qtbot, bench, "1")
    (label,) = dict(read_labels(tmp_path / "mine.csv").items()).values()
    assert (label.class_name, label.who) == ("bright", "Ada")
    assert read_labels(folder / "labels.csv").counts() == {"dark": 1}


def test_rows_without_a_class_are_remarked_on(open_bench: Any, folder: Path) -> None:
    heading = "path,plane,object,mask,label,who,when,drawn,action,detail\n"
    (folder / "labels.csv").write_text(f"{heading}cell0.png,,,,round,,,,,\ncell1.png,,,, ,,,,,\n")
    (folder.parent / "bob.csv").write_text("path,label\ncells/cell0.png,round\ncells/cell2.png,\n")
    _, bench = open_bench(folder)
    said = "1 row has no class, such as {}, and counts as not labelled."
    assert said.format("cell1.png") in bench.label.message.text()
    bench.label.page.compare_with(folder.parent / "bob.csv")
    assert said.format("cell2.png") in bench.label.page.message.text()


def test_a_folder_for_labels_holds_the_usual_file(open_bench: Any, folder: Path) -> None:
    _, bench = open_bench(folder)
    bench.images.labels.set_path(str(folder.parent))
    assert bench.images.labels_file() == folder.parent / "labels.csv"


def test_labels_of_images_that_are_not_open_are_counted(open_bench: Any, folder: Path) -> None:
    lines = ["path,plane,object,mask,label,who,when,drawn,action,detail"]
    names = ["cell0.png", "gone\u00e9.png", "cell1.png", "away.png"]
    lines += [f"{name},,,,round,bob,2026-01-01T00:00:00Z,,," for name in names]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _, bench = open_bench(folder)
    text = bench.label.message.text()
    assert "4 labels are in it already" in text
    assert "bob (4)" in text
    assert "2 labels are of rows that are not open here, such as gone\u00e9.png" in text
    bench.label.page.compare_with(folder / "labels.csv")
    assert "2 labels are of rows that are not open" in bench.label.page.message.text()
