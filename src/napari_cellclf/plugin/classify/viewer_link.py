"""All that the widget reads from and writes to a napari viewer, in one place."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.collection import Row, row_id
from napari_cellclf.errors import ImageError
from napari_cellclf.plugin.classify.choices import ImageChoice, LayerInfo, Placing, list_choices
from napari_cellclf.plugin.classify.object_features import Position
from napari_cellclf.plugin.classify.objects import ObjectsChoice, ObjectsSource
from napari_cellclf.plugin.classify.pixels import plane_ids
from napari_cellclf.plugin.napari_layers import KEY
from napari_cellclf.plugin.reader import image_title, open_image

if TYPE_CHECKING:
    import napari

#: Events of the layer list after which the choice of images may be another one.
_LAYER_EVENTS = (
    "inserted", "removed", "reordered", "name", "data", "axis_labels", "visible", "scale",
    "translate", "affine",
)  # fmt: skip
#: Kinds of layers that can hold objects.
_OBJECTS = ("labels", "points", "shapes")
#: Fraction of the canvas that an object takes when the view moves to it, at least and at most.
_SMALLEST, _LARGEST, _BEST = 0.08, 0.6, 0.2
#: That an image takes.
_WHOLE = 0.95
_TEXT = "napari_cellclf"


class ViewerLink:
    """A viewer as this widget sees it."""

    def __init__(
        self,
        viewer: napari.Viewer,
        on_layers: Callable[[], None],
        on_slider: Callable[[], None],
    ) -> None:
        self.viewer = viewer
        self._on_layers = on_layers
        self._on_slider = on_slider
        # How often the pixels of a layer were replaced, which its identity does not tell.
        self._versions: Counter[Hashable] = Counter()
        self._files: dict[Hashable, tuple[str, ...]] = {}
        # The layer that lies over an image, and that image's.
        self._over: tuple[Hashable, Hashable] = None, None
        viewer.layers.events.connect(self._layers_changed)
        viewer.layers.selection.events.changed.connect(self._selection_changed)
        viewer.dims.events.point.connect(self._slider_moved)
        viewer.dims.events.ndisplay.connect(self._slider_moved)

    def disconnect(self) -> None:
        """Let go of the viewer: no more calls, no text on the canvas."""
        self.viewer.layers.events.disconnect(self._layers_changed)
        self.viewer.layers.selection.events.changed.disconnect(self._selection_changed)
        self.viewer.dims.events.point.disconnect(self._slider_moved)
        self.viewer.dims.events.ndisplay.disconnect(self._slider_moved)
        self.viewer.canvas.overlays.pop(_TEXT, None)

    def layers(self) -> list[LayerInfo]:
        """Describe the image layers, in the order of the layer list."""
        from napari.layers import Image

        layers = [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, Image) and "why" not in (layer.metadata.get(KEY) or {})
        ]
        for layer in layers:
            if layer.unique_id not in self._files:
                self._files[layer.unique_id] = files_of(layer)
        return [
            _describe(layer, self._versions[layer.unique_id], self._files[layer.unique_id])
            for layer in layers
        ]

    def choices(self) -> list[ImageChoice]:
        """List the images that the layers are of."""
        return list_choices(self.layers(), ())[0]

    def object_layers(self) -> list[ObjectsChoice]:
        """Describe the layers that can hold objects, in the order of the layer list."""
        return [
            _describe_objects(one) for one in self.viewer.layers if one._type_string in _OBJECTS
        ]

    def objects_source(self, choice: ObjectsChoice, image: ImageChoice) -> ObjectsSource | None:
        """Return the objects of a layer; None if it is gone."""
        layer = self.find(choice.key)
        return None if layer is None else ObjectsSource(choice, image, _objects_data(layer))

    def selected(self) -> set[Hashable]:
        """Return the identities of the selected layers."""
        return {layer.unique_id for layer in self.viewer.layers.selection}

    def arrays(self, choice: ImageChoice) -> tuple[Any, ...] | None:
        """Return the data of an image's layers at full resolution; None if one is gone."""
        found = [self.find(info.key) for info in choice.layers]
        if any(layer is None for layer in found):
            return None
        return tuple(layer.data[0] if layer.multiscale else layer.data for layer in found)

    def intact(self, choice: ImageChoice) -> list[Hashable]:
        """Return which of an image's layers are still there with the same pixels."""
        now = {layer.key: layer.version for layer in self.layers()}
        return [layer.key for layer in choice.layers if now.get(layer.key) == layer.version]

    def write_metadata(self, keys: Iterable[Hashable], summary: dict[str, Any]) -> None:
        """Write a run's predictions into the metadata of layers."""
        for layer in filter(None, map(self.find, keys)):
            known = layer.metadata.get(KEY) or {}
            layer.metadata = {**layer.metadata, KEY: {**known, "result": summary}}

    def position(self, choice: ImageChoice) -> Position | None:
        """Return which plane of an image is looked at."""
        layer = next((self.find(info.key) for info in choice.layers if self._seen(info.key)), None)
        if layer is None:
            return None
        dims = self.viewer.dims
        offset = dims.ndim - layer.ndim
        if any(axis + offset in dims.displayed for axis in choice.leading):
            return None
        data = layer.world_to_data(dims.point[-layer.ndim :])
        return tuple(int(np.round(data[axis])) for axis in choice.leading)

    def why_not_seen(self, choice: ImageChoice) -> str:
        """Say what hides all planes of an image; empty if nothing does."""
        if not any(self._seen(info.key) for info in choice.layers):
            return f"“{choice.title}” is hidden; click the eye of its layer first."
        if self.viewer.dims.ndisplay > 2 and choice.leading:
            return f"“{choice.title}” is shown in 3D; switch to 2D to look at one plane first."
        return ""

    def go_to(self, choice: ImageChoice, position: Position) -> None:
        """Move the sliders to a plane."""
        layer = self.find(choice.layers[0].key)
        if layer is None:
            return
        data = np.zeros(layer.ndim)
        data[list(choice.leading)] = position
        world = layer.data_to_world(data)
        offset = self.viewer.dims.ndim - layer.ndim
        axes = [axis + offset for axis in choice.leading]
        self.viewer.dims.set_point(axes, [world[axis] for axis in choice.leading])

    def look_at(self, choice: ImageChoice, centre: tuple[float, float], size: float) -> None:
        """Move the view to a place in the plane that is shown.

        `centre`: y, x in pixels of the image; `size`: pixels that are to be seen of it.
        """
        layer = self.find(choice.layers[0].key)
        if layer is not None:
            self._look_at(layer, centre, size)

    def _look_at(
        self, layer: Any, centre: tuple[float, float], size: float, *, whole: bool = False
    ) -> None:
        viewer = self.viewer
        if viewer.dims.ndisplay != 2:
            return
        data = np.zeros(layer.ndim)
        data[-2:] = centre
        world = layer.data_to_world(data)
        extent = np.abs(np.subtract(layer.data_to_world(data + 1), world)).max() * size
        shown = [axis - (viewer.dims.ndim - layer.ndim) for axis in viewer.dims.displayed]
        if min(shown) < 0:
            return
        camera, canvas = viewer.scene.camera, min(viewer.canvas.size)
        if whole or not _SMALLEST <= camera.zoom * extent / canvas <= _LARGEST:
            camera.zoom = (_WHOLE if whole else _BEST) * canvas / max(extent, 1e-9)
        camera.center = (0, *(world[axis] for axis in shown))

    def show_row(self, row: Row, naming: str | None, of: ImageChoice | None = None) -> None:
        """Show the plane of a row, opened unless it is open, and its object in the middle.

        `of`: the layers that the row was made of, whatever they are called by now.
        """
        plane = dict(row.plane)
        if of is not None:
            self._show_layers(of, plane_ids(of)[row_id(row.source, plane)])
        else:
            for choice in self.choices():
                letters = [choice.axes[axis] for axis in choice.leading]
                if row.source in (choice.path, choice.title) and sorted(letters) == sorted(plane):
                    self._show_layers(choice, tuple(plane[letter] for letter in letters))
                    break
            else:
                self.open_image(Path(row.source), plane, naming)
        layer = next(iter(self.viewer.layers.selection), None)
        if row.object is not None and layer is not None:
            box = row.object.box
            size = 32 if box is None else max(box[2] - box[0], box[3] - box[1])
            self._look_at(layer, row.object.centre, size)

    def _show_layers(self, choice: ImageChoice, position: Position) -> None:
        layers = [self.find(layer.key) for layer in choice.layers]
        if None in layers:
            raise ImageError(f"“{choice.title}” was removed; open it again on the tab Images")
        self._show_alone(layers)
        self.go_to(choice, position)

    def _show_alone(self, layers: Sequence[Any]) -> None:
        for layer in self.viewer.layers:
            if layer._type_string == "image":
                # Channels are added up on the screen: those of another image would be, too.
                layer.visible = layer in layers
        self.viewer.layers.selection = set(layers)

    def open_image(self, path: Path, plane: Mapping[str, int], naming: str | None) -> None:
        """Show a file alone, opened unless it is open, and move the sliders to a plane of it.

        `plane`: index by letter of the axis.
        """
        from napari.layers import Layer

        place = str(path.resolve())
        layers = [one for one in self.viewer.layers if _opened_from(one) == place]
        if not layers:
            read = open_image(path, image_title(path, naming), naming)
            layers = [self.viewer.add_layer(Layer.create(*one)) for one in read]
        self._show_alone(layers)
        first, axes = layers[0], layers[0].metadata[KEY]["axes"]
        offset = self.viewer.dims.ndim - first.ndim
        data = np.zeros(first.ndim)
        for letter, index in plane.items():
            data[axes.index(letter)] = index
        world = first.data_to_world(data)
        for letter in plane:
            axis = axes.index(letter)
            self.viewer.dims.set_point(axis + offset, world[axis])
        if first.ndim == self.viewer.dims.ndim:
            self.viewer.reset_view(layers=layers)
        else:
            # napari cannot fit layers with fewer axes than there are sliders.
            height, width = (first.level_shapes[0][axes.index(letter)] for letter in "YX")
            self._look_at(first, (height / 2, width / 2), max(height, width), whole=True)

    def replace_layer(
        self, key: Hashable, data: tuple[Any, dict[str, Any]], over: Hashable
    ) -> Hashable:
        """Add an image layer in the place of another one, and leave the selection as it is.

        `over`: the layer that it lies over, and goes with.
        """
        selected, earlier = set(self.viewer.layers.selection), self.find(key)
        pixels, settings = data
        if earlier is not None:
            settings = settings | {"opacity": earlier.opacity}
            selected.discard(earlier)
            self.viewer.layers.remove(earlier)
        layer = self.viewer.add_image(pixels, **settings)
        self.viewer.layers.selection = selected
        added: Hashable = layer.unique_id
        self._over = added, over
        return added

    def remove_lost(self) -> None:
        """Remove the layer that lay over one that is gone."""
        lost = self._lost()
        if lost is not None:
            self.viewer.layers.remove(lost)

    def _lost(self) -> Any:
        above, below = self._over
        return self.find(above) if self.find(below) is None else None

    def show_text(self, text: str) -> None:
        """Show a text on the canvas, beside whatever text others show."""
        from napari.components.overlays import TextOverlay

        overlays = self.viewer.canvas.overlays
        if _TEXT not in overlays:
            overlays[_TEXT] = TextOverlay(position="top_left", font_size=14, visible=False)
        overlay = overlays[_TEXT]
        if text:
            overlay.text = text
        overlay.visible = bool(text)

    def find(self, key: Hashable) -> Any:
        """Return a layer by its identity; None if it is gone."""
        return next((layer for layer in self.viewer.layers if layer.unique_id == key), None)

    def _seen(self, key: Hashable) -> bool:
        layer = self.find(key)
        return layer is not None and bool(layer.visible)

    def _layers_changed(self, event: Any) -> None:
        if event.type == "data":
            self._versions[self.viewer.layers[event.index].unique_id] += 1
        if event.type == "removed":
            lost = self._lost()
            if lost is not None:
                # Hidden at once: a plane outside of all that is left makes napari's canvas crash.
                # Removed only later: napari may be about to remove it, too.
                lost.visible = False
        if event.type in _LAYER_EVENTS:
            self._on_layers()

    def _selection_changed(self, event: Any) -> None:
        self._on_layers()

    def _slider_moved(self, event: Any) -> None:
        self._on_slider()


def _opened_from(layer: Any) -> str | None:
    known = layer.metadata.get(KEY) or {}
    return known.get("path")


def files_of(layer: Any) -> tuple[str, ...]:
    """List the files along the first axis of a layer that napari's own reader made of a folder."""
    source = layer.source
    if source.reader_plugin != "napari" or source.path is None or not Path(source.path).is_dir():
        return ()
    # As napari lists and sorts them: it ignores names without a dot.
    found = glob(f"{escape(str(source.path))}{os.sep}*.*")  # noqa: PTH207
    files = sorted((one for one in found if not Path(one).is_dir()), key=_as_napari_sorts)
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    return tuple(files) if len(files) == shape[0] and len(shape) > 2 + layer.rgb else ()


def _as_napari_sorts(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", name)]


def _describe_objects(layer: Any) -> ObjectsChoice:
    is_labels = layer._type_string == "labels"
    data = layer.data[0] if is_labels and layer.multiscale else layer.data
    path = layer.source.path
    return ObjectsChoice(
        layer.unique_id,
        layer.name,
        layer._type_string,
        tuple(data.shape) if is_labels else (len(data), layer.ndim),
        _placing(layer),
        None if path is None else str(path),
    )


def _objects_data(layer: Any) -> Any:
    if layer._type_string == "labels":
        return layer.data[0] if layer.multiscale else layer.data
    return [np.array(one) for one in layer.data]


def _placing(layer: Any) -> Placing:
    origin = np.array(layer.data_to_world(np.zeros(layer.ndim)))
    columns = [np.array(layer.data_to_world(unit)) - origin for unit in np.eye(layer.ndim)]
    return Placing(tuple(origin.tolist()), tuple(map(tuple, np.stack(columns, 1).tolist())))


def _pixel_size(layer: Any) -> tuple[float, float] | None:
    """Return height and width of a pixel in micrometres, where the layer says what they are."""
    sides = []
    for scale, unit in zip(layer.scale[-2:], layer.units[-2:], strict=True):
        if not unit.is_compatible_with("um"):
            return None
        sides.append(float((scale * unit).to("um").magnitude))
    return sides[0], sides[1]


def _describe(layer: Any, version: int, files: tuple[str, ...]) -> LayerInfo:
    data = layer.data[0] if layer.multiscale else layer.data
    known = layer.metadata.get(KEY) or {}
    return LayerInfo(
        layer.unique_id,
        layer.name,
        tuple(data.shape),
        bool(layer.rgb),
        tuple(layer.axis_labels),
        tuple(known.items()),
        None if layer.source.path is None else str(layer.source.path),
        version,
        files,
        _placing(layer),
        _pixel_size(layer),
    )
