"""Predictions of objects in the Labels, Points or Shapes layer that the objects are of."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.plugin.classify.object_features import (
    NO_PREDICTION,
    ObjectPredictions,
    Position,
    colours_by_label,
    labels_features,
    plane_last,
    rows_features,
)
from napari_cellclf.plugin.napari_layers import KEY

if TYPE_CHECKING:
    import napari

#: Entries of the dict in a layer's metadata.
_WRITTEN, _BEFORE = "predicted_columns", "colours_before"
#: How opaque the inside of a box is, so that the image stays visible.
_FACE_OPACITY = 0.2
#: Tools with which a click changes or selects something of the layer itself.
_LOOKING = {"pan_zoom", "pick", "select", "transform"}


class ObjectsLayer:
    """A layer of objects that shows what was predicted of them.

    It reads and writes one layer; whoever made it says which plane is looked at.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        layer: Any,
        on_pick: Callable[[int], None],
        on_change: Callable[[], None],
    ) -> None:
        """Watch a layer.

        `on_pick`: the user clicked an object, or chose its label; gets its number. `on_change`: its
        objects may be others now.
        """
        self.layer = layer
        self._viewer = viewer
        self._on_pick, self._on_change = on_pick, on_change
        self._found: ObjectPredictions | None = None
        self._position: Position | None = None
        self._table: Any = None
        self._following = False
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        for event in self._change_events():
            event.connect(self._changed)
        if self.is_labels:
            layer.events.selected_label.connect(self._on_selected_label)

    def disconnect(self) -> None:
        """Let go of the layer and the viewer; what was written stays."""
        if self._on_mouse in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_mouse)
        for event in self._change_events():
            event.disconnect(self._changed)
        if self.is_labels:
            self.layer.events.selected_label.disconnect(self._on_selected_label)

    @property
    def is_labels(self) -> bool:
        """Whether it is a Labels layer, rather than one of points or shapes."""
        return bool(self.layer._type_string == "labels")

    @property
    def is_coloured(self) -> bool:
        """Whether it shows the colours of the classes."""
        return _BEFORE in self._known()

    def show(
        self, found: ObjectPredictions, position: Position | None, *, colour: bool = True
    ) -> None:
        """Write predictions into the layer's features, and its colours.

        `position`: the plane that is looked at; None where no single one is.
        """
        self._found, self._position = found, position
        written = self._known().get(_WRITTEN, ())
        if self.is_labels:
            self._table, names = labels_features(self.layer.features, written, found)
            self._remember({_WRITTEN: names})
            self._write_plane()
        else:
            self._write_rows()
        if colour:
            self.colour()

    def follow(self, found: ObjectPredictions, position: Position | None) -> None:
        """Take up predictions that were written into the layer earlier."""
        self._found, self._position = found, position
        if self.is_labels:
            known, written = self.layer.features, self._known().get(_WRITTEN, ())
            self._table = labels_features(known, written, found)[0]

    def show_plane(self, position: Position | None) -> None:
        """Follow the slider, where one number stands for objects on several planes."""
        if self._found is None or position is None or position == self._position:
            return
        self._position = position
        if not self._found.numbers_repeat:
            return
        if self.is_labels:
            self._write_plane()
        else:
            self._write_rows()
        if self.is_coloured:
            self.colour()

    def colour(self) -> None:
        """Colour the objects by their classes."""
        if self._found is None:
            return
        before = self._known().get(_BEFORE)
        # A colormap that the user has set since is what comes back later.
        if before is None or not self._wears(before["ours"]):
            before = {"theirs": self._colours()}
        ours = self._paint_labels() if self.is_labels else self._paint_rows()
        self._remember({_BEFORE: {"theirs": before["theirs"], "ours": ours}})

    def restore_colours(self) -> None:
        """Bring back the colours that the layer had before."""
        before = self._known().get(_BEFORE)
        if before is None:
            return
        if self._wears(before["ours"]):
            for name, (value, mode) in before["theirs"].items():
                self._set(name, _of_length(value, len(self.layer.data), mode))
                if mode not in (None, "direct"):
                    self._set(f"{name}_mode", mode)
        self._forget(_BEFORE)

    def select(self, number: int) -> None:
        """Let napari show an object as the selected one."""
        if self.is_labels:
            self._set("selected_label", number)
        elif number <= len(self.layer.data):
            self._set("selected_data", {number - 1})

    def number_at(self, world: Any, view_direction: Any, displayed: list[int]) -> int | None:
        """Return the number of the object at a place in the viewer; None where there is none."""
        value = self.layer.get_value(
            world, view_direction=view_direction, dims_displayed=displayed, world=True
        )
        if self.layer._type_string == "shapes":
            value = None if value is None else value[0]
        elif self.is_labels and self.layer.multiscale:
            value = None if value is None else value[1]
        if value is None:
            return None
        number = int(value) + (0 if self.is_labels else 1)
        return number if number != 0 else None

    def _set(self, name: str, value: Any) -> None:
        """Set an attribute of the layer without taking the events for the user's."""
        self._following = True
        try:
            setattr(self.layer, name, value)
        finally:
            self._following = False

    def _write_plane(self) -> None:
        found = self._found
        if found is None:
            return
        table = self._table
        if found.numbers_repeat and self._position is not None:
            table = plane_last(table, found.axes, self._position)
        self.layer.features = table

    def _write_rows(self) -> None:
        found, layer = self._found, self.layer
        if found is None:
            return
        written = self._known().get(_WRITTEN, ())
        table, names = rows_features(
            layer.features, written, found, self._position, len(layer.data)
        )
        layer.features = table
        self._remember({_WRITTEN: names})

    def _paint_labels(self) -> dict[str, Any]:
        from napari.utils.colormaps import DirectLabelColormap

        assert self._found is not None
        colours = colours_by_label(self._found, self._position)
        colormap = DirectLabelColormap(
            color_dict={None: colours[None]},
            background_value=self.layer.colormap.background_value,
        )
        # napari would check each of thousands of colours.
        colormap.color_dict.update(colours)
        colormap.selection = self.layer.selected_label
        colormap.use_selection = self.layer.show_selected_label
        self._set("colormap", colormap)
        return {"colormap": colormap}

    def _paint_rows(self) -> dict[str, Any]:
        assert self._found is not None
        by_number = colours_by_label(self._found, self._position)
        none = np.array(NO_PREDICTION, np.float32)
        colours = np.array(
            [by_number.get(number, none) for number in range(1, len(self.layer.data) + 1)],
            np.float32,
        ).reshape(-1, 4)
        if not len(colours):
            return {}
        if self.layer._type_string == "points":
            self.layer.face_color = colours
            return {"face_color": np.array(self.layer.face_color)}
        inside = colours * np.array([1, 1, 1, _FACE_OPACITY], np.float32)
        self.layer.edge_color, self.layer.face_color = colours, inside
        return {name: np.array(getattr(self.layer, name)) for name in ("edge_color", "face_color")}

    def _colours(self) -> dict[str, tuple[Any, str | None]]:
        """Return the layer's colours and how they were made, by attribute."""
        if self.is_labels:
            return {"colormap": (self.layer.colormap, None)}
        names = ("face_color",) if self.layer._type_string == "points" else (
            "edge_color", "face_color",
        )  # fmt: skip
        return {
            name: (np.array(getattr(self.layer, name)), str(getattr(self.layer, f"{name}_mode")))
            for name in names
        }

    def _wears(self, ours: Mapping[str, Any]) -> bool:
        """Whether the layer still has the colours that were given to it."""
        if self.is_labels:
            return ours.get("colormap") is self.layer.colormap
        return all(
            len(value) != len(self.layer.data) or np.allclose(value, getattr(self.layer, name))
            for name, value in ours.items()
        )

    def _known(self) -> dict[str, Any]:
        return dict(self.layer.metadata.get(KEY) or {})

    def _remember(self, entries: Mapping[str, Any]) -> None:
        self.layer.metadata = {**self.layer.metadata, KEY: {**self._known(), **entries}}

    def _forget(self, name: str) -> None:
        known = self._known()
        known.pop(name, None)
        self.layer.metadata = {**self.layer.metadata, KEY: known}

    def _change_events(self) -> list[Any]:
        events = self.layer.events
        # Undoing and redoing paint redraw the layer and tell nothing else.
        return [events.data, events.paint, events.set_data] if self.is_labels else [events.data]

    def _changed(self, event: Any) -> None:
        self._on_change()

    def _on_selected_label(self, event: Any) -> None:
        if not self._following and self.layer.selected_label:
            self._on_pick(int(self.layer.selected_label))

    def _on_mouse(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        """Notice a click on an object, with any tool that changes nothing."""
        if event.button != 1 or not self._can_pick():
            return
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.array(event.pos) - start).max() > 3 or self.layer not in viewer.layers:
            return
        number = self.number_at(event.position, event.view_direction, event.dims_displayed)
        if number is not None:
            self._on_pick(number)

    def _can_pick(self) -> bool:
        active = self._viewer.layers.selection.active
        mode = "pan_zoom" if active is None else str(active.mode)
        return bool(self.layer.visible) and mode in _LOOKING


@cache
def compile_colours(dtype: np.dtype[Any]) -> None:
    """Let napari compile what colours labels, which takes it seconds once; in a thread.

    It does so with numba for each type of numbers, and in the window's thread if not before.
    """
    from napari.utils.colormaps import DirectLabelColormap

    colours: dict[int | None, Any] = {None: np.array(NO_PREDICTION), 1: np.ones(4)}
    colormap = DirectLabelColormap(color_dict=colours)
    colormap.map(np.ones((4, 4), dtype))


def _of_length(value: Any, count: int, mode: str | None) -> Any:
    """Fit colours that were kept to the objects that there are now."""
    if mode is None or len(value) == count or not len(value):
        return value
    return np.concatenate([value[:count], np.repeat(value[-1:], max(0, count - len(value)), 0)])
