"""The one table of predictions: of a stack, a folder, a collection, or the objects of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, Signal
from qtpy.QtGui import QColor, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from napari_cellclf.core.class_colours import class_colours
from napari_cellclf.plugin.gallery.predicted_rows import NONE, PredictedRows, RowFilter, SortBy
from napari_cellclf.plugin.shared.controls import shortened
from napari_cellclf.plugin.shared.messages import percent, set_in_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADERS = ("", "Class", "Confidence", "Label", "Unlike", "One of")
_SORTS = (
    SortBy.ROW,
    SortBy.PREDICTED,
    SortBy.CONFIDENCE,
    SortBy.KNOWN,
    SortBy.UNLIKE,
    SortBy.SET,
)
_CONFIDENCE, _KNOWN, _UNLIKE, _SET = 2, 3, 4, 5
#: Classes of a prediction set that have room in a cell.
_MOST_NAMED = 3
#: Pixels; enough for the beginning of an image's name.
_NARROWEST = 90
_NOWHERE = QModelIndex()
_Role = Qt.ItemDataRole


class ResultsModel(QAbstractTableModel):
    """Rows in the order in which they are shown; a row's number stays what it is."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: PredictedRows | None = None
        self._filter = RowFilter()
        self._by, self._descending = SortBy.ROW, False
        self._order: NDArray[np.intp] = np.zeros(0, np.intp)
        self._places: NDArray[np.intp] = np.zeros(0, np.intp)

    def show(self, rows: PredictedRows | None) -> None:
        """Show other rows, or the same ones with more known of them."""
        self.beginResetModel()
        self._rows = rows
        self._arrange()
        self.endResetModel()

    def refresh(self, rows: PredictedRows) -> None:
        """Show what has become known of the same rows; they stay where they are."""
        self._rows = rows
        last = self.index(len(self._order) - 1, len(_HEADERS) - 1)
        self.dataChanged.emit(self.index(0, 0), last)

    def grow(self, rows: PredictedRows) -> None:
        """Show the rows that were added behind those that there were; sorted in when asked to."""
        before = 0 if self._rows is None else len(self._rows)
        added = rows.shown(self._filter)
        added = added[added >= before]
        self._rows = rows
        if len(added):
            first = len(self._order)
            self.beginInsertRows(QModelIndex(), first, first + len(added) - 1)
            self._order = np.concatenate([self._order, added])
            self._note_places()
            self.endInsertRows()
        if self._by is not SortBy.ROW:
            self.sort_by(self._by, descending=self._descending)

    def filter(self, which: RowFilter) -> None:
        """Show the rows that pass a filter."""
        self._rearrange(which, self._by, self._descending)

    def sort_by(self, by: SortBy, *, descending: bool = False) -> None:
        """Sort."""
        self._rearrange(self._filter, by, descending)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column, as a click on its header asks; -1 for the order of the images."""
        by = _SORTS[column] if column >= 0 else SortBy.ROW
        self.sort_by(by, descending=order == Qt.SortOrder.DescendingOrder and column >= 0)

    @property
    def shown_rows(self) -> PredictedRows | None:
        """What it shows rows of."""
        return self._rows

    @property
    def known_rows(self) -> int:
        """How many rows there are, shown or not."""
        return len(self._places)

    @property
    def order(self) -> NDArray[np.intp]:
        """The numbers of the rows that are shown, from the top."""
        return self._order

    def number(self, place: int) -> int:
        """Return the number of the row at a place of the table."""
        return int(self._order[place])

    def place(self, number: int) -> int | None:
        """Return where a row is shown; None where the filter hides it."""
        found = int(self._places[number]) if 0 <= number < len(self._places) else -1
        return found if found >= 0 else None

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return how many rows are shown."""
        return 0 if parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(_HEADERS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = _Role.DisplayRole
    ) -> Any:
        """Return the name of a column, or the number of a row."""
        if role != _Role.DisplayRole:
            return None
        if orientation != Qt.Orientation.Horizontal:
            return str(section)
        return _HEADERS[section] or ("Image" if self._rows is None else self._rows.title)

    def data(self, index: QModelIndex, role: int = _Role.DisplayRole) -> Any:
        """Return what a cell shows."""
        if self._rows is None or not index.isValid():
            return None
        number, column = self.number(index.row()), index.column()
        if role == _Role.DisplayRole:
            return self._text(self._rows, number, column)
        if role == _Role.ToolTipRole:
            return self._rows.hint(number)
        if role == _Role.DecorationRole:
            return self._colour(self._rows, number, column)
        if role == _Role.TextAlignmentRole and column in (_CONFIDENCE, _UNLIKE):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _text(self, rows: PredictedRows, number: int, column: int) -> str:
        if column == 0:
            return rows.name(number)
        if column == _KNOWN:
            known = int(rows.known[number])
            return shortened(rows.classes[known]) if known != NONE else ""
        predicted = int(rows.predicted[number])
        if predicted == NONE:
            return "not classified" if column == 1 else ""
        if column == _CONFIDENCE:
            return percent(float(rows.confidence[number]))
        if column == _UNLIKE:
            return "" if rows.unlike_scores is None else f"{rows.unlike_scores[number]:.2f}"
        if column == _SET:
            return "" if rows.sets is None else set_in_words(rows.sets[number], _MOST_NAMED)
        return shortened(rows.classes[predicted]) + rows.marks(number)

    def _colour(self, rows: PredictedRows, number: int, column: int) -> QColor | None:
        of = {1: rows.predicted, _KNOWN: rows.known}.get(column)
        which = NONE if of is None else int(of[number])
        return None if which == NONE else QColor(class_colours(which + 1)[which])

    def _rearrange(self, which: RowFilter, by: SortBy, descending: bool) -> None:
        self.layoutAboutToBeChanged.emit()
        before = self.persistentIndexList()
        numbers = [self.number(index.row()) for index in before]
        self._filter, self._by, self._descending = which, by, descending
        self._arrange()
        after = []
        for index, number in zip(before, numbers, strict=True):
            place = self.place(number)
            after.append(QModelIndex() if place is None else self.index(place, index.column()))
        self.changePersistentIndexList(before, after)
        self.layoutChanged.emit()

    def _arrange(self) -> None:
        if self._rows is None:
            self._order = np.zeros(0, np.intp)
        else:
            self._order = self._rows.shown(self._filter, self._by, descending=self._descending)
        self._note_places()

    def _note_places(self) -> None:
        self._places = np.full(0 if self._rows is None else len(self._rows), -1, np.intp)
        self._places[self._order] = np.arange(len(self._order))


class ResultsTable(QTableView):
    """A table of predictions; a row is told by its number, however the table is sorted."""

    #: The user went to a row; carries its number.
    row_chosen = Signal(int)
    #: A row was double-clicked, or Enter was pressed on it; carries its number.
    row_activated = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows = ResultsModel(self)
        self.setModel(self.rows)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setWordWrap(False)
        # The Tab key leaves it; arrows go through it.
        self.setTabKeyNavigation(False)
        self.setMinimumHeight(160)
        self._following = self._shows_sets = False
        self._set_up_headers()
        selection = self.selectionModel()
        if selection is not None:
            # However a row is reached: by the mouse, arrow keys, Home or typing its name.
            selection.currentRowChanged.connect(self._on_row)
        self.activated.connect(self._on_activated)

    def show_rows(self, rows: PredictedRows | None) -> None:
        """Show other rows."""
        self.rows.show(rows)
        self.setColumnHidden(_KNOWN, rows is None or not rows.has_known)
        self.setColumnHidden(_UNLIKE, rows is None or rows.unlike_scores is None)
        self._hide_sets(rows)
        self.fit_columns()

    def show_sets(self, shown: bool) -> None:
        """Show or hide which classes each row may be of."""
        self._shows_sets = shown
        self._hide_sets(self.rows.shown_rows)
        self.fit_columns()

    def _hide_sets(self, rows: PredictedRows | None) -> None:
        there = rows is not None and rows.sets is not None
        self.setColumnHidden(_SET, not (self._shows_sets and there))

    def refresh_rows(self, rows: PredictedRows) -> None:
        """Show what has become known of the same rows, in the order in which they are."""
        self.rows.refresh(rows)
        self.setColumnHidden(_KNOWN, not rows.has_known)
        self.fit_columns()

    def grow(self, rows: PredictedRows) -> None:
        """Show the rows that were added."""
        self.rows.grow(rows)
        self.setColumnHidden(_UNLIKE, rows.unlike_scores is None)
        self._hide_sets(rows)
        self.fit_columns()

    def fit_columns(self) -> None:
        """Make columns as wide as what is in them; a header does so for new contents only."""
        for column in range(1, len(_HEADERS)):
            self.resizeColumnToContents(column)
        self._fit_names()

    def chosen(self) -> int | None:
        """Return the number of the row that the user is at."""
        index = self.currentIndex()
        return self.rows.number(index.row()) if index.isValid() else None

    def visible(self) -> list[int]:
        """Return the numbers of the rows that are on the screen."""
        view = self.viewport()
        if view is None or not len(self.rows.order):
            return []
        first, last = self.rowAt(0), self.rowAt(view.height() - 1)
        end = last + 1 if last >= 0 else len(self.rows.order)
        return [self.rows.number(place) for place in range(max(first, 0), end)]

    def choose(self, number: int) -> bool:
        """Go to a row without telling of it; False where the filter hides it."""
        place = self.rows.place(number)
        if place is None:
            return False
        if self.currentIndex().row() != place:
            self._following = True
            self.selectRow(place)
            self._following = False
        return True

    def reset_sorting(self) -> None:
        """Go back to the order of the images."""
        self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)

    def sizeHintForColumn(self, column: int) -> int:
        """Return how wide the rows on the screen are; Qt would measure all of a hidden table."""
        return super().sizeHintForColumn(column) if self.isVisible() else 0

    def showEvent(self, event: QShowEvent | None) -> None:
        """Make columns as wide as what is seen now."""
        super().showEvent(event)
        self.fit_columns()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keep the chosen row in view."""
        super().resizeEvent(event)
        self._fit_names()
        if self.currentIndex().isValid():
            self.scrollTo(self.currentIndex())

    def _set_up_headers(self) -> None:
        rows, header = self.verticalHeader(), self.horizontalHeader()
        if rows is None or header is None:
            return
        rows.setVisible(False)
        # Only the rows that are seen decide how wide a column is: there may be a hundred thousand.
        header.setResizeContentsPrecision(0)
        rows.setDefaultSectionSize(24)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        # Where there is no room, Qt's own stretching leaves it as it was: 3 pixels wide, or 300.
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        header.sectionResized.connect(self._on_resized)
        header.setSortIndicatorClearable(True)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.setSortingEnabled(True)
        for column in (_KNOWN, _UNLIKE, _SET):
            self.setColumnHidden(column, True)

    def _on_resized(self, column: int) -> None:
        if column:
            self._fit_names()

    def _fit_names(self) -> None:
        """Give names the room that the other columns leave, and some where they leave none."""
        view = self.viewport()
        if view is not None:
            others = sum(self.columnWidth(column) for column in range(1, len(_HEADERS)))
            self.setColumnWidth(0, max(_NARROWEST, view.width() - others))

    def _on_row(self, index: QModelIndex) -> None:
        # Not where the table itself follows the viewer.
        if not self._following and index.isValid():
            self.row_chosen.emit(self.rows.number(index.row()))

    def _on_activated(self, index: QModelIndex) -> None:
        self.row_activated.emit(self.rows.number(index.row()))
