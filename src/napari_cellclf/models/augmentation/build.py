"""Change training crops the way the next batch of plates will: an augmenter of Keras layers.

It sees prepared arrays and is never saved with a network.
"""

from __future__ import annotations

import math

import keras

from napari_cellclf.models.augmentation.config import (
    AUGMENTATIONS,
    Augmentation,
    AugmentationConfig,
)

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
    chain = sorted(AUGMENTATIONS.all().values(), key=lambda one: (one.order, one.name))
    layers = [one.make(config, next(seeds)) for one in chain if one.is_wanted(config)]
    if keras.config.backend() == "jax":
        for layer in layers:
            # Some say no, for XLA on TensorFlow's account; one no, and JAX compiles nothing at all.
            layer.supports_jit = True
    # A sequence of nothing cannot be built.
    return keras.Sequential(layers or [keras.layers.Identity()], name="augmentation")


def _flips(config: AugmentationConfig, seed: int) -> keras.layers.Layer:
    mode = "horizontal_and_vertical" if config.flips is True else config.flips
    return keras.layers.RandomFlip(mode, seed=seed)


def _rotation(config: AugmentationConfig, seed: int) -> keras.layers.Layer:
    return keras.layers.RandomRotation(config.rotation, fill_mode="reflect", seed=seed)


def _shift(config: AugmentationConfig, seed: int) -> keras.layers.Layer:
    shift = config.shift
    return keras.layers.RandomTranslation(shift, shift, fill_mode="reflect", seed=seed)


def _zoom(config: AugmentationConfig, seed: int) -> keras.layers.Layer:
    # Keras counts the field's width, not the magnification: negative zooms in.
    span = (math.exp(-config.zoom) - 1, math.exp(config.zoom) - 1)
    return keras.layers.RandomZoom(span, fill_mode="reflect", seed=seed)


def _cutout(config: AugmentationConfig, seed: int) -> keras.layers.Layer:
    # Blanked with the mean of prepared pixels, as if there were nothing.
    return keras.layers.RandomErasing(
        config.cutout,
        scale=(0.02, config.cutout_area),
        fill_value=0.0,
        value_range=_UNBOUNDED,
        seed=seed,
    )


FLIPS = Augmentation("flips", 10, _flips)
ROTATION = Augmentation("rotation", 20, _rotation)
SHIFT = Augmentation("shift", 30, _shift)
ZOOM = Augmentation("zoom", 40, _zoom)
CUTOUT = Augmentation("cutout", 120, _cutout)
