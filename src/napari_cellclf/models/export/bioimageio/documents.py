"""The documentation and the cover picture of a package."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.bundles.card import model_card

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import BundleSpec

_COVER_SIDE = 256


def documentation(spec: BundleSpec, neutral: list[float], full: float) -> str:
    """Write the model card, and what the specification has no words for."""
    return model_card(spec) + "\n" + "\n".join(_lines(spec, neutral, full)) + "\n"


def cover(pixels: NDArray[np.float32]) -> bytes:
    """Draw up to three channels of the test image.

    `pixels`: ndarray, shape (Y, X, C); in any units. Returns A square PNG, each channel stretched
    between its 1st and 99.5th percentile.
    """
    from PIL import Image as Pillow

    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    square = pixels[top : top + side, left : left + side, :3]
    low, high = np.percentile(square, (1, 99.5), axis=(0, 1))
    grey = np.clip((square - low) / np.maximum(high - low, 1e-6), 0, 1)
    colours = np.zeros((side, side, 3))
    colours[..., : grey.shape[-1]] = grey
    if grey.shape[-1] == 1:
        colours[:] = grey
    picture = Pillow.fromarray((255 * colours).astype(np.uint8))
    stream = io.BytesIO()
    picture.resize((_COVER_SIDE, _COVER_SIDE)).save(stream, "PNG")
    return stream.getvalue()


def _lines(spec: BundleSpec, neutral: list[float], full: float) -> Iterator[str]:
    preprocessing = spec.input.preprocessing
    yield from ("## What this package takes", "")
    yield (
        "One array for each image, axes batch, y, x, channel, float32, in the units of the camera. "
        "The channels are " + ", ".join(spec.input.channels) + ", in this order."
    )
    if preprocessing.centre < 1:
        yield (
            f"It must be the middle of an image, {preprocessing.centre:g} of its height and width: "
            "cut it out before anything else. The package cannot say this, and does not do it."
        )
    if preprocessing.size is not None:
        height, width = preprocessing.size
        yield (
            f"It must already be {height} x {width} pixels (height x width): resize it with linear "
            "interpolation, smoothed first when shrinking. The package cannot say this, and does "
            "not do it."
        )
    elif spec.input.views == "all":
        yield "Images must be square: they are also looked at transposed."
    if preprocessing.normalization.needs_white:
        yield f"White is {full:g}: images of another type have to be brought to it."
    optional = [
        f"{channel.name} with {value:g}"
        for channel, value in zip(preprocessing.channels, neutral, strict=True)
        if not channel.required
    ]
    if optional:
        yield f"A channel that is missing is filled: {', '.join(optional)}."
    yield from ("", "## What it answers", "")
    yield "The probability of each class. Inside the ONNX file, besides the network:"
    yield f"the mean over views of the image ({spec.input.views}), and the temperature"
    yield f"{spec.temperature:g}."
    yield from ("", "## Validation", "")
    yield (
        "The test tensors reproduce the answer of the original model to its test image. How well "
        "the model does, and on which images, is told above; validate it on images whose class "
        "you know, from your own microscope, before you believe it."
    )
