"""The results of many rows: counts, gallery, table, confusion matrix and corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import ne
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.labelling import Change, Label, LabelBook
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.plugin.gallery.class_tables import ConfusionTable, CountsTable
from napari_cellclf.plugin.gallery.gallery import Gallery
from napari_cellclf.plugin.gallery.keys import KeyAction, Keys
from napari_cellclf.plugin.gallery.predicted_rows import (
    NONE,
    PredictedRows,
    RowFilter,
    SortBy,
    rows_of,
)
from napari_cellclf.plugin.gallery.results_table import ResultsTable
from napari_cellclf.plugin.shared.controls import Section, WrappedLabel, small_label, wide_combo
from napari_cellclf.plugin.shared.messages import percent

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: The field in which tables state a row's class.
_LABEL_FIELD = "label"
#: A field with more values is no group.
_MOST_GROUPS = 1_000
GALLERY, TABLE = 0, 1


class ResultsPage(QWidget):
    """Predictions of a collection, to be looked at, compared with labels and corrected."""

    #: A row is to be shown in the viewer; carries its number.
    row_activated = Signal(int)
    #: The user went to a row; carries its number.
    row_chosen = Signal(int)
    #: The labels, with the corrections, are to be trained on; carries a `Label` by id.
    retrain_wanted = Signal(object)
    #: The predictions are to be saved as a table.
    save_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.collection: Collection | None = None
        self.rows: PredictedRows | None = None
        self._book = LabelBook()
        self._end_listening = self._book.listen(self._on_labels)
        self._probabilities: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        #: The label of each row when the predictions were shown; empty without one.
        self._first: list[str] = []
        self._n_corrected = 0
        self._filter = RowFilter()
        self.summary = WrappedLabel()
        self.group = wide_combo("What the rows of the table of counts are.")
        self.counts = CountsTable()
        self.confusion = ConfusionTable()
        self.gallery, self.table = Gallery(), ResultsTable()
        self.gallery.can_label = True
        self.only_wrong, self.only_unsure = QCheckBox("Mistakes"), QCheckBox("Unsure")
        self.worst = QPushButton("Worst mistakes first")
        self.as_gallery, self.as_table = QPushButton("Gallery"), QPushButton("Table")
        self.pages = QStackedWidget()
        self.hint = small_label()
        self.show_in_viewer = QPushButton("Show in viewer")
        self.save, self.retrain = QPushButton("Save table as CSV…"), QPushButton()
        self.confusion_section = Section("Confusion matrix", self.confusion, open=False)
        self._lay_out()
        self._connect()
        self.show_results(None, None)

    def show_results(
        self,
        collection: Collection | None,
        predictions: Predictions | None,
        *,
        unsure: ArrayLike | None = None,
        book: LabelBook | None = None,
    ) -> None:
        """Show predictions of the rows of a collection.

        `predictions`: of its rows by their ids, in any order; rows without one were not classified.
        `unsure`: which of the predictions are. `book`: gets the corrections, and says
        what is known; what it does not know is taken from the fields of a row, see `_label_field`.
        """
        self._end_listening()
        self._book = book if book is not None else LabelBook()
        self._end_listening = self._book.listen(self._on_labels)
        self.collection = collection
        self._first = []
        self._filter = RowFilter()
        self.rows = None
        if collection is not None and predictions is not None:
            rows, self._probabilities = rows_of(collection, predictions, unsure)
            self.rows = replace(rows, name=self.gallery.rows.name, hint=self._hint_of)
        self.gallery.set_collection(collection)
        self._offer_groups()
        self._show_known()
        # Rows that are corrected stay where they are in this order.
        self.gallery.sort_by("least sure")
        self.table.reset_sorting()
        self.table.show_rows(self.rows)
        self.counts.let_go()
        self.confusion.let_go()
        self._apply_filter()

    def current(self) -> int | None:
        """Return the number of the row that the user is at."""
        return self.gallery.current() if self._shows_gallery else self.table.chosen()

    @property
    def _shows_gallery(self) -> bool:
        return bool(self.pages.currentIndex() == GALLERY)

    def go_to(self, number: int) -> None:
        """Go to a row without telling of it, as where it was chosen in the viewer."""
        self.gallery.go_to(number)
        self.table.choose(number)
        self._say_hint()

    def correct(self, class_name: str) -> None:
        """Give the selected rows a class, and go on to the next row."""
        rows, collection = self._selected(), self.collection
        if collection is None or self.rows is None or not rows:
            return
        following = self._next_of(rows[-1])
        self._book.label([collection.ids[row] for row in rows], class_name)
        if following is not None:
            self.go_to(following)
            self.row_chosen.emit(following)

    def labels(self) -> dict[str, Label]:
        """Return what is known of each row by its id: labels given, else those of the names."""
        if self.collection is None or self.rows is None:
            return {}
        named = {
            one: Label(self.rows.classes[known])
            for one, known in zip(self.collection.ids, self.rows.known.tolist(), strict=True)
            if known != NONE
        }
        return named | {one: label for one, label in self._book.items() if one in named}

    def shut_down(self) -> None:
        """Stop drawing and listening."""
        self._end_listening()
        self._end_listening = lambda: None
        self.gallery.shut_down()

    def _show_known(self) -> None:
        """Compare with the labels as they stand."""
        rows, collection = self.rows, self.collection
        if rows is not None and collection is not None:
            given = self._book.labels
            own = rows.classes[: self._probabilities.shape[1]]
            said = _label_field(collection, own)
            named = [None if said is None else row.fields.get(said) for row in collection.rows]
            labels = [
                given[one].class_name if one in given else ("" if name is None else str(name))
                for one, name in zip(collection.ids, named, strict=True)
            ]
            self._first = self._first or labels
            self._n_corrected = sum(map(ne, labels, self._first))
            self.rows = rows.beside(labels, [*own, *self._book.classes])
            self._show_in_gallery(self.rows)
        self._show_numbers()

    def _show_in_gallery(self, rows: PredictedRows) -> None:
        gallery = self.gallery.rows
        gallery.set_classes(rows.classes)
        more = len(rows.classes) - self._probabilities.shape[1]
        padded = np.pad(self._probabilities, ((0, 0), (0, more)))
        gallery.set_predictions(padded, rows.unsure)
        gallery.set_labels(rows.known)

    def _show_numbers(self) -> None:
        rows = self.rows
        for widget in (self.counts, self.group, self.pages, self.only_unsure, self.save):
            widget.setEnabled(rows is not None)
        has_known = rows is not None and rows.has_known
        self.confusion_section.setVisible(has_known)
        self.only_wrong.setVisible(has_known)
        self.worst.setVisible(has_known)
        n = self._n_corrected
        self.retrain.setText(
            f"Retrain with corrections ({n:,})" if n else "Retrain with these labels"
        )
        self.retrain.setEnabled(has_known)
        if rows is None:
            self.summary.setText("Classify images, and their predictions are shown here.")
            self.counts.show_counts(np.zeros((0, 2), np.int64), (), ())
            return
        self.summary.setText(rows.summary())
        self._show_counts()
        self.confusion.show_matrix(rows.confusion(), rows.classes)
        wrong = int(rows.wrong.sum())
        self.confusion_section.summarise(f"{wrong:,} mistake{'s' * (wrong != 1)}")

    def _show_counts(self) -> None:
        rows = self.rows
        if rows is None:
            return
        counted, unsure, failed = rows.counts()
        table = [[*counted.tolist(), unsure, failed]]
        names = ["all"]
        for name, by_class, not_sure in rows.counts_by_group():
            names.append(name)
            table.append([*by_class.tolist(), not_sure, 0])
        self.counts.show_counts(np.array(table, np.int64), names, rows.classes)

    def _offer_groups(self) -> None:
        self.group.clear()
        self.group.addItem("Counts of all", None)
        collection = self.collection
        for name in () if collection is None else collection.field_names:
            values = collection.values(name) if collection is not None else ()
            if 1 < len({str(value) for value in values}) <= _MOST_GROUPS:
                self.group.addItem(f"Counts by {name}", name)

    def _on_group(self) -> None:
        collection, name = self.collection, self.group.currentData()
        if self.rows is None or collection is None:
            return
        self.rows.groups = None
        if name is not None:
            values = collection.values(name)
            self.rows.groups = np.array(["—" if v is None else str(v) for v in values])
        self.counts.let_go()
        self._show_counts()
        self._set_filter(RowFilter(unsure=self.only_unsure.isChecked()))

    def _set_filter(self, which: RowFilter) -> None:
        self._filter = which
        self._apply_filter()

    def _apply_filter(self) -> None:
        which, rows = self._filter, self.rows
        for box, checked in ((self.only_wrong, which.wrong), (self.only_unsure, which.unsure)):
            box.setChecked(checked)
        self.table.rows.filter(which)
        if rows is not None and which != RowFilter():
            self.gallery.show_only(rows.shown(which).tolist(), rows.words(which))
        elif self.gallery.rows.is_restricted:
            self.gallery.show_only(None)
        self.gallery.refresh()
        self._say_hint()

    def _on_count_chosen(self, row: int, column: int) -> None:
        rows = self.rows
        if rows is None:
            return
        self.confusion.let_go()
        if row < 0:
            self._set_filter(RowFilter())
            return
        item = self.counts.verticalHeaderItem(row)
        group = None if row == 0 or item is None else rows.counts_by_group()[row - 1][0]
        n = len(rows.classes)
        self._set_filter(
            RowFilter(
                predicted=column if column < n else NONE if column > n else None,
                unsure=column == n,
                sure=column < n,
                group=group,
            )
        )

    def _on_confusion_chosen(self, row: int, column: int) -> None:
        self.counts.let_go()
        if row < 0:
            self._set_filter(RowFilter())
            return
        numbers = self.confusion.numbers
        self._set_filter(RowFilter(known=int(numbers[row]), predicted=int(numbers[column])))

    def _on_boxes(self) -> None:
        self.counts.let_go()
        self.confusion.let_go()
        self._set_filter(
            RowFilter(wrong=self.only_wrong.isChecked(), unsure=self.only_unsure.isChecked())
        )

    def _on_gallery(self) -> None:
        # The gallery has a button of its own that shows all again.
        if self._filter != RowFilter() and not self.gallery.rows.is_restricted:
            self.counts.let_go()
            self.confusion.let_go()
            self._set_filter(RowFilter())

    def _on_worst(self) -> None:
        self.only_wrong.setChecked(True)
        self._on_boxes()
        self.gallery.sort_by("most sure")
        self.table.sortByColumn(2, Qt.SortOrder.DescendingOrder)
        rows = self.rows
        if rows is not None and rows.wrong.any():
            self.go_to(int(rows.shown(RowFilter(wrong=True), SortBy.MISTAKES)[0]))
        self._focus_list()

    def _on_class_key(self, number: int) -> None:
        if self.rows is not None and number < len(self.rows.classes):
            self.correct(self.rows.classes[number])

    def _on_class_chosen(self, rows: tuple[int, ...], name: str) -> None:
        if self.collection is not None:
            self._book.label([self.collection.ids[row] for row in rows], name)

    def _on_labels(self, changes: tuple[Change, ...]) -> None:
        """Show labels that were given, here or on another page."""
        if self.rows is None:
            return
        self._show_known()
        self.table.refresh_rows(self.rows)
        if self._filter != RowFilter():
            # What was corrected stays in view until the filter is chosen again.
            self.gallery.view.repaint_tiles()
        else:
            self.gallery.refresh()
        self._say_hint()

    def _selected(self) -> list[int]:
        if self._shows_gallery:
            return list(self.gallery.selected())
        chosen = self.table.chosen()
        return [] if chosen is None else [chosen]

    def _next_of(self, number: int) -> int | None:
        shown = self.gallery.rows.shown if self._shows_gallery else self.table.rows.order
        place = np.flatnonzero(shown == number)
        after = int(place[0]) + 1 if len(place) else len(shown)
        return int(shown[after]) if after < len(shown) else None

    def _on_chosen(self, number: int) -> None:
        if self.sender() is self.gallery:
            self.table.choose(number)
        else:
            self.gallery.go_to(number)
        self._say_hint()
        self.row_chosen.emit(number)

    def _on_show(self) -> None:
        current = self.current()
        if current is not None:
            self.row_activated.emit(current)

    def _on_undo(self) -> None:
        self._book.undo()

    def _on_redo(self) -> None:
        self._book.redo()

    def _on_retrain(self) -> None:
        self.retrain_wanted.emit(self.labels())

    def _on_save(self) -> None:
        self.save_wanted.emit()

    def _show_page(self, page: int) -> None:
        current = self.current()
        self.pages.setCurrentIndex(page)
        if current is not None:
            self.go_to(current)
        self._focus_list()

    def _focus_list(self) -> None:
        (self.gallery.view if self._shows_gallery else self.table).setFocus()

    def _say_hint(self) -> None:
        current, rows = self.current(), self.rows
        self.show_in_viewer.setEnabled(current is not None)
        if rows is None:
            self.hint.setText("")
            return
        keys = ", ".join(f"{at + 1} {name}" for at, name in enumerate(rows.classes[:9]))
        said = f"{self._says(current)}\n" if current is not None else ""
        self.hint.setText(f"{said}Press the key of the right class to correct: {keys}.")

    def _says(self, number: int) -> str:
        rows = self.rows
        if rows is None or rows.predicted[number] == NONE:
            return f"{self.gallery.rows.name(number)}: not classified"
        predicted = rows.classes[int(rows.predicted[number])]
        text = f"{self.gallery.rows.name(number)}: {predicted} "
        text += percent(float(rows.confidence[number]))
        text += ", unsure" if rows.unsure[number] else ""
        known = int(rows.known[number])
        return f"{text}; labelled {rows.classes[known]}" if known != NONE else text

    def _hint_of(self, number: int) -> str:
        rows, best = self.rows, np.argsort(-np.nan_to_num(self._probabilities[number]))[:3]
        if rows is None or rows.predicted[number] == NONE:
            return self.gallery.rows.hint(number)
        lines = [
            f"{rows.classes[i]}: {percent(float(self._probabilities[number, i]))}" for i in best
        ]
        return "\n".join([self.gallery.rows.name(number), *lines])

    def _connect(self) -> None:
        self.group.currentIndexChanged.connect(self._on_group)
        self.counts.cell_chosen.connect(self._on_count_chosen)
        self.confusion.cell_chosen.connect(self._on_confusion_chosen)
        self.only_wrong.clicked.connect(self._on_boxes)
        self.only_unsure.clicked.connect(self._on_boxes)
        self.worst.clicked.connect(self._on_worst)
        self.as_gallery.clicked.connect(partial(self._show_page, GALLERY))
        self.as_table.clicked.connect(partial(self._show_page, TABLE))
        for part in (self.gallery, self.table):
            part.row_chosen.connect(self._on_chosen)
            part.row_activated.connect(self.row_activated)
        self.gallery.changed.connect(self._on_gallery)
        self.gallery.class_chosen.connect(self._on_class_chosen)
        self.show_in_viewer.clicked.connect(self._on_show)
        self.save.clicked.connect(self._on_save)
        self.retrain.clicked.connect(self._on_retrain)
        classes = [
            KeyAction(
                f"class_{n}", f"Correct to class {n}", str(n), partial(self._on_class_key, n - 1)
            )
            for n in range(1, 10)
        ]
        self.keys = Keys(
            self.pages,
            [
                *classes,
                KeyAction("show", "Show in viewer", "Return", self._on_show),
                KeyAction("undo", "Undo a correction", "Ctrl+Z", self._on_undo),
                KeyAction("redo", "Correct again", "Ctrl+Shift+Z", self._on_redo),
            ],
        )

    def _lay_out(self) -> None:
        self.pages.addWidget(self.gallery)
        self.pages.addWidget(self.table)
        exclusive = QButtonGroup(self)
        for button in (self.as_gallery, self.as_table):
            button.setCheckable(True)
            exclusive.addButton(button)
        self.as_gallery.setChecked(True)
        self.show_in_viewer.setToolTip("As Enter, or a double click, does.")
        self.worst.setToolTip("Shows mistakes only, those that the model was surest of first.")
        self.retrain.setToolTip("Trains on all rows whose class is known, with your corrections.")
        choose = QHBoxLayout()
        choose.addWidget(self.as_gallery)
        choose.addWidget(self.as_table)
        choose.addStretch(1)
        choose.addWidget(self.only_unsure)
        choose.addWidget(self.only_wrong)
        buttons = QGridLayout()
        buttons.addWidget(self.show_in_viewer, 0, 0)
        buttons.addWidget(self.save, 0, 1)
        buttons.addWidget(self.retrain, 1, 0, 1, 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self.summary, self.group, self.counts, self.confusion_section):
            column.addWidget(widget)
        column.addLayout(choose)
        column.addWidget(self.worst)
        column.addWidget(self.pages, 1)
        column.addWidget(self.hint)
        column.addLayout(buttons)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)


def _label_field(collection: Collection, classes: Sequence[str]) -> str | None:
    """Return which field states the class of rows: ``label``, or one of nothing but classes."""
    if _LABEL_FIELD in collection.field_names:
        return _LABEL_FIELD
    for name in collection.field_names:
        values = {str(value) for value in collection.values(name) if value is not None}
        if values and values <= set(classes):
            return name
    return None
