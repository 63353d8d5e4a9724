"""The ways to bring pixels to the range a network was trained on, told apart by their `kind`.

Each is a frozen record of all its numbers and is called with one plane, ``(Y, X, C)`` float32 in
the units of the file, and the type the file had; it returns a new array of the same shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_cellclf.errors import NormalizationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Float = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Normalization(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ZeroMeanUnitVariance(_Normalization):
    """Subtract the mean and divide by the standard deviation, per image and channel.

    The default for fluorescence: gain, exposure and bit depth of the camera cancel out, which is
    what makes a network hold on a batch it has not seen.

    Parameters
    ----------
    epsilon : float
        A channel whose standard deviation is at most `epsilon` times its largest absolute value
        is constant up to rounding and becomes zeros.
    """

    kind: Literal["zero_mean_unit_variance"] = "zero_mean_unit_variance"
    epsilon: Positive = 1e-6

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels."""
        # In float64: the variance of 16-bit pixels around a large mean cancels in float32.
        values = pixels.astype(np.float64)
        values -= values.mean(axis=(0, 1))
        spread = values.std(axis=(0, 1))
        floor = self.epsilon * np.abs(pixels).max(axis=(0, 1)).astype(np.float64)
        flat = spread <= floor
        values /= np.where(flat, 1.0, spread)
        values[..., flat] = 0.0
        return values.astype(np.float32)


class Percentile(_Normalization):
    """Stretch each channel between two of its percentiles to 0..1, and clip.

    Parameters
    ----------
    low, high : float
        Percentiles that become 0 and 1.
    """

    kind: Literal["percentile"] = "percentile"
    low: float = Field(default=1.0, ge=0, lt=100)
    high: float = Field(default=99.5, gt=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels; a channel without spread becomes zeros."""
        low, high = np.percentile(pixels, (self.low, self.high), axis=(0, 1)).astype(np.float32)
        spread = np.where(high > low, high - low, 1)
        stretched = np.clip((pixels - low) / spread, 0, 1)
        return np.where(high > low, stretched, 0).astype(np.float32)


class ScaleLinear(_Normalization):
    """Divide by the largest value of the pixel type, multiply by `factor`, saturate at 1.

    With factor 1 this is the usual "divide by 255"; with 6 or 7 it brightens the dark embryo
    images. Floating-point pixels must lie in 0..1.

    Parameters
    ----------
    factor : float
        Brightening after the division.
    eight_bit : bool
        First drop 16-bit pixels to their upper 8 bits (``raw >> 8``), as files published in
        8 bits were made, so that both forms give the same numbers.
    """

    kind: Literal["scale_linear"] = "scale_linear"
    factor: Positive = 1.0
    eight_bit: bool = False

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels to 0..1."""
        full = full_scale(pixels, dtype)
        if self.eight_bit:
            steps = (full + 1) / 256 if full > 255 else full / 255
            pixels, full = np.floor(pixels / np.float32(steps)), 255.0
        return np.asarray(np.clip(pixels * np.float32(self.factor / full), 0, 1), np.float32)


class Fixed(_Normalization):
    """Subtract and divide by numbers measured once, on the training images only.

    Parameters
    ----------
    mean, std : tuple of float
        One for each channel, in the units of the file.
    """

    kind: Literal["fixed"] = "fixed"
    mean: tuple[Float, ...] = Field(min_length=1)
    std: tuple[Positive, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_length(self) -> Fixed:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means were given for {len(self.std)} deviations")
        return self

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels."""
        _check_count(len(self.mean), pixels.shape[-1], self.kind)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.asarray((pixels - mean) / std, np.float32)


class ImageNet(_Normalization):
    """What a backbone pretrained on ImageNet photographs expects, as plain numbers.

    Pixels are brought to 0..255 by the range of their type, `mean` is subtracted, `std` divides.

    Parameters
    ----------
    mean, std : tuple of float
        For red, green and blue, in 0..255. An image of another number of channels takes their
        average for every channel.
    bgr : bool
        Whether the network wants blue first. Only applied to images of three channels.
    """

    kind: Literal["imagenet"] = "imagenet"
    mean: tuple[Float, Float, Float] = (127.5, 127.5, 127.5)
    std: tuple[Positive, Positive, Positive] = (127.5, 127.5, 127.5)
    bgr: bool = False

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        if pixels.shape[-1] != len(mean):
            mean, std = mean.mean(), std.mean()
        scaled = (pixels * np.float32(255 / full_scale(pixels, dtype)) - mean) / std
        flipped = scaled[..., ::-1] if self.bgr and scaled.shape[-1] == 3 else scaled
        return np.ascontiguousarray(flipped, np.float32)


Normalization = Annotated[
    ZeroMeanUnitVariance | Percentile | ScaleLinear | Fixed | ImageNet,
    Field(discriminator="kind"),
]


def full_scale(pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> float:
    """Return the value that stands for white in pixels of a type.

    `pixels`: the pixels, looked at only if they are floating-point numbers.
    """
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).max)
    low, high = float(pixels.min()), float(pixels.max())
    # Resizing may overshoot 0 and 1 by rounding.
    if low < -1e-3 or high > 1 + 1e-3:
        raise NormalizationError(
            f"floating-point pixels from {low:g} to {high:g} have no known white; rescale them "
            "to 0..1 or keep the camera's integers"
        )
    return 1.0


def _check_count(wanted: int, received: int, kind: str) -> None:
    if wanted != received:
        raise NormalizationError(
            f"normalisation {kind!r} holds numbers for {wanted} channels, but {received} were "
            "received; use the channels that the model was trained on"
        )
