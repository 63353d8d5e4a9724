"""Read one TIFF file: OME, ImageJ, multi-page, tiled, any compression that can be decoded.

Only the file itself is read. OME, MicroManager and NDTiff headers may name other files; what they
point to is never opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.errors import AxesError, ImageError, UnreadableImageError
from napari_cellclf.io.decoding import decoding
from napari_cellclf.io.memory import AnyFile, MemoryFile
from napari_cellclf.io.ome import MICROMETRES, OmeHeader, parse_ome
from napari_cellclf.io.quiet import silenced
from napari_cellclf.io.tiff_checks import check_compressed, check_sent, check_series

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries


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
