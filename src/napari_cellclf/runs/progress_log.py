"""The log of a run, ``progress.jsonl``, and the progress of the whole run made of it."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellclf.core.counting import time_left
from napari_cellclf.core.progress import OnProgress, Progress
from napari_cellclf.errors import RunError
from napari_cellclf.io.regular_files import never_a_link, open_regular
from napari_cellclf.models.training.reporter import StepReport

OnEvent = Callable[[Mapping[str, Any]], None]
#: Of a log, that are read: its last ones, what nine hours write.
_MOST_BYTES = 1 << 25
#: Seconds between two lines of steps.
_INTERVAL = 0.25
#: A step of the whole network takes about as long as preparing so many images, for each image.
_NETWORK_WEIGHT = 3
_TITLES = {
    "prepare": "preparing images",
    "build": "preparing the network",
    "features": "computing features",
    "head": "training the head",
    "network": "training",
    "evaluate": "evaluating",
    "save": "saving the model and the report",
}
#: What takes the time until a stage tells how far it is.
_BEGINNINGS = {"features": "compiling the network", "network": "compiling the network"}
#: Seconds of which the steps tell how fast a stage goes, and the last of them, which may be slower.
_RECENT, _LAST = 30.0, 10.0


def beginning_of(stage: str) -> str:
    """Say what a stage does at first."""
    return _BEGINNINGS.get(stage, _TITLES.get(stage, stage))


#: Fields that are numbers; a metric may be NaN, a count may not.
_COUNTS = ("epoch", "epochs", "image", "images", "done", "total", "seconds_left")
_MEASURED = ("loss", "accuracy", "learning_rate")
_MOST = 1 << 53


def ignore_event(record: Mapping[str, Any]) -> None:
    """Take no notice: the default of every `on_event`."""


class ProgressLog:
    """Writes lines as things happen."""

    def __init__(self, path: Path, on_event: OnEvent = ignore_event) -> None:
        self._path = path
        self._on_event = on_event
        with self._explained():
            # Unbuffered: a line that found no room is not written again later.
            self._file = open(path, "a+b", buffering=0, opener=never_a_link)  # noqa: SIM115
            self._close_last_line()

    def write(self, event: str, **fields: Any) -> None:
        """Write one line."""
        record = {"time": round(time.time(), 3), "event": event, **fields}
        with self._explained():
            self._file.write(json.dumps(record).encode() + b"\n")
        self._on_event(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self._path} cannot be written ({error.strerror or error}); free some space, or "
                "make it writable, and start the run again, it resumes from its last checkpoint"
            ) from error

    def _close_last_line(self) -> None:
        """End the line in which a process was killed."""
        if self._file.seek(0, 2):
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")


def read_progress(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read the lines that were written since the last time, of a long log the last ones."""
    try:
        with open_regular(path, follow=False) as file:
            size = file.seek(0, os.SEEK_END)
            offset = file.seek(max(offset, size - _MOST_BYTES))
            content = file.read(_MOST_BYTES)
    except OSError:
        return [], offset
    end = content.rfind(b"\n") + 1
    records = [_parse(line) for line in content[:end].splitlines()]
    return [record for record in records if record is not None], offset + end


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _is_record(found) else None


def _is_record(found: dict[str, Any]) -> bool:
    """Whether a line says what such lines say, as far as anything is computed with it."""
    if found.get("event") == "epoch" and not {"stage", "epoch"} <= set(found):
        return False
    return "event" in found and all(
        (value is None and name not in ("done", "total")) or _is_number(value, name in _COUNTS)
        for name, value in found.items()
        if name in _COUNTS or name in _MEASURED or name.startswith("validation_")
    )


def _is_number(value: Any, is_count: bool) -> bool:
    if type(value) is float and not is_count:
        return True
    return type(value) in (int, float) and -_MOST <= value <= _MOST


@dataclass(frozen=True)
class Workload:
    """How much each part of a run has to do."""

    #: Images to prepare, every angle counted.
    images: int
    #: Images to send through a frozen backbone.
    features: int
    head_steps: int
    network_steps: int
    #: Images in a step.
    batch_size: int
    #: Images that are predicted after each epoch, and at the end.
    validation: int = 0
    measured: int = 0

    @property
    def parts(self) -> dict[str, int]:
        """Work of each stage, in units of about one prepared image."""
        return {
            "prepare": self.images,
            "features": self.features,
            "head": self.head_steps,
            "network": self.network_steps * self.batch_size * _NETWORK_WEIGHT,
        }

    @property
    def total(self) -> int:
        """Work of all stages."""
        return sum(self.parts.values())


class _Pace:
    """How fast a stage goes, by its last steps: on a busy machine earlier ones say little.

    What comes between two epochs is counted by itself.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float]] = deque()
        self._step_at: float | None = None
        self._paused = 0.0
        #: Seconds of the last validation.
        self.pause: float | None = None

    def mark(self, done: float, now: float) -> None:
        """Note how far the stage is."""
        marks = self._marks
        marks.append((now - self._paused, done))
        while len(marks) > 3 and marks[1][0] <= marks[-1][0] - _RECENT:
            marks.popleft()

    def step(self, now: float) -> None:
        """Note when a step ended."""
        self._step_at = now

    def epoch(self, now: float) -> None:
        """Note that an epoch was validated."""
        if self._step_at is not None:
            self.pause = now - self._step_at
            self._paused += self.pause

    def seconds_each(self) -> float | None:
        """Return how long a unit of work takes: as the last ones did, or longer; None at first."""
        marks = self._marks
        if len(marks) < 2 or marks[-1][0] - marks[0][0] < 1:
            return None
        end = marks[-1][0]
        late = next(one for one in reversed(marks) if one[0] <= end - _LAST or one is marks[0])
        return max((_each(one, marks[-1]) for one in (marks[0], late)), default=None)


def _each(first: tuple[float, float], last: tuple[float, float]) -> float:
    return (last[0] - first[0]) / max(last[1] - first[1], 1e-9)


class RunReporter:
    """Writes the log of a run and tells a caller how far it is."""

    def __init__(self, log: ProgressLog, on_progress: OnProgress, workload: Workload) -> None:
        self._log = log
        self._on_progress = on_progress
        self._work = workload
        self._stage = "prepare"
        self._pace = _Pace()
        self._epochs_left = 0
        self._next_line = 0.0
        self._offset = 0.0

    def stage(self, name: str) -> None:
        """Begin a part of the run."""
        self._stage = name
        # What an earlier process did took this one no time.
        self._pace = _Pace()
        self._epochs_left = 0
        self._next_line = 0.0
        self._offset = 0.0
        self._log.write("stage", stage=name)

    def part(self, offset: int) -> None:
        """Say that the next progress counts from `offset` images of this stage."""
        self._offset = offset

    def progress(self, progress: Progress) -> None:
        """Tell of images that were prepared, sent through the backbone or classified."""
        done, last = self._offset + progress.done, progress.done == progress.total
        images = self._work.parts.get(self._stage, 0)
        if last or not images:
            self._tell(done, last, progress.message)
            return
        message = f"{progress.message} {round(done)} of {images}"
        self._tell(done, last, message, image=round(done), images=images)

    def step(self, report: StepReport) -> None:
        """Tell of a training step."""
        whole = self._work.parts[report.stage]
        self._pace.step(time.monotonic())
        self._epochs_left = report.epochs - report.epoch + 1
        title = f"{_TITLES[report.stage]}, epoch {report.epoch} of {report.epochs}"
        self._tell(
            whole * report.done / report.total,
            report.done == report.total,
            f"{title}, loss {report.loss:.3f}",
            epoch=report.epoch,
            epochs=report.epochs,
            loss=report.loss,
            accuracy=report.accuracy,
        )

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Tell of an epoch that is over, and validated."""
        self._pace.epoch(time.monotonic())
        self._log.write("epoch", **record)

    def note(self, message: str) -> None:
        """Tell of something unusual."""
        self._log.write("note", message=message)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Tell of a state that was written."""
        self._log.write(
            "checkpoint", stage=state["stage"], epoch=state["epoch"] + 1, step=state["step"]
        )

    def _tell(self, done_in_stage: float, last: bool, message: str, **fields: Any) -> None:
        now = time.monotonic()
        if now < self._next_line and not last:
            return
        self._next_line = now + _INTERVAL
        self._pace.mark(done_in_stage, now)
        done = self._before() + done_in_stage
        left, of_stage = self._seconds_left(done_in_stage)
        whole = self._work.total
        self._log.write(
            "step",
            stage=self._stage,
            done=round(done),
            total=whole,
            seconds_left=None if left is None else round(left, 1),
            message=message,
            **({"of_stage": True} if of_stage else {}),
            **fields,
        )
        said = ", ".join(filter(None, (message, time_left(left, of_stage=of_stage))))
        self._on_progress(Progress(min(round(done), whole), whole, said))

    @property
    def _number(self) -> int:
        """Which of the parts of the work this stage is; behind them all if it is none."""
        names = list(self._work.parts)
        return names.index(self._stage) if self._stage in names else len(names)

    def _before(self) -> int:
        """Work of the stages before this one."""
        return sum(list(self._work.parts.values())[: self._number])

    def _seconds_left(self, done: float) -> tuple[float | None, bool]:
        """Estimate how long it takes, and tell whether that is to the end of this stage only.

        How fast a later stage will be is not known before it has begun.
        """
        parts = list(self._work.parts.items())
        later = [work for name, work in parts[self._number + 1 :] if work]
        each = self._pace.seconds_each()
        if each is None:
            return None, bool(later)
        left = each * (self._work.parts.get(self._stage, done) - done)
        # A network predicts an image in about a third of the time that it learns one.
        forward = each if self._stage == "network" else 0.0
        pause = self._pace.pause
        left += self._epochs_left * (forward * self._work.validation if pause is None else pause)
        return left + forward * self._work.measured, bool(later)
