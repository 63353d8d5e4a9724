"""The tab *Label*: a page for what is open, or what to do before there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from napari_cellclf.core.collection import Collection
from napari_cellclf.plugin.shared.controls import WrappedLabel

if TYPE_CHECKING:
    from napari_cellclf.plugin.bench.images_page import ImagesPage

_FIRST = "Open images on the tab Images first; they are labelled here, one key each."


class LabelTab(QWidget):
    """Labels of one collection at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.empty = WrappedLabel()
        self.empty.setText(_FIRST)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedWidget()
        self._pages.addWidget(self.empty)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self._pages)

    def show_collection(self, collection: Collection | None, images: ImagesPage) -> None:
        """Label other rows."""

    def shut_down(self) -> None:
        """Save what is to be saved, and begin nothing more."""
