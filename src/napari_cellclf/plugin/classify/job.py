"""The work behind the button: load the model, read, classify and report, in a thread.

The thread reads and prepares the images; the network itself runs in a child process.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_cellclf.core.collection import Collection, row_id
from napari_cellclf.core.counting import counted
from napari_cellclf.core.image import Image
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.core.progress import Progress, ShouldStop, never_stop
from napari_cellclf.errors import CancelledError, CellclfError
from napari_cellclf.inference.process_engine import ProcessEngine
from napari_cellclf.plugin.classify.object_features import Position
from napari_cellclf.plugin.classify.objects import ObjectsSource, placed
from napari_cellclf.plugin.classify.request import ClassifyRequest, ModelChoice
from napari_cellclf.plugin.shared.background import end_with_python
from napari_cellclf.plugin.shared.messages import device_in_words, explain

if TYPE_CHECKING:
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.inference.prepare import BadImage
    from napari_cellclf.io.sources import ImageSource, OnNote


LOADING = "Loading the model (the first time takes a little longer)…"


@dataclass(frozen=True)
class Status:
    """A line for the status label."""

    #: What is being done.
    text: str


@dataclass(frozen=True)
class ImageResult:
    """One image's prediction."""

    #: A row of the table, see `Predictions.record`; only ``image`` for one that failed.
    record: dict[str, Any]
    #: All classes and their probabilities, best first.
    top: tuple[tuple[str, float], ...] = ()
    #: Why there is no prediction; empty if there is one.
    error: str = ""
    #: The plane that an object is on; None for a whole image.
    position: Position | None = None
    #: The classes that it may be of, the most probable first; None where the model cannot say.
    prediction_set: tuple[str, ...] | None = None

    @property
    def is_unsure(self) -> bool:
        """Whether the confidence is below the model's threshold, if it has one."""
        return self.record.get("unsure") is True

    @property
    def unlike_score(self) -> float | None:
        """How unlike it is to the images of training, with 1 as the limit; None if not known."""
        score: float | None = self.record.get("unlike_score")
        return score

    @property
    def remarks(self) -> tuple[str, ...]:
        """What checks of its pixels found."""
        return tuple(filter(None, str(self.record.get("remarks", "")).split("; ")))


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
    #: What was left out, a sentence each.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A request with the pixels it is about."""

    #: What to do.
    request: ClassifyRequest
    #: The data of the request's layers; empty for a folder.
    arrays: tuple[Any, ...]
    #: Where the model may be already.
    model: ModelProcess
    #: The objects to classify, for a model of objects.
    objects: ObjectsSource | None = None
    #: Set to end the work after the batch in hand.
    stop: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def planes(self) -> dict[str, Position]:
        """Where each plane of the image is by its name."""
        from napari_cellclf.plugin.classify.pixels import plane_ids

        if self.request.collection is not None:
            return {
                row_id(row.source, dict(row.plane)): tuple(index for _, index in row.plane)
                for row in self.request.collection.rows
            }
        return {} if self.request.image is None else plane_ids(self.request.image)


def classify(job: Job) -> Generator[Status | Progress | ImageResult, None, Summary]:
    """Do a job, telling of it as it goes."""
    yield Status(LOADING)
    compiling = threading.Thread(target=_compile_colours, args=(job.objects,))
    compiling.start()
    classifier = job.model.get(job.request.model, job.stop.is_set)
    yield Status("Listing the images…")
    notes: list[str] = []
    sources = _sources(job, classifier.bundle.spec.training.naming, notes.append)
    total = len(sources)
    threshold = classifier.bundle.spec.unsure_threshold
    where = device_in_words(classifier.device)
    yield Status(f"Classifying {counted(total, 'image')} on {where}…")
    yield Progress(0, total)
    told: list[Progress] = []
    done = failed = 0
    for prediction in classifier.predict_sources(
        sources, on_progress=told.append, should_stop=job.stop.is_set
    ):
        yield from told
        told.clear()
        for row in _placed(job, image_results(prediction, threshold)):
            failed += bool(row.error)
            done += not row.error
            yield row
    # The layer is coloured at the end, in the window's thread.
    compiling.join()
    # predict_sources ends early and without a word when it is asked to stop.
    return Summary(done, failed, total, job.stop.is_set(), classifier.device, tuple(notes))


def _compile_colours(objects: ObjectsSource | None) -> None:
    if objects is not None and objects.choice.kind == "labels":
        from napari_cellclf.plugin.classify.labels_layer import compile_colours

        compile_colours(np.dtype(objects.data.dtype))


def image_results(
    prediction: Predictions | BadImage, unsure_below: float | None = None
) -> list[ImageResult]:
    """Turn what the classifier yields into rows."""
    if not isinstance(prediction, Predictions):
        return [ImageResult({"image": prediction.id}, error=prediction.reason)]
    count, sets = len(prediction.classes), prediction.sets
    return [
        ImageResult(
            prediction.record(index) | prediction.unsure_column(index, unsure_below),
            tuple(prediction.top_k(count, index)),
            prediction_set=None if sets is None else sets[index],
        )
        for index in range(len(prediction))
    ]


def _sources(job: Job, recorded: str | None, on_note: OnNote) -> Sequence[ImageSource]:
    if job.request.folder is not None:
        from napari_cellclf.io.masks import find_objects, refuse_objects
        from napari_cellclf.io.named_images import fitting_naming
        from napari_cellclf.io.sources import collect_sources

        folder, naming, model = job.request.folder, job.request.naming, job.request.model
        if naming is None:
            naming = fitting_naming(recorded, [Path(folder)])
        sources = collect_sources([folder], naming, on_note=on_note)
        if model.object_crop is None:
            refuse_objects(sources, model.title)
            return sources
        return find_objects(sources, job.request.masks, inputs=[folder], on_note=on_note)
    if job.request.collection is not None:
        return collection_sources(job.request.collection)
    from napari_cellclf.plugin.classify.pixels import plane_sources

    return plane_sources(job.request, job.arrays, job.objects)


def collection_sources(collection: Collection) -> list[ImageSource]:
    """Make one source of each plane that rows are of, with its objects where rows are objects."""
    from napari_cellclf.io.sources import ImageSource

    planes: dict[str, list[int]] = {}
    for number, row in enumerate(collection.rows):
        planes.setdefault(row_id(row.source, dict(row.plane)), []).append(number)

    def read(numbers: list[int]) -> Image:
        image = collection.read(numbers[0])
        objects = [collection.rows[number].object for number in numbers]
        found = tuple(one for one in objects if one is not None)
        return replace(image, objects=found if collection.has_objects else None)

    return [
        ImageSource(name, dict(collection.rows[numbers[0]].fields), read=partial(read, numbers))
        for name, numbers in planes.items()
    ]


def _placed(job: Job, rows: list[ImageResult]) -> list[ImageResult]:
    """Say of objects on which plane they are."""
    of_rows = job.request.collection is not None and job.request.collection.has_objects
    if job.objects is None and not of_rows:
        return rows
    found = [(row, *placed(row.record, job.planes)) for row in rows]
    return [replace(row, record=record, position=position) for row, record, position in found]


class JobRunner(QObject):
    """Runs a job in a thread and tells of it in the GUI's thread.

    napari's own worker is not used: it also reports to the window that was current when it was
    made, which fails when that window has been closed, and raises once more what a job raised.
    """

    status = Signal(object)
    progress = Signal(object)
    row = Signal(object)
    #: How the job ended, if it ended well or was stopped.
    ended = Signal(object)
    #: One sentence, if it did not.
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None

    @property
    def running(self) -> bool:
        """Whether a job is on."""
        return self._job is not None

    def start(self, job: Job) -> None:
        """Start a job; the one before must have ended."""
        self._job = job
        end_with_python(job.stop)
        worker = create_worker(classify, job, _start_thread=False, _ignore_errors=True)
        worker.yielded.connect(self._on_yield)
        worker.returned.connect(self._on_return)
        worker.errored.connect(self._on_error)
        worker.start()

    def stop(self) -> None:
        """Ask the job to end after the batch in hand; it will still tell how it ended."""
        if self._job is not None:
            self._job.stop.set()

    def _on_yield(self, told: Status | Progress | ImageResult) -> None:
        if isinstance(told, Status):
            self.status.emit(told)
        elif isinstance(told, Progress):
            self.progress.emit(told)
        else:
            self.row.emit(told)

    def _on_return(self, summary: Summary) -> None:
        self._job = None
        self.ended.emit(summary)

    def _on_error(self, error: Exception) -> None:
        self._job = None
        if isinstance(error, CancelledError):
            self.ended.emit(Summary(0, 0, 0, cancelled=True))
            return
        self.failed.emit(explain(error))


class ModelProcess:
    """The model that was used last, kept running so that a second click need not load it again."""

    def __init__(self) -> None:
        self._engine: ProcessEngine | None = None
        self._classifier: Classifier | None = None
        self._lock = threading.Lock()
        self._shut = False

    def get(self, model: ModelChoice, should_stop: ShouldStop = never_stop) -> Classifier:
        """Return a classifier, loaded if need be."""
        from napari_cellclf.bundles.bundle import ModelBundle, read_spec
        from napari_cellclf.bundles.catalogue import find_model
        from napari_cellclf.inference.classifier import Classifier
        from napari_cellclf.inference.remote import connect

        if model.is_remote:
            return connect(model.reference, model.token)
        with self._lock:
            path = find_model(model.reference)
            known = self._classifier
            # The same name may stand for another model by now; its files' hashes tell.
            if known is not None and not self.is_idle() and known.bundle.spec == read_spec(path):
                return known
            self.close()
            bundle = ModelBundle.load(path)
            engine = self._engine = ProcessEngine(model.reference)
            # Whoever stopped before this line found no process to end; after it he ends this one.
            if self._shut or should_stop():
                self.close()
            try:
                engine.wait_until_ready()
            except (CellclfError, MemoryError):
                self.close()
                raise
            self._classifier = Classifier(bundle, engine)
            return self._classifier

    def is_idle(self) -> bool:
        """Whether no process is running."""
        engine = self._engine
        return engine is None or not engine.is_alive()

    def close(self) -> None:
        """End the model's process, whatever it is doing; it starts again when it is asked for."""
        engine, self._engine = self._engine, None
        self._classifier = None
        if engine is not None:
            engine.close()

    def shut_down(self) -> None:
        """End the model's process for good."""
        self._shut = True
        self.close()
