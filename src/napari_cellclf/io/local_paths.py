"""Paths on this computer: which are meant, which are images, and which are passed over."""

from __future__ import annotations

import os
import re
from pathlib import Path

from napari_cellclf.errors import ImageError

#: Endings by which folders are searched for images; a file that is named is read whatever its
#: ending.
IMAGE_SUFFIXES = frozenset(
    # TIFF by its own name, and as Zeiss, MetaMorph, Opera, Aperio, Hamamatsu and others call it.
    {".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk", ".flex", ".svs", ".ndpi", ".scn"}
    | {".bif", ".qptiff", ".ptif", ".ptiff", ".zif", ".gel"}
    | {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp"}
)
#: How programs call the label mask of an image that lies beside it, after the image's own name.
MASK_ENDINGS = ("_masks", "_cp_masks", "_labels")
#: Folders and files that Synology, QNAP, macOS and Windows make.
_OF_TOOLS = frozenset(
    {"@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx"}
    | {"$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}
)
#: As MetaXpress calls them: ``B02_s1_w1_thumb3F2A-....tif``.
_THUMBNAIL = re.compile(r".+_thumb[0-9a-f-]*\.\w+")

# "s3://bucket/x", and "s3:/bucket/x" as pathlib makes of it; one letter is a Windows drive.
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a path on this computer, refusing addresses."""
    if not isinstance(path, str | os.PathLike):
        raise ImageError(f"{path!r} ({type(path).__name__}) is not a path; give one as text")
    text = os.fspath(path)
    if text.lower().startswith("file:"):
        raise ImageError(
            f"{text!r} is the address of a file on this computer; give its path, which begins "
            "after 'file://'"
        )
    # fsspec chains addresses with "::", and a file may be called so.
    if _URL.match(text) or ("::" in text and not os.path.lexists(text)):
        raise ImageError(f"{text!r} looks like a URL; download the file first and give its path")
    if "\0" in text or not text:
        raise ImageError(f"{text!r} is not a path; give the path of an image")
    return Path(text)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Put the home folder in the place of a leading ``~``, as people type it."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - a ~ without a home stays as it is


def own_name(path: str | os.PathLike[str]) -> str:
    """Return the last name of a path, also of one such as ``.``."""
    whole = os.path.abspath(path)  # noqa: PTH100
    return os.path.basename(whole) or whole  # noqa: PTH119


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that tools leave beside the real ones."""
    return name.startswith(".") or is_left_by_tools(name)


def stem_of_masked(name: str) -> str | None:
    """Return the name, without ending, of the image that a file is the mask of, by its name.

    Examples
    --------
    >>> stem_of_masked("field_cp_masks.png"), stem_of_masked("field.png")
    ('field', None)
    """
    # Not Path.stem, which takes most of the time of listing a plate.
    stem = os.path.splitext(name)[0]  # noqa: PTH122
    # The longest first: _masks would leave _cp.
    endings = sorted(MASK_ENDINGS, key=len, reverse=True)
    ending = next((one for one in endings if stem.endswith(one)), None)
    return stem.removesuffix(ending) or None if ending else None


def is_left_by_tools(name: str) -> bool:
    """Whether a file or folder that is not hidden holds thumbnails, or no images at all."""
    # Not Path.stem, which takes most of the time of listing a plate.
    lower = name.lower()
    return lower in _OF_TOOLS or ("_thumb" in lower and bool(_THUMBNAIL.fullmatch(lower)))


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
