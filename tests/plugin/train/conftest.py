"""Small folders of images, a real widget, and a process that only pretends to train."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.plugin.train.data import DataQuestion, FoundData, find
from napari_cellclf.plugin.train.follower import running_processes
from napari_cellclf.plugin.train.widget import TrainWidget

SIDE = 24


def write_image(path: Path, level: int, seed: int) -> None:
    """Write a noisy grey image."""
    from skimage.io import imsave

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(level, level + 60, (SIDE, SIDE), np.uint8)
    imsave(path, pixels, check_contrast=False)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, four embryos, three images of each class and embryo."""
    folder = tmp_path_factory.mktemp("labelled") / "cells"
    for label, level in (("dark", 10), ("light", 120)):
        for embryo in range(1, 5):
            for number in range(3):
                name = f"embryo{embryo}_{number}.png"
                write_image(folder / label / name, level, 100 * embryo + number + level)
    return folder


@pytest.fixture
def found(images: Path) -> FoundData:
    """What is found there."""
    return find(DataQuestion(str(images)))


#: Acts as ``cellclf train RUN`` does, by what its name says.
_FAKE = """
import json, pathlib, sys, time
behaviour, run = sys.argv[1], pathlib.Path(sys.argv[2])
resumed = (run / "progress.jsonl").exists()

def tell(event, **fields):
    with (run / "progress.jsonl").open("a") as log:
        log.write(json.dumps({"time": 0, "event": event, **fields}) + "\\n")

if behaviour == "refuse":
    sys.exit("cellclf: error: the fake refuses")
if behaviour == "slow-start":
    time.sleep(60)
(run / "stop").unlink(missing_ok=True)
tell("start", device="a fake; no GPU: it needs none", total=100, resumed=resumed)
tell("stage", stage="network")
tell("note", message="something unusual")
for epoch in range(1, 5):
    tell("step", stage="network", epoch=epoch, epochs=4, done=25 * epoch, total=100,
         seconds_left=12.0, message="", loss=1 / epoch, accuracy=epoch / 4)
    tell("epoch", stage="network", epoch=epoch, epochs=4, loss=1 / epoch, accuracy=epoch / 4,
         validation_loss=None, validation_accuracy=None, learning_rate=0.1)
    if behaviour == "error":
        tell("error", message="the images are gone; put them back")
        sys.exit(1)
    deadline = time.monotonic() + (60 if behaviour in ("wait", "stuck") else 0)
    while time.monotonic() < deadline:
        if behaviour != "stuck" and (run / "stop").exists():
            tell("stopped", message="stopped as asked")
            sys.exit(130)
        time.sleep(0.02)
(run / "report").mkdir(exist_ok=True)
(run / "report" / "report.html").write_text("<p>fine")
(run / "report" / "metrics.json").write_text(json.dumps({"evaluations": [
    {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}, "role": "test", "n": 6}]}))
(run / "model.cellclf").mkdir(exist_ok=True)
tell("done", bundle="model.cellclf", report="report/report.html")
if behaviour == "leave-slowly":
    time.sleep(2)
"""


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], list[str]]:
    """The command of a process that pretends; `_FAKE` says which behaviours there are."""
    script = tmp_path / "fake_training.py"
    script.write_text(textwrap.dedent(_FAKE))

    def command(behaviour: str) -> list[str]:
        return [sys.executable, str(script), behaviour]

    return command


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep trained models out of the user's own."""
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "own models"))


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    """End what a test left running, so that the next widget does not adopt it."""
    yield
    for process in running_processes():
        process._process.kill()
        process._process.wait()
        process.exit_code()


@pytest.fixture
def open_train(
    make_napari_viewer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, Any]]:
    """Open a viewer with the widget docked as a user would; runs go to the test's own folder."""
    monkeypatch.setattr("napari_cellclf.plugin.train.request.RUNS", tmp_path / "runs")

    def opener(**settings: Any) -> tuple[Any, Any]:
        viewer = make_napari_viewer(**settings)
        widget = TrainWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Train")
        return viewer, widget

    return opener


@pytest.fixture
def choose(qtbot: Any, images: Path) -> Callable[..., None]:
    """Choose images and wait until they are read and divided."""

    def chooser(widget: Any, path: Path = images) -> None:
        widget.form.data.path.set_path(str(path))
        qtbot.waitUntil(lambda: widget.data.busy, timeout=5000)
        qtbot.waitUntil(lambda: not widget.data.busy, timeout=60_000)

    return chooser
