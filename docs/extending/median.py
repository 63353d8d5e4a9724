"""A normalisation by median and median absolute deviation, which bright specks do not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from napari_cellclf.core.normalization import Normalization

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Median(Normalization):
    """Subtract each channel's median and divide by its median absolute deviation."""

    kind: Literal["median"] = "median"

    forms: ClassVar = {"median": "per image and channel, by median and median deviation"}

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise (Y, X, C) pixels; a channel of which most is constant becomes zeros."""
        centred = pixels - np.median(pixels, axis=(0, 1))
        spread = np.median(np.abs(centred), axis=(0, 1))
        normalized = centred / np.where(spread > 0, spread, 1) * (spread > 0)
        return np.asarray(normalized, np.float32)

    def bioimageio_steps(self, full: float, n_channels: int) -> list[dict[str, Any]]:
        """Write nothing: the specification has no medians, so that the graph computes them."""
        return []

    def write_onnx(self, scope: Any, image: Any) -> Any:
        """Write the same as operators of ONNX."""
        centred = scope.each("Sub", image, _median(scope.inside("median"), image))
        deviation = _median(scope.inside("deviation"), scope.each("Abs", centred))
        zero, one = scope.constant("zero", 0), scope.constant("one", 1)
        flat = scope.each("Equal", deviation, zero)
        divided = scope.each("Div", centred, scope.each("Where", flat, one, deviation))
        return scope.op("Where", (flat, zero, divided), image.shape)


def _median(scope: Any, image: Any) -> Any:
    """Write the median of each channel, (N, 1, 1, C), as the mean of the two middle values."""
    n_channels = image.shape[-1]
    shape = scope.constant("shape", [0, -1, 1, n_channels], np.int64)
    pixels = scope.op("Reshape", (image, shape), (None, None, 1, n_channels))
    count = scope.op("Shape", (pixels,), (1,), start=1, end=2)
    ordered = scope.op("TopK", (pixels, count), pixels.shape, axis=1, n_outputs=2)
    both = scope.op("Sub", (count, scope.constant("ends", [1, 0], np.int64)), (2,))
    middle = scope.op("Div", (both, scope.constant("two", [2], np.int64)), (2,))
    pair = scope.op("Gather", (ordered, middle), (None, 2, 1, n_channels), axis=1)
    over = scope.constant("over", [1], np.int64)
    return scope.op("ReduceMean", (pair, over), (None, 1, 1, n_channels), keepdims=1)
