"""How good answers are: plain counts on class numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ClassScores:
    """How well each class is told from the others.

    References
    ----------
    van Rijsbergen, Information Retrieval, 2nd edition, 1979, chapter 7.
    """

    #: Of the images that were answered to be of the class, the part that is. 0 for a class that
    #: was never answered though it is there; NaN for one that is neither.
    precision: NDArray[np.float64]
    #: Of the images of the class, the part that was found; NaN for a class without images.
    recall: NDArray[np.float64]
    #: Harmonic mean of both; NaN for a class without images.
    f1: NDArray[np.float64]
    #: How many images are of the class.
    support: NDArray[np.float64]
    #: How many images were answered to be.
    answered: NDArray[np.float64]

    @property
    def macro_precision(self) -> float:
        """Mean over the classes that have images."""
        return float(self.precision[self.support > 0].mean())

    @property
    def macro_recall(self) -> float:
        """Mean over the classes that have images: the balanced accuracy."""
        return float(self.recall[self.support > 0].mean())

    @property
    def macro_f1(self) -> float:
        """Mean over the classes that have images."""
        return float(self.f1[self.support > 0].mean())


def accuracy(truth: NDArray[np.integer], answers: NDArray[np.integer]) -> float:
    """Return the part of the images that were classified right.

    `truth`, `answers`: ndarray of int, shape (N,); class numbers. Returns 0 to 1.

    Examples
    --------
    >>> accuracy(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]))
    0.75
    """
    _check_pairs(truth, answers)
    return float(np.mean(truth == answers))


def balanced_accuracy(truth: NDArray[np.integer], answers: NDArray[np.integer]) -> float:
    """Return the mean over classes of the part of each class that was classified right.

    A class of few images counts as much as one of many, so that always answering the most
    frequent class does not look good.

    `truth`, `answers`: ndarray of int, shape (N,); class numbers. Classes without an image do not
    count. Returns 0 to 1.

    References
    ----------
    Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 1, 1, 1]), np.array([1, 1, 1, 1]))
    0.5
    """
    _check_pairs(truth, answers)
    recalls = [float(np.mean(answers[truth == c] == c)) for c in np.unique(truth)]
    return float(np.mean(recalls))


def confusion_matrix(
    truth: NDArray[np.integer], answers: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Count for each true class what was answered.

    `truth`, `answers`: ndarray of int, shape (N,); class numbers, 0 to `n_classes` - 1. Returns A
    row for each true class, a column for each answer.

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    _check_pairs(truth, answers)
    _check_classes(truth, n_classes)
    _check_classes(answers, n_classes)
    flat = np.bincount(truth * n_classes + answers, minlength=n_classes**2)
    return np.asarray(flat.reshape(n_classes, n_classes), np.int64)


def class_scores(
    truth: NDArray[np.integer],
    answers: NDArray[np.integer],
    n_classes: int,
    weights: NDArray[np.floating] | None = None,
) -> ClassScores:
    """Compute precision, recall and F1 of every class.

    `truth`, `answers`: ndarray of int, shape (N,); class numbers, 0 to `n_classes` - 1. `weights`:
    ndarray, shape (N,), optional; how often each image counts; once if left out.

    Examples
    --------
    >>> scores = class_scores(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    >>> scores.recall.tolist(), scores.precision.tolist()
    ([0.5, 1.0], [1.0, 0.5])
    """
    _check_pairs(truth, answers)
    weights = np.ones(len(truth)) if weights is None else weights
    support, answered, found = (
        np.asarray(np.bincount(numbers, times, minlength=n_classes), np.float64)
        for numbers, times in (
            (truth, weights),
            (answers, weights),
            (truth, weights * (truth == answers)),
        )
    )
    there = support > 0
    precision = _ratio(found, answered, otherwise=np.where(there, 0.0, np.nan))
    recall = _ratio(found, support, otherwise=np.full(n_classes, np.nan))
    f1 = np.where(there, 2 * found / np.maximum(support + answered, 1e-12), np.nan)
    return ClassScores(precision, recall, f1, support, answered)


def truth_ranks(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Say how many classes were held more probable than the true one.

    `truth`: ndarray of int, shape (N,); class numbers. `probabilities`: ndarray, shape (N, K);
    answers; among equals the first class counts as the more probable. Returns 0 where the answer is
    right; the truth is among the best k where this is below k.

    Examples
    --------
    >>> truth_ranks(np.array([1, 2]), np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])).tolist()
    [1, 2]
    """
    of_truth = np.take_along_axis(probabilities, truth[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < truth[:, None]
    ahead = (probabilities > of_truth) | ((probabilities == of_truth) & before)
    return np.asarray(ahead.sum(axis=1), np.int64)


def top_k_accuracy(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating], k: int
) -> float:
    """Return the part of the images whose true class is among the `k` most probable.

    `truth`: ndarray of int, shape (N,); class numbers. `probabilities`: ndarray, shape (N, K);
    answers. Among equal probabilities the first class counts as the more probable, as in
    `Predictions.top_k`. Returns 0 to 1.

    Examples
    --------
    >>> answers = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    >>> top_k_accuracy(np.array([1, 2]), answers, k=2)
    0.5
    """
    if k < 1:
        raise InputError(f"k is {k}; the truth can be looked for among 1 class or more")
    _check_pairs(truth, probabilities[:, 0])
    _check_classes(truth, probabilities.shape[1])
    return float(np.mean(truth_ranks(truth, probabilities) < k))


def _ratio(
    part: NDArray[np.float64], whole: NDArray[np.float64], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.divide(part, whole, out=otherwise, where=whole > 0)


def _check_pairs(truth: NDArray[np.integer], answers: NDArray[np.generic]) -> None:
    if not len(truth) or truth.shape != answers.shape:
        raise InputError(
            f"{len(truth)} true classes and {len(answers)} answers were received; give one answer "
            "for each of at least one image"
        )


def _check_classes(numbers: NDArray[np.integer], n_classes: int) -> None:
    wrong = sorted({int(n) for n in numbers if not 0 <= n < n_classes})
    if wrong:
        raise InputError(
            f"class numbers {wrong[:5]} are not among the {n_classes} classes; "
            f"use 0 to {n_classes - 1}"
        )
