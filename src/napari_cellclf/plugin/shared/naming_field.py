"""Asks how files are named, and shows how the first names are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QComboBox, QSizePolicy, QVBoxLayout, QWidget

from napari_cellclf.plugin.shared.background import LatestTask
from napari_cellclf.plugin.shared.controls import WrappedLabel
from napari_cellclf.plugin.shared.file_names import preferred_naming

if TYPE_CHECKING:
    from napari_cellclf.io.named_images import UnderstoodNames

_HINT = (
    "How files are named, such as {plate}/{well}_s{site}_w{channel}.tif: {channel} tells the files "
    "of one image apart, {label} is the class, other fields become columns. Empty: RxRx1, "
    "Drosophila and whatever is installed."
)
#: So long nothing is typed before names are read.
_PAUSE_MS = 350


class NamingField(QWidget):
    """A line for a pattern or the name of a scheme, and below it the first names as understood."""

    #: Another pattern stands in the field.
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._folder = ""
        self.box = QComboBox()
        self.box.setEditable(True)
        self.box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.box.setToolTip(_HINT)
        line = self.box.lineEdit()
        if line is not None:
            line.setPlaceholderText("optional, such as {well}_s{site}_w{channel}.tif")
        self._fill()
        self.preview = _WholeText()
        self.preview.setVisible(False)
        self._task = LatestTask(self)
        self._task.done.connect(self._show)
        self._task.failed.connect(self._on_failed)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._read)
        self.box.editTextChanged.connect(self._on_text)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.box)
        column.addWidget(self.preview)
        # Room that is left over is below the text, not around it.
        column.addStretch()

    def naming(self) -> str | None:
        """Return the pattern or the name of a scheme; None for any that is installed."""
        return str(self.box.currentText()).strip() or None

    def set_naming(self, naming: str) -> None:
        """Put a pattern into the field."""
        self.box.setEditText(naming)

    def show_folder(self, folder: str) -> None:
        """Show how the names in a folder are read."""
        self._folder = folder
        self._pause.start()

    def shut_down(self) -> None:
        """Begin nothing more."""
        self._pause.stop()
        self._task.stop()

    def _fill(self) -> None:
        from napari_cellclf.io.naming import NAMING

        preferred = preferred_naming()
        known = dict.fromkeys(["", *([] if preferred is None else [preferred]), *NAMING.names()])
        with QSignalBlocker(self.box):
            self.box.addItems(list(known))
            self.box.setEditText(preferred or "")

    def _on_text(self) -> None:
        # What is under way is about another pattern.
        self._task.stop()
        self._pause.start()
        self.changed.emit()

    def _read(self) -> None:
        from napari_cellclf.io.local_paths import expanded

        folder, naming = expanded(self._folder.strip()), self.naming()
        if not self._folder.strip() or not folder.is_dir():
            self._task.stop()
            self.preview.setVisible(False)
            return
        self._task.start(lambda ticket: _understood(folder, naming))

    def _show(self, said: UnderstoodNames) -> None:
        # Names that nobody said anything about, and nobody understands, are no news.
        silent = self.naming() is None and not said.lines
        self.preview.setText("\n".join(said.summary))
        self.preview.setVisible(not silent and said.total > 0)

    def _on_failed(self, message: str) -> None:
        self.preview.setText(message)
        self.preview.setVisible(True)


class _WholeText(WrappedLabel):
    """Wrapped text that is never cut, also in a layout that knows nothing of its height."""

    def __init__(self) -> None:
        super().__init__()
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def setText(self, text: str | None) -> None:
        """Show a text."""
        super().setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keep all of it in view."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # -1 where there is no text.
        self.setMinimumHeight(max(0, self.heightForWidth(self.width())))


def _understood(folder: Path, naming: str | None) -> UnderstoodNames:
    from napari_cellclf.io.named_images import understood_below

    return understood_below(folder, naming)
