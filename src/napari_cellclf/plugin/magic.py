"""Our types in anybody's ``@magicgui`` function: a choice of models, and a table of predictions.

Importing this module registers them. ``napari_cellclf`` imports it by itself when `Classifier` or
`Predictions` is first used where magicgui is in use, as it is in napari.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import napari
from magicgui import register_type
from magicgui.widgets import ComboBox, Table

from napari_cellclf.bundles.bundle import read_spec
from napari_cellclf.bundles.catalogue import find_model, list_models
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.load import load_classifier

if TYPE_CHECKING:
    from magicgui.widgets import FunctionGui

#: The table of each function, which is filled again at its next call.
_tables: WeakKeyDictionary[FunctionGui[..., Any], Table] = WeakKeyDictionary()
#: The last model that was loaded stays, since a function is often called again with the same one.
_loaded: dict[str, Classifier] = {}


class ModelBox(ComboBox):
    """A choice of the models at hand, by name; its value is the model, loaded when asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"choices": _model_names} | options))

    @property
    def value(self) -> Classifier | None:
        """The chosen model: a function asks for it when it is called."""
        name = self.get_value()
        return None if name is None else _load(name)

    @value.setter
    def value(self, name: str) -> None:
        if name not in self.choices:
            raise ValueError(f"there is no model {name!r}; choose one of {list(self.choices)}")
        self.set_value(name)

    def __repr__(self) -> str:
        """Name the choice without loading it."""
        return f"ModelBox({self.current_choice!r}, name={self.name!r})"


def _model_names(_: object) -> list[str]:
    return [model.name for model in list_models()]


def _load(name: str) -> Classifier:
    """Load a model, unless it is loaded already; the hashes in its description tell."""
    classifier = _loaded.get(name)
    if classifier is None or classifier.bundle.spec != read_spec(find_model(name)):
        _loaded.clear()
        _loaded[name] = classifier = load_classifier(name)
    return classifier


def _show_table(gui: FunctionGui[..., Any], predictions: Predictions, _: type) -> None:
    """Show predictions below the viewer, or in a window of their own without one."""
    rows: Any = predictions.to_dataframe()
    if gui in _tables and _tables[gui].native.isVisible():
        _tables[gui].value = rows
        return
    table = Table(value=rows, name="Predictions")
    _tables[gui] = table
    viewer = napari.current_viewer()
    if viewer is not None:
        viewer.window.add_dock_widget(table, name="Predictions", area="bottom")
    table.show()


register_type(Classifier, widget_type=ModelBox)
register_type(Predictions, return_callback=_show_table)
