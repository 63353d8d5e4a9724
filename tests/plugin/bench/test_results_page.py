"""The page of results in a real window: counts, mistakes, corrections, by keys and by mouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget
from simulated_rows import make_objects, make_rows, true_class
from tab_key import tab_stops

from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.plugin.gallery.keys import ACTIONS
from napari_cellclf.plugin.gallery.results_page import TABLE, ResultsPage

LEFT = Qt.MouseButton.LeftButton
CLASSES = ("dim", "mid", "bright")
#: Predicted as "dim", whatever they are.
WRONG = {4: 0.95, 11: 0.65, 17: 0.80}


def predictions_of(collection: Any, n: int) -> Predictions:
    """Predict the true class of all rows but three, and of one row nothing."""
    probabilities = np.full((n, 3), 0.05, np.float32)
    for number in range(n):
        probabilities[number, CLASSES.index(true_class(number))] = 0.9
    for number, sure in WRONG.items():
        probabilities[number] = sure, (1 - sure) / 2, (1 - sure) / 2
    probabilities[5] = 0.34, 0.33, 0.33
    kept = [number for number in range(n) if number != 7]
    # As a run gives them: by id, in another order.
    kept.reverse()
    return Predictions(probabilities[kept], CLASSES, tuple(collection.ids[one] for one in kept))


@pytest.fixture
def open_page(qtbot: Any) -> Iterator[Callable[..., tuple[ResultsPage, LabelBook]]]:
    opened = []

    def opener(n: int = 30, labelled: int = 20) -> tuple[ResultsPage, LabelBook]:
        page, book, collection = ResultsPage(), LabelBook("me"), make_rows(n)
        window = QWidget()
        column = QVBoxLayout(window)
        column.addWidget(page.overview)
        column.addWidget(page, 1)
        for number in range(labelled):
            book.label([collection.ids[number]], true_class(number))
        qtbot.addWidget(window)
        window.resize(360, 900)
        window.show()
        qtbot.waitExposed(window)
        window.activateWindow()
        found = predictions_of(collection, n)
        page.show_results(collection, found, unsure=found.confidences < 0.5, book=book)
        opened.append((window, page))
        return page, book

    yield opener
    for _, page in opened:
        page.shut_down()


def click_cell(qtbot: Any, table: Any, row: int, column: int) -> None:
    """Click a number."""
    place = table.visualItemRect(table.item(row, column)).center()
    qtbot.mouseClick(table.viewport(), LEFT, pos=place)


def shown(page: ResultsPage) -> list[int]:
    """Return the rows of the gallery, which must be those of the table."""
    rows = sorted(page.gallery.rows.shown.tolist())
    assert sorted(page.table.rows.order.tolist()) == rows
    return rows


def test_before_anything_is_classified(qtbot: Any) -> None:
    page = ResultsPage()
    qtbot.addWidget(page)
    page.show()
    assert "are shown here" in page.overview.summary.text()
    assert not page.save.isEnabled()
    assert not page.retrain.isEnabled()
    page.shut_down()


def test_it_counts_and_says_what_is_wrong(open_page: Any) -> None:
    page, _ = open_page()
    assert page.overview.summary.text() == (
        "29 images predicted, 1 unsure, 1 not classified. Of 19 labelled, 15 are predicted right "
        "(78.9 %; too good if the model learnt from them)."
    )
    counted = page.overview.counts.texts()[0]
    assert counted[3:] == ["1", "1"]
    assert sum(map(int, counted)) == 30
    assert page.overview.confusion_section.isVisible()
    page.overview.confusion_section.unfold(True)
    assert page.window().minimumSizeHint().width() <= 360
    # A prediction that is unsure counts as what it is.
    wrong = [*WRONG, 5]
    assert sum(true_class(number) != "dim" for number in wrong) == 4


def test_groups_are_counted_and_choose_rows(open_page: Any, qtbot: Any) -> None:
    page, _ = open_page()
    page.overview.group.setCurrentIndex(page.overview.group.findData("plate"))
    texts = page.overview.counts.texts()
    assert [page.overview.counts.verticalHeaderItem(at).text() for at in range(5)] == [
        "all", "P0", "P1", "P2", "P3",
    ]  # fmt: skip
    click_cell(qtbot, page.overview.counts, 2, 0)
    rows = shown(page)
    assert len(rows) == int(texts[2][0])
    assert all(number % 4 == 1 for number in rows)
    # The unsure one is counted apart, and found there.
    click_cell(qtbot, page.overview.counts, 0, 3)
    assert shown(page) == [5]
    click_cell(qtbot, page.overview.counts, 0, 4)
    assert shown(page) == [7]
    # The same number again lets go; so does the gallery's own button.
    click_cell(qtbot, page.overview.counts, 0, 4)
    assert len(shown(page)) == 30
    page.overview.counts.setFocus()
    page.overview.counts.setCurrentCell(1, 1)
    qtbot.keyClick(page.overview.counts, Qt.Key.Key_Return)
    assert 0 < len(shown(page)) < 10
    page.gallery.show_only(None)
    assert len(shown(page)) == 30


def test_a_cell_of_the_confusion_matrix_shows_its_rows(open_page: Any, qtbot: Any) -> None:
    page, _ = open_page()
    page.overview.confusion_section.unfold(True)
    names = [page.overview.confusion.verticalHeaderItem(at).text() for at in range(3)]
    row, column = names.index(true_class(4)), names.index("dim")
    click_cell(qtbot, page.overview.confusion, row, column)
    assert set(shown(page)) == {n for n in (*WRONG, 5) if true_class(n) == true_class(4)}
    qtbot.mouseClick(page.only_unsure, LEFT, pos=QPoint(8, page.only_unsure.height() // 2))
    assert shown(page) == [5]
    qtbot.mouseClick(page.only_unsure, LEFT, pos=QPoint(8, page.only_unsure.height() // 2))
    assert len(shown(page)) == 30


@pytest.mark.parametrize("place", ["gallery", "table"])
def test_worst_mistakes_are_corrected_by_keys(open_page: Any, qtbot: Any, place: str) -> None:
    page, book = open_page()
    if place == "table":
        qtbot.mouseClick(page.as_table, LEFT)
    qtbot.mouseClick(page.worst, LEFT)
    part = page.table if place == "table" else page.gallery.view
    qtbot.waitUntil(part.hasFocus, timeout=5000)
    assert page.current() == 4
    assert "labelled" in page.hint.text()
    chosen: list[int] = []
    page.row_chosen.connect(chosen.append)
    # The label was wrong, not the model; the next mistake is shown.
    qtbot.keyClick(part, Qt.Key.Key_1)
    assert book.label_of(page.collection.ids[4]).class_name == "dim"
    assert page.current() == 17
    assert chosen == [17]
    qtbot.keyClick(part, Qt.Key.Key_1)
    assert page.retrain.text() == "Retrain with corrections (2)"
    assert "17 are predicted right" in page.overview.summary.text()
    # What was corrected stays in view, until the mistakes are asked for again.
    assert len(shown(page)) == 4
    qtbot.mouseClick(page.worst, LEFT)
    assert shown(page) == [5, 11]
    qtbot.keyClick(part, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert page.retrain.text() == "Retrain with corrections (1)"
    assert book.label_of(page.collection.ids[17]).class_name == true_class(17)
    with qtbot.waitSignal(page.retrain_wanted) as wanted:
        qtbot.mouseClick(page.retrain, LEFT)
    assert len(wanted.args[0]) == 20
    assert wanted.args[0][page.collection.ids[4]].class_name == "dim"


def test_gallery_table_and_viewer_follow_each_other(open_page: Any, qtbot: Any) -> None:
    page, _ = open_page()
    chosen: list[int] = []
    opened: list[int] = []
    page.row_chosen.connect(chosen.append)
    page.row_activated.connect(opened.append)
    view = page.gallery.view
    view.setFocus()
    qtbot.waitUntil(view.hasFocus, timeout=5000)
    first, second = page.gallery.rows.shown[:2].tolist()
    place = view.visualRect(page.gallery.rows.index(0, 0)).center()
    qtbot.mouseClick(view.viewport(), LEFT, pos=place)
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert (chosen, page.table.chosen()) == ([first, second], second)
    qtbot.keyClick(view, Qt.Key.Key_S)
    assert opened == [second]
    qtbot.mouseClick(page.as_table, LEFT)
    assert page.pages.currentIndex() == TABLE
    assert page.current() == second
    table = page.table
    qtbot.waitUntil(table.hasFocus, timeout=5000)
    qtbot.keyClick(table, Qt.Key.Key_Home, Qt.KeyboardModifier.ControlModifier)
    assert (page.current(), page.gallery.current()) == (table.rows.number(0),) * 2
    qtbot.keyClick(table, Qt.Key.Key_S)
    assert opened == [second, table.rows.number(0)]
    # As where it was chosen in the viewer: nothing is told back.
    told = list(chosen)
    page.go_to(12)
    assert (page.current(), page.gallery.current(), chosen) == (12, 12, told)
    qtbot.mouseClick(page.show_in_viewer, LEFT)
    assert opened[-1] == 12


def test_labels_of_names_and_of_other_pages_are_known(open_page: Any, qtbot: Any) -> None:
    page, book = open_page(labelled=0)
    assert not page.overview.confusion_section.isVisible()
    book.label([page.collection.ids[4]], "a fourth class")
    assert page.overview.summary.text().endswith(
        "Of 1 labelled, 0 are predicted right (0.0 %; too good if the model learnt from them)."
    )
    assert page.overview.confusion_section.isVisible()
    assert page.retrain.isEnabled()
    book.clear([page.collection.ids[4]])
    assert not page.retrain.isEnabled()


def test_objects_have_a_page_too(qtbot: Any) -> None:
    page, collection = ResultsPage(), make_objects()
    qtbot.addWidget(page)
    page.show()
    probabilities = np.tile(np.array([[0.8, 0.2]], np.float32), (len(collection), 1))
    page.show_results(collection, Predictions(probabilities, ("a", "b"), collection.ids))
    assert page.overview.summary.text() == "18 objects predicted."
    page.correct("b")
    assert page.labels() == {}
    page.go_to(4)
    page.correct("b")
    assert {one.class_name for one in page.labels().values()} == {"b"}
    assert page.current() == 5
    page.shut_down()


KEY = Qt.Key
SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


@pytest.mark.parametrize("place", ["gallery", "table"])
def test_every_listed_key_works(open_page: Any, qtbot: Any, place: str) -> None:
    page, book = open_page(labelled=0)
    if place == "table":
        qtbot.mouseClick(page.as_table, LEFT)
    part = page.table if place == "table" else page.gallery.view
    ids, tried = page.collection.ids, set()

    def press(name: str, key: Any, modifier: Any = Qt.KeyboardModifier.NoModifier) -> int:
        """Press the key of an action at row 12; returns the row behind it."""
        page.go_to(12)
        following = page._next_of(12)
        part.setFocus()
        qtbot.waitUntil(part.hasFocus, timeout=5000)
        qtbot.keyClick(part, key, modifier)
        tried.add(name)
        return following

    def given() -> str:
        label = book.label_of(ids[12])
        return "" if label is None else label.class_name

    for name in ("dim", "mid", "bright", *"abcdef"):
        book.add_class(name)
    for number in range(9):
        following = press(f"label {number + 1}", str(number + 1))
        assert given() == page.rows.classes[number]
        assert page.current() == following
    press("clear", KEY.Key_Delete)
    assert (given(), page.current()) == ("", 12)
    press("undo", KEY.Key_Z, CONTROL)
    assert given() == page.rows.classes[8]
    press("redo", KEY.Key_Z, CONTROL | SHIFT)
    assert given() == ""
    following = press("accept", KEY.Key_Return)
    assert (given(), page.current()) == (true_class(12), following)
    following = press("unsure", KEY.Key_U)
    assert (given(), page.current()) == ("", following)
    assert book.is_unsure(ids[12])
    page.go_to(12)
    assert "marked as unsure" in page.hint.text()
    press("unsure", KEY.Key_U)
    assert not book.is_unsure(ids[12])
    following = press("skip", KEY.Key_Space)
    assert (given(), page.current()) == ("", following)
    page.go_to(12)
    visible = page.table.visible() if place == "table" else page.gallery.visible()
    assert 12 in visible
    press("accept page", KEY.Key_Return, SHIFT)
    accepted = {row for row in visible if row != 7}
    assert {page.collection.row_of(one) for one, _ in book.items()} == accepted
    assert given() == true_class(12)
    with qtbot.waitSignal(page.row_activated) as shown_row:
        press("show", KEY.Key_S)
    assert shown_row.args == [12]
    assert tried == {action.name for action in ACTIONS}


def test_changed_keys_are_used_and_told(open_page: Any, qtbot: Any) -> None:
    page, book = open_page(labelled=0)
    page.keys.change({"label 2": "Q", "accept": "A", "show": "Return"})
    page.gallery.view.setFocus()
    qtbot.waitUntil(page.gallery.view.hasFocus, timeout=5000)
    page.go_to(12)
    assert "Q mid" in page.hint.text()
    assert "A accepts" in page.hint.text()
    qtbot.keyClick(page.gallery.view, KEY.Key_2)
    assert not book.labels
    qtbot.keyClick(page.gallery.view, KEY.Key_Q)
    assert book.label_of(page.collection.ids[12]).class_name == "mid"
    page.go_to(13)
    qtbot.keyClick(page.gallery.view, KEY.Key_A)
    assert book.label_of(page.collection.ids[13]).class_name == true_class(13)


def test_a_mistake_is_accepted_where_the_label_was_wrong(open_page: Any, qtbot: Any) -> None:
    page, book = open_page()
    page.go_to(4)
    page.gallery.view.setFocus()
    qtbot.waitUntil(page.gallery.view.hasFocus, timeout=5000)
    qtbot.keyClick(page.gallery.view, KEY.Key_Return)
    assert book.label_of(page.collection.ids[4]).class_name == "dim"
    assert page.retrain.text() == "Retrain with corrections (1)"


def test_why_images_have_no_result_is_listed(open_page: Any, qtbot: Any) -> None:
    page, book = open_page()
    assert not page.overview.failed_section.isVisible()
    failures = {page.collection.ids[7]: "it is damaged", "/data/gone.png": "gone.png has no mask"}
    found = predictions_of(page.collection, 30)
    page.show_results(page.collection, found, book=book, failures=failures)
    assert page.overview.failed_section._summary.text() == "2 images, and why"
    qtbot.mouseClick(page.overview.failed_section.heading, LEFT)
    assert page.overview.reasons.isVisible()
    assert page.overview.reasons.toPlainText() == (
        "image_00007.png: it is damaged\ngone.png has no mask"
    )
    model = page.table.model()
    index = model.index(page.table.rows.place(7), 0)
    assert "it is damaged" in model.data(index, Qt.ItemDataRole.ToolTipRole)
    page.go_to(7)
    assert page.hint.text().startswith("it is damaged")


def test_tab_goes_downwards(open_page: Any, qtbot: Any) -> None:
    page, _ = open_page()
    page.overview.confusion_section.unfold(True)
    qtbot.wait(50)
    stops = tab_stops(page.window(), page.overview.group)
    assert len(stops) >= 12
    # In one line from left to right; half a line of text may lie between two of them.
    assert stops == sorted(stops, key=lambda stop: (stop[0] // 12, stop[1]))


def test_images_unlike_anything_in_training_are_found_in_every_way(
    open_page: Any, qtbot: Any
) -> None:
    page, book = open_page()
    scores = np.full(29, 0.5, np.float32)
    collection, found = page.collection, predictions_of(page.collection, 30)
    # The predictions are in another order, without the seventh.
    places = {identity: at for at, identity in enumerate(found.ids)}
    for number, score in ((3, 2.5), (5, 1.5), (12, 8.0)):
        scores[places[collection.ids[number]]] = score
    remarks = [()] * 29
    remarks[places[collection.ids[12]]] = ("constant channel: w3",)
    found = replace(found, unlike_scores=scores, remarks=tuple(remarks))
    page.show_results(collection, found, unsure=found.confidences < 0.5, book=book)
    qtbot.mouseClick(page.only_unlike, LEFT)
    assert shown(page) == [3, 5, 12]
    qtbot.mouseClick(page.only_unlike, LEFT)
    assert "3 unlike anything in training" in page.overview.summary.text()
    # The one that is unsure, too, is counted as unlike.
    assert page.overview.counts.horizontalHeaderItem(3).text() == "unlike"
    click_cell(qtbot, page.overview.counts, 0, 3)
    assert shown(page) == [3, 5, 12]
    click_cell(qtbot, page.overview.counts, 0, 3)
    sort = page.gallery._sort
    at = sort.findText("Sort: most unlike")
    sort.setFocus()
    while sort.currentIndex() != at:
        qtbot.keyClick(sort, Qt.Key.Key_Down if sort.currentIndex() < at else Qt.Key.Key_Up)
    qtbot.keyClick(sort, Qt.Key.Key_Return)
    page.gallery.sort_by(sort.currentData())
    assert page.gallery.rows.shown[:3].tolist() == [12, 3, 5]
    tile = page.gallery.rows.tile(12)
    assert (tile.unlike, page.gallery.rows.tile(0).unlike) == (True, False)
    qtbot.mouseClick(page.as_table, LEFT)
    header = page.table.horizontalHeader()
    for _ in range(2):
        where = QPoint(header.sectionViewportPosition(4) + 10, header.height() // 2)
        qtbot.mouseClick(header.viewport(), LEFT, pos=where)
    assert page.table.rows.order[:3].tolist() == [12, 3, 5]
    qtbot.keyClick(page.table, Qt.Key.Key_Down)
    page.go_to(12)
    assert "unlike score: 8.00 (1 is the limit)" in page.hint.text()
    assert "constant channel: w3" in page.hint.text()
    assert page.minimumSizeHint().width() <= 360


def test_labels_that_are_likely_wrong_are_listed(open_page: Any, qtbot: Any) -> None:
    page, book = open_page()
    title = "Sort: likely wrong labels"
    box = page.gallery.tab_stops[0]
    assert title not in [box.itemText(at) for at in range(box.count())]
    doubts = np.full(30, np.nan)
    doubts[:20] = 0
    doubts[[9, 3, 14]] = 0.2, 0.9, 0.5
    # Those of other labels, such as of a folder that is open elsewhere, say nothing of these.
    page.doubt(LabelBook(), doubts)
    assert title not in [box.itemText(at) for at in range(box.count())]
    page.doubt(book, doubts)
    box.setFocus()
    while box.currentText() != title:
        place = box.currentIndex()
        qtbot.keyClick(box, Qt.Key.Key_Down)
        box.setFocus()
        assert box.currentIndex() == place + 1
    assert page.gallery.rows.shown[:3].tolist() == [3, 14, 9]
    # Rows without a label, and of a test, are last; a key corrects the first.
    assert set(page.gallery.rows.shown[20:].tolist()) == set(range(20, 30))
    page.go_to(3)
    page.gallery.view.setFocus()
    qtbot.waitUntil(page.gallery.view.hasFocus, timeout=5000)
    qtbot.keyClick(page.gallery.view, Qt.Key.Key_3)
    assert book.label_of(page.collection.ids[3]).class_name == "bright"
    assert page.gallery.rows.sorted_by == "score:likely wrong labels"
    # A prediction of other rows has no such list.
    page.show_results(make_rows(29), predictions_of(make_rows(29), 29), book=book)
    assert title not in [box.itemText(at) for at in range(box.count())]
