"""The named figures of an evaluation, of all images or of images drawn anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.calibration import weighted_reliability
from napari_cellclf.core.metrics import class_scores, truth_ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.ordered import Scale

#: Intervals of single classes are computed for up to so many classes.
MOST_CLASSES = 100
PER_CLASS = ("precision", "recall", "f1")


class Figures:
    """Compute the figures of answers, each image counting as often as asked.

    `probabilities`: ndarray, shape (N, K); A classifier's answers. `truth`: ndarray of int, shape
    (N,); the right class numbers.

    Examples
    --------
    >>> figures = Figures(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    >>> figures(np.array([1.0, 1.0]))["accuracy"], figures(np.array([2.0, 0.0]))["accuracy"]
    (0.5, 1.0)
    """

    def __init__(
        self,
        probabilities: NDArray[np.floating],
        truth: NDArray[np.integer],
        *,
        top_k: Iterable[int] = (),
        scale: Scale | None = None,
        threshold: float | None = None,
    ) -> None:
        self._truth, self._n_classes = truth, probabilities.shape[1]
        self._answers = probabilities.argmax(axis=1)
        self._confidence = probabilities.max(axis=1).astype(np.float64)
        ranks = truth_ranks(truth, probabilities)
        # What is the mean of a number of each image: prepared once, not for every replicate.
        self._columns: dict[str, NDArray[Any]] = {"accuracy": ranks < 1}
        self._columns |= {f"top_{k}": ranks < k for k in top_k}
        if scale is not None:
            self._columns["mean_absolute_error"] = scale.errors(truth, self._answers)
            self._columns["within_one_class"] = scale.steps(truth, self._answers) <= 1
        self._sure = None if threshold is None else self._confidence >= threshold

    def __call__(self, weights: NDArray[np.float64]) -> dict[str, float]:
        """Return every figure.

        `weights`: ndarray, shape (N,); how often each image counts; at least one more than never.
        """
        total = weights.sum()
        # Not a product of vectors: for that, BLAS starts threads that wait for each other.
        figures = {
            name: float((weights * one).sum() / total) for name, one in self._columns.items()
        }
        scores = class_scores(self._truth, self._answers, self._n_classes, weights)
        figures["balanced_accuracy"] = scores.macro_recall
        figures["macro_precision"] = scores.macro_precision
        figures["macro_recall"] = scores.macro_recall
        figures["macro_f1"] = scores.macro_f1
        bins = weighted_reliability(self._confidence, self._columns["accuracy"], weights)
        figures["expected_calibration_error"] = bins.expected_calibration_error
        if self._sure is not None:
            figures |= self._selective(weights, self._sure)
        if self._n_classes <= MOST_CLASSES:
            for name in PER_CLASS:
                values = getattr(scores, name)
                figures |= {f"{name}/{number}": float(v) for number, v in enumerate(values)}
        return figures

    def _selective(self, weights: NDArray[np.float64], sure: NDArray[np.bool_]) -> dict[str, float]:
        kept = weights * sure
        right = float((kept * self._columns["accuracy"]).sum())
        return {
            "coverage": float(kept.sum() / weights.sum()),
            "sure_accuracy": right / float(kept.sum()) if kept.any() else float("nan"),
        }
