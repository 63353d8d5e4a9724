"""What is to be classified: one source for each image, found now and read later."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from napari_cellclf.core.image import Image
from napari_cellclf.errors import InputError, NoImagesError, UnreadableImageError
from napari_cellclf.io.files import read_file
from napari_cellclf.io.local_paths import local_path
from napari_cellclf.io.named_images import FoundImages, NamedImage, find_images, named_image
from napari_cellclf.io.naming import Naming, NamingScheme, find_scheme
from napari_cellclf.io.read import read_named


@dataclass(frozen=True)
class ImageSource:
    """An image that can be read when its turn comes."""

    #: Its path as given; of an image in several files, that of its first channel.
    id: str
    #: What its name says, and the other columns of the table it came from; only what is known.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: What its name follows; None for other names.
    scheme: NamingScheme | None = field(default=None, kw_only=True, repr=False, compare=False)
    #: Returns the `Image`; raises `ImageError` if it cannot be read.
    read: Callable[[], Image] = field(kw_only=True, repr=False)


def collect_sources(
    inputs: Sequence[str | os.PathLike[str]],
    naming: Naming = None,
    *,
    on_left_out: Callable[[Sequence[Path]], None] = lambda left_out: None,
) -> list[ImageSource]:
    """Find the images that files, folders and tables stand for; none is opened.

    `on_left_out`: told which files of folders are not named as `naming` says; they are left out.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plate = Path(folder, "HUVEC-01", "Plate1")
    ...     plate.mkdir(parents=True)
    ...     for channel in range(1, 7):
    ...         _ = plate.joinpath(f"B02_s1_w{channel}.png").write_bytes(b"")
    ...     sources = collect_sources([folder])
    >>> len(sources), sources[0].metadata["experiment"], sources[0].metadata["plate"]
    (1, 'HUVEC-01', 1)
    """
    if not inputs:
        raise NoImagesError("no images were given; name files, folders or a CSV table of paths")
    by_path: dict[str, ImageSource] = {}
    for one in inputs:
        for source in _collect(local_path(one), naming, on_left_out):
            # Absolute and without "..": one file is one image, however it is called.
            by_path.setdefault(os.path.abspath(source.id), source)  # noqa: PTH100
    return list(by_path.values())


def _collect(
    path: Path, naming: Naming, on_left_out: Callable[[Sequence[Path]], None]
) -> list[ImageSource]:
    if path.is_dir():
        return _from_folder(path, naming, on_left_out)
    if not path.is_file():
        raise NoImagesError(f"{path} does not exist; check the path")
    if path.suffix.lower() == ".csv":
        return _from_table(path, naming)
    return [_from_file(path, naming)]


def _from_folder(
    folder: Path, naming: Naming, on_left_out: Callable[[Sequence[Path]], None]
) -> list[ImageSource]:
    found = find_images(folder, naming)
    if not found.named and not found.others:
        raise NoImagesError(
            f"the folder {folder} holds no images (TIFF, PNG, JPEG); give a folder that does"
        )
    if naming is not None and not found.named:
        raise NoImagesError(
            f"none of the {len(found.others)} images below {folder} is named like "
            f"{find_scheme(naming).name} (one is {found.others[0].relative_to(folder)}); correct "
            "the naming pattern"
        )
    if naming is not None and found.others:
        on_left_out(found.others)
    return found_sources(found, naming)


def found_sources(found: FoundImages, naming: Naming) -> list[ImageSource]:
    """Make a source of each image in a folder; with a naming, only of those that are named so."""
    alone = [] if naming is not None else map(_alone, found.others)
    return [*named_sources(found.named), *alone]


def named_sources(images: Sequence[NamedImage]) -> list[ImageSource]:
    """Make a source of each image, in their order."""
    of_scheme: dict[NamingScheme, list[NamedImage]] = {}
    for image in images:
        of_scheme.setdefault(image.scheme, []).append(image)
    described = {scheme: iter(scheme.describe(listed)) for scheme, listed in of_scheme.items()}
    return [
        ImageSource(
            str(image.first),
            _known(next(described[image.scheme])),
            scheme=image.scheme,
            read=partial(read_named, image),
        )
        for image in images
    ]


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None and value != []}


def _from_file(path: Path, naming: Naming) -> ImageSource:
    named = named_image(path, naming)
    return _alone(path) if named is None else named_sources([named])[0]


def _alone(path: Path) -> ImageSource:
    return ImageSource(str(path), read=partial(read_file, path))


def _from_table(table: Path, naming: Naming) -> list[ImageSource]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            column = _path_column(table, list(reader.fieldnames or ()))
            sources = list(_from_rows(reader, column, table.parent, naming))
    except UnicodeDecodeError as error:
        raise InputError(f"the table {table} is not UTF-8 text; save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as a CSV table: {error}") from error
    if not sources:
        raise NoImagesError(f"the table {table} names no images; fill its column 'path'")
    return sources


def _path_column(table: Path, columns: list[str]) -> str:
    found = [column for column in columns if column.strip().lower() == "path"]
    if found:
        return "path" if "path" in found else found[0]
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise InputError(
            f"the table {table} separates its columns with semicolons or tabs; separate them with "
            "commas"
        )
    raise InputError(
        f"{table} has no column 'path' (its columns: {', '.join(columns) or 'none'}); "
        "name the column of image paths 'path'"
    )


def _from_rows(
    rows: Iterable[dict[str, str]], column: str, folder: Path, naming: Naming
) -> Iterator[ImageSource]:
    for row in rows:
        text = (row.pop(column) or "").strip()
        if not text:
            continue
        source = _from_row(text, folder, naming)
        # Without a name are values beyond the table's columns.
        extra = {key: _natural(value) for key, value in row.items() if key and value}
        yield replace(source, metadata={**source.metadata, **extra})


def _from_row(text: str, folder: Path, naming: Naming) -> ImageSource:
    name = text
    try:
        path = folder / local_path(text)
        name = str(path)
        return _from_file(path, naming)
    except (InputError, OSError, ValueError) as error:
        # Not the other rows' fault: this one is reported when its turn comes.
        return ImageSource(name, read=partial(_fail, _reason(name, error)))


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    why = getattr(error, "strerror", None) or error
    return f"{name} cannot be opened ({why}); correct its path in the table"


def _fail(reason: str) -> Image:
    raise UnreadableImageError(reason)


def _natural(text: str) -> str | int | float:
    """Return whole and decimal numbers as such, anything else as it stands."""
    try:
        number = float(text)
    except ValueError:
        return text
    # Numbers with leading zeros are codes, and "nan" and "infinity" are words.
    if text.strip().lstrip("+-")[:1] not in "0123456789." or text.strip()[:1] == "+":
        return text
    whole = text.strip().lstrip("-")
    if whole.isdecimal():
        return text if len(whole) > 1 and whole[0] == "0" else int(text)
    return number
