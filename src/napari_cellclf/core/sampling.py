"""How often each training image is shown, where classes differ in number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_cellclf.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Balance = Literal["none", "oversample", "equal-numbers"]


def class_weights(labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float32]:
    """Return weights that make every class count the same in the loss.

    `labels`: ndarray of int, shape (N,); class numbers of the training images. Returns ``N /
    (classes that occur * images of the class)``, so that the mean over the images is 1; 1 for a
    class without an image.

    Examples
    --------
    >>> class_weights(np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.6669999957084656, 2.0]
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    present = counts > 0
    weights = np.ones(n_classes)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights.astype(np.float32)


def epoch_order(
    labels: NDArray[np.integer], *, balance: Balance = "none", seed: int = 0, epoch: int = 0
) -> NDArray[np.int64]:
    """Return which training images an epoch shows, in which order.

    `labels`: ndarray of int, shape (N,); class numbers of the training images.

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 1])
    >>> sorted(labels[epoch_order(labels, balance="oversample")].tolist())
    [0, 0, 0, 1, 1, 1]
    """
    if balance not in get_args(Balance):
        raise DatasetError(
            f"there is no balance {balance!r}; choose one of {', '.join(get_args(Balance))}"
        )
    rng = np.random.default_rng([seed, epoch])
    if balance == "none" or not len(labels):
        return rng.permutation(len(labels))
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = [len(of_class) for of_class in rows]
    wanted = max(sizes) if balance == "oversample" else min(sizes)
    chosen = [_draw(of_class, wanted, rng) for of_class in rows]
    return rng.permutation(np.concatenate(chosen))


def _draw(rows: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Take every row equally often, and some at random once more."""
    whole, rest = divmod(wanted, len(rows))
    return np.concatenate([np.tile(rows, whole), rng.permutation(rows)[:rest]])
