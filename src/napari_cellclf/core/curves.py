"""Curves over all thresholds: ROC, precision against recall, and accuracy against coverage."""

from __future__ import annotations

from collections.abc import Callable
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
        kept = thin(len(self.x), most)
        return Curve(self.x[kept], self.y[kept], self.area)


#: From which images are of a class, and the probability of it that each was given.
MakeCurve = Callable[["NDArray[np.bool_]", "NDArray[np.floating]"], Curve | None]


def thin(length: int, most: int) -> NDArray[np.int64]:
    """Choose up to `most` of `length` points, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(most, length)).round().astype(np.int64))


def roc_curve(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> Curve | None:
    """Compute the receiver operating characteristic; None without both kinds of images.

    Examples
    --------
    >>> positive, score = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    >>> roc_curve(positive, score).area
    0.75
    """
    # Takes a second, and only a report needs it.
    from sklearn import metrics

    if positive.all() or not positive.any():
        return None
    x, y, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
    return Curve(x, y, float(metrics.auc(x, y)))


def precision_recall_curve(
    positive: NDArray[np.bool_], score: NDArray[np.floating]
) -> Curve | None:
    """Compute precision against recall; None without an image of the class.

    Examples
    --------
    >>> positive, score = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    >>> round(precision_recall_curve(positive, score).area, 4)
    0.8333
    """
    from sklearn import metrics

    if not positive.any():
        return None
    precision, recall, _ = metrics.precision_recall_curve(positive, score)
    # From the highest threshold on, and not below the one that finds everything.
    x, y = recall[::-1], precision[::-1]
    end = int(np.searchsorted(x, 1.0)) + 1
    return Curve(x[:end], y[:end], float(metrics.average_precision_score(positive, score)))
