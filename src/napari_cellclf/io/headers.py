"""What the first bytes of an image file say, read without decoding any pixel."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

# A marker inside entropy-coded data is 0xFF and a byte other than 0 (a stuffed 0xFF), a restart
# (D0..D7) or another 0xFF (fill), ITU-T T.81 section B.1.1.
_NEXT_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
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


def sniff(head: bytes) -> str | None:
    """Tell an image format by its first bytes, whatever the file is called.

    `head`: bytes; at least the first 8 bytes of a file.
    """
    if head.startswith(PNG_MAGIC):
        return "png"
    if head.startswith(JPEG_MAGIC):
        return "jpeg"
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
