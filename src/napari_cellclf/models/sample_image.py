"""The image that a bundle is tested with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing

#: Sides of a test image where images keep their own size: at most, and where that is unknown.
_MOST_PIXELS, _TEST_SIDE = 256, 128
_BLOBS = 6


def make_test_image(preprocessing: Preprocessing, sides: Sequence[int] = ()) -> Image:
    """Make an image to test a bundle with, so that no real image is distributed with it.

    Bright blobs on a dark background, others in each channel: where an engine rounds to 16 bits,
    they show it better than smooth noise does. `sides`: height and width of a prepared image,
    where images keep their own size. Returns 16 bits, ``CYX``; the same for the same size.
    """
    names = [spec.name for spec in preprocessing.channels]
    size = preprocessing.size or sides or (_TEST_SIDE, _TEST_SIDE)
    height, width = (
        min(side, _MOST_PIXELS) if preprocessing.size is None else side for side in size
    )
    random = np.random.default_rng(0)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    centres = random.uniform(0.1, 0.9, (len(names), _BLOBS, 2))
    planes = [
        sum(np.exp(-((y - v) ** 2 + (x - u) ** 2) / 0.01) for v, u in channel)
        for channel in centres
    ]
    pixels = (1000 + 20_000 * np.clip(np.stack(planes), 0, 2)).astype(np.uint16)
    return Image(pixels, "CYX", names, source="simulated")
