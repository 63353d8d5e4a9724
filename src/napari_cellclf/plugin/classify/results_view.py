"""The part of the form that shows predictions: the best class, bars, and a table of many images."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.classify.objects_view import ObjectsView
from napari_cellclf.plugin.classify.results import (
    Results,
    doubts,
    full_name,
    may_be,
    predicted_rows,
    winner,
)
from napari_cellclf.plugin.gallery.results_table import ResultsTable
from napari_cellclf.plugin.gallery.sets_box import SetsBox
from napari_cellclf.plugin.shared.controls import (
    WARNING,
    NameLabel,
    WrappedLabel,
    plain_label,
)
from napari_cellclf.plugin.shared.messages import percent

#: As many of the best classes have a bar.
N_BARS = 6
#: Of a class beside its bar.
_MOST_LETTERS = 20
_SHORTEST_BAR = 50
_STEPS = 1000
#: How often the table takes in the predictions that have come.
_GROW_MS = 50


class ResultsView(QWidget):
    """Bars for the image that is looked at, a table of all images of a run.

    The table stands below it, where there is room.
    """

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
        self._set = WrappedLabel()
        self._set.setObjectName("prediction set")
        self._doubts = WrappedLabel()
        self._doubts.setObjectName("doubts")
        self._doubts.setStyleSheet(f"color: {WARNING}; font-weight: bold;")
        self._about = WrappedLabel()
        self.bars = Bars()
        self.objects = ObjectsView()
        self.table = ResultsTable()
        self.sets = SetsBox("Show prediction set")
        self.sets.toggled.connect(self._on_sets)
        self._seen: tuple[Results | None, int | None] = None, None
        self.table.row_chosen.connect(self.row_chosen)
        # A double click, or Enter.
        self.table.row_activated.connect(self._on_open)
        self._growing: Results | None = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_GROW_MS)
        self._soon.timeout.connect(self.catch_up)
        self._save = QPushButton("Save table as CSV…")
        self._save.clicked.connect(self._on_save)
        self.open = QPushButton("Open in viewer")
        self.open.setToolTip("As a double click on its row does.")
        self.open.clicked.connect(self._on_open)
        buttons = QHBoxLayout()
        buttons.addWidget(self._save, 1)
        buttons.addWidget(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        above = (self.objects, self._winner, self._set, self._doubts, self._about, self.bars)
        for widget in (*above, self.sets):
            column.addWidget(widget)
        column.addLayout(buttons)
        self._gives_way = False
        self.show_results(None)

    def show_results(self, results: Results | None) -> None:
        """Show a run's predictions."""
        self._soon.stop()
        self.table.show_rows(None if results is None else predicted_rows(results))
        self._has_table = results is not None and results.is_stack
        self.give_way(self._gives_way)
        self.sets.setVisible(results is not None)
        self.sets.offer(
            possible=results is not None and results.request.model.prediction_sets is not None
        )
        self.table.show_sets(self.sets.wanted)
        self._save.setVisible(results is not None)
        self._save.setEnabled(results is not None and bool(results.rows))
        self.open.setVisible(results is not None and results.request.folder is not None)
        self.show_row(results, None)

    def give_way(self, gives_way: bool) -> None:
        """Leave the place to the page of results, or take it again."""
        self._gives_way = gives_way
        self.setVisible(not gives_way)
        self.table.setVisible(self._has_table and not gives_way)

    def grow(self, results: Results) -> None:
        """Show the predictions that have come, soon: there may be thousands in a second."""
        self._growing = results
        self._save.setEnabled(any(not row.error for row in results.rows))
        if not self._soon.isActive():
            self._soon.start()

    def catch_up(self) -> None:
        """Show at once what was left for soon."""
        self._soon.stop()
        if self._growing is not None:
            self.table.grow(predicted_rows(self._growing))
        self._growing = None

    def show_row(self, results: Results | None, number: int | None) -> None:
        """Show one prediction as bars, and select its row."""
        row = None if results is None or number is None else results.rows[number]
        top = () if row is None else row.top
        label = winner(row) if row is not None and top else ""
        self._winner.setText("Not classified" if row is not None and row.error else label)
        self._winner.setVisible(row is not None)
        self._seen = results, number
        self._show_set()
        against = doubts(row) if row is not None and top else []
        self._doubts.setText("\n".join(against))
        self._doubts.setVisible(bool(against))
        self._about.setText("" if row is None else row.error or _about(results, number))
        self._about.setVisible(row is not None)
        self.open.setEnabled(row is not None)
        self.bars.show_classes(top[:N_BARS])
        if results is not None and number is not None:
            if number >= self.table.rows.known_rows:
                self.catch_up()
            self.table.choose(number)

    @property
    def tab_stops(self) -> list[QWidget]:
        """What the Tab key goes through, as it is seen from the top."""
        return [self.objects.again, self.objects.by_class, self.sets, self._save, self.open]

    def selected_row(self) -> int | None:
        """Return the number of the row that is selected in the table."""
        return self.table.chosen()

    def _show_set(self) -> None:
        results, number = self._seen
        text = ""
        if results is not None and number is not None and self.sets.wanted:
            text = may_be(results, results.rows[number])
        self._set.setText(text)
        self._set.setVisible(bool(text))

    def _on_sets(self) -> None:
        self.table.show_sets(self.sets.wanted)
        self._show_set()

    def _on_open(self) -> None:
        number = self.selected_row()
        # Where there is no button, the image is open, and going to the row has moved its sliders.
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
        label, bar, value = NameLabel(most=_MOST_LETTERS), QProgressBar(), plain_label()
        bar.setRange(0, _STEPS)
        bar.setTextVisible(False)
        bar.setMinimumWidth(_SHORTEST_BAR)
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
