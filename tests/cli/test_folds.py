"""Folds that are trained beside one another, by processes that only pretend."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from napari_cellclf.cli import folds as folds_module
from napari_cellclf.cli.folds import Fold, folds_at_once, train_beside
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, RunError
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress

#: Acts as ``cellclf train RUN`` does, by the name of the run.
_FAKE = """
import json, os, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
time.sleep(0.2)
(run / "stop").unlink(missing_ok=True)

def tell(event, **fields):
    with (run / "progress.jsonl").open("a") as log:
        log.write(json.dumps({"time": time.time(), "event": event, **fields}) + "\\n")

tell("start", device="GPU" if "gpu" in run.name else "CPU (8 cores)", resumed=False,
     threads=os.environ["OMP_NUM_THREADS"])
tell("step", stage="network", done=3, total=9, seconds_left=80.0, message="training")
if "fails" in run.name:
    sys.exit("cellclf: error: the images are gone; put them back")
deadline = time.monotonic() + (60 if "waits" in run.name else 0.5)
while time.monotonic() < deadline:
    if (run / "stop").exists():
        tell("stopped", message="stopped")
        sys.exit(130)
    time.sleep(0.02)
(run / "model.cellclf").mkdir()
tell("done")
"""


class Told:
    """What the command shows, and what it does when something happens."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.notes: list[str] = []
        self.events: list[str] = []


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(autouse=True)
def _pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(_FAKE))
    monkeypatch.setattr(folds_module, "COMMAND", [sys.executable, str(script)])
    monkeypatch.setattr(folds_module, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def make(tmp_path: Path, told: Told, *names: str) -> list[Fold]:
    made = []
    for name in names:
        (tmp_path / name).mkdir()
        run = RunFolder(tmp_path / name)
        made.append(Fold(run, lambda one: told.events.append(one["event"]), told.progress.append))
    return made


def times(fold: Fold) -> tuple[float, float]:
    records, _ = read_progress(fold.run.log)
    return records[0]["time"], records[-1]["time"]


def test_how_many_at_once():
    config = TrainingConfig(architecture="compact-cnn")
    gib = 2**30
    assert [folds_at_once(cores, None, config) for cores in (1, 2, 7, 8, 16)] == [1, 1, 1, 2, 4]
    assert [folds_at_once(16, free * gib, config) for free in (1, 9, 100)] == [1, 2, 4]
    # Otherwise the weights would depend on how many cores there are.
    assert folds_at_once(16, None, config.changed(reproducible=True)) == 1


def test_they_share_the_cores_and_each_is_told_of(tmp_path, told):
    folds = make(tmp_path, told, "a", "b", "c")
    train_beside(folds, 2, told.notes.append, lambda: None)
    assert all(fold.run.is_finished for fold in folds)
    # The third begins where one of the others has ended.
    assert times(folds[2])[0] > min(times(fold)[1] for fold in folds[:2])
    assert read_progress(folds[0].run.log)[0][0]["threads"] == "4"
    assert told.events.count("done") == 3
    assert told.progress == [Progress(3, 9, "training, about 1 min 20 s left")] * 3


def test_a_gpu_is_not_shared(tmp_path, told):
    folds = make(tmp_path, told, "gpu-1", "gpu-2")
    train_beside(folds, 2, told.notes.append, lambda: None)
    assert times(folds[1])[0] >= times(folds[0])[1]


def test_ctrl_c_stops_all_of_them_and_the_rest_is_not_begun(tmp_path, told):
    folds = make(tmp_path, told, "waits-1", "waits-2", "c")

    def press(record):
        told.events.append(record["event"])
        if told.events.count("step") == 2 and record["event"] == "step":
            os.kill(os.getpid(), signal.SIGINT)

    for fold in folds:
        fold.on_event = press
    with pytest.raises(CancelledError, match="the same command goes on"):
        train_beside(folds, 2, told.notes.append, lambda: None)
    ends = [[one["event"] for one in read_progress(fold.run.log)[0]][-1:] for fold in folds]
    assert ends == [["stopped"], ["stopped"], []]
    assert "press Ctrl-C again" in told.notes[0]


def test_one_that_fails_stops_the_others_and_says_why(tmp_path, told):
    folds = make(tmp_path, told, "waits", "fails", "c")
    with pytest.raises(RunError, match=r"fails: the images are gone; put them back"):
        train_beside(folds, 2, told.notes.append, lambda: None)
    assert [one["event"] for one in read_progress(folds[0].run.log)[0]][-1] == "stopped"
    assert not folds[2].run.log.exists()
