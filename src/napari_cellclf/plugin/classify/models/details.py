"""What is known of the selected model, in a few lines."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

from napari_cellclf.plugin.classify.models.shelf import ShelfEntry
from napari_cellclf.plugin.shared.controls import small_label

NOTHING = (
    "Select a model to see what it is for. Import makes a model of a .keras network that somebody "
    "else trained."
)


class Details:
    """A label that describes an entry."""

    def __init__(self, parent: QWidget | None = None) -> None:
        self.label = small_label()
        self.label.setParent(parent)
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def show(self, entry: ShelfEntry | None) -> None:
        """Describe an entry; with None say what can be done."""
        self.label.setText(NOTHING if entry is None else entry.summary)
