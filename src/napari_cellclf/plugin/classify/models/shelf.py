"""The list of models: those that are here and those that can be fetched, by where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHeaderView, QSizePolicy, QTreeWidget, QTreeWidgetItem, QWidget

from napari_cellclf.core.counting import counted
from napari_cellclf.plugin.shared.controls import small_label

Place = Literal["mine", "bundled", "fetch", "weights"]

#: The headings of the list, in their order.
PLACES: dict[Place, str] = {
    "mine": "Yours",
    "bundled": "With the plugin",
    "fetch": "To fetch",
    "weights": "Pretrained weights",
}
_MANY = 8


@dataclass(frozen=True)
class ShelfEntry:
    """A model, or weights to start a training from."""

    name: str
    title: str
    #: Where it is; the last two are to be fetched.
    place: Place
    #: Of a model that is here.
    path: Path | None = None
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    #: Of the weights.
    licence: str = ""
    #: On the disk, or to be downloaded.
    size_bytes: int = 0
    #: A sentence or two of what it is for.
    about: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it can be classified with at once."""
        return self.place in ("mine", "bundled")

    @property
    def n_classes(self) -> int:
        """How many classes it tells apart; 0 for weights."""
        return len(self.classes)

    @property
    def size(self) -> str:
        """Such as ``"8.7 MB"``."""
        return f"{self.size_bytes / 1e6:.1f} MB" if self.size_bytes else ""

    @property
    def summary(self) -> str:
        """A few lines for people."""
        lines = [self.about] if self.about else []
        if self.classes:
            lines.append(f"{counted(self.n_classes, 'class')}: {_listed(self.classes)}")
        if self.channels:
            lines.append(f"{counted(len(self.channels), 'channel')}: {_listed(self.channels)}")
        lines.append(f"Licence: {self.licence or 'not stated'}")
        return "\n".join(lines)


def in_words(entries: Sequence[ShelfEntry]) -> str:
    """Say how many there are of each place."""
    counts = {place: sum(entry.place == place for entry in entries) for place in PLACES}
    del counts["weights"]
    return ", ".join(f"{count} {PLACES[place].lower()}" for place, count in counts.items() if count)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more


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
        """Select an entry by name; return False if it is not in the list."""
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
