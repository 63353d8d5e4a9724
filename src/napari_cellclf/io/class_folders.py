"""Read labelled images from folders of classes, and from the parts of a split with such folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.dataset_tables import make_dataset, make_row, split_of
from napari_cellclf.io.folder_walk import LeftOut, image_files, is_own_output
from napari_cellclf.io.local_paths import IMAGE_SUFFIXES, is_hidden, own_name
from napari_cellclf.io.named_images import find_images
from napari_cellclf.io.naming import Naming, NamingScheme, find_scheme, naming_text
from napari_cellclf.io.sources import found_sources

_MOST_NAMED = 5


def split_folders(folder: Path) -> dict[str, Path]:
    """Find the folders of a split."""
    found: dict[str, Path] = {}
    others = []
    for below in _folders(folder):
        split = split_of(below.name)
        if split in found:
            raise DatasetError(
                f"{found[split]} and {below} are both for {split}; rename or join one of them"
            )
        if split is not None:
            found[split] = below
        elif next(image_files(below), None) is not None:
            others.append(below.name)
    if "train" not in found:
        if len(found) > 1:
            raise DatasetError(
                f"{folder} holds {' and '.join(one.name for one in found.values())}, but no folder "
                "train; rename the folder of training images to train, or say --kind folders if "
                "each folder is a class"
            )
        return {}
    if others:
        raise DatasetError(
            f"{folder} holds the folder {found['train'].name}, but {', '.join(others)} beside it "
            f"{'is' if len(others) == 1 else 'are'} no part of a split that is known; rename to "
            "validation or test, or say --kind folders if each folder is a class"
        )
    return {split: found[split] for split in SPLITS if split in found} if len(found) > 1 else {}


def read_class_folders(folder: Path, naming: Naming = None) -> Dataset:
    """Read a folder with a folder for each class."""
    found = _Labelled(naming)
    found.add(folder, "")
    _check_any(found, folder, naming)
    n_classes = len({row["label"] for row in found.rows})
    return found.dataset(
        f"{counted(len(found.rows), 'image')} in {counted(n_classes, 'folder')} of classes below "
        f"{own_name(folder)}"
    )


def read_split_folders(folder: Path, naming: Naming = None) -> Dataset:
    """Read train, valid and test, each with a folder for each class."""
    found = _Labelled(naming)
    parts = split_folders(folder)
    for split, below in parts.items():
        found.add(below, split)
    found.add_beside(folder, [below for below in _folders(folder) if below not in parts.values()])
    _check_any(found, folder, naming)
    listed = ", ".join(below.name for below in parts.values())
    return found.dataset(
        f"{counted(len(found.rows), 'image')} in {listed} below {own_name(folder)}"
    )


class _Labelled:
    """The images in folders of classes."""

    def __init__(self, naming: Naming) -> None:
        self._naming = naming
        self.rows: list[dict[str, Any]] = []
        #: Of each path what is below the folder of its class.
        self._names: list[str] = []
        self._schemes: list[NamingScheme] = []
        self._n_others = self._n_beside = 0
        self._empty: list[Path] = []
        self.not_taken = LeftOut()

    def add(self, folder: Path, split: str) -> None:
        """Take the images in all folders of classes in a folder."""
        self._n_beside += _images_beside(folder)
        self.not_taken.closed += [(link, "it is a link to nothing") for link in _dangling(folder)]
        for below in _folders(folder):
            if is_own_output(_names_in(below)):
                self.not_taken.own.append(below)
                continue
            found = find_images(below, self._naming)
            self.not_taken.add(found.left_out)
            self._n_others += len(found.others) if self._naming is not None else 0
            sources = found_sources(found, self._naming)
            if not sources:
                self._empty.append(below)
            for source in sources:
                self.rows.append(make_row(source, below.name, split))
                self._names.append(Path(source.id).relative_to(below).as_posix())
                self._schemes += [source.scheme] if source.scheme else []

    def add_beside(self, folder: Path, folders: Sequence[Path]) -> None:
        """Take note of images beside the parts of a split, and of folders without images."""
        self._n_beside += _images_beside(folder)
        self._empty += [below for below in folders if not is_own_output(_names_in(below))]

    def dataset(self, source: str) -> Dataset:
        """Make a data set, and say what is left out."""
        source += self.left_out()
        return make_dataset(self.rows, source, names=self._names, schemes=self._schemes)

    def left_out(self) -> str:
        """Say what is not taken, beginning with a semicolon; nothing if all is."""
        said = ""
        if self._n_beside:
            images = counted(self._n_beside, "image")
            verb, left = ("has", "is") if self._n_beside == 1 else ("have", "are")
            said += f"; {images} beside these folders {verb} no class and {left} left out"
        if self._empty:
            named = ", ".join(folder.name for folder in self._empty[:_MOST_NAMED])
            more = len(self._empty) - _MOST_NAMED
            named += f" and {more} more" if more > 0 else ""
            said += f"; without images that are read, and so no classes: {named}"
        said += self._nested()
        return said + not_named(self._n_others, naming_text(self._naming)) + said_of(self.not_taken)

    def _nested(self) -> str:
        """Say that the classes may be the folders within, if they are the same in each of them."""
        within: dict[str, set[str]] = {}
        for row, name in zip(self.rows, self._names, strict=True):
            within.setdefault(row["label"], set()).add(name.rpartition("/")[0].partition("/")[0])
        first, *others = within.values()
        if not others or len(first) < 2 or "" in first or any(other != first for other in others):
            return ""
        named = ", ".join(sorted(first)[:_MOST_NAMED])
        return (
            f"; each of these folders holds the same ones ({named}): if those are the classes, say "
            '--naming "{batch}/{label}/{image}"'
        )


def said_of(left_out: LeftOut) -> str:
    """Continue a sentence with what was left out."""
    return "".join(f"; {sentence}" for sentence in left_out.sentences())


def not_named(count: int, example: str | None) -> str:
    """Continue a sentence with how many images are named otherwise."""
    images = counted(count, "image is", "images are")
    return f"; {images} not named like {example} and left out" if count else ""


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        raise NoImagesError(f"the folder {folder} cannot be listed: {error.strerror}") from error
    return [folder / name for name in sorted(names) if not is_hidden(name)]


def _dangling(folder: Path) -> list[Path]:
    """Find links that lead nowhere, such as to a drive that is not there."""
    links = (path for path in folder.iterdir() if path.is_symlink() and not path.exists())
    return sorted(link for link in links if link.suffix.lower() not in IMAGE_SUFFIXES)


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        # Reported where its images are listed.
        return []


def _images_beside(folder: Path) -> int:
    return sum(
        entry.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(entry.name)
        for entry in folder.iterdir()
        if entry.is_file()
    )


def _check_any(found: _Labelled, folder: Path, naming: Naming) -> None:
    if found.rows:
        return
    others = () if naming is None else find_images(folder, naming).others
    if naming is not None and others:
        raise NoImagesError(
            f"none of the {counted(len(others), 'image')} below {folder} has a class and is named "
            "like "
            f"{find_scheme(naming).name} (one is {others[0].relative_to(folder)}); correct the "
            "naming pattern"
        )
    beside = _images_beside(folder)
    if beside:
        raise NoImagesError(
            f"{folder} holds {counted(beside, 'image')} but no folders of classes; put the images "
            "of each "
            "class into a folder with its name, or write a CSV table with path and label"
        )
    below = ", ".join(one.name for one in _folders(folder)[:_MOST_NAMED]) or "none"
    raise NoImagesError(
        f"{folder} holds no images (TIFF, PNG, JPEG, BMP) in folders of classes (folders found: "
        f"{below}{said_of(found.not_taken)}); give a folder with one folder for each class"
    )
