"""What is checked of a TIFF file before anything of it is decoded: sizes, completeness, codecs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import ImageTooLargeError, UnreadableImageError
from napari_cellclf.io.decoding import check_declared, check_tile, human_bytes
from napari_cellclf.io.embedded_images import check_embedded
from napari_cellclf.io.memory import AnyFile
from napari_cellclf.io.raster import (
    PNG_MAGIC,
    jpeg_is_complete,
    png_goes_on,
    png_header,
    png_pixels,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

_LZW = 5
#: JPEG, in the numbers that it has had, and PNG.
_EMBEDDED = {6, 7, 33007, 34892, 34933}
#: What a file that somebody sent may bring beside its pixels: tifffile takes a millisecond for each
#: page, and longer for a header's entries, whatever of them is used.
_SENT_PAGES = 1024
_SENT_HEADER_BYTES = 2**22
_CLEAR, _END = 256, 257
#: How many codes after a Clear code have 9, 10 and 11 bits; all others have 12.
_WIDTHS = np.repeat(np.array([9, 10, 11, 12]), [254, 512, 1024, 2400])
_OFFSETS = np.concatenate([[0], np.cumsum(_WIDTHS)])
#: Encoders clear the table when it is full, about every 5 kB. Many more Clear codes than that are
#: not the work of an encoder, and would take long to check.
_BYTES_A_CLEAR = 1024


def check_sent(tif: TiffFile, path: AnyFile) -> None:
    """Check how much there is to read in a file that somebody sent, before it is looked through."""
    if len(tif.pages) > _SENT_PAGES:
        raise ImageTooLargeError(
            f"{path} has {len(tif.pages)} pages; send at most {_SENT_PAGES} at a time"
        )
    header = len(tif.pages.first.description)
    if header > _SENT_HEADER_BYTES:
        raise ImageTooLargeError(
            f"{path} has a header of {human_bytes(header)}; send at most "
            f"{human_bytes(_SENT_HEADER_BYTES)}, or save the image without it"
        )


def check_series(
    series: TiffPageSeries, number: int, tif: TiffFile, path: AnyFile, limit_bytes: int
) -> None:
    """Check the series of a number before any of its pixels are decoded.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    dtype = np.dtype(series.dtype)
    check_declared(path, series.shape, dtype, limit_bytes)
    if dtype.kind not in "buif" or 0 in series.shape:
        what = f"{dtype} values" if 0 not in series.shape else f"no pixels (shape {series.shape})"
        raise UnreadableImageError(
            f"{path}: holds {what}, which cannot be classified; save it as integers or floats"
        )
    _check_declared_planes(series, number, tif, path)
    size = int(tif.filehandle.size)
    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > size:
            raise _incomplete(path, f"{series.nbytes} bytes of pixels declared, file of {size}")
        return
    pages = list(series)
    have = sum(1 for page in pages if page is not None) * series.keyframe.size
    if have != math.prod(series.shape):
        raise _incomplete(path, f"{len(pages)} planes declared, some of them not in it")
    if series.keyframe.is_tiled:
        check_tile(path, series.keyframe.chunks, dtype)
    for page in pages:
        if page is not None:
            _check_page(page, series.keyframe, tif, path)


def check_compressed(series: TiffPageSeries, tif: TiffFile, path: AnyFile) -> None:
    """Check compressed data that could crash or stall their decoder; decodes nothing."""
    is_lzw = series.keyframe.compression == _LZW
    if not (is_lzw or series.keyframe.compression in _EMBEDDED):
        return
    for page in series:
        if page is None:
            continue
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            tif.filehandle.seek(start)
            segment = tif.filehandle.read(count)
            if not is_lzw:
                _check_effort(segment)
            elif lzw_is_old(segment):
                raise UnreadableImageError(
                    f"{path}: it is compressed with the LZW of before TIFF 6.0 (1992), which is "
                    "not read; open it in Fiji and save it again"
                )
            elif not lzw_is_sound(segment):
                raise UnreadableImageError(
                    f"{path}: its LZW data are damaged; copy the file again, or save it with "
                    "another compression"
                )


def _incomplete(path: AnyFile, detail: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"{path}: the file is incomplete ({detail}); it was truncated or written with missing "
        "planes, copy it again"
    )


def _check_declared_planes(
    series: TiffPageSeries, number: int, tif: TiffFile, path: AnyFile
) -> None:
    """Compare with ImageJ's and tifffile's own headers, from which tifffile falls back silently."""
    declared = _imagej_planes(tif) if tif.is_imagej else _shaped_size(tif, number)
    have = math.prod(series.shape)
    if tif.is_imagej:
        have //= math.prod(series.keyframe.shape)
    if declared > have:
        unit = "planes" if tif.is_imagej else "pixels"
        raise _incomplete(path, f"its header declares {declared} {unit}, it holds {have}")


def _imagej_planes(tif: TiffFile) -> int:
    header: dict[str, Any] = tif.imagej_metadata or {}
    if tif.pages.first.shape[-1:] == (header.get("channels"),):
        # Samples of RGB that Bio-Formats declares as channels.
        header = header | {"channels": 1, "images": 1}
    planes = math.prod(int(header.get(key, 1)) for key in ("frames", "slices", "channels"))
    return max(planes, int(header.get("images", 1)))


def _shaped_size(tif: TiffFile, number: int) -> int:
    headers = (tif.shaped_metadata if tif.is_shaped else None) or ()
    if number >= len(headers) or "shape" not in headers[number]:
        return 0
    return math.prod(int(size) for size in headers[number]["shape"])


def _check_page(
    page: TiffPage | TiffFrame, keyframe: TiffPage, tif: TiffFile, path: AnyFile
) -> None:
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    expected = 1 if keyframe.is_contiguous else math.prod(keyframe.chunked)
    if len(segments) < expected:
        raise _incomplete(path, f"{expected} strips or tiles declared, {len(segments)} listed")
    size = int(tif.filehandle.size)
    # Tiles of no bytes are how sparse mosaics mark empty places; an empty strip was never written.
    written = [(start, count) for start, count in segments[:expected] if count > 0]
    if not written or (len(written) < expected and not keyframe.is_tiled):
        raise _incomplete(path, "pixels of no bytes")
    for start, count in written:
        if start + count > size:
            raise _incomplete(path, f"pixels up to byte {start + count}, file of {size}")
    check_embedded(written, keyframe, tif, path)


def _check_effort(segment: bytes) -> None:
    """Refuse what keeps a decoder busy for long, though its pixels are few."""
    if segment.startswith(b"\xff\xd8"):
        jpeg_is_complete(segment)
    elif segment.startswith(PNG_MAGIC) and (
        png_pixels(segment) not in (None, segment) or png_goes_on(segment, png_header(segment))
    ):
        raise ValueError("a PNG inside holds more than pixels")


def lzw_is_old(data: bytes) -> bool:
    """Whether an LZW stream is packed as before TIFF 6.0, from the other end of each byte."""
    return data[:1] == b"\x00" and len(data) > 1 and bool(data[1] & 1)


def lzw_is_sound(data: bytes) -> bool:
    """Whether every table of an LZW stream begins with a literal.

    imagecodecs 2026.3 reads outside its table, and may crash the whole process, if the first code
    after a Clear code is not a literal; one altered byte is enough. Codes are found here as TIFF
    6.0 (section 13) packs them, without decoding anything.

    `data`: bytes; one strip or tile.
    """
    padded = np.frombuffer(data + b"\0\0\0", np.uint8)
    bits = 8 * len(data)
    position, clears = 0, 0
    while position + 9 <= bits:
        codes, ends = _codes(padded, position, bits, fresh=True)
        if codes[0] > _END:
            return False
        while not (marks := np.flatnonzero((codes == _CLEAR) | (codes == _END))).size:
            if ends[-1] + 12 > bits:
                # The stream ends without an end code, as some encoders leave it.
                return True
            codes, ends = _codes(padded, int(ends[-1]), bits, fresh=False)
        first = int(marks[0])
        if codes[first] == _END:
            return True
        position, clears = int(ends[first]), clears + 1
        if clears > 16 + len(data) // _BYTES_A_CLEAR:
            return False
    return True


def _codes(
    padded: np.ndarray[Any, np.dtype[np.uint8]], position: int, bits: int, *, fresh: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the codes from a bit on, and the bit behind each.

    `fresh` is whether a table begins there; otherwise it is full and all codes have 12 bits.
    """
    widths = _WIDTHS if fresh else np.full(_WIDTHS.size, 12)
    offsets = _OFFSETS if fresh else 12 * np.arange(_WIDTHS.size + 1)
    count = int(np.searchsorted(offsets, bits - position, side="right")) - 1
    starts, ends = position + offsets[:count], position + offsets[1 : count + 1]
    byte = starts >> 3
    word = padded[byte].astype(np.int64) << 16
    word |= padded[byte + 1].astype(np.int64) << 8
    word |= padded[byte + 2]
    codes = (word >> (24 - widths[:count] - (starts & 7))) & ((1 << widths[:count]) - 1)
    return codes, ends
