"""Small pictures of planes and objects: ranges and colours as napari shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import RGB_NAMES, Image
from napari_cellclf.core.objects import ImageObject, ObjectCrop, cut_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Percentiles that become black and white.
_LOW, _HIGH = 0.5, 99.8
#: Channels are added up on the screen: each further one leaves the others so much more room.
_HEADROOM = 0.2
#: About so many pixels of a plane are looked at for its range.
_SAMPLED_PIXELS = 16_384
#: napari's colormaps of one hue.
_HUES = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "cyan": (0, 1, 1),
    "magenta": (1, 0, 1),
    "yellow": (1, 1, 0),
}
#: What an object's surroundings keep of their brightness.
_AROUND = 0.55
#: In pixels: what is shown around a point, and around a small object.
_LEAST_SIDE = 24


def thinned(planes: NDArray[Any]) -> NDArray[Any]:
    """Leave out rows and columns of planes (..., Y, X), for statistics of their pixels."""
    height, width = planes.shape[-2:]
    step = max(1, int(np.sqrt(height * width / _SAMPLED_PIXELS)))
    few: NDArray[Any] = planes[..., ::step, ::step]
    return few


def display_range(sampled: Sequence[NDArray[Any]], n_channels: int) -> tuple[float, float]:
    """Choose what is shown black and white: the 0.5th and the 99.8th percentile.

    Where these are equal it is the range of the values, or of the type. With several channels,
    white is higher, since they are added up.
    """
    dtype = sampled[0].dtype
    white = float(np.iinfo(dtype).max) if dtype.kind in "iu" else np.inf
    # A plane that is constant is a channel that was not imaged, or an empty well.
    telling = [plane for plane in map(_finite, sampled) if plane.size and plane.min() < plane.max()]
    if telling:
        values = np.concatenate([plane.ravel() for plane in telling])
        low, high = (float(value) for value in np.percentile(values, (_LOW, _HIGH)).round(6))
        if low == high:
            low, high = float(values.min()), float(values.max())
        return low, min(low + (high - low) * (1 + _HEADROOM * (n_channels - 1)), white)
    return 0.0, white if dtype.kind in "iu" else 1.0


def _finite(plane: NDArray[Any]) -> NDArray[Any]:
    if plane.dtype.kind in "iu":
        return plane
    if plane.dtype == bool:
        return plane.astype(np.uint8)
    finite: NDArray[Any] = plane[np.isfinite(plane)]
    return finite


@dataclass(frozen=True, eq=False)
class PlaneView:
    """A plane, and how it is shown: made once for all the objects in it."""

    #: Shape (C, Y, X).
    pixels: NDArray[Any]
    #: What is black and white in each channel, shape (C, 2).
    ranges: NDArray[np.float32]
    #: Red, green and blue of each channel, shape (C, 3), 0 to 1.
    hues: NDArray[np.float32]

    @property
    def n_bytes(self) -> int:
        """How much memory it takes."""
        return int(self.pixels.nbytes)

    def thumbnail(
        self, side: int, one: ImageObject | None = None, object_side: float | None = None
    ) -> NDArray[np.uint8]:
        """Draw the plane, or an object in it with its surroundings, dimmed where it has a mask.

        `side`: of the square that is returned, shape (side, side, 3); what is not square is
        centred on black. `object_side`: of the square around an object in pixels of the image, so
        that all are shown at one scale; larger objects are shown whole.
        """
        pixels = self.pixels
        own = None
        if one is not None:
            cut = cut_of(_window(one, object_side), one, pixels.shape[1:], None, "the image")
            pixels = np.stack([cut(plane) for plane in pixels])
            own = _own_pixels(one, object_side, pixels.shape[1:])
        small = [_shrunk(plane, side) for plane in pixels]
        colours = self._composite(np.stack(small))
        if own is not None:
            colours *= np.where(_shrunk(own, side) > 0.5, 1, _AROUND)[..., None].astype(np.float32)
        return _squared((colours * 255 + 0.5).astype(np.uint8), side)

    def _composite(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        low, high = self.ranges[:, 0, None, None], self.ranges[:, 1, None, None]
        scaled = np.clip((pixels - low) / np.maximum(high - low, 1e-12), 0, 1)
        mixed = np.tensordot(scaled, self.hues, axes=(0, 0))
        return np.asarray(np.clip(np.nan_to_num(mixed), 0, 1), np.float32)


def plane_view(image: Image, colormaps: Sequence[str] = ()) -> PlaneView:
    """Choose how a plane is shown.

    `colormaps`: of each channel the name of napari's colormap; others than the six of one hue are
    shown in grey. Without, or with one channel, it is grey. RGB stays as it is.
    """
    pixels = image.to_cyx()
    if tuple(image.channels[:3]) == RGB_NAMES[:3] and len(pixels) in (3, 4):
        pixels = pixels[:3]
        return PlaneView(pixels, _rgb_ranges(pixels, image.white), np.eye(3, dtype=np.float32))
    few = thinned(pixels)
    ranges = np.array([display_range([one], len(few)) for one in few], np.float32)
    several = len(pixels) > 1
    names = [*colormaps, *[""] * len(pixels)][: len(pixels)]
    hues = [_HUES.get(name, (1, 1, 1)) if several else (1, 1, 1) for name in names]
    return PlaneView(pixels, ranges, np.array(hues, np.float32))


def _rgb_ranges(pixels: NDArray[Any], white: float | None) -> NDArray[np.float32]:
    if pixels.dtype == np.uint8:
        high = 255.0
    else:
        high = display_range([thinned(pixels)], 1)[1] if white is None else white
    return np.array([[0, high]] * 3, np.float32)


def _window(one: ImageObject, side: float | None) -> ObjectCrop:
    whole = 0 if one.box is None else max(one.box[2] - one.box[0], one.box[3] - one.box[1])
    return ObjectCrop(side=max(side or 1.5 * whole, 1.1 * whole, _LEAST_SIDE))


def _own_pixels(
    one: ImageObject, side: float | None, shape: tuple[int, ...]
) -> NDArray[np.uint8] | None:
    if one.mask is None or one.box is None:
        return None
    top, left, _, _ = _window(one, side).window(one)
    own = np.zeros(shape, np.uint8)
    y, x = one.box[0] - top, one.box[1] - left
    # The square is around the centre of mass, so that a part of a bent object may lie outside.
    inside = one.mask[max(0, -y) : shape[0] - y, max(0, -x) : shape[1] - x]
    y, x = max(0, y), max(0, x)
    own[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return own


def _shrunk(plane: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Resize a plane so that its longer side is `side`, by means of blocks where it is larger."""
    longer = max(plane.shape)
    factor = longer // side
    if factor > 1:
        # Of a block no more than four pixels each way are looked at.
        step = -(-factor // 4)
        plane = plane[::step, ::step]
        block = factor // step
        height, width = (max(1, length // block) for length in plane.shape)
        plane = plane[: height * block, : width * block]
        if min(plane.shape) >= block:
            blocks = plane.reshape(height, block, width, block)
            plane = blocks.mean(axis=(1, 3), dtype=np.float32)
    # A decoder of formats is not wanted here, only its resizing in C.
    from PIL import Image as Picture

    scale = side / max(plane.shape)
    height, width = (max(1, round(length * scale)) for length in plane.shape)
    picture = Picture.fromarray(np.ascontiguousarray(plane, np.float32))
    resized = picture.resize((width, height), Picture.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def _squared(colours: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = colours.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = colours
    return square
