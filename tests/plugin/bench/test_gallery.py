"""The gallery in a real window: keys, mouse, menus, sorting, filtering, and no stall."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor, QContextMenuEvent, QDesktopServices, QPixmap
from qtpy.QtWidgets import QApplication, QMenu
from simulated_rows import make_objects, make_rows

from napari_cellclf.plugin.gallery.gallery import Gallery
from napari_cellclf.plugin.gallery.gallery_model import GalleryFilter
from napari_cellclf.plugin.gallery.thumbnails import ThumbnailLoader

LEFT = Qt.MouseButton.LeftButton
CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
CLASSES = ("dim", "mid", "bright")


@pytest.fixture
def open_gallery(qtbot: Any) -> Iterator[Callable[..., Gallery]]:
    opened = []

    def opener(count: int = 30, **options: Any) -> Gallery:
        gallery = Gallery()
        qtbot.addWidget(gallery)
        gallery.resize(360, 600)
        gallery.set_collection(make_rows(count, **options))
        gallery.rows.set_classes(CLASSES)
        gallery.show()
        qtbot.waitExposed(gallery)
        gallery.activateWindow()
        gallery.view.setFocus()
        opened.append(gallery)
        return gallery

    yield opener
    for gallery in opened:
        gallery.shut_down()


def _at(gallery: Gallery, place: int) -> QPoint:
    return gallery.view.visualRect(gallery.rows.index(place, 0)).center()


def _click(qtbot: Any, gallery: Gallery, place: int, key: Any = None) -> None:
    port = gallery.view.viewport()
    modifiers = Qt.KeyboardModifier.NoModifier if key is None else key
    qtbot.mouseClick(port, LEFT, modifiers, _at(gallery, place))


def _key(qtbot: Any, gallery: Gallery, key: Any, modifier: Any = None) -> None:
    modifiers = Qt.KeyboardModifier.NoModifier if modifier is None else modifier
    qtbot.keyClick(gallery.view, key, modifiers)


def test_the_mouse_selects_as_everywhere(open_gallery: Any, qtbot: Any) -> None:
    gallery = open_gallery()
    chosen: list[int] = []
    gallery.row_chosen.connect(chosen.append)
    _click(qtbot, gallery, 1)
    assert (gallery.current(), gallery.selected()) == (1, (1,))
    _click(qtbot, gallery, 7, SHIFT)
    # In the order of reading, not the tiles of a rectangle.
    assert gallery.selected() == (1, 2, 3, 4, 5, 6, 7)
    _click(qtbot, gallery, 3, CONTROL)
    _click(qtbot, gallery, 9, CONTROL)
    assert gallery.selected() == (1, 2, 4, 5, 6, 7, 9)
    assert chosen == [1, 7, 3, 9]
    assert "7 selected" in gallery._count.text()
    shown: list[int] = []
    gallery.row_activated.connect(shown.append)
    _click(qtbot, gallery, 4)
    qtbot.mouseDClick(gallery.view.viewport(), LEFT, pos=_at(gallery, 4))
    assert shown == [4]


def test_arrows_go_through_the_tiles(open_gallery: Any, qtbot: Any) -> None:
    gallery = open_gallery(31)
    across = gallery.view._across
    assert across == 3
    _click(qtbot, gallery, 0)
    for key, expected in (
        (Qt.Key.Key_Right, 1),
        (Qt.Key.Key_Down, 4),
        (Qt.Key.Key_Left, 3),
        (Qt.Key.Key_Up, 0),
        (Qt.Key.Key_Up, 0),
        (Qt.Key.Key_End, 30),
        (Qt.Key.Key_Down, 30),
        (Qt.Key.Key_Home, 0),
        (Qt.Key.Key_PageDown, 12),
        (Qt.Key.Key_PageUp, 0),
    ):
        _key(qtbot, gallery, key)
        assert gallery.current() == expected
        rect = gallery.view.visualRect(gallery.view.currentIndex())
        assert gallery.view.viewport().rect().contains(rect)
    for _ in range(4):
        _key(qtbot, gallery, Qt.Key.Key_Right, SHIFT)
    assert gallery.selected() == (0, 1, 2, 3, 4)
    _key(qtbot, gallery, Qt.Key.Key_A, CONTROL)
    assert len(gallery.selected()) == 31


def test_tiles_are_sorted(open_gallery: Any, qtbot: Any) -> None:
    gallery = open_gallery(6)
    rows = gallery.rows
    probabilities = np.array(
        [[0.5, 0.5, 0], [0, 0.9, 0.1], [0.6, 0.2, 0.2], [0, 0, 1], [0.7, 0.3, 0], [0, 0.4, 0.6]]
    )
    rows.set_predictions(probabilities)
    rows.set_labels(np.array([-1, -1, -1, 0, -1, -1]))
    rows.set_order([5, 2, 0])
    rows.set_scores({"unlike": np.array([3.0, 1, 2, 6, 5, 4])})
    gallery.refresh()
    gallery.go_to(4)
    for how, expected in (
        ("order", [5, 2, 0, 1, 4, 3]),
        ("class", [3, 4, 2, 0, 1, 5]),
        ("least sure", [0, 2, 5, 4, 1, 3]),
        ("most sure", [3, 1, 4, 2, 5, 0]),
        ("name", [0, 1, 2, 3, 4, 5]),
        ("field:plate", [0, 4, 1, 5, 2, 3]),
        ("score:unlike", [3, 4, 5, 0, 2, 1]),
    ):
        # As a user chooses: the list is opened, and a line of it confirmed.
        box = gallery._sort
        at = box.findData(how)
        assert at >= 0
        box.setFocus()
        while box.currentIndex() != at:
            key = Qt.Key.Key_Down if box.currentIndex() < at else Qt.Key.Key_Up
            qtbot.keyClick(box, key)
        assert list(rows.shown) == expected, how
        # What was current and selected stays so.
        assert gallery.current() == 4
        assert gallery.selected() == (4,)


def _menu_of(gallery: Gallery) -> dict[str, Any]:
    gallery._menu.popup(gallery.mapToGlobal(QPoint(0, 0)))
    found = {action.text(): action for action in gallery._menu.actions() if action.text()}
    for action in list(found.values()):
        if action.menu() is not None:
            found |= {f"{action.text()}/{one.text()}": one for one in action.menu().actions()}
    return found


def _choose(qtbot: Any, gallery: Gallery, title: str) -> None:
    action = _menu_of(gallery)[title]
    if "/" in title:
        action.trigger()
        gallery._menu.close()
        return
    rect = gallery._menu.actionGeometry(action)
    qtbot.mouseClick(gallery._menu, LEFT, pos=rect.center())


def test_tiles_are_filtered(open_gallery: Any, qtbot: Any) -> None:
    gallery = open_gallery(12)
    rows = gallery.rows
    given = np.full(12, -1)
    given[[0, 1]] = 1
    rows.set_labels(given)
    rows.set_predictions(np.tile([[0.2, 0.7, 0.1], [0.4, 0.3, 0.3]], (6, 1)), given < 0)
    rows.unsure_marked[5] = True
    gallery.refresh()
    for title, expected in (
        ("Labelled", {0, 1}),
        ("Not labelled", set(range(2, 12))),
        ("dim", {3, 5, 7, 9, 11}),
        ("plate/P1", {5, 9}),
        ("All", set(range(12))),
        ("mid", {0, 1, 2, 4, 6, 8, 10}),
        ("All", set(range(12))),
        ("Unsure", set(range(2, 12))),
        ("All", set(range(12))),
    ):
        _choose(qtbot, gallery, title)
        assert set(rows.shown.tolist()) == expected, title
    qtbot.keyClicks(gallery._text, "00011")
    assert list(rows.shown) == [11]
    assert "1 of 12" in gallery._count.text()
    qtbot.keyClicks(gallery._text, "x")
    assert not len(rows.shown)
    assert "No image passes the filter" in gallery.view._hint.text()
    assert gallery.view._hint.isVisible()
    gallery._text.clear()
    gallery.show_only([3, 4], "where the two annotators differ")
    assert list(rows.shown) == [3, 4]
    every = gallery._only.findChild(type(gallery._show))
    qtbot.mouseClick(every, LEFT)
    assert len(rows.shown) == 12


def test_a_current_row_that_is_filtered_out_is_none(open_gallery: Any) -> None:
    gallery = open_gallery(6)
    gallery.go_to(3)
    gallery.filter(GalleryFilter(field=("plate", "P1")))
    assert gallery.current() is None
    assert gallery.selected() == ()
    assert not gallery.go_to(3)


def test_the_menu_of_a_tile(
    open_gallery: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = open_gallery(6, folder=tmp_path)
    gallery.can_label = True
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    shown: list[int] = []
    labelled: list[Any] = []
    gallery.row_activated.connect(shown.append)
    gallery.class_chosen.connect(lambda *given: labelled.append(given))
    _click(qtbot, gallery, 2)
    _click(qtbot, gallery, 4, CONTROL)
    for keys in (
        [Qt.Key.Key_Down, Qt.Key.Key_Return],
        [Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Return],
        [Qt.Key.Key_Up, Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Return],
    ):
        at = gallery.view.mapToGlobal(_at(gallery, 4))
        event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, _at(gallery, 4), at)
        QApplication.sendEvent(gallery.view.viewport(), event)
        qtbot.waitUntil(lambda: isinstance(QApplication.activePopupWidget(), QMenu))
        for key in keys:
            target = QApplication.activePopupWidget()
            qtbot.keyClick(target, key)
        qtbot.waitUntil(lambda: QApplication.activePopupWidget() is None)
    assert shown == [4]
    assert [Path(one) for one in opened] == [tmp_path]
    assert labelled == [((2, 4), "mid")]


def test_thumbnails_come_and_what_cannot_be_read_says_so(open_gallery: Any, qtbot: Any) -> None:
    gallery = open_gallery(9, bad=4)
    loader = gallery.loader
    qtbot.waitUntil(lambda: len(loader._kept) == 8 and loader.problem(4) != "", timeout=20_000)
    assert isinstance(loader.get(0), QPixmap)
    assert loader.get(4) == loader.problem(4) == "/data/image_00004.png: is damaged"
    assert not loader.problem(0)
    middle = loader.get(5).toImage().pixelColor(46, 46)
    # Screens of 16 bits round each colour in its own way.
    assert np.ptp([middle.red(), middle.green(), middle.blue()]) <= 8
    assert middle.red() > 100
    side = loader.side
    gallery._size.setFocus()
    qtbot.keyClick(gallery._size, Qt.Key.Key_PageUp)
    assert loader.side > side
    qtbot.waitUntil(lambda: len(loader._kept) == 8 and loader.problem(4) != "", timeout=20_000)


def test_a_narrow_gallery_and_tiles_of_all_kinds_are_drawn(open_gallery: Any, qtbot: Any) -> None:
    gallery = open_gallery(9)
    gallery.rows.set_labels(np.array([0, 1, 2, -1, -1, -1, -1, -1, 0]))
    gallery.rows.set_predictions(np.tile([0.1, 0.2, 0.7], (9, 1)), np.arange(9) > 6)
    gallery.rows.unsure_marked[3] = True
    gallery.refresh()
    assert gallery.minimumSizeHint().width() <= 340
    tile = gallery.rows.tile
    assert (tile(0).name, tile(0).suggested, bool(tile(0).contradicted)) == ("dim", False, True)
    assert (tile(4).name, tile(4).sure, tile(4).suggested) == ("bright", "70 %", True)
    assert tile(3).unsure
    assert tile(7).unsure
    assert not tile(5).unsure
    assert "suggested: bright 70 %" in gallery.rows.hint(4)
    image = gallery.grab().toImage()
    drawn = [image.pixelColor(x, y) for x in range(0, 360) for y in range(30, 200, 2)]
    frame = QColor(tile(0).colour)
    apart = [max(abs(one.red() - frame.red()), abs(one.green() - frame.green())) for one in drawn]
    assert min(apart) <= 8


def _longest_turn(act: Callable[[int], None], seconds: float = 3.0) -> float:
    """Let the window live, with something done in between, and return its longest turn.

    In seconds of the processor: how long it waits for other programs is not the window's doing.
    """
    # What other tests have left behind is not looked through again and again in this one.
    gc.collect()
    gc.freeze()
    longest, end = 0.0, time.monotonic() + seconds
    step, last = 0, time.thread_time()
    while time.monotonic() < end:
        QApplication.processEvents()
        act(step)
        step += 1
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    gc.unfreeze()
    return longest


@pytest.mark.parametrize("count", [5_000, 100_000])
def test_the_window_is_never_held_up(open_gallery: Any, count: int) -> None:
    gallery = open_gallery(count)
    rng = np.random.default_rng(0)
    given = np.full(count, -1)
    bar = gallery.view.verticalScrollBar()

    def scroll_and_label(step: int) -> None:
        bar.setValue(step * 911 % bar.maximum())
        if step % 3 == 0:
            given[rng.integers(count)] = step % 3
            gallery.rows.set_labels(given.copy())
            gallery.rows.set_order(rng.permutation(count))
            gallery.refresh()
            gallery.go_to(gallery.rows.number(0))

    # 10 ms for 5,000 rows and 30 ms for 100,000; the first turn draws everything.
    _longest_turn(scroll_and_label, 0.5)
    assert _longest_turn(scroll_and_label) < 0.1


def test_what_was_asked_for_last_is_drawn_first(qtbot: Any) -> None:
    loader = ThumbnailLoader(16)
    loader.set_collection(make_rows(5_000))
    for number in range(2_000):
        loader.get(number)
    assert loader.n_waiting <= 402
    qtbot.waitUntil(lambda: isinstance(loader.get(1_999), QPixmap), timeout=20_000)
    qtbot.waitUntil(lambda: loader.n_waiting == 0, timeout=20_000)
    assert 0 not in loader._kept
    loader.close()


def test_thumbnails_are_bounded_by_bytes(qtbot: Any) -> None:
    loader = ThumbnailLoader(32, most_bytes=20 * 32 * 32 * 4)
    loader.set_collection(make_rows(100))
    for number in range(100):
        loader.get(number)
    qtbot.waitUntil(lambda: loader.n_waiting == 0, timeout=20_000)
    qtbot.wait(100)
    assert loader.kept_bytes <= 20 * 32 * 32 * 4
    assert len(loader._kept) == 20
    loader.close()


def test_an_image_is_read_once_for_its_objects(qtbot: Any) -> None:
    reads: list[str] = []
    loader = ThumbnailLoader(32)
    collection = make_objects(reads)
    loader.set_collection(collection)
    for number in range(len(collection)):
        loader.get(number)
    qtbot.waitUntil(lambda: loader.n_waiting == 0, timeout=20_000)
    # Two threads may begin with one image at the same time.
    assert 2 <= len(reads) <= 4
    loader.close()


def test_threads_end_with_the_loader(qtbot: Any) -> None:
    loader = ThumbnailLoader(32)
    loader.set_collection(make_rows(500))
    for number in range(500):
        loader.get(number)
    threads = loader._work._threads
    loader.close()
    assert not any(thread.is_alive() for thread in threads)
    # Nor do they outlive a window that nobody closed properly.
    loader.set_collection(make_rows(500))
    threads = loader._work._threads
    loader.deleteLater()
    qtbot.waitUntil(lambda: not any(thread.is_alive() for thread in threads), timeout=20_000)
