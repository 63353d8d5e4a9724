"""Files, folders and tables as a collection: rows found now, pixels read later."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.counting import counted
from napari_cellclf.core.grouping import columns_from_names, guess_group
from napari_cellclf.core.image import CHANNEL_AXES, Image
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import AxesError, CancelledError, ImageError, InputError, NoImagesError
from napari_cellclf.io.dataset_tables import make_frame
from napari_cellclf.io.files import read_header
from napari_cellclf.io.masks import ObjectChoice, find_objects
from napari_cellclf.io.naming import Naming
from napari_cellclf.io.sources import ImageSource, OnNote, collect_sources

if TYPE_CHECKING:
    from napari_cellclf.core.objects import ImageObject

#: Images that stay decoded: rows that follow one another are mostly of one image.
_DECODED = 4


def open_collection(
    inputs: Sequence[str | os.PathLike[str]],
    naming: Naming = None,
    *,
    objects: bool = False,
    masks: str | os.PathLike[str] | None = None,
    on_note: OnNote = lambda note: None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Collection:
    """Find the rows that files, folders and tables stand for; no pixel is decoded.

    `naming`: how files are named. `objects`: whether each object of their masks is a row, as it is
    of a table that names objects. `masks`: as for `find_objects`. `on_note`: told in a sentence
    each what is left out.
    """
    sources = collect_sources(inputs, naming, on_note=on_note)
    if objects or any(source.objects is not None for source in sources):
        sources = find_objects(sources, masks, inputs=inputs, on_note=on_note)
    rows: list[Row] = []
    for done, source in enumerate(sources, 1):
        if should_stop():
            raise CancelledError("the images were not opened, as asked; open them again")
        rows += _rows(source) if source.objects is None else _object_rows(source, on_note)
        on_progress(Progress(done, len(sources), "looking at the images"))
    if not rows:
        raise NoImagesError(f"{_title(inputs)} holds no object; check its masks")
    rows = _with_names(rows)
    return Collection(
        rows, _Reader(sources), title=_title(inputs), group_column=_guess_group(rows, sources)
    )


def _rows(source: ImageSource) -> Iterator[Row]:
    """Make a row of each plane; one of an image that cannot be read, which will say why."""
    path = os.path.abspath(source.id)  # noqa: PTH100
    # Those that a table names are not compared with the file: one that it lacks says so when read.
    named = {plane: {**source.metadata, **fields} for plane, fields in source.planes.items()}
    for plane in named or (tuple(index.items()) for index in _planes(source)):
        yield Row(path, plane, fields=named.get(plane, source.metadata))


def _object_rows(source: ImageSource, on_note: OnNote) -> list[Row]:
    """Make a row of each object; only the mask is read of the image."""
    choice, path = source.objects or ObjectChoice(), os.path.abspath(source.id)  # noqa: PTH100
    try:
        header = read_header(source.id)
        blank = Image(np.broadcast_to(np.uint8(0), header.shape), header.axes, source=source.id)
        marked = choice.add_to(blank)
        wanted = _positions(blank, source)
        rows = [
            Row(path, tuple(index.items()), one, _fields(source, one), choice.mask)
            for index, plane in marked.planes()
            if not wanted or marked.position(index) in wanted
            for one in plane.find_objects()
        ]
    except (InputError, OSError) as error:
        on_note(f"{source.id} is left out: {error}")
        return []
    lost = len(choice.chosen or ()) - len(rows)
    if lost > 0 and rows:
        objects = counted(lost, "object is", "objects are")
        on_note(f"{objects} left out, since {source.id} has no such plane")
    if not rows:
        on_note(f"{choice.mask or source.id} marks no object")
    return rows


def _positions(image: Image, source: ImageSource) -> set[tuple[int, ...]]:
    """Return where in a stack the planes are that a table names."""
    found = set()
    for plane in source.planes:
        with suppress(AxesError):
            found.add(image.position(dict(plane)))
    return found


def _fields(source: ImageSource, one: ImageObject) -> dict[str, Any]:
    """Return what is known of an object beside where it is."""
    known = {**source.metadata, **one.fields}
    return {name: value for name, value in known.items() if name not in ("path", "mask")}


def _planes(source: ImageSource) -> Iterator[Mapping[str, int]]:
    try:
        header = read_header(source.id)
    except (ImageError, OSError):
        yield {}
        return
    sizes = {
        letter: size
        for letter, size in zip(header.axes, header.shape, strict=True)
        if letter not in CHANNEL_AXES + "YX"
    }
    for position in product(*map(range, sizes.values())):
        yield dict(zip(sizes, position, strict=True))


class _Reader:
    """Reads the plane of a row, and keeps the images that were decoded last."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self._sources = {os.path.abspath(source.id): source for source in sources}  # noqa: PTH100
        self._image = lru_cache(_DECODED)(self._read)

    def _read(self, path: str) -> Image:
        return self._sources[path].read()

    def __call__(self, row: Row) -> Image:
        return self._image(row.source).plane(dict(row.plane))


def _title(inputs: Sequence[str | os.PathLike[str]]) -> str:
    first = Path(os.fspath(inputs[0])).name or os.fspath(inputs[0])
    return first if len(inputs) == 1 else f"{first} and {len(inputs) - 1} more"


def _with_names(rows: Sequence[Row]) -> list[Row]:
    """Add what the paths say of plates, wells, embryos and the like to what is known."""
    images = list(dict.fromkeys(row.source for row in rows))
    said = columns_from_names(images)
    known = {name for row in rows for name in row.fields}
    new = {name: dict(zip(images, said[name], strict=True)) for name in said if name not in known}
    return [
        replace(row, fields={**row.fields, **{name: new[name][row.source] for name in new}})
        for row in rows
    ]


def _guess_group(rows: Sequence[Row], sources: Sequence[ImageSource]) -> str | None:
    """Guess from names and tables what belongs together, as data sets do."""
    # One class for all, since none is known yet.
    table = make_frame([{**row.fields, "label": ""} for row in rows])
    schemes = {source.scheme for source in sources if source.scheme is not None}
    groups = next(iter(schemes)).groups if len(schemes) == 1 else ()
    return guess_group(table, list(table.columns), groups)[0]
