"""The list of models, those of one place together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHeaderView, QSizePolicy, QTreeWidget, QTreeWidgetItem, QWidget

from napari_cellclf.plugin.classify.models.shelf import PLACES, ShelfEntry

_NAME, _CLASSES, _SIZE = range(3)
_ENTRY = Qt.ItemDataRole.UserRole
_HEIGHT = 170


class ModelTree(QTreeWidget):
    """Models under the headings of their places; one can be selected."""

    #: Another entry is selected, or none.
    selected = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setHeaderLabels(["Model", "Classes", "Size"])
        self.setRootIsDecorated(True)
        self.setUniformRowHeights(True)
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        header = self.header()
        if header is not None:
            header.setStretchLastSection(False)
            header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
            for column in (_CLASSES, _SIZE):
                header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.itemSelectionChanged.connect(self._on_selection)

    def show_entries(self, entries: Sequence[ShelfEntry], selected: str = "") -> None:
        """Show another list."""
        heads = self._heads()
        folded = {head.text(_NAME).partition(" (")[0] for head in heads if not head.isExpanded()}
        self.blockSignals(True)
        self.clear()
        for place, title in PLACES.items():
            of_place = [entry for entry in entries if entry.place == place]
            if not of_place:
                continue
            head = QTreeWidgetItem([f"{title} ({len(of_place)})"])
            head.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.addTopLevelItem(head)
            for entry in of_place:
                item = _item(entry)
                head.addChild(item)
                item.setSelected(entry.name == selected)
            head.setFirstColumnSpanned(True)
            # Some forty networks, which one rarely needs.
            head.setExpanded(title not in folded if heads else place != "weights")
        self.blockSignals(False)
        self._on_selection()

    def entry(self) -> ShelfEntry | None:
        """Return the selected entry, None if there is none."""
        items = self.selectedItems()
        found = items[0].data(_NAME, _ENTRY) if items else None
        return found if isinstance(found, ShelfEntry) else None

    def select(self, name: str) -> bool:
        """Select an entry by name; False if there is none of that name."""
        for head in self._heads():
            for index in range(head.childCount()):
                item = head.child(index)
                found = None if item is None else item.data(_NAME, _ENTRY)
                if item is not None and found is not None and found.name == name:
                    head.setExpanded(True)
                    self.setCurrentItem(item)
                    return True
        return False

    def _heads(self) -> list[QTreeWidgetItem]:
        found = (self.topLevelItem(index) for index in range(self.topLevelItemCount()))
        return [item for item in found if item is not None]

    def _on_selection(self) -> None:
        self.selected.emit()


def _item(entry: ShelfEntry) -> QTreeWidgetItem:
    shown: list[Any] = [entry.title, str(entry.n_classes or ""), entry.size]
    item = QTreeWidgetItem(shown)
    item.setData(_NAME, _ENTRY, entry)
    item.setToolTip(_NAME, entry.name)
    for column in (_CLASSES, _SIZE):
        item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item
