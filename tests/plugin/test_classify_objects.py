"""The objects of Labels, Points and Shapes layers, classified in a real viewer."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_cellclf.plugin.classify.widget import ClassifyWidget

pytestmark = pytest.mark.timeout(600)

LEFT = Qt.MouseButton.LeftButton
PATIENCE = 300_000
OpenWidget = Callable[..., tuple[Any, ClassifyWidget]]


def field(seed: int = 0, planes: tuple[int, ...] = ()) -> tuple[Any, Any]:
    """Make pixels and a mask of eight objects a plane, numbered with gaps."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 40, (*planes, 96, 128), np.uint8)
    mask = np.zeros((*planes, 96, 128), np.uint16)
    for number in range(8):
        y, x = 4 + 46 * (number // 4), 4 + 31 * (number % 4)
        size = 12 + 3 * number
        mask[..., y : y + size, x : x + 20] = 3 * number + 2
        pixels[..., y : y + size, x : x + 20] += rng.integers(20, 200, (size, 20), np.uint8)
    return pixels, mask


NUMBERS = [3 * number + 2 for number in range(8)]


def finish(qtbot: Any, widget: ClassifyWidget) -> None:
    """Click Classify and wait for the end."""
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.runner.running, widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)


def add_field(viewer: Any, seed: int = 0, **more: Any) -> tuple[Any, Any]:
    """Add an image and its objects."""
    pixels, mask = field(seed, **{k: more.pop(k) for k in ("planes",) if k in more})
    image = viewer.add_image(pixels, name="DNA", **more)
    labels = viewer.add_labels(mask, name="nuclei", **more)
    viewer.layers.selection = {image}
    return image, labels


def click_canvas(qtbot: Any, viewer: Any, world: Any) -> None:
    """Click a place of the world with the mouse."""
    canvas = viewer.window._qt_viewer.canvas
    height, width = viewer.canvas.size
    centre = np.array(viewer.scene.camera.center[-2:])
    y, x = (np.array(world) - centre) * viewer.scene.camera.zoom + np.array([height, width]) / 2
    qtbot.mouseClick(canvas.native, LEFT, pos=QPoint(round(x), round(y)))


def click_row(qtbot: Any, table: Any, row: int) -> None:
    """Click a row of the table."""
    table.scrollTo(table.model().index(row, 0))
    place = table.visualRect(table.model().index(row, 0)).center()
    qtbot.mouseClick(table.viewport(), LEFT, pos=place)


def test_objects_go_into_the_labels_layer(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("objects")
    image, labels = add_field(viewer)
    other = viewer.add_labels(np.zeros((4, 5), int), name="of another image")
    labels.features = {"index": [2, 5, 400], "area": [1.0, 2.0, 3.0], "class": ["x", "y", "z"]}
    before = labels.colormap
    viewer.layers.selection = {image}
    finish(qtbot, widget)
    assert [widget.form.objects.itemText(i) for i in range(widget.form.objects.count())] == [
        "nuclei"
    ]
    table = labels.features.set_index("index")
    assert sorted(table.index) == [*NUMBERS, 400]
    # The user's own columns and rows are kept, also of a name that ours has.
    assert table.loc[[2, 5, 400], "area"].tolist() == [1, 2, 3]
    assert table.loc[[2, 5, 400], "class"].tolist() == ["x", "y", "z"]
    assert set(table.loc[NUMBERS, "predicted_class"]) <= {"dividing", "resting"}
    total = table.loc[NUMBERS, "p_dividing"] + table.loc[NUMBERS, "p_resting"]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    # What the mouse over an object tells.
    status = labels.get_status((10, 10), view_direction=None, dims_displayed=[0, 1], world=True)[
        "value"
    ]
    assert status.startswith(f"2; predicted_class: {table.loc[2, 'predicted_class']}, confidence:")
    # One colour a class, another one for the rest.
    same = table.loc[NUMBERS, "predicted_class"] == table.loc[2, "predicted_class"]
    for number in NUMBERS:
        assert np.array_equal(labels.get_color(number), labels.get_color(2)) == same[number]
    assert labels.get_color(400)[3] < 0.5
    legend = widget.form.results.objects.legend.texts()
    assert [name for name, _ in legend] == ["dividing", "resting"]
    assert sum(int(count) for _, count in legend) == 8
    assert "Classified 8 objects" in widget.form.message.text()
    # The old colours come back with one click, also after a second time and another name.
    labels.name = "cells"
    finish(qtbot, widget)
    assert "predicted_class" in labels.features
    assert list(labels.features.columns).count("p_resting") == 1
    assert labels.colormap is not before
    box = widget.form.results.objects.by_class
    qtbot.mouseClick(box, LEFT, pos=QPoint(8, box.height() // 2))
    assert labels.colormap is before
    qtbot.mouseClick(box, LEFT, pos=QPoint(8, box.height() // 2))
    assert labels.colormap is not before
    assert other in viewer.layers


def test_table_and_viewer_follow_each_other(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("objects")
    scale = {"scale": (2.0, 0.5), "translate": (100.0, -7.0)}
    _, labels = add_field(viewer, **scale)
    finish(qtbot, widget)
    table = widget.form.results.table
    assert table.model().rowCount() == 8
    labels.visible = False
    click_row(qtbot, table, 3)
    assert labels.selected_label == NUMBERS[3]
    assert labels.visible
    centre = labels.data_to_world(np.argwhere(labels.data == NUMBERS[3]).mean(0))
    assert viewer.scene.camera.center[-2:] == pytest.approx(tuple(centre), abs=0.01)
    assert widget.form.results._about.text().startswith("nuclei: object 11")
    # By the keys.
    qtbot.keyClick(table, Qt.Key.Key_Down)
    assert labels.selected_label == NUMBERS[4]
    # Back: a click on an object, with any tool that does not paint, whatever layer is selected.
    viewer.reset_view()
    click_canvas(qtbot, viewer, labels.data_to_world((54, 100)))
    assert table.chosen() == 7
    labels.mode = "paint"
    viewer.layers.selection.active = labels
    click_canvas(qtbot, viewer, labels.data_to_world((10, 10)))
    assert table.chosen() == 7
    labels.undo()
    labels.mode = "pick"
    click_canvas(qtbot, viewer, labels.data_to_world((10, 10)))
    assert table.chosen() == 0
    labels.selected_label = NUMBERS[5]
    assert table.chosen() == 5
    # A number that nothing was predicted of changes nothing.
    labels.selected_label = 77
    assert table.chosen() == 5


def test_planes_of_a_stack_have_their_own_objects(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("objects")
    _, labels = add_field(viewer, planes=(3,), scale=(9, 1, 1))
    labels.data[1, labels.data[1] != NUMBERS[2]] = 0
    labels.refresh()
    finish(qtbot, widget)
    table = widget.form.results.table
    assert table.model().rowCount() == 17
    features = labels.features
    assert sorted(features["i"].value_counts().to_dict().items()) == [(0, 8), (1, 1), (2, 8)]
    click_row(qtbot, table, 16)
    assert viewer.dims.current_step[0] == 2
    assert labels.selected_label == NUMBERS[-1]
    # napari takes the last of several rows for a label: that of the plane that is looked at.
    assert labels.features["i"].iloc[-1] == 2
    probabilities = {}
    for plane in (0, 1):
        viewer.dims.set_point(0, 9 * plane)
        assert labels.features["i"].iloc[-1] == plane
        row = labels.features.iloc[labels._label_index[NUMBERS[2]]]
        probabilities[plane] = row["p_resting"]
    assert probabilities[0] != probabilities[1]
    click_canvas(qtbot, viewer, (10, 70))
    assert table.chosen() == 8
    viewer.dims.ndisplay = 3
    assert table.model().rowCount() == 17


def test_objects_that_change_are_told_of(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("objects")
    image, labels = add_field(viewer)
    finish(qtbot, widget)
    view = widget.form.results.objects
    labels.paint((10.0, 10.0), 90)
    qtbot.waitUntil(lambda: "was changed" in view.changed.text(), timeout=5000)
    assert view.again.isVisibleTo(widget)
    labels.undo()
    qtbot.waitUntil(lambda: not view.changed.text(), timeout=5000)
    labels.paint((10.0, 10.0), 90)
    qtbot.waitUntil(lambda: view.again.isVisibleTo(widget), timeout=5000)
    qtbot.mouseClick(view.again, LEFT)
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert not view.changed.text()
    assert 90 in labels.features["index"].tolist()
    # Replaced by others, of the same size and then of another one.
    labels.data = np.where(labels.data == 90, 0, labels.data)
    qtbot.waitUntil(lambda: "was changed" in view.changed.text(), timeout=5000)
    labels.data = labels.data[:50]
    qtbot.waitUntil(lambda: "pixels" in widget.form.message.text(), timeout=5000)
    assert not widget.form.classify.isEnabled()
    assert not view.isVisibleTo(widget)
    viewer.layers.remove(labels)
    viewer.layers.remove(image)
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    assert widget._shown is None


@pytest.mark.parametrize("how", ["removed", "painted", "renamed"])
def test_a_layer_that_changes_during_the_work(
    open_widget: OpenWidget, qtbot: Any, how: str
) -> None:
    viewer, widget = open_widget("objects")
    _, labels = add_field(viewer)
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    results = widget._book.running
    qtbot.waitUntil(lambda: bool(results.source.seen), timeout=PATIENCE)
    if how == "removed":
        viewer.layers.remove(labels)
    elif how == "painted":
        labels.paint((10.0, 10.0), 90)
    else:
        labels.name = "cells"
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    view = widget.form.results
    if how == "removed":
        assert "nuclei was removed meanwhile" in widget.form.message.text()
        assert view.table.model().rowCount() == 8
        click_row(qtbot, view.table, 2)
    elif how == "painted":
        qtbot.waitUntil(lambda: "was changed" in view.objects.changed.text(), timeout=5000)
        assert 90 not in labels.features["index"].tolist()
    else:
        assert len(labels.features) == 8


def test_points_and_shapes_are_centres_and_boxes(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("objects")
    pixels, mask = field()
    image = viewer.add_image(pixels, name="DNA", scale=(0.5, 0.5))
    centres = [np.argwhere(mask == number).mean(0) for number in NUMBERS]
    # In the world, since that is where they lie over the image; one beside it is left out.
    points = viewer.add_points(
        np.array([*centres, (500.0, 500.0)]) * 0.5, name="spots", features={"own": range(9)}
    )
    colours = points.face_color.copy()
    viewer.layers.selection = {image}
    finish(qtbot, widget)
    by_centre = points.features["p_resting"].tolist()
    assert np.isnan(by_centre[8])
    assert points.features["own"].tolist() == list(range(9))
    assert not np.allclose(points.face_color, colours)
    table = widget.form.results.table
    click_row(qtbot, table, 2)
    assert points.selected_data == {2}
    box = widget.form.results.objects.by_class
    box.click()
    np.testing.assert_array_equal(points.face_color, colours)
    # The same as objects of a mask, where crops have one size.
    labels = viewer.add_labels(mask, name="nuclei", scale=(0.5, 0.5))
    corners = []
    for number in NUMBERS:
        where = np.argwhere(mask == number)
        (top, left), (bottom, right) = where.min(0) - 0.5, where.max(0) + 0.5
        corners.append([[top, left], [top, right], [bottom, right], [bottom, left]])
    shapes = viewer.add_shapes(np.array(corners) * 0.5, name="boxes")
    viewer.layers.selection = {image}
    for name, layer in (("nuclei", labels), ("boxes", shapes)):
        qtbot.waitUntil(lambda: widget.form.objects.count() == 3, timeout=5000)
        widget.form.objects.setCurrentText(name)
        finish(qtbot, widget)
        np.testing.assert_array_equal(layer.features["p_resting"].tolist(), by_centre[:8])
    assert shapes.edge_color.shape == (8, 4)
    # A model that looks at an object's own pixels takes masks only.
    assert widget.form.model.choose("masked")
    assert [widget.form.objects.itemText(i) for i in range(widget.form.objects.count())] == [
        "nuclei"
    ]
    viewer.layers.remove(labels)
    qtbot.waitUntil(lambda: "has no masks" in widget.form.message.text(), timeout=5000)


_CONSOLE = """
import json, sys
import numpy as np
import napari_cellclf as cc
from tifffile import imread
image = cc.read_image(sys.argv[1])
image = cc.Image(image.data, image.axes, ("DNA",), source=sys.argv[1], objects=imread(sys.argv[2]))
found = cc.load_classifier("objects").predict(image)
print(json.dumps({i: p.tolist() for i, p in zip(found.ids, found.probabilities)}))
"""


def test_widget_command_line_and_console_agree(
    open_widget: OpenWidget, qtbot: Any, tmp_path: Path, run_python: Callable[..., str]
) -> None:
    from tifffile import imwrite

    viewer, widget = open_widget("objects")
    pixels, mask = field()
    image_path, mask_path = tmp_path / "field.tif", tmp_path / "nuclei.tif"
    imwrite(image_path, pixels)
    imwrite(mask_path, mask)
    viewer.open(image_path, plugin="napari")
    viewer.open(mask_path, plugin="napari", layer_type="labels")
    viewer.layers.selection = {viewer.layers[0]}
    finish(qtbot, widget)
    in_widget = {row.record["image"]: row.record for row in widget._shown.rows}
    console = json.loads(run_python(_CONSOLE, str(image_path), str(mask_path)))
    assert list(in_widget) == list(console)
    for name, (dividing, resting) in console.items():
        assert (in_widget[name]["p_dividing"], in_widget[name]["p_resting"]) == (dividing, resting)
    command = shlex.split(widget.form.command.text())
    assert command[:2] == ["cellclf", "predict"]
    assert command[command.index("--objects") + 1] == str(mask_path)
    run = "import sys; from napari_cellclf.cli import main; sys.exit(main(sys.argv[1:]))"
    command[command.index("--out") + 1] = str(tmp_path / "predictions.csv")
    run_python(run, *command[1:])
    saved = tmp_path / "widget.csv"
    assert widget.save_csv(widget._shown, str(saved))
    tables = []
    for path in (tmp_path / "predictions.csv", saved):
        with path.open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    for theirs, ours in zip(*tables, strict=True):
        shared = ("image", "label", "confidence", "p_dividing", "p_resting", "object", "y", "x")
        assert [theirs[name] for name in shared] == [ours[name] for name in shared]
