"""From an `Image` to napari layers: one layer a channel, named, coloured and scaled to be seen.

Every layer carries the plain dict ``layer.metadata["cellclf"]``:

``group``
    A number that the layers of one opened image share.
``title``
    What the image is called.
``path``
    The file or folder it came from; None for simulated images.
``naming``
    The naming pattern by which its files were found, None for installed schemes.
``channel``
    The name of the layer's channel; empty where it has none.
``axes``
    Letters of the layer's axes, such as ``"PYX"``.
``white``
    The value that is white, where the file declares one below its type's largest.
``planes``
    One dict a plane with what its file names say; empty for stacks without such names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.thumbnails import display_range, thinned

if TYPE_CHECKING:
    from napari.types import LayerData
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image

#: Key of this plugin's dict in a layer's metadata.
KEY = "cellclf"

#: Names that napari's sliders show.
AXIS_NAMES = {"P": "site", "T": "time", "Z": "z", "C": "channel", "Y": "y", "X": "x"}

#: Of channels whose names say nothing, in their order.
_COLORMAPS = ("blue", "green", "red", "cyan", "magenta", "yellow")

_groups = count(1)


def to_layer_data(
    image: Image, *, title: str, path: str | None = None, naming: str | None = None
) -> list[LayerData]:
    """Turn an image into layers for napari."""
    shared = {
        "group": next(_groups),
        "title": title,
        "path": path,
        "naming": naming,
        "planes": plane_rows(image),
        "white": image.white,
    }
    if "S" in image.axes:
        return [_rgb_layer(image, shared)]
    sample = _sample(image)
    return [_channel_layer(image, index, shared, sample) for index in range(image.n_channels)]


def plane_rows(image: Image) -> list[dict[str, Any]]:
    """Return what is known of each plane of a stack.

    `image`: with ``sites`` or ``frames`` in its metadata for stacks.
    """
    rows = image.metadata.get("sites") or image.metadata.get("frames") or ()
    if not image.leading_axes:
        rows = [image.metadata]
    return [dict(row) for row in rows]


def _rgb_layer(image: Image, shared: dict[str, Any]) -> LayerData:
    order = [image.axes.index(letter) for letter in image.leading_axes + "YXS"]
    data = image.data.transpose(order)
    axes = image.leading_axes + "YX"
    settings = _settings(image, axes, shared, channel="")
    return data, settings | {"name": shared["title"], "rgb": True}, "image"


def _channel_layer(
    image: Image, index: int, shared: dict[str, Any], sample: list[NDArray[Any]]
) -> LayerData:
    axis = image.channel_axis
    data = image.data if axis is None else image.data[(slice(None),) * axis + (index,)]
    axes = "".join(letter for letter in image.axes if letter != "C")
    channel = image.channels[index]
    settings = _settings(image, axes, shared, channel)
    several = image.n_channels > 1
    settings |= {
        "name": f"{channel or f'channel {index}'} | {shared['title']}"
        if several
        else shared["title"],
        "colormap": colormap_of(channel, index) if several else "gray",
        "blending": "additive",
        "contrast_limits": display_range([planes[index] for planes in sample], image.n_channels),
    }
    return data, settings, "image"


def _settings(image: Image, axes: str, shared: dict[str, Any], channel: str) -> dict[str, Any]:
    metadata = {
        key: value for key, value in image.metadata.items() if key not in ("sites", "frames")
    }
    settings: dict[str, Any] = {
        "axis_labels": tuple(AXIS_NAMES.get(letter, letter.lower()) for letter in axes),
        "metadata": metadata | {KEY: {**shared, "channel": channel, "axes": axes}},
    }
    if image.pixel_size is not None:
        leading = len(axes) - 2
        settings["scale"] = (1.0,) * leading + tuple(image.pixel_size)
        settings["units"] = ("pixel",) * leading + ("um", "um")
    return settings


def colormap_of(channel: str, index: int) -> str:
    """Choose a colormap for a channel among others.

    Examples
    --------
    >>> colormap_of("w3 Phalloidin", 0), colormap_of("Green", 0)
    ('red', 'green')
    """
    from napari_cellclf.io.naming import channel_facts

    own = channel.lower() if channel.lower() in _COLORMAPS else None
    return channel_facts(channel)[1] or own or _COLORMAPS[index % len(_COLORMAPS)]


def contrast_limits(data: Any, n_channels: int = 1) -> tuple[float, float]:
    """Choose what is shown black and white from a sample of the pixels.

    `data`: array, shape (..., Y, X); numpy or dask; of a lazy stack only the first and the middle
    plane are read. Returns the 0.5th and the 99.8th percentile, or the range of the type where
    these are equal.

    Examples
    --------
    >>> contrast_limits(np.arange(256, dtype="uint8").reshape(16, 16))
    (1.275, 254.49)
    """
    leading = tuple(data.shape[:-2])
    planes = in_memory([data[index] for index in _some_positions(leading)])
    return display_range([thinned(plane) for plane in planes], n_channels)


def _sample(image: Image) -> list[NDArray[Any]]:
    """Thin out the first and the middle plane, each with all channels: (C, Y, X)."""
    leading = image.leading_axes
    sizes = tuple(image.shape[image.axes.index(letter)] for letter in leading)
    left = [letter for letter in image.axes if letter not in leading]
    planes = []
    for position in _some_positions(sizes):
        at = dict(zip(leading, position, strict=True))
        planes.append(image.data[tuple(at.get(letter, slice(None)) for letter in image.axes)])
    if "C" not in left:
        return [thinned(plane)[None] for plane in in_memory(planes)]
    return [thinned(np.moveaxis(plane, left.index("C"), 0)) for plane in in_memory(planes)]


def in_memory(planes: Sequence[Any]) -> list[NDArray[Any]]:
    """Read lazy planes, in any thread.

    napari gives dask a cache that all computations of the process share and that only one thread
    may use at a time; a thread of ours beside napari's made it raise KeyError. Computed without
    callbacks, nothing of ours touches it.
    """
    if any(hasattr(plane, "__dask_graph__") for plane in planes):
        from dask.base import compute

        planes = compute(*planes, callbacks=())  # type: ignore[no-untyped-call]
    return [np.asarray(plane) for plane in planes]


def _some_positions(leading: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Choose the first and the middle one: those that napari reads when a layer is added."""
    middle = tuple((size - 1) // 2 for size in leading)
    first = (0,) * len(leading)
    return [first] if middle == first else [first, middle]
