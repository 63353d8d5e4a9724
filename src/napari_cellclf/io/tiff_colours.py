"""From the numbers in a TIFF file to what its tags say that they mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import UnreadableImageError
from napari_cellclf.io.colours import (
    ORIENTATION,
    cmyk_to_rgb,
    inverted,
    is_ramp,
    lab_to_rgb,
    palette_to_rgb,
    upright,
    white_of,
    ycbcr_to_rgb,
)
from napari_cellclf.io.memory import AnyFile

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage

# Values of PhotometricInterpretation (TIFF 6.0, DNG 1.7).
_WHITE_IS_ZERO, _PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB = 0, 3, 5, 6, 8, 9
_AS_STORED = {1, 2, 4, 34892, 51177}
_NAMES = {10: "ITU L*a*b*", 32803: "raw mosaic of a camera", 32844: "LogL", 32845: "LogLuv"}
#: Compressions after which the numbers are as they were: none, LZW, deflate, PackBits, LZMA, Zstd.
_EXACT = {1, 5, 8, 32773, 32946, 34925, 50000}
#: Those of JPEG, whose decoder gives RGB for YCbCr.
JPEG = {6, 7, 33007, 34892}
#: Where ReferenceBlackWhite is not given, for 8 bits (TIFF 6.0 section 21, and what programs do).
_FULL_RANGE = (0, 255, 128, 255, 128, 255)
_LUMA = (0.299, 0.587, 0.114)
_ALPHA = {1, 2}
_PREMULTIPLIED = 1


@dataclass(frozen=True)
class Decoded:
    """Pixels and what is known of them."""

    pixels: NDArray[Any]
    axes: str
    #: The value that is white, if it is not the type's largest.
    white: float | None = None
    #: Names of the samples, if they are not red, green and blue.
    channels: tuple[str, ...] = ()


def orientation_of(page: TiffPage) -> int:
    """Return how the page is turned, 1 if it is upright."""
    return int(page.tags.valueof(ORIENTATION, default=1) or 1)


def declared_white(page: TiffPage, significant_bits: int | None) -> float | None:
    """Return the value that is white, if a page or its OME header declares it to be lower.

    A range that a picture is shown in, such as ImageJ's, declares nothing about its bits.
    """
    dtype = np.dtype(page.dtype)
    bits = page.bitspersample if significant_bits is None else significant_bits
    return white_of(min(bits, page.bitspersample), dtype)


def declared_as_seen(
    axes: str, shape: tuple[int, ...], page: TiffPage, tif: TiffFile
) -> tuple[str, tuple[int, ...], np.dtype[Any]]:
    """Return axes, shape and type of what `as_seen` makes of a page's numbers."""
    dtype = np.dtype(page.dtype).newbyteorder("=")
    sizes = dict(zip(axes, shape, strict=True))
    if orientation_of(page) >= 5 and {"Y", "X"} <= sizes.keys():
        sizes["Y"], sizes["X"] = sizes["X"], sizes["Y"]
    photometric = _photometric(page)
    if photometric == _PALETTE and _is_looked_up(page, tif):
        sizes, dtype = sizes | {"S": 3}, np.dtype(np.uint8)
    elif "S" in sizes and _is_converted(page, photometric):
        sizes = {letter: size for letter, size in sizes.items() if letter != "S"} | {"S": 3}
    return "".join(sizes), tuple(sizes.values()), dtype


def as_seen(found: Decoded, page: TiffPage, tif: TiffFile, path: AnyFile) -> Decoded:
    """Turn decoded numbers into what a viewer shows: colours, white as the highest, upright."""
    turned = orientation_of(page)
    coloured = _coloured(found, page, tif, path)
    pixels = upright(coloured.pixels, coloured.axes, turned)
    return replace(coloured, pixels=pixels)


def _coloured(found: Decoded, page: TiffPage, tif: TiffFile, path: AnyFile) -> Decoded:
    photometric = _photometric(page)
    _check_alpha(found, page, path)
    if photometric == _WHITE_IS_ZERO:
        return _white_first(found, tif, path)
    if photometric == _PALETTE:
        return _looked_up(found, page, tif)
    if photometric in _AS_STORED:
        grey = "S" in found.axes and photometric == 1 and page.samplesperpixel == 2
        is_alpha = bool(set(page.extrasamples) & _ALPHA)
        return replace(found, channels=("grey", "alpha")) if grey and is_alpha else found
    name = _NAMES.get(photometric) or getattr(page.photometric, "name", str(photometric))
    samples = found.pixels.shape[found.axes.index("S")] if "S" in found.axes else 1
    wanted = 4 if photometric == _CMYK else 3
    convertible = photometric in {_CMYK, _YCBCR, _CIELAB, _ICCLAB} and (
        samples == wanted and found.pixels.dtype in ("uint8", "uint16") and found.white is None
    )
    if not convertible or not _is_exact(page, photometric):
        raise UnreadableImageError(
            f"{path}: its colours are {name} ({samples} samples, {found.pixels.dtype}, compression "
            f"{page.compression}), which cannot be converted; save it as RGB or grey"
        )
    if not _is_converted(page, photometric):
        return found
    last = np.moveaxis(found.pixels, found.axes.index("S"), -1)
    axes = found.axes.replace("S", "") + "S"
    return Decoded(_to_rgb(last, photometric, page), axes)


def _photometric(page: TiffPage) -> int:
    return int(page.photometric) if "PhotometricInterpretation" in page.tags else 1


def _is_converted(page: TiffPage, photometric: int) -> bool:
    done = photometric == _YCBCR and page.compression in JPEG and page.planarconfig == 1
    return photometric in {_CMYK, _YCBCR, _CIELAB, _ICCLAB} and not done


def _is_exact(page: TiffPage, photometric: int) -> bool:
    jpeg_colours = photometric == _YCBCR and page.compression in JPEG and not page.extrasamples
    return page.compression in _EXACT or jpeg_colours


def _to_rgb(pixels: NDArray[Any], photometric: int, page: TiffPage) -> NDArray[Any]:
    if photometric == _CMYK:
        return cmyk_to_rgb(pixels)
    if photometric != _YCBCR:
        return lab_to_rgb(pixels, "cie" if photometric == _CIELAB else "icc")
    luma = page.tags.valueof("YCbCrCoefficients")
    wide = 257 if pixels.dtype.itemsize == 2 else 1
    reference = page.tags.valueof("ReferenceBlackWhite")
    return ycbcr_to_rgb(
        pixels,
        _LUMA if luma is None else _ratios(luma),
        [value * wide for value in _FULL_RANGE] if reference is None else _ratios(reference),
    )


def _ratios(values: tuple[int, ...]) -> list[float]:
    return [a / b for a, b in zip(values[::2], values[1::2], strict=True)]


def _white_first(found: Decoded, tif: TiffFile, path: AnyFile) -> Decoded:
    # tifffile writes masks under this name without turning them around.
    if found.pixels.dtype == bool and tif.is_shaped:
        return found
    if found.pixels.dtype.kind not in "bu":
        raise UnreadableImageError(
            f"{path}: declares that 0 is white, but holds {found.pixels.dtype}, which have no "
            "known black; save it as unsigned integers, or with 0 as black"
        )
    return replace(found, pixels=inverted(found.pixels, found.white))


def _looked_up(found: Decoded, page: TiffPage, tif: TiffFile) -> Decoded:
    """Give the colours of a palette, but measurements where a microscope shows them in one."""
    if page.colormap is None or not _is_looked_up(page, tif):
        return found
    if found.pixels.max(initial=0) >= page.colormap.shape[1]:
        raise ValueError("a pixel has a colour that is not in the palette")
    return Decoded(palette_to_rgb(found.pixels, page.colormap), found.axes + "S")


def _is_looked_up(page: TiffPage, tif: TiffFile) -> bool:
    measured = tif.is_imagej or tif.is_ome or tif.is_stk or tif.is_lsm
    return page.colormap is not None and not measured and not is_ramp(page.colormap)


def _check_alpha(found: Decoded, page: TiffPage, path: AnyFile) -> None:
    if page.extrasamples[:1] != (_PREMULTIPLIED,) or "S" not in found.axes:
        return
    alpha = np.take(found.pixels, -1, axis=found.axes.index("S"))
    top = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    if (alpha != top).any():
        raise UnreadableImageError(
            f"{path}: its colours are multiplied by their transparency (associated alpha); save it "
            "without transparency"
        )
