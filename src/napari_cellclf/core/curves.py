"""Receiver operating characteristic and precision against recall, one class against the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve over all thresholds of the score, and the area under it.

    `x`, `y`: ndarray, shape (T,); false and true positive rate, or recall and precision.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    #: Under the ROC curve, or the average precision.
    area: float

    def thinned(self, most: int) -> Curve:
        """Return the curve with fewer points, the first and the last kept."""
        if len(self.x) <= most:
            return self
        kept = np.unique(np.linspace(0, len(self.x) - 1, most).round().astype(int))
        return Curve(self.x[kept], self.y[kept], self.area)


def roc_curve(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> Curve | None:
    """Compute the receiver operating characteristic.

    `positive`: ndarray of bool, shape (N,); which images are of the class. `score`: ndarray, shape
    (N,); the probability of the class that each was given.

    References
    ----------
    Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27, 2006.

    Examples
    --------
    >>> positive, score = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    >>> roc_curve(positive, score).area
    0.75
    """
    found, false = _cumulative(positive, score)
    if not (found[-1] and false[-1]):
        return None
    x, y = false / false[-1], found / found[-1]
    return Curve(x, y, float(np.trapezoid(y, x)))


def precision_recall_curve(
    positive: NDArray[np.bool_], score: NDArray[np.floating]
) -> Curve | None:
    """Compute precision against recall.

    `positive`: ndarray of bool, shape (N,); which images are of the class. `score`: ndarray, shape
    (N,); the probability of the class that each was given.

    References
    ----------
    Davis and Goadrich, The relationship between precision-recall and ROC curves, ICML 2006.

    Examples
    --------
    >>> positive, score = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    >>> round(precision_recall_curve(positive, score).area, 4)
    0.8333
    """
    found, false = _cumulative(positive, score)
    if not found[-1]:
        return None
    recall = found / found[-1]
    precision = np.concatenate([[1.0], found[1:] / (found[1:] + false[1:])])
    area = float(np.sum(np.diff(recall) * precision[1:]))
    # Lower thresholds find nothing more.
    end = int(np.searchsorted(recall, 1.0)) + 1
    return Curve(recall[:end], precision[:end], area)


def _cumulative(
    positive: NDArray[np.bool_], score: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count right and false finds at every different threshold, the highest first."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))
    hits = positive[order]
    found = np.cumsum(hits)[ends]
    false = np.cumsum(~hits)[ends]
    return np.concatenate([[0.0], found]), np.concatenate([[0.0], false])
