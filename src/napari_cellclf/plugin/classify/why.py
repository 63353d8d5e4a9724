"""The button *Why?*: a layer over the image that shows where the evidence for a class lies."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.image import Image
from napari_cellclf.core.progress import Progress
from napari_cellclf.plugin.classify.choices import ImageChoice
from napari_cellclf.plugin.classify.job import ModelProcess
from napari_cellclf.plugin.classify.object_features import Position
from napari_cellclf.plugin.classify.pixels import positions, read_plane
from napari_cellclf.plugin.classify.request import ModelChoice
from napari_cellclf.plugin.classify.results import Results
from napari_cellclf.plugin.classify.viewer_link import ViewerLink
from napari_cellclf.plugin.napari_layers import KEY
from napari_cellclf.plugin.shared.background import LatestTask, Ticket
from napari_cellclf.plugin.shared.controls import wide_combo
from napari_cellclf.plugin.shared.messages import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.inference.explain import Explanation

#: Against the class, nothing, for the class: red, green, blue and opacity.
_COLOURS = ((0.1, 0.45, 1.0, 0.9), (0.5, 0.5, 0.5, 0.0), (1.0, 0.5, 0.0, 0.9))
_METHODS = {"cam": "HiRes-CAM", "occlusion": "occlusion"}


class WhyBar(QWidget):
    """The button, and for which class; while a map is computed, the button stops it."""

    #: A map is wanted; carries the name of the class, empty for the predicted one.
    asked = Signal(str)
    #: The map is not wanted any more.
    stopped = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QPushButton()
        self.button.clicked.connect(self._on_click)
        self.class_name = wide_combo("For which class evidence is shown.")
        self._running = False
        self._names: tuple[str, ...] = ()
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 4)
        row.addWidget(self.button)
        row.addWidget(self.class_name, 1)
        self.show_classes(())
        self.show_running(False)

    def show_classes(self, names: Sequence[str]) -> None:
        """Offer classes; without any, there is nothing to ask about."""
        self.setVisible(bool(names))
        if tuple(names) == self._names:
            return
        self._names = tuple(names)
        self.class_name.clear()
        self.class_name.addItem("predicted class", "")
        for name in names:
            self.class_name.addItem(name, name)

    def show_running(self, running: bool) -> None:
        """Say what a click does now."""
        self._running = running
        self.button.setText("Stop looking" if running else "Why?")
        self.button.setToolTip(
            "Stops computing the map."
            if running
            else "Adds a layer that shows where the evidence for the class lies: orange for it, "
            "blue against it."
        )

    def _on_click(self) -> None:
        if self._running:
            self.stopped.emit()
        else:
            self.asked.emit(self.class_name.currentData() or "")


@dataclass(frozen=True)
class _Place:
    """Over which layer a map lies, and on which plane of it."""

    layer: Hashable
    choice: ImageChoice
    position: Position


class WhyLink(QObject):
    """Computes maps in the background, and keeps the one layer that shows them."""

    #: What is to be said, and whether something is wrong.
    said = Signal(str, bool)

    def __init__(self, bar: WhyBar, link: ViewerLink, model: ModelProcess) -> None:
        super().__init__(bar)
        self._bar, self._link, self._model = bar, link, model
        self._place: _Place | None = None
        self._layer: Hashable = None
        self._task = LatestTask(self)
        self._task.done.connect(self._on_done)
        self._task.failed.connect(self._on_failed)
        self._task.progress.connect(self._on_progress)
        bar.stopped.connect(self._on_stopped)

    def ask_layers(self, results: Results, number: int, class_name: str) -> None:
        """Explain a row of the layers that were classified."""
        choice, position = results.request.image, results.position(number)
        arrays = None if choice is None else self._link.arrays(choice)
        if choice is None or position is None or arrays is None:
            self.said.emit("The image was removed; classify it again.", True)
            return
        at = positions(choice).index(position)
        read = partial(read_plane, results.request, arrays, at, position, results.source)
        place = _Place(choice.layers[0].key, choice, position)
        one = results.rows[number].record.get("object")
        self._start(results.request.model, read, one, class_name, place)

    def ask_row(self, results: Results, number: int, class_name: str) -> None:
        """Explain a row of files, which is shown in the viewer already."""
        collection, place = results.collection, self._place_shown()
        if collection is None or place is None:
            self.said.emit("The image is not open; press Show in viewer first.", True)
            return
        one = collection.rows[number].object
        read = partial(_read_row, collection, number)
        number_of = None if one is None else one.number
        self._start(results.request.model, read, number_of, class_name, place)

    def stop(self) -> None:
        """Stop computing."""
        self._task.stop()
        self._bar.show_running(False)

    def _start(
        self,
        model: ModelChoice,
        read: Callable[[], Image],
        number: int | None,
        class_name: str,
        place: _Place,
    ) -> None:
        self._place = place
        self._bar.show_running(True)
        self.said.emit("Looking for the evidence…", False)
        self._task.start(partial(_explain, self._model, model, read, number, class_name))

    def _place_shown(self) -> _Place | None:
        """Find the image whose layers are selected, and which plane of it is looked at."""
        selected = self._link.selected()
        for choice in self._link.choices():
            position = self._link.position(choice)
            if choice.keys & selected and position is not None:
                return _Place(choice.layers[0].key, choice, position)
        return None

    def _on_done(self, found: Explanation) -> None:
        self._bar.show_running(False)
        place = self._place
        layer = None if place is None else self._link.find(place.layer)
        if place is None or layer is None:
            self.said.emit("The image was removed meanwhile, so no map is shown.", True)
            return
        self._layer = self._link.replace_layer(
            self._layer, over(layer, place.choice, place.position, found), place.layer
        )
        self.said.emit(
            f"Orange is evidence for {found.class_name} ({percent(found.probability)}), blue "
            f"against it; found by {_METHODS[found.method]}.",
            False,
        )

    def _on_failed(self, message: str) -> None:
        self._bar.show_running(False)
        self.said.emit(message, True)

    def _on_progress(self, progress: Progress) -> None:
        self.said.emit(f"Covered {progress.done} of {progress.total} patches…", False)

    def _on_stopped(self) -> None:
        self.stop()
        self.said.emit("Stopped; no map is shown.", False)


def over(
    layer: Any, choice: ImageChoice, position: Position, found: Explanation
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return data and settings of a layer that lies on a plane of another one."""
    from napari.utils.colormaps import Colormap

    at = np.zeros(layer.ndim)
    at[list(choice.leading)] = position
    moved = np.subtract(layer.data_to_world(at), layer.data_to_world(np.zeros(layer.ndim)))
    settings = {
        "name": f"why: {found.class_name} ({found.model})",
        "colormap": Colormap(_COLOURS, name="evidence"),
        "contrast_limits": (-found.limit, found.limit),
        "blending": "translucent",
        "rgb": False,
        "scale": layer.scale,
        "translate": layer.translate + np.linalg.solve(layer.affine.linear_matrix, moved),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
        "metadata": {KEY: {"why": found.id, "method": found.method}},
    }
    return _in_axes(found.heat, choice, layer.ndim), settings


def _in_axes(heat: NDArray[np.float32], choice: ImageChoice, ndim: int) -> NDArray[np.float32]:
    """Give a map the axes of its image: one plane, all channels."""
    axes = choice.axes[:ndim]
    if axes.index("X") < axes.index("Y"):
        heat = heat.T
    planes = heat.reshape([heat.shape["YX".index(a)] if a in "YX" else 1 for a in axes])
    shape = [choice.layers[0].shape[n] if a == "C" else planes.shape[n] for n, a in enumerate(axes)]
    return np.broadcast_to(planes, shape)


def _read_row(collection: Collection, number: int) -> Image:
    one = collection.rows[number].object
    image = collection.read(number)
    return replace(image, objects=None if one is None else (one,))


def _explain(
    process: ModelProcess,
    model: ModelChoice,
    read: Callable[[], Image],
    number: int | None,
    class_name: str,
    ticket: Ticket,
) -> Explanation:
    classifier = process.get(model, ticket.should_stop)
    return classifier.explain(
        read(),
        class_name=class_name or None,
        number=number,
        on_progress=ticket.on_progress,
        should_stop=ticket.should_stop,
    )
