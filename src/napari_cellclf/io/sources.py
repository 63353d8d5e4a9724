"""What is to be classified: one source for each image, found now and read later."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from napari_cellclf.core.image import Image
from napari_cellclf.errors import InputError, NoImagesError, UnreadableImageError
from napari_cellclf.io.drosophila import is_embryo_file, parse_name
from napari_cellclf.io.files import IMAGE_SUFFIXES, Seen, is_hidden, local_path
from napari_cellclf.io.naming import NamedImage, group_files, named_image, parsed
from napari_cellclf.io.read import read_image
from napari_cellclf.io.rxrx1 import (
    SiteFiles,
    find_sites,
    is_site_file,
    read_site,
    site_of,
    sites_metadata,
)


@dataclass(frozen=True)
class ImageSource:
    """An image that can be read when its turn comes."""

    #: Its path as given; of an RxRx1 site, the path of its first channel.
    id: str
    #: What its name says, and the other columns of the table it came from; only what is known.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Returns the `Image`; raises `ImageError` if it cannot be read.
    read: Callable[[], Image] = field(kw_only=True, repr=False)


def collect_sources(inputs: Sequence[str | os.PathLike[str]]) -> list[ImageSource]:
    """Find the images that files, folders and tables stand for; none is opened.

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
        for source in _collect(local_path(one)):
            # Absolute and without "..": one file is one image, however it is called.
            by_path.setdefault(os.path.abspath(source.id), source)  # noqa: PTH100
    return list(by_path.values())


def _collect(path: Path) -> list[ImageSource]:
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise NoImagesError(f"{path} does not exist; check the path")
    return _from_table(path) if path.suffix.lower() == ".csv" else [_from_file(path)]


def _from_file(path: Path) -> ImageSource:
    if is_site_file(path.name):
        return _from_sites([site_of(path)])[0]
    if is_embryo_file(path.name):
        return ImageSource(str(path), parse_name(path).metadata, read=partial(read_image, path))
    named = named_image(path)
    if named is not None:
        return _from_names(named)
    return ImageSource(str(path), read=partial(read_image, path))


def _from_names(image: NamedImage) -> ImageSource:
    return ImageSource(str(image.first), dict(image.fields), read=partial(read_image, image.first))


def _from_sites(sites: list[SiteFiles]) -> list[ImageSource]:
    return [
        ImageSource(str(site.first), _known(row), read=partial(read_site, site))
        for site, row in zip(sites, sites_metadata(sites), strict=True)
    ]


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None and value != []}


def _from_folder(folder: Path) -> list[ImageSource]:
    sources = _from_sites(find_sites(folder))
    in_sites = {Path(source.id).parent for source in sources}
    named: list[Path] = []
    for path in _image_files(folder):
        # Deeper than RxRx1's own folders go, a site's files are found one by one.
        if is_site_file(path.name) and path.parent in in_sites:
            continue
        own = is_site_file(path.name) or is_embryo_file(path.name)
        if own or parsed(path) is None:
            sources.append(_from_file(path))
        else:
            named.append(path)
    sources += map(_from_names, group_files(named))
    if not sources:
        raise NoImagesError(
            f"the folder {folder} holds no images (TIFF, PNG, JPEG); give a folder that does"
        )
    return sources


def _image_files(folder: Path) -> Iterator[Path]:
    seen = Seen()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if not seen.is_new(Path(parent)):
            folders.clear()
            continue
        kept = ((Path(parent, name).is_symlink(), name) for name in folders if not is_hidden(name))
        folders[:] = [name for _, name in sorted(kept)]
        for name in sorted(names):
            if not is_hidden(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent, name)


def _from_table(table: Path) -> list[ImageSource]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            column = _path_column(table, list(reader.fieldnames or ()))
            sources = list(_from_rows(reader, column, table.parent))
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


def _from_rows(rows: Iterable[dict[str, str]], column: str, folder: Path) -> Iterator[ImageSource]:
    for row in rows:
        text = (row.pop(column) or "").strip()
        if not text:
            continue
        source = _from_row(text, folder)
        # Without a name are values beyond the table's columns.
        extra = {key: _natural(value) for key, value in row.items() if key and value}
        yield ImageSource(source.id, {**source.metadata, **extra}, read=source.read)


def _from_row(text: str, folder: Path) -> ImageSource:
    name = text
    try:
        path = folder / local_path(text)
        name = str(path)
        return _from_file(path)
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
