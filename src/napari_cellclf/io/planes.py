"""Planes that go together: one channel where colours are equal, one size, one type."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, UnreadableImageError
from napari_cellclf.io.memory import AnyFile


def collapse_grey(image: Image) -> Image:
    """Turn RGB or RGBA whose colours are equal on every pixel into one channel.

    Examples
    --------
    >>> collapse_grey(Image(np.ones((4, 5, 3), "uint8"), "YXS")).shape
    (4, 5)
    """
    if "S" not in image.axes or image.n_channels not in (2, 3, 4):
        return image
    axis = image.axes.index("S")
    samples = np.moveaxis(np.asarray(image.data), axis, 0)
    colours = samples[:3] if len(samples) > 2 else samples[:1]
    if any(not np.array_equal(colours[0], other) for other in colours[1:]):
        return image
    return replace(image, data=colours[0], axes=image.axes.replace("S", ""), channels=())


def check_like(
    path: AnyFile,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    first: AnyFile,
    first_shape: tuple[int, ...],
    first_dtype: np.dtype[Any],
) -> None:
    """Refuse a plane that does not go together with another."""
    if shape != first_shape or dtype != first_dtype:
        sizes = ["x".join(map(str, size)) for size in (shape, first_shape)]
        raise ImageError(
            f"{path}: is {sizes[0]} {dtype}, but {first} is {sizes[1]} {first_dtype}; images that "
            "are opened together must be of one size and type"
        )


def grey_plane(image: Image, path: AnyFile) -> np.ndarray[Any, Any]:
    """Return the one grey plane of an image.

    Returns as stored.
    """
    grey = collapse_grey(image)
    if grey.axes != "YX":
        raise UnreadableImageError(
            f"{path}: a channel of a site must be a grey image, but this one has axes "
            f"{grey.axes}; convert it to grey or rename it"
        )
    return np.asarray(grey.data)
