"""The widget in a real viewer, with a real model in its own process."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_cellclf.core.stains import STAINS
from napari_cellclf.plugin.bench.widget import RESULTS
from napari_cellclf.plugin.classify import image_form as image_form_module
from napari_cellclf.plugin.classify import job as job_module
from napari_cellclf.plugin.classify import widget as widget_module
from napari_cellclf.plugin.classify.form import FOLDER_TAB
from napari_cellclf.plugin.classify.widget import ClassifyWidget

pytestmark = pytest.mark.timeout(600)

OpenWidget = Callable[..., tuple[Any, ClassifyWidget]]

#: Loading Keras in the child takes seconds, many on a busy machine.
PATIENCE = 300_000
KEY = "cellclf"


def finish(qtbot: Any, widget: ClassifyWidget) -> None:
    """Press Classify and wait for the end."""
    assert widget.classify(), widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)


def add_stains(viewer: Any, pixels: np.ndarray[Any, Any], count: int = 6, **more: Any) -> list[Any]:
    """Add one layer a stain, as from anybody's reader, and select them all."""
    layers = [viewer.add_image(pixels[index], name=STAINS[index], **more) for index in range(count)]
    viewer.layers.selection = set(layers)
    return layers


def canvas_text(viewer: Any) -> str:
    """Return what this plugin shows on the canvas; empty if nothing."""
    overlay = viewer.canvas.overlays.get("napari_cellclf")
    return overlay.text if overlay is not None and overlay.visible else ""


def settle(qtbot: Any, widget: ClassifyWidget) -> None:
    """Let the widget take notice of what changed in the viewer."""
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)


def click_row(qtbot: Any, table: Any, row: int) -> None:
    """Click a row of a table with the mouse."""
    table.scrollTo(table.model().index(row, 0))
    place = table.visualRect(table.model().index(row, 0)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)


def test_opening_is_light(make_napari_viewer: Any, models: Path) -> None:
    viewer = make_napari_viewer()
    before = set(sys.modules)
    _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
    bench.show_tab(RESULTS)
    widget = bench.results
    loaded = {name.split(".")[0] for name in set(sys.modules) - before}
    # What takes long to import waits for the first click.
    assert not {"tensorflow", "keras", "torch", "jax", "skimage", "matplotlib"} & loaded
    assert isinstance(widget, ClassifyWidget)


def test_says_what_to_do_when_nothing_is_open(open_widget: OpenWidget) -> None:
    _, widget = open_widget()
    assert "File > Open" in widget.form.message.text()
    assert not widget.form.classify.isEnabled()
    assert not widget.classify()
    assert widget.form.message.is_wrong()


def test_one_layer_a_channel(open_widget: OpenWidget, qtbot: Any, site_pixels: Any) -> None:
    viewer, widget = open_widget()
    layers = add_stains(viewer, site_pixels)
    finish(qtbot, widget)
    result = layers[0].metadata[KEY]["result"]
    assert all(layer.metadata[KEY]["result"] == result for layer in layers)
    assert result["channels"] == {name: name for name in STAINS}
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    best = max(result["probabilities"], key=result["probabilities"].get)
    assert result["label"] == best
    bars = widget.form.results.bars.texts()
    assert bars[0][0] == best
    assert len(bars) == 4
    assert canvas_text(viewer).startswith(best)
    assert "Classified 1 image" in widget.form.message.text()
    assert not widget.form.results.table.isVisibleTo(widget)


def test_canvas_text_follows_what_is_looked_at(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget()
    viewer.canvas.overlays.text.text = "somebody else's"
    layers = add_stains(viewer, site_pixels)
    finish(qtbot, widget)
    text = canvas_text(viewer)
    other = viewer.add_image(np.zeros((8, 8)), name="other")
    settle(qtbot, widget)
    assert canvas_text(viewer) == ""
    assert widget.form.results.bars.texts() == []
    # Two of its layers are another image.
    viewer.layers.selection = {layers[2], layers[4]}
    settle(qtbot, widget)
    assert canvas_text(viewer) == ""
    viewer.layers.selection = set(layers)
    settle(qtbot, widget)
    assert canvas_text(viewer) == text
    for layer in layers:
        layer.visible = False
    settle(qtbot, widget)
    assert canvas_text(viewer) == ""
    viewer.layers.remove(other)
    assert viewer.canvas.overlays.text.text == "somebody else's"


@pytest.mark.parametrize("axes", ["ZC", "CZ"])
def test_one_layer_with_an_axis_of_channels(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any, axes: str
) -> None:
    viewer, widget = open_widget()
    stack = np.stack([site_pixels, site_pixels[:, ::-1], site_pixels[:, :, ::-1]])
    data = stack if axes == "ZC" else stack.transpose(1, 0, 2, 3)
    labels = tuple(letter.lower() for letter in axes + "YX")
    viewer.add_image(data, name="stack", axis_labels=labels)
    finish(qtbot, widget)
    rows = viewer.layers[0].metadata[KEY]["result"]["rows"]
    assert [row["z"] for row in rows] == [0, 1, 2]
    assert [row["image"] for row in rows] == ["stack[z=0]", "stack[z=1]", "stack[z=2]"]
    axis = axes.index("Z")
    for step in range(3):
        viewer.dims.set_point(axis, step)
        assert f"z {step}" in canvas_text(viewer)


def test_rgb_layer(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("colour")
    pixels = np.random.default_rng(1).integers(0, 255, (48, 50, 3), np.uint8)
    viewer.add_image(pixels, rgb=True)
    finish(qtbot, widget)
    assert viewer.layers[0].metadata[KEY]["result"]["channels"]["red"] == "red"


def test_stack_has_a_table_that_moves_the_slider(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("grey")
    pixels = np.random.default_rng(2).integers(0, 255, (5, 48, 48), np.uint8)
    # A scale and an offset as a time axis has them, and a deeper layer that adds dimensions.
    viewer.add_image(pixels, name="movie", scale=(9, 1, 1), translate=(60, 0, 0))
    viewer.add_points(np.zeros((1, 4)), ndim=4)
    viewer.layers.selection = {viewer.layers["movie"]}
    finish(qtbot, widget)
    table = widget.form.results.table
    model = table.model()
    assert model.rowCount() == 5
    assert table.isVisibleTo(widget)
    viewer.dims.set_point(1, 60 + 9 * 3)
    assert table.currentIndex().row() == 3
    click_row(qtbot, table, 1)
    assert viewer.dims.point[1] == pytest.approx(60 + 9 * 1)
    shown = canvas_text(viewer)
    assert "plane 1" in shown
    assert model.data(model.index(1, 1)) == shown.split()[0]
    # Far outside the movie nothing is known.
    viewer.dims.ndisplay = 3
    assert canvas_text(viewer) == ""


def test_mapping_is_filled_in_and_can_be_changed(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget()
    names = ["DNA", "ER", "GFP", "RNA"]
    layers = [viewer.add_image(site_pixels[i], name=name) for i, name in enumerate(names)]
    viewer.layers.selection = set(layers)
    settle(qtbot, widget)
    channels = widget.form.channels
    assert channels.sources() == (0, 1, None, 3, None, None)
    assert "w3 Phalloidin" in widget.form.message.text()
    assert channels.is_unfolded()
    assert not widget.classify()
    channels.box(2).setCurrentText("GFP")
    assert widget.form.classify.isEnabled()
    finish(qtbot, widget)
    assert layers[0].metadata[KEY]["result"]["channels"]["w3 Phalloidin"] == "GFP"
    assert layers[0].metadata[KEY]["result"]["channels"]["w5 MitoTracker"] is None
    # The choice stays when something else in the viewer changes.
    layers[0].visible = False
    settle(qtbot, widget)
    assert channels.sources()[2] == 2


def test_table_is_saved_as_csv(open_widget: OpenWidget, qtbot: Any, tmp_path: Path) -> None:
    viewer, widget = open_widget("grey")
    viewer.add_image(np.random.default_rng(2).integers(0, 255, (3, 48, 48), np.uint8), name="m")
    finish(qtbot, widget)
    results, path = widget._shown, tmp_path / "predictions.csv"
    assert results is not None
    assert widget.save_csv(results, str(path))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = viewer.layers[0].metadata[KEY]["result"]["rows"]
    assert [row["label"] for row in rows] == [row["label"] for row in kept]
    assert float(rows[2]["p_late"]) == pytest.approx(kept[2]["p_late"], abs=1e-6)
    assert not widget.save_csv(results, str(tmp_path / "no folder" / "x.csv"))
    assert widget.form.message.is_wrong()


def test_folder_with_a_bad_image(open_widget: OpenWidget, qtbot: Any, plate: Path) -> None:
    _, widget = open_widget()
    (plate / "B03_s1_w2.png").write_bytes(b"not an image")
    (plate / "B04.czi").touch()
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    assert "folder" in widget.form.message.text()
    widget.form.folder.set_path(str(plate))
    finish(qtbot, widget)
    model = widget.form.results.table.model()
    assert [model.data(model.index(row, 0)) for row in range(2)] == [
        "HUVEC-01 Plate1 B02 s1",
        "HUVEC-01 Plate1 B02 s2",
    ]
    assert model.data(model.index(2, 1)) == "not classified"
    table = widget.form.results.table
    assert table.columnWidth(1) >= table.sizeHintForColumn(1)
    assert "1 could not be" in widget.form.message.text()
    assert "1 file has an ending that is not read: .czi (1)" in widget.form.message.text()
    assert widget.form.command.text() == f"cellclf predict stains {plate} --out predictions.csv"


def test_cancel_ends_a_folder_early(
    open_widget: OpenWidget,
    qtbot: Any,
    plate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancelled = threading.Event()
    list_images = job_module._sources

    def last_ones_wait(*arguments: Any) -> list[Any]:
        """Let no image after the first batch be read before Cancel was pressed."""
        sources = list_images(*arguments)
        first, later = sources[:20], sources[20:]

        def waiting(source: Any) -> Any:
            def read() -> Any:
                assert cancelled.wait(PATIENCE / 1000)
                return source.read()

            return dataclasses.replace(source, read=read)

        return [*first, *map(waiting, later)]

    monkeypatch.setattr(job_module, "_sources", last_ones_wait)
    _, widget = open_widget()
    files = sorted(plate.glob("B02_s1_*.png"))
    for number in range(10, 50):
        for file in files:
            (plate / file.name.replace("B02", f"C{number}")).write_bytes(file.read_bytes())
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder.set_path(str(plate))
    assert widget.classify()
    qtbot.waitUntil(lambda: widget.form.results.table.model().rowCount() > 0, timeout=PATIENCE)
    widget.form.cancel.click()
    cancelled.set()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert widget.form.message.text().startswith("Stopped: ")
    assert 0 < widget.form.results.table.model().rowCount() < 43
    assert widget._shown is not None
    assert widget.save_csv(widget._shown, str(tmp_path / "part.csv"))


def test_cancel_while_the_model_loads(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget()
    add_stains(viewer, site_pixels)
    assert widget.classify()
    assert widget.form.cancel.isEnabled()
    qtbot.waitUntil(lambda: "Loading the model" in widget.form.message.text(), timeout=PATIENCE)
    widget.form.cancel.click()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=20_000)
    assert widget.form.message.text().startswith("Stopped")
    assert canvas_text(viewer) == ""
    finish(qtbot, widget)
    assert canvas_text(viewer)


def test_second_click_during_a_run(open_widget: OpenWidget, qtbot: Any, site_pixels: Any) -> None:
    viewer, widget = open_widget()
    add_stains(viewer, site_pixels)
    assert widget.classify()
    assert not widget.form.classify.isEnabled()
    assert not widget.classify()
    assert "running" in widget.form.message.text()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert canvas_text(viewer)


def test_a_click_plans_once(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, widget = open_widget()
    add_stains(viewer, site_pixels)
    settle(qtbot, widget)
    calls: list[str] = []

    def counted(module: Any, name: str) -> None:
        work = getattr(module, name)

        def call(*arguments: Any) -> Any:
            calls.append(name)
            return work(*arguments)

        monkeypatch.setattr(module, name, call)

    counted(widget_module, "plan")
    counted(image_form_module, "propose_mapping")
    qtbot.mouseClick(widget.form.classify, Qt.MouseButton.LeftButton)
    assert widget.runner.running
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert canvas_text(viewer)
    assert calls == ["plan"]


def test_layers_removed_during_a_run(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any, tmp_path: Path
) -> None:
    viewer, widget = open_widget()
    add_stains(viewer, site_pixels)
    assert widget.classify()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert "removed" in widget.form.message.text()
    assert len(widget.form.results.bars.texts()) == 4
    assert canvas_text(viewer) == ""
    assert widget._shown is not None
    assert widget.save_csv(widget._shown, str(tmp_path / "kept.csv"))


def test_one_layer_removed_during_a_run(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget()
    layers = add_stains(viewer, site_pixels)
    assert widget.classify()
    viewer.layers.remove(layers[0])
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert "result" in layers[1].metadata[KEY]
    assert KEY not in layers[0].metadata
    assert "removed" in widget.form.message.text()
    assert len(widget.form.results.bars.texts()) == 4


def test_widget_closed_during_a_run(open_widget: OpenWidget, qtbot: Any, site_pixels: Any) -> None:
    viewer, widget = open_widget()
    add_stains(viewer, site_pixels)
    assert widget.classify()
    qtbot.waitUntil(lambda: not widget._model.is_idle(), timeout=PATIENCE)
    model = widget._model
    with qtbot.waitSignal(widget.destroyed, timeout=20_000):
        viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(model.is_idle, timeout=20_000)
    # The viewer goes on without it.
    viewer.add_image(np.zeros((8, 8)))
    viewer.layers.clear()
    assert canvas_text(viewer) == ""


def test_viewer_closed_during_a_run(open_widget: OpenWidget, qtbot: Any, site_pixels: Any) -> None:
    viewer, widget = open_widget()
    add_stains(viewer, site_pixels)
    assert widget.classify()
    model = widget._model
    qtbot.waitUntil(lambda: not model.is_idle(), timeout=PATIENCE)
    viewer.close()
    qtbot.waitUntil(model.is_idle, timeout=20_000)


def test_errors_are_one_line(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any, models: Path, tmp_path: Path
) -> None:
    viewer, widget = open_widget()
    assert not widget.form.model.choose(str(tmp_path / "missing.cellclf"))
    assert "missing.cellclf" in widget.form.message.text()
    broken = tmp_path / "broken.cellclf"
    broken.mkdir()
    for file in (models / "stains.cellclf").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "weights.safetensors").write_bytes(b"truncated")
    assert widget.form.model.choose(str(broken))
    add_stains(viewer, site_pixels)
    finish(qtbot, widget)
    message = widget.form.message.text()
    assert "weights.safetensors" in message
    assert "\n" not in message
    assert widget.form.message.is_wrong()
    assert widget.form.classify.isEnabled()
    assert canvas_text(viewer) == ""


def test_pixels_that_are_no_numbers_are_said(open_widget: OpenWidget, qtbot: Any) -> None:
    viewer, widget = open_widget("grey")
    viewer.add_image(np.full((48, 48), np.nan), name="empty", contrast_limits=(0, 1))
    finish(qtbot, widget)
    assert "not finite" in widget.form.message.text()
    assert widget.form.message.is_wrong()
    assert "result" in viewer.layers[0].metadata[KEY]
    assert viewer.layers[0].metadata[KEY]["result"]["rows"] == []


_CONSOLE = """
import json, sys
import napari_cellclf as cc

clf = cc.load_classifier(sys.argv[1])
print(json.dumps([dict(zip(p.classes, p.probabilities[0].tolist())) for p in
                  (clf.predict(cc.read_image(path)) for path in sys.argv[2:])]))
"""


def test_widget_console_and_command_line_agree(
    open_widget: OpenWidget, qtbot: Any, plate: Path, models: Path, run_python: Any, tmp_path: Path
) -> None:
    viewer, widget = open_widget()
    viewer.open(plate, plugin="napari-cellclf")
    finish(qtbot, widget)
    rows = viewer.layers[0].metadata[KEY]["result"]["rows"]
    assert len(rows) == 3
    names = ["B02_s1_w1.png", "B02_s2_w1.png", "B03_s1_w1.png"]
    assert [Path(row["image"]).name for row in rows] == names
    paths = [str(plate / name) for name in names]
    console = json.loads(run_python(_CONSOLE, "stains", *paths))
    table = tmp_path / "p.csv"
    arguments = ["predict", "stains", str(plate), "--out", str(table)]
    command = "import sys; from napari_cellclf.cli import main; sys.exit(main(sys.argv[1:]))"
    run_python(command, *arguments)
    with table.open(newline="") as file:
        written = list(csv.DictReader(file))
    for row, prediction, line in zip(rows, console, written, strict=True):
        assert Path(line["image"]).name == Path(row["image"]).name
        for name, probability in prediction.items():
            assert row[f"p_{name}"] == pytest.approx(probability, abs=1e-5)
            assert float(line[f"p_{name}"]) == pytest.approx(probability, abs=1e-5)


def test_a_lone_picture_is_proposed_as_the_stain_that_the_model_takes_it_for(
    open_widget: OpenWidget, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget("rxrx1-celltype")
    layer = viewer.add_image(site_pixels[1], name="picture")
    settle(qtbot, widget)
    assert widget.form.channels.sources() == (None, 0, None, None, None, None)
    assert widget.form.channels.is_unfolded()
    assert "It is taken as w2 ConA" in widget.form.message.text()
    assert not widget.form.command.text()
    qtbot.mouseClick(widget.form.classify, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "result" in layer.metadata.get(KEY, {}), timeout=PATIENCE)
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    result = layer.metadata[KEY]["result"]
    taken = {name: source for name, source in result["channels"].items() if source is not None}
    assert list(taken) == ["w2 ConA"]
    assert list(result["probabilities"]) == ["HEPG2", "HUVEC", "RPE", "U2OS"]


def test_real_sites_with_the_bundled_model(
    open_widget: OpenWidget, qtbot: Any, real_data: Path
) -> None:
    viewer, widget = open_widget("rxrx1-celltype")
    images = real_data / "rxrx1" / "images"
    for cell_type in ("HEPG2", "HUVEC", "RPE", "U2OS"):
        site = images / f"{cell_type}-01" / "Plate1" / "B02_s1_w1.png"
        viewer.open(site, plugin="napari-cellclf")
        finish(qtbot, widget)
        assert viewer.layers[-1].metadata[KEY]["result"]["label"] == cell_type
        assert canvas_text(viewer).startswith(cell_type)
        assert f"{cell_type}-01 Plate1 B02 s1" in canvas_text(viewer)
    # Each site keeps its own prediction, and the selected layer says which is shown.
    viewer.layers.selection = {viewer.layers[0]}
    settle(qtbot, widget)
    assert canvas_text(viewer).startswith("HEPG2")
    viewer.open(images, plugin="napari-cellclf")
    finish(qtbot, widget)
    rows = viewer.layers[-1].metadata[KEY]["result"]["rows"]
    assert len(rows) == 24
    assert all(row["label"] == row["cell_type"] for row in rows)
