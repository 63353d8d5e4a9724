"""The table of answers: one row an image."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

from napari_cellclf.plugin.classify.results import Results, percent, plane_name

_HEADERS = ("Image", "Class", "Confidence")
_NOWHERE = QModelIndex()


class AnswerTable(QAbstractTableModel):
    """A view of `Results` for a QTableView, that grows as answers come."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._results: Results | None = None
        self._shown = 0

    def show(self, results: Results | None) -> None:
        """Show other results."""
        self.beginResetModel()
        self._results = results
        self._shown = 0 if results is None else len(results.rows)
        self.endResetModel()

    def grow(self) -> None:
        """Show the rows that were added to the results since."""
        count = 0 if self._results is None else len(self._results.rows)
        if count > self._shown:
            self.beginInsertRows(QModelIndex(), self._shown, count - 1)
            self._shown = count
            self.endInsertRows()

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of images."""
        return 0 if parent.isValid() else self._shown

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(_HEADERS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the name of a column, or the number of a row."""
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return _HEADERS[section] if orientation == Qt.Orientation.Horizontal else str(section)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        if self._results is None or not index.isValid():
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(self._results, index.row(), index.column())
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._hint(self._results, index.row())
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() == 2:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _text(self, results: Results, row: int, column: int) -> str:
        answer = results.rows[row]
        if column == 0:
            return plane_name(results, row)
        if answer.error:
            return ("not classified", "")[column - 1]
        label, probability = answer.top[0]
        unsure = ", unsure" if answer.is_unsure else ""
        return f"{label}{unsure}" if column == 1 else percent(probability)

    def _hint(self, results: Results, row: int) -> str:
        answer = results.rows[row]
        if answer.error:
            return answer.error
        best = "\n".join(f"{label}: {percent(value)}" for label, value in answer.top[:3])
        return f"{answer.record['image']}\n{best}"
