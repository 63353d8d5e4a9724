"""Tables of labelled images: those of users, and ``dataset.csv``, which is read back as written."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.classes import ClassSpec, make_classes
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.grouping import columns_from_names, group_keys, guess_group
from napari_cellclf.errors import DatasetError, InputError, NoImagesError
from napari_cellclf.io.local_paths import local_path
from napari_cellclf.io.named_images import named_image
from napari_cellclf.io.naming import Naming, NamingScheme
from napari_cellclf.io.sources import ImageSource, named_sources
from napari_cellclf.io.tables import safe_cell

if TYPE_CHECKING:
    import pandas as pd


#: What people call the folders of a split.
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
#: Columns that every data set has; what a name says cannot replace them.
_NEEDED = ("path", "label", "split")
# Numbers as Python writes them; 007 is a code, and 1e400 is no number that could be kept.
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]?\d{1,3})?|nan|-?inf")


def make_row(source: ImageSource, label: str, split: str = "") -> dict[str, Any]:
    """Make the row of an image."""
    # A group that its scheme does not split by is made of fields that have columns of their own.
    own = _NEEDED if source.scheme and "group" in source.scheme.groups else (*_NEEDED, "group")
    says = {
        str(key): "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in source.metadata.items()
        if key not in own
    }
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
    return Dataset(table, tuple(classes), column, reason, source)


def make_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table in which a cell of text is never missing, but empty."""
    import pandas as pd

    table = pd.DataFrame(list(rows))
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name].astype(object).fillna("").astype(str)
    return table


def with_group(data: Dataset, group: str | None) -> Dataset:
    """Keep images together by a column that the user names."""
    if group is None:
        return data
    group_keys(data.table, group)
    return replace(data, group_column=group, group_reason=f"the group was chosen: {group}")


def read_table(path: Path, label: str, naming: Naming = None) -> Dataset:
    """Read a user's table of labelled images."""
    rows = [_tidy(row) for row in _read_rows(path)]
    columns = list(rows[0]) if rows else []
    for needed in ("path", label.lower()):
        if rows and needed not in columns:
            raise DatasetError(
                f"the table {path} has no column {needed!r} (its columns: {', '.join(columns)}); "
                "name the column of paths 'path', and choose the column to learn (--label)"
            )
    filled = [row | {"path": _unescape(row["path"])} for row in rows if row["path"]]
    if not filled:
        raise NoImagesError(f"the table {path} names no images; fill its column 'path'")
    typed = _typed_columns(filled, skip=("path", label.lower(), "split"))
    schemes: list[NamingScheme] = []
    made = []
    for row, numbers in zip(filled, typed, strict=True):
        file = Path(os.path.abspath(path.parent / local_path(row["path"])))  # noqa: PTH100
        said = _said_by_name(file, naming, schemes)
        made.append(said | _row(row, numbers, label.lower(), path))
    unique, names = _without_repeats(made, [row["path"] for row in filled])
    words = f"{len(unique)} images of the table {path}, labelled by {label}"
    if len(unique) < len(made):
        words += f"; {len(made) - len(unique)} rows name an image again and are left out"
    return make_dataset(unique, words, names=names, of_table=columns, schemes=schemes)


def write_dataset_csv(
    dataset: Dataset, path: str | os.PathLike[str], root: str | os.PathLike[str]
) -> None:
    """Write every row of a data set with its split; whole or not at all."""
    file = Path(path)
    top = Path(os.path.abspath(root))  # noqa: PTH100
    beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    columns = [*_NEEDED, *(name for name in dataset.table.columns if name not in _NEEDED)]
    cells = [dataset.table[name].tolist() for name in columns]
    cells[0] = [_relative(one, top) for one in cells[0]]
    as_text = [
        name not in _NEEDED and _is_numbers(column)
        for name, column in zip(columns, cells, strict=True)
    ]
    marked = [
        # Empty cells alone would come back as text.
        ["nan"] * len(column)
        if _is_missing(dataset.table[name])
        else [_escape(cell, as_text=text) for cell in column]
        for name, text, column in zip(columns, as_text, cells, strict=True)
    ]
    try:
        # Undecodable bytes in names of files come back as they were.
        with beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
            writer = csv.writer(out)
            writer.writerow([_escape(str(name)) for name in columns])
            writer.writerows(zip(*marked, strict=True))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        raise InputError(
            f"the table {file} cannot be written ({error.strerror}); choose a folder that exists "
            "and is writable"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


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
    rows = list(_read_rows(file))
    missing = [name for name in _NEEDED if rows and name not in rows[0]]
    if not rows or missing:
        lacks = f"lacks {', '.join(missing)}" if missing else "has no rows"
        raise DatasetError(f"the table {file} {lacks}; it is not one that was written for a run")
    top = Path(os.path.abspath(root))  # noqa: PTH100
    table = make_frame(_typed_columns(rows, skip=_NEEDED))
    table["path"] = [str(top / one) for one in table["path"]]
    if classes is None:
        classes = make_classes(table["label"])
    return Dataset(table, tuple(classes), group_column, group_reason, source, leakage_allowed)


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file)
            columns = [_unescape(name) for name in next(reader, [])]
            filling = [""] * len(columns)
            rows = [dict(zip(columns, row + filling, strict=False)) for row in reader if row]
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV table: {error}") from error
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise InputError(
            f"the table {path} separates its columns with semicolons or tabs; separate them with "
            "commas"
        )
    return rows


def _tidy(row: Mapping[str, str]) -> dict[str, str]:
    return {name.strip().lower(): cell.strip() for name, cell in row.items() if name.strip()}


def _row(
    row: Mapping[str, str], typed: Mapping[str, Any], label: str, table: Path
) -> dict[str, Any]:
    name = _unescape(row[label])
    if not name:
        raise DatasetError(
            f"{row['path']} has no {label!r} in the table {table}; give every image one or remove "
            "its row"
        )
    split = row.get("split", "").lower()
    if split and split not in SPLIT_NAMES:
        raise DatasetError(
            f"{row['path']} has the split {row['split']!r} in the table {table}; call it train, "
            "validation or test, or leave it empty"
        )
    # What the table says of an image goes before what its name says.
    extra = {key: cell for key, cell in typed.items() if key not in (*_NEEDED, label)}
    if label not in _NEEDED:
        extra[label] = name
    return {"label": name, "split": SPLIT_NAMES.get(split, "")} | extra


def _said_by_name(file: Path, naming: Naming, schemes: list[NamingScheme]) -> dict[str, Any]:
    """Return what the name of a file says, and add its scheme to those that were met."""
    image = named_image(file, naming) if file.is_file() else None
    if image is None:
        return {"path": str(file)}
    schemes.append(image.scheme)
    return make_row(named_sources([image])[0], "")


def _without_repeats(
    rows: list[dict[str, Any]], names: list[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Keep each image once; of other labels for the same image too, so that they are reported."""
    kept: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
    for row, name in zip(rows, names, strict=True):
        kept.setdefault((row["path"], row["label"]), (row, PurePath(name).as_posix()))
    return [row for row, _ in kept.values()], [name for _, name in kept.values()]


def _typed_columns(rows: Sequence[Mapping[str, str]], skip: Sequence[str]) -> list[dict[str, Any]]:
    """Turn columns in which every cell is a number into numbers."""
    columns: dict[str, Sequence[Any]] = {}
    for name in rows[0]:
        cells = [row[name] for row in rows]
        columns[name] = list(map(_unescape, cells)) if name in skip else _typed(cells)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _typed(cells: list[str]) -> Sequence[Any]:
    if not _is_numbers(cells):
        return list(map(_unescape, cells))
    if all(map(_WHOLE.fullmatch, cells)):
        return [int(cell) for cell in cells]
    return [float(cell) if cell else np.nan for cell in cells]


def _is_missing(column: pd.Series[Any]) -> bool:
    """Whether a column of numbers has none."""
    return column.dtype.kind == "f" and bool(column.isna().all())


def _is_numbers(cells: Iterable[Any]) -> bool:
    """Whether cells are text that reads as numbers, some of them perhaps empty."""
    filled = [cell for cell in cells if cell != ""]
    return bool(filled) and all(
        isinstance(cell, str) and (_DECIMAL.fullmatch(cell) or _WHOLE.fullmatch(cell))
        for cell in filled
    )


def _relative(path: str, root: Path) -> str:
    one = Path(path)
    return one.relative_to(root).as_posix() if one.is_relative_to(root) else str(one)


def _escape(cell: Any, *, as_text: bool = False) -> str:
    if not isinstance(cell, str):
        missing = cell is None or (isinstance(cell, float) and np.isnan(cell))
        return "" if missing else safe_cell(cell)
    # An apostrophe that is there already gets another one, so that one can be taken away.
    if _means_more(cell.lstrip("'")) and (cell[:1] == "'" or as_text):
        return f"'{cell}"
    return safe_cell(cell)


def _unescape(text: str) -> str:
    return text[1:] if text[:1] == "'" and _means_more(text.lstrip("'")) else text


def _means_more(text: str) -> bool:
    """Whether a cell would be taken for a formula or a number."""
    return text != safe_cell(text) or _is_numbers([text])
