"""Keeps the choice of image and its channel mapping in step with the viewer's layers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from qtpy.QtCore import QObject, QSignalBlocker, Signal

from napari_cellclf.core.counting import counted
from napari_cellclf.plugin.classify.choices import (
    ImageChoice,
    LayerInfo,
    list_choices,
    with_channel_axis,
)
from napari_cellclf.plugin.classify.form import ClassifyForm
from napari_cellclf.plugin.classify.objects import ObjectsChoice, fitting_objects
from napari_cellclf.plugin.classify.request import ModelChoice, Proposal, Sources, propose_mapping
from napari_cellclf.plugin.shared.messages import Refusal

_NO_AXIS = -1


class ImageForm(QObject):
    """What is filled in by itself, and kept where the user changed it."""

    #: Another image, channel axis or mapping stands in the form.
    changed = Signal()

    def __init__(self, form: ClassifyForm) -> None:
        super().__init__(form)
        self._form = form
        self._choices: list[ImageChoice] = []
        self._selected: frozenset[Hashable] = frozenset()
        self._axes: dict[frozenset[Hashable], int] = {}
        self._filled_for: Any = None
        self._proposal = Proposal(())
        self._changed_by_hand = False
        self._layers: Sequence[ObjectsChoice] = ()
        self._fitting: list[ObjectsChoice] = []
        self._no_objects = Refusal("")
        form.image.currentIndexChanged.connect(self._on_image)
        form.objects.currentIndexChanged.connect(self._on_objects)
        form.axis.currentIndexChanged.connect(self._on_axis)
        form.channels.changed.connect(self._on_mapping)

    def refresh(
        self,
        layers: Sequence[LayerInfo],
        object_layers: Sequence[ObjectsChoice],
        selected: set[Hashable],
        model: ModelChoice | None,
    ) -> None:
        """Fill in what the layers and the model ask for."""
        self._layers = object_layers
        before = self._raw()
        n_channels = 1 if model is None else len(model.channels)
        self._choices, current = list_choices(layers, selected, n_channels)
        chosen = frozenset(selected) - {layer.key for layer in object_layers}
        # Whoever paints on objects still means the image beneath.
        same = (chosen == self._selected or not chosen) and before is not None
        if same and before is not None:
            kept = [i for i, choice in enumerate(self._choices) if choice.keys == before.keys]
            current = kept[0] if kept else current
        self._selected = chosen
        self._show_choices(current)
        self._fill(model)

    def choice(self) -> ImageChoice | None:
        """Return the image that is chosen, with the channel axis that is chosen."""
        raw = self._raw()
        if raw is None or raw.keys not in self._axes or not raw.candidate_axes:
            return raw
        axis = self._axes[raw.keys]
        return with_channel_axis(raw, None if axis == _NO_AXIS else axis)

    def objects(self) -> ObjectsChoice | Refusal:
        """Return the layer of objects that is chosen, or why there is none."""
        index = self._form.objects.currentIndex()
        return self._fitting[index] if 0 <= index < len(self._fitting) else self._no_objects

    def sources(self) -> Sources:
        """Return the channel mapping."""
        return self._form.channels.sources()

    def proposed(self) -> Sources:
        """Return the channel mapping that the names alone gave."""
        sources = self._proposal.sources
        return sources if self._proposal.by_names else (None,) * len(sources)

    @property
    def note(self) -> str:
        """What is to be said about the mapping; empty once the user has changed it."""
        return "" if self._changed_by_hand else self._proposal.message

    def _raw(self) -> ImageChoice | None:
        index = self._form.image.currentIndex()
        return self._choices[index] if 0 <= index < len(self._choices) else None

    def _show_choices(self, current: int) -> None:
        box = self._form.image
        with QSignalBlocker(box):
            box.clear()
            for choice in self._choices:
                box.addItem(_label(choice))
            box.setCurrentIndex(current)
        box.setEnabled(bool(self._choices))

    def _fill(self, model: ModelChoice | None) -> None:
        choice = self.choice()
        self._show_axis(choice)
        self._show_objects(model, choice)
        wanted = (model, choice and (choice.keys, choice.names, choice.channels))
        if wanted == self._filled_for:
            return
        self._filled_for = wanted
        self._proposal, self._changed_by_hand = Proposal(()), False
        usable = model is not None and choice is not None and not choice.problem
        self._form.channels.setVisible(usable)
        if model is None or choice is None or not usable:
            self._form.channels.fill((), (), ())
            return
        self._proposal = proposal = propose_mapping(
            model.channels, choice.names, model.single_channel
        )
        self._form.channels.fill(model.channels, choice.channels, proposal.sources)
        self._form.channels.unfold(bool(proposal.message))

    def _show_axis(self, choice: ImageChoice | None) -> None:
        axes = () if choice is None else choice.candidate_axes
        self._form.show_axis(bool(axes))
        if choice is None:
            return
        with QSignalBlocker(self._form.axis):
            self._form.axis.clear()
            self._form.axis.addItem("none: one channel", _NO_AXIS)
            for axis in axes:
                self._form.axis.addItem(_axis_label(choice.layers[0], axis), axis)
            current = choice.axes.index("C") if "C" in choice.axes else _NO_AXIS
            self._form.axis.setCurrentIndex(max(self._form.axis.findData(current), 0))

    def _show_objects(self, model: ModelChoice | None, choice: ImageChoice | None) -> None:
        crop = None if model is None else model.object_crop
        self._form.show_objects(crop is not None)
        before = self.objects()
        fitting: list[ObjectsChoice] = []
        reason = ""
        if crop is not None and choice is not None:
            fitting, reason = fitting_objects(self._layers, choice, crop)
        self._fitting, self._no_objects = fitting, Refusal(reason)
        keys = [one.key for one in fitting]
        kept = not isinstance(before, Refusal) and before.key in keys
        with QSignalBlocker(self._form.objects):
            self._form.objects.clear()
            self._form.objects.addItems([one.name for one in fitting])
            if kept and not isinstance(before, Refusal):
                self._form.objects.setCurrentIndex(keys.index(before.key))
        self._form.objects.setEnabled(bool(fitting))

    def _on_objects(self) -> None:
        self.changed.emit()

    def _on_image(self) -> None:
        self._fill(self._form.model.current())
        self.changed.emit()

    def _on_axis(self) -> None:
        raw = self._raw()
        if raw is not None:
            self._axes[raw.keys] = self._form.axis.currentData()
        self._on_image()

    def _on_mapping(self) -> None:
        self._changed_by_hand = True
        self.changed.emit()


def _label(choice: ImageChoice) -> str:
    count = 1
    for size in choice.planes:
        count *= size
    return f"{choice.title}  ({counted(count, 'plane')})" if choice.planes else choice.title


def _axis_label(layer: LayerInfo, axis: int) -> str:
    labels = layer.axis_labels
    name = labels[axis] if axis < len(labels) else ""
    known = name and not name.lstrip("-").isdigit()
    return f"{name if known else f'axis {axis}'} ({layer.shape[axis]})"
