"""The real command, started by the widget: train, stop, resume, kill, preview, classify."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.core.simulation.site import simulate_plate
from napari_cellclf.plugin.classify.model_picker import ModelPicker
from napari_cellclf.plugin.classify.widget import ClassifyWidget
from napari_cellclf.plugin.train.widget import TrainWidget

pytestmark = pytest.mark.timeout(900)

#: Loading Keras takes seconds, many on a busy machine.
PATIENCE = 300_000
_SMALL = {"size": "own", "crop": "24", "parameters": "{width = 8}"}


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated RxRx1 folder: two cell types, three plates, small sites."""
    from skimage.io import imsave

    root = tmp_path_factory.mktemp("screens") / "rxrx1"
    for plate in (1, 2, 3):
        sites = simulate_plate(
            wells_per_type=1, sites_per_well=2, cell_types=("HUVEC", "U2OS"), plate=plate, size=64
        )
        for site in sites:
            folder = root / site.experiment / f"Plate{plate}"
            folder.mkdir(parents=True, exist_ok=True)
            for channel, pixels in enumerate(site.draw().data[:2], start=1):
                name = f"{site.well}_s{site.site}_w{channel}.png"
                imsave(folder / name, pixels, check_contrast=False)
    return root


@pytest.fixture
def open_screen(
    open_train: Callable[..., Any], choose: Callable[..., None], screen: Path
) -> Callable[[], Any]:
    """Open the widget and choose that folder."""

    def opener() -> tuple[Any, TrainWidget]:
        viewer, widget = open_train()
        choose(widget, screen)
        return viewer, widget

    return opener


def set_up(qtbot: Any, widget: TrainWidget, epochs: int, steps: int) -> None:
    """Ask for a small network and few steps."""
    widget.form.model.epochs.setText(str(epochs))
    widget.form.model.batch_size.setText("4")
    widget.form.model.advanced.enter(_SMALL | {"steps_per_epoch": str(steps)})
    qtbot.waitUntil(lambda: f"--epochs {epochs}" in widget.form.run.command.text(), timeout=5000)


def learns(qtbot: Any, widget: TrainWidget, epochs: int) -> None:
    """Wait until a run has learnt so many epochs."""
    run = widget.run
    qtbot.waitUntil(
        lambda: len(run.follower.state.points) >= epochs or not run.active, timeout=PATIENCE
    )
    assert run.active, run.follower.problem


def test_train_and_use_the_model(open_screen: Any, qtbot: Any) -> None:
    viewer, train = open_screen()
    set_up(qtbot, train, 2, 2)
    assert train.run.start(), train.form.run.message.text()
    qtbot.waitUntil(lambda: not train.run.active, timeout=PATIENCE)
    follower = train.run.follower
    assert follower.phase == "done", follower.problem
    assert [point.epoch for point in follower.state.points] == [1, 2]
    assert all(point.validation_loss is not None for point in follower.state.points)
    assert "CPU" in follower.state.device or "GPU" in follower.state.device
    headline = train.form.run.result.headline
    qtbot.waitUntil(lambda: "Accuracy" in headline.text(), timeout=PATIENCE)
    assert "test images" in headline.text()
    assert train.run.headline.report.is_file()
    assert "tensorflow" not in sys.modules
    classify = ClassifyWidget(viewer)
    viewer.window.add_dock_widget(classify, name="Classify")
    train.model_chosen.connect(classify.form.model.choose)
    qtbot.mouseClick(train.form.run.result.use, Qt.MouseButton.LeftButton)
    chosen = classify.form.model.current()
    assert chosen.classes == ("HUVEC", "U2OS")
    # It is one of the user's own, under the name of the run.
    name = follower.run.path.name
    assert chosen.reference == name
    assert name in train.form.run.message.text()
    classify.form.models_section.unfold(True)
    models = classify.form.models.form
    assert models.tree.select(name)
    assert models.tree.entry().place == "mine"
    assert models.share.isEnabled()
    assert models.remove.isEnabled()
    # After a restart it is there, also where the run is not.
    shutil.rmtree(follower.run.path)
    assert find_model(name).is_file()
    picker = ModelPicker()
    qtbot.addWidget(picker)
    assert name in picker.references()
    for _ in range(2):
        qtbot.mouseClick(models.remove, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not classify.form.models.running, timeout=PATIENCE)
    assert name not in classify.form.model.references()


def test_stop_kill_and_resume(open_screen: Any, qtbot: Any) -> None:
    _, train = open_screen()
    set_up(qtbot, train, 400, 4)
    follower = train.run.follower
    assert train.run.start()
    learns(qtbot, train, 2)
    train.form.run.stop.click()
    qtbot.waitUntil(lambda: not train.run.active, timeout=PATIENCE)
    assert follower.phase == "waiting"
    stopped_at = len(follower.state.points)
    assert stopped_at < 400
    assert train.run.start()
    learns(qtbot, train, stopped_at + 1)
    assert follower.state.resumed
    follower._process._process.kill()
    qtbot.waitUntil(lambda: not train.run.active, timeout=PATIENCE)
    assert follower.phase == "failed"
    assert train.form.run.train.text().startswith("Resume ")
    assert train.form.run.new.isVisibleTo(train)


def test_preview_shows_what_the_network_sees(open_screen: Any, qtbot: Any) -> None:
    viewer, train = open_screen()
    set_up(qtbot, train, 2, 2)
    assert train.preview()
    message = train.form.model.message
    qtbot.waitUntil(lambda: not train._previewing.running, timeout=PATIENCE)
    assert not message.is_wrong(), message.text()
    names = [layer.name for layer in viewer.layers]
    assert names[:2] == ["network sees: w1 Hoechst", "augmented: w1 Hoechst"]
    assert viewer.layers[1].data.shape[-2:] == (24, 24)
    assert viewer.layers[0].data.shape[-2:] == (64, 64)
    assert "sliders" in message.text()
