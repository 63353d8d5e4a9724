"""Dead camera pixels: some stay black, some are stuck at their brightest."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from napari_cellclf.models.augmentation.config import Augmentation
from napari_cellclf.models.augmentation.layers import PixelLayer


class DeadPixels(PixelLayer):
    """Set pixels to the least or the greatest value of their channel.

    The strength is the largest fraction of pixels. A pixel of the camera is dead in every channel.
    """

    def vary(self, pixels: Any) -> Any:
        """Vary ``(N, Y, X, C)``."""
        count, height, width = ops.shape(pixels)[:3]
        largest = self.config.strength("dead_pixels")
        fraction = self.uniform((count, 1, 1, 1), 0.0, largest)
        drawn = keras.random.uniform((count, height, width, 1), seed=self.generator)
        low = ops.min(pixels, axis=(1, 2), keepdims=True)
        high = ops.max(pixels, axis=(1, 2), keepdims=True)
        varied = ops.where(drawn < fraction / 2, low, pixels)
        return ops.where(drawn > 1 - fraction / 2, high, varied)


# Between the camera's noise and missing channels.
DEAD_PIXELS = Augmentation("dead_pixels", 105, DeadPixels)
