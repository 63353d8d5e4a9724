"""The log of a run, ``progress.jsonl``, and the progress of the whole run made of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellclf.core.progress import OnProgress, Progress
from napari_cellclf.errors import RunError
from napari_cellclf.io.regular_files import never_a_link, open_regular
from napari_cellclf.models.training.reporter import StepReport

OnEvent = Callable[[Mapping[str, Any]], None]
#: Seconds between two lines of steps.
_INTERVAL = 0.25
#: A step of the whole network takes about as long as preparing so many images, for each image.
_NETWORK_WEIGHT = 3
_TITLES = {
    "prepare": "preparing images",
    "features": "computing features",
    "head": "training the head",
    "network": "training",
    "evaluate": "evaluating",
    "save": "saving the model",
}


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
    """Read the lines that were written since the last time."""
    try:
        with open_regular(path, follow=False) as file:
            file.seek(offset)
            content = file.read()
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
    return found if isinstance(found, dict) and "event" in found else None


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


class RunReporter:
    """Writes the log of a run and tells a caller how far it is."""

    def __init__(self, log: ProgressLog, on_progress: OnProgress, workload: Workload) -> None:
        self._log = log
        self._on_progress = on_progress
        self._work = workload
        self._stage = "prepare"
        self._stage_began = time.monotonic()
        self._first_done: float | None = None
        self._next_line = 0.0
        self._offset = 0.0

    def stage(self, name: str) -> None:
        """Begin a part of the run."""
        self._stage = name
        self._stage_began = time.monotonic()
        self._first_done = None
        self._next_line = 0.0
        self._offset = 0.0
        self._log.write("stage", stage=name)

    def part(self, offset: int) -> None:
        """Say that the next progress counts from `offset` images of this stage."""
        self._offset = offset

    def progress(self, progress: Progress) -> None:
        """Tell of images that were prepared, sent through the backbone or classified."""
        self._tell(self._offset + progress.done, progress.done == progress.total, progress.message)

    def step(self, report: StepReport) -> None:
        """Tell of a training step."""
        whole = self._work.parts[report.stage]
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
        """Tell of an epoch that is over."""
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
        if self._first_done is None:
            # A run that goes on did the rest of it earlier; speed counts from here.
            self._first_done, self._stage_began = done_in_stage, now
        if now < self._next_line and not last:
            return
        self._next_line = now + _INTERVAL
        done = self._before() + done_in_stage
        left = self._seconds_left(done_in_stage, done, now)
        whole = self._work.total
        self._log.write(
            "step",
            stage=self._stage,
            done=round(done),
            total=whole,
            seconds_left=None if left is None else round(left, 1),
            message=message,
            **fields,
        )
        self._on_progress(Progress(min(round(done), whole), whole, message))

    def _before(self) -> int:
        """Work of the stages before this one."""
        parts = self._work.parts
        names = list(parts)
        if self._stage not in names:
            return self._work.total
        return sum(parts[name] for name in names[: names.index(self._stage)])

    def _seconds_left(self, done_in_stage: float, done: float, now: float) -> float | None:
        gone, made = now - self._stage_began, done_in_stage - (self._first_done or 0)
        if gone < 1 or made <= 0:
            return None
        return gone / made * (self._work.total - done)
