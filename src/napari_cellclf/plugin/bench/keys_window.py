"""The window behind "?": which keys there are, and other ones for those who want them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QKeySequenceEdit,
    QVBoxLayout,
    QWidget,
)

from napari_cellclf.plugin.gallery.keys import ACTIONS
from napari_cellclf.plugin.shared.controls import MessageLine, VerticalScrollArea, WrappedLabel
from napari_cellclf.plugin.shared.preferences import plugin_preferences

_ABOUT = (
    "These are the keys of the tabs Label and Results, once images are shown there: click one "
    "first. To use another key, click the one shown and press it."
)
_WIDTH, _HEIGHT = 480, 600
_FIELD_WIDTH = 130


def preferred_keys() -> dict[str, str]:
    """Return the keys that the user changed: name of the action to key."""
    preferences = plugin_preferences()
    if preferences is None:
        return {}
    try:
        known = json.loads(preferences.labels.keys or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(key) for name, key in known.items()} if isinstance(known, dict) else {}


def _keep(keys: Mapping[str, str]) -> None:
    preferences = plugin_preferences()
    if preferences is not None:
        preferences.labels.keys = json.dumps(dict(keys)) if keys else ""


class KeysWindow(QDialog):
    """Lists the keys of all pages; what is changed works at once and after a restart."""

    #: Carries the keys that differ from the usual ones, by name of the action.
    changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Keys")
        self._changed = preferred_keys()
        self.fields: dict[str, QKeySequenceEdit] = {}
        self.message = MessageLine()
        rows = QWidget()
        form = QFormLayout(rows)
        for action in ACTIONS:
            field = QKeySequenceEdit(QKeySequence(self._changed.get(action.name, action.key)))
            field.setMaximumSequenceLength(1)
            field.setMinimumWidth(_FIELD_WIDTH)
            field.editingFinished.connect(self._on_edit)
            self.fields[action.name] = field
            form.addRow(action.title[:1].upper() + action.title[1:], field)
        area = VerticalScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(rows)
        about = WrappedLabel()
        about.setText(_ABOUT)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        usual = buttons.addButton("Usual keys", QDialogButtonBox.ButtonRole.ResetRole)
        if usual is not None:
            usual.clicked.connect(self.restore)
        buttons.rejected.connect(self.close)
        column = QVBoxLayout(self)
        for widget in (about, area, self.message, buttons):
            column.addWidget(widget)
        self.resize(_WIDTH, _HEIGHT)

    def restore(self) -> None:
        """Use the usual keys again."""
        for action in ACTIONS:
            self.fields[action.name].setKeySequence(QKeySequence(action.key))
        self._on_edit()

    def _on_edit(self) -> None:
        """Use what is shown, unless one key would do two things."""
        portable = QKeySequence.SequenceFormat.PortableText
        shown = {
            name: field.keySequence().toString(portable) for name, field in self.fields.items()
        }
        titles: dict[str, str] = {}
        for action in ACTIONS:
            key = shown[action.name]
            if key and key in titles:
                self.message.say(
                    f"{key} would {titles[key]} and {action.title}; choose another key for one.",
                    wrong=True,
                )
                return
            titles[key] = action.title
        self.message.say("")
        self._changed = {
            action.name: shown[action.name]
            for action in ACTIONS
            if shown[action.name] != action.key
        }
        _keep(self._changed)
        self.changed.emit(self._changed)
