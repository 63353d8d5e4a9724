"""BMP files, as old cameras and Windows save them."""

from __future__ import annotations

import struct

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import UnreadableImageError
from napari_cellclf.io.decoding import check_declared, decoding
from napari_cellclf.io.memory import AnyFile, read_head, read_whole, size_of
from napari_cellclf.io.raster import RasterHeader

#: File header, the longest image header, two masks more than it needs, and a palette.
_HEAD = 14 + 124 + 16 + 4 * 256
#: Pixels as they are, or with masks that say where each colour is.
_PLAIN = (0, 3)


def read_bmp(path: AnyFile, limit_bytes: int) -> Image:
    """Read a BMP file without compression.

    `limit_bytes`: bytes of decoded pixels allowed. Returns ``"YX"`` (palettes of greys) or
    ``"YXS"`` (RGB), uint8.
    """
    header = read_bmp_header(path, limit_bytes)
    with decoding(path):
        import imagecodecs

        pixels = imagecodecs.bmp_decode(read_whole(path))
        if pixels.shape[:2] != header.shape[:2]:
            raise ValueError(f"the header declares {header.shape}, the file holds {pixels.shape}")
    if header.samples == 1:
        # Greys of a palette may come as three equal colours.
        return Image(pixels if pixels.ndim == 2 else pixels[..., 0], "YX", source=str(path))
    return Image(pixels[..., :3], "YXS", source=str(path))


def read_bmp_header(path: AnyFile, limit_bytes: int) -> RasterHeader:
    """Read the declared size of a BMP file and hold it against the limit.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    with decoding(path):
        head = read_head(path, _HEAD)
        if len(head) < 54:
            raise ValueError("the BMP header is incomplete")
        start, size, width, height, _, bits, kind = struct.unpack_from("<IIiiHHI", head, 10)
        if kind not in _PLAIN:
            raise UnreadableImageError(
                f"{path}: a compressed BMP is not read; save it as TIFF or PNG"
            )
        palette = np.frombuffer(head[14 + size : min(start, len(head))], np.uint8)
        colours = palette[: len(palette) // 4 * 4].reshape(-1, 4)[:, :3]
        grey = bits <= 8 and bool((colours == colours[:, :1]).all())
        header = RasterHeader(abs(height), width, 1 if grey else 3, 8)
        check_declared(path, (abs(height), width, 3), header.dtype, limit_bytes)
        if 0 in header.shape or width < 0:
            raise ValueError(f"the header declares a shape of {header.shape}")
        # Rows end at whole words of 32 bits.
        needed = start + abs(height) * ((width * bits + 31) // 32 * 4)
        if size_of(path) < needed:
            raise UnreadableImageError(
                f"{path}: the file ends after {size_of(path)} of {needed} bytes; it was "
                "truncated, copy it again"
            )
    return header
