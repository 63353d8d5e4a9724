"""Slider, layers and models change while images are classified, and afterwards."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_cellclf.errors import CellclfError
from napari_cellclf.plugin.classify import job as job_module
from napari_cellclf.plugin.classify.form import FOLDER_TAB
from napari_cellclf.plugin.napari_layers import in_memory

pytestmark = pytest.mark.timeout(600)

PATIENCE = 300_000
LEFT = Qt.MouseButton.LeftButton


def classify(qtbot: Any, widget: Any) -> None:
    """Click the button and wait for the end."""
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.runner.running
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)


def canvas_text(viewer: Any) -> str:
    """Return what this plugin shows on the canvas; empty if nothing."""
    overlay = viewer.canvas.overlays.get("napari_cellclf")
    return overlay.text if overlay is not None and overlay.visible else ""


def rows(widget: Any) -> int:
    """Return the rows of the table that is shown."""
    return int(widget.form.results.table.model().rowCount())


def movie(viewer: Any, name: str = "movie", planes: int = 5) -> Any:
    """Add planes of noise."""
    pixels = np.random.default_rng(2).integers(0, 255, (planes, 48, 48), np.uint8)
    return viewer.add_image(pixels, name=name)


def test_lazy_planes_are_read_beside_a_cache_of_napari() -> None:
    import dask.array as da
    from dask.cache import Cache

    def slow(block: Any) -> Any:
        time.sleep(0.001)
        return block + 1

    array = da.zeros((60, 8, 8), chunks=(1, 8, 8)).map_blocks(slow)
    read: list[float] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def as_napari_does() -> None:
        while not stop.is_set():
            for index in range(len(array)):
                np.asarray(array[index])

    def as_we_do() -> None:
        try:
            for index in range(len(array)):
                read.append(float(in_memory([array[index]])[0].min()))
        except KeyError as error:
            failed.append(error)

    with Cache(1e8):
        other = threading.Thread(target=as_napari_does)
        other.start()
        workers = [threading.Thread(target=as_we_do) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        stop.set()
        other.join()
    assert not failed
    assert read == [1.0] * 180


def test_the_slider_may_move_while_a_plate_is_classified(
    open_widget: Any, qtbot: Any, plate: Path
) -> None:
    viewer, widget = open_widget()
    for number in range(10, 40):
        for file in sorted(plate.glob("B02_s1_*.png")):
            (plate / file.name.replace("B02", f"C{number}")).write_bytes(file.read_bytes())
    viewer.open(plate, plugin="napari-cellclf")
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    step = 0
    deadline = time.monotonic() + PATIENCE / 1000
    while widget.runner.running and time.monotonic() < deadline:
        step += 7
        viewer.dims.set_point(0, step % 33)
        qtbot.wait(5)
    assert "Classified 33 images" in widget.form.message.text(), widget.form.message.text()
    assert not widget.form.message.is_wrong()
    assert rows(widget) == 33


def test_what_was_predicted_before_a_failure_is_kept(
    open_widget: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, seen = job_module.image_results, 0

    def failing(prediction: Any, unsure: float | None = None) -> Any:
        nonlocal seen
        for row in real(prediction, unsure):
            seen += 1
            if seen > 2:
                raise CellclfError("the server is gone; start it again")
            yield row

    monkeypatch.setattr(job_module, "image_results", failing)
    viewer, widget = open_widget("grey")
    layer = movie(viewer)
    classify(qtbot, widget)
    message = widget.form.message
    assert message.is_wrong()
    assert message.text() == (
        "The server is gone; start it again. Before that, 2 images were classified; these "
        "predictions are kept."
    )
    assert rows(widget) == 2
    assert len(layer.metadata["cellclf"]["result"]["rows"]) == 2
    assert widget.save_csv(widget._shown, str(tmp_path / "part.csv"))
    assert len((tmp_path / "part.csv").read_text().splitlines()) == 3


def test_a_plane_that_somebody_elses_layer_cannot_read_is_one_bad_row(
    open_widget: Any, qtbot: Any
) -> None:
    import dask.array as da

    viewer, widget = open_widget("grey")
    pixels = np.random.default_rng(2).integers(0, 255, (4, 48, 48), np.uint8)

    def read(block: Any, block_id: Any = None) -> Any:
        if block_id[0] == 2:
            raise KeyError("gone")
        return block

    lazy = da.from_array(pixels, chunks=(1, 48, 48)).map_blocks(read, dtype=np.uint8)
    viewer.add_image(lazy, name="lazy", contrast_limits=(0, 255))
    classify(qtbot, widget)
    assert "1 could not be" in widget.form.message.text()
    assert rows(widget) == 4
    assert "gone" in widget._shown.rows[2].error


def test_what_is_shown_belongs_to_the_model_that_is_chosen(
    open_widget: Any, qtbot: Any, bundles: Path
) -> None:
    viewer, widget = open_widget("grey")
    movie(viewer)
    classify(qtbot, widget)
    text = canvas_text(viewer)
    assert text
    assert rows(widget) == 5
    assert widget.form.model.choose("stains")
    assert canvas_text(viewer) == ""
    assert rows(widget) == 0
    assert widget.form.results.bars.texts() == []
    assert widget.form.command.text() == ""
    assert widget.form.model.choose("grey")
    assert canvas_text(viewer) == text
    assert rows(widget) == 5


def test_what_is_shown_belongs_to_the_channels_that_are_chosen(
    open_widget: Any, qtbot: Any, site_pixels: Any
) -> None:
    viewer, widget = open_widget("colour")
    viewer.add_image(np.moveaxis(site_pixels[:3], 0, -1), rgb=True)
    classify(qtbot, widget)
    text = canvas_text(viewer)
    box = widget.form.channels.box(0)
    widget.form.channels.unfold(True)
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert box.currentText() == "green"
    assert canvas_text(viewer) == ""
    qtbot.keyClick(box, Qt.Key.Key_Up)
    assert canvas_text(viewer) == text


def test_what_is_shown_belongs_to_the_pixels_that_are_there(open_widget: Any, qtbot: Any) -> None:
    viewer, widget = open_widget("grey")
    layer = movie(viewer)
    classify(qtbot, widget)
    assert canvas_text(viewer)
    layer.data = layer.data[:, ::-1]
    qtbot.waitUntil(lambda: canvas_text(viewer) == "", timeout=5000)
    assert rows(widget) == 0


def test_what_is_shown_belongs_to_the_folder_that_is_chosen(
    open_widget: Any, qtbot: Any, plate: Path, tmp_path: Path
) -> None:
    _, widget = open_widget()
    widget.form.tabs.setCurrentIndex(FOLDER_TAB)
    widget.form.folder.set_path(str(plate))
    classify(qtbot, widget)
    assert rows(widget) == 3
    other = tmp_path / "other"
    other.mkdir()
    widget.form.folder.set_path(str(other))
    assert rows(widget) == 0
    widget.form.folder.set_path(str(plate))
    assert rows(widget) == 3


def test_a_choice_made_during_a_run_is_what_is_shown(open_widget: Any, qtbot: Any) -> None:
    viewer, widget = open_widget("grey")
    movie(viewer)
    qtbot.waitUntil(lambda: not widget._soon.isActive(), timeout=5000)
    qtbot.mouseClick(widget.form.classify, LEFT)
    assert widget.form.model.choose("stains")
    qtbot.waitUntil(lambda: not widget.runner.running, timeout=PATIENCE)
    assert canvas_text(viewer) == ""
    assert "To see the predictions, choose grey and movie" in widget.form.message.text()
    assert widget.form.model.choose("grey")
    assert canvas_text(viewer)
    assert rows(widget) == 5


def test_a_model_that_was_removed_says_nothing_more(
    open_widget: Any, qtbot: Any, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellclf.bundles.write import share_model

    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "own"))
    share_model(bundles / "grey.cellclf", tmp_path / "own" / "mine.cellclf")
    viewer, widget = open_widget("mine")
    movie(viewer)
    classify(qtbot, widget)
    assert canvas_text(viewer)
    widget.form.models_section.unfold(True)
    models = widget.form.models
    assert models.form.tree.select("mine")
    for _ in range(2):
        qtbot.mouseClick(models.form.remove, LEFT)
    qtbot.waitUntil(lambda: not models.running, timeout=PATIENCE)
    assert "mine" not in widget.form.model.references()
    assert canvas_text(viewer) == ""
    assert rows(widget) == 0
    # No other model takes its place without a word.
    assert widget.form.model.current() is None
    assert not widget.form.classify.isEnabled()
    assert widget.form.message.text() == "grey was removed; choose another model."


@pytest.mark.parametrize("how", ["keys", "mouse"])
def test_arrow_keys_do_what_the_mouse_does(open_widget: Any, qtbot: Any, how: str) -> None:
    viewer, widget = open_widget("grey")
    movie(viewer)
    viewer.dims.set_point(0, 0)
    classify(qtbot, widget)
    table = widget.form.results.table
    assert table.currentIndex().row() == 0
    if how == "keys":
        table.setFocus()
        qtbot.keyClick(table, Qt.Key.Key_Down)
        qtbot.keyClick(table, Qt.Key.Key_Down)
    else:
        place = table.visualRect(table.model().index(2, 0)).center()
        qtbot.mouseClick(table.viewport(), LEFT, pos=place)
    assert viewer.dims.current_step[0] == 2
    assert "plane 2" in canvas_text(viewer)
    assert widget.form.results.bars.texts()[0][0] == canvas_text(viewer).split()[0]
    if how == "keys":
        qtbot.keyClick(table, Qt.Key.Key_PageDown)
        assert viewer.dims.current_step[0] == 4
    viewer.dims.set_point(0, 1)
    assert table.currentIndex().row() == 1
