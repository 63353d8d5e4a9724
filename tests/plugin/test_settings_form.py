"""The form of advanced settings, made from the pydantic model."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit

from napari_cellclf.models.training.config import TrainingConfig, parse_value
from napari_cellclf.models.training.presets import list_presets, make_config
from napari_cellclf.plugin.shared.settings_form import SettingsForm, _typed


class Inner(BaseModel):
    """Inside.

    Parameters
    ----------
    strength : float
        How much.
    """

    strength: float = 0.25


class Outer(BaseModel):
    """A model with a field of each kind.

    Parameters
    ----------
    epochs : int
        How often, `1` or more.
    kind : {'a', 'b'}
        Which.
    on : bool
        Whether.
    size : tuple of int, optional
        Height and width.
    inner : Inner
        More.
    """

    inner: Inner = Inner()
    epochs: int = Field(default=3, ge=1, le=9)
    kind: Literal["a", "b"] = "a"
    on: bool = False
    size: tuple[int, int] | None = None
    hidden: str = "not shown"


@pytest.fixture
def form(qtbot: Any) -> SettingsForm:
    """A form that is shown."""
    made = SettingsForm(Outer(), without=["hidden"])
    qtbot.addWidget(made)
    made.show()
    return made


def test_each_field_has_the_control_of_its_type(form: SettingsForm) -> None:
    kinds = {"epochs": QAbstractSpinBox, "kind": QComboBox, "on": QCheckBox, "size": QLineEdit}
    for name, kind in kinds.items():
        assert isinstance(form.control(name).native, kind), name
    spin = form.control("epochs").native
    assert (spin.minimum(), spin.maximum()) == (1, 9)
    assert form.control("epochs").tooltip == "How often, 1 or more."
    assert form.control("inner.strength").tooltip == "How much."
    with pytest.raises(KeyError):
        form.control("hidden")


def test_only_what_the_user_changed_is_an_entry(form: SettingsForm, qtbot: Any) -> None:
    assert form.entries() == {}
    box = form.control("on").native
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    line = form.control("size").native
    line.selectAll()
    with qtbot.waitSignal(form.changed):
        qtbot.keyClicks(line, "[64, 32]")
    qtbot.keyClick(form.control("kind").native, Qt.Key.Key_Down)
    assert form.entries() == {"on": "true", "size": "[64, 32]", "kind": "b"}
    # Other usual values leave what was entered alone.
    form.fill(Outer(epochs=7, size=(8, 8)))
    assert form.control("epochs").value == 7
    assert form.entries() == {"on": "true", "size": "[64, 32]", "kind": "b"}
    line.selectAll()
    qtbot.keyClick(line, Qt.Key.Key_Delete)
    assert "size" not in form.entries()


def test_nothing_is_made_before_it_is_seen(qtbot: Any) -> None:
    made = SettingsForm(Outer())
    qtbot.addWidget(made)
    made.fill(Outer(epochs=5))
    assert made.entries() == {}
    assert made.layout().count() == 0
    made.show()
    assert made.control("epochs").value == 5


@pytest.mark.parametrize("preset", list_presets(), ids=lambda preset: preset.name)
def test_every_value_of_every_preset_can_be_typed(qtbot: Any, preset: Any) -> None:
    config = make_config(preset.config)
    form = SettingsForm(config)
    qtbot.addWidget(form)
    form.show()
    assert form.entries() == {}
    typed = {path: parse_value(_typed(form.control(path).value)) for path in _paths()}
    assert make_config({}, typed) == config


def _paths() -> list[str]:
    augmentation = TrainingConfig.model_fields["augmentation"].annotation
    assert isinstance(augmentation, type)
    assert issubclass(augmentation, BaseModel)
    inside = [f"augmentation.{name}" for name in augmentation.model_fields]
    return [*(name for name in TrainingConfig.model_fields if name != "augmentation"), *inside]


def test_how_unlabelled_images_are_used_is_chosen_from_a_list_and_their_folder_typed(
    qtbot: Any,
) -> None:
    form = SettingsForm(TrainingConfig())
    qtbot.addWidget(form)
    form.show()
    choice = form.control("semi_supervised").native.findChild(QComboBox)
    choice = choice or form.control("semi_supervised").native
    assert [choice.itemText(row) for row in range(choice.count())] == [
        "none",
        "pseudo-label",
        "sgan",
    ]
    choice.setFocus()
    QTest.keyClick(choice, Qt.Key.Key_Down)
    line = form.control("unlabelled").native
    line.selectAll()
    QTest.keyClicks(line, "/data/more")
    assert form.entries() == {"semi_supervised": "pseudo-label", "unlabelled": "/data/more"}
    hint = form.control("unlabelled").tooltip
    assert "Images of held-out groups are left out" in hint
