"""Change training crops the way the next batch of plates will: an augmenter of Keras layers.

It sees prepared arrays and is never saved with a network.
"""

from __future__ import annotations

import math

import keras

from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.augmentation.layers import PIXEL_LAYERS

#: Prepared pixels are not held to a range.
_UNBOUNDED = (-1e6, 1e6)


def build_augmenter(config: AugmentationConfig, seed: int = 0) -> keras.Sequential:
    """Make the layers that vary training crops.

    Returns takes and gives float32 ``(N, Y, X, C)`` of at least 8 x 8 pixels; does nothing unless
    called with ``training=True``. A channel that is blank stays blank.

    Examples
    --------
    >>> import numpy as np
    >>> augment = build_augmenter(AugmentationConfig(), seed=1)
    >>> tuple(augment(np.ones((2, 16, 16, 3), "float32"), training=True).shape)
    (2, 16, 16, 3)
    """
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    layers: list[keras.layers.Layer] = []
    if config.flips:
        mode = "horizontal_and_vertical" if config.flips is True else config.flips
        layers.append(keras.layers.RandomFlip(mode, seed=next(seeds)))
    if config.rotation:
        layers.append(
            keras.layers.RandomRotation(config.rotation, fill_mode="reflect", seed=next(seeds))
        )
    if config.shift:
        layers.append(
            keras.layers.RandomTranslation(
                config.shift, config.shift, fill_mode="reflect", seed=next(seeds)
            )
        )
    if config.zoom:
        # Keras counts the field's width, not the magnification: negative zooms in.
        span = (math.exp(-config.zoom) - 1, math.exp(config.zoom) - 1)
        layers.append(keras.layers.RandomZoom(span, fill_mode="reflect", seed=next(seeds)))
    layers += [layer(config, next(seeds)) for layer in PIXEL_LAYERS if layer.is_wanted(config)]
    if config.cutout:
        # Blanked with the mean of prepared pixels, as if there were nothing.
        erase = keras.layers.RandomErasing(
            config.cutout,
            scale=(0.02, config.cutout_area),
            fill_value=0.0,
            value_range=_UNBOUNDED,
            seed=next(seeds),
        )
        layers.append(erase)
    if keras.config.backend() == "jax":
        for layer in layers:
            # Some say no, for XLA on TensorFlow's account; one no, and JAX compiles nothing at all.
            layer.supports_jit = True
    # A sequence of nothing cannot be built.
    return keras.Sequential(layers or [keras.layers.Identity()], name="augmentation")
