"""The work behind the button, in a thread: load the model, read, classify, tell.

The thread reads and prepares the images; the network itself runs in a child process.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.predictions import Predictions
from napari_cellclf.core.progress import Progress
from napari_cellclf.plugin.classify.model_process import ModelProcess
from napari_cellclf.plugin.classify.request import ClassifyRequest

if TYPE_CHECKING:
    from napari_cellclf.inference.prepare import BadImage
    from napari_cellclf.io.sources import ImageSource

LOADING = "Loading the model (the first time takes a little longer)…"


@dataclass(frozen=True)
class Status:
    """A line for the status label."""

    #: What is being done.
    text: str


@dataclass(frozen=True)
class Row:
    """One image's answer."""

    #: A row of the table, see `Predictions.record`; only ``image`` for one that failed.
    record: dict[str, Any]
    #: All classes and their probabilities, best first.
    top: tuple[tuple[str, float], ...] = ()
    #: Why there is no answer; empty if there is one.
    error: str = ""

    @property
    def is_unsure(self) -> bool:
        """Whether the confidence is below the model's threshold, if it has one."""
        return self.record.get("unsure") is True


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    done: int
    failed: int
    total: int
    #: Whether the user stopped it.
    cancelled: bool
    #: Where the network ran.
    device: str = ""


@dataclass(frozen=True)
class Job:
    """A request with the pixels it is about."""

    #: What to do.
    request: ClassifyRequest
    #: The data of the request's layers; empty for a folder.
    arrays: tuple[Any, ...]
    #: Where the model may be already.
    model: ModelProcess
    #: Set to end the work after the batch in hand.
    stop: threading.Event = field(default_factory=threading.Event)


def classify(job: Job) -> Generator[Status | Progress | Row, None, Summary]:
    """Do a job, telling of it as it goes."""
    yield Status(LOADING)
    classifier = job.model.get(job.request.model, job.stop.is_set)
    yield Status("Listing the images…")
    sources = _sources(job)
    total = len(sources)
    threshold = classifier.bundle.spec.unsure_threshold
    yield Status(f"Classifying {total} image{'s' * (total != 1)} on {classifier.device}…")
    yield Progress(0, total)
    told: list[Progress] = []
    done = failed = 0
    for answer in classifier.predict_sources(
        sources, on_progress=told.append, should_stop=job.stop.is_set
    ):
        yield from told
        told.clear()
        for row in to_rows(answer, threshold):
            failed += bool(row.error)
            done += not row.error
            yield row
    # predict_sources ends early and without a word when it is asked to stop.
    return Summary(done, failed, total, job.stop.is_set(), classifier.device)


def to_rows(answer: Predictions | BadImage, unsure_below: float | None = None) -> list[Row]:
    """Turn what the classifier yields into rows."""
    if not isinstance(answer, Predictions):
        return [Row({"image": answer.id}, error=answer.reason)]
    count = len(answer.classes)
    return [
        Row(
            answer.record(index) | answer.unsure_column(index, unsure_below),
            tuple(answer.top_k(count, index)),
        )
        for index in range(len(answer))
    ]


def _sources(job: Job) -> Sequence[ImageSource]:
    if job.request.folder is not None:
        from napari_cellclf.io.sources import collect_sources

        return collect_sources([job.request.folder])
    from napari_cellclf.plugin.classify.pixels import plane_sources

    return plane_sources(job.request, job.arrays)
