"""Our types in forms that magicgui makes, and the example of the guide."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from magicgui import magicgui
from magicgui.widgets import ComboBox, Table
from qtpy.QtCore import Qt

import napari_cellclf as cc
from napari_cellclf.plugin import magic

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "magicgui_classify.py"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that were loaded, in order."""
    names: list[str] = []

    def load(name: str) -> Any:
        names.append(name)
        return f"classifier {name}"

    monkeypatch.setattr(magic, "_load", load)
    return names


def test_a_classifier_is_a_choice_of_models_loaded_when_the_function_is_called(
    make_napari_viewer: Any, loaded: list[str]
) -> None:
    make_napari_viewer()

    @magicgui
    def use(classifier: cc.Classifier) -> None:
        assert classifier == "classifier rxrx1-celltype"

    use.show()
    box = use.classifier
    assert isinstance(box, ComboBox)
    assert box.native.isVisible()
    assert "rxrx1-celltype" in box.choices
    with pytest.raises(ValueError, match="no model 'other'"):
        box.value = "other"
    box.value = "rxrx1-celltype"
    assert "rxrx1-celltype" in repr(box)
    assert loaded == []
    use()
    assert loaded == ["rxrx1-celltype"]
    use.close()


def test_a_model_that_was_replaced_under_its_name_is_loaded_again(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path))
    monkeypatch.setattr(magic, "_loaded", {})
    shutil.copytree(bundles / "grey.cellclf", tmp_path / "mine.cellclf")
    first = magic._load("mine")
    assert magic._load("mine") is first
    shutil.rmtree(tmp_path / "mine.cellclf")
    shutil.copytree(bundles / "stains.cellclf", tmp_path / "mine.cellclf")
    second = magic._load("mine")
    assert second.classes != first.classes


def test_the_example_classifies_a_layer_and_shows_a_table(
    make_napari_viewer: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer(show=True)
    image = cc.simulate_site("HUVEC", seed=1)
    viewer.add_image(image.data, name="site")
    scope: dict[str, Any] = {}
    exec(compile(EXAMPLE.read_text(encoding="utf-8"), str(EXAMPLE), "exec"), scope)
    form = scope["classify"]
    qtbot.mouseClick(form.call_button.native, Qt.MouseButton.LeftButton)
    table = magic._tables[form]
    assert isinstance(table, Table)
    qtbot.waitUntil(table.native.isVisible)
    assert table.to_dataframe()["label"].tolist() == ["HUVEC"]
    # Called again, the same table is filled again.
    qtbot.mouseClick(form.call_button.native, Qt.MouseButton.LeftButton)
    assert magic._tables[form] is table
    magic._loaded.clear()
