"""Which labels are likely wrong, by predictions of models that have not seen them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def label_doubts(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Say of each label how much held-out predictions speak against it.

    Confident learning [1]_: a label is doubted if the prediction is confident of another class,
    that is, at least as confident as predictions are on average of images with that label. What
    is doubted is worth a look; it may also be a rare look of its class.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
        Predictions by models that were not trained on the image, and not on its group. Rows of
        zeros were not predicted, and are not doubted.
    labels : ndarray of int, shape (N,)
        The class that each image was given.

    Returns
    -------
    ndarray, shape (N,), float64
        0 for labels that are not doubted, else by how much the other class is more probable.

    Raises
    ------
    InputError
        If the shapes do not fit each other.

    References
    ----------
    .. [1] Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset
       Labels, JAIR 70, 2021.

    Examples
    --------
    >>> predicted = np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    >>> label_doubts(predicted, np.array([0, 0, 1, 1, 1])).round(2).tolist()
    [0.0, 0.0, 0.8, 0.0, 0.0]
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise InputError(
            f"probabilities of shape {probabilities.shape} do not fit labels of shape "
            f"{labels.shape}; give one row of probabilities for each label"
        )
    doubts = np.zeros(len(labels))
    known = probabilities.max(axis=1, initial=0) > 0
    predicted, given = probabilities[known].astype(np.float64), labels[known]
    rows = np.arange(len(given))
    own = predicted[rows, given]
    usual = np.full(probabilities.shape[1], np.inf)
    for number in np.unique(given):
        usual[number] = own[given == number].mean()
    # Of several classes of which the prediction is confident enough, the most probable counts.
    confident = np.where(predicted >= usual, predicted, -1.0)
    confident[rows, given] = -1.0
    other = confident.max(axis=1, initial=-1.0)
    doubts[known] = np.maximum(other - own, 0.0)
    return doubts
