"""The page *Images*: what to look at, what a row of it is, and where its labels are kept."""

from __future__ import annotations

import getpass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.class_colours import class_colours
from napari_cellclf.core.collection import Collection
from napari_cellclf.core.objects import ObjectCrop
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.plugin.bench.opening import (
    LABELS_HOME,
    LABELS_NAME,
    Question,
    describe,
    labels_path,
    open_question,
)
from napari_cellclf.plugin.classify.choices import ImageChoice, list_choices
from napari_cellclf.plugin.classify.objects import ObjectsChoice, fitting_objects
from napari_cellclf.plugin.shared.background import LatestTask, Ticket
from napari_cellclf.plugin.shared.controls import (
    Footer,
    MessageLine,
    Section,
    fill_with_scroll_area,
    small_label,
    wide_combo,
)
from napari_cellclf.plugin.shared.messages import explain
from napari_cellclf.plugin.shared.naming_field import NamingField
from napari_cellclf.plugin.shared.path_field import PathField, masks_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_cellclf.plugin.classify.viewer_link import ViewerLink

FILES, LAYERS = 0, 1
IMAGES, OBJECTS = 0, 1
_PAUSE_MS = 350
_MANY = 64
_PAGES = ("napari_cellclf.plugin.train.widget", "napari_cellclf.plugin.classify.widget")
_NOTHING = "Choose a folder of images, a CSV table with a column path, or open layers."
_NO_LAYERS = "No image layer is open; open one in napari, or choose files."
_NO_OBJECTS = "Open a Labels layer of the image's objects, or a Points layer of their centres."
_OPENING = "Looking at the images…"


class ImagesPage(QWidget):
    """Opens files or layers as a collection; says what was found, and what to do next."""

    #: Another collection is open; carries it, or None.
    opened = Signal(object)
    #: The user wants to label what is open.
    label_wanted = Signal()

    def __init__(self, link: ViewerLink | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.collection: Collection | None = None
        self._link = link
        self._choices: Sequence[ImageChoice] = ()
        self._fitting: Sequence[ObjectsChoice] = ()
        self._no_objects = ""
        self._question: Question | None = None
        self.origin = wide_combo("Whether images come from files or from layers that are open.")
        self.origin.addItems(["Files or a folder", "Layers that are open"])
        self.files = PathField(
            "folder, image, or CSV table with a path column", "Choose images", file="Image or table"
        )
        self.layers = wide_combo("The image that is open; its planes are the rows.")
        self.naming = NamingField()
        self.rows = wide_combo(
            "Whether a whole image (or plane of a stack) is looked at, or each object in it."
        )
        self.rows.addItems(["whole images or planes", "objects (cells, nuclei…)"])
        self.masks = masks_field()
        self.objects = wide_combo("The layer whose objects are looked at one by one.")
        self.group = wide_combo(
            "Rows that belong together, such as those of one plate or embryo. How good the "
            "suggestions are is estimated with whole groups left out."
        )
        self.summary = small_label()
        self.who = QLineEdit(_user())
        self.who.setToolTip("Stands beside each of your labels.")
        self.labels = PathField(
            "labels.csv beside the images", "Choose where labels are kept", file="File of labels"
        )
        self.message = MessageLine()
        self.start = QPushButton("Start labelling")
        self.stop = QPushButton("Stop")
        self.progress = QProgressBar()
        self._task = LatestTask(self)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._labels_pause = QTimer(self)
        self._labels_pause.setSingleShot(True)
        self._labels_pause.setInterval(_PAUSE_MS)
        self._lay_out()
        self._connect()
        self.refresh_layers()
        self._on_origin()
        self.read()

    def choose_path(self, path: str) -> None:
        """Open files or a folder, as if the user had chosen them."""
        self.origin.setCurrentIndex(FILES)
        self.files.set_path(path)

    def labels_file(self) -> Path:
        """Return where labels are kept."""
        typed = self.labels.path().strip()
        if not typed:
            return self._usual_labels()
        place = expanded(typed).absolute()
        return place / LABELS_NAME if place.is_dir() else place

    @property
    def opened_layers(self) -> ImageChoice | None:
        """The layers that are open as rows; None where files are."""
        return None if self._question is None else self._question.choice

    def show_row(self, number: int) -> str:
        """Show a row in the viewer; returns why that is not possible, or nothing."""
        collection, question, link = self.collection, self._question, self._link
        if collection is None or question is None or link is None:
            return _NOTHING
        try:
            link.show_row(collection.rows[number], question.naming, question.choice)
        except (CellclfError, OSError) as error:
            return explain(error)
        return ""

    def look_again(self) -> None:
        """Open the layers again if their objects have been changed."""
        if self.origin.currentIndex() == LAYERS and self.collection is not None:
            self.read()

    def refresh_layers(self) -> None:
        """Offer the images that the viewer's layers make up now."""
        if self._link is None:
            return
        before = self._chosen_layers()
        layers = self._link.layers()
        self._choices, current = list_choices(layers, self._link.selected())
        there = {layer.key for layer in layers}
        listed = [choice.keys for choice in self._choices]
        if before is not None and before.keys <= there and before.keys not in listed:
            # Layers that were chosen together stay so, whatever is selected by now.
            self._choices = [*self._choices, before]
        with QSignalBlocker(self.layers):
            self.layers.clear()
            self.layers.addItems([choice.title for choice in self._choices])
            kept = [
                number
                for number, choice in enumerate(self._choices)
                if before is not None and choice.keys == before.keys
            ]
            self.layers.setCurrentIndex(kept[0] if kept else current)
        self._refresh_objects()
        if self.origin.currentIndex() == LAYERS:
            self._pause.start()

    def _refresh_objects(self) -> None:
        """Offer the layers whose objects are of the chosen image."""
        choice, before = self._chosen_layers(), self.objects.currentText()
        self._fitting, self._no_objects = [], _NO_LAYERS
        if choice is not None and self._link is not None:
            # Any objects: their crops have a fixed size.
            rule = ObjectCrop(side=1)
            layers = self._link.object_layers()
            self._fitting, why = fitting_objects(layers, choice, rule)
            self._no_objects = why if layers else _NO_OBJECTS
        with QSignalBlocker(self.objects):
            self.objects.clear()
            self.objects.addItems([one.name for one in self._fitting])
            self.objects.setCurrentIndex(max(0, self.objects.findText(before)))

    def shut_down(self) -> None:
        """Begin nothing more, and let go of the viewer."""
        self._link = None
        self._question = None
        self._pause.stop()
        self._labels_pause.stop()
        self._task.stop()
        self.naming.shut_down()

    def _lay_out(self) -> None:
        inner = QWidget()
        self._rows = QFormLayout()
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._rows.addRow("From", self.origin)
        self._rows.addRow("Images", self.files)
        self._rows.addRow("Image", self.layers)
        self._rows.addRow("File names", self.naming)
        self._rows.addRow("Look at", self.rows)
        self._rows.addRow("Masks", self.masks)
        self._rows.addRow("Objects", self.objects)
        keeping = QWidget()
        form = QFormLayout(keeping)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Your name", self.who)
        form.addRow("Kept in", self.labels)
        form.addRow("Keep together", self.group)
        self.keeping = Section("Labels", keeping, open=False)
        column = QVBoxLayout(inner)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(self._rows)
        column.addWidget(self.summary)
        column.addWidget(self.keeping)
        column.addStretch(1)
        footer = Footer(self.message, [self.start, self.stop], self.progress)
        fill_with_scroll_area(self, inner, footer)

    def _connect(self) -> None:
        self.origin.currentIndexChanged.connect(self._on_origin)
        self.files.changed.connect(self._on_files)
        self.naming.changed.connect(self._pause.start)
        self.masks.changed.connect(self._pause.start)
        self.rows.currentIndexChanged.connect(self._on_origin)
        self.objects.currentIndexChanged.connect(self._pause.start)
        self.layers.currentIndexChanged.connect(self._on_layers)
        self.group.currentIndexChanged.connect(self._on_group)
        self._pause.timeout.connect(self.read)
        self.labels.changed.connect(self._labels_pause.start)
        self._labels_pause.timeout.connect(self._on_labels)
        self.start.clicked.connect(self.label_wanted)
        self.stop.clicked.connect(self._on_stop)
        self._task.done.connect(self._on_opened)
        self._task.failed.connect(self._on_failed)
        self._task.progress.connect(self._on_progress)

    def _on_origin(self) -> None:
        of_files = self.origin.currentIndex() == FILES
        of_objects = self.rows.currentIndex() == OBJECTS
        for widget, visible in (
            (self.files, of_files),
            (self.naming, of_files),
            (self.layers, not of_files),
            (self.masks, of_files and of_objects),
            (self.objects, not of_files and of_objects),
        ):
            self._rows.setRowVisible(widget, visible)
        self._pause.start()

    def _on_layers(self) -> None:
        self._refresh_objects()
        self._pause.start()

    def _on_files(self) -> None:
        self.naming.show_folder(self.files.path())
        self._pause.start()

    @property
    def _of_objects(self) -> bool:
        return bool(self.rows.currentIndex() == OBJECTS)

    def _chosen_layers(self) -> ImageChoice | None:
        index = self.layers.currentIndex()
        return self._choices[index] if 0 <= index < len(self._choices) else None

    def _ask(self) -> Question | None:
        if self.origin.currentIndex() == FILES:
            path = self.files.path().strip()
            masks = self.masks.path().strip()
            return (
                Question(path, self.naming.naming(), objects=self._of_objects, masks=masks)
                if path
                else None
            )
        choice = self._chosen_layers()
        if choice is None or self._link is None:
            return None
        source = None
        if self._of_objects:
            index = self.objects.currentIndex()
            if not 0 <= index < len(self._fitting):
                return None
            source = self._link.objects_source(self._fitting[index], choice)
        return Question(choice=choice, arrays=self._link.arrays(choice), source=source)

    def read(self) -> None:
        """Open what stands in the form, unless that is what is open."""
        self._pause.stop()
        question = self._ask()
        if question is not None and question == self._question and not self._painted(question):
            return
        self._question = question
        self._show(None)
        if question is None:
            self._task.stop()
            self.message.say(self._what_is_missing())
            return
        self.message.say(_OPENING)
        self._task.start(lambda ticket: _open(question, ticket))
        self._set_running(True)

    def _painted(self, question: Question) -> bool:
        """Whether the objects on the plane that is looked at are others than were opened."""
        before, now, choice = self._question, question.source, question.choice
        if before is None or before.source is None or choice is None or self._link is None:
            return False
        position = self._link.position(choice)
        if now is None or len(now.data) != len(before.source.data):
            return True
        return position is not None and before.source.changed(position, now.data)

    def _what_is_missing(self) -> str:
        if self.origin.currentIndex() == FILES:
            return _NOTHING
        none_fits = self._of_objects and self._chosen_layers() is not None
        return self._no_objects if none_fits else _NO_LAYERS

    def _set_running(self, running: bool) -> None:
        self.progress.setVisible(running)
        self.progress.setRange(0, 0)
        self.stop.setEnabled(running)
        self.start.setEnabled(not running and self.collection is not None)

    def _on_stop(self) -> None:
        self._task.stop()
        self._question = None
        self._set_running(False)
        self.message.say("Stopped; choose images again to open them.")

    def _on_progress(self, progress: Progress) -> None:
        self.progress.setRange(0, progress.total)
        self.progress.setValue(progress.done)
        self.message.say(f"Looking at the images: {progress.done} of {progress.total}")

    def _on_failed(self, message: str) -> None:
        # What was wrong may have been put right when the same is chosen again.
        self._question = None
        self._set_running(False)
        self.message.say(message, wrong=True)

    def _on_opened(self, found: tuple[Collection, tuple[str, ...]]) -> None:
        collection, notes = found
        self._show(collection, notes)
        self.message.say("Press Start labelling, or train and classify on the other tabs.")

    def _show(self, collection: Collection | None, notes: Sequence[str] = ()) -> None:
        self.collection = collection
        self.summary.setText("" if collection is None else describe(collection, notes))
        self.summary.setVisible(collection is not None)
        self.keeping.setVisible(collection is not None)
        self._fill_groups(collection)
        self.keeping.summarise(self.labels_file().name)
        self._set_running(False)
        self.opened.emit(collection)

    def _fill_groups(self, collection: Collection | None) -> None:
        with QSignalBlocker(self.group):
            self.group.clear()
            if collection is None:
                return
            own = any(row.plane or row.object is not None for row in collection.rows)
            self.group.addItem("planes or objects of one image" if own else "nothing", None)
            for name in collection.field_names:
                self.group.addItem(name, name)
            self.group.setCurrentIndex(max(0, self.group.findData(collection.group_column)))

    def _on_group(self) -> None:
        collection = self.collection
        if collection is None:
            return
        self.collection = collection.grouped_by(self.group.currentData())
        self.opened.emit(self.collection)

    def _on_labels(self) -> None:
        """Keep labels elsewhere from now on, going on with those that are there."""
        self._labels_pause.stop()
        self.keeping.summarise(self.labels_file().name)
        if self.collection is not None:
            self.opened.emit(self.collection)

    def _usual_labels(self) -> Path:
        question = self._question
        return LABELS_HOME / LABELS_NAME if question is None else labels_path(question)


def _open(question: Question, ticket: Ticket) -> tuple[Collection, tuple[str, ...]]:
    # Mixed here rather than in the window's thread, should there be many classes.
    class_colours(_MANY)
    # What the other tabs need is imported here as well.
    for name in _PAGES:
        import_module(name)
    return open_question(question, ticket.on_progress, ticket.should_stop)


def _user() -> str:
    """Return the name of whoever uses the computer, as far as it says one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
