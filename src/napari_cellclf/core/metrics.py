"""How good answers are: plain counts on class numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def accuracy(truth: NDArray[np.integer], answers: NDArray[np.integer]) -> float:
    """Return the part of the images that were classified right.

    Parameters
    ----------
    truth, answers : ndarray of int, shape (N,)
        Class numbers.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    InputError
        If there are no images, or not as many answers as truths.

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

    Parameters
    ----------
    truth, answers : ndarray of int, shape (N,)
        Class numbers. Classes without an image do not count.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    InputError
        If there are no images, or not as many answers as truths.

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

    Parameters
    ----------
    truth, answers : ndarray of int, shape (N,)
        Class numbers, 0 to `n_classes` - 1.
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray of int, shape (n_classes, n_classes)
        A row for each true class, a column for each answer.

    Raises
    ------
    InputError
        If there are no images, not as many answers as truths, or a number is no class.

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


def top_k_accuracy(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating], k: int
) -> float:
    """Return the part of the images whose true class is among the `k` most probable.

    Parameters
    ----------
    truth : ndarray of int, shape (N,)
        Class numbers.
    probabilities : ndarray, shape (N, K)
        Answers. Among equal probabilities the first class counts as the more probable, as in
        `Predictions.top_k`.
    k : int
        How many, at least 1.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    InputError
        If there are no images, not as many answers as truths, a number is no class, or `k` is
        below 1.

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
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean((best == truth[:, None]).any(axis=1)))


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
