"""The one way for pixels: from an image to the array that a network is fed.

Training, every engine, the command line and the widget call `Preprocessing`; nothing else scales
pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from napari_cellclf.core.channels import ChannelMapping, ChannelSpec, match_channels
from napari_cellclf.core.channels import require_channels as _require
from napari_cellclf.core.normalization import AnyNormalization, ZeroMeanUnitVariance
from napari_cellclf.core.objects import Cut, ImageObject, ObjectCrop, cut_of
from napari_cellclf.core.resizing import resized
from napari_cellclf.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image

#: Of a prepared image, in pixels.
MOST_SIDE = 16_384
#: Pixels that are looked at together for numbers that are not finite.
_CHECKED = 2**22


class Preprocessing(BaseModel):
    """Choose and order channels, crop, resize, normalise: a pure function with all its numbers.

    Parameters
    ----------
    channels : tuple of ChannelSpec
        What the network expects, in order.
    object_crop : ObjectCrop, optional
        How an object is cut out, for networks that look at the objects of an image; None for
        networks that look at whole images.
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
    object_crop: ObjectCrop | None = None
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

    @model_validator(mode="after")
    def _cut_in_one_way(self) -> Preprocessing:
        if self.object_crop is not None and self.centre != 1:
            raise ValueError("an object is cut out by object_crop alone; leave centre at 1")
        return self

    @property
    def without_cutting(self) -> Preprocessing:
        """The same for images that are cut out of theirs already, such as test images."""
        return self if self.object_crop is None else self.model_copy(update={"object_crop": None})

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
        self,
        image: Image,
        mapping: Mapping[str, str | None] | None = None,
        *,
        region: ImageObject | None = None,
    ) -> NDArray[np.float32]:
        """Prepare one plane, or one object of it, for the network.

        Returns the network's input; channels that the image lacks and the model can do without are
        zero.
        """
        pixels = self.unnormalized(image, mapping, region=region)
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
        self,
        image: Image,
        mapping: Mapping[str, str | None] | None = None,
        *,
        region: ImageObject | None = None,
    ) -> NDArray[np.float32]:
        """Choose, order and resize as for the network, but leave the values in the file's units.

        Parameters
        ----------
        image : Image
            As for a call.
        mapping : mapping of str to (str or None), optional
            As for `match`.
        region : ImageObject, optional
            The object of the plane to cut out; needed if there is an `object_crop`.

        Returns
        -------
        ndarray, shape (Y, X, C), float32
            What the normalisation is given; channels that the image lacks are zero.

        Raises
        ------
        ChannelMismatchError
            If a required channel is missing.
        ImageError
            If the pixels are not finite, or an object is given or missing where it must not be.
        """
        matched = self.match(image, mapping)
        _require(self.channels, matched, image.channels)
        cut = self.cut(image, region)
        cyx = image.to_cyx()
        size = cut.shape if self.size is None else self.size
        pixels = np.zeros((len(self.channels), *size), np.float32)
        for plane, source in zip(pixels, matched.sources, strict=True):
            if source is not None:
                seen = cut(cyx[source])
                _check_finite(seen, image)
                plane[...] = seen if size == cut.shape else resized(seen, size)
        # Each channel in one piece of memory, which what comes after is fastest on, too.
        return np.moveaxis(pixels, 0, -1)

    def pixel_size(self, image: Image) -> float | None:
        """Say how large a pixel is that the network is given of an image.

        Parameters
        ----------
        image : Image
            Any image.

        Returns
        -------
        float or None
            In micrometres; None if the image does not say how large its pixels are, or every crop
            of an object is resized by a factor of its own, or is of one size in micrometres.
        """
        sides = image.pixel_size
        if sides is None or not all(0 < side < float("inf") for side in sides):
            return None
        if self.size is not None and self.object_crop is not None:
            if self.object_crop.side is None or self.object_crop.unit == "micrometres":
                return None
        elif self.size is not None:
            (height, width), (rows, columns) = image.height_width, self.size
            sides = (
                sides[0] * height / rows * self.centre,
                sides[1] * width / columns * self.centre,
            )
        return float(np.sqrt(sides[0] * sides[1]))

    def cut(self, image: Image, region: ImageObject | None = None) -> Cut:
        """Say which pixels of an image, or of an object in it, are looked at.

        Parameters
        ----------
        image, region : optional
            As for `unnormalized`.

        Returns
        -------
        Cut
            Rows and columns, and which pixels within them are not set to zero.

        Raises
        ------
        ImageError
            If an object is given or missing where it must not be.
        """
        where = image.source or "the image"
        if region is None and self.object_crop is not None:
            raise ImageError(
                f"{where} came without objects, but this model classifies objects; give a mask or "
                "the centres of its objects"
            )
        if region is None or self.object_crop is None:
            if region is not None:
                raise ImageError(
                    f"object {region.number} of {where} was given to a model of whole images; use "
                    "a model that was trained on objects"
                )
            rows, columns = (_middle(side, self.centre) for side in image.height_width)
            return Cut(rows, columns, None)
        return cut_of(self.object_crop, region, image.height_width, image.pixel_size, where)


def central(planes: NDArray[Any], fraction: float) -> NDArray[Any]:
    """Cut the middle out of ``(C, Y, X)`` pixels; a view, of at least one pixel each way.

    Examples
    --------
    >>> central(np.zeros((3, 360, 363)), 0.7).shape
    (3, 252, 254)
    """
    rows, columns = (_middle(side, fraction) for side in planes.shape[1:])
    return planes[:, rows, columns]


def _middle(side: int, fraction: float) -> slice:
    kept = max(1, round(side * fraction))
    first = (side - kept) // 2
    return slice(first, first + kept)


def _whitened(pixels: NDArray[np.float32], image: Image, white: float) -> NDArray[np.float32]:
    """Stretch values so that the declared white is the largest of the type."""
    brightest = float(pixels.max())
    if brightest > white:
        raise ImageError(
            f"{image.source or 'the image'} declares that {white:g} is white, but holds "
            f"{brightest:g}; correct the number of bits in its header, or save it again"
        )
    return pixels * np.float32(np.iinfo(image.dtype).max / white)


def _check_finite(plane: NDArray[Any], image: Image) -> None:
    if plane.dtype.kind != "f":
        return
    rows = max(1, _CHECKED // plane.shape[1])
    with np.errstate(over="ignore"):
        # As the network will be given them.
        blocks = (plane[top : top + rows].astype(np.float32) for top in range(0, len(plane), rows))
        bad = sum(int((~np.isfinite(block)).sum()) for block in blocks)
    if bad:
        raise ImageError(
            f"{image.source or 'the image'} has {bad} pixels that are not finite numbers of 32 "
            "bits; replace or rescale them before classifying"
        )
