"""A form of the fields of a pydantic model, made by magicgui from their types and documentation."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, get_origin

from docstring_parser import DocstringStyle, parse
from magicgui.widgets import create_widget
from magicgui.widgets.bases import ValueWidget
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtCore import Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFormLayout, QLineEdit, QWidget

from napari_cellclf.plugin.shared.controls import plain_hint, plain_label, tab_in_order


class SettingsForm(QWidget):
    """One row for each field, with the model's documentation as its tool tip.

    Whole numbers, yes or no, and closed choices have a control of their own; everything else is
    typed, as on the command line. Fields that are models themselves come last, under a heading.
    """

    #: The user has changed a value.
    changed = Signal()

    def __init__(self, model: BaseModel, without: Collection[str] = ()) -> None:
        super().__init__()
        self._model = model
        self._without = frozenset(without)
        self._usual: dict[str, Any] = {}
        self._filling = False
        #: From which the Tab key goes to the first control, if there is a heading.
        self.heading: QWidget | None = None
        # Made when they are first seen: sixty controls take a tenth of a second.
        self._made: dict[str, ValueWidget[Any]] = {}
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)

    def fill(self, model: BaseModel) -> None:
        """Show the values of a model where the user has not entered another one."""
        self._model = model
        if self._made:
            self._show_values()

    def entries(self) -> dict[str, str]:
        """Return what the user has changed: dotted names of fields, and values as typed.

        A line that was emptied means the usual value.
        """
        return {
            path: _typed(control.value)
            for path, control in self._made.items()
            if path in self._usual and control.value not in (self._usual[path], "")
        }

    def enter(self, entries: Mapping[str, Any]) -> None:
        """Change values, as the user would, by the dotted names of their fields."""
        for path, value in entries.items():
            control = self.control(path)
            control.value = _shown(control, value)

    def control(self, path: str) -> ValueWidget[Any]:
        """Return the control of a field."""
        if not self._made:
            self._make()
        return self._made[path]

    def showEvent(self, event: QShowEvent | None) -> None:
        """Make the controls when they are first seen."""
        if not self._made:
            self._make()
        super().showEvent(event)

    def _make(self) -> None:
        for path, field, hint in _fields(type(self._model)):
            above, _, name = path.rpartition(".")
            if path in self._without:
                continue
            if above and not any(made.startswith(f"{above}.") for made in self._made):
                heading = plain_label(above.replace("_", " ").capitalize())
                heading.setStyleSheet("font-weight: bold;")
                self._form.addRow(heading)
            self._made[path] = control = _control(field, hint)
            control.changed.connect(self._on_change)
            label = plain_label(name.replace("_", " "))
            label.setToolTip(plain_hint(hint))
            self._form.addRow(label, control.native)
        tab_in_order(self.heading or self, [control.native for control in self._made.values()])
        self._show_values()

    def _show_values(self) -> None:
        entered = {path: self._made[path].value for path in self.entries()}
        self._filling = True
        for path, control in self._made.items():
            control.value = _shown(control, _value(self._model, path))
            self._usual[path] = control.value
            if path in entered:
                control.value = entered[path]
            if isinstance(control.native, QLineEdit):
                control.native.setCursorPosition(0)
        self._filling = False

    def _on_change(self) -> None:
        if not self._filling:
            self.changed.emit()


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo, str]]:
    """List fields by dotted names, those of nested models last, with what is said about each."""
    documented = parse(model.__doc__ or "", DocstringStyle.NUMPYDOC).params
    hints = {one.arg_name: " ".join((one.description or "").split()) for one in documented}
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested.append((name, kind))
        else:
            yield f"{prefix}{name}", field, hints.get(name, "").replace("`", "")
    for name, kind in nested:
        yield from _fields(kind, f"{prefix}{name}.")


def _control(field: FieldInfo, hint: str) -> ValueWidget[Any]:
    kind: Any = field.annotation
    # A spin box would round a learning rate: numbers with a fraction are typed.
    closed = kind in (bool, int) or get_origin(kind) is Literal
    options: dict[str, Any] = {"tooltip": plain_hint(hint)}
    if kind is int:
        options |= _limits(field)
    made = create_widget(annotation=kind if closed else str, options=options)
    if not isinstance(made, ValueWidget):
        raise TypeError(f"magicgui has no control for the value of a {kind!r}")
    if isinstance(made.native, QLineEdit):
        made.native.setMinimumWidth(40)
    return made


def _limits(field: FieldInfo) -> dict[str, int]:
    """Return the range of a spin box."""
    least, most = 0, 1_000_000_000
    for rule in field.metadata:
        least = getattr(rule, "ge", least)
        most = getattr(rule, "le", most)
    return {"min": least, "max": most}


def _value(model: BaseModel, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _shown(control: ValueWidget[Any], value: Any) -> Any:
    return _typed(value) if isinstance(control.native, QLineEdit) else value


def _typed(value: Any) -> str:
    """Write a value as it is typed after ``--set NAME=``."""
    if value is None or isinstance(value, str):
        return "null" if value is None else value
    return _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items())
        return "{" + inside + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
