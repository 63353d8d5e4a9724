"""The widget in a real viewer; what it starts only pretends to train."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QCloseEvent, QDesktopServices
from qtpy.QtWidgets import QApplication, QDialog, QLabel, QTextBrowser

from napari_cellclf.plugin.bench.widget import TRAIN
from napari_cellclf.plugin.shared.controls import shortened
from napari_cellclf.plugin.train.follower import running_processes
from napari_cellclf.plugin.train.own_model import keep_as_own
from napari_cellclf.plugin.train.preview import (
    Preview,
    preview_layers,
    show_preview,
    some_images,
)
from napari_cellclf.plugin.train.request import SplitChoice, divide
from napari_cellclf.plugin.train.run_form import Curves, RunForm
from napari_cellclf.plugin.train.run_state import EpochPoint, RunState
from napari_cellclf.plugin.train.widget import TrainWidget

pytestmark = pytest.mark.timeout(300)

Open = Callable[..., tuple[Any, TrainWidget]]
Choose = Callable[..., None]
Fake = Callable[[str], list[str]]
PATIENCE = 60_000


@pytest.fixture
def start(open_train: Open, choose: Choose, fake: Fake, qtbot: Any) -> Callable[..., Any]:
    """Open the widget, choose images, and press Train for a process that pretends."""

    def starter(behaviour: str, **settings: Any) -> tuple[Any, TrainWidget]:
        viewer, widget = open_train(**settings)
        widget.run.command = fake(behaviour)
        choose(widget)
        assert widget.form.run.train.isEnabled(), widget.form.run.message.text()
        widget.form.run.train.click()
        qtbot.waitUntil(lambda: not widget.run._writing.running, timeout=PATIENCE)
        return viewer, widget

    return starter


def ends(qtbot: Any, widget: TrainWidget, phase: str) -> None:
    """Wait until a run stands as given."""
    qtbot.waitUntil(lambda: widget.run.follower.phase == phase, timeout=PATIENCE)


def test_opening_is_light(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    before = set(sys.modules)
    _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
    bench.show_tab(TRAIN)
    widget = bench.train
    loaded = {name.split(".")[0] for name in set(sys.modules) - before}
    assert not {"tensorflow", "keras", "torch", "jax", "skimage", "matplotlib"} & loaded
    assert isinstance(widget, TrainWidget)
    assert not widget.form.run.train.isEnabled()
    assert "Choose labelled images" in widget.form.run.message.text()
    assert not widget.run.start()


def test_shows_what_was_found(open_train: Open, choose: Choose, qtbot: Any, images: Path) -> None:
    _, widget = open_train()
    choose(widget)
    form = widget.form
    assert form.data.table.rows() == (("dark", (12,)), ("light", (12,)))
    assert form.split.table.rows() == (("dark", (6, 3, 3)), ("light", (6, 3, 3)))
    assert "embryo" in form.data.group.text()
    assert form.split.by.currentText() == "embryo (guessed)"
    qtbot.waitUntil(lambda: not widget.data.inspecting, timeout=PATIENCE)
    form.data.details.click()
    windows = widget.findChildren(QDialog)
    assert len(windows) == 1
    assert not windows[0].isModal()
    assert f"--out {widget.form.run.folder.path()}" in form.run.command.text()
    with qtbot.waitSignal(windows[0].destroyed, timeout=5000):
        windows[0].close()


def test_that_no_group_is_known_is_said_once(
    open_train: Open, choose: Choose, qtbot: Any, images: Path, tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    lines = []
    for number, file in enumerate(sorted(one for one in images.rglob("*.*") if one.is_file())):
        plain = tmp_path / f"picture{chr(97 + number)}{file.suffix}"
        plain.write_bytes(file.read_bytes())
        lines.append(f"{plain.name},{'ab'[number % 2]}")
    table.write_text("\n".join(["path,label", *lines]))
    _, widget = open_train()
    choose(widget, table)
    data = widget.form.data
    qtbot.waitUntil(data.details.isEnabled, timeout=PATIENCE)
    said = f"{data.group.text()} {data.warnings.text()}".lower()
    assert data.group.text().startswith("⚠ Kept together by nothing")
    assert said.count("no group is known") == 1


def test_wrong_paths_are_said(open_train: Open, choose: Choose, qtbot: Any, tmp_path: Path) -> None:
    _, widget = open_train()
    message = widget.form.data.message
    assert not message.is_wrong()
    choose(widget)
    for path, words in ((tmp_path / "no", "does not exist"), (tmp_path, "image")):
        choose(widget, path)
        assert words in message.text()
        assert message.is_wrong()
        assert widget.data.found is None
        assert not widget.form.run.train.isEnabled()


def test_leakage_is_refused_and_can_be_allowed(
    open_train: Open, choose: Choose, qtbot: Any
) -> None:
    _, widget = open_train()
    choose(widget)
    split, run = widget.form.split, widget.form.run
    split.choose("random")
    qtbot.waitUntil(lambda: not widget.data.busy, timeout=PATIENCE)
    assert "on both sides" in split.message.text()
    assert not run.train.isEnabled()
    assert "Split above" in run.message.text()
    split.allow.setChecked(True)
    qtbot.waitUntil(lambda: not widget.data.busy, timeout=PATIENCE)
    assert split.red.isVisibleTo(widget)
    assert run.train.isEnabled()
    assert run.command.text().endswith("--allow-leakage")
    split.choose("embryo")
    qtbot.waitUntil(lambda: not widget.data.busy, timeout=PATIENCE)
    assert not split.red.isVisibleTo(widget)
    split.choose("embryo+well")
    qtbot.waitUntil(lambda: not widget.data.busy, timeout=PATIENCE)
    assert "no column 'well'" in split.message.text()


def test_settings_are_checked_as_they_are_typed(
    open_train: Open, choose: Choose, qtbot: Any
) -> None:
    _, widget = open_train()
    choose(widget)
    model = widget.form.model
    # Of the preset for small images of one cell each, as these are.
    assert model.epochs.placeholderText() == "40"
    model.epochs.setText("many")
    qtbot.waitUntil(lambda: model.message.is_wrong(), timeout=5000)
    assert not widget.form.run.train.isEnabled()
    model.epochs.setText("2")
    qtbot.waitUntil(lambda: not model.message.text(), timeout=5000)
    qtbot.waitUntil(lambda: "--epochs 2" in widget.form.run.command.text(), timeout=5000)
    model.choose("drosophila-seed")
    assert model.learning_rate.placeholderText() == "0.001"
    qtbot.waitUntil(lambda: "drosophila-seed" in widget.form.run.folder.path(), timeout=5000)
    assert widget.form.data.every.value() == 9
    model.why.click()
    qtbot.waitUntil(lambda: bool(widget.findChildren(QDialog)), timeout=5000)
    (window,) = widget.findChildren(QDialog)
    page = window.findChild(QTextBrowser).toPlainText()
    assert "[config]" not in page
    assert "learning rate: " in page
    window.close()


def test_train_to_the_end(start: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, widget = start("finish")
    form = widget.form
    assert not form.data_section.is_unfolded()
    ends(qtbot, widget, "done")
    result = form.run.result
    qtbot.waitUntil(lambda: "Accuracy 90.0 %" in result.headline.text(), timeout=PATIENCE)
    assert "no GPU" in form.run.device.text()
    assert "something unusual" in form.run.notes.text()
    form.run.curves.draw()
    assert form.run.curves.isVisibleTo(widget)
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url) or True)
    result.report.click()
    assert opened[0].toLocalFile().endswith("report/report.html")
    assert "report.html" in form.run.message.text()
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: False)
    qtbot.mouseClick(result.report, Qt.MouseButton.LeftButton)
    assert "No web browser" in form.run.message.text()
    assert opened[0].toLocalFile() in form.run.message.text()
    assert form.run.message.is_wrong()
    assert not form.run.train.isVisibleTo(widget)
    first = form.run.folder.path()
    qtbot.mouseClick(form.run.new, Qt.MouseButton.LeftButton)
    assert form.data_section.is_unfolded()
    assert form.run.folder.path() == f"{first}-2"
    assert form.run.train.text() == "Train"
    assert form.run.train.isEnabled()


def test_stop_and_resume(start: Any, fake: Fake, qtbot: Any) -> None:
    _, widget = start("wait")
    run = widget.form.run
    ends(qtbot, widget, "running")
    assert not run.train.isEnabled()
    assert not run.folder.isEnabled()
    assert not widget.run.start()
    assert "press Stop or wait" in run.message.text()
    qtbot.waitUntil(lambda: "epoch 1 of 4" in run.stage.text(), timeout=PATIENCE)
    assert "about 10 s left" in run.stage.text()
    run.stop.click()
    assert "Stopping" in run.stage.text()
    ends(qtbot, widget, "waiting")
    assert run.train.text() == f"Resume {shortened(Path(run.folder.path()).name)}"
    assert run.new.isVisibleTo(widget)
    widget.run.command = fake("finish")
    run.train.click()
    ends(qtbot, widget, "done")


def test_stop_now_ends_a_run_that_does_not_stop(start: Any, fake: Fake, qtbot: Any) -> None:
    _, widget = start("stuck")
    run, folder = widget.form.run, widget.run.follower.run
    ends(qtbot, widget, "running")
    assert run.stop.text() == "Stop"
    assert "within 10 seconds" in run.stop.toolTip()
    # The second click of a double click is no second wish.
    qtbot.mouseClick(run.stop, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(run.stop, Qt.MouseButton.LeftButton)
    qtbot.wait(1000)
    assert widget.run.follower.phase == "stopping"
    assert run.stop.text() == "Stop now"
    assert run.stop.isEnabled()
    assert "last checkpoint" in run.stop.toolTip()
    assert "10 s at most" in run.stage.text()
    qtbot.mouseClick(run.stop, Qt.MouseButton.LeftButton)
    ends(qtbot, widget, "waiting")
    assert not running_processes()
    assert run.stop.text() == "Stop"
    assert not run.stop.isEnabled()
    assert folder.stop_wish() == "soon"
    widget.run.command = fake("finish")
    qtbot.mouseClick(run.train, Qt.MouseButton.LeftButton)
    ends(qtbot, widget, "done")


def test_a_run_that_failed_says_why(start: Any, qtbot: Any) -> None:
    _, widget = start("error")
    ends(qtbot, widget, "failed")
    run = widget.form.run
    assert run.message.text() == "The images are gone; put them back."
    assert run.message.is_wrong()
    assert run.train.text().startswith("Resume cells-")
    assert run.new.isVisibleTo(widget)


@pytest.mark.parametrize("change", ["images", "settings"])
def test_other_images_or_settings_are_never_trained_in_the_old_folder(
    start: Any, choose: Choose, fake: Fake, qtbot: Any, images: Path, tmp_path: Path, change: str
) -> None:
    _, widget = start("error")
    ends(qtbot, widget, "failed")
    run, failed = widget.form.run, Path(widget.form.run.folder.path())
    before = {path: path.read_bytes() for path in failed.rglob("*") if path.is_file()}
    if change == "images":
        shutil.copytree(images, tmp_path / "others")
        choose(widget, tmp_path / "others")
    else:
        widget.form.model_section.unfold(True)
        qtbot.keyClicks(widget.form.model.epochs, "2")
        qtbot.waitUntil(lambda: "--epochs 2" in run.command.text(), timeout=5000)
    assert run.train.text() == "Train"
    assert not run.new.isVisibleTo(widget)
    assert str(failed) in run.message.text()
    assert not run.message.is_wrong()
    widget.run.command = fake("finish")
    qtbot.mouseClick(run.train, Qt.MouseButton.LeftButton)
    ends(qtbot, widget, "done")
    assert widget.run.follower.run.path != failed
    asked = json.loads((widget.run.follower.run.path / "run.json").read_text())
    assert ("others" in json.dumps(asked)) == (change == "images")
    assert {path: path.read_bytes() for path in failed.rglob("*") if path.is_file()} == before


def test_a_run_that_was_opened_is_resumed_until_something_else_is_chosen(
    start: Any, open_train: Open, choose: Choose, qtbot: Any
) -> None:
    viewer, widget = start("error")
    ends(qtbot, widget, "failed")
    folder = widget.form.run.folder.path()
    viewer.close()
    _, other = open_train()
    choose(other)
    other.form.run.folder.set_path(folder)
    ends(qtbot, other, "failed")
    assert other.form.run.train.text().startswith("Resume ")
    qtbot.mouseClick(other.form.run.new, Qt.MouseButton.LeftButton)
    assert other.form.run.train.text() == "Train"
    assert other.form.run.train.isEnabled()
    assert other.form.run.folder.path() not in ("", folder)


def test_a_process_that_cannot_start_is_said(
    open_train: Open, choose: Choose, qtbot: Any, tmp_path: Path
) -> None:
    _, widget = open_train()
    widget.run.command = [str(tmp_path / "no such program")]
    choose(widget)
    assert widget.run.start()
    ends(qtbot, widget, "waiting")
    assert "cannot be started" in widget.form.run.message.text()
    assert widget.form.run.train.text().startswith("Resume ")


def test_a_folder_that_is_in_use_is_refused(
    open_train: Open, choose: Choose, qtbot: Any, tmp_path: Path
) -> None:
    _, widget = open_train()
    choose(widget)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    widget.form.run.folder.set_path(str(tmp_path / "full"))
    assert widget.run.start()
    qtbot.waitUntil(lambda: widget.form.run.message.is_wrong(), timeout=PATIENCE)
    assert "holds files already" in widget.form.run.message.text()
    assert widget.form.run.train.isEnabled()


def test_an_existing_run_is_opened(start: Any, open_train: Open, qtbot: Any) -> None:
    viewer, widget = start("finish")
    ends(qtbot, widget, "done")
    folder = widget.form.run.folder.path()
    viewer.close()
    _, other = open_train()
    other.form.run.folder.set_path(folder)
    ends(qtbot, other, "done")
    assert "cellclf train" in other.form.run.command.text()
    qtbot.waitUntil(lambda: "90.0 %" in other.form.run.result.headline.text(), timeout=PATIENCE)


def test_a_closed_dock_leaves_the_run_alone(start: Any, qtbot: Any) -> None:
    viewer, widget = start("wait")
    ends(qtbot, widget, "running")
    folder = widget.form.run.folder.path()
    with qtbot.waitSignal(widget.destroyed, timeout=5000):
        viewer.window.remove_dock_widget(widget)
    assert len(running_processes()) == 1
    again = TrainWidget(viewer)
    viewer.window.add_dock_widget(again, name="Train")
    ends(qtbot, again, "running")
    assert again.form.run.folder.path() == folder
    again.form.run.stop.click()
    ends(qtbot, again, "waiting")


@pytest.mark.parametrize("answer", ["keep", "stop", "cancel"])
def test_closing_napari_asks(
    start: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    _, widget = start("wait", show=True)
    ends(qtbot, widget, "running")
    guard, window, run = widget.guard, widget.window(), widget.run.follower.run
    # napari's fixture wants to close the window itself.
    closed: list[bool] = []
    monkeypatch.setattr(guard, "_close", lambda window: closed.append(True))
    window.close()
    assert window.isVisible()
    dialog = guard.dialog
    assert dialog is not None
    assert not dialog.isModal()
    window.close()
    assert guard.dialog is dialog
    if answer == "cancel":
        dialog.close()
    else:
        guard._buttons[answer].click()
    qtbot.waitUntil(lambda: guard.dialog is None, timeout=5000)
    assert closed == ([] if answer == "cancel" else [True])
    assert (widget.run.follower.phase == "running") == (answer == "cancel")
    assert run.stop_file.exists() == (answer == "stop")
    assert len(running_processes()) == 1 or answer == "stop"


def test_closing_napari_without_a_run_does_not_ask(open_train: Open) -> None:
    _, widget = open_train(show=True)
    widget.refresh()
    assert widget.guard._window is widget.window()
    assert not widget.guard.eventFilter(widget.window(), QCloseEvent())
    assert widget.guard.dialog is None


def test_a_script_that_closes_the_viewer_is_not_held_up(start: Any, qtbot: Any) -> None:
    viewer, widget = start("wait", show=True)
    ends(qtbot, widget, "running")
    viewer.close()
    assert len(running_processes()) == 1


def test_the_bar_moves_while_nothing_is_counted(qtbot: Any) -> None:
    form = RunForm()
    qtbot.addWidget(form.footer)
    qtbot.addWidget(form)
    form.footer.show()
    state = RunState(started=True, stage="prepare", total=100)
    form.show_state(state)
    assert form.progress.isVisible()
    assert form.progress.maximum() == 0
    assert form.stage.text() == "Preparing the images…"
    counted = replace(state, counted=True, image=30, images=60, done=30, seconds_left=42.0)
    form.show_state(replace(counted, of_stage=True))
    assert form.progress.value() == 300
    assert form.stage.text() == "Preparing the images, 30 of 60 · about 40 s left for this part"
    form.show_state(RunState(started=True, stage="network", total=100, done=60))
    assert form.progress.maximum() == 0
    assert form.stage.text() == "Compiling the network…"


def test_curves_follow_the_state(qtbot: Any) -> None:
    curves = Curves()
    qtbot.addWidget(curves)
    points = tuple(
        EpochPoint(stage, epoch, 1 / epoch, 0.5, 0.4, 0.6)
        for stage in ("head", "network")
        for epoch in (1, 2, 3)
    )
    current = EpochPoint("network", 4, 0.1, 0.9)
    curves.show_state(RunState(started=True, points=points, current=current))
    curves.draw()
    assert curves.loss._border == 3
    assert [x for x, _ in curves.loss._train] == [1, 2, 3, 4, 5, 6, 7]
    assert len(curves.accuracy._validation) == 6
    assert "validation" in curves._legend.text()
    curves.resize(360, 170)
    picture = curves.grab().toImage()
    assert not picture.isNull()
    curves.show_state(RunState(points=(EpochPoint("network", 1, float("nan"), 0.5),)))
    curves.draw()
    assert "no validation images" in curves._legend.text()
    assert not curves.grab().isNull()


def test_what_a_pattern_calls_the_label_is_learnt(
    open_train: Open, choose: Choose, tmp_path: Path
) -> None:
    from skimage.io import imsave

    for label in ("dark", "light"):
        for well in ("B02", "B03", "B04"):
            imsave(
                tmp_path / f"{label} {well}.png", np.zeros((8, 8), np.uint8), check_contrast=False
            )
    _, widget = open_train()
    widget.form.data.naming.set_naming("{label} {well}.png")
    choose(widget, tmp_path)
    box = widget.form.data.label
    assert [box.itemText(index) for index in range(box.count())] == ["label", "well"]
    assert box.currentText() == "label"
    assert widget.form.data.table.rows() == (("dark", (3,)), ("light", (3,)))


def test_an_advanced_setting_stands_in_the_command(
    open_train: Open, choose: Choose, qtbot: Any
) -> None:
    _, widget = open_train(show=True)
    choose(widget)
    model, command = widget.form.model, widget.form.run.command
    widget.form.advanced_section.unfold(True)
    header = model.advanced_section.heading
    # A click beyond what the page shows would meet something else.
    qtbot.waitUntil(header.isVisible, timeout=5000)
    QApplication.processEvents()
    widget.form.area.ensureWidgetVisible(header)
    qtbot.waitUntil(lambda: header.visibleRegion().contains(header.rect().center()), timeout=5000)
    qtbot.mouseClick(header, Qt.MouseButton.LeftButton)
    assert model.advanced_section.is_unfolded()
    line = model.advanced.control("centre").native
    line.selectAll()
    qtbot.keyClicks(line, "0.5")
    qtbot.waitUntil(lambda: "--set centre=0.5" in command.text(), timeout=5000)
    # Another preset keeps what was entered.
    model.choose("single-cells")
    qtbot.waitUntil(lambda: "--preset single-cells" in command.text(), timeout=5000)
    assert "--set centre=0.5" in command.text()
    # The Tab key goes from the heading to the settings, though they were made later.
    model.window().activateWindow()
    header.setFocus()
    qtbot.waitUntil(header.hasFocus, timeout=5000)
    qtbot.keyClick(header, Qt.Key.Key_Tab)
    assert model.advanced.isAncestorOf(QApplication.focusWidget())
    widget.form.area.ensureWidgetVisible(header)
    qtbot.mouseClick(header, Qt.MouseButton.LeftButton)
    assert "1 changed" in [label.text() for label in model.advanced_section.findChildren(QLabel)]


def test_preview_becomes_layers(make_napari_viewer: Any) -> None:
    rng = np.random.default_rng(0)
    preview = Preview(
        rng.random((3, 20, 24, 2), np.float32), rng.random((3, 5, 16, 16, 2), np.float32), ("a", "")
    )
    layers = preview_layers(preview)
    assert [settings["name"] for _, settings in layers] == [
        "network sees: a",
        "augmented: a",
        "network sees: channel 1",
        "augmented: channel 1",
    ]
    assert [data.shape for data, _ in layers[:2]] == [(3, 5, 20, 24), (3, 5, 16, 16)]
    np.testing.assert_array_equal(layers[0][0][1, 4], preview.prepared[1, ..., 0])
    viewer = make_napari_viewer()
    for data, settings in layers:
        viewer.add_image(data, **settings)
    assert viewer.dims.axis_labels == ("image", "variant", "y", "x")


def test_preview_of_colours_shows_them_as_they_are(make_napari_viewer: Any) -> None:
    prepared = np.zeros((2, 20, 24, 3), np.float32)
    # Red on the left, blue on the right.
    prepared[:, :, :12, 0] = 1
    prepared[:, :, 12:, 2] = 1
    preview = Preview(prepared, np.stack([prepared] * 4, axis=1), ("red", "green", "blue"))
    viewer = make_napari_viewer(show=True)
    big = viewer.add_image(np.zeros((900, 700)), name="open")
    show_preview(viewer, preview)
    left, right = viewer.layers[1:]
    assert left.rgb
    assert right.rgb
    np.testing.assert_allclose(np.asarray(left.data)[0, 0, 0, 0], (1, 0, 0))
    shown = viewer.screenshot(flash=False)[..., :3].astype(int)
    reds = np.argwhere((shown[..., 0] > 200) & (shown[..., 2] < 50))
    blues = np.argwhere((shown[..., 2] > 200) & (shown[..., 0] < 50))
    # As large each, red begins left of blue, and nothing of both touches the border.
    assert len(reds) == pytest.approx(len(blues), rel=0.1)
    assert reds[:, 1].min() < blues[:, 1].min()
    assert len(reds) > 0.15 * shown.shape[0] * shown.shape[1]
    both = np.concatenate([reds, blues])
    assert both.min() > 0
    assert (both.max(axis=0) < np.array(shown.shape[:2]) - 1).all()
    # Beside what is open, and in place of the preview before.
    assert left.extent.world[0, -1] > big.extent.world[1, -1]
    show_preview(viewer, preview)
    assert len(viewer.layers) == 3


def test_preview_of_named_colours_uses_them(make_napari_viewer: Any) -> None:
    random = np.random.default_rng(0).random
    preview = Preview(
        random((1, 8, 8, 2), np.float32), random((1, 2, 8, 8, 2), np.float32), ("red", "blue")
    )
    colours = [settings["colormap"] for _, settings in preview_layers(preview)]
    assert colours == ["red", "red", "blue", "blue"]


def test_preview_takes_one_image_of_each_class_first(found: Any) -> None:
    divided = divide(found.dataset, SplitChoice("embryo")).dataset
    assert divided is not None
    chosen = some_images(divided, 3)
    assert chosen.table["label"].tolist() == ["dark", "light", "dark"]
    assert len(set(chosen.paths)) == 3


def test_an_image_is_not_training_data(open_train: Open, choose: Choose, images: Path) -> None:
    _, widget = open_train()
    choose(widget, next(images.rglob("*.png")))
    message = widget.form.data.message
    assert message.is_wrong()
    assert "is an image" in message.text()
    assert "folder" in message.text()


def test_a_finished_run_does_not_lend_its_result_to_another(
    start: Any, open_train: Open, qtbot: Any, tmp_path: Path
) -> None:
    _, widget = start("finish")
    ends(qtbot, widget, "done")
    form = widget.form.run
    qtbot.waitUntil(lambda: "90.0 %" in form.result.headline.text(), timeout=PATIENCE)
    form.folder.set_path(str(tmp_path / "nothing"))
    assert form.result.headline.text() == ""
    assert widget.run.own_model == ""


def test_models_that_were_trained_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellclf.bundles.bundle import read_spec
    from napari_cellclf.bundles.catalogue import bundled_folder, list_models
    from napari_cellclf.bundles.write import remove_model

    bundle = bundled_folder() / "rxrx1-celltype.cellclf"
    # The name is that of a model of the package, which it does not hide.
    assert keep_as_own(bundle) == "rxrx1-celltype-2"
    assert keep_as_own(bundle) == "rxrx1-celltype-2"
    own = {model.name: model.path for model in list_models() if model.where == "mine"}
    assert list(own) == ["rxrx1-celltype-2"]
    assert read_spec(own["rxrx1-celltype-2"]) == read_spec(bundle)
    remove_model("rxrx1-celltype-2")
    assert all(model.where == "bundled" for model in list_models())


def test_the_preset_suits_the_pixels_until_one_is_chosen(
    open_train: Open, choose: Choose, qtbot: Any, tmp_path: Path
) -> None:
    from skimage.io import imsave

    folder = tmp_path / "colour"
    for number in range(6):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (120, 120, 3), np.uint8)
        imsave(place / f"{number}.png", pixels, check_contrast=False)
    _, widget = open_train(show=True)
    choose(widget, folder)
    assert widget.form.model.current().name == "brightfield-rgb"
    box = widget.form.model.preset
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Home)
    chosen = widget.form.model.current().name
    assert chosen == "brightfield-cells"
    choose(widget)
    assert widget.form.model.current().name == chosen
