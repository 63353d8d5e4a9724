"""What is known of a run, from the lines of its log and from its report: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from napari_cellclf.core.counting import counted
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.notes import read_note
from napari_cellclf.plugin.train.own_model import keep_as_own
from napari_cellclf.runs.folder import RunFolder

Ending = Literal["", "stopped", "done", "error"]

STAGES = {
    "prepare": "Preparing the images",
    "build": "Preparing the network",
    "features": "Computing features",
    "head": "Training the head",
    "network": "Training the network",
    "evaluate": "Evaluating",
    "save": "Saving model and report",
}
#: What takes the time until a stage tells how far it is.
_BEGINNINGS = {"features": "Compiling the network", "network": "Compiling the network"}
_MOST_NOTES = 50


@dataclass(frozen=True)
class EpochPoint:
    """How good an epoch was."""

    #: ``"head"`` or ``"network"``.
    stage: str
    #: Counted from 1 in its stage.
    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class RunState:
    """How a run stands."""

    #: Whether the training process has begun its work.
    started: bool = False
    #: Whether it went on from a checkpoint.
    resumed: bool = False
    #: What it computes on, and why not on a GPU.
    device: str = ""
    done: int = 0
    total: int = 0
    #: Until the end, as far as is known.
    seconds_left: float | None = None
    #: Whether that is the end of this stage only.
    of_stage: bool = False
    #: One of `STAGES`.
    stage: str = ""
    #: Whether it has told how far it is.
    counted: bool = False
    #: Of the images that it goes through.
    image: int = 0
    images: int = 0
    epoch: int = 0
    epochs: int = 0
    #: All epochs, in order.
    points: tuple[EpochPoint, ...] = ()
    #: The epoch that is being learnt, as far as it has come.
    current: EpochPoint | None = None
    #: Unusual things that were told.
    notes: tuple[str, ...] = field(default=())
    #: How it ended; empty while it has not.
    ending: Ending = ""
    #: The sentence of an error.
    message: str = ""

    @property
    def stage_text(self) -> str:
        """Such as ``"Training the network, epoch 3 of 10"``."""
        title = STAGES.get(self.stage, self.stage)
        if not self.counted:
            return _BEGINNINGS.get(self.stage, title)
        if self.images:
            return f"{title}, {self.image:,} of {self.images:,}"
        return f"{title}, epoch {self.epoch} of {self.epochs}" if self.epochs else title

    @property
    def has_validation(self) -> bool:
        """Whether any epoch was judged on validation images."""
        return any(point.validation_loss is not None for point in self.points)


def follow(state: RunState, records: Iterable[Mapping[str, Any]]) -> RunState:
    """Take in what was written to the log."""
    for record in records:
        take_in = _TAKE_IN.get(str(record.get("event")))
        if take_in is not None:
            state = take_in(state, record)
    return state


def _on_start(state: RunState, record: Mapping[str, Any]) -> RunState:
    return RunState(
        started=True,
        resumed=bool(record.get("resumed")),
        device=str(record.get("device", "")),
        total=int(record.get("total", 0)),
        points=state.points if record.get("resumed") else (),
        notes=state.notes if record.get("resumed") else (),
    )


def _on_stage(state: RunState, record: Mapping[str, Any]) -> RunState:
    return replace(
        state,
        stage=str(record.get("stage", "")),
        counted=False,
        seconds_left=None,
        epoch=0,
        epochs=0,
        image=0,
        images=0,
    )


def _on_step(state: RunState, record: Mapping[str, Any]) -> RunState:
    current = None
    if record.get("loss") is not None and record.get("epoch"):
        current = _point(record)
    return replace(
        state,
        stage=str(record.get("stage", state.stage)),
        done=int(record.get("done", state.done)),
        total=int(record.get("total", state.total)),
        seconds_left=record.get("seconds_left"),
        of_stage=bool(record.get("of_stage")),
        counted=True,
        image=int(record.get("image") or 0),
        images=int(record.get("images") or 0),
        epoch=int(record.get("epoch") or 0),
        epochs=int(record.get("epochs") or 0),
        current=current,
    )


def _on_epoch(state: RunState, record: Mapping[str, Any]) -> RunState:
    new = _point(record)
    # A run that was killed may learn an epoch again.
    kept = [old for old in state.points if old.stage != new.stage or old.epoch < new.epoch]
    return replace(state, points=(*kept, new), current=None)


def _on_note(state: RunState, record: Mapping[str, Any]) -> RunState:
    notes = (*state.notes, str(record.get("message", "")))
    return replace(state, notes=tuple(dict.fromkeys(notes))[-_MOST_NOTES:])


def _on_stopped(state: RunState, record: Mapping[str, Any]) -> RunState:
    return replace(state, ending="stopped", seconds_left=None, current=None)


def _on_done(state: RunState, record: Mapping[str, Any]) -> RunState:
    return replace(state, ending="done", done=state.total, seconds_left=None, current=None)


def _on_error(state: RunState, record: Mapping[str, Any]) -> RunState:
    message = str(record.get("message", ""))
    return replace(state, ending="error", message=message, seconds_left=None, current=None)


_TAKE_IN = {
    "start": _on_start,
    "stage": _on_stage,
    "step": _on_step,
    "epoch": _on_epoch,
    "note": _on_note,
    "stopped": _on_stopped,
    "done": _on_done,
    "error": _on_error,
}


def _point(record: Mapping[str, Any]) -> EpochPoint:
    return EpochPoint(
        str(record.get("stage", "")),
        int(record.get("epoch") or 0),
        _number(record.get("loss")),
        _number(record.get("accuracy")),
        record.get("validation_loss"),
        record.get("validation_accuracy"),
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


@dataclass(frozen=True)
class RunHeadline:
    """What to show of a finished run."""

    #: The chief figure with its interval.
    text: str
    #: The page to open.
    report: Path | None
    #: The model's name among the user's own; empty where it could not be copied there.
    own_model: str = ""
    #: Why it could not.
    problem: str = ""


def headline(run: RunFolder) -> RunHeadline:
    """Read what a finished run found, and keep its model; to be done in a thread."""
    own_model = problem = ""
    try:
        own_model = keep_as_own(run.bundle)
    except CellclfError as error:
        problem = str(error)
    return replace(_headline(run), own_model=own_model, problem=problem)


def _headline(run: RunFolder) -> RunHeadline:
    page = run.report / "report.html"
    report = page if page.is_file() else None
    evaluation = _first(read_note(run.report / "metrics.json") or {})
    if evaluation is None:
        return RunHeadline(
            "The model is ready. No images were held out, so its accuracy is unknown.", report
        )
    return RunHeadline(_sentence(evaluation), report)


def _first(found: dict[str, Any]) -> dict[str, Any] | None:
    inside = found.get("evaluations")
    first = inside[0] if isinstance(inside, list) and inside else None
    return first if isinstance(first, dict) else None


def _sentence(evaluation: dict[str, Any]) -> str:
    figure, number = evaluation.get("accuracy"), evaluation.get("n", 0)
    found = figure if isinstance(figure, dict) and isinstance(number, int) else {}
    value, low, high = (found.get(name) for name in ("value", "low", "high"))
    if not all(one is None or isinstance(one, float | int) for one in (value, low, high)):
        value = None
    if value is None:
        return "The model is ready; see the report for its accuracy."
    role = evaluation.get("role", "held-out")
    noun = evaluation.get("noun", "image")
    interval = ""
    if low is not None and high is not None:
        interval = f" (95 % interval {_percent(low)} to {_percent(high)})"
    return f"Accuracy {_percent(value)}{interval} on {counted(number, f'{role} {noun}')}."


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
