"""The tab *Label*: a page for what is open, kept in step with its file of labels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.labelling import Change, LabelBook
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.label_file import LabelFile, is_short
from napari_cellclf.plugin.bench.label_page import LabelPage
from napari_cellclf.plugin.shared.background import LatestTask, Ticket
from napari_cellclf.plugin.shared.controls import (
    Footer,
    KeysPage,
    MessageLine,
    WrappedLabel,
    wide_combo,
)
from napari_cellclf.plugin.shared.messages import explain

_FIRST = "Open images on the tab Images first; they are labelled here, one key each."
_NOT_READ = "These images cannot be labelled yet; see below. Come back to this tab to try again."
_FEW = "Label images of at least two classes first; then a model can be trained on them."


class LabelTab(KeysPage):
    """Labels of one collection at a time."""

    #: The labels are to be trained on; carries the path of their table.
    train_wanted = Signal(str)
    #: A row is to be shown in the viewer; carries its number.
    show_wanted = Signal(int)
    #: Another page is shown, or none; carries it.
    page_changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.page: LabelPage | None = None
        self._file: LabelFile | None = None
        self._opening: _Opening | None = None
        self._reading = LatestTask(self)
        self._reading.done.connect(self._on_read)
        self._reading.failed.connect(self._on_not_read)
        self._kept = ""
        self._refused = False
        #: What is tried again when the tab is shown, since its labels could not be opened.
        self._not_read: tuple[Collection, Path, str] | None = None
        self._end_listening: Callable[[], None] = lambda: None
        self._empty = WrappedLabel()
        self._empty.setText(_FIRST)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedWidget()
        self._pages.addWidget(self._empty)
        self.message = MessageLine()
        self.train = QPushButton("Train properly…")
        self.train.setToolTip("Writes the labels as a table, and opens it on the tab Train.")
        self.use = QPushButton("Save as a model")
        self.use.setToolTip(
            "Saves what was learnt from the labels so far, within half a minute, among your models."
        )
        self.pause = QPushButton("Pause")
        self.backbone = wide_combo(
            "The frozen network that looks at the images; what it sees is learnt from. "
            "cellclf models add-backbone adds others."
        )
        for button in (self.train, self.use, self.pause, self.backbone):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.footer = Footer(
            self.message, [self.train, self.use, self.pause], self.progress, self.backbone
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._pages, 1)
        column.addWidget(self.footer)
        self.train.clicked.connect(self._on_train)
        self.footer.setVisible(False)

    def show_collection(self, collection: Collection | None, labels: Path, who: str) -> None:
        """Label other rows, going on with the labels in a file."""
        self._close_page()
        self._not_read = None
        if collection is None:
            return
        opening = self._opening = _Opening(collection, labels, who, self._opening)
        if opening.is_quick:
            try:
                self._on_read(opening())
            except (CellclfError, OSError) as error:
                self._on_not_read(explain(error))
        else:
            self._empty.setText(f"Reading the labels in {labels}…")
            self._reading.start(opening.read)

    def _on_read(self, opening: _Opening) -> None:
        """Show the page of what was read, and write to the file from now on."""
        self._empty.setText(_FIRST)
        file, book, labels = opening.take(), opening.book, opening.path
        if file is None:
            return
        self._file = file
        file.tell_problems(self._on_problem)
        self.page = LabelPage(opening.collection, book)
        self.page.show_wanted.connect(self.show_wanted)
        self._pages.addWidget(self.page)
        self._pages.setCurrentWidget(self.page)
        self._offer_work(possible=True)
        # Whatever is clicked below the page, the next key is meant for the tiles.
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.footer.setVisible(True)
        self._kept = f"Labels are kept in {labels}. {self.page.labels.summary()}".strip()
        self.message.say(self._kept)
        self._refused = False
        self._end_listening = book.listen(self._on_changes)
        # Of a file that cannot be written, told before there was a page to say it.
        self._on_problem(file.problem)
        self.page_changed.emit(self.page)

    def _on_not_read(self, sentence: str) -> None:
        self._empty.setText(_NOT_READ)
        if self._opening is not None:
            self._not_read = self._opening.collection, self._opening.path, self._opening.book.who
        self._offer_work(possible=False)
        self.message.say(sentence, wrong=True)
        self.footer.setVisible(True)

    def _offer_work(self, *, possible: bool) -> None:
        for widget in (self.train, self.use, self.backbone):
            widget.setVisible(possible)

    def refuse(self, sentence: str) -> None:
        """Say what is to be done before a button can do its work; said until that may be done."""
        self.message.say(sentence, wrong=True)
        self._refused = True

    def takes_keys(self) -> QWidget | None:
        """Return the tiles of the page."""
        return None if self.page is None else self.page.takes_keys()

    def begin(self) -> None:
        """Let keys go to the images, or to the name of the first class."""
        if self.page is None and self._not_read is not None:
            self.show_collection(*self._not_read)
        if self.page is None:
            return
        if self.page.book.classes:
            self.page.gallery.view.setFocus()
        else:
            self.page.bar.ask_for_class()

    def shut_down(self) -> None:
        """Save what is to be saved, and begin nothing more."""
        self._close_page()

    def _close_page(self) -> None:
        self._reading.stop()
        self._empty.setText(_FIRST)
        if self._opening is not None:
            self._opening.abandon()
            if self._opening.has_ended:
                self._opening = None
        self.footer.setVisible(False)
        self._pages.setCurrentIndex(0)
        self._end_listening()
        self._end_listening = lambda: None
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        page, self.page = self.page, None
        file, self._file = self._file, None
        if page is not None:
            self.page_changed.emit(None)
            page.shut_down()
            self._pages.removeWidget(page)
            page.deleteLater()
        if file is not None:
            file.close()

    def _on_changes(self, changes: tuple[Change, ...]) -> None:
        if self._refused:
            self._refused = False
            self.message.say(self._kept)

    def _on_problem(self, sentence: str) -> None:
        if self.page is not None:
            self.page.show_problem(sentence)

    def _on_train(self) -> None:
        """Write the labels down as a table, and hand it over."""
        page, file = self.page, self._file
        if page is None or file is None:
            return
        labelled = {label.class_name for _, label in page.book.items()}
        if len(labelled) < 2:
            self.refuse(_FEW)
            return
        table = file.path.with_name(f"{file.path.stem.removesuffix('.labels')}.training.csv")
        try:
            page.write_table(table)
        except CellclfError as error:
            self.message.say(explain(error), wrong=True)
            return
        self.train_wanted.emit(str(table))


class _Opening:
    """Opens the file of labels, in a thread if it is long; nobody may want it by then."""

    def __init__(
        self, collection: Collection, path: Path, who: str, before: _Opening | None
    ) -> None:
        self.collection, self.path = collection, path
        self.book = LabelBook(who)
        self._before = before
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._file: LabelFile | None = None
        self._abandoned = False

    @property
    def is_quick(self) -> bool:
        """Whether opening it takes less than a moment."""
        return is_short(self.path) and (self._before is None or self._before.has_ended)

    @property
    def has_ended(self) -> bool:
        """Whether it waits for nothing any more."""
        return self._ended.is_set()

    def __call__(self) -> _Opening:
        # The one before may be of the same file, which two must not have open at a time.
        before, self._before = self._before, None
        if before is not None:
            before._ended.wait()
        try:
            if not self._abandoned:
                self._open()
        finally:
            self._ended.set()
        return self

    def read(self, ticket: Ticket) -> _Opening:
        """Open it, in a thread."""
        return self()

    def take(self) -> LabelFile | None:
        """Return the file to whoever closes it; None if nobody wants it any more."""
        with self._lock:
            file, self._file = self._file, None
            return file

    def abandon(self) -> None:
        """Let go of the file, also if it is still being opened."""
        with self._lock:
            self._abandoned = True
        file = self.take()
        if file is not None:
            file.close()

    def _open(self) -> None:
        masks = {row.id: row.mask for row in self.collection.rows if row.mask is not None}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = LabelFile(self.path, self.book, mask_of=masks.get)
        with self._lock:
            if not self._abandoned:
                self._file = file
                return
        file.close()
