"""Test-time augmentation: probabilities averaged over mirrored and transposed views of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: ``one``: the image as it is. ``flips``: also mirrored along either axis and both. ``all``: also
#: transposed, eight views in all; images that are not square have the four of ``flips``.
Views = Literal["one", "flips", "all"]

Compute = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]


def views_of(batch: NDArray[np.float32], views: Views) -> Iterator[NDArray[np.float32]]:
    """Go over the views of a batch of images.

    `batch`: ndarray, shape (N, Y, X, C), float32; prepared images. Yields one view of all images,
    the images themselves first.

    Examples
    --------
    >>> [len(list(views_of(np.zeros((1, 4, 4, 1), "f4"), v))) for v in ("one", "flips", "all")]
    [1, 4, 8]
    """
    yield batch
    if views == "one":
        return
    flips = (slice(None, None, -1), slice(None))
    sides = [batch]
    if views == "all" and batch.shape[1] == batch.shape[2]:
        sides.append(batch.transpose(0, 2, 1, 3))
        yield np.ascontiguousarray(sides[1])
    for side in sides:
        for rows, columns in ((flips[0], flips[1]), (flips[1], flips[0]), (flips[0], flips[0])):
            yield np.ascontiguousarray(side[:, rows, columns])


def mean_over_views(
    compute: Compute, batch: NDArray[np.float32], views: Views
) -> NDArray[np.float32]:
    """Average a network's answers over the views of each image.

    `compute`: prepared images to probabilities ``(N, K)``. `batch`: ndarray, shape (N, Y, X, C),
    float32; prepared images. Returns probabilities.
    """
    answers = [compute(view) for view in views_of(batch, views)]
    return answers[0] if len(answers) == 1 else np.mean(answers, axis=0, dtype=np.float32)
