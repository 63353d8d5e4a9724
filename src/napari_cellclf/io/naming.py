"""Naming schemes: what the parts of a file name mean.

The names of RxRx1 and of the Drosophila project are schemes like those of other packages; a typed
pattern (`patterns`) is one too. Which files are one image is in `named_images`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.errors import NameParseError
from napari_cellclf.io.local_paths import is_hidden

if TYPE_CHECKING:
    from napari_cellclf.io.named_images import NamedImage

#: The field that tells the files of one image apart.
CHANNEL = "channel"

Fields = Mapping[str, str | int]


class NamingScheme(ABC):
    """What the names of one kind of files say.

    Derive from it, write `parse`, and offer an instance under the entry point group
    ``napari_cellclf.naming``. Files of one folder whose fields are equal except for ``channel`` are
    one image; without that field each file is one. The other fields become columns of tables.

    Attributes
    ----------
    name : str
        The name of the entry point, such as ``"opera-phenix"``.
    example : str
        A path that follows the scheme, for messages and tests.
    globs : tuple of str
        Patterns of file names, such as ``"r*c*f*p*-ch*.tiff"``, for which napari asks our reader.
    channels : tuple of (str or int)
        The field ``channel`` of every file of a complete image, in order. If it is left out, an
        image is complete if it has every channel that images beside it have.
    groups : tuple of str
        What keeps images together in a split, each a field or several joined by ``+``, from what
        varies most between experiments to what varies least. The first of which every class has
        several is used. If it is left out, fields called ``group``, ``donor``, ``animal``,
        ``embryo``, ``experiment``, ``plate``, ``slide``, ``movie``, ``position`` or ``well`` are.
    label : str, optional
        The field, or the column that `describe` adds, with the class of an image.
    label_unit : str
        Unit of a label that is a number, such as ``"minute"``; the classes are then in order.
    label_range : tuple of 2 int, optional
        Which numbers are kept unless the user chooses others.
    split : str, optional
        The column that `describe` adds with the publisher's split.
    stack_axis : str
        Axis along which the images of a folder are stacked: ``"P"`` (positions) or ``"T"`` (time).

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
    globs: tuple[str, ...] = ()
    channels: tuple[str | int, ...] = ()
    groups: tuple[str, ...] = ()
    label: str | None = None
    label_unit: str = ""
    label_range: tuple[int, int] | None = None
    split: str | None = None
    stack_axis: str = "P"

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
            By default the field itself if it is a word, else ``"channel 1"`` and so on.
        """
        text = str(channel)
        return f"channel {text}" if text.isdecimal() else text

    def channel_aliases(self, channel: str | int) -> tuple[str, ...]:
        """Return other names under which the same channel is found.

        Parameters
        ----------
        channel : str or int
            The field ``channel`` of a file.

        Returns
        -------
        tuple of str
            By default none.
        """
        return ()

    def colormap(self, channel: str | int) -> str | None:
        """Return the napari colormap in which a channel is shown.

        Parameters
        ----------
        channel : str or int
            The field ``channel`` of a file.

        Returns
        -------
        str or None
            By default None: one of six colours, by the order of the channels.
        """
        return None

    def label_of(self, described: Mapping[str, Any]) -> str | int | None:
        """Return the label of an image.

        Parameters
        ----------
        described : mapping of str to object
            What `describe` returns of it.

        Returns
        -------
        str, int or None
            By default the column `label`; None if the image has none.
        """
        return None if self.label is None else described.get(self.label)

    def class_name(self, label: str | int) -> str:
        """Return the name of a class.

        Parameters
        ----------
        label : str or int
            What `label` says of an image.

        Returns
        -------
        str
            By default the label as text.
        """
        return str(label)

    def title(self, fields: Fields) -> str:
        """Return a few words for an image, the same for all its files.

        Parameters
        ----------
        fields : mapping of str to (str or int)
            Without ``channel``.

        Returns
        -------
        str
            By default such as ``"well B02, site 1"``.
        """
        return ", ".join(f"{name} {value}" for name, value in fields.items())

    def is_folder(self, name: str) -> bool:
        """Whether files of this scheme may lie in folders of that name, or below.

        Parameters
        ----------
        name : str
            Of a folder in one that was dropped on napari.

        Returns
        -------
        bool
            By default False: only files in the folder itself are looked for.
        """
        return False

    def describe(self, images: Sequence[NamedImage]) -> list[dict[str, Any]]:
        """Return what is known of images: their fields, and what a table beside them adds.

        Parameters
        ----------
        images : sequence of NamedImage
            With `fields`, and `missing`, the names of channels that have no file.

        Returns
        -------
        list of dict
            The columns of each image.
        """
        return [
            dict(image.fields) | ({"missing_channels": image.missing} if image.missing else {})
            for image in images
        ]


NAMING = ExtensionPoint[NamingScheme](
    "napari_cellclf.naming", "naming scheme", NameParseError, NamingScheme
)

#: A scheme, the name of one that is installed, or a pattern; None for all that are installed.
Naming: TypeAlias = NamingScheme | str | None


def find_scheme(naming: NamingScheme | str) -> NamingScheme:
    """Return the scheme that a name or a pattern stands for."""
    if isinstance(naming, NamingScheme):
        return naming
    return _found(naming.strip())


@lru_cache(maxsize=64)
def _found(text: str) -> NamingScheme:
    from napari_cellclf.io.patterns import NamePattern

    # A file name has a dot, and none of the names of schemes has.
    if "{" in text or "}" in text or "." in text:
        return NamePattern(text)
    if text not in NAMING.names():
        raise NameParseError(
            f"no naming scheme named {text!r} is installed (installed: "
            f"{', '.join(NAMING.names()) or 'none'}); name one of them, or write a pattern such as "
            "{well}_s{site}_w{channel}.tif"
        )
    return NAMING.get(text)


def usable_naming(naming: str | None) -> str | None:
    """Return a naming that was written down, None if it is no good or not installed here."""
    try:
        return naming_text(naming)
    except NameParseError:
        return None


def naming_text(naming: Naming) -> str | None:
    """Return what a run or a model keeps of a naming scheme: its name, or the pattern."""
    return None if naming is None else find_scheme(naming).name


def schemes_of(naming: Naming) -> tuple[NamingScheme, ...]:
    """Return the schemes that names are read by; ours go before those of other packages."""
    return tuple(NAMING.all().values()) if naming is None else (find_scheme(naming),)


def parse_name(path: PurePath, naming: Naming = None) -> tuple[NamingScheme, Fields] | None:
    """Read a path by the first scheme that knows it."""
    # A relative path may begin inside the folder of a plate.
    if isinstance(path, Path) and not path.is_absolute():
        path = Path(os.path.abspath(path))  # noqa: PTH100
    return None if is_hidden(path.name) else parse_with(path, schemes_of(naming))


def parse_with(
    path: PurePath, schemes: Sequence[NamingScheme]
) -> tuple[NamingScheme, Fields] | None:
    """Read an absolute path by the first of some schemes that knows it."""
    for scheme in schemes:
        fields = scheme.parse(path)
        if fields is not None:
            return scheme, fields
    return None


def natural_key(value: str | int) -> tuple[int, int, str]:
    """Order numbers by value and before words."""
    text = str(value)
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def channel_facts(name: str) -> tuple[tuple[str, ...], str | None]:
    """Return aliases and colormap of a channel whose name an installed scheme gives."""
    for scheme in NAMING.all().values():
        for channel in scheme.channels:
            if scheme.channel_name(channel) == name:
                return scheme.channel_aliases(channel), scheme.colormap(channel)
    return (), None
