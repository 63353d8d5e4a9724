"""The rows that a gallery shows: sorted, filtered, and what each tile says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractListModel, QMimeData, QModelIndex, QObject, Qt

from napari_cellclf.core.class_colours import class_colours
from napari_cellclf.core.classes import natural_key
from napari_cellclf.core.collection import Collection

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Of rows that are dragged: their numbers, separated by spaces.
ROWS_MIME = "application/x-napari-cellclf-rows"
NONE = -1
_NOWHERE = QModelIndex()
_Role = Qt.ItemDataRole

#: Ways to sort, beside fields (``field:plate``) and scores (``score:unlike``).
SORT_TITLES: Mapping[str, str] = {
    "order": "suggested order",
    "class": "class",
    "least sure": "least sure",
    "most sure": "most sure",
    "name": "name",
}


@dataclass(frozen=True)
class GalleryFilter:
    """Which rows are shown; what is None, False or empty asks for nothing."""

    #: Given, or suggested where none is given.
    class_name: str | None = None
    labelled: bool | None = None
    unsure: bool = False
    unlike: bool = False
    #: A field and its value as text.
    field: tuple[str, str] | None = None
    #: To be found in the name of a row.
    text: str = ""

    def words(self) -> str:
        """Say in a few words what is shown."""
        said = [
            {True: "labelled", False: "not labelled", None: ""}[self.labelled],
            "unsure" if self.unsure else "",
            "unlike" if self.unlike else "",
            self.class_name or "",
            "{} {}".format(*self.field) if self.field else "",
        ]
        return ", ".join(filter(None, said)) or "all"


#: The score of how much speaks against a row's label.
DOUBTS = "likely wrong labels"


@dataclass(frozen=True)
class Tile:
    """What is drawn around a thumbnail."""

    #: Its class; empty without one.
    name: str
    #: How confident the suggestion is, such as ``"93 %"``; of a label, what another person says.
    sure: str
    #: Of the class; empty without one.
    colour: str
    #: Whether the class is a suggestion.
    suggested: bool
    unsure: bool
    #: Of another class than the given one, where that is predicted; empty otherwise.
    contradicted: str = ""
    #: Whether it is unlike anything in training.
    unlike: bool = False


class GalleryModel(QAbstractListModel):
    """Rows of a collection in the order in which they are shown, told by their numbers."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.collection: Collection | None = None
        self.classes: tuple[str, ...] = ()
        self._sort, self._filter = "order", GalleryFilter()
        self._only: NDArray[np.bool_] | None = None
        #: Number of the class that each row was given, and of the one that is predicted.
        self.given: NDArray[np.int64]
        self.suggested: NDArray[np.int64]
        self.confidence: NDArray[np.floating]
        self.unsure_predicted: NDArray[np.bool_]
        self.unlike: NDArray[np.bool_]
        self._given_last: NDArray[np.int64]
        self._rank: NDArray[np.int64]
        self._shown: NDArray[np.intp]
        self._places: NDArray[np.intp]
        self._forget()

    def set_collection(self, collection: Collection | None) -> None:
        """Show other rows, of which nothing is known yet."""
        self.beginResetModel()
        self.collection = collection
        self._only = None
        self._forget()
        self._arrange()
        self.endResetModel()

    def set_classes(self, classes: Sequence[str]) -> None:
        """Name the classes that numbers stand for."""
        self.classes = tuple(classes)

    def set_labels(self, given: NDArray[np.int64]) -> None:
        """Set the number of the class that each row was given; `NONE` without a label."""
        new = (given != self.given) & (given != NONE)
        self._given_last[new] = self._given_last.max(initial=0) + 1
        self.given = given

    def set_predictions(
        self,
        probabilities: NDArray[np.floating] | None,
        unsure: NDArray[np.bool_] | None = None,
        unlike: NDArray[np.bool_] | None = None,
    ) -> None:
        """Set what is predicted or suggested, shape (N, K), and what of it is unsure or unlike.

        Rows of NaN have no prediction.
        """
        if probabilities is None or not probabilities.shape[1]:
            self.suggested = np.full(self._n, NONE, np.int64)
            self.confidence = np.full(self._n, np.nan)
        else:
            known = ~np.isnan(probabilities).any(axis=1)
            best = np.where(known[:, None], probabilities, 0).argmax(axis=1)
            self.suggested = np.where(known, best, NONE)
            self.confidence = np.where(known, probabilities.max(axis=1), np.nan)
        self.unsure_predicted = np.zeros(self._n, bool) if unsure is None else unsure
        self.unlike = np.zeros(self._n, bool) if unlike is None else unlike

    def set_order(self, order: Sequence[int] | NDArray[np.integer] | None) -> None:
        """Set which rows come first in the suggested order; the others follow as they are."""
        self._rank = self._n + np.arange(self._n)
        if order is not None:
            self._rank[np.asarray(order, np.intp)] = np.arange(len(order))

    def set_scores(self, scores: Mapping[str, NDArray[np.floating]]) -> None:
        """Set named numbers of each row, such as how unlike it is; the highest are shown first."""
        self.scores = dict(scores)

    def show_only(self, rows: Iterable[int] | None) -> None:
        """Show only some rows, whatever else is filtered; None for all."""
        self._only = None
        if rows is not None:
            self._only = np.zeros(self._n, bool)
            self._only[list(rows)] = True
        self.refresh()

    def sort_by(self, how: str) -> None:
        """Sort by a key of `SORT_TITLES`, a field or a score."""
        self._sort = how
        self.refresh()

    def filter(self, which: GalleryFilter) -> None:
        """Show the rows that pass a filter."""
        self._filter = which
        self.refresh()

    @property
    def sorted_by(self) -> str:
        """How the rows are sorted."""
        return self._sort

    @property
    def filtered_by(self) -> GalleryFilter:
        """Which rows are shown."""
        return self._filter

    @property
    def is_restricted(self) -> bool:
        """Whether only some rows are shown, see `show_only`."""
        return self._only is not None

    def refresh(self) -> None:
        """Sort and filter again after something was set; what is selected stays so."""
        before = self._shown
        shown = self._arranged()
        if np.array_equal(before, shown):
            return
        self.layoutAboutToBeChanged.emit()
        indexes = self.persistentIndexList()
        numbers = [int(before[index.row()]) for index in indexes]
        self._shown = shown
        self._note_places()
        after = []
        for number in numbers:
            place = self.place(number)
            after.append(QModelIndex() if place is None else self.index(place, 0))
        self.changePersistentIndexList(indexes, after)
        self.layoutChanged.emit()

    @property
    def shown(self) -> NDArray[np.intp]:
        """The numbers of the rows that are shown, in order."""
        return self._shown

    def number(self, place: int) -> int:
        """Return the number of the row at a place."""
        return int(self._shown[place])

    def place(self, number: int) -> int | None:
        """Return where a row is shown; None where it is filtered out."""
        found = int(self._places[number]) if 0 <= number < self._n else NONE
        return None if found == NONE else found

    def class_of(self, number: int) -> str:
        """Return the class that a tile shows: the given one, else the suggested; or nothing."""
        which = int(self._class_numbers([number])[0])
        return self.classes[which] if 0 <= which < len(self.classes) else ""

    def suggestion(self, number: int) -> str:
        """Return the class that is suggested for a row; empty without one."""
        which = int(self.suggested[number])
        return self.classes[which] if 0 <= which < len(self.classes) else ""

    def tile(self, number: int) -> Tile:
        """Return what is drawn around a thumbnail."""
        given, suggested = int(self.given[number]), int(self.suggested[number])
        unsure = bool(self.unsure_marked[number])
        colours = class_colours(len(self.classes))
        if 0 <= given < len(self.classes):
            other = suggested not in (NONE, given) and self.confidence[number] >= 0.5
            return Tile(
                self.classes[given],
                f"| {self.others[number]}" if number in self.others else "",
                colours[given],
                suggested=False,
                unsure=unsure,
                contradicted=colours[suggested] if other else "",
                unlike=bool(self.unlike[number]),
            )
        if not 0 <= suggested < len(self.classes):
            return Tile("", "", "", suggested=False, unsure=unsure)
        sure = f"{self.confidence[number]:.0%}".replace("%", " %")
        unsure |= bool(self.unsure_predicted[number])
        return Tile(
            self.classes[suggested],
            sure,
            colours[suggested],
            suggested=True,
            unsure=unsure,
            unlike=bool(self.unlike[number]),
        )

    def name(self, number: int) -> str:
        """Return what a row is called."""
        if self.collection is None:
            return ""
        row = self.collection.rows[number]
        return Path(row.source).name + row.id.removeprefix(row.source)

    def hint(self, number: int) -> str:
        """Return all that is known of a row, a line each."""
        if self.collection is None:
            return ""
        tile = self.tile(number)
        said = "suggested: " if tile.suggested else ""
        fields = self.collection.rows[number].fields
        lines = [self.name(number), f"{said}{tile.name} {tile.sure}".strip()]
        return "\n".join(
            filter(None, [*lines, *(f"{name}: {value}" for name, value in fields.items())])
        )

    def field_values(self, name: str) -> list[str]:
        """Return the different values of a field as text, in their natural order."""
        return sorted(set(self._field(name)), key=natural_key)

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return how many rows are shown."""
        return 0 if parent.isValid() else len(self._shown)

    def data(self, index: QModelIndex, role: int = _Role.DisplayRole) -> Any:
        """Return the name of a row, or all that is known of it."""
        if not index.isValid():
            return None
        if role == _Role.DisplayRole:
            return self.name(self.number(index.row()))
        return self.hint(self.number(index.row())) if role == _Role.ToolTipRole else None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Rows are selected and dragged."""
        return super().flags(index) | Qt.ItemFlag.ItemIsDragEnabled

    def mimeTypes(self) -> list[str]:
        """Return as what rows are dragged."""
        return [ROWS_MIME]

    def mimeData(self, indexes: Iterable[QModelIndex]) -> QMimeData:
        """Carry the numbers of the rows that are dragged."""
        carried = QMimeData()
        numbers = [str(self.number(index.row())) for index in indexes]
        carried.setData(ROWS_MIME, " ".join(numbers).encode())
        return carried

    @property
    def _n(self) -> int:
        return 0 if self.collection is None else len(self.collection)

    def _forget(self) -> None:
        self.given = np.full(self._n, NONE, np.int64)
        #: Marked by the user; drawn, and behind the others in the suggested order.
        self.unsure_marked = np.zeros(self._n, bool)
        #: Behind the others in the suggested order, by choice.
        self.postponed = np.zeros(self._n, np.int64)
        self._given_last = np.zeros(self._n, np.int64)
        self.set_predictions(None)
        self.set_order(None)
        self.set_scores({})
        #: What another person says a row is, by number.
        self.others: dict[int, str] = {}
        self._fields: dict[str, list[str]] = {}
        self._lowered: list[str] | None = None
        self._shown = np.zeros(0, np.intp)
        self._places = np.full(self._n, NONE, np.intp)

    def _arrange(self) -> None:
        self._shown = self._arranged()
        self._note_places()

    def _note_places(self) -> None:
        self._places = np.full(self._n, NONE, np.intp)
        self._places[self._shown] = np.arange(len(self._shown))

    def _arranged(self) -> NDArray[np.intp]:
        rows = np.flatnonzero(self._passes())
        keys = [key[rows] for key in self._keys()]
        # The last key is the first to decide; the number of the row decides at the end.
        return rows[np.lexsort([rows, *keys])] if len(rows) else rows

    def _keys(self) -> list[NDArray[Any]]:
        kind, _, name = self._sort.partition(":")
        by: Mapping[str, Callable[[], list[NDArray[Any]]]] = {
            "order": self._suggested_order,
            "class": lambda: [-np.nan_to_num(self.confidence), self.given == NONE, self._class()],
            "least sure": lambda: [self.confidence],
            "most sure": lambda: [-self.confidence],
            "name": lambda: [_ranks(self._names())],
            "field": lambda: [_ranks(self._field(name))],
            "score": lambda: [-self.scores[name]] if name in self.scores else [],
        }
        return by[kind]()

    def _suggested_order(self) -> list[NDArray[Any]]:
        labelled = self.given != NONE
        # Labelled rows are last, those labelled just now before the others.
        within = np.where(labelled, -self._given_last, self._rank)
        return [within, np.where(labelled, 0, self.postponed), self.unsure_marked, labelled]

    def _class(self) -> NDArray[np.int64]:
        shown = self._class_numbers(slice(None))
        return np.where(shown == NONE, len(self.classes), shown)

    def _class_numbers(self, rows: Any) -> NDArray[np.int64]:
        given, suggested = self.given[rows], self.suggested[rows]
        return np.asarray(np.where(given == NONE, suggested, given), np.int64)

    def _passes(self) -> NDArray[np.bool_]:
        which = self._filter
        there = np.ones(self._n, bool) if self._only is None else self._only.copy()
        if which.labelled is not None:
            there &= (self.given != NONE) == which.labelled
        if which.unsure:
            there &= self.unsure_marked | (self.unsure_predicted & (self.given == NONE))
        if which.unlike:
            there &= self.unlike
        if which.class_name is not None and which.class_name in self.classes:
            there &= self._class() == self.classes.index(which.class_name)
        if which.field is not None:
            name, value = which.field
            there &= np.fromiter((one == value for one in self._field(name)), bool, self._n)
        if which.text:
            there &= self._contains(which.text.lower())
        return there

    def _contains(self, text: str) -> NDArray[np.bool_]:
        if self._lowered is None:
            self._lowered = [name.lower() for name in self._names()]
        return np.fromiter((text in name for name in self._lowered), bool, self._n)

    def _names(self) -> list[str]:
        return [] if self.collection is None else list(self.collection.ids)

    def _field(self, name: str) -> list[str]:
        if name not in self._fields:
            rows = () if self.collection is None else self.collection.rows
            self._fields[name] = [str(row.fields.get(name, "")) for row in rows]
        return self._fields[name]


def _ranks(texts: list[str]) -> NDArray[np.int64]:
    """Return the place of each text in the natural order; equal ones have the same."""
    places = {text: at for at, text in enumerate(sorted(set(texts), key=natural_key))}
    return np.fromiter((places[text] for text in texts), np.int64, len(texts))
