"""Read one TIFF file: OME, ImageJ, multi-page, tiled, any compression that can be decoded.

Only the file itself is read. OME, MicroManager and NDTiff headers may name other files; what they
point to is never opened. A file whose pixels are not all there, or would take too much memory to
decode, is refused before anything of it is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import AxesError, ImageError, ImageTooLargeError, UnreadableImageError
from napari_cellclf.io.decoding import check_declared, check_tile, decoding, human_bytes, silenced
from napari_cellclf.io.memory import AnyFile, MemoryFile
from napari_cellclf.io.ome import MICROMETRES, OmeHeader, parse_ome
from napari_cellclf.io.raster import (
    PNG_MAGIC,
    jpeg_header,
    jpeg_is_complete,
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
#: How much of a segment is looked at for the header of an image format inside it.
_HEAD_BYTES = 4096
#: Start of a JPEG 2000 code stream: SOC and SIZ markers (ISO/IEC 15444-1 annex A).
_JPEG2000_SIZE = b"\xff\x4f\xff\x51"
_CLEAR, _END = 256, 257
#: How many codes after a Clear code have 9, 10 and 11 bits; all others have 12.
_WIDTHS = np.repeat(np.array([9, 10, 11, 12]), [254, 512, 1024, 2400])
_OFFSETS = np.concatenate([[0], np.cumsum(_WIDTHS)])
#: Encoders clear the table when it is full, about every 5 kB. Many more Clear codes than that are
#: not the work of an encoder, and would take long to check.
_BYTES_A_CLEAR = 1024


@dataclass(frozen=True)
class TiffHeader:
    """What a TIFF file declares about its first series."""

    #: Sizes of all axes.
    shape: tuple[int, ...]
    #: One letter for each, as tifffile names them.
    axes: str
    #: Type of a pixel.
    dtype: np.dtype[Any]


def read_tiff(path: AnyFile, limit_bytes: int) -> Image:
    """Read the first series of a TIFF file.

    `limit_bytes`: bytes of decoded pixels allowed. Returns axes as the file declares them; channel
    names and pixel size where it has them (OME, ImageJ, MetaMorph).
    """
    with _first_series(path, limit_bytes) as (tif, series, ome):
        axes, shape = _axes(series, ome, path)
        check_compressed(series, tif, path)
        data = np.asarray(series.asarray()).reshape(shape)
        channels = _channels(tif, ome, axes, shape)
        pixel_size = ome.pixel_size if ome else _pixel_size(tif)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    _check_values(data, path)
    try:
        return Image(data, axes, channels, pixel_size=pixel_size, source=str(path))
    except AxesError as error:
        raise AxesError(f"{path}: {error}") from error
    except ImageError as error:
        raise UnreadableImageError(f"{path}: {error}") from error


def read_tiff_header(path: AnyFile, limit_bytes: int) -> TiffHeader:
    """Read what a TIFF file declares, and check it, without decoding pixels.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    with _first_series(path, limit_bytes) as (_, series, ome):
        axes, shape = _axes(series, ome, path)
        return TiffHeader(shape, axes, np.dtype(series.dtype).newbyteorder("="))


@contextmanager
def _first_series(
    path: AnyFile, limit_bytes: int
) -> Iterator[tuple[TiffFile, TiffPageSeries, OmeHeader | None]]:
    with decoding(path), silenced("tifffile"):
        with _open(path) as tif:
            if isinstance(path, MemoryFile):
                check_sent(tif, path)
            xml = tif.ome_metadata if tif.is_ome else None
            ome = parse_ome(xml, path, len(tif.pages)) if xml else None
            if ome is None or not ome.points_outside:
                yield (tif, _checked_series(tif, path, limit_bytes), ome)
                return
        # Opened again as if it were not OME: its own pages, nothing that the header points to.
        with _open(path, is_ome=False) as tif:
            yield (tif, _checked_series(tif, path, limit_bytes), ome)


def _open(path: AnyFile, is_ome: bool | None = None) -> TiffFile:
    import tifffile

    # From a stream tifffile follows no header to other files, whatever it says.
    file, name = (path.open(), path.name) if isinstance(path, MemoryFile) else (path, None)
    return tifffile.TiffFile(file, name=name, is_ome=is_ome, is_mmstack=False, is_ndtiff=False)


def _checked_series(tif: TiffFile, path: AnyFile, limit_bytes: int) -> TiffPageSeries:
    if not tif.series:
        raise UnreadableImageError(f"{path}: the TIFF file holds no image; it may be truncated")
    series = tif.series[0]
    check_series(series, tif, path, limit_bytes)
    return series


def _axes(
    series: TiffPageSeries, ome: OmeHeader | None, path: AnyFile
) -> tuple[str, tuple[int, ...]]:
    axes, shape = series.axes.upper(), tuple(int(size) for size in series.shape)
    if ome and ome.points_outside:
        axes, shape = _place_own_planes(axes, shape, ome.own_planes)
    if len(set(axes)) != len(axes):
        raise AxesError(
            f"{path}: its metadata do not say what the axes {axes} of shape {shape} are; save it "
            "with names for all of them, such as metadata={'axes': 'TCYX'} in tifffile.imwrite"
        )
    return axes, shape


def _place_own_planes(
    axes: str, shape: tuple[int, ...], planes: tuple[tuple[int, int, int], ...]
) -> tuple[str, tuple[int, ...]]:
    """Name the axis of pages by what varies along it, where the pages form a regular grid."""
    steps = [sorted({plane[axis] for plane in planes}) for axis in range(3)]
    grid = [(t, z, c) for t in steps[0] for z in steps[1] for c in steps[2]]
    if axes[:1] != "I" or list(planes) != grid:
        return axes, shape
    sizes = {letter: len(step) for letter, step in zip("TZC", steps, strict=True)}
    varying = [letter for letter in "TZC" if sizes[letter] > 1]
    return "".join(varying) + axes[1:], (*(sizes[letter] for letter in varying), *shape[1:])


def _channels(
    tif: TiffFile, ome: OmeHeader | None, axes: str, shape: tuple[int, ...]
) -> tuple[str, ...]:
    if "S" in axes:
        return ()
    count = shape[axes.index("C")] if "C" in axes else 1
    if ome is not None:
        names = list(ome.channels)
        if ome.points_outside and ome.own_planes:
            mine = sorted({plane[2] for plane in ome.own_planes})
            names = [names[index] for index in mine if index < len(names)]
    else:
        names = _imagej_labels(tif, count)
    return tuple(names) if len(names) == count and any(names) else ()


def _imagej_labels(tif: TiffFile, count: int) -> list[str]:
    """Return the labels of the first plane's channels, where labels are names of channels."""
    header: dict[str, Any] = (tif.imagej_metadata if tif.is_imagej else None) or {}
    labels = header.get("Labels") or []
    if isinstance(labels, str):
        labels = [labels]
    first = [str(label).strip() for label in labels[:count]]
    # Labels name planes; they name channels only if those of one position differ.
    return first if len(set(first)) == count else []


def _pixel_size(tif: TiffFile) -> tuple[float, float] | None:
    # The resolution tags of other files are a printer's dots per inch, not the microscope's.
    if tif.is_imagej:
        unit = str((tif.imagej_metadata or {}).get("unit", "")).strip().lower()
        factor = MICROMETRES.get(unit.replace("\\u00b5", "µ"))
        tags = tif.pages.first.tags
        sizes = [_inverse(tags.valueof(name)) for name in ("YResolution", "XResolution")]
        return _scaled(sizes, factor)
    if tif.is_stk:
        header: dict[str, Any] = tif.stk_metadata or {}
        unit = str(header.get("CalibrationUnits", "")).strip().lower()
        sizes = [header.get("YCalibration"), header.get("XCalibration")]
        return _scaled(sizes, MICROMETRES.get(unit))
    return None


def _inverse(ratio: Any) -> float | None:
    if not isinstance(ratio, tuple) or len(ratio) != 2 or 0 in ratio:
        return None
    return float(ratio[1] / ratio[0])


def _scaled(sizes: list[Any], factor: float | None) -> tuple[float, float] | None:
    numbers = [float(size) for size in sizes if isinstance(size, int | float)]
    if factor is None or len(numbers) != 2:
        return None
    if not all(math.isfinite(size) and size > 0 for size in numbers):
        return None
    return numbers[0] * factor, numbers[1] * factor


def _check_values(data: np.ndarray[Any, Any], path: AnyFile) -> None:
    if data.dtype.kind == "f" and not np.isfinite(data).any():
        raise UnreadableImageError(
            f"{path}: not one of its pixels is a finite number; export the image again"
        )


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


def check_series(series: TiffPageSeries, tif: TiffFile, path: AnyFile, limit_bytes: int) -> None:
    """Check a series before any of its pixels are decoded.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    dtype = np.dtype(series.dtype)
    check_declared(path, series.shape, dtype, limit_bytes)
    if dtype.kind not in "buif" or 0 in series.shape:
        what = f"{dtype} values" if 0 not in series.shape else f"no pixels (shape {series.shape})"
        raise UnreadableImageError(
            f"{path}: holds {what}, which cannot be classified; save it as integers or floats"
        )
    _check_declared_planes(series, tif, path)
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


def _check_declared_planes(series: TiffPageSeries, tif: TiffFile, path: AnyFile) -> None:
    """Compare with ImageJ's and tifffile's own headers, from which tifffile falls back silently."""
    declared = _imagej_planes(tif) if tif.is_imagej else _shaped_size(tif)
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


def _shaped_size(tif: TiffFile) -> int:
    headers = tif.shaped_metadata if tif.is_shaped else None
    if not headers or "shape" not in headers[0]:
        return 0
    return math.prod(int(size) for size in headers[0]["shape"])


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
    if keyframe.compression > _LZW:
        _check_embedded(written, keyframe, tif, path)


def _check_embedded(
    segments: list[tuple[int, int]], keyframe: TiffPage, tif: TiffFile, path: AnyFile
) -> None:
    """Bound images inside segments, whose own headers a decoder believes more than the TIFF's."""
    allowed = 4 * math.prod(keyframe.chunks)
    for start, count in segments:
        tif.filehandle.seek(start)
        declared = _embedded_size(tif.filehandle.read(min(count, _HEAD_BYTES)))
        if declared > max(allowed, 2**20):
            raise ImageTooLargeError(
                f"{path}: a compressed part declares {declared} values where the image has room "
                f"for {allowed // 4}; the file is damaged or hostile, do not use it"
            )


def _check_effort(segment: bytes) -> None:
    """Refuse what keeps a decoder busy for long, though its pixels are few."""
    if segment.startswith(b"\xff\xd8"):
        jpeg_is_complete(segment)
    elif segment.startswith(PNG_MAGIC) and png_pixels(segment) not in (None, segment):
        raise ValueError("a PNG inside holds more than pixels")


def _embedded_size(head: bytes) -> int:
    try:
        if head.startswith(b"\xff\xd8"):
            return math.prod(jpeg_header(head).shape)
        if head.startswith(PNG_MAGIC):
            return math.prod(png_header(head).shape)
    except ValueError:
        return 0
    position = head.find(_JPEG2000_SIZE)
    if 0 <= position <= len(head) - 16:
        width = int.from_bytes(head[position + 8 : position + 12], "big")
        return width * int.from_bytes(head[position + 12 : position + 16], "big")
    return 0


def lzw_is_sound(data: bytes) -> bool:
    """Whether every table of an LZW stream begins with a literal.

    imagecodecs 2026.3 reads outside its table, and may crash the whole process, if the first code
    after a Clear code is not a literal; one altered byte is enough. Codes are found here as TIFF
    6.0 (section 13) packs them, without decoding anything.

    `data`: bytes; one strip or tile.
    """
    if data[:1] == b"\x00" and len(data) > 1 and data[1] & 1:
        return False
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
