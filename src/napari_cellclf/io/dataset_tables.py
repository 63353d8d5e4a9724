"""Tables of labelled images: those of users, and ``dataset.csv``, which is read back as written."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.classes import ClassSpec, make_classes
from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset import OBJECT_COLUMNS, Dataset
from napari_cellclf.core.grouping import columns_from_names, group_keys, guess_group
from napari_cellclf.core.objects import plane_text
from napari_cellclf.errors import DatasetError, InputError, NoImagesError
from napari_cellclf.io.csv_tables import TABLE_SUFFIXES, escape, read_csv, write_cells
from napari_cellclf.io.label_file import current_labels
from napari_cellclf.io.local_paths import own_name
from napari_cellclf.io.masks import ObjectColumns, mask_beside
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.naming import Naming, NamingScheme
from napari_cellclf.io.plane_columns import AXIS_COLUMNS, PlaneColumns
from napari_cellclf.io.sources import (
    ImageSource,
    again,
    listed,
    named_sources,
    path_column,
    path_in_table,
    without_path,
)

if TYPE_CHECKING:
    import pandas as pd


#: What people call the parts of a split.
_SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "validate": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "hold-out": "test",
    "hold_out": "test",
}
#: Around such a name: 01_train, test set, val-images.
_AROUND_SPLIT = re.compile(
    r"(?:\d+[ _.-])?(.+?)(?:[ _-]?(?:set|dataset|data|images|imgs|split))?", re.IGNORECASE
)
#: Columns that every data set has; what a name says cannot replace them.
_NEEDED = ("path", "label", "split")


def split_of(name: str) -> str | None:
    """Return the part of a split that people mean by a name; None if it is none that is known.

    Examples
    --------
    >>> split_of("Train"), split_of("02_val-images"), split_of("testset"), split_of("control")
    ('train', 'validation', 'test', None)
    """
    match = _AROUND_SPLIT.fullmatch(name.strip())
    return _SPLIT_NAMES.get(match[1].lower()) if match else None


def make_row(source: ImageSource, label: str, split: str = "") -> dict[str, Any]:
    """Make the row of an image."""
    # A group that its scheme does not split by is made of fields that have columns of their own.
    own = _NEEDED if source.scheme and "group" in source.scheme.groups else (*_NEEDED, "group")
    says = {
        str(key): "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in source.metadata.items()
        if key not in own
    }
    # One name that is written in two ways (é, or e and an accent) is one class.
    label = unicodedata.normalize("NFC", label).strip()
    return {"path": os.path.abspath(source.id), "label": label, "split": split, **says}  # noqa: PTH100


def make_dataset(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    classes: Iterable[ClassSpec] | None = None,
    names: Sequence[str] | None = None,
    of_table: Container[str] = (),
    schemes: Iterable[NamingScheme] = (),
) -> Dataset:
    """Make a data set and guess what its images are kept together by.

    `names`: what may say more of each image, such as its path below the folder of its class.
    `of_table`: columns that the user's own table has.
    `schemes`: what the images are named by.
    """
    table = make_frame(rows)
    said = {} if names is None else columns_from_names(names)
    new = {column: values for column, values in said.items() if column not in table.columns}
    table = table.assign(**new)
    known = [name for name in table.columns if name not in of_table]
    used = list(dict.fromkeys(schemes))
    groups = used[0].groups if len(used) == 1 else ()
    column, reason = guess_group(table, known, groups)
    if classes is None:
        classes = make_classes(table["label"])
    data = Dataset(table, tuple(classes), source=source)
    if data.has_objects or data.has_planes:
        what = "planes of one stack" if data.has_planes else "objects of one image"
        column, reason = _group_of_images(table, what, column, reason)
    return replace(data, group_column=column, group_reason=reason)


def _group_of_images(
    table: pd.DataFrame, what: str, column: str | None, reason: str
) -> tuple[str, str]:
    """Keep the rows of one image together, if nothing is known that keeps more together."""
    if column is not None:
        pairs = set(zip(table["path"], group_keys(table, column), strict=True))
        if len(pairs) == table["path"].nunique():
            return column, reason
    return "path", f"{what} stay together"


def make_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table of text: codes such as ``1.10`` stay as they are, missing cells are empty."""
    import pandas as pd

    names = dict.fromkeys(name for row in rows for name in row)
    cells = {name: [_text(row.get(name)) for row in rows] for name in names}
    return pd.DataFrame(cells)


def _text(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    # A column of whole numbers with gaps holds 1.0 for 1.
    whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell) if whole else cell)


def with_group(data: Dataset, group: str | None) -> Dataset:
    """Keep images together by a column that the user names."""
    if group is None:
        return data
    group_keys(data.table, group)
    return replace(data, group_column=group, group_reason=f"the group was chosen: {group}")


def read_table(path: Path, label: str, naming: Naming = None) -> Dataset:
    """Read a user's table of labelled images, or a file to which labels were added."""
    table = current_labels(path, read_csv(path))
    column = path_column(path, table.columns).lower()
    columns = [name.lower() for name in table.columns]
    if label.lower() not in columns:
        raise DatasetError(
            f"the table {path} has no column {label.lower()!r} (its columns: "
            f"{listed(columns)}); choose the column to learn (--label)"
        )
    rows = [{name.lower(): cell.strip() for name, cell in row.items()} for row in table.rows]
    filled = [{"path": row[column]} | row for row in rows if row[column]]
    if not filled:
        raise NoImagesError(f"the table {path} names no images; fill its column {column!r}")
    schemes: list[NamingScheme] = []
    made = []
    objects = _objects_of(path, columns, filled)
    planes = PlaneColumns.of_rows([name for name in columns if name != label.lower()], filled)
    for row in filled:
        file = Path(os.path.abspath(path_in_table(row["path"], path)))  # noqa: PTH100
        one = _said_by_name(file, naming, schemes) | _row(row, label.lower(), path)
        if planes is not None:
            plane = planes.plane_in(row, f"{row['path']} in the table {path}")
            one["plane"] = plane_text(plane)
        made.append(one)
    if objects is not None:
        _name_objects(made, filled, objects, path)
    unique, names = _without_repeats(made, [row["path"] for row in filled], planes is not None)
    count = len({row["path"] for row in unique})
    noun = "plane" if planes is not None else "image"
    rows_in_words = counted(len(unique), noun if objects is None else "object")
    if objects is not None or planes is not None:
        rows_in_words += f" in {counted(count, 'image')}"
    words = f"{rows_in_words} of the table {own_name(path)}, labelled by {label}"
    if table.note:
        words += f"; {table.note}"
    if len(filled) < len(rows):
        words += f"; {without_path(len(rows) - len(filled))}"
    if len(unique) < len(made):
        words += f"; {again(len(made) - len(unique))}"
    return make_dataset(unique, words, names=names, of_table=columns, schemes=schemes)


def names_objects(table: Path) -> bool:
    """Whether a file is a table whose rows are objects; reads its cells, but no image."""
    if not table.is_file() or table.suffix.lower() not in TABLE_SUFFIXES:
        return False
    try:
        found = current_labels(table, read_csv(table))
        column = path_column(table, found.columns).lower()
    except InputError:
        # Told of where it is read as data.
        return False
    rows = [{name.lower(): cell.strip() for name, cell in row.items()} for row in found.rows]
    filled = [{"path": row[column]} | row for row in rows if row[column]]
    columns = [name.lower() for name in found.columns]
    return bool(filled) and _objects_of(table, columns, filled) is not None


def _objects_of(
    table: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]
) -> ObjectColumns | None:
    """Find the columns that say which object a row is; None if the rows are whole images."""
    found = ObjectColumns.of_rows(columns, rows)
    if found is not None and found.names == (found.object,):
        # An image with several numbers has objects; of one with one, a mask beside it tells.
        paths = {row["path"]: path_in_table(row["path"], table) for row in rows}
        planes = PlaneColumns.of_rows(columns, rows)
        places = [
            (row["path"], () if planes is None else planes.plane_in(row, row["path"]))
            for row in rows
        ]
        named = {(*place, row["object"]) for place, row in zip(places, rows, strict=True)}
        several = len(named) > len(set(places))
        return found if several or any(map(mask_beside, paths.values())) else None
    # A mask alone names no object that a label could be of.
    return None if found is None or found.names == (found.mask,) else found


def _name_objects(
    made: Sequence[dict[str, Any]],
    rows: Sequence[Mapping[str, str]],
    columns: ObjectColumns,
    table: Path,
) -> None:
    """Write into each row which object it is, in the columns that data sets have for it."""
    counted: Counter[tuple[str, str]] = Counter()
    beside = cache(lambda path: str(mask_beside(Path(path)) or ""))
    for one, row in zip(made, rows, strict=True):
        within = one["path"], one.get("plane", "")
        counted[within] += 1
        where = f"{row['path']} in the table {table}"
        named = columns.object_in(row, counted[within], where)
        mask = columns.mask_in(row)
        place = str(Path(os.path.abspath(path_in_table(mask, table)))) if mask else ""  # noqa: PTH100
        if named is None:
            raise DatasetError(f"{where} names no object; fill its column 'object'")
        if not place and named.centre is None:
            place = beside(one["path"])
        if not place and named.centre is None:
            raise DatasetError(
                f"{where} has neither a mask nor y and x; add a column 'mask', or lay the mask "
                "beside the image"
            )
        y, x = ("", "") if named.centre is None else map(repr, named.centre)
        one |= {"mask": place, "object": str(named.number), "y": y, "x": x}


def write_dataset_csv(
    dataset: Dataset, path: str | os.PathLike[str], root: str | os.PathLike[str]
) -> None:
    """Write every row of a data set with its split; whole or not at all."""
    file = Path(path)
    top = Path(os.path.abspath(root))  # noqa: PTH100
    columns = [*_NEEDED, *(name for name in dataset.table.columns if name not in _NEEDED)]
    cells = [list(map(_text, dataset.table[name])) for name in columns]
    cells[0] = [_relative(one, top) for one in cells[0]]
    if dataset.has_objects:
        place = columns.index("mask")
        cells[place] = [mask and _relative(mask, top) for mask in cells[place]]
    if "plane" not in columns and set(columns) & set(AXIS_COLUMNS):
        # Fields of names, which are no planes when the table is read as data.
        columns, cells = [*columns, "plane"], [*cells, [""] * len(dataset)]
    heading = [escape(str(name)) for name in columns]
    write_cells(file, [heading, *(list(map(escape, row)) for row in zip(*cells, strict=True))])


def read_dataset_csv(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    classes: Iterable[ClassSpec] | None = None,
    group_column: str | None = None,
    group_reason: str = "",
    source: str = "",
    leakage_allowed: bool = False,
) -> Dataset:
    """Read what `write_dataset_csv` wrote."""
    file = Path(path)
    rows = read_csv(file, own=True).rows
    missing = [name for name in _NEEDED if rows and name not in rows[0]]
    if not rows or missing:
        lacks = f"lacks {', '.join(missing)}" if missing else "has no rows"
        raise DatasetError(f"the table {file} {lacks}; it is not one that was written for a run")
    top = Path(os.path.abspath(root))  # noqa: PTH100
    table = make_frame([row | _absolute(row, top) for row in rows])
    if classes is None:
        classes = make_classes(table["label"])
    return Dataset(table, tuple(classes), group_column, group_reason, source, leakage_allowed)


def _row(row: Mapping[str, str], label: str, table: Path) -> dict[str, str]:
    name = unicodedata.normalize("NFC", row[label])
    if not name:
        raise DatasetError(
            f"{row['path']} has no {label!r} in the table {table}; give every image one or remove "
            "its row"
        )
    split = split_of(row.get("split", ""))
    if split is None and row.get("split"):
        raise DatasetError(
            f"{row['path']} has the split {row['split']!r} in the table {table}; call it train, "
            "validation or test, or leave it empty"
        )
    # What the table says of an image goes before what its name says.
    extra = {key: cell for key, cell in row.items() if key not in (*_NEEDED, label)}
    if label not in _NEEDED:
        extra[label] = name
    return {"label": name, "split": split or ""} | extra


def _said_by_name(file: Path, naming: Naming, schemes: list[NamingScheme]) -> dict[str, Any]:
    """Return what the name of a file says, and add its scheme to those that were met."""
    # Not Path.is_file, which raises where a name is too long.
    image = named_image(file, naming) if os.path.isfile(file) else None  # noqa: PTH113
    if image is None:
        return {"path": str(file)}
    schemes.append(image.scheme)
    return make_row(named_sources([image])[0], "")


def _without_repeats(
    rows: list[dict[str, Any]], names: list[str], planes: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Keep each image once; of other labels for the same image too, so that they are reported."""
    kept: dict[tuple[str, ...], tuple[dict[str, Any], str]] = {}
    objects = bool(rows) and rows[0].keys() >= set(OBJECT_COLUMNS)
    said = ["path", "label", *(OBJECT_COLUMNS if objects else ()), *(["plane"] if planes else [])]
    for row, name in zip(rows, names, strict=True):
        key = tuple(row[column] for column in said)
        kept.setdefault(key, (row, PurePath(name).as_posix()))
    return [row for row, _ in kept.values()], [name for _, name in kept.values()]


def _absolute(row: Mapping[str, str], root: Path) -> dict[str, str]:
    names = ["path"]
    if row.get("mask") and row.keys() >= set(OBJECT_COLUMNS):
        names.append("mask")
    return {name: str(root / row[name]) for name in names}


def _relative(path: str, root: Path) -> str:
    one = Path(path)
    return one.relative_to(root).as_posix() if one.is_relative_to(root) else str(one)
