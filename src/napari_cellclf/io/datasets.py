"""Read labelled images, however they are laid out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from napari_cellclf.core.classes import ClassSpec, make_classes
from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.class_folders import (
    not_named,
    read_class_folders,
    read_split_folders,
    said_of,
    split_folders,
)
from napari_cellclf.io.dataset_tables import (
    make_dataset,
    make_row,
    read_table,
    split_of,
    with_group,
)
from napari_cellclf.io.local_paths import local_path, own_name
from napari_cellclf.io.named_images import FoundImages, NamedImage, find_images
from napari_cellclf.io.naming import Naming, NamingScheme, find_scheme, naming_text, schemes_of
from napari_cellclf.io.sources import ImageSource, named_sources

Kind = Literal["table", "names", "splits", "folders"]

_MOST_NAMED = 5


def read_dataset(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    group: str | None = None,
    every: int = 1,
    minutes: tuple[int, int] | None = None,
    kind: Kind | None = None,
    naming: Naming = None,
) -> Dataset:
    """Find labelled images and say what is known of each; no image is opened.

    Parameters
    ----------
    path : path
        One of

        - a folder with a folder for each class (with any folders below);
        - a folder with ``train``, ``valid`` (or ``val``, ``validation``) and ``test``, each with a
          folder for each class: the split is in the column ``split``;
        - a folder of images whose names say the class: an RxRx1 folder (the root, or one above
          the experiments; a row is a site), or embryo images,
          ``Stage(060)-20230811-Cycle00-embryo03-3.tif``, with a class for each minute that is
          kept;
        - a CSV table with columns ``path`` (relative to the table) and ``label``, and perhaps
          ``group``, ``split`` and others.

    label : str, optional
        The column to learn: of a table ``label`` or any other; of images whose names say the
        class any field or column, of RxRx1 ``cell_type`` or another of its ``metadata.csv``.
    group : str, optional
        The column, or several joined by ``+``, that images are kept together by; guessed from
        names and tables if left out.
    every : int
        Of embryo images, keep every n-th minute, counted from the first of `minutes`.
    minutes : tuple of 2 int, optional
        Of embryo images, keep those between these minutes, both included; by default 51 to 204.
    kind : {"table", "names", "splits", "folders"}, optional
        Where the classes are given; detected by default.
    naming : NamingScheme or str, optional
        How files are named: a pattern such as ``"{plate}/{well}_s{site}_w{channel}.tif"``, whose
        field ``{label}`` is the class if it has one, or the name of an installed scheme. Images in
        folders that are named otherwise are left out. By default any scheme that is installed.

    Returns
    -------
    Dataset
        In order of paths (of a table, in its order); `group_reason` says why images are kept
        together by that column, and `source` what was read and what was left out.

    Raises
    ------
    NoImagesError
        If there is no such path, or no image in it.
    DatasetError
        If labels are missing, or there is no such column.
    InputError
        If a table cannot be understood.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("RPE/plate1.png", "RPE/plate2.png", "U2OS/plate1.png", "U2OS/plate2.png"):
    ...         file = Path(folder, name)
    ...         file.parent.mkdir(exist_ok=True)
    ...         _ = file.write_bytes(b"")
    ...     data = read_dataset(folder)
    >>> len(data), data.class_names, data.group_column
    (4, ('RPE', 'U2OS'), 'plate')
    """
    place = _existing(path)
    if kind is not None and kind not in get_args(Kind):
        raise DatasetError(f"there is no kind {kind!r}; choose one of {', '.join(get_args(Kind))}")
    if kind is not None and place.is_dir() == (kind == "table"):
        what = "a folder" if place.is_dir() else "a file"
        raise DatasetError(f"{place} is {what}, which cannot be of the kind {kind!r}; leave it out")
    found = kind or kind_of(place, naming, label)
    if found == "table":
        data = read_table(place, label or "label", naming)
    elif found == "names":
        data = _read_named(place, label, naming=naming, every=every, between=minutes)
    elif found == "splits":
        data = read_split_folders(place, naming)
    else:
        data = read_class_folders(place, naming)
    return replace(with_group(data, group), naming=naming_text(naming))


def _existing(path: str | os.PathLike[str]) -> Path:
    # Absolute, since a run may go on from another folder.
    place = Path(os.path.abspath(local_path(path)))  # noqa: PTH100
    if not place.exists():
        raise NoImagesError(f"{place} does not exist; check the path")
    return place


def kind_of(place: Path, naming: Naming = None, label: str | None = None) -> Kind:
    """Tell what says the classes of images."""
    if not place.is_dir():
        return "table"
    if _labelling_scheme(find_images(place, naming), label) is not None:
        return "names"
    return "splits" if split_folders(place) else "folders"


def usual_label(place: Path, naming: Naming = None) -> str | None:
    """Return the column that is learnt unless another is chosen; None for folders of classes."""
    if not place.is_dir():
        return "label"
    scheme = _labelling_scheme(find_images(place, naming), None)
    return None if scheme is None else scheme.label


def _labelling_scheme(found: FoundImages, label: str | None) -> NamingScheme | None:
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


def _read_named(
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
    scheme = _labelling_scheme(found, label) or (None if naming is None else find_scheme(naming))
    images = [image for image in found.named if image.scheme == scheme]
    if scheme is None or not images:
        known = ", ".join(one.example for one in schemes_of(naming))
        raise NoImagesError(f"{folder} holds no images named like {known}")
    sources = named_sources(images)
    others = len(found.others) + len(found.named) - len(images)
    column = label or scheme.label
    if column == scheme.label and scheme.label_unit:
        data = _read_numbered(sources, scheme, folder, every, between, others)
        return replace(data, source=data.source + said_of(found.left_out))
    if column is None:
        raise DatasetError(_no_label(scheme, sources))
    rows = [_row(source, scheme, column) for source in sources]
    _check_labels(rows, column)
    _take_split(rows, scheme, folder)
    own = column == scheme.label
    classes = make_classes((row["label"] for row in rows), may_be_ordered=own)
    words = f"{counted(len(rows), 'image')} below {own_name(folder)}, labelled by {column}"
    words += not_named(others, scheme.example) + said_of(found.left_out)
    if own:
        words += _joined_folders(rows, folder)
    return make_dataset(rows, words, classes=classes, schemes=[scheme])


def _joined_folders(rows: Sequence[dict[str, Any]], folder: Path) -> str:
    """Say that several folders are one class by their names, which may not be meant."""
    above: dict[str, dict[str, None]] = {}
    for row in rows:
        label = row["label"]
        for part in Path(row["path"]).relative_to(folder).parts[:-1]:
            if part != label and part.startswith(label):
                above.setdefault(label, {})[part] = None
    joined = next(((name, list(tops)) for name, tops in above.items() if len(tops) > 1), None)
    if joined is None:
        return ""
    named = ", ".join(joined[1][:_MOST_NAMED])
    return (
        f"; the folders {named} are one class, {joined[0]}, by their names (if each folder is a "
        "class of its own: --kind folders)"
    )


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
        f"{len(without):,} of {counted(len(rows), 'image')} have no {label!r}, such as "
        f"{without[0]['path']}; "
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
    return next(filter(None, map(split_of, above)), "")


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
            f"none of the {counted(len(sources), 'image')} is of a {unit} from {first} to {last} "
            "counted in "
            f"steps of {every} from {first}: they are of {unit}s {min(known)} to {max(known)}; "
            f"choose a range that begins at one of their {unit}s, such as "
            f"--minutes {min(known)}-{max(known)}"
        )
    classes = [ClassSpec(name=scheme.class_name(n), value=n, unit=unit) for n in sorted(kept)]
    step = f"every {unit}" if every == 1 else f"one in {every} {unit}s"
    words = f"{counted(len(rows), 'image')} below {own_name(folder)}, {step} from {first} to {last}"
    if len(rows) < len(sources):
        words += (
            f"; {len(sources) - len(rows):,} of {counted(len(sources), 'image')} are of other "
            f"{unit}s and are left out"
        )
    if others:
        one, several = (f"image{s} whose name{s} say{t}" for s, t in (("", "s"), ("s", "")))
        verb = "is" if others == 1 else "are"
        words += f"; {counted(others, one, several)} no {unit} {verb} left out"
    return make_dataset(rows, words, classes=classes, schemes=[scheme])
