"""Read exactly one file, told apart by its content, without looking at its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, UnreadableImageError
from napari_cellclf.io.decoding import decoding, limit_or_default
from napari_cellclf.io.memory import MemoryFile, read_head
from napari_cellclf.io.raster import read_jpeg, read_png, read_raster_header, sniff
from napari_cellclf.io.tiff import TiffHeader, read_tiff, read_tiff_header

#: Endings by which folders are searched for images; a file that is named is read whatever its
#: ending.
IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg"})

# "s3://bucket/x", and "s3:/bucket/x" as pathlib makes of it; one letter is a Windows drive.
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")
_READERS = {"tiff": read_tiff, "png": read_png, "jpeg": read_jpeg}


def read_file(path: str | os.PathLike[str], *, limit_bytes: int | None = None) -> Image:
    """Read one TIFF, PNG or JPEG file.

    `limit_bytes`: bytes of decoded pixels allowed; by default ``CELLCLF_MAX_IMAGE_BYTES`` or 1 GiB.
    """
    file, kind = _identify(path)
    return _READERS[kind](file, limit_or_default(limit_bytes))


def read_memory(file: MemoryFile, *, limit_bytes: int | None = None) -> Image:
    """Read one TIFF, PNG or JPEG file that somebody sent, as `read_file` reads it from a disk.

    `limit_bytes`: bytes of decoded pixels allowed.
    """
    kind = _kind(file, read_head(file, 512))
    return _READERS[kind](file, limit_or_default(limit_bytes))


def read_header(path: str | os.PathLike[str], *, limit_bytes: int | None = None) -> TiffHeader:
    """Read what a file declares without decoding its pixels."""
    file, kind = _identify(path)
    limit = limit_or_default(limit_bytes)
    if kind == "tiff":
        return read_tiff_header(file, limit)
    header = read_raster_header(file, kind, limit)
    return TiffHeader(header.shape, "YXS"[: len(header.shape)], header.dtype)


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a path on this computer, refusing what looks like an address on a network."""
    if not isinstance(path, str | os.PathLike):
        raise ImageError(f"{path!r} ({type(path).__name__}) is not a path; give one as text")
    text = os.fspath(path)
    if _URL.match(text) or "::" in text:
        raise ImageError(f"{text!r} looks like a URL; download the file first and give its path")
    if "\0" in text or not text:
        raise ImageError(f"{text!r} is not a path; give the path of an image")
    return Path(text)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Put the home folder in the place of a leading ``~``, as people type it."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - a ~ without a home stays as it is


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that tools leave beside the real ones."""
    # Not Path.stem, which takes most of the time of listing a plate.
    return name.startswith(".") or os.path.splitext(name)[0].endswith("-checkpoint")  # noqa: PTH122


class Seen:
    """Folders that were visited, so that links between folders cannot lead in circles."""

    def __init__(self) -> None:
        self._keys: set[tuple[int, int]] = set()

    def is_new(self, folder: Path) -> bool:
        """Whether a folder was not visited yet; it is from now on."""
        try:
            status = folder.stat()
        except OSError:
            return False
        key = (status.st_dev, status.st_ino)
        is_new = key not in self._keys
        self._keys.add(key)
        return is_new


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
        raise UnreadableImageError(f"{file}: {_what_it_is(head)}; give a TIFF, PNG or JPEG image")
    return kind


def _what_it_is(head: bytes) -> str:
    if not head:
        return "the file is empty (truncated download?)"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "holds a web page, not an image (failed download?)"
    return "is not a TIFF, PNG or JPEG image, whatever its ending"
