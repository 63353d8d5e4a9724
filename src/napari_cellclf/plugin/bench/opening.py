"""Opens what the page *Images* asks for, in a thread: no Qt."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.counting import counted
from napari_cellclf.core.image import Image
from napari_cellclf.core.progress import OnProgress, ShouldStop
from napari_cellclf.errors import ImageError
from napari_cellclf.io.collections import open_collection
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.plugin.classify.choices import ImageChoice
from napari_cellclf.plugin.classify.objects import ObjectsSource
from napari_cellclf.plugin.classify.pixels import (
    plane_metadata,
    plane_place,
    positions,
    read_channels,
)

#: Where labels go that cannot lie beside their images.
LABELS_HOME = expanded(Path("~/cellclf-labels"))
LABELS_NAME = "labels.csv"


@dataclass(frozen=True)
class Question:
    """What is to be opened: files, or layers with their pixels."""

    path: str = ""
    naming: str | None = None
    #: Whether each object is a row.
    objects: bool = False
    #: A folder of masks, or a mask; empty for those beside the images.
    masks: str = ""
    choice: ImageChoice | None = None
    #: Of the layers; compared by identity, as their pixels may be many.
    arrays: tuple[Any, ...] | None = None
    #: The objects of the layers, where each is a row.
    source: ObjectsSource | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Question):
            return NotImplemented
        return self._known == other._known

    def __hash__(self) -> int:
        return hash(self._known)

    @property
    def _known(self) -> tuple[object, ...]:
        arrays = None if self.arrays is None else tuple(map(id, self.arrays))
        keys = None if self.choice is None else (self.choice.keys, self.choice.axes)
        of = None if self.source is None else self.source.choice.key
        return self.path, self.naming, self.objects, self.masks, keys, arrays, of


def open_question(
    question: Question, on_progress: OnProgress, should_stop: ShouldStop
) -> tuple[Collection, tuple[str, ...]]:
    """Open it; returns what is to be said of it, too."""
    notes: list[str] = []
    if question.choice is None:
        place = expanded(question.path)
        collection = open_collection(
            [place],
            question.naming,
            objects=question.objects,
            masks=expanded(question.masks) if question.masks else None,
            on_note=notes.append,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    else:
        collection = _of_layers(question)
    return collection, tuple(notes)


def _of_layers(question: Question) -> Collection:
    choice, arrays = question.choice, question.arrays
    if choice is None or choice.problem or arrays is None:
        problem = "" if choice is None else choice.problem
        raise ImageError(problem or "the layers were removed; choose others")
    rows: list[Row] = []
    readers = {}
    for number, position in enumerate(positions(choice)):
        source, plane = plane_place(choice, number, position)
        place = tuple(plane.items())
        known = plane_metadata(choice, number, position)
        readers[source, place] = partial(_read, choice, arrays, number, position, source)
        if question.source is None:
            rows.append(Row(source, place, fields=known))
        else:
            of = question.source.choice
            mask = of.path if of.kind == "labels" else None
            found = question.source.read(position)
            rows += [Row(source, place, one, known, mask) for one in found]
    if not rows:
        raise ImageError(f"{choice.title} has no object in that layer; draw or choose others")
    return Collection(rows, lambda row: readers[row.source, row.plane](), title=choice.title)


def _read(
    choice: ImageChoice,
    arrays: Sequence[Any],
    number: int,
    position: tuple[int, ...],
    source: str,
) -> Image:
    every = range(len(choice.channels))
    pixels = read_channels(choice, arrays, every, number, position)
    names = choice.names if any(choice.names) else ()
    first = choice.layers[0]
    return Image(
        pixels,
        "CYX",
        names,
        pixel_size=first.pixel_size,
        white=first.known("white"),
        source=source,
    )


def describe(collection: Collection, notes: Sequence[str]) -> str:
    """Say what is open, and what was left out."""
    count = len(collection)
    images = len({row.source for row in collection.rows})
    if collection.has_objects:
        what = f"{counted(count, 'object')} in {counted(images, 'image')}"
    elif count > images:
        what = f"{counted(count, 'plane')} of {counted(images, 'image')}"
    else:
        what = counted(images, "image")
    lines = [f"{collection.title}: {what}."]
    if collection.group_column is not None and collection.groups is not None:
        groups = len(set(collection.groups))
        lines.append(f"Kept together by {collection.group_column}: {counted(groups, 'group')}.")
    lines += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes]
    return "\n".join(lines)


def labels_path(question: Question, writable: Callable[[Path], bool] | None = None) -> Path:
    """Return where the labels of what is open are kept: beside the images where that is possible.

    Examples
    --------
    >>> labels_path(Question("/screen/plate1.csv"), lambda folder: True).as_posix()
    '/screen/plate1.labels.csv'
    """
    can_write = writable or _is_writable
    place = question.path or (question.choice.path if question.choice is not None else None)
    if not place:
        title = "layers" if question.choice is None else question.choice.title
        return LABELS_HOME / f"{_plain(title)}.labels.csv"
    path = expanded(place).absolute()
    beside = path / LABELS_NAME if path.is_dir() else path.with_name(f"{path.stem}.labels.csv")
    if can_write(beside.parent):
        return beside
    return LABELS_HOME / f"{_plain(str(path))}.labels.csv"


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "layers"
