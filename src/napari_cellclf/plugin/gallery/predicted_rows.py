"""What was predicted of many rows, sorted, filtered and counted: no napari, no Qt.

Sorting and filtering are NumPy's: a `QSortFilterProxyModel` asks Python for every comparison,
which stops the window for seconds at 100,000 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.predictions import is_unlike

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_cellclf.core.collection import Collection
    from napari_cellclf.core.predictions import Predictions

#: Instead of the number of a class: there is none.
NONE = -1


class SortBy(Enum):
    """By what rows are sorted."""

    ROW = "row"
    PREDICTED = "predicted"
    CONFIDENCE = "confidence"
    KNOWN = "known"
    UNLIKE = "unlike"
    #: By how many classes a row may be of.
    SET = "set"
    #: Wrong ones first, the most confident of them at the top.
    MISTAKES = "mistakes"


@dataclass(frozen=True)
class RowFilter:
    """Which rows are shown; what is None or False asks for nothing."""

    predicted: int | None = None
    known: int | None = None
    unsure: bool = False
    #: Neither unsure nor unlike anything in training.
    sure: bool = False
    unlike: bool = False
    #: Not unlike anything in training.
    like: bool = False
    wrong: bool = False
    group: str | None = None
    text: str = ""


@dataclass(eq=False)
class PredictedRows:
    """Predictions of rows, beside what is known of them."""

    #: The classes of the model, and behind them those that only known labels have.
    classes: tuple[str, ...]
    ids: Sequence[str]
    #: Of each row the number of its class; `NONE` for one that was not classified.
    predicted: NDArray[np.int64]
    #: 0 to 1.
    confidence: NDArray[np.float32]
    #: All False where the model has no threshold.
    unsure: NDArray[np.bool_]
    #: Of each row the number of its known class; `NONE` where it has no label.
    known: NDArray[np.int64]
    #: How unlike each row is to those of training, with 1 as the limit; None where the model cannot
    #: say.
    unlike_scores: NDArray[np.float32] | None = None
    #: Of each row what checks of its pixels found; empty where that is not known.
    remarks: Sequence[Sequence[str]] = ()
    #: Of each row the classes that it may be of; None where the model cannot say.
    sets: Sequence[Sequence[str]] | None = None
    #: Of each row what it is grouped by, such as its plate; None where it is not grouped.
    groups: NDArray[np.str_] | None = None
    #: What a row is, in the heading of the table.
    title: str = "Image"
    #: How a row is called, and what else is to be said about it, by its number.
    name: Callable[[int], str] = field(default=str)
    hint: Callable[[int], str] = field(default=str)
    _lowered: list[str] | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def has_known(self) -> bool:
        """Whether any row has a label."""
        return bool((self.known >= 0).any())

    @property
    def unlike(self) -> NDArray[np.bool_]:
        """Which rows are unlike anything in training."""
        if self.unlike_scores is None:
            return np.zeros(len(self), bool)
        return np.asarray((self.predicted >= 0) & ~(self.unlike_scores <= 1))

    def marks(self, number: int) -> str:
        """Say behind the class of a row whether it is unsure or unlike."""
        scores = self.unlike_scores
        unlike = scores is not None and is_unlike(float(scores[number]))
        return (", unsure" if self.unsure[number] else "") + (", unlike" if unlike else "")

    def doubts(self, number: int) -> list[str]:
        """Say in lines what else is against a prediction: its score, and remarks."""
        lines = list(self.remarks[number]) if len(self.remarks) else []
        if self.unlike_scores is None or self.predicted[number] < 0:
            return lines
        return [f"unlike score: {self.unlike_scores[number]:.2f} (1 is the limit)", *lines]

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which rows have a label and a prediction."""
        return np.asarray((self.known >= 0) & (self.predicted >= 0))

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which rows are predicted to be of another class than they are."""
        return np.asarray(self.judged & (self.known != self.predicted))

    def shown(
        self,
        which: RowFilter = RowFilter(),
        by: SortBy = SortBy.ROW,
        *,
        descending: bool = False,
    ) -> NDArray[np.intp]:
        """Return the numbers of the rows that pass a filter, sorted; equal ones stay in order."""
        rows = np.flatnonzero(self._passes(which))
        if by is SortBy.ROW:
            return rows[::-1] if descending else rows
        key = self._key(by)[rows]
        return rows[np.argsort(-key if descending else key, kind="stable")]

    def counts(self) -> tuple[NDArray[np.int64], int, int, int]:
        """Count rows by class; apart unsure, unlike and not classified ones, each row once."""
        unlike = self.unlike
        unsure = self.unsure & ~unlike
        sure = self.predicted[(self.predicted >= 0) & ~unsure & ~unlike]
        by_class = np.bincount(sure, minlength=len(self.classes))
        return by_class, int(unsure.sum()), int(unlike.sum()), int((self.predicted < 0).sum())

    def counts_by_group(self) -> list[tuple[str, NDArray[np.int64], int, int]]:
        """Count rows of each group by class; the last numbers are of unsure and unlike ones."""
        if self.groups is None:
            return []
        names, which = np.unique(self.groups, return_inverse=True)
        width = len(self.classes) + 2
        column = np.where(self.unsure, width - 2, self.predicted)
        column = np.where(self.unlike, width - 1, column)
        judged = self.predicted >= 0
        flat = np.bincount((which * width + column)[judged], minlength=len(names) * width)
        table = flat.reshape(len(names), width)
        return [
            (str(name), row[:-2], int(row[-2]), int(row[-1]))
            for name, row in zip(names, table, strict=True)
        ]

    def confusion(self) -> NDArray[np.int64]:
        """Count rows by known class (rows) and predicted class (columns)."""
        n = len(self.classes)
        flat = np.bincount((self.known * n + self.predicted)[self.judged], minlength=n * n)
        return flat.reshape(n, n)

    def beside(self, labels: Sequence[str], classes: Sequence[str]) -> PredictedRows:
        """Return the same predictions beside other labels.

        `labels`: of each row; empty without one. `classes`: the model's, and before those that only
        labels name, further ones.
        """
        names = tuple(dict.fromkeys([*classes, *filter(None, labels)]))
        places = {name: number for number, name in enumerate(names)}
        known = np.array([places.get(label, NONE) for label in labels], np.int64)
        return replace(self, classes=names, known=known)

    def words(self, which: RowFilter) -> str:
        """Say in a few words which rows a filter shows."""
        if which.known is not None and which.predicted is not None:
            return f"{self.classes[which.known]} predicted as {self.classes[which.predicted]}"
        said = [
            which.group or "",
            "not classified" if which.predicted == NONE else "",
            "" if which.predicted in (None, NONE) else self.classes[which.predicted],
            "unsure" if which.unsure else "",
            "unlike" if which.unlike else "",
            "mistakes" if which.wrong else "",
        ]
        return ", ".join(filter(None, said))

    def summary(self) -> str:
        """Say in a sentence or two what was predicted."""
        predicted, unsure, unlike, failed = self.counts()
        n, noun = int(predicted.sum()) + unsure + unlike, self.title.lower()
        said = [
            f"{counted(n, noun)} predicted",
            f"{unsure:,} unsure" if unsure else "",
            f"{unlike:,} unlike anything in training" if unlike else "",
            f"{failed:,} not classified" if failed else "",
        ]
        text = ", ".join(filter(None, said))
        judged = int(self.judged.sum())
        if not judged:
            return f"{text}."
        right = judged - int(self.wrong.sum())
        share = f"{right / judged:.1%}".replace("%", " %")
        return (
            f"{text}. Of {judged:,} labelled, {right:,} are predicted right ({share}; too good if "
            "the model learnt from them)."
        )

    def _passes(self, which: RowFilter) -> NDArray[np.bool_]:
        there = np.ones(len(self), bool)
        if which.predicted is not None:
            there &= self.predicted == which.predicted
        if which.known is not None:
            there &= self.known == which.known
        if which.unsure:
            there &= self.unsure
        if which.sure:
            there &= ~self.unsure & ~self.unlike
        if which.unlike:
            there &= self.unlike
        if which.like:
            there &= ~self.unlike
        if which.wrong:
            there &= self.wrong
        if which.group is not None and self.groups is not None:
            there &= self.groups == which.group
        if which.text:
            there &= self._contains(which.text.lower())
        return there

    def _contains(self, text: str) -> NDArray[np.bool_]:
        if self._lowered is None:
            self._lowered = [one.lower() for one in self.ids]
        return np.fromiter((text in one for one in self._lowered), bool, len(self))

    def _key(self, by: SortBy) -> NDArray[np.float64]:
        if by is SortBy.PREDICTED:
            return self.predicted.astype(np.float64)
        if by is SortBy.KNOWN:
            return self.known.astype(np.float64)
        if by is SortBy.UNLIKE and self.unlike_scores is not None:
            return np.nan_to_num(self.unlike_scores.astype(np.float64), nan=-1.0)
        if by is SortBy.SET and self.sets is not None:
            return np.fromiter(map(len, self.sets), np.float64, len(self))
        confidence = self.confidence.astype(np.float64)
        if by is SortBy.MISTAKES:
            return np.where(self.wrong, -1 - confidence, confidence)
        return confidence


def rows_of(
    collection: Collection, predictions: Predictions, unsure: ArrayLike | None = None
) -> tuple[PredictedRows, NDArray[np.float32]]:
    """Bring predictions into the order of a collection's rows, by their ids.

    `unsure`: which predictions are. Returns also the probabilities, shape (N, K), of NaN for rows
    that were not classified.
    """
    n = len(collection)
    found = map(collection.row_of, predictions.ids)
    numbers = np.array([NONE if at is None else at for at in found], np.intp)
    there = numbers >= 0
    probabilities = np.full((n, len(predictions.classes)), np.nan, np.float32)
    probabilities[numbers[there]] = predictions.probabilities[there]
    not_sure = np.zeros(n, bool)
    if unsure is not None:
        not_sure[numbers[there]] = np.asarray(unsure, bool)[there]
    scores = None
    if predictions.unlike_scores is not None:
        scores = np.full(n, np.nan, np.float32)
        scores[numbers[there]] = predictions.unlike_scores[there]
    remarks: list[tuple[str, ...]] = [()] * n
    for number, said in zip(numbers.tolist(), predictions.remarks, strict=True):
        if said and number >= 0:
            remarks[number] = said
    sets: list[tuple[str, ...]] = [()] * n
    for number, held in zip(numbers.tolist(), predictions.sets or (), strict=False):
        if number >= 0:
            sets[number] = held
    judged = np.asarray(~np.isnan(probabilities).any(axis=1))
    best = np.where(judged[:, None], probabilities, 0)
    rows = PredictedRows(
        predictions.classes,
        collection.ids,
        np.where(judged, best.argmax(axis=1), NONE),
        np.asarray(best.max(axis=1, initial=0)),
        not_sure,
        np.full(n, NONE),
        unlike_scores=scores,
        remarks=remarks,
        sets=None if predictions.sets is None else sets,
        title="Object" if collection.has_objects else "Image",
    )
    return rows, probabilities
