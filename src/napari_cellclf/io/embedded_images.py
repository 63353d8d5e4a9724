"""How large the images are that lie in the strips and tiles of a TIFF file, by their own headers.

A decoder believes these headers more than the TIFF's, and makes room for what they declare. So one
that declares more than its strip or tile has room for, or does not tell, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_cellclf.errors import ImageTooLargeError, UnreadableImageError
from napari_cellclf.io.raster import PNG_MAGIC, jpeg_header, png_header

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

    from napari_cellclf.io.memory import AnyFile

#: How much of a strip or tile is looked at first.
_HEAD_BYTES = 4096
#: Values beyond those of a strip or tile that its image may have: encoders round sides up.
_ROUNDED_UP = 2**16
#: No compression, CCITT's, LZW, deflate, LZMA, PackBits, Zstandard, and those of electron
#: microscopes: their decoders make room for what the TIFF declares, and for nothing else.
_PLAIN = {1, 2, 3, 4, 5, 8, 32771, 32773, 32946, 34925, 34926, 50000, 65000, 65001, 65002}
#: Start of a JPEG 2000 code stream: SOC and SIZ markers (ISO/IEC 15444-1 annex A).
_JPEG2000 = b"\xff\x4f\xff\x51"
#: Start of a JPEG XR code stream (ITU-T T.832, 8.3.1).
_JPEG_XR = b"WMPHOTO\0"
_SHORT_HEADER = 0x80


def check_embedded(
    segments: list[tuple[int, int]], keyframe: TiffPage, tif: TiffFile, path: AnyFile
) -> None:
    """Hold images in strips and tiles, given as start and length, against the room for them."""
    compression = int(keyframe.compression)
    if compression in _PLAIN:
        return
    declares = _DECLARED.get(compression)
    room = math.prod(keyframe.chunks)
    for start, count in segments:
        declared = None if declares is None else _declared(declares, start, count, tif)
        if not declared or declared < 0:
            name = getattr(keyframe.compression, "name", compression)
            raise UnreadableImageError(
                f"{path}: it is compressed as {name}, in a way that does not tell how large it is; "
                "save it again with LZW or deflate"
            )
        if declared > room + room // 4 + _ROUNDED_UP:
            raise ImageTooLargeError(
                f"{path}: a compressed part declares {declared} values where the image has room "
                f"for {room}; the file is damaged or hostile, do not use it"
            )


def _declared(declares: _Declares, start: int, count: int, tif: TiffFile) -> int | None:
    """Return how many values a strip or tile declares; None if it does not say."""
    handle = tif.filehandle
    handle.seek(start)
    data = handle.read(min(count, _HEAD_BYTES))
    found = declares(data, count <= _HEAD_BYTES)
    if found is None and count > _HEAD_BYTES:
        found = declares(data + handle.read(count - len(data)), True)
    return found


#: Given the first bytes, or all of them, to the number of values; None if these do not tell.
_Declares = Callable[[bytes, bool], "int | None"]


def _jpeg(data: bytes, whole: bool) -> int | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        return math.prod(jpeg_header(data).shape)
    except ValueError:
        return None


def _png(data: bytes, whole: bool) -> int | None:
    if not data.startswith(PNG_MAGIC):
        return None
    try:
        return math.prod(png_header(data).shape)
    except ValueError:
        return None


def _jpeg_2000(data: bytes, whole: bool) -> int | None:
    if data.startswith(_JPEG2000):
        return _jpeg_2000_at(data, 0)
    # In a container, any place may be where the decoder finds its stream.
    places = _places(data, _JPEG2000) if whole else []
    return max((_jpeg_2000_at(data, at) for at in places), default=None)


def _jpeg_2000_at(data: bytes, start: int) -> int:
    width, height, left, top = (_big(data, start + at, 4) for at in (8, 12, 16, 20))
    components = _big(data, start + 40, 2)
    return (width - left) * (height - top) * components


def _jpeg_xr(data: bytes, whole: bool) -> int | None:
    if not whole:
        return None
    return max((_jpeg_xr_at(data, at) for at in _places(data, _JPEG_XR)), default=None)


def _jpeg_xr_at(data: bytes, start: int) -> int:
    size = 2 if data[start + 10 : start + 11] >= bytes([_SHORT_HEADER]) else 4
    width, height = (_big(data, start + 12 + at, size) + 1 for at in (0, size))
    return width * height


def _webp(data: bytes, whole: bool) -> int | None:
    """Read the size of a WebP image (RFC 9649); of at most four values a pixel."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return None
    if kind == b"VP8 ":
        sides = [int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (6, 8)]
    elif kind == b"VP8L":
        packed = int.from_bytes(head[1:5], "little")
        sides = [(packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1]
    elif kind == b"VP8X":
        sides = [int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7)]
    else:
        return None
    return 3 * sides[0] * sides[1]


def _places(data: bytes, mark: bytes) -> list[int]:
    places = []
    at = data.find(mark)
    while at >= 0:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


def _big(data: bytes, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "big")


_DECLARED: dict[int, _Declares] = {
    **dict.fromkeys((6, 7, 33007, 34892), _jpeg),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg_2000),
    **dict.fromkeys((22610, 34934), _jpeg_xr),
    34933: _png,
    50001: _webp,
}
