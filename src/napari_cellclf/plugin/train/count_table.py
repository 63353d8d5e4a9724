"""Images of each class as a table with a bar in each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, QRectF, Qt
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from napari_cellclf.core.counting import counted
from napari_cellclf.plugin.shared.controls import PARTS, plain_hint, shortened

Rows = Sequence[tuple[str, tuple[int, ...]]]

_NOWHERE = QModelIndex()
_ROW_HEIGHT = 21
_MOST_SEEN = 7
_BAR_COLUMN = 1
_MARGIN = 5
#: Of the name of a class.
_MOST_LETTERS = 16


class CountTable(QTableView):
    """A row a class: its name, a bar, and its images in each part."""

    def __init__(self, headers: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._counts = _CountModel(headers, self)
        self.setModel(self._counts)
        self.setItemDelegateForColumn(_BAR_COLUMN, _BarDelegate(self))
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setShowGrid(False)
        self.setWordWrap(False)
        rows, header = self.verticalHeader(), self.horizontalHeader()
        if rows is not None and header is not None:
            rows.setVisible(False)
            rows.setMinimumSectionSize(_ROW_HEIGHT)
            rows.setDefaultSectionSize(_ROW_HEIGHT)
            header.setMinimumSectionSize(30)
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setSectionResizeMode(_BAR_COLUMN, QHeaderView.ResizeMode.Stretch)
            header.setHighlightSections(False)
        self.show_rows(())

    def show_rows(self, rows: Rows) -> None:
        """Show other numbers."""
        self._counts.show(rows)
        header = self.horizontalHeader()
        top = 0 if header is None else header.sizeHint().height()
        seen = min(len(rows), _MOST_SEEN)
        # Half a row more tells that there is more below.
        extra = _ROW_HEIGHT // 2 if len(rows) > _MOST_SEEN else 0
        self.setFixedHeight(top + seen * _ROW_HEIGHT + extra + 2 * self.frameWidth() + 2)
        self.setVisible(bool(rows))

    def rows(self) -> Rows:
        """Return what is shown."""
        return self._counts.rows


class _CountModel(QAbstractTableModel):
    def __init__(self, headers: Sequence[str], parent: QObject) -> None:
        super().__init__(parent)
        self._headers = ("Class", "", *headers)
        self.rows: Rows = ()
        self.largest = 1

    def show(self, rows: Rows) -> None:
        """Show other numbers."""
        self.beginResetModel()
        self.rows = tuple(rows)
        self.largest = max((sum(numbers) for _, numbers in rows), default=1) or 1
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of classes."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(self._headers)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the name of a column."""
        horizontal = orientation == Qt.Orientation.Horizontal
        if horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self._headers[section]
        if horizontal and role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows; a bar is the parts of the largest class's images."""
        name, numbers = self.rows[index.row()]
        column = index.column()
        if role == Qt.ItemDataRole.UserRole:
            return tuple(number / self.largest for number in numbers)
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_hint(f"{name}: {counted(sum(numbers), 'image')}")
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        if role != Qt.ItemDataRole.DisplayRole or column == _BAR_COLUMN:
            return None
        return (
            shortened(name, _MOST_LETTERS)
            if column == 0
            else str(numbers[column - _BAR_COLUMN - 1])
        )


class _BarDelegate(QStyledItemDelegate):
    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Draw the parts one after the other."""
        parts = index.data(Qt.ItemDataRole.UserRole)
        if painter is None or not parts:
            return
        rect = QRectF(option.rect).adjusted(2, _MARGIN, -2, -_MARGIN)
        left = rect.left()
        for part, colour in zip(parts, PARTS, strict=False):
            width = rect.width() * part
            painter.fillRect(QRectF(left, rect.top(), width, rect.height()), colour)
            left += width


def _alignment(column: int) -> int:
    side = Qt.AlignmentFlag.AlignRight if column > _BAR_COLUMN else Qt.AlignmentFlag.AlignLeft
    return int(side | Qt.AlignmentFlag.AlignVCenter)
