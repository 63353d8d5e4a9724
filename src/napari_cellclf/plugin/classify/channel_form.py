"""The part of the form that says which of the image's channels feeds which of the model's."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget
from superqt import QCollapsible

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.request import Sources

_NONE = "— none —"


class ChannelForm(QCollapsible):
    """A combo box for each channel that the model expects, filled in and open to change."""

    #: The user chose another channel.
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Channels", parent)
        self.setDuration(0)
        self.setCollapsedIcon("▶")
        self.setExpandedIcon("▼")
        self._boxes: list[QComboBox] = []
        self._body = QWidget()
        self._form = QFormLayout(self._body)
        self._form.setContentsMargins(0, 0, 0, 0)
        self.setContent(self._body)

    def fill(
        self, expected: Sequence[ChannelSpec], available: Sequence[str], sources: Sources
    ) -> None:
        """Show a mapping.

        Parameters
        ----------
        expected : sequence of ChannelSpec
            What the model expects.
        available : sequence of str
            What the image's channels are called.
        sources : tuple of (int or None)
            For each expected channel the index of the image's channel.
        """
        while self._form.rowCount():
            self._form.removeRow(0)
        self._boxes = []
        for spec, source in zip(expected, sources, strict=True):
            box = _channel_box(spec, available, source)
            box.currentIndexChanged.connect(self._on_change)
            self._boxes.append(box)
            self._form.addRow(spec.name, box)
        self._set_title()

    def sources(self) -> Sources:
        """Return the mapping as it is shown."""
        return tuple(box.currentData() for box in self._boxes)

    def box(self, index: int) -> QComboBox:
        """Return the combo box of one of the model's channels."""
        return self._boxes[index]

    def _on_change(self) -> None:
        self._set_title()
        self.changed.emit()

    def _set_title(self) -> None:
        found = sum(source is not None for source in self.sources())
        self.setText(f"Channels: {found} of {len(self._boxes)} found")


def _channel_box(spec: ChannelSpec, available: Sequence[str], source: int | None) -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    box.setToolTip(f"Which channel of the image is {spec.name}.")
    # A channel that the model cannot do without has no "none" to choose, only to begin with.
    if not spec.required:
        box.addItem(_NONE, None)
    elif source is None:
        box.addItem("choose…", None)
    for index, name in enumerate(available):
        box.addItem(name, index)
    box.setCurrentIndex(max(box.findData(source), 0) if source is not None else 0)
    return box
