"""Keeps the layer of the objects, its legend and the table in step with one another."""

from __future__ import annotations

from qtpy.QtCore import QObject, QTimer, Signal

from napari_cellclf.plugin.classify.labels_layer import ObjectsLayer
from napari_cellclf.plugin.classify.object_features import ObjectPredictions, Position, counts
from napari_cellclf.plugin.classify.objects import ObjectsSource
from napari_cellclf.plugin.classify.objects_view import ObjectsView
from napari_cellclf.plugin.classify.results import Results, object_predictions
from napari_cellclf.plugin.classify.viewer_link import ViewerLink

#: Painting redraws a layer many times a second; one look after it is enough.
_PAUSE_MS = 200


class ObjectsLink(QObject):
    """The layer of the objects whose predictions are shown."""

    #: The user picked an object in the viewer; carries the number of its row.
    picked = Signal(int)

    def __init__(self, view: ObjectsView, link: ViewerLink) -> None:
        super().__init__(view)
        self._view, self._link = view, link
        self._results: Results | None = None
        self._source: ObjectsSource | None = None
        self._layer: ObjectsLayer | None = None
        self._position: Position | None = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_PAUSE_MS)
        self._soon.timeout.connect(self._look_for_changes)
        view.colours_wanted.connect(self._colour)
        view.setVisible(False)

    def watch(self, results: Results | None, running: bool) -> None:
        """Follow the layer of the results that are shown; None for results of whole images."""
        wanted = results if results is not None and results.of_objects and not running else None
        self._view.setVisible(wanted is not None)
        if wanted is self._results:
            return
        self._leave()
        if wanted is not None:
            self._results, self._source = wanted, wanted.source
            self._follow(wanted, object_predictions(wanted))

    def write(self, results: Results, position: Position | None) -> bool:
        """Write predictions into the layer; False if it is gone."""
        request = results.request
        layer = None if request.objects is None else self._link.find(request.objects.key)
        if layer is None:
            return False
        self._leave()
        self._results, self._source, self._position = results, results.source, position
        found = object_predictions(results)
        self._follow(results, found, write=True)
        return True

    def show_plane(self, position: Position | None) -> None:
        """Follow the slider."""
        if position == self._position or self._layer is None:
            return
        self._position = position
        self._layer.show_plane(position)
        self._soon.start()

    def select(self, results: Results, number: int) -> None:
        """Show the object of a row: its plane, in the middle of the view, selected in its layer."""
        row, image = results.rows[number], results.request.image
        if image is None or row.position is None or "y" not in row.record:
            return
        if self._layer is not None:
            if not self._layer.layer.visible:
                self._layer.layer.visible = True
            self._layer.select(int(row.record["object"]))
        crop = results.request.model.object_crop
        side = None if crop is None or crop.unit != "pixels" else crop.side
        size = float(row.record.get("area") or 0) ** 0.5 or side or 32.0
        self._link.look_at(image, (row.record["y"], row.record["x"]), size)

    def close(self) -> None:
        """Let go of the layer."""
        self._leave()

    def _follow(self, results: Results, found: ObjectPredictions, *, write: bool = False) -> None:
        request = results.request
        layer = None if request.objects is None else self._link.find(request.objects.key)
        self._view.show_counts(counts(found), len(results.classes))
        self._view.show_changed("")
        if layer is None:
            return
        self._layer = ObjectsLayer(self._link.viewer, layer, self._on_pick, self._soon.start)
        if write:
            self._layer.show(found, self._position, colour=self._view.by_class.isChecked())
        else:
            self._layer.follow(found, self._position)
            self._view.by_class.setChecked(self._layer.is_coloured)
        self._soon.start()

    def _leave(self) -> None:
        self._soon.stop()
        if self._layer is not None:
            self._layer.disconnect()
        self._results = self._source = self._layer = None

    def _on_pick(self, number: int) -> None:
        results = self._results
        row = None if results is None else results.row_of(self._position or (), number)
        if row is not None:
            self.picked.emit(row)

    def _colour(self, by_class: bool) -> None:
        if self._layer is not None and by_class:
            self._layer.colour()
        elif self._layer is not None:
            self._layer.restore_colours()

    def _look_for_changes(self) -> None:
        source, results = self._source, self._results
        if source is None or results is None or self._layer is None or self._position is None:
            return
        now = self._link.objects_source(source.choice, source.image)
        changed = now is None or source.changed(self._position, now.data)
        text = (
            f"“{self._layer.layer.name}” was changed; these predictions are of its earlier objects."
        )
        self._view.show_changed(text if changed else "")
