"""The one way for pixels: from an image to the array that a network is fed.

Training, every engine, the command line and the widget call `Preprocessing`; nothing else scales
pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from napari_cellclf.core.channels import ChannelMapping, ChannelSpec, match_channels
from napari_cellclf.core.channels import require_channels as _require
from napari_cellclf.core.normalization import AnyNormalization, ZeroMeanUnitVariance
from napari_cellclf.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image

#: Of a prepared image, in pixels.
MOST_SIDE = 16_384
#: Longer sides are left to scikit-image: finding their matrix takes longer than one image.
_LONGEST = 2048


class Preprocessing(BaseModel):
    """Choose and order channels, crop, resize, normalise: a pure function with all its numbers.

    Parameters
    ----------
    channels : tuple of ChannelSpec
        What the network expects, in order.
    centre : float
        Part of the height and width, in the middle, that is looked at: 1 is the whole image. Less
        is for images that were cut around one cell each, whose surroundings tell nothing.
    size : tuple of int, optional
        Height and width to resize to, in pixels. None keeps each image's own size, for networks
        that take any.
    normalization : Normalization
        How the values are brought to the network's range.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_cellclf import Image, Preprocessing
    >>> prepare = Preprocessing(channels=({"name": "DNA"},), size=(32, 32))
    >>> array = prepare(Image(np.arange(64.0).reshape(8, 8), "YX"))
    >>> array.shape, array.dtype, bool(abs(array.mean()) < 1e-6)
    ((32, 32, 1), dtype('float32'), True)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[ChannelSpec, ...] = Field(min_length=1)
    centre: float = Field(default=1.0, gt=0, le=1)
    size: tuple[int, int] | None = None
    normalization: AnyNormalization = ZeroMeanUnitVariance()

    @field_validator("size")
    @classmethod
    def _positive(cls, size: tuple[int, int] | None) -> tuple[int, int] | None:
        if size is not None and not all(0 < side <= MOST_SIDE for side in size):
            raise ValueError(f"{size} is not a height and a width from 1 to {MOST_SIDE} pixels")
        return size

    @model_validator(mode="after")
    def _bgr_needs_all(self) -> Preprocessing:
        needed = self.normalization.needs_every_channel
        if needed and not all(channel.required for channel in self.channels):
            raise ValueError("a network that wants blue first cannot do without a channel")
        return self

    def match(
        self, image: Image, mapping: Mapping[str, str | None] | None = None
    ) -> ChannelMapping:
        """Find which of the image's channels feeds each expected one.

        Parameters
        ----------
        image : Image
            Any image.
        mapping : mapping of str to (str or None), optional
            Decisions of the user: expected channel to the image's channel, or None to leave out.

        Returns
        -------
        ChannelMapping
            With None where the image has nothing that fits.
        """
        return match_channels(self.channels, image.channels, mapping)

    def __call__(
        self, image: Image, mapping: Mapping[str, str | None] | None = None
    ) -> NDArray[np.float32]:
        """Prepare one plane for the network.

        Returns the network's input; channels that the image lacks and the model can do without are
        zero.
        """
        pixels = self.unnormalized(image, mapping)
        if image.white is not None and self.normalization.needs_white:
            pixels = _whitened(pixels, image, image.white)
        normalized = self.normalization(pixels, image.dtype)
        # Missing channels went through as zeros, so that per-channel numbers stay in their places,
        # and are zero again afterwards, whatever the normalisation made of them.
        sources = self.match(image, mapping).sources
        missing = [index for index, source in enumerate(sources) if source is None]
        if missing:
            normalized[..., missing] = 0
        return normalized

    def unnormalized(
        self, image: Image, mapping: Mapping[str, str | None] | None = None
    ) -> NDArray[np.float32]:
        """Choose, order and resize as for the network, but leave the values in the file's units.

        Parameters
        ----------
        image : Image
            As for a call.
        mapping : mapping of str to (str or None), optional
            As for `match`.

        Returns
        -------
        ndarray, shape (Y, X, C), float32
            What the normalisation is given; channels that the image lacks are zero.

        Raises
        ------
        ChannelMismatchError
            If a required channel is missing.
        ImageError
            If the pixels are not finite.
        """
        matched = self.match(image, mapping)
        _require(self.channels, matched, image.channels)
        used = [index for index, source in enumerate(matched.sources) if source is not None]
        cyx = image.to_cyx()[[source for source in matched.sources if source is not None]]
        pixels = central(np.moveaxis(cyx, 0, -1), self.centre).astype(np.float32)
        _check_finite(pixels, image)
        resized = pixels if self.size is None else resize(pixels, self.size)
        if len(used) == len(self.channels):
            return resized
        full = np.zeros((*resized.shape[:2], len(self.channels)), np.float32)
        full[..., used] = resized
        return full


def central(pixels: NDArray[Any], part: float) -> NDArray[Any]:
    """Cut the middle out of ``(Y, X, C)`` pixels.

    `pixels`: ndarray, shape (Y, X, C); any values. Returns A view; at least one pixel each way, and
    the input itself where `part` is 1.

    Examples
    --------
    >>> central(np.zeros((360, 363, 3)), 0.7).shape
    (252, 254, 3)
    """
    sides = pixels.shape[:2]
    kept = [max(1, round(side * part)) for side in sides]
    top, left = ((side - inner) // 2 for side, inner in zip(sides, kept, strict=True))
    return pixels[top : top + kept[0], left : left + kept[1]]


def resize(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize ``(Y, X, C)`` pixels, smoothing first when shrinking.

    Linear interpolation after a Gaussian, as `skimage.transform.resize` defines it (order 1,
    anti-aliasing where an axis shrinks), is linear in the pixels and works on each axis by itself:
    one sparse matrix for the rows and one for the columns, ten times as fast. A test compares.

    `pixels`: ndarray, shape (Y, X, C), float32; finite values. Returns the input itself if it has
    that size already.

    Examples
    --------
    >>> resize(np.full((8, 6, 2), 7, np.float32), (4, 3)).shape
    (4, 3, 2)
    """
    height, width, count = pixels.shape
    if (height, width) == tuple(size):
        return pixels
    if max(height, width) > _LONGEST:
        return _interpolated(pixels, size)
    rows, columns = _operator(height, size[0]), _operator(width, size[1])
    # Each channel in one piece of memory, which what comes after is fastest on, too.
    resized = np.empty((count, *size), np.float32)
    for channel in range(count):
        shrunk = np.asarray(rows @ pixels[..., channel])
        resized[channel] = (columns @ shrunk.T).T
    return np.moveaxis(resized, 0, -1)


def _whitened(pixels: NDArray[np.float32], image: Image, white: float) -> NDArray[np.float32]:
    """Stretch values so that the declared white is the largest of the type."""
    brightest = float(pixels.max())
    if brightest > white:
        raise ImageError(
            f"{image.source or 'the image'} declares that {white:g} is white, but holds "
            f"{brightest:g}; correct the number of bits in its header, or save it again"
        )
    return pixels * np.float32(np.iinfo(image.dtype).max / white)


def _check_finite(pixels: NDArray[np.float32], image: Image) -> None:
    if not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise ImageError(
            f"{image.source or 'the image'} has {bad} pixels that are not finite numbers; "
            "replace them before classifying"
        )


@lru_cache(maxsize=64)
def _operator(before: int, after: int) -> Any:
    """Find the matrix (after, before) of one axis: what becomes of each unit vector."""
    from scipy.sparse import csr_array

    units = np.eye(before, dtype=np.float64)[..., np.newaxis]
    return csr_array(_interpolated(units, (after, before))[..., 0].astype(np.float32))


def _interpolated(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    from skimage.transform import resize as interpolate

    shrinks = size[0] < pixels.shape[0] or size[1] < pixels.shape[1]
    return np.asarray(
        interpolate(
            pixels, (*size, pixels.shape[-1]), order=1, anti_aliasing=shrinks, preserve_range=True
        ),
        pixels.dtype,
    )
