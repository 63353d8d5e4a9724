"""Tables of numbers whose cells choose rows: counts of classes, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from napari_cellclf.core.class_colours import class_colours
from napari_cellclf.plugin.shared.controls import plain_hint, shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROW_HEIGHT, _LEAST_COLUMN, _SWATCH = 22, 34, 10
#: More rows than these scroll inside of what may scroll itself, below headings that stay.
_MOST_SEEN = 30
#: Letters of a name in a heading.
_MOST_LETTERS = 12
_RIGHT, _WRONG = QColor("#3f9f5f"), QColor("#d9534f")
#: Most opaque that a cell is coloured.
_DENSEST = 200


class NumberTable(QTableWidget):
    """Numbers with headings; a click on one, or Enter, chooses it, and once more lets go of it."""

    #: A cell was chosen; carries its row and column, -1 and -1 for none.
    cell_chosen = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._chosen = (-1, -1)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setWordWrap(False)
        # The Tab key leaves it; arrows go through it.
        self.setTabKeyNavigation(False)
        self.setCornerButtonEnabled(False)
        rows, header = self.verticalHeader(), self.horizontalHeader()
        if rows is not None and header is not None:
            rows.setDefaultSectionSize(_ROW_HEIGHT)
            rows.setMinimumSectionSize(_ROW_HEIGHT)
            header.setMinimumSectionSize(_LEAST_COLUMN)
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setHighlightSections(False)
            rows.setHighlightSections(False)
        self.cellClicked.connect(self.choose)
        self.cellActivated.connect(self._on_activated)
        self._clicked_at: QPoint | None = None

    def show_numbers(
        self,
        numbers: NDArray[np.int64],
        rows: Sequence[str],
        columns: Sequence[str],
        hint: str,
    ) -> None:
        """Show a table of numbers, whose columns begin with the classes.

        `hint`: with places for number, row and column.
        """
        self.clear()
        self.setRowCount(len(rows))
        self.setColumnCount(len(columns))
        for at, name in enumerate(rows):
            self.setVerticalHeaderItem(at, _heading(name, ""))
        colours = class_colours(len(columns))
        for at, name in enumerate(columns):
            self.setHorizontalHeaderItem(at, _heading(name, self._colour_of(at, name, colours)))
        for row, values in enumerate(numbers.tolist()):
            for column, value in enumerate(values):
                item = QTableWidgetItem(f"{value:,}" if value else "·")
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                item.setToolTip(plain_hint(hint.format(value, rows[row], columns[column])))
                self.setItem(row, column, item)
        if self._chosen[0] >= len(rows) or self._chosen[1] >= len(columns):
            self._chosen = (-1, -1)
        self._fit_height()
        if self._chosen != (-1, -1):
            self.setCurrentCell(*self._chosen)

    def choose(self, row: int, column: int) -> None:
        """Choose a cell, or let go of it if it is the chosen one."""
        again = (row, column) == self._chosen
        self._chosen = (-1, -1) if again else (row, column)
        if again:
            self.clearSelection()
        self.cell_chosen.emit(*self._chosen)

    def let_go(self) -> None:
        """Let go of the chosen cell, without telling of it."""
        self._chosen = (-1, -1)
        self.clearSelection()

    def texts(self) -> list[list[str]]:
        """Return what the cells show."""
        items = [
            [self.item(row, column) for column in range(self.columnCount())]
            for row in range(self.rowCount())
        ]
        return [["" if one is None else one.text() for one in row] for row in items]

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Make room for a scroll bar that has come."""
        super().resizeEvent(event)
        self._fit_height()

    def _colour_of(self, at: int, name: str, colours: Sequence[str]) -> str:
        return colours[at]

    def _on_activated(self, row: int, column: int) -> None:
        # Some styles activate on a click, which has been heard of; Enter is what is meant.
        if (row, column) != self._chosen:
            self.choose(row, column)

    def _fit_height(self) -> None:
        header, bar = self.horizontalHeader(), self.horizontalScrollBar()
        if header is None or bar is None:
            return
        seen = min(self.rowCount(), _MOST_SEEN) * _ROW_HEIGHT
        more = _ROW_HEIGHT // 2 if self.rowCount() > _MOST_SEEN else 0
        below = bar.sizeHint().height() if bar.maximum() else 0
        self.setFixedHeight(
            header.sizeHint().height() + seen + more + below + 2 * self.frameWidth() + 2
        )


class CountsTable(NumberTable):
    """How many rows of each group are predicted to be of each class; unsure, unlike ones apart."""

    def show_counts(
        self, numbers: NDArray[np.int64], groups: Sequence[str], classes: Sequence[str]
    ) -> None:
        """Show counts, with three more columns: unsure, unlike, and not classified.

        These are left out where they hold nothing; `kind` tells what a column is.
        """
        self._n_classes = len(classes)
        columns = [*classes, "unsure", "unlike", "failed"]
        there = np.flatnonzero(numbers.any(axis=0)).tolist()
        self._kinds = [at for at in range(len(columns)) if at < len(classes) or at in there]
        self.show_numbers(
            numbers[:, self._kinds],
            groups,
            [columns[at] for at in self._kinds],
            "{0:,} of {1}: {2}",
        )

    def kind(self, column: int) -> int:
        """Return the number of a column's class; behind these unsure, unlike, not classified."""
        return self._kinds[column]

    def _colour_of(self, at: int, name: str, colours: Sequence[str]) -> str:
        return colours[at] if at < self._n_classes else ""


class ConfusionTable(NumberTable):
    """Known classes downwards, predicted classes across; darker where there are more of a row."""

    def show_matrix(self, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
        """Show the classes that there are labels or predictions of."""
        there = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
        self.numbers = there
        names = [classes[number] for number in there.tolist()]
        cut = matrix[np.ix_(there, there)]
        colours = class_colours(len(classes))
        self._colours = [colours[number] for number in there.tolist()]
        self.show_numbers(cut, names, names, "{0:,} that are {1}, predicted as {2}")
        fractions = cut / np.maximum(cut.sum(axis=1, keepdims=True), 1)
        for row, column in np.argwhere(cut):
            colour = QColor(_RIGHT if row == column else _WRONG)
            colour.setAlpha(round(25 + (_DENSEST - 25) * float(fractions[row, column])))
            item = self.item(int(row), int(column))
            if item is not None:
                item.setBackground(colour)

    def _colour_of(self, at: int, name: str, colours: Sequence[str]) -> str:
        return self._colours[at]


def _heading(name: str, colour: str) -> QTableWidgetItem:
    item = QTableWidgetItem(shortened(name, _MOST_LETTERS))
    item.setToolTip(plain_hint(name))
    if colour:
        square = QPixmap(_SWATCH, _SWATCH)
        square.fill(QColor(colour))
        item.setIcon(QIcon(square))
    return item
