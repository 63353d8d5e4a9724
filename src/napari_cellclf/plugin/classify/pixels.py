"""From the layers of a request to images that the classifier takes, one a plane."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.collection import row_id
from napari_cellclf.core.image import Image
from napari_cellclf.io.decoding import decoding
from napari_cellclf.plugin.classify.choices import ImageChoice
from napari_cellclf.plugin.classify.object_features import Position
from napari_cellclf.plugin.classify.objects import ObjectsSource
from napari_cellclf.plugin.classify.request import ClassifyRequest
from napari_cellclf.plugin.napari_layers import in_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.io.sources import ImageSource


def positions(choice: ImageChoice) -> list[Position]:
    """List where the planes of an image are."""
    return list(product(*(range(size) for size in choice.planes)))


def plane_sources(
    request: ClassifyRequest, arrays: Sequence[Any], objects: ObjectsSource | None = None
) -> list[ImageSource]:
    """Make one source of each plane of an image, with its objects for a model of objects."""
    from napari_cellclf.io.sources import ImageSource

    choice = _image_of(request)
    return [
        ImageSource(
            plane_id(choice, number, position),
            plane_metadata(choice, number, position),
            read=partial(read_plane, request, tuple(arrays), number, position, objects),
        )
        for number, position in enumerate(positions(choice))
    ]


def plane_id(choice: ImageChoice, number: int, position: Position) -> str:
    """Name a plane as the command line does: its file, or ``"title[t=3]"``."""
    source, inside = plane_place(choice, number, position)
    return row_id(source, inside)


def plane_place(choice: ImageChoice, number: int, position: Position) -> tuple[str, dict[str, int]]:
    """Return the file or image that a plane is of, and its position there by axis letter."""
    row = _described(choice, number) or {}
    name = str(row.get("path") or choice.path or choice.title)
    if not position or "path" in row:
        return name, {}
    if choice.files:
        name = choice.files[position[0]]
    return name, {letter.upper(): i for letter, i in _inside(choice, position).items()}


def plane_metadata(choice: ImageChoice, number: int, position: Position) -> dict[str, Any]:
    """Return what is known of a plane, for its row in the table."""
    row = _described(choice, number)
    if row is not None:
        return {k: v for k, v in row.items() if k != "path" and v is not None and v != []}
    return dict(_inside(choice, position))


def _inside(choice: ImageChoice, position: Position) -> dict[str, int]:
    """Name the position in a file, or in the image where no files are known."""
    letters = [choice.axes[axis].lower() for axis in choice.leading]
    named = dict(zip(letters, position, strict=True))
    if choice.files:
        del named[letters[0]]
    return named


def plane_ids(choice: ImageChoice) -> dict[str, Position]:
    """Return where each plane of an image is by its name."""
    return {
        plane_id(choice, number, position): position
        for number, position in enumerate(positions(choice))
    }


def read_plane(
    request: ClassifyRequest,
    arrays: Sequence[Any],
    number: int,
    position: Position,
    objects: ObjectsSource | None = None,
) -> Image:
    """Read the channels of one plane that the model uses, under the model's names."""
    choice = _image_of(request)
    absent = (_described(choice, number) or {}).get("missing_channels", ())
    picked = [
        (spec.name, source)
        for spec, source in zip(request.model.channels, request.sources, strict=True)
        if source is not None and choice.channels[source] not in absent
    ]
    pixels = read_channels(choice, arrays, [one for _, one in picked], number, position)
    source_id = plane_id(choice, number, position)
    with decoding(Path(source_id)):
        found = None if objects is None else objects.read(position)
    first = choice.layers[0]
    return Image(
        pixels,
        "CYX",
        tuple(name for name, _ in picked),
        pixel_size=first.pixel_size,
        white=first.known("white"),
        source=source_id,
        objects=found,
    )


def read_channels(
    choice: ImageChoice,
    arrays: Sequence[Any],
    channels: Sequence[int],
    number: int,
    position: Position,
) -> NDArray[Any]:
    """Read some channels of one plane, ``(C, Y, X)``."""
    # Whatever reads the pixels of somebody else's layer, one plane of it must not end the run.
    with decoding(Path(plane_id(choice, number, position))):
        return np.stack([_channel_plane(choice, arrays, one, position) for one in channels])


def _channel_plane(
    choice: ImageChoice, arrays: Sequence[Any], channel: int, position: Position
) -> Any:
    at = dict(zip(choice.leading, position, strict=True))
    several = len(arrays) > 1
    array = arrays[channel if several else 0]
    if not several:
        at |= {axis: channel for axis, letter in enumerate(choice.axes) if letter in "CS"}
    key = tuple(at.get(axis, slice(None)) for axis in range(len(choice.axes)))
    return in_memory([array[key]])[0]


def _described(choice: ImageChoice, number: int) -> dict[str, Any] | None:
    rows = choice.layers[0].known("planes") or []
    count = int(np.prod(choice.planes, dtype=int))
    return rows[number] if len(rows) == count else None


def _image_of(request: ClassifyRequest) -> ImageChoice:
    if request.image is None:
        raise ValueError("a request for a folder has no layers")
    return request.image
