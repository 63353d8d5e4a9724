"""The question whether a run goes on when napari's window is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QMainWindow, QMessageBox, QPushButton, QWidget

_QUESTION = "A classifier is being trained."
_MORE = (
    "It can continue without napari; to follow it later, open Train and choose its folder, "
    "{folder}."
)


class CloseGuard(QObject):
    """Asks before a window is closed while a run is going on."""

    def __init__(
        self,
        folder: Callable[[], str | None],
        on_stop: Callable[[], Any],
        on_close: Callable[[], Any],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._window: QMainWindow | None = None
        self._folder = folder
        self._on_stop = on_stop
        self._on_close = on_close
        self.dialog: QMessageBox | None = None
        self._buttons: dict[str, QPushButton | None] = {}

    def watch(self, inside: QWidget) -> None:
        """Guard the window that a widget lies in, once it does."""
        found: QObject | None = inside
        while found is not None and not isinstance(found, QMainWindow):
            found = found.parent()
        if isinstance(found, QMainWindow) and found is not self._window:
            self.let_go()
            self._window = found
            found.installEventFilter(self)

    def let_go(self) -> None:
        """Ask no more."""
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Hold back the closing of the window until the question is answered."""
        if event is None or event.type() != QEvent.Type.Close or watched is not self._window:
            return False
        folder = self._folder()
        if folder is None:
            return False
        if self._window is None or not _shows_anything(self._window):
            # A viewer that a script closes has lost its canvas by now: too late to ask.
            self._on_close()
            return False
        event.ignore()
        self._ask(folder)
        return True

    def answer(self, name: str) -> None:
        """Do what a button says."""
        window = self._window
        if window is None:
            return
        if name == "cancel":
            # Otherwise the next window that is closed would take all others with it.
            if hasattr(window, "_quit_app"):
                window._quit_app = False
            return
        if name == "stop":
            self._on_stop()
        self._on_close()
        self._close(window)

    def _close(self, window: QMainWindow) -> None:
        # napari's own `close` would ask once more.
        QMainWindow.close(window)

    def _ask(self, folder: str) -> None:
        if self.dialog is not None:
            self.dialog.raise_()
            return
        box = self.dialog = QMessageBox(self._window)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle("Training in progress")
        box.setIcon(QMessageBox.Icon.Question)
        box.setText(_QUESTION)
        box.setInformativeText(_MORE.format(folder=folder))
        role = QMessageBox.ButtonRole
        self._buttons = {
            "keep": box.addButton("Keep training in the background", role.AcceptRole),
            "stop": box.addButton("Stop and keep the checkpoint", role.DestructiveRole),
            "cancel": box.addButton("Cancel", role.RejectRole),
        }
        box.setEscapeButton(self._buttons["cancel"])
        # Shown and not executed: napari lives on while it waits for the answer.
        box.setModal(False)
        box.finished.connect(self._on_finished)
        box.show()

    def _on_finished(self) -> None:
        box, self.dialog = self.dialog, None
        clicked = None if box is None else box.clickedButton()
        names = [name for name, button in self._buttons.items() if button is clicked]
        self.answer(names[0] if names and clicked is not None else "cancel")


def _shows_anything(window: QMainWindow) -> bool:
    central = window.centralWidget()
    inside = [] if central is None else central.children()
    return any(isinstance(one, QWidget) and one.isVisible() for one in inside)
