"""The part *Models*: what there is, and what can be done with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_cellclf.core.progress import Progress
from napari_cellclf.models.export.export_options import FORMATS, ExportOptions
from napari_cellclf.plugin.classify.models import work
from napari_cellclf.plugin.classify.models.forms import ExportForm, ImportForm, ServerForm
from napari_cellclf.plugin.classify.models.shelf import Details, ModelTree, ShelfEntry, in_words
from napari_cellclf.plugin.classify.request import ModelChoice
from napari_cellclf.plugin.shared.background import LatestTask, Ticket
from napari_cellclf.plugin.shared.controls import MessageLine, show_page
from napari_cellclf.plugin.shared.path_field import ask_for_path, ask_where_to_save

if TYPE_CHECKING:
    from napari_cellclf.bundles.foreign import ForeignFile


@dataclass(frozen=True)
class _Job:
    """What is under way: what to say while it is, and what to do with its result."""

    saying: str
    on_done: Callable[[Any], None]


class ModelsPart(QWidget):
    """A list of models, a description, and buttons."""

    #: The user chose a model to classify with; carries its name.
    chosen = Signal(str)
    #: The user chose the model of a server; carries a `ModelChoice`.
    connected = Signal(object)
    #: The list has changed; carries a short summary of it.
    listed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.form = ModelsForm()
        self._task = LatestTask(self)
        self._job: _Job | None = None
        # A second press removes; a question in a window of its own would hold up the rest.
        self._sure: str = ""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.form)
        self._connect()
        self._on_selected()

    @property
    def running(self) -> bool:
        """Whether something is under way."""
        return self._task.running

    def refresh(self, selected: str = "") -> None:
        """List the models again; reads their descriptions from the disk."""
        kept = self.form.tree.entry()
        entries = work.list_shelf()
        self.form.tree.show_entries(entries, selected or (kept.name if kept else ""))
        self.listed.emit(in_words(entries))

    def shut_down(self) -> None:
        """Stop the current action."""
        self._task.stop()

    def fetch_selected(self) -> None:
        """Fetch the selected model."""
        entry = self.form.tree.entry()
        if entry is not None and not entry.is_here:
            self._start(
                f"Fetching {entry.title}…",
                lambda ticket: work.fetch(entry, ticket),
                self._on_arrived,
            )

    def remove_selected(self) -> None:
        """Remove the selected model when pressed twice."""
        entry = self.form.tree.entry()
        if entry is None or entry.place != "mine":
            return
        if self._sure != entry.name:
            self._sure = entry.name
            self.form.remove.setText("Really remove")
            self.form.message.say(f"{entry.title} will be deleted from {entry.path}; press again.")
            return
        self._start(
            f"Removing {entry.title}…",
            lambda _: work.remove(entry),
            lambda _: self._on_removed(entry),
        )

    def share(self, entry: ShelfEntry, path: str) -> None:
        """Pack a model into one file."""
        self._start(
            f"Packing {entry.title}…",
            lambda _: work.share(entry, Path(path)),
            lambda made: self.form.message.say(f"Written: {made}; Open… takes it elsewhere."),
        )

    def export(self, entry: ShelfEntry, options: ExportOptions, path: str) -> None:
        """Export a model."""
        self._start(
            f"Exporting {entry.title} (this loads TensorFlow and takes some seconds)…",
            lambda ticket: work.export(entry, options, Path(path), ticket),
            self._on_exported,
        )

    def look_at(self, path: str) -> None:
        """Look at somebody else's network and ask for what it does not say."""
        self._start(
            f"Looking at {Path(path).name}…", lambda _: work.look_at(path), self._on_looked_at
        )

    def import_described(self) -> None:
        """Import the network that the form describes."""
        described = self.form.import_form.described()
        if isinstance(described, str):
            self.form.message.say(described, wrong=True)
            return
        file = self.form.import_form.file
        self._start(
            f"Importing {described.name} (the first time takes some seconds)…",
            lambda ticket: work.bring_in(file, described, ticket),
            self._on_imported,
        )

    def ask_server(self) -> None:
        """Ask the server that stands in the form for its model."""
        address, token = self.form.server_form.address.text(), self.form.server_form.token.text()
        if not address.strip():
            self.form.message.say("Type the server's address, such as https://plates.example.")
            return
        self._start(
            f"Asking {address.strip()}…",
            lambda _: work.ask_server(address, token),
            self._on_server,
        )

    def _start(
        self, saying: str, task: Callable[[Ticket], Any], on_done: Callable[[Any], None]
    ) -> None:
        if self._task.running:
            self.form.message.say("Another action is running; press Cancel to stop it.", wrong=True)
            return
        self._job = _Job(saying, on_done)
        self.form.message.say(saying)
        self._set_running(True)
        self._task.start(task)

    def _set_running(self, running: bool) -> None:
        self.form.progress.setRange(0, 0)
        self.form.show_state(running=running)

    def _on_done(self, result: object) -> None:
        job, self._job = self._job, None
        self._set_running(False)
        if job is not None:
            self.form.message.say("")
            job.on_done(result)

    def _on_failed(self, message: str) -> None:
        self._job = None
        self._set_running(False)
        self.form.message.say(message, wrong=True)

    def _on_cancel(self) -> None:
        self._task.stop()
        self._job = None
        self._set_running(False)
        self.form.message.say("Stopped; nothing was kept.")

    def _on_progress(self, progress: Progress) -> None:
        self.form.progress.setRange(0, progress.total)
        self.form.progress.setValue(progress.done)
        if self._job is not None and progress.message:
            self.form.message.say(f"{self._job.saying} {progress.message}")

    def _on_arrived(self, arrived: work.Arrived) -> None:
        self.refresh(arrived.name)
        self.form.message.say(arrived.words)
        if arrived.usable:
            self.chosen.emit(arrived.name)

    def _on_imported(self, arrived: work.Arrived) -> None:
        self.form.import_form.forget()
        self._on_arrived(arrived)

    def _on_server(self, choice: ModelChoice) -> None:
        self.form.server_form.hide()
        self.form.message.say(f"{choice.title} is ready to use.")
        self.connected.emit(choice)

    def _on_exported(self, written: Path) -> None:
        self.form.export_form.hide()
        self.form.message.say(f"Written: {written}.")

    def _on_removed(self, entry: ShelfEntry) -> None:
        self.refresh()
        self.form.message.say(f"{entry.title} was removed.")
        self.chosen.emit("")

    def _on_looked_at(self, found: ForeignFile) -> None:
        self.form.import_form.show_file(found)
        self.form.message.say("The file does not record these; ask whoever trained the network.")

    def _on_selected(self) -> None:
        self._sure = ""
        self.form.show_state(running=self._task.running)

    def _on_use(self) -> None:
        entry = self.form.tree.entry()
        if entry is not None and entry.is_here:
            self.chosen.emit(entry.name)

    def _on_card(self) -> None:
        entry = self.form.tree.entry()
        if entry is not None:
            show_page(self, entry.title, work.card(entry))

    def _ask_for_network(self) -> None:
        ask_for_path(self, "A .keras network", self.look_at, mode=QFileDialog.FileMode.ExistingFile)

    def _on_ask_for_server(self) -> None:
        self.form.server_form.show()
        self.form.server_form.address.setFocus()

    def _ask_where_to_export(self) -> None:
        entry, options = self.form.tree.entry(), self.form.export_form.options()
        if entry is None or not entry.is_here:
            self.form.message.say("Select one of the models that are here to export it.")
            return
        # Another model may be selected while the dialog is open.
        ask_where_to_save(
            self,
            f"Export {entry.title}",
            lambda path: self.export(entry, options, path),
            f"{entry.name}{FORMATS[options.format].suffix}",
        )

    def _ask_where_to_share(self) -> None:
        entry = self.form.tree.entry()
        if entry is not None:
            ask_where_to_save(
                self,
                f"Share {entry.title}",
                lambda path: self.share(entry, path),
                f"{entry.name}.cellclf",
            )

    def _connect(self) -> None:
        self.form.tree.selected.connect(self._on_selected)
        self.form.tree.itemDoubleClicked.connect(self._on_use)
        self.form.use.clicked.connect(self._on_use)
        self.form.card.clicked.connect(self._on_card)
        self.form.fetch.clicked.connect(self.fetch_selected)
        self.form.share.clicked.connect(self._ask_where_to_share)
        self.form.export.clicked.connect(self.form.export_form.show)
        self.form.export_form.wanted.connect(self._ask_where_to_export)
        self.form.remove.clicked.connect(self.remove_selected)
        self.form.bring.clicked.connect(self._ask_for_network)
        self.form.cancel.clicked.connect(self._on_cancel)
        self.form.server.clicked.connect(self._on_ask_for_server)
        self.form.server_form.wanted.connect(self.ask_server)
        self.form.import_form.wanted.connect(self.import_described)
        self._task.done.connect(self._on_done)
        self._task.failed.connect(self._on_failed)
        self._task.progress.connect(self._on_progress)


class ModelsForm(QWidget):
    """List, description, buttons, questions, message, progress: from top to bottom."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tree = ModelTree()
        self.details = Details(self)
        self.import_form = ImportForm()
        self.server_form = ServerForm()
        self.export_form = ExportForm()
        self.message = MessageLine()
        self.progress = QProgressBar()
        self.use = _button("Use", "Classify with this model.")
        self.card = _button("Model card…", "Everything that is known about this model.")
        self.fetch = _button("Fetch", "Download this model, check it, and keep it.")
        self.share = _button("Share…", "Pack this model into one file to pass on.")
        self.export = _button("Export…", "Write this model for another program.")
        self.remove = _button("Remove", "Delete this model from your computer.")
        self.bring = _button("Import…", "Import a .keras network that someone else trained.")
        self.server = _button("Use a server…", "Classify with the model of another computer.")
        self.cancel = _button("Cancel", "Stop the current action.")
        self._lay_out()

    def show_state(self, *, running: bool) -> None:
        """Let be pressed what can be done with the selected model."""
        entry, idle = self.tree.entry(), not running
        here = entry is not None and entry.is_here
        self.details.show(entry)
        self.remove.setText("Remove")
        self.use.setEnabled(here)
        self.card.setEnabled(entry is not None)
        self.share.setEnabled(here and idle)
        self.export.setEnabled(here and idle)
        self.remove.setEnabled(_is_own(entry) and idle)
        self.fetch.setEnabled(entry is not None and not here and idle)
        for one in (self.bring, self.server, self.import_form, self.server_form, self.export_form):
            one.setEnabled(idle)
        self.progress.setVisible(running)
        self.cancel.setVisible(running)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tree)
        column.addWidget(self.details.label)
        for buttons in (
            (self.use, self.fetch, self.card, self.remove),
            (self.bring, self.server, self.share, self.export),
        ):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            column.addLayout(row)
        self.import_form.setVisible(False)
        column.addWidget(self.import_form)
        column.addWidget(self.server_form)
        column.addWidget(self.export_form)
        column.addWidget(self.message)
        row = QHBoxLayout()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel)
        column.addLayout(row)


def _is_own(entry: ShelfEntry | None) -> bool:
    return entry is not None and entry.place == "mine"


def _button(text: str, hint: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(hint)
    return button
