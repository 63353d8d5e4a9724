"""Images whose class their names say, or a table that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_cellclf.core.classes import ClassSpec, make_classes
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.datasets.folders import SPLIT_NAMES
from napari_cellclf.io.datasets.rows import make_dataset, make_row
from napari_cellclf.io.naming import (
    FoundImages,
    NamedImage,
    Naming,
    NamingScheme,
    find_images,
    find_scheme,
    schemes_of,
)
from napari_cellclf.io.sources import ImageSource, named_sources


def labelling_scheme(found: FoundImages, label: str | None) -> NamingScheme | None:
    """Return the scheme that says the classes of most images below a folder, if there is one."""
    files = len(found.others) + sum(len(image.files) for image in found.named)
    of_scheme: dict[NamingScheme, list[NamedImage]] = {}
    for image in found.named:
        of_scheme.setdefault(image.scheme, []).append(image)
    for scheme, images in of_scheme.items():
        if 2 * sum(len(image.files) for image in images) <= files:
            continue
        described = scheme.describe(images)
        if label is not None and any(label in row for row in described):
            return scheme
        if any(scheme.label_of(row) is not None for row in described):
            return scheme
    return None


def read_named(
    folder: Path,
    label: str | None,
    *,
    naming: Naming = None,
    every: int = 1,
    between: tuple[int, int] | None = None,
) -> Dataset:
    """Read the images below a folder whose names say what they are.

    `label`: the field or column to learn; by default the one that the scheme says.
    `every`, `between`: which labels are kept, where they are numbers.
    """
    found = find_images(folder, naming)
    scheme = labelling_scheme(found, label) or (None if naming is None else find_scheme(naming))
    images = [image for image in found.named if image.scheme == scheme]
    if scheme is None or not images:
        known = ", ".join(one.example for one in schemes_of(naming))
        raise NoImagesError(f"{folder} holds no images named like {known}")
    sources = named_sources(images)
    others = len(found.others) + len(found.named) - len(images)
    column = label or scheme.label
    if column == scheme.label and scheme.label_unit:
        return _read_numbered(sources, scheme, folder, every, between, others)
    if column is None:
        raise DatasetError(_no_label(scheme, sources))
    rows = [_row(source, scheme, column) for source in sources]
    _check_labels(rows, column)
    _take_split(rows, scheme, folder)
    own = column == scheme.label
    classes = make_classes((row["label"] for row in rows), may_be_ordered=own)
    words = f"{len(rows)} images below {folder}, labelled by {column}"
    if others:
        words += f"; {others} images that are not named like {scheme.example} are left out"
    return make_dataset(rows, words, classes=classes, schemes=[scheme])


def _row(source: ImageSource, scheme: NamingScheme, column: str) -> dict[str, Any]:
    value = source.metadata.get(column)
    if value is None and column == scheme.label:
        value = scheme.label_of(source.metadata)
    row = make_row(source, "" if value is None else scheme.class_name(value))
    return row if value is None else {**row, column: row.get(column, value)}


def _no_label(scheme: NamingScheme, sources: Sequence[ImageSource]) -> str:
    fields = dict.fromkeys(name for source in sources for name in source.metadata)
    return (
        f"names like {scheme.example} do not say the class; choose a column to learn "
        f"({', '.join(fields)}), write {{label}} in the naming pattern, or put the images of each "
        "class into a folder"
    )


def _check_labels(rows: Sequence[dict[str, Any]], label: str) -> None:
    without = [row for row in rows if not row["label"]]
    if not without:
        return
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "path"]
    known = ", ".join(name for name in columns if name not in ("label", "split"))
    raise DatasetError(
        f"{len(without)} of {len(rows)} images have no {label!r}, such as {without[0]['path']}; "
        f"choose another label ({known}) or complete the table"
    )


def _take_split(rows: list[dict[str, Any]], scheme: NamingScheme, folder: Path) -> None:
    """Take the publisher's split if every class is on both sides, else that of folders."""
    if scheme.split is None:
        for row in rows:
            row["split"] = _split_of_folders(row["path"], folder)
        return
    sides = {(row["label"], row.get(scheme.split)) for row in rows}
    labels = {label for label, _ in sides}
    if sides == {(label, side) for label in labels for side in ("train", "test")}:
        for row in rows:
            row["split"] = row[scheme.split]


def _split_of_folders(path: str, folder: Path) -> str:
    above = Path(path).relative_to(folder).parts[:-1]
    splits = [SPLIT_NAMES[part.lower()] for part in above if part.lower() in SPLIT_NAMES]
    return splits[0] if splits else ""


def _read_numbered(
    sources: Sequence[ImageSource],
    scheme: NamingScheme,
    folder: Path,
    every: int,
    between: tuple[int, int] | None,
    others: int,
) -> Dataset:
    """Read images whose label is a number, such as a minute, and keep some of the numbers."""
    unit = scheme.label_unit
    numbers = [scheme.label_of(source.metadata) for source in sources]
    known = [int(number) for number in numbers if number is not None]
    first, last = between or scheme.label_range or (min(known), max(known))
    if every < 1 or first > last:
        raise DatasetError(
            f"every {every} {unit}s from {first} to {last} cannot be kept; give every at least 1, "
            f"and the earlier {unit} first"
        )
    kept = {n for n in known if first <= n <= last and (n - first) % every == 0}
    rows = []
    for source, number in zip(sources, numbers, strict=True):
        if number is not None and number in kept:
            row = make_row(source, scheme.class_name(number))
            rows.append(row | {"split": _split_of_folders(row["path"], folder)})
    if not rows:
        raise DatasetError(
            f"none of the {len(sources)} images is of a {unit} from {first} to {last} counted in "
            f"steps of {every} from {first}: they are of {unit}s {min(known)} to {max(known)}; "
            f"choose a range that begins at one of their {unit}s, such as "
            f"--minutes {min(known)}-{max(known)}"
        )
    classes = [ClassSpec(name=scheme.class_name(n), value=n, unit=unit) for n in sorted(kept)]
    step = f"every {unit}" if every == 1 else f"one in {every} {unit}s"
    words = f"{len(rows)} images below {folder}, {step} from {first} to {last}"
    if len(rows) < len(sources):
        words += (
            f"; {len(sources) - len(rows)} of {len(sources)} images are of other {unit}s and are "
            "left out"
        )
    if others:
        words += f"; {others} images whose names say no {unit} are left out"
    return make_dataset(rows, words, classes=classes, schemes=[scheme])
