"""The process that trains, and how it is followed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from napari_cellclf.errors import CancelledError, DatasetError, RunError
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.plugin.shared.background import LatestTask, Ticket
from napari_cellclf.plugin.train.follower import RunFollower, TrainingProcess, running_processes
from napari_cellclf.plugin.train.run_state import headline
from napari_cellclf.runs.create import create_run
from napari_cellclf.runs.folder import RunFolder, locked

Fake = Callable[[str], list[str]]
PATIENCE = 60_000


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A folder; the fake needs no more."""
    folder = tmp_path / "run"
    folder.mkdir()
    return RunFolder(folder)


@pytest.fixture
def follower(qapp: Any) -> Any:
    """A follower that is closed at the end."""
    follower = RunFollower()
    yield follower
    follower.close()
    follower.deleteLater()


def test_follows_a_run_to_its_end(
    qtbot: Any, follower: RunFollower, run: RunFolder, fake: Fake
) -> None:
    follower.attach(TrainingProcess(run, fake("finish")))
    assert follower.phase == "starting"
    qtbot.waitUntil(lambda: follower.phase == "done", timeout=PATIENCE)
    assert [point.epoch for point in follower.state.points] == [1, 2, 3, 4]
    assert follower.state.notes == ("something unusual",)
    assert not running_processes()
    assert headline(run).text.startswith("Accuracy 90.0 % (95 % interval 80.0 % to 100.0 %) on 6")


def test_a_finished_run_is_not_starting_while_its_process_leaves(
    qtbot: Any, follower: RunFollower, run: RunFolder, fake: Fake
) -> None:
    phases: list[str] = []
    follower.changed.connect(lambda: phases.append(follower.phase))
    follower.attach(TrainingProcess(run, fake("leave-slowly")))
    qtbot.waitUntil(lambda: follower.state.ending == "done", timeout=PATIENCE)
    assert follower.phase == "running"
    qtbot.waitUntil(lambda: follower.phase == "done", timeout=PATIENCE)
    assert "starting" not in phases[phases.index("running") :]


def test_stop_and_resume(qtbot: Any, follower: RunFollower, run: RunFolder, fake: Fake) -> None:
    follower.attach(TrainingProcess(run, fake("wait")))
    qtbot.waitUntil(lambda: bool(follower.state.points), timeout=PATIENCE)
    assert follower.phase == "running"
    assert follower.stop() == ""
    assert follower.phase == "stopping"
    qtbot.waitUntil(lambda: follower.phase == "waiting", timeout=PATIENCE)
    assert follower.state.ending == "stopped"
    follower.attach(TrainingProcess(run, fake("finish")))
    qtbot.waitUntil(lambda: follower.phase == "done", timeout=PATIENCE)
    assert follower.state.resumed


def test_stop_before_it_has_begun(
    qtbot: Any, follower: RunFollower, run: RunFolder, fake: Fake
) -> None:
    follower.attach(TrainingProcess(run, fake("slow-start")))
    follower.stop()
    qtbot.waitUntil(lambda: follower.phase == "waiting", timeout=PATIENCE)
    assert not run.stop_file.exists()


def test_killed_from_outside(qtbot: Any, follower: RunFollower, run: RunFolder, fake: Fake) -> None:
    process = TrainingProcess(run, fake("wait"))
    follower.attach(process)
    qtbot.waitUntil(lambda: bool(follower.state.points), timeout=PATIENCE)
    process._process.kill()
    qtbot.waitUntil(lambda: follower.phase == "failed", timeout=PATIENCE)
    assert "ended by itself" in follower.problem
    assert "Resume" in follower.problem


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("error", "The images are gone; put them back."), ("refuse", "The fake refuses.")],
)
def test_errors_are_said(
    qtbot: Any, follower: RunFollower, run: RunFolder, fake: Fake, behaviour: str, words: str
) -> None:
    follower.attach(TrainingProcess(run, fake(behaviour)))
    qtbot.waitUntil(lambda: follower.phase == "failed", timeout=PATIENCE)
    assert follower.problem == words


def test_a_run_that_was_edited_says_how_it_goes_on(
    qtbot: Any, follower: RunFollower, tmp_path: Path
) -> None:
    for number in range(8):
        image = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 20 * number).save(image)
    images = read_dataset(tmp_path / "images").split(seed=0)
    run = create_run(images, TrainingConfig(epochs=1), tmp_path / "run")
    text = run.spec_file.read_text()
    run.spec_file.write_text(text.replace('"seed": ', '"seed": 1'))
    follower.attach(TrainingProcess(run))
    qtbot.waitUntil(lambda: follower.phase == "failed", timeout=PATIENCE)
    assert "is not as it was when the run was made" in follower.problem
    assert follower.problem.endswith(f"cellclf train {run.path} --accept-changes.")


def test_a_process_that_cannot_start(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be started"):
        TrainingProcess(run, [str(tmp_path / "no such program")])
    with pytest.raises(RunError, match="cannot be started"):
        TrainingProcess(RunFolder(tmp_path / "gone"), [sys.executable])
    assert not running_processes()


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are POSIX")
def test_the_child_has_a_session_of_its_own(run: RunFolder, fake: Fake) -> None:
    process = TrainingProcess(run, fake("wait"))
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert running_processes() == [process]


def test_a_run_that_somebody_else_trains_is_followed(
    qtbot: Any, follower: RunFollower, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_cellclf.plugin.train.follower._LOOK_AT_LOCK_SECONDS", 0.05)
    with locked(run):
        run.log.write_text('{"event": "start", "device": "theirs", "total": 5}\n')
        follower.open(run)
        qtbot.waitUntil(lambda: follower.phase == "running", timeout=PATIENCE)
        assert follower.state.device == "theirs"
        follower.stop()
        assert run.stop_wish() == "soon"
        assert follower.stop_now() == ""
        assert run.stop_wish() == "now"
    qtbot.waitUntil(lambda: follower.phase == "waiting", timeout=PATIENCE)


def test_an_unfinished_run_waits(qtbot: Any, follower: RunFollower, run: RunFolder) -> None:
    follower.open(run)
    qtbot.waitUntil(lambda: follower.phase == "waiting", timeout=PATIENCE)
    run.bundle.mkdir()
    follower.open(run)
    qtbot.waitUntil(lambda: follower.phase == "done", timeout=PATIENCE)


def test_only_the_latest_work_counts(qtbot: Any, qapp: Any) -> None:
    task = LatestTask()
    results: list[str] = []
    failures: list[str] = []
    task.done.connect(results.append)
    task.failed.connect(failures.append)
    go_on = threading.Event()

    def first(ticket: Ticket) -> str:
        go_on.wait(10)
        return "stopped" if ticket.should_stop() else "first"

    task.start(first)
    task.start(lambda ticket: "second")
    go_on.set()
    qtbot.waitUntil(lambda: bool(results), timeout=5000)

    def wrong(ticket: Ticket) -> None:
        raise DatasetError("no images\nat all")

    task.start(wrong)
    qtbot.waitUntil(lambda: bool(failures), timeout=5000)

    def cancelled(ticket: Ticket) -> None:
        raise CancelledError("never mind")

    task.start(cancelled)
    qtbot.waitUntil(lambda: not task.running, timeout=5000)
    time.sleep(0.1)
    qtbot.wait(50)
    assert results == ["second"]
    assert failures == ["No images at all."]
    task.deleteLater()


def test_headlines_without_a_report(run: RunFolder) -> None:
    assert "No images were held out" in headline(run).text
    assert headline(run).report is None
    run.report.mkdir()
    (run.report / "metrics.json").write_text("{")
    assert "No images were held out" in headline(run).text
