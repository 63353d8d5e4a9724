"""Which files are one image by their names, found one by one or below a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_cellclf.errors import NameParseError, NoImagesError
from napari_cellclf.io.folder_walk import LeftOut, image_files
from napari_cellclf.io.local_paths import is_hidden
from napari_cellclf.io.naming import (
    CHANNEL,
    Fields,
    Naming,
    NamingScheme,
    natural_key,
    parse_name,
    parse_with,
    schemes_of,
    usable_naming,
)

#: A folder that has changed since may change again and keep its time.
_TICK_NS = 100_000_000
#: Names that are shown to the user as they are understood.
_SHOWN_NAMES = 3


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
    #: What is there beside them.
    left_out: LeftOut


def find_images(folder: Path, naming: Naming = None) -> FoundImages:
    """Find all images below a folder; links between folders are followed once."""
    schemes = schemes_of(naming)
    left_out = LeftOut()
    named: list[tuple[Path, NamingScheme, Fields]] = []
    others = []
    for path in image_files(folder, left_out):
        known = parse_with(path, schemes)
        if known is None:
            others.append(path)
        else:
            named.append((path, *known))
    return FoundImages(tuple(_in_order(_grouped(named))), tuple(others), left_out)


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


@lru_cache(maxsize=64)
def _images_in(
    folder: Path, schemes: tuple[NamingScheme, ...], changed: int
) -> dict[str, NamedImage]:
    """Find the images in a folder by the names of their files; again when it has `changed`."""
    named = []
    top = Path(os.path.abspath(folder))  # noqa: PTH100
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        known = None if is_hidden(name) else parse_with(top / name, schemes)
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
    return [_make_image(*one, expected[one[0].name]) for one in found.values()]


def _make_image(
    scheme: NamingScheme,
    fields: Fields,
    files: Mapping[str | int, Any],
    expected: Iterable[str | int],
) -> NamedImage:
    """Put the files of an image in order; `expected` are the channels of a complete one."""
    ordered = {channel: files[channel] for channel in sorted(files, key=natural_key)}
    lacking = sorted(set(expected) - set(files) - {""}, key=natural_key)
    return NamedImage(scheme, fields, ordered, [scheme.channel_name(one) for one in lacking])


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


def fitting_naming(recorded: str | None, inputs: Iterable[Path]) -> str | None:
    """Return the naming that was written down if it fits any of the files and folders."""
    naming = usable_naming(recorded)
    fits = naming is not None and any(
        bool(find_images(path, naming).named) if path.is_dir() else bool(parse_name(path, naming))
        for path in inputs
    )
    return naming if fits else None


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


def understood_below(folder: Path, naming: Naming = None) -> UnderstoodNames:
    """Say how the names of the images below a folder are read."""
    return understand(list(image_files(folder)), folder, naming)
