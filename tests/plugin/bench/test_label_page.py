"""Labelling in a real viewer: every key, drags, classes, undo, restart, a second annotator."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QMenu, QPushButton, QWidget
from simulated_rows import LEVELS, make_objects, make_rows, true_class
from tab_key import tab_stops

from napari_cellclf.core.collection import Collection as Rows
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.io.label_file import LabelFile, read_labels
from napari_cellclf.plugin.bench.label_page import LabelPage
from napari_cellclf.plugin.gallery.keys import ACTIONS

KEY = Qt.Key
LEFT = Qt.MouseButton.LeftButton
NONE = Qt.KeyboardModifier.NoModifier
SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
CLASSES = tuple(LEVELS)


@dataclass(eq=False)
class Learnt:
    probabilities: Any
    order: Any
    is_random: Any


@dataclass(eq=False)
class KnowingLearner:
    """Suggests what is right, the last rows first; hands it over when it is told to."""

    page: LabelPage
    is_ready: bool = True
    at_once: bool = True
    every_random: int = 5
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def learn(
        self,
        labels: Mapping[int, int],
        n_classes: int,
        random_rows: Collection[int],
        skipped: Collection[int],
    ) -> None:
        self.asked.append((dict(labels), n_classes, tuple(random_rows), tuple(skipped)))
        if self.at_once:
            QTimer.singleShot(0, self.hand_over)

    def hand_over(self) -> None:
        labels, n_classes, _, skipped = self.asked[-1]
        count = len(self.page.collection)
        probabilities = np.full((count, n_classes), 0.1)
        for row in range(count):
            at = CLASSES.index(true_class(row))
            if at < n_classes:
                probabilities[row, at] = 0.8
        order = [row for row in range(count)[::-1] if row not in labels and row not in skipped]
        order += [row for row in skipped if row not in labels]
        is_random = np.zeros(len(order), bool)
        is_random[:1] = len(labels) % self.every_random == 0
        self.page.suggest(Learnt(probabilities, np.array(order, np.int64), is_random))


@pytest.fixture
def open_page(make_napari_viewer: Any, qtbot: Any) -> Iterator[Callable[..., LabelPage]]:
    opened: list[LabelPage] = []

    def opener(
        count: int = 30,
        *,
        classes: tuple[str, ...] = CLASSES,
        book: LabelBook | None = None,
        bad: int | None = None,
    ) -> LabelPage:
        viewer = make_napari_viewer(show=True)
        book = LabelBook("ada", classes) if book is None else book
        page = LabelPage(make_rows(count, bad=bad), book)
        viewer.window.add_dock_widget(page, name="Label")
        viewer.window._qt_window.resize(1000, 760)
        opened.append(page)
        viewer.window._qt_window.activateWindow()
        # Without a click: the page takes the keys when it is shown.
        first = page.gallery.view if page.book.classes else page.bar.name.line
        qtbot.waitUntil(first.hasFocus, timeout=10_000)
        return page

    yield opener
    for page in opened:
        page.shut_down()


def _press(page: LabelPage, key: Any, modifier: Any = NONE) -> None:
    QTest.keyClick(page.gallery.view, key, modifier)


def _given(page: LabelPage) -> dict[int, str]:
    labels = page.labels.known()
    return {page.collection.row_of(row): label.class_name for row, label in labels.items()}


def _click_tile(page: LabelPage, number: int, modifier: Any = NONE) -> None:
    place = page.gallery.rows.place(number)
    at = page.gallery.view.visualRect(page.gallery.rows.index(place, 0)).center()
    QTest.mouseClick(page.gallery.view.viewport(), LEFT, modifier, at)


def _button(page: LabelPage, name: str) -> Any:
    return next(one for one in page.bar._buttons if one.name == name)


def test_what_cannot_be_read_gets_no_label(open_page: Any, qtbot: Any) -> None:
    page = open_page(5, bad=1)
    qtbot.waitUntil(lambda: page.gallery.loader.problem(1) != "", timeout=20_000)
    why = (
        "This image cannot be read and gets no label (/data/image_00001.png: is damaged); "
        "Space skips it."
    )
    assert page.hint.text().startswith("Press 1 to 3 to label")
    _press(page, KEY.Key_1)
    qtbot.waitUntil(lambda: page.gallery.current() == 1, timeout=10_000)
    assert (page.hint.text(), _given(page)) == (why, {0: "dim"})
    _press(page, KEY.Key_2)
    assert (page.message.text(), _given(page)) == (why, {0: "dim"})
    assert page.gallery.current() == 1
    _press(page, KEY.Key_Space)
    assert (page.gallery.current(), page.message.text()) == (2, "")
    # Among others, these are labelled.
    _click_tile(page, 1, CONTROL)
    _press(page, KEY.Key_3)
    assert _given(page) == {0: "dim", 2: "bright"}
    words = "1 image labelled “bright”; 1 image cannot be read and got no label."
    assert page.message.text() == words
    assert page.gallery.current() == 3


def test_digits_label_and_go_on(open_page: Any) -> None:
    page = open_page()
    assert page.gallery.current() == 0
    assert "1 to 3" in page.hint.text()
    for number in range(6):
        assert page.gallery.current() == number
        _press(page, str(CLASSES.index(true_class(number)) + 1))
    assert _given(page) == {number: true_class(number) for number in range(6)}
    assert [button.text().split()[-1] for button in page.bar._buttons] == ["2", "2", "2"]
    label = page.book.label_of(page.collection.ids[0])
    assert (label.who, label.drawn) == ("ada", "")
    # On the keypad, too.
    _press(page, KEY.Key_2, Qt.KeyboardModifier.KeypadModifier)
    assert _given(page)[6] == "mid"
    _press(page, KEY.Key_7)
    assert 7 not in _given(page)
    assert "There are 3 classes" in page.message.text()


def test_nine_classes_have_keys_and_others_buttons(open_page: Any) -> None:
    page = open_page(classes=tuple(f"class {number}" for number in range(12)))
    for number in range(9):
        _press(page, str(number + 1))
    assert _given(page) == {number: f"class {number}" for number in range(9)}
    QTest.mouseClick(_button(page, "class 11"), LEFT)
    assert _given(page)[9] == "class 11"


def test_suggestions_are_accepted_one_by_one_and_by_page(open_page: Any, qtbot: Any) -> None:
    page = open_page(200)
    _press(page, KEY.Key_Return)
    assert "There is no suggestion yet" in page.message.text()
    _press(page, KEY.Key_Return, SHIFT)
    assert "No image on this page" in page.message.text()
    page.set_learner(KnowingLearner(page))
    qtbot.waitUntil(lambda: bool(page.gallery.rows.suggestion(0)))
    assert page.gallery.current() == 0
    assert f"Enter accepts “{true_class(0)}”" in page.hint.text()
    _press(page, KEY.Key_Return)
    qtbot.waitUntil(lambda: page.gallery.current() == 199)
    assert _given(page) == {0: true_class(0)}
    _press(page, KEY.Key_Enter, Qt.KeyboardModifier.KeypadModifier)
    qtbot.waitUntil(lambda: page.gallery.current() == 198)
    # The third is another class than what is suggested.
    wrong = (CLASSES.index(true_class(198)) + 1) % 3
    _press(page, str(wrong + 1))
    qtbot.waitUntil(lambda: page.gallery.current() == 197)
    visible = page.gallery.visible()
    assert 197 in visible
    assert len(visible) >= 6
    _press(page, KEY.Key_Return, SHIFT)
    qtbot.waitUntil(lambda: page.gallery.current() == 197 - len(visible))
    assert f"{len(visible)} suggestions accepted" in page.message.text()
    given = _given(page)
    assert all(given[number] == true_class(number) for number in visible)
    assert given[198] == CLASSES[wrong]
    assert len(given) == 3 + len(visible)
    # All of them are taken back by one key.
    _press(page, KEY.Key_Z, CONTROL)
    assert len(_given(page)) == 3
    assert f"{len(visible)} labels" in page.message.text()


def test_rows_that_were_drawn_at_random_are_marked(open_page: Any, qtbot: Any) -> None:
    page = open_page(40)
    learner = KnowingLearner(page)
    page.set_learner(learner)
    qtbot.waitUntil(lambda: bool(page.gallery.rows.suggestion(0)))
    for number in range(12):
        before = page.gallery.current()
        _press(page, KEY.Key_Return)
        qtbot.waitUntil(lambda before=before: page.gallery.current() != before)
        assert len(_given(page)) == number + 1
    drawn = [label.drawn for _, label in page.book.items()]
    # Row 0 stood there before anything was offered.
    assert drawn == ["", "", "", "", "", "random", "", "", "", "", "random", ""]
    assert len(learner.asked[-1][2]) == 2


def test_the_next_image_waits_for_what_is_learnt_and_not_longer(open_page: Any, qtbot: Any) -> None:
    page = open_page(30)
    learner = KnowingLearner(page)
    page.set_learner(learner)
    qtbot.waitUntil(lambda: bool(page.gallery.rows.suggestion(0)))
    learner.at_once = False
    _press(page, "1")
    # What is seen is what a key labels: until the next image stands, it is the same one.
    assert page.gallery.current() == 0
    _press(page, "2")
    assert _given(page) == {0: "mid"}
    learner.hand_over()
    assert page.gallery.current() == 29
    _press(page, "1")
    begin = time.monotonic()
    qtbot.waitUntil(lambda: page.gallery.current() != 29, timeout=10_000)
    assert time.monotonic() - begin < 5
    current = page.gallery.current()
    # A late result does not change the image that is looked at.
    learner.hand_over()
    assert page.gallery.current() == current
    assert page.gallery.rows.shown[0] == current
    learner.is_ready = False
    _press(page, "1")
    assert page.gallery.current() != current


def test_a_result_of_other_classes_is_left_out(open_page: Any) -> None:
    page = open_page(10)
    learner = KnowingLearner(page, at_once=False)
    page.set_learner(learner)
    page.book.add_class("new")
    late = Learnt(np.full((10, 3), 1 / 3), np.arange(10), np.zeros(10, bool))
    page.suggest(late)
    assert page.gallery.rows.suggestion(0) == ""
    learner.hand_over()
    assert page.gallery.rows.suggestion(0) == true_class(0)


def test_nobody_begins_with_an_image_that_cannot_be_read(open_page: Any) -> None:
    page = open_page(10)
    assert page.gallery.current() == 0
    order = np.array([4, *range(1, 4), *range(5, 10)])
    page.suggest(Learnt(np.full((10, 3), np.nan), order, np.zeros(9, bool)))
    assert page.gallery.current() == 4


def test_what_was_said_of_a_key_is_over_with_the_next_change(open_page: Any) -> None:
    page = open_page(10, classes=("W" * 60, "other"))
    _press(page, "9")
    assert page.message.text() == "There are 2 classes; add another one with + Class."
    page.gallery.go_to(3)
    _press(page, "1")
    assert page.message.text() == ""
    page.gallery.go_to(3)
    assert len(page.hint.text()) < 80
    _press(page, "9")
    page.bar.merged.emit("W" * 60, "other")
    assert page.message.text() == ""


def test_skipped_and_unsure_images_come_last(open_page: Any, qtbot: Any) -> None:
    page = open_page(6)
    _press(page, KEY.Key_Space)
    assert page.gallery.current() == 1
    _press(page, KEY.Key_U)
    assert page.gallery.current() == 2
    assert page.book.is_unsure(page.collection.ids[1])
    assert page.gallery.rows.tile(1).unsure
    for _ in range(4):
        _press(page, "1")
    assert page.gallery.current() == 0
    assert page.gallery.rows.shown[:2].tolist() == [0, 1]
    # Pressed again, the mark is taken away.
    _click_tile(page, 1)
    _press(page, KEY.Key_U)
    assert not page.book.is_unsure(page.collection.ids[1])
    learner = KnowingLearner(page)
    page.set_learner(learner)
    assert learner.asked[-1][3] == (0,)
    _press(page, "1")
    _press(page, "1")
    qtbot.waitUntil(lambda: len(_given(page)) == 6 or page.gallery.current() == 0)
    if len(_given(page)) < 6:
        _press(page, "1")
    assert "All images are labelled" in page.hint.text()


def test_undo_has_no_limit_and_goes_to_where_it_was(open_page: Any) -> None:
    page = open_page(40)
    for number in range(25):
        _press(page, str(number % 3 + 1))
    for number in range(24, -1, -1):
        _press(page, KEY.Key_Z, CONTROL)
        assert page.gallery.current() == number
        assert len(_given(page)) == number
    _press(page, KEY.Key_Z, CONTROL)
    assert "There is nothing to undo" in page.message.text()
    for _ in range(25):
        _press(page, KEY.Key_Z, CONTROL | SHIFT)
    assert _given(page) == {number: CLASSES[number % 3] for number in range(25)}
    _press(page, KEY.Key_Z, CONTROL | SHIFT)
    assert "There is nothing to do again" in page.message.text()
    QTest.mouseClick(page._undo, LEFT)
    assert len(_given(page)) == 24
    QTest.mouseClick(page._redo, LEFT)
    assert len(_given(page)) == 25


def test_a_selection_is_labelled_at_once(open_page: Any) -> None:
    page = open_page(30)
    _click_tile(page, 2)
    _click_tile(page, 6, SHIFT)
    _click_tile(page, 4, CONTROL)
    assert "4 selected" in page.gallery._count.text()
    assert "the 4 selected images" in page.hint.text()
    _press(page, "2")
    assert _given(page) == dict.fromkeys((2, 3, 5, 6), "mid")
    assert page.gallery.current() == 0
    _press(page, KEY.Key_Right, SHIFT)
    QTest.mouseClick(_button(page, "dim"), LEFT)
    assert _given(page)[0] == _given(page)[1] == "dim"
    _press(page, KEY.Key_Z, CONTROL)
    assert page.gallery.selected() == (0, 1)
    _press(page, KEY.Key_Delete)
    assert len(_given(page)) == 4


def test_a_selection_is_dragged_onto_a_class(open_page: Any, qtbot: Any) -> None:
    page = open_page(30)
    _click_tile(page, 1)
    _click_tile(page, 3, CONTROL)
    port = page.gallery.view.viewport()
    start = page.gallery.view.visualRect(page.gallery.rows.index(3, 0)).center()
    target = _button(page, "bright")
    over = target.mapTo(target.window(), target.rect().center())
    window = target.window().windowHandle()

    def drop() -> None:
        # Qt's own loop of the drag runs now, and follows the mouse over the window.
        for step in (QPoint(-8, 0), QPoint(-2, 0), QPoint(0, 0)):
            QTest.mouseMove(window, over + step)
            QApplication.processEvents()
        QTest.mouseRelease(window, LEFT, NONE, over)

    QTest.mousePress(port, LEFT, NONE, start)
    QTimer.singleShot(300, drop)
    QTest.mouseMove(port, start + QPoint(0, -10))
    QTest.mouseMove(port, start + QPoint(0, -30))
    qtbot.waitUntil(lambda: len(_given(page)) == 2, timeout=10_000)
    assert _given(page) == {1: "bright", 3: "bright"}


def test_s_and_double_click_show_in_the_viewer(open_page: Any) -> None:
    page = open_page(12)
    shown: list[int] = []
    page.show_wanted.connect(shown.append)
    _press(page, KEY.Key_S)
    _press(page, KEY.Key_Right)
    _press(page, KEY.Key_Down)
    _press(page, KEY.Key_S)
    assert shown == [0, 1 + page.gallery.view._across]


def test_a_label_is_given_in_the_menu_of_a_tile(open_page: Any) -> None:
    page = open_page(6)
    page.gallery.class_chosen.emit((2, 3), "mid")
    assert _given(page) == {2: "mid", 3: "mid"}


def test_keys_are_listed_and_changed(open_page: Any) -> None:
    page = open_page(12)
    names = [action.name for action in ACTIONS]
    assert names[:2] == ["label 1", "label 2"]
    assert {"accept", "accept page", "skip", "unsure", "undo", "redo", "show"} <= set(names)
    assert all(action.title for action in ACTIONS)
    assert page.keys.key_of("undo") == "Ctrl+Z"
    page.keys.change({"label 1": "Q", "skip": "N"})
    assert page.hint.text() == "Press Q, 2 or 3 to label; N skips, U marks as unsure."
    assert page.bar._buttons[0].text().startswith("Q dim")
    _press(page, "1")
    assert not _given(page)
    _press(page, KEY.Key_Q)
    assert _given(page) == {0: "dim"}
    _press(page, KEY.Key_N)
    assert page.gallery.current() == 2
    page.keys.change({})
    _press(page, "1")
    assert _given(page) == {0: "dim", 2: "dim"}


def test_keys_are_letters_where_text_is_typed(open_page: Any) -> None:
    page = open_page(30)
    line = page.gallery._text
    QTest.mouseClick(line, LEFT)
    QTest.keyClicks(line, "us 12")
    assert line.text() == "us 12"
    line.clear()
    QTest.keyClicks(line, "00012")
    assert page.gallery.rows.shown.tolist() == [12]
    QTest.keyClick(line, KEY.Key_Return)
    assert not _given(page)
    assert page.gallery.view.hasFocus()


def test_classes_are_typed_first_of_all(open_page: Any, qtbot: Any) -> None:
    page = open_page(10, classes=())
    line = page.bar.name.line
    assert "Type the name of a class" in page.hint.text()
    qtbot.waitUntil(line.hasFocus, timeout=10_000)
    QTest.keyClicks(line, "round 1")
    QTest.keyClick(line, KEY.Key_Return)
    assert "Add a second class" in page.hint.text()
    assert line.hasFocus()
    QTest.keyClicks(line, "round 1")
    QTest.keyClick(line, KEY.Key_Return)
    assert "already" in page.message.text()
    assert page.message.is_wrong()
    line.clear()
    QTest.keyClicks(line, "long")
    QTest.mouseClick(page.bar.name.confirm, LEFT)
    assert page.book.classes == ("round 1", "long")
    assert page.gallery.view.hasFocus()
    QTest.mouseClick(page.bar.add, LEFT)
    QTest.keyClicks(line, "third")
    QTest.keyClick(line, KEY.Key_Escape)
    assert page.book.classes == ("round 1", "long")
    _press(page, "2")
    assert _given(page) == {0: "long"}


def _class_menu(page: LabelPage, name: str) -> QMenu:
    from qtpy.QtGui import QContextMenuEvent

    button = _button(page, name)
    at = button.rect().center()
    reason = QContextMenuEvent.Reason.Mouse
    QApplication.sendEvent(button, QContextMenuEvent(reason, at, button.mapToGlobal(at)))
    menu = QApplication.activePopupWidget()
    assert isinstance(menu, QMenu)
    return menu


def _choose(*titles: str) -> None:
    for title in titles:
        menu = QApplication.activePopupWidget()
        action = next(one for one in menu.actions() if one.text() == title)
        while menu.activeAction() is not action:
            QTest.keyClick(menu, KEY.Key_Down)
        QTest.keyClick(menu, KEY.Key_Right if action.menu() is not None else KEY.Key_Return)


def test_classes_are_renamed_merged_and_removed_with_undo(open_page: Any, qtbot: Any) -> None:
    page = open_page(12)
    for key in "123123":
        _press(page, key)
    _class_menu(page, "mid")
    _choose("Rename…")
    line = page.bar.name.line
    qtbot.waitUntil(line.hasFocus, timeout=10_000)
    assert line.text() == "mid"
    QTest.keyClicks(line, "medium")
    QTest.keyClick(line, KEY.Key_Return)
    assert page.book.classes == ("dim", "medium", "bright")
    assert _given(page)[1] == "medium"
    _class_menu(page, "dim")
    _choose("Merge into", "bright")
    assert page.book.classes == ("medium", "bright")
    assert _given(page)[0] == "bright"
    assert len(page.bar._buttons) == 2
    _class_menu(page, "medium")
    _choose("Remove class and its labels")
    assert page.book.classes == ("bright",)
    page.gallery.view.setFocus()
    for classes in (("medium", "bright"), ("dim", "medium", "bright"), CLASSES):
        _press(page, KEY.Key_Z, CONTROL)
        assert page.book.classes == classes
    assert _given(page) == {number: CLASSES[number % 3] for number in range(6)}
    _class_menu(page, "bright")
    _choose("Show only these")
    assert set(page.gallery.rows.shown.tolist()) == {2, 5}


def test_labelling_goes_on_in_every_order(open_page: Any) -> None:
    page = open_page(12)
    page.gallery.sort_by("field:plate")
    _click_tile(page, 4)
    _press(page, "1")
    assert page.gallery.current() == 8
    _press(page, "1")
    assert page.gallery.current() == 1
    page.gallery.sort_by("order")
    from napari_cellclf.plugin.gallery.gallery_model import GalleryFilter

    page.gallery.filter(GalleryFilter(labelled=False))
    for _ in range(10):
        _press(page, "2")
    assert not len(page.gallery.rows.shown)
    assert len(_given(page)) == 12
    page.gallery.filter(GalleryFilter())
    page.gallery.sort_by("name")
    page.gallery.go_to(5)
    _press(page, KEY.Key_Return)
    assert page.gallery.current() == 6


def test_labels_are_there_after_a_restart(open_page: Any, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    page = open_page(20, book=book)
    for name in CLASSES:
        line = page.bar.name.line
        page.bar.ask_for_class()
        QTest.keyClicks(line, name)
        QTest.keyClick(line, KEY.Key_Return)
    page.gallery.view.setFocus()
    for key in "1233":
        _press(page, key)
    _press(page, KEY.Key_U)
    # As after a crash: nothing is closed, and another process reads what there is.
    assert {label.class_name for _, label in read_labels(path).items()} == set(CLASSES)
    file.close()
    again = LabelBook("bob")
    file = LabelFile(path, again)
    reopened = open_page(20, book=again)
    assert _given(reopened) == {0: "dim", 1: "mid", 2: "bright", 3: "bright"}
    assert reopened.gallery.rows.unsure_marked[4]
    assert [button.name for button in reopened.bar._buttons] == list(CLASSES)
    assert reopened.gallery.current() == 5
    _press(reopened, "1")
    file.close()
    label = read_labels(path).label_of(reopened.collection.ids[5])
    assert (label.class_name, label.who) == ("dim", "bob")


def test_labels_that_cannot_be_saved_stay_and_say_so(open_page: Any) -> None:
    page = open_page(10)
    page.show_problem("the labels cannot be saved in labels.csv (No space left); free the disk")
    _press(page, "1")
    assert page.message.is_wrong()
    assert "No space left" in page.message.text()
    assert _given(page) == {0: "dim"}
    page.show_problem("")
    assert not page.message.is_wrong()


def test_two_annotators_are_compared(
    open_page: Any, qtbot: Any, tmp_path: Path, answer_dialog: Any
) -> None:
    page = open_page(12)
    path = tmp_path / "bob.csv"
    theirs = LabelBook("bob", CLASSES)
    file = LabelFile(path, theirs)
    for number in range(8):
        theirs.label([page.collection.ids[number]], CLASSES[number % 2])
    file.close()
    for number in range(6):
        _press(page, "1" if number in (0, 1, 2, 4) else "2")
    QTimer.singleShot(0, lambda: _choose("Compare with…"))
    QTest.mouseClick(page._more, LEFT)
    qtbot.waitUntil(lambda: bool(page.findChildren(QFileDialog)), timeout=10_000)
    answer_dialog(page, path)
    assert page.agreement.both == 6
    assert page.agreement.kappa == pytest.approx(2 / 3)
    assert "6 images have two labels: 1 differ" in page.message.text()
    assert page.gallery.rows.shown.tolist() == [1]
    assert page.gallery.rows.tile(1).sure == "| mid"
    assert page.gallery.current() == 1
    _press(page, "2")
    every = page.gallery._only.findChildren(QWidget)[-1]
    QTest.mouseClick(every, LEFT)
    assert len(page.gallery.rows.shown) == 12
    assert not page.compare_with(tmp_path / "none.csv")
    assert page.message.is_wrong()


def test_the_labels_are_handed_on_as_a_table(open_page: Any, tmp_path: Path) -> None:
    page = open_page(6)
    _press(page, "1")
    _press(page, "2")
    page.write_table(tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0] == "path,label,who,when,plate"
    assert [line.split(",")[1] for line in lines[1:]] == ["dim", "mid"]
    assert lines[2].endswith(",P1")


def test_objects_are_labelled_with_their_masks(
    make_napari_viewer: Any, qtbot: Any, tmp_path: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    collection = make_objects()
    book = LabelBook("ada", CLASSES)
    page = LabelPage(collection, book)
    file = LabelFile(tmp_path / "labels.csv", book, mask_of=page.labels.mask_of)
    viewer.window.add_dock_widget(page)
    viewer.window._qt_window.activateWindow()
    page.gallery.view.setFocus()
    qtbot.waitUntil(page.gallery.view.hasFocus, timeout=10_000)
    _press(page, "3")
    file.close()
    last = (tmp_path / "labels.csv").read_text().splitlines()[-1].split(",")
    assert last[0].endswith("field_0.png")
    assert last[2] == "1"
    assert last[3].endswith("field_0_masks.png")
    page.write_table(tmp_path / "table.csv")
    assert "path,mask,object,label" in (tmp_path / "table.csv").read_text()
    page.shut_down()


def test_a_key_is_quick_among_five_thousand_rows(open_page: Any, qtbot: Any) -> None:
    page = open_page(5_000)
    page.set_learner(KnowingLearner(page))
    qtbot.waitUntil(lambda: bool(page.gallery.rows.suggestion(0)), timeout=10_000)
    taken = []
    for _ in range(12):
        before = page.gallery.current()
        begin = time.perf_counter()
        _press(page, KEY.Key_Return)
        while page.gallery.current() == before:
            QApplication.processEvents()
        page.gallery.view.grab()
        taken.append(time.perf_counter() - begin)
    # Twenty milliseconds beside the learner, on an idle machine.
    assert sorted(taken)[len(taken) // 2] < 0.5


def test_the_page_is_narrow_and_its_buttons_fit(open_page: Any, qtbot: Any) -> None:
    page = open_page(12, classes=("a class with a very long name & more", "b", "c", "d", "e"))
    assert page.minimumSizeHint().width() <= 340
    for button in page.bar.findChildren(QPushButton):
        if button.isVisible():
            assert button.fontMetrics().horizontalAdvance(button.text()) < button.width() + 4


def test_every_listed_key_works(open_page: Any, qtbot: Any) -> None:
    classes = (*CLASSES, *"abcdef")
    page = open_page(40, classes=classes)
    ids, tried = page.collection.ids, set()

    def press(name: str, key: Any, modifier: Any = NONE) -> None:
        """Press the key of an action at row 12."""
        page.gallery.go_to(12)
        _press(page, key, modifier)
        tried.add(name)

    def given() -> str:
        return page.labels.class_of(12)

    for number in range(9):
        press(f"label {number + 1}", str(number + 1))
        assert given() == classes[number]
        assert page.gallery.current() != 12
    press("clear", KEY.Key_Delete)
    assert given() == ""
    press("undo", KEY.Key_Z, CONTROL)
    assert given() == classes[8]
    press("redo", KEY.Key_Z, CONTROL | SHIFT)
    assert given() == ""
    press("unsure", KEY.Key_U)
    assert page.book.is_unsure(ids[12])
    press("unsure", KEY.Key_U)
    assert not page.book.is_unsure(ids[12])
    press("skip", KEY.Key_Space)
    assert page.gallery.current() != 12
    assert page.gallery.rows.postponed[12]
    page.set_learner(KnowingLearner(page))
    qtbot.waitUntil(lambda: page.gallery.rows.suggestion(12) == true_class(12))
    press("accept", KEY.Key_Return)
    assert given() == true_class(12)
    before = len(page.book.labels)
    press("accept page", KEY.Key_Return, SHIFT)
    assert len(page.book.labels) > before + 3
    shown: list[int] = []
    page.show_wanted.connect(shown.append)
    press("show", KEY.Key_S)
    assert shown == [12]
    assert tried == {action.name for action in ACTIONS}


def test_tab_goes_downwards(open_page: Any, qtbot: Any) -> None:
    page = open_page(12)
    page.bar.ask_for_class()
    stops = tab_stops(page, page.bar.name.line)
    assert len(stops) == 7
    assert stops == sorted(stops, key=lambda stop: (stop[0] // 12, stop[1]))


def test_labels_of_a_test_are_never_listed_as_likely_wrong(qtbot: Any) -> None:
    plain = make_rows(6)
    splits = ("train", "test", "validation", " Test", "", "train")
    rows = [
        replace(row, fields={**row.fields, "split": split})
        for row, split in zip(plain.rows, splits, strict=True)
    ]
    page = LabelPage(Rows(rows, plain.read), LabelBook("ada", CLASSES))
    qtbot.addWidget(page)
    told = []
    page.doubted.connect(lambda: told.append(page.doubts))
    page.doubt(np.linspace(0.1, 0.6, 6))
    assert np.isnan(told[0]).tolist() == [False, True, False, True, False, False]
    page.gallery.sort_by("score:likely wrong labels")
    assert page.gallery.rows.shown[:4].tolist() == [5, 4, 2, 0]
    page.shut_down()
