"""*Why?* adds a map of the evidence over the image, in a real viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_cellclf.plugin.classify.form import FOLDER_TAB
from napari_cellclf.plugin.classify.widget import ClassifyWidget

pytestmark = pytest.mark.timeout(600)

LEFT = Qt.MouseButton.LeftButton
PATIENCE = 300_000
OpenWidget = Callable[..., tuple[Any, ClassifyWidget]]


def predicted(widget: ClassifyWidget, row: int) -> list[str]:
    """Return the classes of a row, the most probable first."""
    results = widget._shown
    assert results is not None
    return [name for name, _ in results.rows[row].top]


def go_to(widget: ClassifyWidget, name: Path | str) -> None:
    """Go to a row of the page of results."""
    collection = widget.form.page.collection
    assert collection is not None
    number = collection.row_of(str(name))
    assert number is not None
    widget.form.page.go_to(number)


def finish(qtbot: Any, widget: ClassifyWidget) -> None:
    """Click Classify and wait for the end."""
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.runner.running, widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)


def ask(qtbot: Any, viewer: Any, widget: ClassifyWidget) -> Any:
    """Click Why?, wait for the map, and return its layer."""
    button = widget.form.why.button
    assert (button.text(), button.isVisibleTo(widget)) == ("Why?", True)
    qtbot.mouseClick(button, LEFT)
    assert button.text() == "Stop looking", widget.form.message.text()
    qtbot.waitUntil(lambda: button.text() == "Why?", timeout=PATIENCE)
    said = widget.form.message.text()
    assert said.startswith("Orange is evidence for "), said
    qtbot.wait(50)
    assert widget.form.message.text() == said
    (layer,) = (one for one in viewer.layers if one.name.startswith("why: "))
    return layer


def choose_class(qtbot: Any, widget: ClassifyWidget, name: str) -> None:
    """Choose with the keys for which class evidence is shown."""
    box = widget.form.why.class_name
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Home)
    while box.currentText() != name:
        qtbot.keyClick(box, Qt.Key.Key_Down)


def test_the_map_lies_on_its_plane_of_a_stack(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("grey")
    pixels = np.random.default_rng(1).integers(0, 255, (3, 48, 60), np.uint8)
    turned = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    image = viewer.add_image(
        pixels, name="film", scale=(2, 0.5, 0.25), translate=(1, 20, 30), rotate=turned
    )
    assert not widget.form.why.isVisibleTo(widget)
    finish(qtbot, widget)
    viewer.dims.set_current_step(0, 2)
    layer = ask(qtbot, viewer, widget)
    assert layer.data.shape == (1, 48, 60)
    assert np.nanmax(np.abs(layer.data)) == pytest.approx(layer.contrast_limits[1])
    assert layer.contrast_limits[0] == -layer.contrast_limits[1]
    for place in ((0, 0, 0), (0, 47, 59), (0, 10, 3)):
        there = np.add(place, (2, 0, 0))
        np.testing.assert_allclose(layer.data_to_world(place), image.data_to_world(there))
    assert layer.name.split()[1] == predicted(widget, 2)[0]
    assert viewer.layers.selection == {image}
    images = widget.form.image
    assert [images.itemText(n) for n in range(images.count())] == ["film  (3 planes)"]
    # Evidence for one of two classes is evidence against the other.
    first = np.array(layer.data)
    other = predicted(widget, 2)[1]
    choose_class(qtbot, widget, other)
    layer.opacity = 0.4
    again = ask(qtbot, viewer, widget)
    assert layer not in viewer.layers
    assert (again.name, again.opacity) == (f"why: {other} (grey)", 0.4)
    np.testing.assert_allclose(again.data, -first, atol=1e-5)
    # Its own layer may be deleted, and so may the image while it is explained.
    viewer.layers.remove(again)
    assert ask(qtbot, viewer, widget) in viewer.layers
    qtbot.mouseClick(widget.form.why.button, LEFT)
    viewer.layers.remove(image)
    qtbot.waitUntil(lambda: widget.form.why.button.text() == "Why?", timeout=PATIENCE)
    # A map goes with its image.
    qtbot.waitUntil(lambda: not viewer.layers, timeout=PATIENCE)


def test_it_can_be_stopped_and_gives_way(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("grey")
    pixels = np.random.default_rng(1).integers(0, 255, (48, 60), np.uint8)
    viewer.add_image(pixels, name="embryo")
    finish(qtbot, widget)
    for _ in range(2):
        qtbot.mouseClick(widget.form.why.button, LEFT)
    assert widget.form.message.text() == "Stopped; no map is shown."
    assert widget.form.why.button.text() == "Why?"
    qtbot.mouseClick(widget.form.why.button, LEFT)
    finish(qtbot, widget)
    qtbot.wait(300)
    assert [layer.name for layer in viewer.layers] == ["embryo"]
    assert ask(qtbot, viewer, widget).data.shape == (48, 60)


def test_what_hides_the_image_is_named(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("grey")
    pixels = np.random.default_rng(1).integers(0, 255, (3, 48, 60), np.uint8)
    image = viewer.add_image(pixels, name="film")
    finish(qtbot, widget)
    button, message = widget.form.why.button, widget.form.message
    image.visible = False
    qtbot.mouseClick(button, LEFT)
    assert message.text() == "“film” is hidden; click the eye of its layer first."
    image.visible = True
    viewer.dims.ndisplay = 3
    qtbot.mouseClick(button, LEFT)
    assert message.text() == "“film” is shown in 3D; switch to 2D to look at one plane first."
    viewer.dims.ndisplay = 2
    assert ask(qtbot, viewer, widget).data.shape == (1, 48, 60)


def test_an_object_is_explained_where_it_is(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("objects")
    pixels = np.random.default_rng(1).integers(0, 255, (80, 90), np.uint8)
    mask = np.zeros((80, 90), int)
    mask[2:10, 4:14], mask[50:60, 60:70] = 3, 8
    image = viewer.add_image(pixels, name="DNA")
    viewer.add_labels(mask, name="nuclei")
    viewer.layers.selection = {image}
    finish(qtbot, widget)
    qtbot.mouseClick(widget.form.why.button, LEFT)
    assert widget.form.message.text() == "Select the object to be explained first."
    table = widget.form.results.table
    place = table.visualRect(table.rows.index(1, 0)).center()
    qtbot.mouseClick(table.viewport(), LEFT, pos=place)
    seen = np.argwhere(np.isfinite(ask(qtbot, viewer, widget).data))
    # A square of 24 pixels around the centre.
    assert (seen.min(0).tolist(), seen.max(0).tolist()) == ([43, 53], [66, 76])


def test_a_row_of_a_folder_is_opened_and_explained(
    open_widget: OpenWidget, qtbot: Any, tmp_path: Path
) -> None:
    from tifffile import imwrite

    film = np.random.default_rng(2).integers(0, 255, (3, 48, 50), np.uint8)
    imwrite(tmp_path / "film.tif", film, imagej=True, metadata={"axes": "TYX"})
    imwrite(tmp_path / "one.tif", film[0, :, :40])
    viewer, widget = open_widget("grey")
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder.set_path(str(tmp_path))
    finish(qtbot, widget)
    page = widget.form.page
    qtbot.waitUntil(lambda: page.isVisibleTo(widget), timeout=PATIENCE)
    go_to(widget, tmp_path / "film.tif[t=1]")
    layer = ask(qtbot, viewer, widget)
    assert viewer.dims.current_step[0] == 1
    assert layer.data_to_world((0, 0, 0))[0] == 1
    go_to(widget, tmp_path / "one.tif")
    assert ask(qtbot, viewer, widget).data.shape == (48, 40)
    assert widget.form.minimumSizeHint().width() <= 360
