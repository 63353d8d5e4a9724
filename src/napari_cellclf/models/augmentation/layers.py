"""The layers of augmentation, ours and Keras's, and the model that chains them."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from napari_cellclf.models.augmentation.config import (
    AUGMENTATIONS,
    Augmentation,
    AugmentationConfig,
)

#: Prepared pixels are not held to a range.
_UNBOUNDED = (-1e6, 1e6)
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def build_augmenter(config: AugmentationConfig, seed: int = 0) -> keras.Sequential:
    """Make the model that augments training crops.

    They take and give float32 ``(N, Y, X, C)`` of at least 8 x 8 pixels, and do nothing unless
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


class PixelLayer(keras.layers.Layer):
    """Base of our layers: varies present channels in training, leaves blank ones blank."""

    def __init__(self, config: AugmentationConfig, seed: int) -> None:
        super().__init__(name=type(self).__name__.lower())
        self.config = config
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Vary ``(N, Y, X, C)`` pixels in training, return them unchanged otherwise."""
        if not training:
            return inputs
        present = ops.cast(ops.any(inputs != 0, axis=(1, 2), keepdims=True), inputs.dtype)
        return self.vary(inputs) * present

    def vary(self, pixels: Any) -> Any:
        """Return varied pixels of the same shape; each subclass says how."""
        return pixels

    def uniform(self, shape: tuple[Any, ...], low: float = 0.0, high: float = 1.0) -> Any:
        """Draw evenly between two bounds."""
        return keras.random.uniform(shape, low, high, seed=self.generator)

    def normal(self, shape: tuple[Any, ...], deviation: float) -> Any:
        """Draw around zero."""
        return keras.random.normal(shape, 0.0, deviation, seed=self.generator)

    def per_channel(self, pixels: Any) -> tuple[Any, ...]:
        """Return the shape of one number for each image and channel."""
        shape = ops.shape(pixels)
        return (shape[0], 1, 1, shape[-1])

    def smooth_field(self, pixels: Any, channels: Any, knots: int = 4) -> Any:
        """Draw a smooth field of deviation about 1 over each image."""
        shape = ops.shape(pixels)
        field = self.normal((shape[0], knots, knots, channels), 1.3)
        return ops.image.resize(field, shape[1:3], "bilinear", data_format="channels_last")


class Gaps(PixelLayer):
    """Empty smooth patches to the background, in all channels at once."""

    def vary(self, pixels: Any) -> Any:
        shape = ops.shape(pixels)
        chosen = self.uniform((shape[0], 1, 1, 1)) < self.config.gaps
        # A level between 0.3 and 1.5 deviations empties about 40 to 5 % of the crop.
        level = self.uniform((shape[0], 1, 1, 1), 0.3, 1.5)
        field = self.smooth_field(pixels, 1, knots=6)
        empty = ops.sigmoid(8 * (field - level)) * ops.cast(chosen, pixels.dtype)
        return pixels + empty * (ops.min(pixels, axis=(1, 2), keepdims=True) - pixels)


class BleedThrough(PixelLayer):
    """Add a little of the neighbouring channel, on either side, as broad filters do."""

    def vary(self, pixels: Any) -> Any:
        limit = self.config.bleed_through
        up = self.uniform(self.per_channel(pixels), -limit / 2, limit)
        down = self.uniform(self.per_channel(pixels), -limit / 2, limit)
        up, down = ops.relu(up), ops.relu(down)
        return pixels + up * ops.roll(pixels, 1, axis=-1) + down * ops.roll(pixels, -1, axis=-1)


class Sharpness(PixelLayer):
    """Move each channel towards its blur, or away from it, and some far out of focus."""

    def vary(self, pixels: Any) -> Any:
        one, each = (ops.shape(pixels)[0], 1, 1, 1), self.per_channel(pixels)
        if self.config.sharpness:
            limit = self.config.sharpness
            # The focus of a field is shared by its channels, up to a little.
            amount = self.uniform(one, -limit, limit) + self.uniform(each, -limit / 4, limit / 4)
            pixels = pixels + ops.clip(amount, -limit, limit) * (_blur(pixels) - pixels)
        if self.config.defocus:
            # Squared: mostly little. The stage moves all channels out of focus, the colour each.
            shared, own = ops.square(self.uniform(one)), ops.square(self.uniform(each))
            broad = _blur(_blur(pixels), dilation=2)
            pixels = pixels + self.config.defocus * ops.maximum(shared, own) * (broad - pixels)
        return pixels


class Illumination(PixelLayer):
    """Light the field unevenly, and add an uneven haze."""

    def vary(self, pixels: Any) -> Any:
        channels = pixels.shape[-1]
        low = ops.min(pixels, axis=(1, 2), keepdims=True)
        # Scaled as a whole by a random amount, so that some fields are nearly even.
        amount = self.uniform(self.per_channel(pixels), 0.0, 1.5)
        light = ops.exp(self.config.illumination * amount * self.smooth_field(pixels, channels))
        haze = self.config.haze * amount * self.smooth_field(pixels, channels)
        return low + (pixels - low) * light + haze


class Curve(PixelLayer):
    """Bend the intensities, restore mean and deviation, then vary those a little."""

    def vary(self, pixels: Any) -> Any:
        each = self.per_channel(pixels)
        mean = ops.mean(pixels, axis=(1, 2), keepdims=True)
        deviation = ops.std(pixels, axis=(1, 2), keepdims=True)
        low = ops.min(pixels, axis=(1, 2), keepdims=True)
        exponent = ops.exp(self.uniform(each, -self.config.gamma, self.config.gamma))
        # 4 deviations above the darkest pixel is a bright cell; debris lies beyond.
        bent = ops.power((pixels - low) / 4 + 1e-3, exponent)
        spread = ops.std(bent, axis=(1, 2), keepdims=True) + 1e-6
        bent = (bent - ops.mean(bent, axis=(1, 2), keepdims=True)) / spread
        gain = ops.exp(self.normal(each, self.config.gain))
        return bent * deviation * gain + mean + self.normal(each, self.config.offset)


class Grain(PixelLayer):
    """Add pixel noise, and round to few grey levels in half of the channels."""

    def vary(self, pixels: Any) -> Any:
        each = self.per_channel(pixels)
        # Squared: mostly little noise, sometimes much.
        amount = self.config.noise * ops.square(self.uniform(each))
        noisy = pixels + amount * keras.random.normal(ops.shape(pixels), seed=self.generator)
        step = self.config.grey_steps * ops.square(self.uniform(each)) + 1e-3
        phase = self.uniform(each)
        rounded = (ops.floor(noisy / step + phase) - phase + 0.5) * step
        return ops.where(self.uniform(each) < 0.5, rounded, noisy)


class ChannelDropout(PixelLayer):
    """Blank the channels that are often missing, and sometimes any one."""

    def vary(self, pixels: Any) -> Any:
        count, channels = ops.shape(pixels)[0], pixels.shape[-1]
        kept = ops.ones((count, 1, 1, channels), pixels.dtype)
        numbers = ops.arange(channels)
        if self.config.channel_dropout and channels > 1:
            which = keras.random.randint((count, 1, 1, 1), 0, channels, seed=self.generator)
            happens = self.uniform((count, 1, 1, 1)) < self.config.channel_dropout
            lost = ops.logical_and(ops.cast(which, "int32") == ops.cast(numbers, "int32"), happens)
            kept = kept * (1 - ops.cast(lost, pixels.dtype))
        if self.config.drop_together:
            group = [float(i in self.config.drop_together) for i in range(channels)]
            happens = self.uniform((count, 1, 1, 1)) < self.config.drop_together_probability
            kept = kept * (1 - ops.cast(happens, pixels.dtype) * ops.convert_to_tensor(group))
        if self.config.channel_subset:
            happens = self.uniform((count, 1, 1, 1)) < self.config.channel_subset
            kept = ops.where(happens, self._subset(pixels), kept)
        return pixels * kept

    def _subset(self, pixels: Any) -> Any:
        """Choose channels to keep, at least one of those present, and often few of them."""
        present = ops.any(pixels != 0, axis=(1, 2), keepdims=True)
        drawn = ops.where(present, self.uniform(self.per_channel(pixels)), 2.0)
        share = ops.square(self.uniform((ops.shape(pixels)[0], 1, 1, 1)))
        first = drawn <= ops.min(drawn, axis=-1, keepdims=True)
        return ops.cast(ops.logical_or(drawn < share, first), pixels.dtype)


def _blur(pixels: Any, dilation: int = 1) -> Any:
    """Blur by a binomial of 5 pixels (deviation 1 pixel) along both axes, or one spread wider."""
    height, width = pixels.shape[1:3]
    edge = (2 * dilation, 2 * dilation)
    padded = ops.pad(pixels, ((0, 0), edge, edge, (0, 0)), mode="reflect")
    steps = [(w, k * dilation) for k, w in enumerate(_BINOMIAL)]
    rows = sum(w * padded[:, at : at + height] for w, at in steps)
    return sum(w * rows[:, :, at : at + width] for w, at in steps)


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


# In the order in which light, lens, camera and file change a scene.
FLIPS = Augmentation("flips", 10, _flips)
ROTATION = Augmentation("rotation", 20, _rotation)
SHIFT = Augmentation("shift", 30, _shift)
ZOOM = Augmentation("zoom", 40, _zoom)
GAPS = Augmentation("gaps", 50, Gaps)
BLEED_THROUGH = Augmentation("bleed_through", 60, BleedThrough)
ILLUMINATION = Augmentation("illumination", 70, Illumination, ("illumination", "haze"))
SHARPNESS = Augmentation("sharpness", 80, Sharpness, ("sharpness", "defocus"))
CURVE = Augmentation("curve", 90, Curve, ("gamma", "gain", "offset"))
GRAIN = Augmentation("grain", 100, Grain, ("noise", "grey_steps"))
CHANNEL_DROPOUT = Augmentation(
    "channel_dropout", 110, ChannelDropout, ("channel_dropout", "channel_subset", "drop_together")
)
CUTOUT = Augmentation("cutout", 120, _cutout)
