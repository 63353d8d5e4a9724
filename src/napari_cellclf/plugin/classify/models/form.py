"""How the part *Models* is laid out; it decides nothing."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_cellclf.plugin.classify.models.details import Details
from napari_cellclf.plugin.classify.models.import_form import ImportForm
from napari_cellclf.plugin.classify.models.server_form import ServerForm
from napari_cellclf.plugin.classify.models.shelf import ShelfEntry
from napari_cellclf.plugin.classify.models.tree import ModelTree
from napari_cellclf.plugin.shared.controls import MessageLine


class ModelsForm(QWidget):
    """List, description, buttons, questions, message, progress: from top to bottom."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tree = ModelTree()
        self.details = Details(self)
        self.import_form = ImportForm()
        self.server_form = ServerForm()
        self.message = MessageLine()
        self.progress = QProgressBar()
        self.use = _button("Use", "Classify with this model.")
        self.card = _button("Card…", "All that is known of this model.")
        self.fetch = _button("Fetch", "Download this model, check it, and keep it.")
        self.share = _button("Share…", "Pack this model into one file for somebody else.")
        self.remove = _button("Remove", "Delete this model from your computer.")
        self.bring = _button("Import…", "Bring in somebody else's .keras network.")
        self.server = _button("Server…", "Let another computer compute.")
        self.cancel = _button("Cancel", "Stop what is under way.")
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
        self.remove.setEnabled(_is_own(entry) and idle)
        self.fetch.setEnabled(entry is not None and not here and idle)
        for one in (self.bring, self.server, self.import_form, self.server_form):
            one.setEnabled(idle)
        self.progress.setVisible(running)
        self.cancel.setVisible(running)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tree)
        column.addWidget(self.details.label)
        for buttons in (
            (self.use, self.fetch, self.card),
            (self.bring, self.server, self.share, self.remove),
        ):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            column.addLayout(row)
        self.import_form.setVisible(False)
        column.addWidget(self.import_form)
        column.addWidget(self.server_form)
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
