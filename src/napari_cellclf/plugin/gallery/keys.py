"""Keys: what they do, bound to a widget, and changed by the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QWidget


@dataclass(frozen=True)
class KeyAction:
    """Something that a key does."""

    #: By which settings know it, such as ``"undo"``.
    name: str
    #: What it does, for people.
    title: str
    #: As Qt writes it, such as ``"Ctrl+Z"``.
    key: str
    act: Callable[[], object]


class Keys:
    """Binds keys to a widget and what is in it; they do nothing elsewhere in the window."""

    def __init__(self, widget: QWidget | None = None, actions: Sequence[KeyAction] = ()) -> None:
        self.actions: tuple[KeyAction, ...] = ()
        self._shortcuts: dict[str, QShortcut] = {}
        if widget is not None:
            self.bind(widget, actions)

    def bind(self, widget: QWidget, actions: Sequence[KeyAction]) -> None:
        """Add actions whose keys are taken in a widget and what is in it."""
        self.actions = (*self.actions, *actions)
        self._shortcuts |= {action.name: _bind(widget, action) for action in actions}

    def change(self, keys: Mapping[str, str]) -> None:
        """Use other keys; `keys`: by name of the action, which has its own key where left out."""
        for action in self.actions:
            key = keys.get(action.name, action.key)
            self._shortcuts[action.name].setKeys(_sequences(key))

    def key_of(self, name: str) -> str:
        """Return the key of an action as people read it."""
        native = QKeySequence.SequenceFormat.NativeText
        return str(self._shortcuts[name].key().toString(native))


def _sequences(key: str) -> list[QKeySequence]:
    """Return a key, and for that of the letters' Enter the one beside the digits as well."""
    other = key.replace("Return", "Enter")
    return [QKeySequence(one) for one in dict.fromkeys((key, other))]


def _bind(widget: QWidget, action: KeyAction) -> QShortcut:
    shortcut = QShortcut(widget)
    shortcut.setKeys(_sequences(action.key))
    shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    # A label is given once for each time that the key is pressed, however long.
    shortcut.setAutoRepeat(False)
    shortcut.activated.connect(action.act)
    # napari may have the same key for the whole window; here it is ours.
    shortcut.activatedAmbiguously.connect(action.act)
    return shortcut
