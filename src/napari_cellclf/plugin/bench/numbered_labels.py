"""The labels of a book as a collection's rows know them: by their numbers. No Qt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.agreement import Agreement, compare_labels
from napari_cellclf.core.collection import Collection
from napari_cellclf.core.counting import counted
from napari_cellclf.core.labelling import Label, LabelBook
from napari_cellclf.plugin.gallery.gallery_model import NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray


class NumberedLabels:
    """Looks labels up by the numbers of rows; the book may know of other rows as well."""

    def __init__(self, collection: Collection, book: LabelBook) -> None:
        self._collection = collection
        self._book = book

    def ids(self, numbers: Iterable[int]) -> list[str]:
        """Return what rows are called in the book."""
        return [self._collection.ids[number] for number in numbers]

    def numbers(self, ids: Iterable[str]) -> list[int]:
        """Return the numbers of the rows that the collection has."""
        found = map(self._collection.row_of, ids)
        return [number for number in found if number is not None]

    def class_of(self, number: int) -> str:
        """Return the class that a row was given; empty without one."""
        label = self._book.label_of(self._collection.ids[number])
        return "" if label is None else label.class_name

    def class_numbers(self) -> NDArray[np.int64]:
        """Return the number of the class that each row was given, shape (N,); `NONE` without."""
        given = np.full(len(self._collection), NONE, np.int64)
        for number, which in self.numbered().items():
            given[number] = which
        return given

    def unsure(self) -> NDArray[np.bool_]:
        """Return which rows are marked as unsure, shape (N,)."""
        return np.array([self._book.is_unsure(row) for row in self._collection.ids], bool)

    def numbered(self) -> dict[int, int]:
        """Return the class number of each labelled row by its number."""
        classes = {name: at for at, name in enumerate(self._book.classes)}
        return {row: classes[label.class_name] for row, label in self._labels()}

    def random(self) -> list[int]:
        """Return the labelled rows that were offered since they were drawn at random."""
        drawn = [row for row, label in self._book.items() if label.drawn == "random"]
        return self.numbers(drawn)

    def known(self) -> dict[str, Label]:
        """Return the label of each labelled row of the collection by its id."""
        return {self._collection.ids[row]: label for row, label in self._labels()}

    def compared(self, theirs: Mapping[str, Label]) -> Agreement:
        """Compare with another person's labels of the same rows."""
        ids = self._collection.ids
        here = {ids[number]: "" for number in self.numbers(theirs)}
        return compare_labels(
            {row: label.class_name for row, label in self.known().items()},
            {row: theirs[row].class_name for row in here},
        )

    def fields(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return what is known of rows by their ids."""
        rows = self._collection.rows
        return {rows[number].id: rows[number].fields for number in self.numbers(ids)}

    def mask_of(self, row: str) -> str | None:
        """Return the mask that a row's object is of."""
        number = self._collection.row_of(row)
        return None if number is None else self._collection.rows[number].mask

    def summary(self) -> str:
        """Say how many labels there are already, whose, and which are of no row; empty if none."""
        ids, own = self._book.labels, self._book.who
        if not ids:
            return self._book.remark()
        said = [f"{counted(len(ids), 'label is', 'labels are')} in it already."]
        others = Counter(label.who for label in ids.values() if label.who not in ("", own))
        if others:
            named = ", ".join(f"{who} ({count:,})" for who, count in others.most_common(3))
            said.append(f"Some are by others: {named}.")
        said += [self.without_row(ids), self._book.remark()]
        return " ".join(filter(None, said))

    def without_row(self, ids: Iterable[str]) -> str:
        """Say how many labels are of images that are not open, and what to do; empty if none."""
        lost = [row for row in ids if self._collection.row_of(row) is None]
        if not lost:
            return ""
        first = re.split(r"[\\/]", lost[0])[-1]
        these = counted(len(lost), "label is of a row that is", "labels are of rows that are")
        return (
            f"{these} not open here, such as {first}, and not shown: open those images too, or "
            "check that the file names their images rightly."
        )

    def _labels(self) -> list[tuple[int, Label]]:
        found = ((self._collection.row_of(row), label) for row, label in self._book.items())
        return [(number, label) for number, label in found if number is not None]
