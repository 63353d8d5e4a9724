"""A widget that notices being taken out of napari's dock."""

from __future__ import annotations

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget


class DockedWidget(QWidget):
    """The base of all dock widgets: lets go of everything when its dock is closed for good."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._docked = False

    def shut_down(self) -> None:
        """Stop working and let go of the viewer; to be extended."""

    def event(self, event: QEvent | None) -> bool:
        """Notice being docked, and being taken out of the dock for good."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.shut_down()
                self.deleteLater()
        return bool(super().event(event))
