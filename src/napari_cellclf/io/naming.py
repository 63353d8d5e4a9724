"""Naming schemes: what the parts of a file name mean, and which files are one image.

The names of RxRx1 and of the Drosophila project are schemes like those of other packages; a typed
pattern (`patterns`) is one too.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.errors import NameParseError, NoImagesError
from napari_cellclf.io.files import IMAGE_SUFFIXES, Seen, is_hidden

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
    grey : bool
        Whether a colour image with three equal colours is meant to be grey.

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
    grey: bool = False

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


def fitting_naming(recorded: str | None, inputs: Iterable[Path]) -> str | None:
    """Return the naming that was written down if it fits any of the files and folders."""
    naming = usable_naming(recorded)
    fits = naming is not None and any(
        bool(find_images(path, naming).named) if path.is_dir() else bool(parse_name(path, naming))
        for path in inputs
    )
    return naming if fits else None


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
    return None if is_hidden(path.name) else _parse(path, schemes_of(naming))


def _parse(path: PurePath, schemes: Sequence[NamingScheme]) -> tuple[NamingScheme, Fields] | None:
    for scheme in schemes:
        fields = scheme.parse(path)
        if fields is not None:
            return scheme, fields
    return None


@dataclass(frozen=True)
class NamedImage:
    """The files of one image."""

    scheme: NamingScheme
    #: What the names say, without the channel.
    fields: Fields
    #: By the field ``channel``, in order; a single file without that field is that of ``""``.
    files: Mapping[str | int, Path]
    #: Names of the channels that have no file.
    missing: list[str] = field(default_factory=list)

    @property
    def first(self) -> Path:
        """The file of the first channel, which stands for the image."""
        return next(iter(self.files.values()))

    @property
    def has_channels(self) -> bool:
        """Whether its files are a channel each."""
        return "" not in self.files

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that have a file; none if the name says nothing of channels."""
        if not self.has_channels:
            return ()
        return tuple(self.scheme.channel_name(channel) for channel in self.files)

    @property
    def title(self) -> str:
        """A few words for the image."""
        return self.scheme.title(self.fields) if self.has_channels else self.first.stem

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known of it."""
        return self.scheme.describe([self])[0]


@dataclass(frozen=True)
class FoundImages:
    """The image files below a folder."""

    #: Those of a naming scheme, in the order of their fields.
    named: tuple[NamedImage, ...]
    #: All others, in the order of their paths.
    others: tuple[Path, ...]


def find_images(folder: Path, naming: Naming = None) -> FoundImages:
    """Find all images below a folder; links between folders are followed once."""
    schemes = schemes_of(naming)
    named: list[tuple[Path, NamingScheme, Fields]] = []
    others = []
    for path in _image_files(folder):
        known = _parse(path, schemes)
        if known is None:
            others.append(path)
        else:
            named.append((path, *known))
    return FoundImages(tuple(_in_order(_grouped(named))), tuple(others))


def _image_files(folder: Path) -> Iterator[Path]:
    seen = Seen()
    # Absolute for the sake of names of folders above; the walk keeps the path as it was given.
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent)
        if not seen.is_new(here):
            folders.clear()
            continue
        kept = ((here.joinpath(name).is_symlink(), name) for name in folders if not is_hidden(name))
        folders[:] = [name for _, name in sorted(kept)]
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not is_hidden(name):  # noqa: PTH122
                yield here / name


def named_image(path: Path, naming: Naming = None) -> NamedImage | None:
    """Find the files of the image that a file belongs to; None if no scheme knows its name."""
    if parse_name(path, naming) is None:
        return None
    folder = path.parent
    try:
        changed = folder.stat().st_mtime_ns
    except OSError as error:
        raise NoImagesError(f"the folder {folder} cannot be listed: {error.strerror}") from error
    schemes = schemes_of(naming)
    # Two changes within a tick of the file system's clock have one time.
    recent = time.time_ns() - changed < _TICK_NS
    images = (_images_in.__wrapped__ if recent else _images_in)(folder, schemes, changed)
    return images.get(path.name)


_TICK_NS = 100_000_000


@lru_cache(maxsize=64)
def _images_in(
    folder: Path, schemes: tuple[NamingScheme, ...], changed: int
) -> dict[str, NamedImage]:
    """Find the images in a folder by the names of their files; again when it has `changed`."""
    named = []
    top = Path(os.path.abspath(folder))  # noqa: PTH100
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        known = None if is_hidden(name) else _parse(top / name, schemes)
        if known is not None:
            named.append((folder / name, *known))
    images = _grouped(named)
    return {file.name: image for image in images for file in image.files.values()}


def _grouped(named: Iterable[tuple[Path, NamingScheme, Fields]]) -> list[NamedImage]:
    """Put files of one folder and equal fields together."""
    found: dict[tuple[Any, ...], tuple[NamingScheme, Fields, dict[str | int, Path]]] = {}
    for path, scheme, fields in named:
        rest = {key: value for key, value in fields.items() if key != CHANNEL}
        # Without a channel, two files of equal fields are two images.
        alone = "" if CHANNEL in fields else path.name
        # Not path.parent, whose hash takes a third of the time of listing a plate.
        key = (path.parts[:-1], scheme.name, alone, *rest.items())
        files = found.setdefault(key, (scheme, rest, {}))[2]
        channel = fields.get(CHANNEL, "")
        if channel in files:
            raise NameParseError(
                f"{files[channel]} and {path} are the same channel of one image by the naming "
                f"scheme {scheme.name!r}; remove one of them"
            )
        files[channel] = path
    expected: dict[str, dict[str | int, None]] = {}
    for scheme, _, files in found.values():
        known = expected.setdefault(scheme.name, dict.fromkeys(scheme.channels))
        if not scheme.channels:
            known.update(dict.fromkeys(files))
    return [make_image(*one, expected[one[0].name]) for one in found.values()]


def make_image(
    scheme: NamingScheme,
    fields: Fields,
    files: Mapping[str | int, Any],
    expected: Iterable[str | int],
) -> NamedImage:
    """Put the files of an image in order; `expected` are the channels of a complete one."""
    ordered = {channel: files[channel] for channel in sorted(files, key=natural_key)}
    lacking = sorted(set(expected) - set(files) - {""}, key=natural_key)
    return NamedImage(scheme, fields, ordered, [scheme.channel_name(one) for one in lacking])


def natural_key(value: str | int) -> tuple[int, int, str]:
    """Order numbers by value and before words."""
    text = str(value)
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def _in_order(images: list[NamedImage]) -> list[NamedImage]:
    """Sort images by their fields, in the order in which the fullest name has them."""
    columns: dict[str, tuple[str, ...]] = {}
    for image in images:
        found = tuple(image.fields)
        if len(found) > len(columns.get(image.scheme.name, ())):
            columns[image.scheme.name] = found

    def key(image: NamedImage) -> tuple[Any, ...]:
        names = columns.get(image.scheme.name, ())
        fields = [natural_key(image.fields.get(name, 0)) for name in names]
        return image.scheme.name, fields, str(image.first)

    return sorted(images, key=key)


def channel_facts(name: str) -> tuple[tuple[str, ...], str | None]:
    """Return aliases and colormap of a channel whose name an installed scheme gives."""
    for scheme in NAMING.all().values():
        for channel in scheme.channels:
            if scheme.channel_name(channel) == name:
                return scheme.channel_aliases(channel), scheme.colormap(channel)
    return (), None


@dataclass(frozen=True)
class UnderstoodNames:
    """How the names of some files were read, for the user to see before anything is done."""

    #: Number of files.
    total: int
    #: Such as ``"B02_s1_w1.tif -> well B02, site 1, channel 1"``, of the first files.
    lines: tuple[str, ...]
    #: Names of the files that no scheme knows.
    unknown: tuple[str, ...]

    @property
    def summary(self) -> list[str]:
        """All of it in a few lines."""
        known = self.total - len(self.unknown)
        lines = [f"{known} of {self.total} file names are understood"]
        if self.unknown:
            verb = "is" if len(self.unknown) == 1 else "are"
            lines[0] += f"; {len(self.unknown)} {verb} not, such as {self.unknown[0]}"
        return [*lines, *self.lines]


def understand(paths: Sequence[Path], root: Path, naming: Naming = None) -> UnderstoodNames:
    """Say how the names of files below a folder are read."""
    lines: list[str] = []
    unknown = []
    for path in paths:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        known = parse_name(path, naming)
        if known is None:
            unknown.append(name)
        elif len(lines) < _SHOWN_NAMES:
            said = ", ".join(f"{name} {value}" for name, value in known[1].items())
            lines.append(f"{name} -> {said}")
    return UnderstoodNames(len(paths), tuple(lines), tuple(unknown))


_SHOWN_NAMES = 3


def understood_below(folder: Path, naming: Naming = None) -> UnderstoodNames:
    """Say how the names of the images below a folder are read."""
    return understand(list(_image_files(folder)), folder, naming)
