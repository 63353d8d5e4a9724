"""PNG and JPEG files: what their headers declare, whether they are complete, and their pixels."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import UnreadableImageError
from napari_cellclf.io.colours import exif_orientation, upright, white_of
from napari_cellclf.io.decoding import check_declared, decoding
from napari_cellclf.io.memory import AnyFile, read_head, read_whole, size_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Pillow is not used: it decodes 16-bit RGB PNG to 8 bits, and its guard against huge images is
# one global number for the whole process.

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
BMP_MAGIC = b"BM"
#: Lengths of the header that follows, from Windows 3.1 to 98.
_BMP_HEADERS = frozenset(size.to_bytes(4, "little") for size in (40, 52, 56, 108, 124))
TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# A marker inside entropy-coded data is 0xFF and a byte other than 0 (a stuffed 0xFF), a restart
# (D0..D7) or another 0xFF (fill), ITU-T T.81 section B.1.1.
_NEXT_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_APP1 = 0xE1
#: Each scan is a walk over all pixels, though it may take ten bytes only; the longest progressive
#: scripts in use have a dozen.
_MOST_SCANS = 100
#: A colour profile and an extended preview take a few hundred.
_MOST_SEGMENTS = 10_000
# Colour types of PNG (ISO/IEC 15948 table 11.1) and the samples a decoder gives for each.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
#: Chunks from which pixels are decoded. Others are texts and profiles, compressed ones among them,
#: which a decoder would inflate a thousand times over.
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
#: Bytes of a PNG from which at most half a GiB can be inflated, in half a second.
_SMALL_PNG = 2**19
#: Of a larger one, how many bytes are looked at, and how often.
_SAMPLE, _SAMPLED_EVERY = 2**11, 2**18
_INFLATED_AT_ONCE = 2**20


def read_png(path: AnyFile, limit_bytes: int) -> Image:
    """Read a PNG file.

    `limit_bytes`: bytes of decoded pixels allowed. Returns ``"YX"`` (grey) or ``"YXS"`` (grey and
    alpha, RGB, RGBA), uint8 or uint16. Palettes become RGB; 1, 2 and 4 bits are spread over 0..255.
    """
    with decoding(path):
        import imagecodecs

        header = read_raster_header(path, "png", limit_bytes)
        data = read_whole(path)
        needed = png_pixels(data)
        if needed is None:
            raise _cut_short(path, len(data))
        orientation = exif_orientation(_png_exif(data))
        # Beside the pixels of a large image only one copy of its file.
        del data
        if png_goes_on(needed, header):
            raise UnreadableImageError(
                f"{path}: its data go on behind its last pixel; it is damaged or hostile, save the "
                "image again"
            )
        pixels = imagecodecs.png_decode(needed)
    return _image(pixels, header, orientation, path)


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
        data = read_whole(path)
        if not jpeg_is_complete(data):
            raise _cut_short(path, len(data))
        pixels = imagecodecs.jpeg8_decode(data)
        orientation = exif_orientation(_jpeg_exif(data))
    return _image(pixels, header, orientation, path)


def read_raster_header(path: AnyFile, kind: str, limit_bytes: int) -> RasterHeader:
    """Read the declared size of a PNG or JPEG file and hold it against the limit.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    with decoding(path):
        # A JPEG's size may stand behind an embedded preview and colour profiles.
        head = read_head(path, 33 if kind == "png" else 2**20)
        header = png_header(head) if kind == "png" else jpeg_header(head)
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


def _image(pixels: NDArray[Any], header: RasterHeader, orientation: int, path: AnyFile) -> Image:
    if pixels.shape[:2] != (header.height, header.width):
        raise UnreadableImageError(
            f"{path}: declares {header.height}x{header.width} pixels, but holds "
            f"{'x'.join(map(str, pixels.shape))}; it is damaged, copy it again"
        )
    axes = "YX" if pixels.ndim == 2 else "YXS"
    names = ("grey", "alpha") if pixels.shape[2:] == (2,) else ()
    pixels = upright(pixels, axes, orientation)
    return Image(pixels, axes, names, white=header.white, source=str(path))


@dataclass(frozen=True)
class RasterHeader:
    """Size of a PNG or JPEG image as its header declares it.

    `height`, `width`: in pixels.
    """

    height: int
    width: int
    #: Values for each pixel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA or (JPEG) CMYK.
    samples: int
    #: Of each value.
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded array, grey without an axis of samples."""
        plane = (self.height, self.width)
        return plane if self.samples == 1 else (*plane, self.samples)

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """Type of the decoded array."""
        return np.dtype(np.uint16) if self.bits > 8 else np.dtype(np.uint8)

    @property
    def white(self) -> float | None:
        """The value that is white, if it is not the largest of the type; decoders fill 8 bits."""
        return white_of(self.bits, self.dtype) if self.bits > 8 else None


def sniff(head: bytes) -> str | None:
    """Tell an image format by its first bytes, whatever the file is called.

    `head`: bytes; at least the first 18 bytes of a file.
    """
    if head.startswith(PNG_MAGIC):
        return "png"
    if head.startswith(JPEG_MAGIC):
        return "jpeg"
    if head.startswith(BMP_MAGIC) and head[14:18] in _BMP_HEADERS:
        return "bmp"
    return "tiff" if head[:4] in TIFF_MAGICS else None


def png_header(data: bytes) -> RasterHeader:
    """Read the size of a PNG image.

    `data`: bytes; the file, or at least its first 33 bytes.
    """
    if len(data) < 33 or not data.startswith(PNG_MAGIC) or data[12:16] != b"IHDR":
        raise ValueError("the PNG header is incomplete")
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if colour not in _PNG_SAMPLES:
        raise ValueError(f"the PNG header names colour type {colour}, which does not exist")
    depth = 8 if colour == 3 else bits
    return RasterHeader(height, width, _PNG_SAMPLES[colour], depth)


def png_is_complete(data: bytes) -> bool:
    """Whether the chunks of a PNG file go on to its end mark.

    `data`: bytes; the file.
    """
    return png_pixels(data) is not None


def png_pixels(data: bytes) -> bytes | None:
    """Leave out of a PNG file whatever its pixels do not need.

    `data`: bytes; the file. Returns the same file without texts, profiles and the like; None where
    it was cut short.
    """
    kept = []
    start, position = 0, len(PNG_MAGIC)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + int(length)
        if kind not in _PNG_PIXELS:
            kept.append(data[start:position])
            start = end
        if kind == b"IEND":
            return b"".join((*kept, data[start:end])) if end <= len(data) else None
        position = end
    return None


def png_goes_on(data: bytes, header: RasterHeader) -> bool:
    """Whether the data of a PNG file go on for long behind its last pixel.

    A decoder would inflate all of it, up to a thousand times its size. Inflating it here as well
    would take long for honest files, whose compressed data cannot be compressed any further: so it
    is done only where they can, or where they are more than pixels could ever need.

    `data`: bytes; the file, as `png_pixels` returns it.
    """
    if len(data) < _SMALL_PNG:
        return False
    # Each row has one byte more; Adam7's seven passes have a few rows more than the image.
    row = -(-header.width * header.samples * header.bits // 8) + 1
    most = 2 * (row + 8) * (header.height + 8)
    if len(data) <= most + _SMALL_PNG and not _can_be_compressed(data):
        return False
    inflater, inflated = zlib.decompressobj(), 0
    for part in _png_image_data(data):
        rest = part
        while rest and inflated <= most:
            inflated += len(inflater.decompress(rest, _INFLATED_AT_ONCE))
            rest = inflater.unconsumed_tail
    return inflated > most


def _can_be_compressed(data: bytes) -> bool:
    """Whether some place in a file is so regular that far more than pixels may come of it."""
    places = (data[at : at + _SAMPLE] for at in range(0, len(data), _SAMPLED_EVERY))
    return any(len(zlib.compress(one, 1)) < len(one) // 2 for one in places)


def _png_image_data(data: bytes) -> Iterator[bytes]:
    position = len(PNG_MAGIC)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            yield data[position + 8 : position + 8 + int(length)]
        position += 12 + int(length)


def _png_exif(data: bytes) -> bytes:
    position = len(PNG_MAGIC)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + int(length)]
        position += 12 + int(length)
    return b""


def _jpeg_exif(data: bytes) -> bytes:
    for marker, start, end in _jpeg_segments(data):
        if marker == _APP1 and data[start : start + 6] == b"Exif\0\0":
            return data[start:end]
        if marker == _START_OF_SCAN:
            break
    return b""


def jpeg_header(data: bytes) -> RasterHeader:
    """Read the size of a JPEG image.

    `data`: bytes; the file, or a JPEG stream from inside a TIFF.
    """
    for marker, start, _ in _jpeg_segments(data):
        if marker in _START_OF_FRAME:
            bits, height, width, samples = struct.unpack(">BHHB", data[start : start + 6])
            return RasterHeader(height, width, samples, bits)
        if marker == _START_OF_SCAN:
            break
    raise ValueError("the JPEG header is incomplete")


def jpeg_is_complete(data: bytes) -> bool:
    """Whether a JPEG file goes on to its end mark.

    Decoders fill what is missing with grey, so that a file cut short looks like an image.

    `data`: bytes; the file.
    """
    return any(marker == _END_OF_IMAGE for marker, _, _ in _jpeg_segments(data))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Go over marker, start and end of the segments of a JPEG stream, as far as it goes."""
    segments = scans = 0
    position = 2
    while (match := _NEXT_MARKER.search(data, position)) is not None:
        marker, start = match.group(1)[0], match.end()
        if marker == _END_OF_IMAGE:
            yield marker, start, start
            return
        if start + 2 > len(data):
            return
        end = start + int.from_bytes(data[start : start + 2], "big")
        if end > len(data):
            return
        segments += 1
        scans += marker == _START_OF_SCAN
        if segments > _MOST_SEGMENTS or scans > _MOST_SCANS:
            raise ValueError(f"over {_MOST_SCANS} scans or {_MOST_SEGMENTS} segments, too many")
        yield marker, start + 2, end
        position = end
