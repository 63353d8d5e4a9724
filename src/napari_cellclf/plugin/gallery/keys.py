"""Keys: what they do on the pages that label, bound to widgets, and changed by the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QObject, Qt, Signal
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


#: As many classes have a key.
N_CLASS_KEYS = 9
#: The keys of the tabs *Label* and *Results*, in the order in which they are listed.
ACTIONS = (
    *(
        KeyAction(f"label {number}", f"label with class {number}, and go on", str(number))
        for number in range(1, N_CLASS_KEYS + 1)
    ),
    KeyAction("accept", "accept the suggested or predicted class, and go on", "Return"),
    KeyAction("accept page", "accept those of all images on the screen", "Shift+Return"),
    KeyAction("skip", "skip for now", "Space"),
    KeyAction("unsure", "mark as unsure, and go on", "U"),
    KeyAction("clear", "take back the label", "Del"),
    KeyAction("undo", "undo", "Ctrl+Z"),
    KeyAction("redo", "redo", "Ctrl+Shift+Z"),
    KeyAction("show", "show in the viewer", "S"),
)


class Keys(QObject):
    """The keys of a page; they do nothing elsewhere in the window."""

    #: Other keys are used.
    changed = Signal()

    def __init__(self, page: QWidget) -> None:
        super().__init__(page)
        self._keys = {action.name: action.key for action in ACTIONS}
        self._shortcuts: dict[str, list[QShortcut]] = {}

    def bind(self, widgets: Sequence[QWidget], acts: Mapping[str, Callable[[], object]]) -> None:
        """Take keys in some widgets and what is in them; `acts`: by name of the action."""
        for name, act in acts.items():
            bound = [_bind(widget, self._keys[name], act) for widget in widgets]
            self._shortcuts.setdefault(name, []).extend(bound)

    def change(self, keys: Mapping[str, str]) -> None:
        """Use other keys; `keys`: by name of the action, which has its own key where left out."""
        self._keys = {action.name: keys.get(action.name, action.key) for action in ACTIONS}
        for name, bound in self._shortcuts.items():
            for shortcut in bound:
                shortcut.setKeys(_sequences(self._keys[name]))
        self.changed.emit()

    def key_of(self, name: str) -> str:
        """Return the key of an action as people read it."""
        native = QKeySequence.SequenceFormat.NativeText
        text = str(QKeySequence(self._keys[name]).toString(native))
        return text.replace("Return", "Enter") or "no key"

    def class_keys(self) -> list[str]:
        """Return the keys of the classes as people read them."""
        return [self.key_of(f"label {number}") for number in range(1, N_CLASS_KEYS + 1)]

    def class_keys_in_words(self, n_classes: int) -> str:
        """Say which keys label with the classes that there are, such as ``"1 to 3"``."""
        keys = self.class_keys()[: max(1, n_classes)]
        if len(keys) > 2 and keys == [str(number + 1) for number in range(len(keys))]:
            return f"{keys[0]} to {keys[-1]}"
        *most, last = keys
        return f"{', '.join(most)} or {last}" if most else last


def _sequences(key: str) -> list[QKeySequence]:
    """Return a key, and for that of the letters' Enter the one beside the digits as well."""
    other = key.replace("Return", "Enter")
    return [QKeySequence(one) for one in dict.fromkeys((key, other))]


def _bind(widget: QWidget, key: str, act: Callable[[], object]) -> QShortcut:
    shortcut = QShortcut(widget)
    shortcut.setKeys(_sequences(key))
    shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    # A label is given once for each time that the key is pressed, however long.
    shortcut.setAutoRepeat(False)
    shortcut.activated.connect(act)
    # napari may have the same key for the whole window; here it is ours.
    shortcut.activatedAmbiguously.connect(act)
    return shortcut
