"""Which layers hold the objects of an image, and the objects of each plane: no napari, no Qt."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.objects import ImageObject, ObjectCrop, objects_at, objects_in_mask
from napari_cellclf.plugin.classify.choices import ImageChoice, Placing
from napari_cellclf.plugin.classify.object_features import Position
from napari_cellclf.plugin.napari_layers import in_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ObjectsChoice:
    """A layer whose objects can be classified."""

    #: The layer's identity.
    key: Hashable
    #: Its name in the layer list.
    name: str
    #: ``"labels"``, ``"points"`` or ``"shapes"``.
    kind: str
    #: Of its data at full resolution; of points and shapes, how many there are and their axes.
    shape: tuple[int, ...]
    placing: Placing
    #: The file that it was read from.
    path: str | None = None

    @property
    def ndim(self) -> int:
        """Number of axes in which its objects lie."""
        return self.placing.ndim


def fitting_objects(
    layers: Sequence[ObjectsChoice], image: ImageChoice, crop: ObjectCrop
) -> tuple[list[ObjectsChoice], str]:
    """List the layers whose objects are of an image, the last added first.

    Returns also why there is none, in one sentence.
    """
    reasons = {layer: _why_not(layer, image, crop) for layer in layers}
    fitting = [layer for layer, reason in reasons.items() if not reason]
    if fitting or not reasons:
        return fitting[::-1], "" if fitting else _none_open(crop)
    layer, reason = list(reasons.items())[-1]
    return [], f"“{layer.name}” {reason}."


def _none_open(crop: ObjectCrop) -> str:
    other = "" if crop.masked else ", or a Points layer of their centres"
    if crop.side is None and not crop.masked:
        other = ", or a Shapes layer of their boxes"
    return f"This model classifies objects; open a Labels layer of the image's objects{other}."


def _why_not(layer: ObjectsChoice, image: ImageChoice, crop: ObjectCrop) -> str:
    if crop.masked and layer.kind != "labels":
        return "has no masks, but this model looks at an object's own pixels; open a Labels layer"
    if crop.side is None and layer.kind == "points":
        return "has no boxes, but this model looks at them; open a Labels or a Shapes layer"
    if layer.kind != "labels":
        depths = (2, 2 + len(image.leading), image.layers[0].placing.ndim)
        return "" if layer.ndim in depths else f"has {layer.ndim} axes, which the image has not"
    wanted = _plane_shape(image)
    if layer.shape[-2:] != wanted:
        return (
            f"has {_size(layer.shape[-2:])} pixels, but {image.title} {_size(wanted)}; open a "
            "Labels layer of this image"
        )
    leading = layer.shape[:-2]
    if leading != image.planes and set(leading) - {1}:
        planes = "x".join(map(str, leading))
        return f"has {planes} planes, but {image.title} {max(1, int(np.prod(image.planes)))}"
    if not layer.placing.same_plane(image.layers[0].placing):
        return f"lies elsewhere than {image.title}; give both layers the same scale and translate"
    return ""


def _plane_shape(image: ImageChoice) -> tuple[int, int]:
    shape = image.layers[0].shape
    return shape[image.axes.index("Y")], shape[image.axes.index("X")]


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


@dataclass
class ObjectsSource:
    """The objects of a layer, as they are when they are asked for, and what they were then."""

    choice: ObjectsChoice
    image: ImageChoice
    #: Of a Labels layer: its array. Of others: for each object its centre or its corners.
    data: Any
    #: Checksum of each plane's objects when it was read.
    seen: dict[Position, int] = field(default_factory=dict)

    def read(self, position: Position) -> tuple[ImageObject, ...]:
        """Find the objects of a plane of the image."""
        held = self._held(position)
        self.seen[position] = fingerprint(held)
        if self.choice.kind == "labels":
            return objects_in_mask(held)
        return self._placed(held)

    def changed(self, position: Position, data: Any) -> bool:
        """Whether a plane that was read is another one in what the layer holds now."""
        if position not in self.seen:
            return False
        now = ObjectsSource(self.choice, self.image, data)
        return self.seen[position] != fingerprint(now._held(position))

    def _held(self, position: Position) -> NDArray[Any]:
        """Return a mask (Y, X), or for each object on the plane its number and its place."""
        if self.choice.kind == "labels":
            leading = self.data.shape[:-2]
            at = position if leading == self.image.planes else (0,) * len(leading)
            # Whoever paints on it meanwhile changes a copy.
            return np.array(in_memory([self.data[at]])[0])
        return self._corners(position)

    def _corners(self, position: Position) -> NDArray[np.float64]:
        """Return number, top, left, bottom and right of the objects on a plane of the image."""
        rows = []
        for number, vertices in enumerate(self.data, start=1):
            placed = self._in_image(np.atleast_2d(np.asarray(vertices, np.float64)))
            if len(placed[0]) == 2 or np.array_equal(self._plane_of(placed), position):
                (top, left), (bottom, right) = placed[:, -2:].min(0), placed[:, -2:].max(0)
                rows.append((number, top, left, bottom, right))
        found = np.array(rows, np.float64).reshape(-1, 5)
        return found[self._inside(found)]

    def _in_image(self, vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn places in the layer into places in the image, with its own number of axes."""
        ours, theirs = self.choice.placing, self.image.layers[0].placing
        count = min(ours.ndim, theirs.ndim)
        origin, matrix = ours.last(count)
        world = vertices[:, -count:] @ matrix.T + origin
        origin, matrix = theirs.last(count)
        return np.asarray(np.linalg.solve(matrix, (world - origin).T).T, np.float64)

    def _plane_of(self, placed: NDArray[np.float64]) -> NDArray[np.int64]:
        axes = [axis for axis, letter in enumerate(self.image.axes) if letter != "S"]
        first = len(axes) - placed.shape[1]
        at = [axis - first for axis in self.image.leading if axis >= first]
        return np.rint(placed[0, at]).astype(np.int64)

    def _inside(self, found: NDArray[np.float64]) -> NDArray[np.bool_]:
        height, width = _plane_shape(self.image)
        y, x = (found[:, 1] + found[:, 3]) / 2, (found[:, 2] + found[:, 4]) / 2
        return np.asarray((y >= -0.5) & (y < height - 0.5) & (x >= -0.5) & (x < width - 0.5))

    def _placed(self, found: NDArray[np.float64]) -> tuple[ImageObject, ...]:
        if self.choice.kind == "points":
            objects = objects_at(found[:, 1:3])
        else:
            boxes = [_box(corners) for corners in found[:, 1:].tolist()]
            centres = [((b[0] + b[2] - 1) / 2, (b[1] + b[3] - 1) / 2) for b in boxes]
            objects = objects_at(centres, boxes, _plane_shape(self.image))
        # Numbered as they are in the layer, of which a plane has some.
        return tuple(
            replace(one, number=int(number))
            for one, number in zip(objects, found[:, 0], strict=True)
        )


def _box(corners: Sequence[float]) -> tuple[int, int, int, int]:
    """Return the pixels, the last ones not included, of a box whose corners lie between pixels."""
    top, left, bottom, right = (int(np.floor(corner + 0.5)) for corner in corners)
    return top, left, max(bottom, top + 1), max(right, left + 1)


def fingerprint(values: NDArray[Any]) -> int:
    """Return a checksum of an array, to notice that it was changed."""
    held = np.ascontiguousarray(values)
    start = zlib.crc32(repr((held.shape, held.dtype.str)).encode())
    return zlib.crc32(held.reshape(-1).view(np.uint8).data, start)


def placed(
    record: Mapping[str, Any], planes: Mapping[str, Position]
) -> tuple[dict[str, Any], Position | None]:
    """Find the plane that the row of an object is on, and name the row as the command line does.

    `planes`: position by the name of the plane. A plane that could not be used has a row without an
    object.
    """
    name, _, number = str(record["image"]).rpartition("[object=")
    if name not in planes:
        return dict(record), planes.get(str(record["image"]))
    position = planes[name]
    inside = position and name.endswith("]")
    identity = f"{name[:-1]},object={number}" if inside else str(record["image"])
    return {**record, "image": identity, "object": int(number[:-1])}, position
