"""The one dock, *Cell Classifier*: four tabs, and the menu's other doors to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QDockWidget,
    QMainWindow,
    QSizePolicy,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.labelling import Label
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.label_file import write_label_table
from napari_cellclf.plugin.bench.garbage import RareSearches
from napari_cellclf.plugin.bench.images_page import ImagesPage
from napari_cellclf.plugin.bench.keys_window import KeysWindow, preferred_keys
from napari_cellclf.plugin.bench.label_tab import LabelTab
from napari_cellclf.plugin.bench.learning import Learning
from napari_cellclf.plugin.bench.opening import LABELS_HOME
from napari_cellclf.plugin.classify.viewer_link import ViewerLink
from napari_cellclf.plugin.shared.controls import DockedWidget
from napari_cellclf.plugin.shared.messages import explain

if TYPE_CHECKING:
    import napari

    from napari_cellclf.plugin.bench.label_page import LabelPage
    from napari_cellclf.plugin.classify.widget import ClassifyWidget
    from napari_cellclf.plugin.train.widget import TrainWidget

IMAGES, LABEL, TRAIN, RESULTS = range(4)
_TITLES = ("Images", "Label", "Train", "Results")
_PLUGIN, _DOCK = "napari-cellclf", "Cell Classifier"


class BenchWidget(DockedWidget):
    """Open images, label them, train on the labels, and look at the results."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer: napari.Viewer | None = napari_viewer
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._docking = QTimer(self)
        self._docking.setSingleShot(True)
        self._docking.setInterval(0)
        self._docking.timeout.connect(self._join_others)
        link = ViewerLink(napari_viewer, self._soon.start, lambda: None)
        self._link: ViewerLink | None = link
        self.images = ImagesPage(link)
        self._soon.timeout.connect(self.images.refresh_layers)
        self.label = LabelTab()
        self.learning = Learning(self.label)
        self._train: TrainWidget | None = None
        self._results: ClassifyWidget | None = None
        self._collection: Collection | None = None
        self._holders = {TRAIN: _Holder(), RESULTS: _Holder()}
        for title, page in zip(
            _TITLES, (self.images, self.label, *self._holders.values()), strict=True
        ):
            self.tabs.addTab(page, title)
        self.tabs.currentChanged.connect(self._on_tab)
        self.images.opened.connect(self._on_opened)
        self.images.who.editingFinished.connect(self._on_who)
        self.images.label_wanted.connect(lambda: self.show_tab(LABEL))
        self.label.train_wanted.connect(self.train_on)
        self.learning.model_saved.connect(self._on_model_saved)
        self.label.show_wanted.connect(self.show_row)
        self.label.page_changed.connect(self._on_page)
        self.keys = QToolButton()
        self.keys.setText("? Keys")
        self.keys.setToolTip("Look keys up, and change them.")
        self.keys.clicked.connect(self.show_keys)
        self.tabs.setCornerWidget(self.keys)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tabs)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._searches = RareSearches()
        self.destroyed.connect(link.disconnect)
        # A viewer that is closed takes its docks with it.
        self.destroyed.connect(self._searches.end)

    @property
    def train(self) -> TrainWidget:
        """The tab that trains; made when it is first needed."""
        if self._train is None:
            from napari_cellclf.plugin.train.widget import TrainWidget

            self._train = TrainWidget(self._viewer)
            self._train.model_chosen.connect(self.use_model)
            self._holders[TRAIN].fill(self._train)
        return self._train

    @property
    def results(self) -> ClassifyWidget:
        """The tab that classifies and shows results; made when it is first needed."""
        if self._results is None:
            from napari_cellclf.plugin.classify.widget import ClassifyWidget

            self._results = ClassifyWidget(self._viewer)
            self._results.retrain_wanted.connect(self._on_retrain)
            self._results.form.page.keys.change(preferred_keys())
            self._offer_rows(self._results)
            self._holders[RESULTS].fill(self._results)
        return self._results

    def event(self, event: QEvent | None) -> bool:
        """Share the room of docks that are there already, once this one is docked."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            self._docking.start()
        return super().event(event)

    def _join_others(self) -> None:
        """Be a tab among the docks at the same side: below them would be too little room."""
        own, window = self.parent(), self.window()
        if not isinstance(own, QDockWidget) or not isinstance(window, QMainWindow):
            return
        area = window.dockWidgetArea(own)
        for other in window.findChildren(QDockWidget):
            beside = window.dockWidgetArea(other) == area and not other.isFloating()
            if other is not own and beside and other.isVisible():
                window.tabifyDockWidget(other, own)
                own.raise_()
                return

    def show_tab(self, tab: int) -> None:
        """Go to a tab."""
        self.tabs.setCurrentIndex(tab)

    def train_on(self, table: str) -> None:
        """Go to training with a table of labels."""
        self.show_tab(TRAIN)
        self.train.form.data.path.set_path(table)

    def show_row(self, number: int) -> None:
        """Show a row of what is open in the viewer."""
        if self._link is not None:
            problem = self.images.show_row(number)
            self.label.message.say(problem, wrong=bool(problem))

    def show_keys(self) -> None:
        """Show the keys of the tabs Label and Results, to be looked up and changed."""
        window = KeysWindow(self)
        window.changed.connect(self._use_keys)
        window.setModal(False)
        window.show()

    def use_model(self, name: str) -> bool:
        """Go to the results with a model chosen."""
        self.learning.judge_again()
        self.show_tab(RESULTS)
        return bool(self.results.form.model.choose(name))

    def shut_down(self) -> None:
        """Stop working and let go of the viewer: the dock was closed."""
        self.images.shut_down()
        self.learning.stop()
        self.label.shut_down()
        for page in (self._train, self._results):
            if page is not None:
                page.shut_down()
        self._searches.end()
        self._viewer = None
        self._soon.stop()
        self._docking.stop()
        if self._link is not None:
            self._link.disconnect()
            self._link = None

    def _on_tab(self, tab: int) -> None:
        if tab in (IMAGES, LABEL):
            # Objects may have been painted meanwhile, of which a layer tells nothing by itself.
            self.images.look_again()
        if tab == LABEL:
            self.label.begin()
        elif tab == TRAIN:
            self.train.show()
        elif tab == RESULTS:
            self.results.show()

    def _on_opened(self, collection: Collection | None) -> None:
        self._collection = collection
        self.label.show_collection(
            collection, self.images.labels_file(), self.images.who.text().strip()
        )
        if self._results is not None and self.label.page is None:
            self._offer_rows(self._results)

    def _on_page(self, page: LabelPage | None) -> None:
        """Take up the labels of a page, which may come a moment after its images."""
        if page is None:
            return
        page.keys.change(preferred_keys())
        page.book.who = self.images.who.text().strip()
        page.doubted.connect(self._offer_doubts)
        if self._results is not None:
            self._offer_rows(self._results)

    def _offer_doubts(self) -> None:
        page = self.label.page
        if page is not None and self._results is not None:
            self._results.form.page.doubt(page.book, page.doubts)

    def _use_keys(self, keys: Mapping[str, str]) -> None:
        if self.label.page is not None:
            self.label.page.keys.change(keys)
        if self._results is not None:
            self._results.form.page.keys.change(keys)

    def _on_who(self) -> None:
        if self.label.page is not None:
            self.label.page.book.who = self.images.who.text().strip()

    def _on_model_saved(self, name: str, moved_on: bool) -> None:
        """Choose what was learnt from labels, and go there unless labelling has gone on."""
        if moved_on:
            self.results.form.model.choose(name)
        elif self.use_model(name):
            self.results.form.message.say(
                f"Saved as {name}, among your models. Press Classify to see what it predicts."
            )

    def _offer_rows(self, results: ClassifyWidget) -> None:
        page = self.label.page
        book = None if page is None else page.book
        results.show_collection(self._collection, book, self.images.opened_layers)
        if page is not None:
            results.form.page.doubt(page.book, page.doubts)

    def _on_retrain(self, labels: Mapping[str, Label], collection: Collection) -> None:
        """Write labels with corrections down as a table, and train on it."""
        if collection is self._collection:
            file = self.images.labels_file()
        else:
            file = LABELS_HOME / f"{Path(collection.title).stem or 'corrections'}.csv"
        table = file.with_name(f"{file.stem.removesuffix('.labels')}.training.csv")
        masks = {row.id: row.mask for row in collection.rows if row.mask is not None}
        fields = {row.id: row.fields for row in collection.rows}
        try:
            table.parent.mkdir(parents=True, exist_ok=True)
            write_label_table(table, labels, mask_of=masks.get, fields=fields)
        except (CellclfError, OSError) as error:
            self.results.form.message.say(explain(error), wrong=True)
            return
        self.train_on(str(table))


class _Holder(QWidget):
    """An empty page until its contents are first needed: making all of them takes a second."""

    def __init__(self) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)

    def fill(self, page: QWidget) -> None:
        """Show a page."""
        self._column.addWidget(page)


class _Door(QWidget):
    """Opens the one dock on a tab, and goes away."""

    tab = IMAGES

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        # Only once napari has docked this, which it does with whatever a menu entry makes.
        QTimer.singleShot(0, self._open)

    def _open(self) -> None:
        window = self._viewer.window
        open_bench(self._viewer, self.tab)
        window.remove_dock_widget(self)
        self.deleteLater()


class ClassifyDoor(_Door):
    """The entry *Classify* of the menus."""

    tab = RESULTS


class TrainDoor(_Door):
    """The entry *Train* of the menus."""

    tab = TRAIN


class LabelDoor(_Door):
    """The entry *Label* of the menus."""

    tab = LABEL


def open_bench(viewer: napari.Viewer, tab: int) -> BenchWidget:
    """Open the dock of a viewer, or bring it to the front, on a tab."""
    dock, bench = viewer.window.add_plugin_dock_widget(_PLUGIN, _DOCK)
    if not isinstance(bench, BenchWidget):
        raise TypeError(f"{_PLUGIN} declares a {type(bench).__name__} as its dock")
    dock.show()
    dock.raise_()
    bench.show_tab(tab)
    return bench
