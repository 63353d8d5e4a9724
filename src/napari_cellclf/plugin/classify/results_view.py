"""The part of the form that shows predictions: the best class, bars, and a table of many images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.classify.results import Results, full_name, percent, plane_name, winner
from napari_cellclf.plugin.shared.controls import NameLabel, WrappedLabel, plain_label

#: As many of the best classes have a bar.
N_BARS = 6
_STEPS = 1000


class ResultsView(QWidget):
    """Bars for the image that is looked at, a table of all images of a run."""

    #: The user went to a row of the table; carries its number.
    row_chosen = Signal(int)
    #: The table is to be saved.
    save_wanted = Signal()
    #: The image of a row is to be opened; carries its number.
    open_wanted = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._winner = WrappedLabel()
        self._winner.setObjectName("winner")
        font = self._winner.font()
        font.setBold(True)
        self._winner.setFont(font)
        self._about = WrappedLabel()
        self.bars = Bars()
        self._model = ResultsTable(self)
        self.table = _make_table(self._model)
        self._following = False
        selection = self.table.selectionModel()
        if selection is not None:
            # However a row is reached: by the mouse, arrow keys, Home or typing its name.
            selection.currentRowChanged.connect(self._on_row)
        self._save = QPushButton("Save table as CSV…")
        self._save.clicked.connect(self._on_save)
        self.open = QPushButton("Open in viewer")
        self.open.setToolTip("Opens the image of the selected row, as a double click on it does.")
        self.open.clicked.connect(self._on_open)
        # A double click, or Enter.
        self.table.activated.connect(self._on_open)
        buttons = QHBoxLayout()
        buttons.addWidget(self._save, 1)
        buttons.addWidget(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self._winner, self._about, self.bars):
            column.addWidget(widget)
        column.addWidget(self.table, 1)
        column.addLayout(buttons)
        # Takes the room that is left where there is no table.
        column.addStretch(0)
        self.show_results(None)

    def show_results(self, results: Results | None) -> None:
        """Show a run's predictions."""
        self._model.show(results)
        self.table.setVisible(results is not None and results.is_stack)
        self._save.setVisible(results is not None)
        self._save.setEnabled(results is not None and bool(results.rows))
        self.open.setVisible(results is not None and results.request.folder is not None)
        self.show_row(results, None)

    def grow(self, results: Results) -> None:
        """Show the predictions that have come since."""
        self._model.grow()
        # A header that resizes to its contents does so for new contents, but not for new rows.
        for column in (1, 2):
            self.table.resizeColumnToContents(column)
        self._save.setEnabled(bool(results.records))

    def show_row(self, results: Results | None, number: int | None) -> None:
        """Show one prediction as bars, and select its row."""
        row = None if results is None or number is None else results.rows[number]
        top = () if row is None else row.top
        label = winner(row) if row is not None and top else ""
        self._winner.setText("Not classified" if row is not None and row.error else label)
        self._winner.setVisible(row is not None)
        self._about.setText("" if row is None else row.error or _about(results, number))
        self._about.setVisible(row is not None)
        self.open.setEnabled(row is not None)
        self.bars.show_classes(top[:N_BARS])
        if number is not None and self.table.currentIndex().row() != number:
            self._following = True
            self.table.selectRow(number)
            self._following = False

    def selected_row(self) -> int | None:
        """Return the number of the row that is selected in the table."""
        index = self.table.currentIndex()
        return index.row() if index.isValid() else None

    def _on_row(self, index: QModelIndex) -> None:
        # Not where the table itself follows the slider.
        if index.isValid() and not self._following:
            self.row_chosen.emit(index.row())

    def _on_open(self) -> None:
        number = self.selected_row()
        # Of a stack the image is open, and going to the row has moved its sliders.
        if number is not None and not self.open.isHidden():
            self.open_wanted.emit(number)

    def _on_save(self) -> None:
        self.save_wanted.emit()


class Bars(QWidget):
    """A labelled bar with a percentage for each of the best classes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(1, 1)
        self._rows: list[tuple[QLabel, QProgressBar, QLabel]] = []

    def show_classes(self, top: Sequence[tuple[str, float]]) -> None:
        """Show classes and their probabilities."""
        while len(self._rows) < len(top):
            self._add_row()
        for number, widgets in enumerate(self._rows):
            for widget in widgets:
                widget.setVisible(number < len(top))
        for (label, bar, value), (name, probability) in zip(self._rows, top, strict=False):
            label.setText(name)
            bar.setValue(round(probability * _STEPS))
            value.setText(percent(probability))
        self.setVisible(bool(top))

    def texts(self) -> list[tuple[str, str]]:
        """Return what is shown: class and percentage of each bar."""
        return [
            (label.text(), value.text()) for label, _, value in self._rows if not label.isHidden()
        ]

    def _add_row(self) -> None:
        label, bar, value = NameLabel(), QProgressBar(), plain_label()
        bar.setRange(0, _STEPS)
        bar.setTextVisible(False)
        bar.setFixedHeight(10)
        value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        value.setMinimumWidth(value.fontMetrics().horizontalAdvance("> 99.9 %"))
        for column, widget in enumerate((label, bar, value)):
            self._grid.addWidget(widget, len(self._rows), column)
        self._rows.append((label, bar, value))


def _about(results: Results | None, number: int | None) -> str:
    if results is None or number is None:
        return ""
    return f"{full_name(results, number)}, by {results.request.model.title}"


def _make_table(model: ResultsTable) -> QTableView:
    table = QTableView()
    table.setModel(model)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setWordWrap(False)
    table.setMinimumHeight(160)
    rows, header = table.verticalHeader(), table.horizontalHeader()
    if rows is None or header is None:
        return table
    rows.setVisible(False)
    # Only the rows that are seen decide how wide a column is: there may be a hundred thousand.
    header.setResizeContentsPrecision(0)
    rows.setDefaultSectionSize(24)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(2, QHeaderView.ResizeMode.ResizeToContents)
    return table


_HEADERS = ("Image", "Class", "Confidence")
_NOWHERE = QModelIndex()


class ResultsTable(QAbstractTableModel):
    """A view of `Results` for a QTableView, that grows as predictions come."""

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
        prediction = results.rows[row]
        if column == 0:
            return plane_name(results, row)
        if prediction.error:
            return ("not classified", "")[column - 1]
        label, probability = prediction.top[0]
        unsure = ", unsure" if prediction.is_unsure else ""
        return f"{label}{unsure}" if column == 1 else percent(probability)

    def _hint(self, results: Results, row: int) -> str:
        prediction = results.rows[row]
        if prediction.error:
            return prediction.error
        best = "\n".join(f"{label}: {percent(value)}" for label, value in prediction.top[:3])
        return f"{prediction.record['image']}\n{best}"
