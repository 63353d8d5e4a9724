"""Read exactly one file, told apart by its content, without looking at its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.image import Image, collapse_grey
from napari_cellclf.errors import UnreadableImageError
from napari_cellclf.io.decoding import decoding, limit_or_default
from napari_cellclf.io.local_paths import local_path
from napari_cellclf.io.memory import MemoryFile, read_head
from napari_cellclf.io.raster import read_jpeg, read_png, read_raster_header, sniff

if TYPE_CHECKING:
    from napari_cellclf.io.tiff import TiffHeader


def read_file(path: str | os.PathLike[str], *, limit_bytes: int | None = None) -> Image:
    """Read one TIFF, PNG, JPEG or BMP file; colours that are equal everywhere are one channel.

    `limit_bytes`: bytes of decoded pixels allowed; by default ``CELLCLF_MAX_IMAGE_BYTES`` or 1 GiB.
    """
    file, kind = _identify(path)
    return collapse_grey(_reader(kind)(file, limit_or_default(limit_bytes)))


def read_memory(file: MemoryFile, *, limit_bytes: int | None = None) -> Image:
    """Read one TIFF, PNG, JPEG or BMP file that somebody sent, as `read_file` reads it from a disk.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    kind = _kind(file, read_head(file, 512))
    return collapse_grey(_reader(kind)(file, limit_or_default(limit_bytes)))


def read_header(path: str | os.PathLike[str], *, limit_bytes: int | None = None) -> TiffHeader:
    """Read what a file declares without decoding its pixels."""
    from napari_cellclf.io.bmp import read_bmp_header
    from napari_cellclf.io.tiff import TiffHeader, read_tiff_header

    file, kind = _identify(path)
    limit = limit_or_default(limit_bytes)
    if kind == "tiff":
        return read_tiff_header(file, limit)
    header = (
        read_bmp_header(file, limit) if kind == "bmp" else read_raster_header(file, kind, limit)
    )
    return TiffHeader(header.shape, "YXS"[: len(header.shape)], header.dtype, header.white)


def is_lossy(path: str | os.PathLike[str]) -> bool:
    """Whether an image was compressed as JPEG, which changes pixels a little."""
    file, kind = _identify(path)
    if kind != "tiff":
        return kind == "jpeg"
    from napari_cellclf.io.tiff import is_jpeg

    return is_jpeg(file, limit_or_default(None))


def _reader(kind: str) -> Callable[[Path | MemoryFile, int], Image]:
    """Return what reads a kind of file; a screen of PNG does without tifffile."""
    if kind == "tiff":
        from napari_cellclf.io.tiff import read_tiff

        return read_tiff
    if kind == "bmp":
        from napari_cellclf.io.bmp import read_bmp

        return read_bmp
    return read_png if kind == "png" else read_jpeg


def _identify(path: str | os.PathLike[str]) -> tuple[Path, str]:
    file = local_path(path)
    with decoding(file):
        if file.is_dir():
            raise UnreadableImageError(f"{file}: is a folder; give one of the images in it")
        if not file.is_file():
            raise UnreadableImageError(f"{file}: there is no such file; check the path")
        head = read_head(file, 512)
    return file, _kind(file, head)


def _kind(file: Path | MemoryFile, head: bytes) -> str:
    kind = sniff(head)
    if kind is None:
        raise UnreadableImageError(
            f"{file}: {_what_it_is(head)}; give a TIFF, PNG, JPEG or BMP image"
        )
    return kind


def _what_it_is(head: bytes) -> str:
    if not head:
        return "the file is empty (truncated download?)"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "holds a web page, not an image (failed download?)"
    return "is not a TIFF, PNG, JPEG or BMP image, whatever its ending"
