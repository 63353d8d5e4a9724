"""The tab *Label*: a page for what is open, kept in step with its file of labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.labelling import Change, LabelBook
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.label_file import LabelFile
from napari_cellclf.plugin.bench.label_page import LabelPage
from napari_cellclf.plugin.shared.controls import Footer, MessageLine, WrappedLabel
from napari_cellclf.plugin.shared.messages import explain

_FIRST = "Open images on the tab Images first; they are labelled here, one key each."
_FEW = "Label images of at least two classes first; then a model can be trained on them."


class LabelTab(QWidget):
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
        self._kept = ""
        self._refused = False
        self._end_listening: Callable[[], None] = lambda: None
        empty = WrappedLabel()
        empty.setText(_FIRST)
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedWidget()
        self._pages.addWidget(empty)
        self.message = MessageLine()
        self.train = QPushButton("Train properly…")
        self.train.setToolTip("Writes the labels as a table, and opens it on the tab Train.")
        self.use = QPushButton("Use as it is")
        self.use.setToolTip("Saves what was learnt from the labels as a model, at once.")
        self.pause = QPushButton("Pause")
        for button in (self.train, self.use, self.pause):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.footer = Footer(self.message, [self.train, self.use, self.pause], self.progress)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._pages, 1)
        column.addWidget(self.footer)
        self.train.clicked.connect(self._on_train)
        self.footer.setVisible(False)

    def show_collection(self, collection: Collection | None, labels: Path, who: str) -> None:
        """Label other rows, going on with the labels in a file."""
        self._close_page()
        if collection is None:
            return
        book = LabelBook(who)
        masks = {row.id: row.mask for row in collection.rows if row.mask is not None}
        try:
            labels.parent.mkdir(parents=True, exist_ok=True)
            self._file = LabelFile(labels, book, mask_of=masks.get, on_problem=self._on_problem)
        except (CellclfError, OSError) as error:
            self.message.say(explain(error), wrong=True)
            self.footer.setVisible(True)
            return
        self.page = LabelPage(collection, book)
        self.page.show_wanted.connect(self.show_wanted)
        self._pages.addWidget(self.page)
        self._pages.setCurrentWidget(self.page)
        # Whatever is clicked below the page, the next key is meant for the tiles.
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setFocusProxy(self.page)
        self.footer.setVisible(True)
        kept = len(book.labels)
        going_on = f"{kept} labels are in it already. " if kept else ""
        self._kept = f"Labels are kept in {labels}. {going_on}"
        self.message.say(self._kept)
        self._refused = False
        self._end_listening = book.listen(self._on_changes)
        # Of a file that cannot be written, told before there was a page to say it.
        self._on_problem(self._file.problem)
        self.page_changed.emit(self.page)

    def refuse(self, sentence: str) -> None:
        """Say what is to be done before a button can do its work; said until that may be done."""
        self.message.say(sentence, wrong=True)
        self._refused = True

    def begin(self) -> None:
        """Let keys go to the images, or to the name of the first class."""
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
        self.footer.setVisible(False)
        self._pages.setCurrentIndex(0)
        self._end_listening()
        self._end_listening = lambda: None
        self.setFocusProxy(None)
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
