"""Resizing planes of any size and shape, block by block.

Linear interpolation after a Gaussian, as `skimage.transform.resize` defines it (order 1,
anti-aliasing where an axis shrinks), is linear in the pixels and works on each axis by itself: one
sparse matrix for the rows and one for the columns, ten times as fast. Their coefficients are those
of scikit-image to the last bit, which a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.progress import part_done

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pixels that are looked at together: 32 MiB as float32, beside the image itself.
_BLOCK_PIXELS = 2**23
#: Coefficients that are made together, and of an axis that are kept for the next image.
_KEPT = 2**20


@dataclass(frozen=True)
class _Band:
    """Some pixels of the result along one axis, and those of the input that they are made of."""

    start: int
    stop: int
    #: The first and the last of the input, and one.
    first: int
    end: int
    #: Sparse, (stop - start, end - first).
    matrix: Any


def resized(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize one plane (Y, X) of finite numbers of any type, smoothing first when shrinking.

    Examples
    --------
    >>> resized(np.full((8, 6), 7, np.uint8), (4, 3)).round(3).tolist()[0]
    [7.0, 7.0, 7.0]
    """
    height, width = plane.shape
    coefficients = size[1] * _reach(width, size[1], 0)
    if width * _reach(height, size[0], 1) > _BLOCK_PIXELS or coefficients > _KEPT:
        # Long rows are taken in pieces, each with as many rows as fit.
        most = _BLOCK_PIXELS // _reach(width, size[1], 1)
        n_rows = min(_room(height, size[0], most), max(1, most))
        tallest = max(n_rows, _reach(height, size[0], n_rows))
        n_columns = _room(width, size[1], _BLOCK_PIXELS // tallest)
    else:
        n_rows, n_columns = _room(height, size[0], _BLOCK_PIXELS // width), size[1]
    out = np.empty(size, np.float32)
    # Coefficients of long rows take long to make: once for all rows of the result.
    for columns in _bands(width, size[1], n_columns):
        for rows in _bands(height, size[0], n_rows):
            block = np.ascontiguousarray(
                plane[rows.first : rows.end, columns.first : columns.end], np.float32
            )
            shrunk = np.asarray(rows.matrix @ block)
            out[rows.start : rows.stop, columns.start : columns.stop] = (
                columns.matrix @ shrunk.T
            ).T
            done = columns.start * size[0] + rows.stop * (columns.stop - columns.start)
            part_done("preparing", done / (size[0] * size[1]))
    return out


def _room(before: int, after: int, most: int) -> int:
    """Return how many pixels of the result need at most so many of the input, at least one."""
    each = _reach(before, after, 0)
    return int(max(1, min(after, (most - each) * after // before, _KEPT // each)))


def _reach(before: int, after: int, count: int) -> int:
    """Return about how many pixels of the input so many of the result are made of."""
    return 2 * _radius(before / after) + 2 + -(-count * before // after)


def _radius(factor: float) -> int:
    # scikit-image's sigma, and where scipy.ndimage cuts a Gaussian off.
    return int(4 * max(0.0, (factor - 1) / 2) + 0.5)


def _bands(before: int, after: int, count: int) -> Iterator[_Band]:
    if after * _reach(before, after, 0) <= _KEPT:
        yield from _kept_bands(before, after, count)
        return
    for start in range(0, after, count):
        yield _band(before, after, start, min(start + count, after))


@lru_cache(maxsize=64)
def _kept_bands(before: int, after: int, count: int) -> tuple[_Band, ...]:
    return tuple(
        _band(before, after, start, min(start + count, after)) for start in range(0, after, count)
    )


def _band(before: int, after: int, start: int, stop: int) -> _Band:
    from scipy.sparse import csr_array

    factor = before / after
    centres = (np.arange(start, stop) + 0.5) * factor - 0.5
    below = np.floor(centres).astype(np.int64)
    part = (centres - below)[:, np.newaxis]
    gaussian = _gaussian(factor)
    # What lies between two pixels is a mixture of both, each smoothed.
    weights = np.zeros((stop - start, len(gaussian) + 1))
    weights[:, :-1] += gaussian * (1 - part)
    weights[:, 1:] += gaussian * part
    radius = len(gaussian) // 2
    places = _mirrored(below[:, np.newaxis] + np.arange(-radius, radius + 2), before)
    first, end = int(places.min()), int(places.max()) + 1
    offsets = np.arange(stop - start + 1) * weights.shape[1]
    matrix = csr_array(
        (weights.ravel(), (places - first).ravel(), offsets), shape=(stop - start, end - first)
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return _Band(start, stop, first, end, matrix.astype(np.float32))


def _gaussian(factor: float) -> NDArray[np.float64]:
    sigma, radius = max(0.0, (factor - 1) / 2), _radius(factor)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return np.asarray(weights / weights.sum())


def _mirrored(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Reflect places outside at the centres of the outermost pixels."""
    if size == 1:
        return np.zeros_like(places)
    period = 2 * (size - 1)
    inside = np.abs(places) % period
    return np.where(inside >= size, period - inside, inside)
