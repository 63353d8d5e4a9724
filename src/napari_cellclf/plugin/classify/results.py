"""What was predicted, for which image, and where along a stack it belongs: no napari, no Qt."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from napari_cellclf.core.collection import Collection
from napari_cellclf.core.counting import counted, marks_in_words
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.errors import InputError
from napari_cellclf.plugin.classify.job import ImageResult, Summary
from napari_cellclf.plugin.classify.object_features import ObjectPredictions, Position
from napari_cellclf.plugin.classify.objects import ObjectsSource
from napari_cellclf.plugin.classify.pixels import positions
from napari_cellclf.plugin.classify.request import ClassifyRequest
from napari_cellclf.plugin.gallery.predicted_rows import NONE, PredictedRows
from napari_cellclf.plugin.shared.messages import device_in_words, percent, set_in_words

_Told: TypeAlias = tuple[int, float, bool, float, tuple[str, ...], tuple[str, ...]]


@dataclass
class Results:
    """The predictions of one run, filled as they come."""

    #: What was asked.
    request: ClassifyRequest
    #: One an image, in the order of the images.
    rows: list[ImageResult] = field(default_factory=list)
    #: What a folder holds, once it has been looked through; or the rows that were classified.
    collection: Collection | None = None
    #: Corrections of its rows, unless the bench keeps them.
    book: LabelBook = field(default_factory=LabelBook)
    #: The objects that were classified, for a model of objects.
    source: ObjectsSource | None = None
    #: Class, confidence, "unsure", unlike score, remarks and prediction set of the first rows, so
    #: that a row is looked at once.
    _told: list[_Told] = field(default_factory=list, init=False, repr=False)

    _places: dict[tuple[Position | None, int], int] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        image = self.request.image
        self._positions = [] if image is None else positions(image)
        self._numbers = {position: number for number, position in enumerate(self._positions)}

    @property
    def is_stack(self) -> bool:
        """Whether there is more than one image: a table is worth showing."""
        request = self.request
        return request.image is None or bool(request.image.planes) or self.of_objects

    @property
    def of_objects(self) -> bool:
        """Whether the rows are the objects of a layer."""
        return self.request.objects is not None

    @property
    def noun(self) -> str:
        """What a row is."""
        return "image" if self.request.model.object_crop is None else "object"

    @property
    def title(self) -> str:
        """What was classified: a layer of objects, an image or a folder."""
        if self.request.objects is not None:
            return self.request.objects.name
        return "The image" if self.request.image is None else self.request.image.title

    @property
    def keys(self) -> frozenset[Hashable]:
        """Identities of the layers that were classified; empty for a folder."""
        objects = self.request.objects
        own = frozenset() if objects is None else frozenset([objects.key])
        return own if self.request.image is None else self.request.image.keys | own

    @property
    def classes(self) -> tuple[str, ...]:
        """The model's classes."""
        return self.request.model.classes

    def told(self) -> list[_Told]:
        """Return for each row what `_told` says; the score is NaN where there is none."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        self._told += [
            (NONE, 0.0, False, np.nan, (), ())
            if row.error
            else (
                numbers[row.top[0][0]],
                row.top[0][1],
                row.is_unsure,
                np.nan if row.unlike_score is None else row.unlike_score,
                row.remarks,
                row.prediction_set or (),
            )
            for row in self.rows[len(self._told) :]
        ]
        return self._told

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows of the table to save, without images that failed."""
        return [row.record for row in self.rows if not row.error]

    def position(self, number: int) -> Position | None:
        """Return where along the stack a row belongs, None for a folder's rows."""
        if self.of_objects:
            return self.rows[number].position
        return self._positions[number] if number < len(self._positions) else None

    def at(self, position: Position) -> int | None:
        """Return the number of the row at a position, None where there is no prediction (yet)."""
        number = None if self.of_objects else self._numbers.get(position)
        return number if number is not None and number < len(self.rows) else None

    def row_of(self, position: Position | None, number: int) -> int | None:
        """Return the number of the row of an object on a plane."""
        for row in range(len(self._places), len(self.rows)):
            one = self.rows[row]
            self._places[one.position, one.record.get("object", -row - 1)] = row
        return self._places.get((position, number))


def predicted_rows(results: Results) -> PredictedRows:
    """Return the predictions that there are, as the table takes them."""
    told = results.told()
    columns = zip(*told, strict=True) if told else [()] * 6
    predicted, confidence, unsure, scores, remarks, sets = columns
    rows = results.rows
    says = any("unlike" in row.record for row in rows)
    return PredictedRows(
        results.classes,
        [str(row.record["image"]) for row in rows],
        np.array(predicted, np.int64),
        np.array(confidence, np.float32),
        np.array(unsure, bool),
        np.full(len(told), NONE),
        unlike_scores=np.array(scores, np.float32) if says else None,
        remarks=remarks,
        sets=sets if any(sets) else None,
        title=results.noun.capitalize(),
        name=lambda number: plane_name(results, number),
        hint=lambda number: _hint(rows[number]),
    )


def predictions_of(results: Results, rows: Sequence[ImageResult]) -> Predictions:
    """Return rows that were classified as the console has them."""
    names = [f"p_{name}" for name in results.classes]
    probabilities = [[row.record[name] for name in names] for row in rows]
    scores, sets = [row.unlike_score for row in rows], results.request.model.prediction_sets
    return Predictions(
        np.array(probabilities, np.float32).reshape(-1, len(names)),
        results.classes,
        tuple(str(row.record["image"]) for row in rows),
        unlike_scores=None if None in scores or not rows else np.array(scores, np.float32),
        remarks=tuple(row.remarks for row in rows),
        set_threshold=None if sets is None else sets.threshold,
    )


def object_predictions(results: Results) -> ObjectPredictions:
    """Return the predictions of objects, as the layer that they are of takes them."""
    image, rows = results.request.image, [row for row in results.rows if not row.error]
    has_threshold = any("unsure" in row.record for row in rows)
    return ObjectPredictions(
        predictions_of(results, rows),
        tuple(row.position or () for row in rows),
        np.array([row.record["object"] for row in rows], np.int64),
        np.array([row.is_unsure for row in rows], bool) if has_threshold else None,
        () if image is None else tuple(image.axes[axis].lower() for axis in image.leading),
    )


def _hint(row: ImageResult) -> str:
    if row.error:
        return row.error
    best = "\n".join(f"{label}: {percent(value)}" for label, value in row.top[:3])
    return "\n".join([f"{row.record['image']}\n{best}", *doubts(row)])


def canvas_text(results: Results | None, number: int | None) -> str:
    """Write a prediction for the canvas."""
    if results is None or number is None or results.request.image is None:
        return ""
    row = results.rows[number]
    below = full_name(results, number)
    if row.error:
        return f"not classified\n{below}"
    return f"{winner(row)}\n{below}"


def winner(row: ImageResult) -> str:
    """Write the best class of a prediction."""
    label, probability = row.top[0]
    marks = [", unsure" if row.is_unsure else "", ", unlike" if row.record.get("unlike") else ""]
    return f"{label}  {percent(probability)}{''.join(marks)}"


def may_be(results: Results, row: ImageResult) -> str:
    """Write which classes an image may be of; empty where the model cannot say.

    Behind them stands the fraction of such sets that hold the true class, unless the image is
    unlike those that this was promised for.
    """
    sets = results.request.model.prediction_sets
    if row.prediction_set is None or sets is None:
        return ""
    promise = f"{sets.coverage * 100:.3g} %"
    if row.record.get("unlike"):
        promise = f"not {promise}: unlike anything in training"
    return f"one of: {set_in_words(row.prediction_set)} ({promise})"


def doubts(row: ImageResult) -> list[str]:
    """Say in lines what is against a prediction, and what to do about it."""
    lines = []
    if row.record.get("unlike"):
        lines.append(
            f"Unlike anything in training (score {row.unlike_score:.2f}; 1 is the limit): do not "
            "rely on the class. Check channels, stain and magnification, or train with such images."
        )
    return [*lines, *(f"Check the image: {remark}." for remark in row.remarks)]


def full_name(results: Results, number: int) -> str:
    """Name what a row is about: the image, and which plane of it."""
    title = "" if results.request.image is None else results.title
    if not results.is_stack:
        return title
    where = plane_name(results, number)
    return f"{title}: {where}" if title and title not in where else where


def plane_name(results: Results, number: int) -> str:
    """Name a row in a few words."""
    image = results.request.image
    record = results.rows[number].record
    own = f"object {record['object']}" if "object" in record and image is not None else ""
    position = results.position(number)
    if own and not position:
        return own
    where = _plane_name(results, record, position)
    return f"{where}, {own}" if own else where


def _plane_name(results: Results, record: dict[str, Any], position: Position | None) -> str:
    image = results.request.image
    described = _describe(record)
    if described:
        return described
    if image is None or not position:
        return _below(results.request.folder, str(record["image"]))
    if image.files:
        return _below(image.path, str(record["image"]))
    names = [AXIS_WORDS.get(image.axes[axis], image.axes[axis].lower()) for axis in image.leading]
    return ", ".join(f"{name} {index}" for name, index in zip(names, position, strict=True))


_PLACE = re.compile(r"(.+)\[((?:[a-z]|object)=\d+(?:,(?:[a-z]|object)=\d+)*)\]")


def file_and_plane(identity: str) -> tuple[Path, dict[str, int]]:
    """Take apart what the row of a folder is called: its file, and the plane in it.

    Examples
    --------
    >>> path, plane = file_and_plane("a/movie.tif[t=3,z=1]")
    >>> path.as_posix(), plane
    ('a/movie.tif', {'T': 3, 'Z': 1})
    >>> file_and_plane("a.tif[object=12]")[1]
    {}
    """
    match = _PLACE.fullmatch(identity)
    if match is None or Path(identity).exists():
        return Path(identity), {}
    steps = (step.split("=") for step in match[2].split(","))
    return Path(match[1]), {axis.upper(): int(at) for axis, at in steps if axis != "object"}


#: Words for the axes that have one.
AXIS_WORDS = {"T": "time", "Z": "z", "P": "site", "I": "plane"}


#: Of a single image, what is told in the metadata of its layers besides the probabilities.
_SAID = ("unsure", "unlike", "unlike_score", "remarks")


def layer_summary(results: Results) -> dict[str, Any]:
    """Return what is written into the metadata of each layer that was used."""
    summary: dict[str, Any] = {
        "model": results.request.model.reference,
        "channels": results.request.mapping,
        "classes": list(results.classes),
        "rows": results.records,
    }
    if not results.is_stack and results.records:
        row = results.rows[0]
        summary |= {
            "label": row.top[0][0],
            "confidence": row.top[0][1],
            "probabilities": dict(row.top),
        } | {key: row.record[key] for key in _SAID if key in row.record}
    return summary


def save_table(results: Results, path: str, *, sets: bool = False) -> None:
    """Write the predictions as CSV, the same table as the command line's.

    `sets`: whether with prediction sets, where the model can say.
    """
    from napari_cellclf.io.tables import said_columns, write_records

    if not results.records:
        raise InputError(f"none of the {results.noun}s was classified, so there is no row to write")
    # Where the command line has it; what else there is comes behind.
    first = results.records[0]
    sets = sets and results.request.model.prediction_sets is not None
    extra = said_columns(unsure="unsure" in first, unlike="unlike" in first, sets=sets)
    rows = [row for row in results.rows if not row.error]
    records = [
        row.record | ({"prediction_set": "; ".join(row.prediction_set or ())} if sets else {})
        for row in rows
    ]
    write_records(path, results.classes, extra, records)


def summary_message(
    results: Results,
    summary: Summary,
    seconds: float,
    *,
    removed: bool = False,
    shown: bool = True,
) -> str:
    """Say how a run ended.

    `removed`: whether the image was; `shown`: whether the form still asks what the run was about.
    """
    noun = results.noun
    images = counted(summary.done, noun)
    if summary.cancelled and results.of_objects:
        text = f"Stopped: {images} {'was' if summary.done == 1 else 'were'} classified."
    elif summary.cancelled:
        of_all = f"{summary.done:,} of {counted(summary.total, noun)}"
        text = f"Stopped: {of_all} {'was' if summary.done == 1 else 'were'} classified."
    else:
        text = f"Classified {images} in {seconds:.1f} s on {device_in_words(summary.device)}."
    if summary.failed == 1 and summary.total == 1:
        text = f"The image was not classified: {results.rows[0].error}"
    elif summary.failed and not summary.done and not summary.cancelled:
        text = (
            f"None of the {counted(summary.failed, noun)} could be classified; hold the mouse over"
        )
        text += " their rows to see why."
    elif summary.failed:
        listed = results.request.image is None and bool(results.records)
        rows = "its row" if summary.failed == 1 else "their rows"
        where = "open Not classified" if listed else f"hold the mouse over {rows}"
        text += f" {summary.failed:,} could not be; {where} to see why."
    good = [row for row in results.rows if not row.error]
    unlike = sum(bool(row.record.get("unlike")) for row in good)
    marks = marks_in_words(unlike, sum(bool(row.remarks) for row in good), len(good), noun)
    text += f" {marks}." if marks and results.is_stack else ""
    if removed:
        text += (
            f" {results.title} was removed meanwhile; its predictions are only here, to be saved."
        )
    text += "".join(f" {note[:1].upper()}{note[1:]}." for note in summary.notes)
    return text if shown or removed else text + where_kept(results)


def where_kept(results: Results) -> str:
    """Say what to choose to see predictions that are not shown."""
    request = results.request
    subject = request.folder if request.image is None else results.title
    if request.collection is not None:
        subject = request.collection.title
    return f" To see the predictions, choose {request.model.title} and {subject} as they were."


def failure_message(results: Results | None, message: str, *, shown: bool) -> str:
    """Say why a run failed, and that what was predicted before is kept."""
    count = 0 if results is None else len(results.records)
    if results is None or not count:
        return message
    kept = counted(count, f"{results.noun} was", f"{results.noun}s were")
    text = f"{message} Before that, {kept} classified; these predictions are kept."
    return text if shown else text + where_kept(results)


def _describe(record: dict[str, Any]) -> str:
    if "well" in record and "site" in record:
        place = [str(record[key]) for key in ("experiment",) if record.get(key)]
        place += [f"Plate{record['plate']}"] if record.get("plate") is not None else []
        return " ".join([*place, str(record["well"]), f"s{record['site']}"])
    if record.get("minute") is not None:
        embryo = record.get("embryo")
        return f"{record['minute']} min" + ("" if embryo is None else f", embryo {embryo}")
    return ""


def _below(folder: str | None, identity: str) -> str:
    """Name a file by its path below the folder: files of many plates may have one name."""
    path = identity.replace("\\", "/")
    above = "" if folder is None else folder.replace("\\", "/").rstrip("/") + "/"
    return path[len(above) :] if above and path.startswith(above) else path.rsplit("/", 1)[-1]


class ResultsBook:
    """The latest predictions for each question: model, image or folder, and channels."""

    def __init__(self) -> None:
        self.running: Results | None = None
        #: Of an image that was removed while it was classified; shown until something is chosen.
        self.orphan: Results | None = None
        self._known: dict[Hashable, Results] = {}

    def begin(self, results: Results) -> None:
        """Take up the predictions of a job that starts, in place of those for the same question."""
        self.running = results
        self.orphan = None
        self._known[results.request.question] = results

    def end(self, *, removed: bool = False) -> Results | None:
        """Note that the job has ended."""
        results, self.running = self.running, None
        self.orphan = results if removed else None
        return results

    def fail(self) -> Results | None:
        """Note that the job has failed; what it predicted before is kept."""
        results = self.end()
        if results is not None and not results.rows:
            self._known.pop(results.request.question, None)
        return results

    def forget_others(self, layers: Iterable[Hashable]) -> None:
        """Forget predictions for images of which a layer is not among those given."""
        kept = frozenset(layers)
        self._known = {asked: one for asked, one in self._known.items() if one.keys <= kept}

    def find(self, question: Hashable) -> Results | None:
        """Return the predictions that belong to what is asked now."""
        return self.orphan or self._known.get(question)
