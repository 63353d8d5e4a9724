"""Naming schemes: what the parts of a file name mean, and which files are one image.

RxRx1's and the Drosophila project's names are declared by the same entry points as those of other
packages; their readers, which know more than names (a table of wells, published colours), are in
`rxrx1` and `drosophila`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.core.image import Image
from napari_cellclf.errors import NameParseError
from napari_cellclf.io.files import IMAGE_SUFFIXES, read_file
from napari_cellclf.io.planes import check_like, grey_plane

#: The field that tells the files of one image apart.
CHANNEL = "channel"

Fields = Mapping[str, str | int]


class NamingScheme(ABC):
    """What the names of one kind of files say.

    Derive from it, write `parse`, and offer an instance under the entry point group
    ``napari_cellclf.naming``. Files of one folder whose fields are equal except for ``channel`` are
    one image; without that field each file is one. The fields become columns of tables. Images are
    kept together in a split by the first of these fields of which every class has several:
    ``donor``, ``animal``, ``embryo``, ``experiment``, ``plate``, ``slide``, ``movie``,
    ``position``, ``well``.

    Attributes
    ----------
    name : str
        The name of the entry point, such as ``"opera-phenix"``.
    example : str
        A path that follows the scheme, for messages and tests.

    Examples
    --------
    >>> class Letters(NamingScheme):
    ...     name = "letters"
    ...     example = "B02_dna.tif"
    ...
    ...     def parse(self, path):
    ...         well, _, stain = path.stem.partition("_")
    ...         return {"well": well, "channel": stain} if stain else None
    >>> Letters().parse(PurePath("B02_dna.tif"))
    {'well': 'B02', 'channel': 'dna'}
    """

    name: str
    example: str

    @abstractmethod
    def parse(self, path: PurePath) -> Fields | None:
        """Read what a path says.

        Parameters
        ----------
        path : PurePath
            Of a file; it need not exist.

        Returns
        -------
        mapping of str to (str or int), or None
            The fields; None if the file is not named by this scheme. Return codes such as ``007``
            as text.
        """

    def channel_name(self, channel: str | int) -> str:
        """Return the name of a channel for layers and models.

        Parameters
        ----------
        channel : str or int
            The field ``channel`` of a file.

        Returns
        -------
        str
            By default ``"channel <code>"``.
        """
        return f"channel {channel}"


NAMING = ExtensionPoint[NamingScheme]("napari_cellclf.naming", "naming scheme", NameParseError)


@dataclass(frozen=True)
class NamedImage:
    """The files of one image."""

    scheme: NamingScheme
    #: What the names say, without the channel.
    fields: Fields
    #: By channel, in order.
    files: Mapping[str | int, Path]

    @property
    def first(self) -> Path:
        """The file of the first channel, which stands for the image."""
        return next(iter(self.files.values()))


def named_image(path: Path) -> NamedImage | None:
    """Find the files of the image that a file belongs to.

    Returns None unless a scheme of another package names it: ours have readers of their own.
    """
    known = parsed(path)
    if known is None or known[0].name not in NAMING.foreign_names():
        return None
    folder = path.parent
    images = _images_in(folder, folder.stat().st_mtime_ns)
    return next((image for image in images if path in image.files.values()), None)


def parsed(path: PurePath) -> tuple[NamingScheme, Fields] | None:
    """Read a path by the first scheme that knows it, ours before those of other packages."""
    for name in NAMING.names():
        scheme = NAMING.get(name)
        fields = scheme.parse(path)
        if fields is not None:
            return scheme, fields
    return None


def group_files(paths: Iterable[Path]) -> list[NamedImage]:
    """Put files of one folder and equal fields together, in the order of their first files."""
    found: dict[tuple[Any, ...], tuple[NamingScheme, Fields, dict[str | int, Path]]] = {}
    for path in paths:
        known = parsed(path)
        if known is None:
            continue
        scheme, fields = known
        rest = {key: value for key, value in fields.items() if key != CHANNEL}
        key = (path.parent, scheme.name, *rest.items())
        files = found.setdefault(key, (scheme, rest, {}))[2]
        channel = fields.get(CHANNEL, "")
        if channel in files:
            raise NameParseError(
                f"{files[channel]} and {path} are the same channel of one image by the naming "
                f"scheme {scheme.name!r}; remove one of them"
            )
        files[channel] = path
    return [
        NamedImage(scheme, fields, {key: files[key] for key in sorted(files, key=_natural)})
        for scheme, fields, files in found.values()
    ]


@lru_cache(maxsize=8)
def _images_in(folder: Path, changed: int) -> list[NamedImage]:
    """Group the files of a folder, again when the folder has `changed` (nanoseconds)."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    images = (folder / name for name in sorted(names))
    return group_files(path for path in images if path.suffix.lower() in IMAGE_SUFFIXES)


def _natural(channel: str | int) -> tuple[int, int, str]:
    """Order numbers by value and before words."""
    text = str(channel)
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def read_named(image: NamedImage, *, limit_bytes: int | None = None) -> Image:
    """Read all channels of an image, each a grey file of one size and type.

    `limit_bytes`: bytes of decoded pixels allowed in each file.
    """
    files = list(image.files.values())
    metadata = dict(image.fields)
    if list(image.files) == [""]:
        alone = read_file(files[0], limit_bytes=limit_bytes)
        return replace(alone, metadata={**alone.metadata, **metadata})
    planes = [grey_plane(read_file(file, limit_bytes=limit_bytes), file) for file in files]
    for file, plane in zip(files, planes, strict=True):
        check_like(file, plane.shape, plane.dtype, files[0], planes[0].shape, planes[0].dtype)
    names = tuple(image.scheme.channel_name(channel) for channel in image.files)
    return Image(np.stack(planes), "CYX", names, source=str(files[0]), metadata=metadata)
