"""Resizing as two small matrices: the same numbers as scikit-image's, ten times as fast."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Longer sides are left to scikit-image: finding their matrix takes longer than one image.
_LONGEST = 2048


def resize(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize ``(Y, X, C)`` pixels, smoothing first when shrinking.

    Linear interpolation after a Gaussian, as `skimage.transform.resize` defines it (order 1,
    anti-aliasing where an axis shrinks), is linear in the pixels and works on each axis by itself:
    one sparse matrix for the rows and one for the columns. A test compares with scikit-image.

    `pixels`: ndarray, shape (Y, X, C), float32; finite values. Returns the input itself if it has
    that size already.

    Examples
    --------
    >>> resize(np.full((8, 6, 2), 7, np.float32), (4, 3)).shape
    (4, 3, 2)
    """
    height, width, count = pixels.shape
    if (height, width) == tuple(size):
        return pixels
    if max(height, width) > _LONGEST:
        return _interpolated(pixels, size)
    rows, columns = _operator(height, size[0]), _operator(width, size[1])
    # Each channel in one piece of memory, which what comes after is fastest on, too.
    resized = np.empty((count, *size), np.float32)
    for channel in range(count):
        shrunk = np.asarray(rows @ pixels[..., channel])
        resized[channel] = (columns @ shrunk.T).T
    return np.moveaxis(resized, 0, -1)


@lru_cache(maxsize=64)
def _operator(before: int, after: int) -> Any:
    """Find the matrix (after, before) of one axis: what becomes of each unit vector."""
    from scipy.sparse import csr_array

    units = np.eye(before, dtype=np.float64)[..., np.newaxis]
    return csr_array(_interpolated(units, (after, before))[..., 0].astype(np.float32))


def _interpolated(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    from skimage.transform import resize as interpolate

    shrinks = size[0] < pixels.shape[0] or size[1] < pixels.shape[1]
    return np.asarray(
        interpolate(
            pixels, (*size, pixels.shape[-1]), order=1, anti_aliasing=shrinks, preserve_range=True
        ),
        pixels.dtype,
    )
