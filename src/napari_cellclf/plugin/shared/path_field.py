"""Asking for files and folders without holding up the rest of napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QMenu, QPushButton, QWidget

from napari_cellclf.plugin.shared.controls import plain_hint


def ask_for_path(
    parent: QWidget,
    title: str,
    on_path: Callable[[str], Any],
    *,
    mode: QFileDialog.FileMode = QFileDialog.FileMode.Directory,
) -> QFileDialog:
    """Open a dialog beside the window and call back with the file or folder that was chosen."""
    dialog = QFileDialog(parent, title)
    dialog.setFileMode(mode)
    return _show(dialog, on_path)


def ask_where_to_save(
    parent: QWidget, title: str, on_path: Callable[[str], Any], name: str
) -> QFileDialog:
    """Open a dialog beside the window that asks for a file to write; it asks before replacing one.

    `name`: what the file is called unless the user types another name, with its suffix.
    """
    dialog = QFileDialog(parent, title)
    dialog.setFileMode(QFileDialog.FileMode.AnyFile)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    suffix = Path(name).suffix
    dialog.setDefaultSuffix(suffix.removeprefix("."))
    dialog.setNameFilter(f"*{suffix}")
    dialog.selectFile(name)
    return _show(dialog, on_path)


def _show(dialog: QFileDialog, on_path: Callable[[str], Any]) -> QFileDialog:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.setModal(False)
    dialog.fileSelected.connect(on_path)
    dialog.show()
    return dialog


def dropped_path(event: Any) -> str | None:
    """Return the path that a drag carries, None if it carries none or several."""
    urls = event.mimeData().urls()
    return urls[0].toLocalFile() or None if len(urls) == 1 else None


class PathField(QWidget):
    """A line for a path, with a button to browse; takes what is dropped on it."""

    #: Another path stands in the field.
    changed = Signal()

    def __init__(
        self, placeholder: str, title: str, *, file: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAcceptDrops(True)
        self._title = title
        self._line = QLineEdit()
        self._line.setPlaceholderText(placeholder)
        self._line.setAcceptDrops(False)
        self._line.textChanged.connect(self._on_change)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._line, 1)
        row.addWidget(self._button(file))

    def path(self) -> str:
        """Return what stands in the field."""
        return str(self._line.text())

    def set_path(self, path: str) -> None:
        """Put a path into the field."""
        self._line.setText(path)
        self._line.setToolTip(plain_hint(path))

    def dragEnterEvent(self, event: Any) -> None:
        """Take folders that are dragged here."""
        if dropped_path(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """Put what was dropped into the field."""
        path = dropped_path(event)
        if path is not None:
            self.set_path(path)

    def _button(self, file: str) -> QPushButton:
        button = QPushButton("Browse…")
        if not file:
            button.clicked.connect(self._browse)
            return button
        menu = QMenu(button)
        menu.addAction("Folder…", self._browse)
        menu.addAction(f"{file}…", self._browse_files)
        button.setMenu(menu)
        return button

    def _browse(self) -> None:
        ask_for_path(self, self._title, self.set_path)

    def _browse_files(self) -> None:
        ask_for_path(self, self._title, self.set_path, mode=QFileDialog.FileMode.ExistingFile)

    def _on_change(self) -> None:
        self.changed.emit()


def masks_field() -> PathField:
    """Make a field for where the masks of images are; it may stay empty."""
    field = PathField("masks beside the images, or a folder of masks", "Choose masks", file="Mask")
    field.setToolTip(
        "Masks are named like their images, with _masks, _cp_masks or _labels at the end, or lie "
        "in a folder of their own."
    )
    return field
