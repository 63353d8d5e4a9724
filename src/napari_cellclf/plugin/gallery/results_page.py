"""The results of many rows: counts, gallery, table, confusion matrix and corrections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import ne
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QResizeEvent
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
from napari_cellclf.plugin.gallery.gallery import Gallery
from napari_cellclf.plugin.gallery.gallery_model import DOUBTS
from napari_cellclf.plugin.gallery.keys import N_CLASS_KEYS, Keys
from napari_cellclf.plugin.gallery.predicted_rows import (
    NONE,
    PredictedRows,
    RowFilter,
    SortBy,
    rows_of,
)
from napari_cellclf.plugin.gallery.results_overview import ResultsOverview
from napari_cellclf.plugin.gallery.results_table import ResultsTable
from napari_cellclf.plugin.gallery.sets_box import SetsBox
from napari_cellclf.plugin.shared.controls import KeysPage, shortened, small_label, tab_downwards
from napari_cellclf.plugin.shared.messages import percent, set_in_words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: The field in which tables state a row's class.
_LABEL_FIELD = "label"
GALLERY, TABLE = 0, 1


class ResultsPage(KeysPage):
    """Predictions of a collection, to be looked at, compared with labels and corrected.

    What is said of all of them together, `overview`, belongs above it, where there is room.
    """

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
        self._doubts: tuple[LabelBook | None, NDArray[np.floating]] = None, np.zeros(0)
        self._filter = RowFilter()
        self._failures: Mapping[str, str] = {}
        self.overview = ResultsOverview()
        self.keys = Keys(self)
        self.gallery, self.table = Gallery(), ResultsTable()
        self.gallery.can_label = True
        self.only_wrong, self.only_unsure = QCheckBox("Mistakes"), QCheckBox("Unsure")
        self.only_unlike = QCheckBox("Unlike")
        self.sets = SetsBox("Prediction sets")
        self.worst = QPushButton("Worst mistakes first")
        self.as_gallery, self.as_table = QPushButton("Gallery"), QPushButton("Table")
        self.pages = QStackedWidget()
        self.hint = small_label()
        self.show_in_viewer = QPushButton("Show in viewer")
        self.save, self.retrain = QPushButton("Save table as CSV…"), QPushButton()
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
        failures: Mapping[str, str] | None = None,
    ) -> None:
        """Show predictions of the rows of a collection.

        `predictions`: of its rows by their ids, in any order; rows without one were not classified.
        `unsure`: which of the predictions are. `book`: gets the corrections, and says
        what is known; what it does not know is taken from the fields of a row, see `_label_field`.
        `failures`: id to why there is no prediction of it, also of images without a row.
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
        self.overview.offer_groups(collection)
        self._failures = failures or {}
        self.overview.show_failures(self._failures)
        self._show_known()
        # Rows that are corrected stay where they are in this order.
        self.gallery.sort_by("least sure")
        self.table.reset_sorting()
        self.sets.offer(possible=self.rows is not None and self.rows.sets is not None)
        self.table.show_rows(self.rows)
        self.table.show_sets(self.sets.wanted)
        self.overview.let_go()
        self._apply_filter()

    def doubt(self, book: LabelBook, doubts: NDArray[np.floating]) -> None:
        """Let rows be sorted by how much speaks against their labels of a book, shape (N,)."""
        self._doubts = book, doubts
        if self.rows is not None and book is self._book:
            self._show_in_gallery(self.rows)
            self.gallery.refresh()

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
        rows = self._selected()
        if rows:
            self._book.label(self._ids(rows), class_name)
            self._go_on(rows)

    def accept(self) -> None:
        """Label the selected rows with what is predicted of them, and go on to the next row."""
        rows = [row for row in self._selected() if self._predicted(row)]
        if rows:
            self._accept([row for row in rows if not self._is_right(row)])
            self._go_on(rows)

    def accept_page(self) -> None:
        """Label what is on the screen with what is predicted, except for rows with a label."""
        known = () if self.rows is None else self.rows.known
        visible = self.gallery.visible() if self._shows_gallery else self.table.visible()
        rows = [row for row in visible if known[row] == NONE and self._predicted(row)]
        if rows:
            self._accept(rows)
            self._go_on(visible)

    def skip(self) -> None:
        """Go on to the next row."""
        self._go_on(self._selected())

    def mark_unsure(self) -> None:
        """Mark the selected rows as looked at without a result, and go on; or take that back."""
        rows = self._selected()
        unsure = not all(map(self._book.is_unsure, self._ids(rows)))
        self._book.mark_unsure(self._ids(rows), unsure)
        if unsure:
            self._go_on(rows)

    def clear(self) -> None:
        """Take back the labels of the selected rows."""
        self._book.clear(self._ids(self._selected()))

    def _accept(self, rows: Sequence[int]) -> None:
        names = map(self._predicted, rows)
        self._book.label_each(dict(zip(self._ids(rows), names, strict=True)), drawn={})

    def _go_on(self, rows: Sequence[int]) -> None:
        """Go from some rows to the one behind them."""
        following = self._next_of(rows[-1]) if rows else None
        if following is not None:
            self.go_to(following)
            self.row_chosen.emit(following)

    def _ids(self, rows: Sequence[int]) -> list[str]:
        return [] if self.collection is None else [self.collection.ids[row] for row in rows]

    def _predicted(self, row: int) -> str:
        """Return the class that is predicted of a row; empty where there is none."""
        rows = self.rows
        predicted = NONE if rows is None else int(rows.predicted[row])
        return "" if rows is None or predicted == NONE else rows.classes[predicted]

    def _is_right(self, row: int) -> bool:
        """Whether a row has the label that is predicted."""
        return self.rows is not None and self.rows.known[row] == self.rows.predicted[row]

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

    @property
    def tab_stops(self) -> list[QWidget]:
        """What the Tab key goes through, as it is seen from the top."""
        above = [self.as_gallery, self.as_table, self.sets, self.only_unsure, self.only_wrong]
        below = [self.show_in_viewer, self.save, self.retrain]
        return [*above, self.worst, *self.gallery.tab_stops, self.table, *below]

    def minimumSizeHint(self) -> QSize:
        """Leave room for all lines of the hint, which are more where the page is narrow."""
        hint, layout = super().minimumSizeHint(), self.layout()
        if layout is None:
            return hint
        return QSize(hint.width(), layout.minimumHeightForWidth(max(self.width(), hint.width())))

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Ask for another height where the hint breaks its lines elsewhere."""
        super().resizeEvent(event)
        if event is not None and event.size().width() != event.oldSize().width():
            self.updateGeometry()

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
        gallery.set_predictions(padded, rows.unsure, rows.unlike)
        scores = {} if rows.unlike_scores is None else {"most unlike": rows.unlike_scores}
        book, doubts = self._doubts
        if book is self._book and len(doubts) == len(rows.ids):
            scores[DOUBTS] = doubts
        gallery.set_scores(scores)
        gallery.set_labels(rows.known)
        gallery.unsure_marked = np.array([self._book.is_unsure(one) for one in rows.ids], bool)

    def _show_numbers(self) -> None:
        rows = self.rows
        for widget in (self.pages, self.only_unsure, self.save):
            widget.setEnabled(rows is not None)
        has_known = rows is not None and rows.has_known
        self.only_wrong.setVisible(has_known)
        self.only_unlike.setVisible(rows is not None and rows.unlike_scores is not None)
        self.worst.setVisible(has_known)
        n = self._n_corrected
        self.retrain.setText(
            f"Retrain with corrections ({n:,})" if n else "Retrain with these labels"
        )
        self.retrain.setEnabled(has_known)
        self.overview.show_rows(rows)

    def _on_group(self) -> None:
        collection, name = self.collection, self.overview.group.currentData()
        if self.rows is None or collection is None:
            return
        self.rows.groups = None
        if name is not None:
            values = collection.values(name)
            self.rows.groups = np.array(["—" if v is None else str(v) for v in values])
        self.overview.counts.let_go()
        self.overview.show_counts(self.rows)
        self._set_filter(
            RowFilter(unsure=self.only_unsure.isChecked(), unlike=self.only_unlike.isChecked())
        )

    def _set_filter(self, which: RowFilter) -> None:
        self._filter = which
        self._apply_filter()

    def _apply_filter(self) -> None:
        which, rows = self._filter, self.rows
        self.only_wrong.setChecked(which.wrong)
        self.only_unsure.setChecked(which.unsure)
        self.only_unlike.setChecked(which.unlike)
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
        self.overview.confusion.let_go()
        if row < 0:
            self._set_filter(RowFilter())
            return
        item = self.overview.counts.verticalHeaderItem(row)
        group = None if row == 0 or item is None else rows.counts_by_group()[row - 1][0]
        n, column = len(rows.classes), self.overview.counts.kind(column)
        self._set_filter(
            RowFilter(
                predicted=column if column < n else NONE if column == n + 2 else None,
                unsure=column == n,
                like=column == n,
                unlike=column == n + 1,
                sure=column < n,
                group=group,
            )
        )

    def _on_confusion_chosen(self, row: int, column: int) -> None:
        self.overview.counts.let_go()
        if row < 0:
            self._set_filter(RowFilter())
            return
        numbers = self.overview.confusion.numbers
        self._set_filter(RowFilter(known=int(numbers[row]), predicted=int(numbers[column])))

    def _on_boxes(self) -> None:
        self.overview.let_go()
        self._set_filter(
            RowFilter(
                wrong=self.only_wrong.isChecked(),
                unsure=self.only_unsure.isChecked(),
                unlike=self.only_unlike.isChecked(),
            )
        )

    def _on_gallery(self) -> None:
        # The gallery has a button of its own that shows all again.
        if self._filter != RowFilter() and not self.gallery.rows.is_restricted:
            self.overview.let_go()
            self._set_filter(RowFilter())

    def _on_worst(self) -> None:
        self.only_wrong.setChecked(True)
        self._on_boxes()
        self.gallery.sort_by("most sure")
        self.table.sortByColumn(2, Qt.SortOrder.DescendingOrder)
        rows = self.rows
        if rows is not None and rows.wrong.any():
            self.go_to(int(rows.shown(RowFilter(wrong=True), SortBy.MISTAKES)[0]))
        self.takes_keys().setFocus()

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
        self.takes_keys().setFocus()

    def takes_keys(self) -> QWidget:
        """Return what shows the images."""
        return self.gallery.view if self._shows_gallery else self.table

    def _say_hint(self) -> None:
        current, rows = self.current(), self.rows
        self.show_in_viewer.setEnabled(current is not None)
        if rows is None:
            self.hint.setText("")
            return
        keys = zip(self.keys.class_keys(), rows.classes, strict=False)
        classes = ", ".join(f"{key} {shortened(name)}" for key, name in keys)
        accept = self.keys.key_of("accept")
        if current is None:
            text = f"Click an image; then press the key of its class ({classes}), or {accept} "
            self.hint.setText(f"{text}to accept what is predicted.")
            return
        text = f"Press the key of the right class to correct: {classes}. {accept} accepts."
        self.hint.setText(f"{self._says(current)}\n{text}")

    def _says(self, number: int) -> str:
        rows = self.rows
        if rows is None or rows.predicted[number] == NONE:
            why = "" if rows is None else self._failures.get(rows.ids[number], "")
            return why or f"{self.gallery.rows.name(number)}: not classified"
        predicted = rows.classes[int(rows.predicted[number])]
        text = f"{self.gallery.rows.name(number)}: {predicted} "
        text += percent(float(rows.confidence[number]))
        text += rows.marks(number)
        known = int(rows.known[number])
        if self._book.is_unsure(rows.ids[number]):
            text += "; marked as unsure"
        elif known != NONE:
            text += f"; labelled {rows.classes[known]}"
        if self.sets.wanted and rows.sets is not None:
            text += f"; one of: {set_in_words(rows.sets[number])}"
        return "; ".join([text, *rows.doubts(number)])

    def _on_sets(self) -> None:
        self.table.show_sets(self.sets.wanted)
        self._say_hint()

    def _hint_of(self, number: int) -> str:
        rows, best = self.rows, np.argsort(-np.nan_to_num(self._probabilities[number]))[:3]
        if rows is None or rows.predicted[number] == NONE:
            why = "" if rows is None else self._failures.get(rows.ids[number], "")
            return "\n".join(filter(None, (self.gallery.rows.hint(number), why)))
        lines = [
            f"{rows.classes[i]}: {percent(float(self._probabilities[number, i]))}" for i in best
        ]
        return "\n".join([self.gallery.rows.name(number), *lines, *rows.doubts(number)])

    def _connect(self) -> None:
        self.overview.group.currentIndexChanged.connect(self._on_group)
        self.overview.counts.cell_chosen.connect(self._on_count_chosen)
        self.overview.confusion.cell_chosen.connect(self._on_confusion_chosen)
        self.only_wrong.clicked.connect(self._on_boxes)
        self.only_unsure.clicked.connect(self._on_boxes)
        self.only_unlike.clicked.connect(self._on_boxes)
        self.sets.toggled.connect(self._on_sets)
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
        self._bind_keys()

    def _bind_keys(self) -> None:
        keys, classes = self.keys, range(N_CLASS_KEYS)
        keys.bind([self], {f"label {n + 1}": partial(self._on_class_key, n) for n in classes})
        keys.bind([self], {"unsure": self.mark_unsure, "clear": self.clear})
        keys.bind([self], {"undo": self._on_undo, "redo": self._on_redo, "show": self._on_show})
        # Buttons and lists beside the images have a use of their own for these.
        images = [self.gallery.view, self.table]
        keys.bind(images, {"accept": self.accept, "accept page": self.accept_page})
        keys.bind(images, {"skip": self.skip})
        keys.changed.connect(self._say_hint)

    def _lay_out(self) -> None:
        self.pages.addWidget(self.gallery)
        self.pages.addWidget(self.table)
        exclusive = QButtonGroup(self)
        for button in (self.as_gallery, self.as_table):
            button.setCheckable(True)
            exclusive.addButton(button)
        self.as_gallery.setChecked(True)
        self.only_unlike.setToolTip(
            "Shows only images that are unlike anything in training: their score is above 1."
        )
        choose = QHBoxLayout()
        choose.addWidget(self.as_gallery)
        choose.addWidget(self.as_table)
        choose.addStretch(1)
        choose.addWidget(self.sets)
        marks = QHBoxLayout()
        for box in (self.only_unsure, self.only_unlike, self.only_wrong):
            marks.addWidget(box)
        marks.addStretch(1)
        buttons = QGridLayout()
        buttons.addWidget(self.show_in_viewer, 0, 0)
        buttons.addWidget(self.save, 0, 1)
        buttons.addWidget(self.retrain, 1, 0, 1, 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 0, 6, 4)
        column.setSpacing(4)
        column.addLayout(choose)
        column.addLayout(marks)
        column.addWidget(self.worst)
        column.addWidget(self.pages, 1)
        column.addWidget(self.hint)
        column.addLayout(buttons)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        # Whatever is clicked here, the next key is meant for the images.
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        tab_downwards(self.tab_stops)


def _label_field(collection: Collection, classes: Sequence[str]) -> str | None:
    """Return which field states the class of rows: ``label``, or one of nothing but classes."""
    if _LABEL_FIELD in collection.field_names:
        return _LABEL_FIELD
    for name in collection.field_names:
        values = {str(value) for value in collection.values(name) if value is not None}
        if values and values <= set(classes):
            return name
    return None
