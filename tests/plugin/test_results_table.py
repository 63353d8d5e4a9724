"""The table of predictions: sorted, filtered, grown and walked through, as a user does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_cellclf.plugin.gallery.predicted_rows import NONE, PredictedRows, RowFilter, SortBy
from napari_cellclf.plugin.gallery.results_table import ResultsTable

LEFT = Qt.MouseButton.LeftButton


def rows(n: int = 6, **changes: Any) -> PredictedRows:
    """Make rows of three classes; the second row was not classified."""
    predicted = np.arange(n) % 3
    predicted[1] = NONE
    values: dict[str, Any] = {
        "classes": ("a", "b", "c"),
        "ids": [f"Image{number}.png" for number in range(n)],
        "predicted": predicted,
        "confidence": np.linspace(0.4, 0.99, n, dtype=np.float32),
        "unsure": np.arange(n) == 0,
        "known": np.full(n, NONE),
        "name": "row {}".format,
        "hint": "about {}".format,
    }
    return PredictedRows(**(values | changes))


def known(n: int = 6) -> PredictedRows:
    """Make rows with labels, of which the third and the last are predicted wrongly."""
    labels = np.arange(n) % 3
    labels[2], labels[-1], labels[3] = 0, 1, NONE
    return rows(n, known=labels)


def test_rows_are_counted_filtered_and_sorted() -> None:
    some = known()
    counted, *apart = some.counts()
    assert (counted.tolist(), apart) == ([1, 1, 2], [1, 0, 1])
    assert some.wrong.tolist() == [False, False, True, False, False, True]
    assert some.confusion().tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert some.shown(RowFilter(wrong=True)).tolist() == [2, 5]
    assert some.shown(RowFilter(predicted=2, known=1)).tolist() == [5]
    assert some.shown(RowFilter(unsure=True)).tolist() == [0]
    assert some.shown(RowFilter(text="IMAGE4")).tolist() == [4]
    assert some.shown(by=SortBy.MISTAKES).tolist()[:2] == [5, 2]
    assert some.shown(by=SortBy.CONFIDENCE, descending=True).tolist() == [5, 4, 3, 2, 1, 0]
    assert some.shown(descending=True).tolist() == [5, 4, 3, 2, 1, 0]
    # Equal ones stay in the order of the images.
    assert some.shown(by=SortBy.PREDICTED).tolist() == [1, 0, 3, 4, 2, 5]


def test_rows_unlike_anything_in_training_are_counted_apart_filtered_and_sorted() -> None:
    scores = np.array([1.4, np.nan, 0.2, 3.0, 0.9, 1.0], np.float32)
    some = rows(unlike_scores=scores, groups=np.array(["P1", "P1", "P2", "P2", "P1", "P2"]))
    assert some.unlike.tolist() == [True, False, False, True, False, False]
    counted, *apart = some.counts()
    # The first is unsure, too, and the second was not classified.
    assert (counted.tolist(), apart) == ([0, 1, 2], [0, 2, 1])
    found = [(name, row.tolist(), *apart) for name, row, *apart in some.counts_by_group()]
    assert found == [("P1", [0, 1, 0], 0, 1), ("P2", [0, 0, 2], 0, 1)]
    assert some.shown(RowFilter(unlike=True)).tolist() == [0, 3]
    assert some.shown(RowFilter(unsure=True, like=True)).tolist() == []
    assert some.shown(RowFilter(predicted=0, sure=True)).tolist() == []
    assert some.shown(by=SortBy.UNLIKE, descending=True).tolist() == [3, 0, 5, 4, 2, 1]
    assert (some.marks(0), some.marks(3), some.marks(4)) == (", unsure, unlike", ", unlike", "")
    assert some.summary().startswith("5 images predicted, 2 unlike anything in training, 1 not")


def test_groups_are_counted_and_filtered() -> None:
    some = rows(groups=np.array(["P1", "P1", "P2", "P2", "P1", "P2"]))
    found = [(name, row.tolist(), *apart) for name, row, *apart in some.counts_by_group()]
    assert found == [("P1", [0, 1, 0], 1, 0), ("P2", [1, 0, 2], 0, 0)]
    assert some.shown(RowFilter(group="P1")).tolist() == [0, 1, 4]
    assert rows().counts_by_group() == []


@pytest.fixture
def table(qtbot: Any) -> ResultsTable:
    """A table that is shown."""
    widget = ResultsTable()
    qtbot.addWidget(widget)
    widget.resize(360, 300)
    widget.show()
    return widget


def texts(table: ResultsTable, column: int = 0) -> list[str]:
    """Return what a column shows, from the top."""
    model = table.model()
    return [model.data(model.index(row, column)) for row in range(model.rowCount())]


def click_header(qtbot: Any, table: ResultsTable, column: int) -> None:
    """Click the heading of a column."""
    header = table.horizontalHeader()
    place = QPoint(header.sectionViewportPosition(column) + 10, header.height() // 2)
    qtbot.mouseClick(header.viewport(), LEFT, pos=place)


def test_a_click_on_a_heading_sorts_and_the_row_stays_chosen(
    qtbot: Any, table: ResultsTable
) -> None:
    table.show_rows(rows())
    told: list[int] = []
    table.row_chosen.connect(told.append)
    qtbot.mouseClick(
        table.viewport(), LEFT, pos=table.visualRect(table.model().index(2, 0)).center()
    )
    assert (table.chosen(), told) == (2, [2])
    click_header(qtbot, table, 1)
    assert texts(table)[1] == "row 0"
    assert (table.chosen(), table.currentIndex().row()) == (2, 4)
    click_header(qtbot, table, 2)
    assert texts(table)[0] == "row 0"
    click_header(qtbot, table, 2)
    assert texts(table)[0] == "row 5"
    assert (table.chosen(), table.currentIndex().row()) == (2, 3)
    # The third click brings the order of the images back.
    click_header(qtbot, table, 2)
    assert texts(table) == [f"row {number}" for number in range(6)]
    assert told == [2]
    qtbot.keyClick(table, Qt.Key.Key_Down)
    assert told == [2, 3]


def test_what_a_row_says(table: ResultsTable) -> None:
    table.show_rows(known())
    model = table.model()
    assert texts(table, 1)[:3] == ["a, unsure", "not classified", "c"]
    assert texts(table, 2)[:2] == ["40.0 %", ""]
    assert texts(table, 3)[2:4] == ["a", ""]
    assert not table.isColumnHidden(3)
    assert model.data(model.index(4, 0), Qt.ItemDataRole.ToolTipRole) == "about 4"
    table.show_rows(rows())
    assert table.isColumnHidden(3)


def test_a_filter_hides_rows_and_gives_them_back(table: ResultsTable) -> None:
    table.show_rows(known())
    table.choose(5)
    table.rows.filter(RowFilter(wrong=True))
    assert texts(table) == ["row 2", "row 5"]
    assert table.chosen() == 5
    assert not table.choose(0)
    table.rows.filter(RowFilter(predicted=0))
    assert table.chosen() is None
    table.rows.filter(RowFilter())
    assert table.choose(0)
    assert len(texts(table)) == 6


def test_rows_that_come_later_are_sorted_in(qtbot: Any, table: ResultsTable) -> None:
    table.show_rows(rows(3))
    table.grow(rows(5, confidence=np.array([0.5, 0.9, 0.1, 0.7, 0.3], np.float32)))
    assert len(texts(table)) == 5
    click_header(qtbot, table, 2)
    click_header(qtbot, table, 2)
    table.grow(rows(6, confidence=np.array([0.5, 0.9, 0.1, 0.7, 0.3, 0.8], np.float32)))
    assert texts(table) == [f"row {number}" for number in (1, 5, 3, 0, 4, 2)]


def test_a_hundred_thousand_rows(qtbot: Any, table: ResultsTable) -> None:
    many = rows(100_000)
    table.show_rows(many)
    click_header(qtbot, table, 2)
    click_header(qtbot, table, 2)
    assert texts(table)[0] == "row 99999"
    table.rows.filter(RowFilter(text="image9999", predicted=0))
    assert texts(table)[0] == "row 99999"
    assert len(texts(table)) == sum(number % 3 == 0 for number in (9999, *range(99990, 100000)))


@pytest.mark.parametrize("width", [200, 360, 600])
def test_names_take_the_room_there_is_and_never_all(table: ResultsTable, width: int) -> None:
    from qtpy.QtWidgets import QApplication

    table.resize(600, 300)
    table.show_rows(rows())
    table.show_rows(known())
    table.resize(width, 300)
    QApplication.processEvents()
    header, view = table.horizontalHeader(), table.viewport()
    others = header.length() - header.sectionSize(0)
    assert header.sectionSize(0) == max(90, view.width() - others)
    assert table.visualRect(table.model().index(0, 1)).left() < view.width()
