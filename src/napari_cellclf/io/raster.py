"""Read PNG and JPEG files, exactly: 16-bit RGB keeps its 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import UnreadableImageError
from napari_cellclf.io import headers
from napari_cellclf.io.decoding import decoding
from napari_cellclf.io.limits import check_declared
from napari_cellclf.io.memory import AnyFile, read_head, size_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pillow is not used: it decodes 16-bit RGB PNG to 8 bits, and its guard against huge images is
# one global number for the whole process.


def read_png(path: AnyFile, limit_bytes: int) -> Image:
    """Read a PNG file.

    `limit_bytes`: bytes of decoded pixels allowed. Returns ``"YX"`` (grey) or ``"YXS"`` (grey and
    alpha, RGB, RGBA), uint8 or uint16. Palettes become RGB; 1, 2 and 4 bits are spread over 0..255.
    """
    with decoding(path):
        import imagecodecs

        header = read_raster_header(path, "png", limit_bytes)
        data = path.read_bytes()
        needed = headers.png_pixels(data)
        if needed is None:
            raise _cut_short(path, len(data))
        pixels = imagecodecs.png_decode(needed)
    return _image(pixels, header, path)


def read_jpeg(path: AnyFile, limit_bytes: int) -> Image:
    """Read a JPEG file.

    `limit_bytes`: bytes of decoded pixels allowed. Returns ``"YX"`` (grey) or ``"YXS"`` (RGB),
    uint8 (uint16 for 12-bit files).
    """
    with decoding(path):
        import imagecodecs

        header = read_raster_header(path, "jpeg", limit_bytes)
        if header.samples == 4:
            raise UnreadableImageError(
                f"{path}: a JPEG of four printing colours (CMYK) is not a microscopy image; "
                "convert it to RGB"
            )
        data = path.read_bytes()
        if not headers.jpeg_is_complete(data):
            raise _cut_short(path, len(data))
        pixels = imagecodecs.jpeg8_decode(data)
    return _image(pixels, header, path)


def read_raster_header(path: AnyFile, kind: str, limit_bytes: int) -> headers.RasterHeader:
    """Read the declared size of a PNG or JPEG file and hold it against the limit.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    with decoding(path):
        # A JPEG's size may stand behind an embedded preview and colour profiles.
        head = read_head(path, 33 if kind == "png" else 2**20)
        header = headers.png_header(head) if kind == "png" else headers.jpeg_header(head)
        check_declared(path, header.shape, header.dtype, limit_bytes)
        check_declared(path, (size_of(path),), np.dtype(np.uint8), limit_bytes)
        if 0 in header.shape:
            raise ValueError(f"the header declares a shape of {header.shape}")
    return header


def _cut_short(path: AnyFile, size: int) -> UnreadableImageError:
    return UnreadableImageError(
        f"{path}: the file ends after {size} bytes, before its end mark; it was truncated, copy "
        "it again"
    )


def _image(pixels: NDArray[Any], header: headers.RasterHeader, path: AnyFile) -> Image:
    if pixels.shape[:2] != (header.height, header.width):
        raise UnreadableImageError(
            f"{path}: declares {header.height}x{header.width} pixels, but holds "
            f"{'x'.join(map(str, pixels.shape))}; it is damaged, copy it again"
        )
    axes = "YX" if pixels.ndim == 2 else "YXS"
    names = ("grey", "alpha") if pixels.shape[2:] == (2,) else ()
    return Image(pixels, axes, names, source=str(path))
