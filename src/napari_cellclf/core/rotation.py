"""Turning images by fixed angles, before they are prepared for a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_cellclf.core.image import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rotate_image(image: Image, degrees: float, frame: Literal["keep", "grow"] = "keep") -> Image:
    """Turn one plane counter-clockwise.

    `degrees`: the angle. Multiples of 90 move pixels without changing them where the frame may
    grow, or the image is square.

    Examples
    --------
    >>> rotate_image(Image(np.zeros((4, 10)), "YX"), 90, "grow").data.shape
    (1, 10, 4)
    """
    planes = image.to_cyx()
    turned = np.stack([_rotate(plane, degrees, frame) for plane in planes])
    return Image(turned, "CYX", image.channels, source=image.source, metadata=image.metadata)


def _rotate(plane: NDArray[np.generic], degrees: float, frame: str) -> NDArray[np.generic]:
    quarters, rest = divmod(degrees % 360, 90)
    if rest == 0 and (frame == "grow" or quarters == 2 or plane.shape[0] == plane.shape[1]):
        return np.ascontiguousarray(np.rot90(plane, int(quarters)))
    from skimage.transform import rotate

    turned = rotate(
        plane.astype(np.float32),
        degrees,
        resize=frame == "grow",
        order=1,
        cval=float(plane.min()),
        preserve_range=True,
    )
    if np.issubdtype(plane.dtype, np.integer):
        turned = np.rint(turned)
    return np.asarray(turned.astype(plane.dtype))
