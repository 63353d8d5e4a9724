"""What is to be classified: one source for each image, found now and read later."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from napari_cellclf.core.counting import counted
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import NamedObject, Plane
from napari_cellclf.errors import ImageError, InputError, NoImagesError, UnreadableImageError
from napari_cellclf.io.csv_tables import TABLE_SUFFIXES, CsvTable, read_csv
from napari_cellclf.io.files import read_file
from napari_cellclf.io.local_paths import local_path
from napari_cellclf.io.masks import ObjectChoice, ObjectColumns
from napari_cellclf.io.named_images import FoundImages, NamedImage, find_images, named_image
from napari_cellclf.io.naming import Naming, NamingScheme, find_scheme
from napari_cellclf.io.plane_columns import PlaneColumns
from napari_cellclf.io.read import read_named

#: Columns that a sentence names, and letters of each.
_MOST_SHOWN, _LONGEST_SHOWN = 20, 40

OnNote: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class ImageSource:
    """An image that can be read when its turn comes."""

    #: Its path as given; of an image in several files, that of its first channel.
    id: str
    #: What its name says, and the other columns of the table it came from; only what is known.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: What its name follows; None for other names.
    scheme: NamingScheme | None = field(default=None, kw_only=True, repr=False, compare=False)
    #: Which objects of it a table names; `masks.find_objects` makes `read` return them.
    objects: ObjectChoice | None = field(default=None, kw_only=True, repr=False, compare=False)
    #: Which planes of a stack a table names, with what it says of each; empty for all.
    planes: Mapping[Plane, Mapping[str, Any]] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )
    #: Returns the `Image`, with all its planes; raises `ImageError` if it cannot be read.
    read: Callable[[], Image] = field(kw_only=True, repr=False)


def collect_sources(
    inputs: Sequence[str | os.PathLike[str]],
    naming: Naming = None,
    *,
    on_note: OnNote = lambda note: None,
) -> list[ImageSource]:
    """Find the images that files, folders and tables stand for; none is opened.

    `on_note`: told in a sentence each what is left out, and what to know of a table.

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
    by_path: dict[tuple[str, str | None, tuple[Plane, ...]], ImageSource] = {}
    for one in inputs:
        for source in _collect(local_path(one), naming, on_note):
            # Absolute and without "..": one file is one image, however it is called.
            path = os.path.abspath(source.id)  # noqa: PTH100
            mask = None if source.objects is None else source.objects.mask
            by_path.setdefault((path, mask, tuple(source.planes)), source)
    return list(by_path.values())


def _collect(path: Path, naming: Naming, on_note: OnNote) -> list[ImageSource]:
    if path.is_dir():
        return _from_folder(path, naming, on_note)
    if not path.is_file():
        raise NoImagesError(f"{path} does not exist; check the path")
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _from_table(path, naming, on_note)
    return [_from_file(path, naming)]


def _from_folder(folder: Path, naming: Naming, on_note: OnNote) -> list[ImageSource]:
    found = find_images(folder, naming)
    left_out = found.left_out.sentences()
    if not found.named and not found.others:
        beside = f" ({'; '.join(left_out)})" if left_out else ""
        raise NoImagesError(
            f"the folder {folder} holds no images (TIFF, PNG, JPEG, BMP){beside}; give a folder "
            "that does"
        )
    if naming is not None and not found.named:
        raise NoImagesError(
            f"none of the {counted(len(found.others), 'image')} below {folder} is named like "
            f"{find_scheme(naming).name} (one is {found.others[0].relative_to(folder)}); correct "
            "the naming pattern"
        )
    if naming is not None and found.others:
        images = counted(len(found.others), "image is", "images are")
        on_note(
            f"{images} not named like {find_scheme(naming).name} and left out, such as "
            f"{found.others[0]}"
        )
    for sentence in left_out:
        on_note(f"{folder}: {sentence}")
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


def _from_table(path: Path, naming: Naming, on_note: OnNote) -> list[ImageSource]:
    table = read_csv(path)
    if table.note:
        on_note(f"{path}: {table.note}")
    column = path_column(path, table.columns)
    filled = [row for row in table.rows if row[column].strip()]
    objects = ObjectColumns.of_rows(table.columns, filled)
    planes = PlaneColumns.of_rows(table.columns, filled, column)
    if objects is not None:
        return _of_objects(path, table, column, objects, planes, naming, on_note)
    if planes is not None:
        return _of_objects(path, table, column, ObjectColumns(), planes, naming, on_note)
    sources = []
    for row in table.rows:
        text = row.pop(column).strip()
        if text:
            source = _from_row(text, path, naming)
            extra = {key: value for key, value in row.items() if value}
            sources.append(replace(source, metadata={**source.metadata, **extra}))
    if not sources:
        raise NoImagesError(f"the table {path} names no images; fill its column {column!r}")
    repeats = len(sources) - len({os.path.abspath(source.id) for source in sources})  # noqa: PTH100
    if repeats:
        on_note(f"{path}: {again(repeats)}")
    if len(sources) < len(table.rows):
        on_note(f"{path}: {without_path(len(table.rows) - len(sources))}")
    return sources


def _of_objects(
    path: Path,
    table: CsvTable,
    column: str,
    objects: ObjectColumns,
    planes: PlaneColumns | None,
    naming: Naming,
    on_note: OnNote,
) -> list[ImageSource]:
    """Make a source of each image and mask in a table, with planes and objects that its rows name.

    Planes of one stack are of one source, which is read once.
    """
    rows: dict[tuple[str, str, bool], list[tuple[Plane, dict[str, str]]]] = {}
    for row in table.rows:
        text = row.pop(column).strip()
        if text:
            plane = () if planes is None else planes.plane_in(row, f"{text} in the table {path}")
            rows.setdefault((text, objects.mask_in(row), bool(plane)), []).append((plane, row))
    if not rows:
        raise NoImagesError(f"the table {path} names no images; fill its column {column!r}")
    sources = []
    repeats = 0
    for (text, mask, of_planes), placed in rows.items():
        named = [row for _, row in placed]
        chosen = _chosen(placed, objects, f"{text} in the table {path}")
        # What is said of an object is its own.
        said = [row if chosen is None else {} for row in named]
        own = dict(zip((plane for plane, _ in placed), said, strict=True)) if of_planes else {}
        repeats += _repeats(placed, chosen, objects)
        fields = {key: cell for key, cell in named[0].items() if cell}
        if len(named) > 1:
            # What is said of all of them; the rest is each object's own.
            fields = {k: v for k, v in fields.items() if all(row[k] == v for row in named)}
        place = str(path_in_table(mask, path)) if mask else None
        source = _from_row(text, path, naming)
        sources.append(
            replace(
                source,
                metadata={**source.metadata, **fields},
                objects=ObjectChoice(place, chosen) if objects.names else None,
                planes=own,
            )
        )
    if repeats:
        on_note(f"{path}: {again(repeats, 'object' if objects.names else 'image')}")
    return sources


def _repeats(
    rows: Sequence[tuple[Plane, Mapping[str, str]]],
    chosen: tuple[NamedObject, ...] | None,
    columns: ObjectColumns,
) -> int:
    """Count the rows that name what another row of the same image and mask names."""
    if chosen is not None:
        return len(rows) - len(chosen)
    return 0 if columns.names else len(rows) - len({plane for plane, _ in rows})


def _chosen(
    rows: Sequence[tuple[Plane, Mapping[str, str]]], columns: ObjectColumns, where: str
) -> tuple[NamedObject, ...] | None:
    chosen: dict[tuple[Plane, int], NamedObject] = {}
    numbers: Counter[Plane] = Counter()
    for plane, row in rows:
        numbers[plane] += 1
        one = columns.object_in(row, numbers[plane], where)
        if one is None:
            return None
        fields = {key: cell for key, cell in row.items() if cell and key not in columns.names}
        one = replace(one, fields=fields, plane=plane)
        first = chosen.setdefault((plane, one.number), one)
        if first.centre != one.centre:
            raise InputError(
                f"{where} has the object {one.number} at two places; give each object a number of "
                "its own"
            )
    return tuple(chosen.values())


def path_column(table: Path, columns: Sequence[str]) -> str:
    """Return the column of a table that names the images: ``path``, or ``image`` as we write it."""
    found = {column.lower(): column for column in columns}
    for name in ("path", "image"):
        if name in found:
            return found[name]
    raise InputError(
        f"the table {table} has no column 'path' (its columns: {listed(columns)}); "
        "name the column of image paths 'path'"
    )


def listed(columns: Sequence[str]) -> str:
    """Name columns in a sentence, as far as it has room for them."""
    shown = [name[:_LONGEST_SHOWN] for name in columns[:_MOST_SHOWN]]
    more = [f"and {len(columns) - _MOST_SHOWN} more"] if len(columns) > _MOST_SHOWN else []
    return ", ".join([*shown, *more]) or "none"


def path_in_table(text: str, table: Path) -> Path:
    """Return the file that a table names; one that we wrote may name it from where we are."""
    folder = table.parent
    try:
        path = folder / local_path(text)
    except ImageError as error:
        raise ImageError(f"a row of the table {table} cannot be used: {error}") from error
    # Spreadsheets and file systems may write one name in two ways (é, or e and an accent).
    forms = [path, *(folder / unicodedata.normalize(form, text) for form in ("NFC", "NFD"))]
    # As Windows writes it.
    forms.append(folder / text.replace("\\", "/"))
    here = Path(os.path.abspath(text))  # noqa: PTH100
    return next((one for one in (*forms, here) if os.path.exists(one)), path)  # noqa: PTH110


def again(count: int, what: str = "image") -> str:
    """Say how many rows of a table name an image, or an object, that another row names."""
    one, several = f"row names an {what} again and is", f"rows name an {what} again and are"
    return f"{counted(count, one, several)} left out"


def without_path(count: int) -> str:
    """Say how many rows of a table name no image."""
    return counted(count, "row names no image", "rows name no image")


def _from_row(text: str, table: Path, naming: Naming) -> ImageSource:
    name = text
    try:
        name = str(table.parent / local_path(text))
        path = path_in_table(text, table)
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
