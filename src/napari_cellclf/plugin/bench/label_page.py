"""The page *Label*: classes, gallery, one key a label, and what to do next."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Collection as Rows
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.agreement import Agreement
from napari_cellclf.core.collection import Collection
from napari_cellclf.core.counting import counted
from napari_cellclf.core.labelling import Change, LabelBook
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.label_file import is_short, read_labels, write_label_table
from napari_cellclf.plugin.bench.class_bar import ClassBar
from napari_cellclf.plugin.bench.numbered_labels import NumberedLabels
from napari_cellclf.plugin.gallery.gallery import Gallery
from napari_cellclf.plugin.gallery.gallery_model import DOUBTS, NONE, GalleryFilter
from napari_cellclf.plugin.gallery.keys import N_CLASS_KEYS, Keys
from napari_cellclf.plugin.shared.background import LatestTask
from napari_cellclf.plugin.shared.controls import (
    KeysPage,
    MessageLine,
    shortened,
    small_label,
    tab_downwards,
)
from napari_cellclf.plugin.shared.messages import explain
from napari_cellclf.plugin.shared.path_field import ask_for_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: So long the next image waits for what is learnt from the last label; a refit takes less.
_PATIENCE_MS = 250
#: What rows are sorted by whose labels the others speak against.
_NO_CLASS = "Type the name of a class and press Enter; then add the others with + Class."
_NO_CURRENT = "Click an image, or press an arrow key, to begin."


class Learnt(Protocol):
    """What was learnt from labels; see `napari_cellclf.core.suggesting.Suggestions`."""

    @property
    def probabilities(self) -> NDArray[np.floating]:
        """Shape (N, K); NaN for rows of which nothing is known."""

    @property
    def order(self) -> NDArray[np.integer]:
        """Rows without a label, the next one first."""

    @property
    def is_random(self) -> NDArray[np.bool_]:
        """Whether each of these was drawn at random."""


class Learner(Protocol):
    """What learns from labels; it tells of its results by `LabelPage.suggest`."""

    @property
    def is_ready(self) -> bool:
        """Whether a result comes within a moment, since the features are there."""

    def learn(
        self,
        labels: Mapping[int, int],
        n_classes: int,
        random_rows: Rows[int],
        skipped: Rows[int],
    ) -> None:
        """Begin to learn from all labels: row to class, both as numbers."""


class LabelPage(KeysPage):
    """Labels the rows of a collection; the labels themselves are those of the book."""

    #: The user went to a row, or the next one came; carries its number.
    row_chosen = Signal(int)
    #: A row is to be shown in the viewer; carries its number.
    show_wanted = Signal(int)
    #: It is known of other labels how much speaks against them.
    doubted = Signal()

    def __init__(
        self, collection: Collection, book: LabelBook, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.collection = collection
        self.book = book
        self.labels = NumberedLabels(collection, book)
        self.bar = ClassBar()
        self.gallery = Gallery()
        self.message = MessageLine()
        #: What is known of how good the suggestions are.
        self.estimate = small_label()
        self.hint = small_label()
        self.keys = Keys(self)
        #: How much speaks against each row's label, NaN where that is not known.
        self.doubts: NDArray[np.floating] = np.full(len(collection), np.nan)
        self.agreement: Agreement | None = None
        #: Why labels are not saved; empty as long as they are.
        self._problem = ""
        self._learner: Learner | None = None
        self._random: frozenset[int] = frozenset()
        self._skipped: dict[int, None] = {}
        #: Of the rows whose labels are waited for; None while nothing is.
        self._leaving: tuple[int, ...] | None = None
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(_PATIENCE_MS)
        self._patience.timeout.connect(self._go_on)
        self._comparing = LatestTask(self)
        self._comparing.done.connect(self._compare)
        self._comparing.failed.connect(self._on_not_compared)
        self._more = QToolButton()
        self._undo, self._redo = QToolButton(), QToolButton()
        self._lay_out()
        self._connect()
        self._bind_keys()
        self.gallery.can_label = True
        # Whatever is clicked here, the next key is meant for the tiles.
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.gallery.set_collection(collection)
        self._end_listening = book.listen(self._on_changes)
        self._take_classes()
        self._go_to_first()
        self._say_next()

    def set_learner(self, learner: Learner | None) -> None:
        """Let something learn from the labels from now on, beginning with those there are."""
        self._learner = learner
        self._learn()

    def suggest(self, found: Learnt) -> None:
        """Show what was learnt: suggestions, and which rows come next."""
        rows = self.gallery.rows
        # Of labels from before a class came or went, its numbers mean other classes.
        if found.probabilities.shape != (len(self.collection), len(self.book.classes)):
            return
        rows.set_predictions(found.probabilities)
        self._random = frozenset(found.order[found.is_random].tolist())
        current = self.gallery.current()
        order = found.order.tolist()
        waited = self._leaving is not None
        if not waited and current is not None and current in order:
            # Nobody wants the image to change while they look at it.
            order = [current, *(row for row in order if row != current)]
        rows.set_order(order)
        if waited:
            self._go_on()
        else:
            self.gallery.refresh()
            if current is not None and current not in order and rows.given[current] == NONE:
                # It cannot be read, and is last now: nobody wants to begin there.
                self.gallery.go_to(int(rows.shown[0]))
            else:
                self._keep_in_view(current)
        self._say_next()

    def doubt(self, doubts: NDArray[np.floating]) -> None:
        """Let the rows be sorted by how much speaks against their labels, shape (N,).

        Those that a table keeps for a test are left out: cleaned by predictions, they would make
        these look better than they are.
        """
        if doubts.shape == (len(self.collection),):
            self.doubts = np.where(self._of_test(), np.nan, doubts)
            self.gallery.rows.set_scores({DOUBTS: self.doubts})
            self.gallery.refresh()
            self.doubted.emit()

    def _of_test(self) -> NDArray[np.bool_]:
        if "split" not in self.collection.field_names:
            return np.zeros(len(self.collection), bool)
        splits = self.collection.values("split")
        return np.array([str(one).strip().lower() == "test" for one in splits], bool)

    def tell(self, sentence: str) -> None:
        """Say how the learning stands, or how good the suggestions are."""
        self.estimate.setText(sentence)
        self.estimate.setVisible(bool(sentence))

    def show_problem(self, sentence: str) -> None:
        """Say that labels cannot be saved; an empty sentence, that they can be again."""
        self._problem = sentence and explain(CellclfError(sentence))
        self._say("")

    def label(self, name: str, numbers: Sequence[int] | None = None) -> None:
        """Give a class to rows, by default to the selected ones, and go on."""
        numbers = self._targets() if numbers is None else tuple(numbers)
        if not numbers:
            self._say(_NO_CURRENT)
            return
        seen = tuple(row for row in numbers if not self.gallery.loader.problem(row))
        if not seen:
            self.message.say(self._why_no_label(numbers), wrong=True)
            return
        if self._leaving == numbers and all(self.labels.class_of(row) == name for row in seen):
            return
        self._leaving = numbers
        if self._do(partial(self.book.label, self.labels.ids(seen), name, drawn=self._drawn(seen))):
            count, noun = len(seen), self.collection.noun
            left = len(numbers) - count
            unseen = f"; {counted(left, noun)} cannot be read and got no label" if left else ""
            if len(numbers) > 1:
                self._say(f"{counted(count, noun)} labelled “{name}”{unseen}.")

    def label_with_key(self, number: int) -> None:
        """Give the class of a key, counted from 0."""
        classes = self.book.classes
        if number < len(classes):
            self.label(classes[number])
        elif not classes:
            self._say(_NO_CLASS)
        else:
            there = counted(len(classes), "class")
            verb = "is" if len(classes) == 1 else "are"
            self._say(f"There {verb} {there}; add another one with + Class.")

    def accept(self) -> None:
        """Take the suggestions of the selected rows for right, and go on."""
        numbers = self._targets()
        if not self._accept(numbers):
            if numbers and all(self.labels.class_of(row) for row in numbers):
                self._move_on(numbers)
            else:
                self._say(f"There is no suggestion yet; press {self._digits()} to label.")

    def accept_page(self) -> None:
        """Take the suggestions of all rows on the screen for right, and go on."""
        numbers = [row for row in self.gallery.visible() if not self.labels.class_of(row)]
        count = self._accept(numbers)
        undo = self.keys.key_of("undo")
        if count:
            self._say(f"{count:,} suggestions accepted; {undo} takes them back.")
        else:
            self._say("No image on this page has a suggestion that could be accepted.")

    def skip(self) -> None:
        """Leave the selected rows for later, and go on."""
        numbers = self._targets()
        for number in numbers:
            self._skipped.pop(number, None)
            self._skipped[number] = None
        # What was said of an earlier key is over.
        self._say("")
        self._postpone()
        self._move_on(numbers)

    def mark_unsure(self) -> None:
        """Mark the selected rows as looked at without a result, and go on; or take that back."""
        numbers = self._targets()
        if not numbers:
            return
        unsure = not all(self.book.is_unsure(row) for row in self.labels.ids(numbers))
        self._leaving = numbers if unsure else None
        self._do(partial(self.book.mark_unsure, self.labels.ids(numbers), unsure))

    def clear(self) -> None:
        """Take back the labels of the selected rows."""
        numbers = self._targets()
        self._do(partial(self.book.clear, self.labels.ids(numbers)))

    def undo(self) -> None:
        """Take back what was done last, and go to where that was."""
        self._step(self.book.undo, "Undone", "There is nothing to undo.")

    def redo(self) -> None:
        """Do again what was undone last."""
        self._step(self.book.redo, "Done again", "There is nothing to do again.")

    def show_in_viewer(self) -> None:
        """Show the current row in the viewer."""
        current = self.gallery.current()
        if current is not None:
            self.show_wanted.emit(current)

    def compare_with(self, path: str | os.PathLike[str]) -> bool:
        """Compare the labels with those of another file, and show where they differ.

        Returns whether the file can be read, as far as that is known at once.
        """
        self._comparing.stop()
        if not is_short(path):
            self._say("Reading the other labels…")
            self._comparing.start(lambda ticket: read_labels(path))
            return True
        try:
            self._compare(read_labels(path))
        except CellclfError as error:
            self._on_not_compared(explain(error))
            return False
        return True

    def _on_not_compared(self, sentence: str) -> None:
        self.message.say(sentence, wrong=True)

    def _compare(self, theirs: LabelBook) -> None:
        self.agreement = self.labels.compared(theirs.labels)
        rows = self.gallery.rows
        rows.others = {
            number: name
            for row, _, name in self.agreement.differing
            for number in self.labels.numbers([row])
        }
        if self.agreement.differing:
            words = f"Only the {len(self.agreement.differing):,} where the two differ"
            self.gallery.show_only(rows.others, words)
        else:
            self.gallery.show_only(None)
        self.gallery.refresh()
        self._go_to_first()
        lost = self.labels.without_row(theirs.labels)
        self._say(" ".join(filter(None, (self.agreement.sentence(), lost, theirs.remark()))))

    def write_table(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as they stand as a table for training, with all that is known."""
        known = self.labels.known()
        write_label_table(
            path, known, mask_of=self.labels.mask_of, fields=self.labels.fields(tuple(known))
        )

    def shut_down(self) -> None:
        """Stop drawing and listening."""
        self._patience.stop()
        self._comparing.stop()
        self._learner = None
        self._end_listening()
        self.gallery.shut_down()

    def takes_keys(self) -> QWidget:
        """Return the tiles."""
        return self.gallery.view

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take the next key, whatever was clicked to come here."""
        super().showEvent(event)
        (self.gallery.view if self.book.classes else self.bar.name.line).setFocus()

    def _lay_out(self) -> None:
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        for button, text, hint in (
            (self._undo, "↶", "Undo"),
            (self._redo, "↷", "Redo"),
            (self._more, "⋯", "More: compare with another person's labels"),
        ):
            button.setText(text)
            button.setToolTip(hint)
            button.setAutoRaise(True)
            # The next key is meant for the tiles.
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._more.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        menu = QMenu(self._more)
        menu.addAction("Compare with…", self._ask_for_other)
        menu.addAction("Take back label", self.clear)
        self._more.setMenu(menu)
        self._more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        line = QHBoxLayout()
        line.setSpacing(2)
        line.addWidget(self.hint, 1)
        for button in (self._undo, self._redo, self._more):
            line.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.bar)
        column.addLayout(line)
        column.addWidget(self.gallery, 1)
        column.addWidget(self.estimate)
        column.addWidget(self.message)
        tab_downwards([self.bar.name.line, self.bar.name.confirm, *self.gallery.tab_stops])
        self.tell("")

    def _connect(self) -> None:
        bar, gallery, do = self.bar, self.gallery, self._do
        bar.chosen.connect(self.label)
        bar.dropped.connect(lambda numbers, name: self.label(name, numbers))
        bar.added.connect(self._add_class)
        bar.renamed.connect(self._rename_class)
        bar.merged.connect(lambda old, into: do(partial(self.book.merge_classes, old, into)))
        bar.removed.connect(lambda name: do(partial(self.book.remove_class, name)))
        bar.shown.connect(lambda name: gallery.filter(GalleryFilter(class_name=name)))
        bar.name.ended.connect(gallery.view.setFocus)
        gallery.row_chosen.connect(self._on_row)
        gallery.row_activated.connect(self.show_wanted)
        gallery.changed.connect(self._say_next)
        # A thumbnail that cannot be drawn is known only now.
        gallery.loader.ready.connect(self._say_next)
        gallery.class_chosen.connect(lambda numbers, name: self.label(name, numbers))
        self._undo.clicked.connect(self.undo)
        self._redo.clicked.connect(self.redo)

    def _bind_keys(self) -> None:
        keys, view = self.keys, self.gallery.view
        classes = range(N_CLASS_KEYS)
        keys.bind([self], {f"label {n + 1}": partial(self.label_with_key, n) for n in classes})
        keys.bind([self], {"unsure": self.mark_unsure, "clear": self.clear})
        keys.bind([self], {"undo": self.undo, "redo": self.redo, "show": self.show_in_viewer})
        # Buttons and lists beside the tiles have a use of their own for these.
        keys.bind([view], {"accept": self.accept, "accept page": self.accept_page})
        keys.bind([view], {"skip": self.skip})
        keys.changed.connect(self._on_keys)

    def _on_keys(self) -> None:
        self.bar.show_keys(self.keys.class_keys())
        self._say_next()

    def _targets(self) -> tuple[int, ...]:
        current = self.gallery.current()
        return self.gallery.selected() or (() if current is None else (current,))

    def _drawn(self, numbers: Sequence[int]) -> dict[str, str]:
        ids = self.collection.ids
        return {ids[row]: "random" if row in self._random else "" for row in numbers}

    def _digits(self) -> str:
        return self.keys.class_keys_in_words(len(self.book.classes))

    def _accept(self, numbers: Sequence[int]) -> int:
        """Give rows without a label what is suggested; returns how many there are."""
        found = {row: self.gallery.rows.suggestion(row) for row in numbers}
        names = {row: name for row, name in found.items() if name and not self.labels.class_of(row)}
        if not names:
            return 0
        self._leaving = tuple(names)
        ids = self.collection.ids
        given = {ids[row]: name for row, name in names.items()}
        self._do(partial(self.book.label_each, given, drawn=self._drawn(tuple(names))))
        return len(names)

    def _do(self, act: Callable[[], object]) -> bool:
        """Change the book; says why that cannot be."""
        try:
            act()
        except CellclfError as error:
            self._leaving = None
            self.message.say(explain(error), wrong=True)
            return False
        # What was said of an earlier key is over.
        self._say("")
        return True

    def _step(self, step: Callable[[], str], done: str, nothing: str) -> None:
        self._patience.stop()
        self._leaving = None
        changed: list[Change] = []
        stop = self.book.listen(changed.extend)
        try:
            what = step()
        finally:
            stop()
        self._say(f"{done}: {what}." if what else nothing)
        numbers = self.labels.numbers({change.row: None for change in changed if change.row})
        if numbers:
            self.gallery.go_to(numbers[0])
            self.gallery.select(numbers)
            self.row_chosen.emit(numbers[0])

    def _on_changes(self, changes: tuple[Change, ...]) -> None:
        rows = self.gallery.rows
        if any(change.action in ("add", "rename", "merge", "remove") for change in changes):
            self._take_classes()
        else:
            classes = {name: at for at, name in enumerate(self.book.classes)}
            given = rows.given.copy()
            for change in changes:
                number = self.collection.row_of(change.row)
                if number is None:
                    continue
                given[number] = classes.get(self.labels.class_of(number), NONE)
                rows.unsure_marked[number] = self.book.is_unsure(change.row)
                self._skipped.pop(number, None)
            rows.set_labels(given)
        self._postpone()
        self._count()
        self._learn()
        self._after_change()

    def _after_change(self) -> None:
        if self._leaving is None:
            self.gallery.refresh()
            self._keep_in_view(self.gallery.current())
        elif self._learner is not None and self._learner.is_ready:
            # The order stays until the next image is known: two changes of it would be a flicker.
            self.gallery.view.repaint_tiles()
            self._patience.start()
        else:
            self._go_on()
        self._say_next()

    def _go_on(self) -> None:
        """Leave what was labelled for the next row in the order that is shown."""
        self._patience.stop()
        left, self._leaving = self._leaving, None
        before = self.gallery.rows.shown
        self.gallery.refresh()
        if left is not None:
            self._move_on(left, before)

    def _move_on(self, left: Sequence[int], before: Any = None) -> None:
        rows = self.gallery.rows
        if before is None:
            before = rows.shown
            self.gallery.refresh()
        shown = rows.shown
        if not len(shown):
            return
        if rows.sorted_by == "order":
            following = shown
        else:
            places = np.flatnonzero(np.isin(before, left))
            start = int(places[-1]) + 1 if len(places) else 0
            following = np.concatenate([before[start:], before[:start]])
        open_rows = self._open(following)
        following = open_rows if len(open_rows) else following[~np.isin(following, left)]
        if len(following):
            self.gallery.go_to(int(following[0]))
            self.row_chosen.emit(int(following[0]))

    def _open(self, numbers: Any) -> Any:
        """Return those of some rows that are shown and still to be looked at."""
        rows = self.gallery.rows
        shown = np.isin(numbers, rows.shown)
        done = (rows.given[numbers] != NONE) | rows.unsure_marked[numbers]
        return numbers[shown & ~done & (rows.postponed[numbers] == 0)]

    def _keep_in_view(self, number: int | None) -> None:
        if number is None:
            self._go_to_first()
        else:
            self.gallery.view.scrollTo(self.gallery.view.currentIndex())

    def _go_to_first(self) -> None:
        shown = self.gallery.rows.shown
        if len(shown) and self.gallery.current() is None:
            self.gallery.go_to(int(shown[0]))

    def _take_classes(self) -> None:
        """Take all labels from the book, whose classes are others than before."""
        rows = self.gallery.rows
        classes, before = self.book.classes, rows.classes
        # What was suggested is of other classes; the next result is not.
        if len(classes) != len(rows.classes):
            rows.set_predictions(None)
        rows.set_classes(classes)
        rows.set_labels(self.labels.class_numbers())
        rows.unsure_marked = self.labels.unsure()
        self._count()
        self.gallery.refresh()
        if not classes:
            self.bar.ask_for_class()
        elif not before:
            # Redone: the name that was asked for is no longer missing.
            self._end_typing()

    def _count(self) -> None:
        given = self.gallery.rows.given
        counts = np.bincount(given[given != NONE], minlength=len(self.book.classes))
        self.bar.show_classes(self.book.classes, counts.tolist())
        self._undo.setEnabled(self.book.can_undo)
        self._redo.setEnabled(self.book.can_redo)

    def _postpone(self) -> None:
        postponed = np.zeros(len(self.collection), np.int64)
        postponed[list(self._skipped)] = np.arange(1, len(self._skipped) + 1)
        self.gallery.rows.postponed = postponed

    def _learn(self) -> None:
        if self._learner is None:
            return
        unsure = np.flatnonzero(self.gallery.rows.unsure_marked).tolist()
        labels, count = self.labels.numbered(), len(self.book.classes)
        self._learner.learn(labels, count, self.labels.random(), [*self._skipped, *unsure])

    def _add_class(self, name: str) -> None:
        first = not self.book.classes
        if self._do(partial(self.book.add_class, name)):
            # The first classes are typed one after the other.
            if first or len(self.book.classes) < 2:
                self.bar.ask_for_class()
            else:
                self._end_typing()

    def _rename_class(self, old: str, new: str) -> None:
        if self._do(partial(self.book.rename_class, old, new)):
            self._end_typing()

    def _end_typing(self) -> None:
        self.bar.name.ended.emit()

    def _on_row(self, number: int) -> None:
        # The user chose where to go while the next row was waited for.
        if self._leaving is not None:
            self._patience.stop()
            self._leaving = None
            self.gallery.refresh()
        self.row_chosen.emit(number)

    def _say(self, sentence: str) -> None:
        """Say what was done, unless something is wrong that has not ended."""
        self.message.say(self._problem or sentence, wrong=bool(self._problem))

    def _say_next(self) -> None:
        self.hint.setText(self._next_step())

    def _next_step(self) -> str:
        classes, rows = self.book.classes, self.gallery.rows
        if not classes:
            return _NO_CLASS
        if len(classes) == 1:
            return "Add a second class: type its name (+ Class) and press Enter."
        number = self.gallery.current()
        if number is None:
            return _NO_CURRENT
        digits = self._digits()
        if not (rows.given == NONE).any():
            return (
                f"All {self.collection.noun}s are labelled. Sort by confidence to check them, then "
                "train."
            )
        if len(self._targets()) > 1:
            return (
                f"Press {digits} to label the {len(self._targets()):,} selected "
                f"{self.collection.noun}s."
            )
        if self.gallery.loader.problem(number):
            return self._why_no_label((number,))
        given, suggested = self.labels.class_of(number), rows.suggestion(number)
        accept, skip, unsure = map(self.keys.key_of, ("accept", "skip", "unsure"))
        if given:
            return f"Labelled “{shortened(given)}”. Press {digits} to change it, {accept} to go on."
        if suggested:
            name = shortened(suggested)
            return f"{accept} accepts “{name}”; {digits} gives another class, {skip} skips."
        return f"Press {digits} to label; {skip} skips, {unsure} marks as unsure."

    def _why_no_label(self, numbers: Sequence[int]) -> str:
        """Say that rows cannot be read, and of a lone one why."""
        noun, skip = self.collection.noun, self.keys.key_of("skip")
        if len(numbers) > 1:
            return f"The {len(numbers):,} selected {noun}s cannot be read and get no label."
        reason = shortened(self.gallery.loader.problem(numbers[0]).rstrip("."), 160)
        return f"This {noun} cannot be read and gets no label ({reason}); {skip} skips it."

    def _ask_for_other(self) -> None:
        mode = QFileDialog.FileMode.ExistingFile
        ask_for_path(self, "Compare with the labels in", self.compare_with, mode=mode)
