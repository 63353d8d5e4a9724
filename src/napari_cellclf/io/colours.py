"""What the decoded numbers of a file mean: which is white, which colours, and which side is up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cellclf.io.decoding import DECODER_ERRORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Convert = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]

#: Tag of TIFF and EXIF.
ORIENTATION = 274
#: Which axes are flipped for each value of the tag, after those from 5 on were transposed.
_FLIPS = {1: "", 2: "X", 3: "YX", 4: "Y", 5: "", 6: "X", 7: "YX", 8: "Y"}
#: Pixels that are converted at a time, so that a large image takes little memory beside its own.
_BLOCK_PIXELS = 2**20
#: From the white of print (D50) to that of screens (D65), Bradford's method as in ICC.1:2010 E.3.
_TO_D65 = np.array(
    [
        [0.9555766, -0.0230393, 0.0631636],
        [-0.0282895, 1.0099416, 0.0210077],
        [0.0122982, -0.0204830, 1.3299098],
    ]
)
#: X, Y and Z of the white of print.
_D50 = np.array([0.9642, 1.0, 0.8249])


def white_of(bits: int, dtype: np.dtype[Any]) -> float | None:
    """Return the value that is white where a file declares fewer bits than its type has.

    Examples
    --------
    >>> white_of(12, np.dtype("uint16")), white_of(16, np.dtype("uint16"))
    (4095.0, None)
    """
    if dtype.kind != "u" or not 0 < bits < 8 * dtype.itemsize:
        return None
    return float(2**bits - 1)


def upright(pixels: NDArray[Any], axes: str, orientation: int) -> NDArray[Any]:
    """Turn pixels as the orientation tag of TIFF and EXIF says; a view of them.

    Examples
    --------
    >>> upright(np.array([[1, 2, 3]]), "YX", 6).tolist()
    [[1], [2], [3]]
    """
    if orientation == 1:
        return pixels
    y, x = axes.index("Y"), axes.index("X")
    if orientation >= 5:
        pixels = np.swapaxes(pixels, y, x)
    flipped = _FLIPS.get(orientation, "")
    return np.flip(pixels, tuple(axes.index(letter) for letter in flipped))


def exif_orientation(exif: bytes) -> int:
    """Return what EXIF data say; 1 where they cannot be read, as viewers do."""
    from PIL import Image

    read = Image.Exif()
    try:
        read.load(exif)
        found = read.get(ORIENTATION, 1)
    except DECODER_ERRORS:
        return 1
    return found if found in _FLIPS else 1


def inverted(pixels: NDArray[Any], white: float | None) -> NDArray[Any]:
    """Turn integers of which 0 is white around, in place."""
    if pixels.dtype == bool:
        pixels ^= True
        return pixels
    top = np.iinfo(pixels.dtype).max if white is None else int(white)
    np.subtract(pixels.dtype.type(top), pixels, out=pixels)
    return pixels


def cmyk_to_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """Convert printing inks, last axis, to colours: what each ink leaves of the light."""
    return _converted(pixels, lambda inks: (1 - inks[..., :3]) * (1 - inks[..., 3:4]))


def lab_to_rgb(pixels: NDArray[Any], kind: Literal["cie", "icc"]) -> NDArray[Any]:
    """Convert CIE L*a*b* under the white of print, last axis, to colours of screens (sRGB)."""
    from skimage.color import xyz2rgb

    # 16 bits are 8 before and 8 behind the point (TIFF 6.0 section 23, ICC.1 section 6.3.4).
    wide = pixels.dtype.itemsize == 2
    top = 65280 if wide and kind == "icc" else np.iinfo(pixels.dtype).max
    unit = 256 if wide else 1

    def convert(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        stored = scaled.astype(np.float64) * np.iinfo(pixels.dtype).max
        colours = stored[..., 1:] / unit
        colours = (
            colours - 128 if kind == "icc" else np.where(colours > 127.5, colours - 256, colours)
        )
        fy = (stored[..., 0] / top * 100 + 16) / 116
        f = np.stack([fy + colours[..., 0] / 500, fy, fy - colours[..., 1] / 200], axis=-1)
        xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
        return np.asarray(xyz2rgb(xyz @ _TO_D65.T), np.float32)

    return _converted(pixels, convert)


def ycbcr_to_rgb(
    pixels: NDArray[Any], luma: Sequence[float], reference: Sequence[float]
) -> NDArray[Any]:
    """Convert brightness and two colour differences, last axis, to colours.

    `luma`, `reference`: the values of the tags YCbCrCoefficients and ReferenceBlackWhite.
    """
    red, green, blue = luma
    full = float(np.iinfo(pixels.dtype).max)
    black = np.array(reference[::2], np.float32) / full
    span = np.array(reference[1::2], np.float32) / full - black
    # Colour differences reach half as far as brightness (TIFF 6.0 section 21).
    span[1:] *= 2

    def convert(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        y, cb, cr = np.moveaxis((scaled - black) / span, -1, 0)
        r, b = cr * (2 - 2 * red) + y, cb * (2 - 2 * blue) + y
        return np.stack([r, (y - blue * b - red * r) / green, b], axis=-1)

    return _converted(pixels, convert)


def palette_to_rgb(pixels: NDArray[Any], palette: NDArray[Any]) -> NDArray[np.uint8]:
    """Look colours up; `palette`: shape (3, N), 16 bits."""
    # Some programs write 8 bits where the format wants 16.
    colours = palette if palette.max() < 256 else palette >> 8
    # Bits would be taken for a mask.
    indices = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    return np.asarray(colours.T.astype(np.uint8)[indices])


def is_ramp(palette: NDArray[Any]) -> bool:
    """Whether a palette only tints brightness, as microscopes show a stain: black to one colour."""
    steps = np.diff(palette.astype(np.int64), axis=1)
    tinted = not np.array_equal(palette[0], palette[1]) or not np.array_equal(
        palette[1], palette[2]
    )
    return bool(tinted and (steps >= 0).all() and palette[:, 0].max() == 0 and steps.any())


def _converted(pixels: NDArray[Any], convert: Convert) -> NDArray[Any]:
    """Convert integers, scaled to 0..1, block by block; (..., Y, X, samples)."""
    full = np.float32(np.iinfo(pixels.dtype).max)
    out = np.empty((*pixels.shape[:-1], 3), pixels.dtype)
    step = max(1, _BLOCK_PIXELS // pixels.shape[-2])
    for plane in np.ndindex(pixels.shape[:-3]):
        for top in range(0, pixels.shape[-3], step):
            rows = (*plane, slice(top, top + step))
            colours = np.clip(convert(pixels[rows] / full), 0, 1)
            out[rows] = np.rint(colours * full)
    return out
