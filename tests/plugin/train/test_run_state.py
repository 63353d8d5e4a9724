"""What a log says of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.counting import time_left
from napari_cellclf.plugin.train.run_state import RunState, _headline, follow
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress


def epoch(number: int, stage: str = "network", **more: Any) -> dict[str, Any]:
    """A line about an epoch."""
    record = {"event": "epoch", "stage": stage, "epoch": number, "epochs": 5, "loss": 1 / number}
    return {**record, "accuracy": 0.5, "validation_loss": None, "validation_accuracy": None, **more}


START = {"event": "start", "device": "CPU (2 threads)", "total": 100, "resumed": False}
STEP = {"event": "step", "stage": "network", "epoch": 2, "epochs": 5, "done": 40, "total": 100}


def test_a_run_from_start_to_end() -> None:
    state = follow(RunState(), [START, {"event": "stage", "stage": "prepare"}])
    assert state.started
    assert state.device == "CPU (2 threads)"
    assert state.stage_text == "Preparing the images"
    state = follow(state, [epoch(1), {**STEP, "seconds_left": 80.0, "loss": 0.7, "accuracy": 0.4}])
    assert state.stage_text == "Training the network, epoch 2 of 5"
    assert (state.done, state.total, state.seconds_left) == (40, 100, 80.0)
    assert state.current is not None
    assert state.current.loss == 0.7
    state = follow(state, [epoch(2, validation_loss=0.6, validation_accuracy=0.8)])
    assert state.current is None
    assert [point.epoch for point in state.points] == [1, 2]
    assert state.has_validation
    state = follow(state, [{"event": "note", "message": "rolled back"}, {"event": "done"}])
    assert state.notes == ("rolled back",)
    assert state.ending == "done"
    assert state.done == 100


def test_each_stage_says_from_its_first_moment_what_it_does() -> None:
    state = follow(RunState(), [START, {"event": "stage", "stage": "prepare"}])
    assert not state.counted
    line = {"event": "step", "stage": "prepare", "done": 12, "image": 12, "images": 1900}
    state = follow(state, [{**line, "seconds_left": 9.0, "of_stage": True}])
    assert (state.counted, state.of_stage) == (True, True)
    assert state.stage_text == "Preparing the images, 12 of 1,900"
    state = follow(state, [{"event": "stage", "stage": "network"}])
    assert (state.counted, state.seconds_left) == (False, None)
    assert state.stage_text == "Compiling the network"
    state = follow(state, [STEP])
    assert state.stage_text == "Training the network, epoch 2 of 5"
    assert not state.of_stage
    state = follow(state, [{"event": "stage", "stage": "evaluate"}])
    assert state.stage_text == "Evaluating"


def test_an_epoch_that_is_learnt_again_replaces_what_came_after() -> None:
    state = follow(RunState(), [START, epoch(1, "head"), *(epoch(n) for n in (1, 2, 3))])
    again = {**START, "resumed": True}
    state = follow(state, [again, epoch(2, loss=9.0)])
    assert [(point.stage, point.epoch) for point in state.points] == [
        ("head", 1),
        ("network", 1),
        ("network", 2),
    ]
    assert state.points[-1].loss == 9.0
    assert follow(state, [START]).points == ()


def test_endings() -> None:
    assert follow(RunState(), [START, {"event": "stopped", "done": 3}]).ending == "stopped"
    failed = follow(RunState(), [START, {"event": "error", "message": "no images"}])
    assert (failed.ending, failed.message) == ("error", "no images")
    assert follow(failed, [{**START, "resumed": True}]).ending == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "a few seconds left"),
        (42, "about 40 s left"),
        (80, "about 1 min 20 s left"),
        (1800, "about 30 min left"),
        (4000, "about 1 h 7 min left"),
    ],
)
def test_time_left(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text


@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": st.sampled_from(["start", "stage", "step", "epoch", "note", "what", "done"])},
            optional={
                "stage": st.sampled_from(["head", "network", "new"]),
                "epoch": st.integers(0, 9) | st.none(),
                "loss": st.floats(allow_nan=True) | st.none(),
                "done": st.integers(0, 10**6),
                "message": st.text(max_size=5),
            },
        ),
        max_size=12,
    )
)
def test_no_log_breaks_it(records: list[dict[str, Any]]) -> None:
    state = follow(RunState(), records)
    assert isinstance(state.stage_text, str)
    assert all(math.isnan(point.loss) or point.loss == point.loss for point in state.points)
    assert len({(point.stage, point.epoch) for point in state.points}) == len(state.points)


@pytest.mark.parametrize(
    "said",
    [
        '{"evaluations": ["x"]}',
        '{"evaluations": [{"accuracy": 1}]}',
        '{"evaluations": [{"accuracy": {"value": "x"}}]}',
        '{"evaluations": [{"accuracy": {"value": 1, "low": [], "high": 1}}]}',
        '{"evaluations": [{"accuracy": {"value": 1}, "n": "x"}]}',
        "[" * 100_000,
    ],
)
def test_metrics_of_any_content_are_no_error(tmp_path: Path, said: str) -> None:
    report = tmp_path / "report"
    report.mkdir()
    (report / "metrics.json").write_text(said)
    assert _headline(RunFolder(tmp_path)).text.startswith("The model is ready")


@pytest.mark.parametrize("wrong", ["1e400", "-1", "NaN", "null", '"x"', "[]", "1" * 400])
def test_a_log_of_any_content_is_no_error(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "progress.jsonl"
    lines = [
        json.dumps({**line, key: "HERE"}).replace('"HERE"', wrong)
        for line in (START, STEP, epoch(1))
        for key in line
    ]
    path.write_text("\n".join(lines) + "\n")
    state = follow(RunState(), read_progress(path)[0])
    assert state.done >= -1
