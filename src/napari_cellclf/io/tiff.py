"""Read one TIFF file: OME, ImageJ, multi-page, tiled, any compression that can be decoded.

Only the file itself is read. OME, MicroManager and NDTiff headers may name other files; what they
point to is never opened. A file whose pixels are not all there, or would take too much memory to
decode, is refused before anything of it is decoded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.core.progress import part_done
from napari_cellclf.errors import AxesError, ImageError, UnreadableImageError
from napari_cellclf.io.decoding import check_declared, decoding, silenced
from napari_cellclf.io.memory import AnyFile, MemoryFile, stream_of
from napari_cellclf.io.ome import MICROMETRES, OmeHeader, parse_ome
from napari_cellclf.io.tiff_checks import check_compressed, check_sent, check_series
from napari_cellclf.io.tiff_colours import (
    JPEG,
    Decoded,
    as_seen,
    declared_as_seen,
    declared_white,
    orientation_of,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

#: What the makers of whole-slide scanners call pictures that are not the slide.
_BESIDE = {"thumbnail", "label", "macro", "map", "overview"}
_MASK = 4
#: Of pixels that take long enough to decode for somebody to want to stop.
_LARGE_BYTES = 2**26
#: Of compressed strips or tiles that are read together.
_READ_AHEAD = 2**24
#: Arrays of this many pixels across are channels that were written last, not an image.
_NARROW = 16
#: How Bio-Formats and Fiji label slices: places such as "c:1/2 - cells.czi", and names of files.
_NO_CHANNEL = re.compile(
    r"\b[czt][:=]? ?\d+ ?/ ?\d+|\.[a-z][a-z0-9]{1,4}\b|^\W*\d{0,2}\W*$|^slice\W*\d+$", re.IGNORECASE
)
_SHORTEST_STEM = 4


@dataclass(frozen=True)
class TiffHeader:
    """What a file declares about its image."""

    #: Sizes of all axes.
    shape: tuple[int, ...]
    #: One letter for each, as tifffile names them.
    axes: str
    #: Type of a pixel.
    dtype: np.dtype[Any]
    #: The value that is white, if the file declares one below the type's largest.
    white: float | None = None


@dataclass(frozen=True)
class _Content:
    """What is read of an open file."""

    tif: TiffFile
    #: Images of one shape and type; several are sites.
    series: list[TiffPageSeries]
    ome: OmeHeader | None

    @property
    def page(self) -> TiffPage:
        page: TiffPage = self.series[0].keyframe
        return page

    @property
    def white(self) -> float | None:
        return declared_white(self.page, self.ome.significant_bits if self.ome else None)


def read_tiff(path: AnyFile, limit_bytes: int) -> Image:
    """Read the image of a TIFF file; several images of one size are its sites, along ``P``.

    `limit_bytes`: bytes of decoded pixels allowed. Returns axes as the file declares them; channel
    names and pixel size where it has them (OME, ImageJ, MetaMorph).
    """
    with _opened(path, limit_bytes) as content:
        axes, shape = _axes(content, path)
        pixels = _decoded(content, path).reshape(shape)
        seen = as_seen(Decoded(pixels, axes, content.white), content.page, content.tif, path)
        channels = seen.channels or _channels(content, seen, path)
        pixel_size = content.ome.pixel_size if content.ome else _pixel_size(content.tif)
        if pixel_size and orientation_of(content.page) >= 5:
            pixel_size = pixel_size[::-1]
    data = seen.pixels.astype(seen.pixels.dtype.newbyteorder("="), copy=False)
    _check_values(data, path)
    try:
        return Image(
            data,
            seen.axes,
            channels,
            pixel_size=pixel_size,
            white=seen.white,
            source=str(path),
        )
    except AxesError as error:
        raise AxesError(f"{path}: {error}") from error
    except ImageError as error:
        raise UnreadableImageError(f"{path}: {error}") from error


def is_jpeg(path: AnyFile, limit_bytes: int) -> bool:
    """Whether the pixels of a TIFF file are compressed as JPEG."""
    with _opened(path, limit_bytes) as content:
        return int(content.page.compression) in JPEG


def read_tiff_header(path: AnyFile, limit_bytes: int) -> TiffHeader:
    """Read what a TIFF file declares, and check it, without decoding pixels.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    with _opened(path, limit_bytes) as content:
        axes, shape = _axes(content, path)
        axes, shape, dtype = declared_as_seen(axes, shape, content.page, content.tif)
        return TiffHeader(shape, axes, dtype, content.white)


@contextmanager
def _opened(path: AnyFile, limit_bytes: int) -> Iterator[_Content]:
    with decoding(path), silenced("tifffile"):
        with _open(path) as tif:
            if isinstance(path, MemoryFile):
                check_sent(tif, path)
            xml = tif.ome_metadata if tif.is_ome else None
            ome = parse_ome(xml, path, len(tif.pages)) if xml else None
            if ome is None or not ome.points_outside:
                yield _Content(tif, _checked_series(tif, path, limit_bytes), ome)
                return
        # Opened again as if it were not OME: its own pages, nothing that the header points to.
        with _open(path, is_ome=False) as tif:
            yield _Content(tif, _checked_series(tif, path, limit_bytes), ome)


@contextmanager
def _open(path: AnyFile, is_ome: bool | None = None) -> Iterator[TiffFile]:
    import tifffile

    # Given a stream, tifffile follows no header to other files, whatever it says.
    with (
        stream_of(path) as stream,
        tifffile.TiffFile(
            stream, name=path.name, is_ome=is_ome, is_mmstack=False, is_ndtiff=False
        ) as tif,
    ):
        yield tif


def _checked_series(tif: TiffFile, path: AnyFile, limit_bytes: int) -> list[TiffPageSeries]:
    if not tif.series:
        raise UnreadableImageError(f"{path}: the TIFF file holds no image; it may be truncated")
    meant = [number for number, series in enumerate(tif.series) if not _is_beside(series)]
    numbers = meant or [0]
    listed = [tif.series[number] for number in numbers]
    kinds = {(one.shape, one.axes, one.dtype, one.keyframe.photometric) for one in listed}
    if len(kinds) > 1:
        named = ", ".join(map(_described, listed[:4])) + (", ..." if len(listed) > 4 else "")
        raise UnreadableImageError(
            f"{path}: holds {len(listed)} different images ({named}); save the one that is meant "
            "as a file of its own"
        )
    first = listed[0]
    if len(listed) > 1:
        check_declared(path, (len(listed), *first.shape), np.dtype(first.dtype), limit_bytes)
    for number, series in zip(numbers, listed, strict=True):
        check_series(series, number, tif, path, limit_bytes)
    return listed


def _is_beside(series: TiffPageSeries) -> bool:
    """Whether a series is a thumbnail, a mask or a picture of the slide's label."""
    page = series.keyframe
    kind = int(page.subfiletype)
    older = page.tags.valueof("OSubfileType", default=1)
    reduced = kind & 1 or older == 2
    return bool(reduced or kind & _MASK) or series.name.strip().lower() in _BESIDE


def _described(series: TiffPageSeries) -> str:
    sizes = "x".join(map(str, series.shape))
    return f"{series.name + ' ' if series.name else ''}{sizes} {series.dtype}"


def _decoded(content: _Content, path: AnyFile) -> np.ndarray[Any, Any]:
    for series in content.series:
        check_compressed(series, content.tif, path)
    if len(content.series) == 1:
        return _in_parts(content.series[0])
    first = content.series[0]
    sites = np.empty((len(content.series), *first.shape), first.dtype)
    for number, (site, series) in enumerate(zip(sites, content.series, strict=True), start=1):
        site[...] = series.asarray()
        part_done("reading", number / len(content.series))
    return sites


def _in_parts(series: TiffPageSeries) -> np.ndarray[Any, Any]:
    """Decode a series; a large one strip by strip and page by page, so that it can be ended."""
    pages = [page for page in series if page is not None]
    # Pixels in one piece are only read; tifffile fills in what is not there.
    whole = series.dataoffset is not None or len(pages) < len(series)
    if whole or series.nbytes < _LARGE_BYTES:
        return np.asarray(series.asarray())
    keyframe = series.keyframe
    pixels = np.empty((len(pages), *keyframe.shaped), series.dtype)
    parts = math.prod(keyframe.chunked)
    for number, page in enumerate(pages):
        copy = partial(_copy_segment, pixels[number], keyframe.nodata)
        segments = page.segments(func=copy, buffersize=_READ_AHEAD)
        for done, _ in enumerate(segments, start=1):
            part_done("reading", (number + min(done / parts, 1)) / len(pages))
    return pixels


def _copy_segment(page: np.ndarray[Any, Any], nodata: float, decoded: Any) -> None:
    segment, (sample, *corner, _), shape = decoded
    rows = tuple(slice(at, at + size) for at, size in zip(corner, shape[:3], strict=True))
    target = page[(sample, *rows)]
    target[...] = nodata if segment is None else segment[tuple(map(slice, target.shape[:3]))]


def _axes(content: _Content, path: AnyFile) -> tuple[str, tuple[int, ...]]:
    first, ome = content.series[0], content.ome
    axes, shape = first.axes.upper(), tuple(int(size) for size in first.shape)
    if ome and ome.points_outside:
        axes, shape = _place_own_planes(axes, shape, ome.own_planes)
    if len(content.series) > 1:
        axes, shape = f"P{axes}", (len(content.series), *shape)
    if len(set(axes)) != len(axes):
        raise AxesError(
            f"{path}: its metadata do not say what the axes {axes} of shape {shape} are; save it "
            "with names for all of them, such as metadata={'axes': 'TCYX'} in tifffile.imwrite"
        )
    if len(axes) == 3 and axes.endswith("YX") and shape[2] <= _NARROW < min(shape[:2]):
        raise AxesError(
            f"{path}: holds {shape[0]} pages of {shape[1]}x{shape[2]} pixels, as an array "
            f"{shape} whose last axis is the channels is saved; save it as numpy.moveaxis(array, "
            "-1, 0) with metadata={'axes': 'CYX'}"
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


def _channels(content: _Content, seen: Decoded, path: AnyFile) -> tuple[str, ...]:
    axes, ome = seen.axes, content.ome
    if "S" in axes:
        return ()
    count = seen.pixels.shape[axes.index("C")] if "C" in axes else 1
    if ome is not None:
        names = list(ome.channels)
        if ome.points_outside and ome.own_planes:
            mine = sorted({plane[2] for plane in ome.own_planes})
            names = [names[index] for index in mine if index < len(names)]
    else:
        names = _imagej_labels(content.tif, count, path)
    return tuple(names) if len(names) == count and any(names) else ()


def _imagej_labels(tif: TiffFile, count: int, path: AnyFile) -> list[str]:
    """Return the labels of the first plane's channels, where labels are names of channels."""
    header: dict[str, Any] = (tif.imagej_metadata if tif.is_imagej else None) or {}
    labels = header.get("Labels") or []
    if isinstance(labels, str):
        labels = [labels]
    first = [str(label).strip() for label in labels[:count]]
    # Labels name planes; they name channels only if those of one position differ, if all planes of
    # a channel have the same, and if they say nothing of the image: its file, or which of how many
    # slices.
    for number, name in enumerate(first):
        if any(label and str(label).strip() != name for label in labels[number::count]):
            return []
    stem = PurePath(str(path)).stem.lower()
    of_image = len(stem) >= _SHORTEST_STEM and all(stem in label.lower() for label in first)
    if len(set(first)) != count or of_image or any(map(_NO_CHANNEL.search, first)):
        return []
    return first


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
