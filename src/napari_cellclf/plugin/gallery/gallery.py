"""The gallery: thumbnails of rows that are sorted, filtered, selected, dragged and shown.

It knows nothing of how rows are labelled; the pages that use it do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from qtpy.QtCore import (
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    Qt,
    QUrl,
    Signal,
)
from qtpy.QtGui import (
    QDesktopServices,
)
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.counting import counted
from napari_cellclf.plugin.gallery.gallery_model import (
    SORT_TITLES,
    GalleryFilter,
    GalleryModel,
)
from napari_cellclf.plugin.gallery.thumbnails import ThumbnailLoader
from napari_cellclf.plugin.gallery.tile_view import SIDE, TileView
from napari_cellclf.plugin.shared.controls import plain_hint, plain_label, shortened, tab_downwards

_SIDES = (56, 232)
#: Fields with more values are not offered as a filter; the text field finds them.
_MOST_VALUES = 400


class Gallery(QWidget):
    """Tiles of a collection's rows with what sorts and filters them; rows are told by number."""

    #: The user went to a row; carries its number.
    row_chosen = Signal(int)
    #: A row is to be shown in the viewer; carries its number.
    row_activated = Signal(int)
    #: Other rows are selected, or shown.
    changed = Signal()
    #: A class was chosen for the selected rows in the menu; carries numbers and the class.
    class_chosen = Signal(object, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows = GalleryModel(self)
        self.loader = ThumbnailLoader(SIDE, parent=self)
        self.view = TileView(self.rows, self.loader)
        #: Whether the menu of a tile offers the classes as labels.
        self.can_label = False
        self._sort = QComboBox()
        self._show = QToolButton()
        self._text = QLineEdit()
        self._only = _OnlyLine()
        self._count = plain_label()
        self._size = QSlider(Qt.Orientation.Horizontal)
        self._set_up()
        self._lay_out()

    def set_collection(self, collection: Collection | None) -> None:
        """Show the rows of another collection."""
        self.rows.set_collection(collection)
        self._only.say("")
        self._text.clear()
        self.rows.filter(GalleryFilter())
        self._offer_sorts()
        self._load_thumbnails()
        self._tell()

    def refresh(self) -> None:
        """Show what was set in `rows`: sort and filter again, and draw again."""
        current = self.current()
        self._offer_sorts()
        self.rows.refresh()
        if current is not None and self.rows.place(current) is None:
            self.view.setCurrentIndex(QModelIndex())
        self.view.repaint_tiles()
        self._tell()

    def show_only(self, rows: Iterable[int] | None, words: str = "") -> None:
        """Show only some rows, and say in `words` which; None for all again."""
        self.rows.show_only(rows)
        self._only.say(words if rows is not None else "")
        self._tell()

    def sort_by(self, how: str) -> None:
        """Sort by a key of `SORT_TITLES`, or by ``field:`` or ``score:`` and a name."""
        at = self._sort.findData(how)
        if at >= 0:
            self._sort.setCurrentIndex(at)
        self.rows.sort_by(how)
        self._tell()

    def filter(self, which: GalleryFilter) -> None:
        """Show the rows that pass a filter."""
        self.rows.filter(which)
        self._tell()

    def current(self) -> int | None:
        """Return the number of the row that the user is at."""
        index = self.view.currentIndex()
        return self.rows.number(index.row()) if index.isValid() else None

    def selected(self) -> tuple[int, ...]:
        """Return the numbers of the selected rows, in the order in which they are shown."""
        places = np.array(self.view.selected_places(), np.intp)
        return tuple(self.rows.shown[places].tolist())

    def visible(self) -> tuple[int, ...]:
        """Return the numbers of the rows whose tiles are on the screen, most of each at least."""
        return tuple(self.rows.number(place) for place in self.view.visible_places())

    def go_to(self, number: int) -> bool:
        """Make a row current, select it alone and scroll to it, without telling of it."""
        place = self.rows.place(number)
        if place is None:
            return False
        with self.view.following():
            index = self.rows.index(place, 0)
            self.view.setCurrentIndex(index)
            self.view.scrollTo(index)
        self._tell()
        return True

    def select(self, numbers: Iterable[int]) -> None:
        """Select rows, without telling of it."""
        chosen = QItemSelection()
        places = [place for place in map(self.rows.place, numbers) if place is not None]
        # A range for every place would take half a second for 5,000 of them.
        for first, last in _runs(places):
            chosen.select(self.rows.index(first, 0), self.rows.index(last, 0))
        model = self.view.selectionModel()
        if model is not None:
            with self.view.following():
                model.select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        self._tell()

    def shut_down(self) -> None:
        """Stop drawing thumbnails."""
        self.loader.close()

    def _set_up(self) -> None:
        for key, title in SORT_TITLES.items():
            self._sort.addItem(f"Sort: {title}", key)
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self._sort.setSizeAdjustPolicy(policy)
        self._sort.setMinimumContentsLength(9)
        self._sort.setToolTip("In which order the images are shown")
        self._sort.activated.connect(self._on_sort)
        self._show.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        # Room for the arrow beside the text.
        self._show.setStyleSheet("padding-right: 14px;")
        self._show.setToolTip("Which images are shown: by class, label or field")
        self._menu = QMenu(self._show)
        self._menu.aboutToShow.connect(self._offer_filters)
        self._show.setMenu(self._menu)
        self._text.setPlaceholderText("Find by name")
        self._text.setClearButtonEnabled(True)
        self._text.textChanged.connect(self._on_text)
        self._text.returnPressed.connect(self.view.setFocus)
        self._size.setRange(*_SIDES)
        self._size.setValue(SIDE)
        self._size.setMaximumWidth(90)
        self._size.setToolTip("Size of the thumbnails")
        self._size.valueChanged.connect(self._on_size)
        self._only.ended.connect(partial(self.show_only, None))
        self.loader.ready.connect(self.view.repaint_tiles)
        self.view.row_chosen.connect(self.row_chosen)
        self.view.row_activated.connect(self.row_activated)
        self.view.selected.connect(self._tell)
        self.view.menu_wanted.connect(self._show_menu)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self._sort, 1)
        top.addWidget(self._show)
        top.addWidget(self._text, 1)
        bottom = QHBoxLayout()
        self._count.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        bottom.addWidget(self._count, 1)
        bottom.addWidget(self._size)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self._only)
        column.addWidget(self.view, 1)
        column.addLayout(bottom)
        tab_downwards(self.tab_stops)

    @property
    def tab_stops(self) -> list[QWidget]:
        """What the Tab key goes through, as it is seen from the top."""
        return [self._sort, self._show, self._text, self._only.every, self.view, self._size]

    def _load_thumbnails(self) -> None:
        side = round(self._size.value() * self.devicePixelRatioF())
        self.loader.set_collection(self.rows.collection, side)
        self.view.repaint_tiles()

    def _offer_sorts(self) -> None:
        fields = () if self.rows.collection is None else self.rows.collection.field_names
        more = {f"score:{name}": name for name in self.rows.scores}
        more |= {f"field:{name}": name for name in fields}
        known = [self._sort.itemData(at) for at in range(len(SORT_TITLES), self._sort.count())]
        if known == list(more):
            return
        while self._sort.count() > len(SORT_TITLES):
            self._sort.removeItem(self._sort.count() - 1)
        for key, name in more.items():
            self._sort.addItem(f"Sort: {name}", key)
        if self.rows.sorted_by not in (*SORT_TITLES, *more):
            self.rows.sort_by("order")
        self._sort.setCurrentIndex(self._sort.findData(self.rows.sorted_by))

    def _on_sort(self) -> None:
        self.sort_by(self._sort.currentData())
        # The next key is meant for the tiles.
        self.view.setFocus()

    def _on_text(self, text: str) -> None:
        which = self.rows.filtered_by
        self.filter(_with(which, text=text.strip()))

    def _on_size(self, side: int) -> None:
        self.view.set_side(side)
        self._load_thumbnails()

    def _offer_filters(self) -> None:
        menu, which = self._menu, self.rows.filtered_by
        menu.clear()
        self._offer(menu, "All", GalleryFilter(text=which.text))
        menu.addSeparator()
        self._offer(menu, "Not labelled", _with(which, labelled=False))
        self._offer(menu, "Labelled", _with(which, labelled=True))
        self._offer(menu, "Unsure", _with(which, unsure=not which.unsure))
        if self.rows.unlike.any():
            self._offer(menu, "Unlike", _with(which, unlike=not which.unlike))
        menu.addSeparator()
        for name in self.rows.classes:
            self._offer(menu, shortened(name, 40), _with(which, class_name=name))
        self._offer_fields(menu, which)

    def _offer_fields(self, menu: QMenu, which: GalleryFilter) -> None:
        collection = self.rows.collection
        menu.addSeparator()
        for name in () if collection is None else collection.field_names:
            values = self.rows.field_values(name)
            if not 1 < len(values) <= _MOST_VALUES:
                continue
            below = QMenu(_plain(shortened(name, 40)), menu)
            menu.addMenu(below)
            for value in values:
                self._offer(below, shortened(value, 40), _with(which, field=(name, value)))

    def _offer(self, menu: QMenu, title: str, which: GalleryFilter) -> None:
        action = menu.addAction(_plain(title))
        if action is not None:
            action.setCheckable(True)
            action.setChecked(which == self.rows.filtered_by)
            action.triggered.connect(partial(self.filter, which))

    def _tell(self) -> None:
        rows = self.rows
        total = 0 if rows.collection is None else len(rows.collection)
        shown, selected = len(rows.shown), len(self.view.selected_places())
        noun = "image" if rows.collection is None else rows.collection.noun
        text = ("" if shown == total else f"{shown:,} of ") + counted(total, noun)
        self._count.setText(f"{text}, {selected:,} selected" if selected > 1 else text)
        self._show.setText(f"Show: {shortened(rows.filtered_by.words(), 16)}")
        self.view.set_hint(
            f"No {noun} passes the filter; choose Show: All above." if total and not shown else ""
        )
        self.changed.emit()

    def _show_menu(self, at: QPoint) -> None:
        current = self.current()
        if current is None or self.rows.collection is None:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Show in viewer", partial(self.row_activated.emit, current))
        folder = Path(self.rows.collection.rows[current].source).parent
        in_folder = menu.addAction("Show in folder", partial(_open_folder, folder))
        if in_folder is not None:
            in_folder.setEnabled(folder.is_absolute() and folder.is_dir())
        if self.can_label and self.rows.classes:
            below = QMenu("Label as", menu)
            menu.addMenu(below)
            selected = self.selected() or (current,)
            for name in self.rows.classes:
                below.addAction(
                    _plain(shortened(name, 40)), partial(self.class_chosen.emit, selected, name)
                )
        menu.popup(at)


def _with(which: GalleryFilter, **new: object) -> GalleryFilter:
    return GalleryFilter(**{**vars(which), **new})


def _plain(text: str) -> str:
    """Keep a menu from taking ``&`` for the mark of a key."""
    return text.replace("&", "&&")


def _open_folder(folder: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(os.fspath(folder)))


class _OnlyLine(QWidget):
    """Says that only some rows are shown, and ends that."""

    ended = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._label = plain_label()
        self._label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.every = QToolButton()
        self.every.setText("Show all")
        self.every.clicked.connect(self.ended)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._label, 1)
        row.addWidget(self.every)
        self.say("")

    def say(self, words: str) -> None:
        self._label.setText(words)
        self._label.setToolTip(plain_hint(words))
        self.setVisible(bool(words))


def _runs(places: list[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of places that follow one another, sorted."""
    found = np.unique(places)
    starts = np.flatnonzero(np.diff(found, prepend=-2) != 1)
    ends = np.append(starts[1:], len(found))[: len(starts)] - 1
    return list(zip(found[starts].tolist(), found[ends].tolist(), strict=True))
