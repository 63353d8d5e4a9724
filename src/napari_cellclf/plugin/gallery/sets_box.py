"""The box that shows prediction sets; what was chosen is kept in napari's preferences."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QWidget

from napari_cellclf.plugin.shared.preferences import plugin_preferences

_WHY = (
    "The classes that the image may be of: of images like the validation images, a promised "
    "fraction of these sets holds the true class. Also saved with the table."
)
_WHY_NOT = (
    "This model has no threshold for prediction sets. Models get one when they are trained with "
    "validation images; those behind the address of a server show none here."
)


class SetsBox(QCheckBox):
    """Whether prediction sets are shown."""

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        preferences = plugin_preferences()
        self.setChecked(preferences is not None and preferences.results.prediction_sets)
        self.offer(possible=False)
        self.clicked.connect(self._keep)

    @property
    def wanted(self) -> bool:
        """Whether they are shown: the model can say, and they were asked for."""
        return self.isEnabled() and self.isChecked()

    def offer(self, *, possible: bool) -> None:
        """Say whether the model has them; else why not."""
        self.setEnabled(possible)
        self.setToolTip(_WHY if possible else _WHY_NOT)

    def _keep(self, checked: bool) -> None:
        preferences = plugin_preferences()
        if preferences is not None:
            preferences.results.prediction_sets = checked
