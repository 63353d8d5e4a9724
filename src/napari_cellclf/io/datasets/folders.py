"""A folder for each class, and the same below train, valid and test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_cellclf.core.dataset import SPLITS, Dataset
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.datasets.rows import make_dataset, make_row
from napari_cellclf.io.files import IMAGE_SUFFIXES, is_hidden
from napari_cellclf.io.naming import Naming, NamingScheme
from napari_cellclf.io.sources import collect_sources

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
_MOST_NAMED = 5


def split_folders(folder: Path) -> dict[str, Path]:
    """Find the folders of a split."""
    found: dict[str, Path] = {}
    for below in _folders(folder):
        split = SPLIT_NAMES.get(below.name.lower())
        if split in found:
            raise DatasetError(
                f"{found[split]} and {below} are both for {split}; rename or join one of them"
            )
        if split is not None:
            found[split] = below
    if "train" not in found or len(found) < 2:
        return {}
    return {split: found[split] for split in SPLITS if split in found}


def read_class_folders(folder: Path, naming: Naming = None) -> Dataset:
    """Read a folder with a folder for each class."""
    rows, names, schemes = _labelled(folder, "", naming)
    _check_any(rows, folder)
    beside = _images_beside(folder)
    n_classes = len({row["label"] for row in rows})
    source = f"{len(rows)} images in {n_classes} folders of classes below {folder}"
    if beside:
        source += f"; {beside} images beside these folders have no class and are left out"
    return make_dataset(rows, source, names=names, schemes=schemes)


def read_split_folders(folder: Path, naming: Naming = None) -> Dataset:
    """Read train, valid and test, each with a folder for each class."""
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    schemes: list[NamingScheme] = []
    parts = split_folders(folder)
    for split, below in parts.items():
        more, more_names, more_schemes = _labelled(below, split, naming)
        rows, names, schemes = rows + more, names + more_names, schemes + more_schemes
    _check_any(rows, folder)
    listed = ", ".join(below.name for below in parts.values())
    source = f"{len(rows)} images in {listed} below {folder}"
    return make_dataset(rows, source, names=names, schemes=schemes)


def _labelled(
    folder: Path, split: str, naming: Naming
) -> tuple[list[dict[str, Any]], list[str], list[NamingScheme]]:
    """Make the rows of all folders of classes, what is below these of each path, and schemes."""
    rows, names, schemes = [], [], []
    for below in _folders(folder):
        try:
            sources = collect_sources([below], naming)
        except NoImagesError:
            # A folder of something else, such as masks or notes, is no class.
            continue
        for source in sources:
            rows.append(make_row(source, below.name, split))
            names.append(Path(source.id).relative_to(below).as_posix())
            schemes += [source.scheme] if source.scheme else []
    return rows, names, schemes


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        raise NoImagesError(f"the folder {folder} cannot be listed: {error.strerror}") from error
    return [folder / name for name in sorted(names) if not is_hidden(name)]


def _images_beside(folder: Path) -> int:
    return sum(
        entry.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(entry.name)
        for entry in folder.iterdir()
        if entry.is_file()
    )


def _check_any(rows: list[dict[str, Any]], folder: Path) -> None:
    if rows:
        return
    beside = _images_beside(folder)
    if beside:
        raise NoImagesError(
            f"{folder} holds {beside} images but no folders of classes; put the images of each "
            "class into a folder with its name, or write a CSV table with path and label"
        )
    below = ", ".join(one.name for one in _folders(folder)[:_MOST_NAMED]) or "none"
    raise NoImagesError(
        f"{folder} holds no images (TIFF, PNG, JPEG) in folders of classes (folders found: "
        f"{below}); give a folder with one folder for each class"
    )
