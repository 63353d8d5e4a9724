"""Classify labelled images and compare the predictions with the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.counting import counted, marks_in_words
from napari_cellclf.core.evaluation import TOP_K, Evaluation
from napari_cellclf.core.predictions import Predictions, concatenate
from napari_cellclf.core.progress import OnProgress, ShouldStop, ignore_progress, never_stop
from napari_cellclf.core.seen_images import SeenImages, pixel_hashes
from napari_cellclf.errors import AxesError, CancelledError, DatasetError, NoImagesError
from napari_cellclf.io.masks import ObjectChoice, with_choice
from napari_cellclf.io.read import read_image
from napari_cellclf.io.sources import ImageSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.image import Image
    from napari_cellclf.core.objects import Plane
    from napari_cellclf.inference.classifier import Classifier

#: Takes the number of an image in the data set through the classifier.
_ROW = "row of the data set"
_MOST_NAMED = 5


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    *,
    name: str = "",
    role: str = "test",
    unknown: Literal["error", "ignore"] = "error",
    mapping: Mapping[str, str | None] | None = None,
    batch_size: int = 16,
    top_k: Iterable[int] = TOP_K,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Evaluation:
    """Classify every image of a data set and compare the predictions with its labels.

    Parameters
    ----------
    classifier : Classifier
        The model.
    dataset : Dataset
        Labelled images; all rows are taken: pass ``dataset.test`` to test. Its classes are matched
        with the model's by name.
    name : str
        What to call it in reports.
    role : str
        What the images were to the model: ``"train"``, ``"validation"``, ``"test"``,
        ``"leave-one-group-out"`` or ``"k-fold"``.
    unknown : {'error', 'ignore'}
        What to do about images of classes that the model does not know.
    mapping : mapping of str to (str or None), optional
        The model's channel to the images' channel where names do not decide, as for
        `Classifier.predict`.
    batch_size : int
        Images at a time.
    top_k : iterable of int
        Which k to report.
    on_progress : callable
        Told after every batch how many images are done.
    should_stop : callable
        Asked before every image.

    Returns
    -------
    Evaluation
        One row for each plane, in the order of the data set. Images that cannot be used are in
        `Evaluation.failed`.

    Raises
    ------
    DatasetError
        If a label is no class of the model.
    NoImagesError
        If there is no image, or none could be classified.
    CancelledError
        If `should_stop` said so.

    Examples
    --------
    >>> import napari_cellclf as cc
    >>> from napari_cellclf.core.dataset import Dataset
    >>> def check(model: str, images: Dataset) -> float:
    ...     return cc.evaluate(cc.load_classifier(model), images.test).accuracy
    """
    numbers, left_out = _match_classes(classifier, dataset, unknown)
    rows = [row for row in range(len(dataset)) if row not in left_out]
    if not rows:
        raise NoImagesError(
            f"there is no {dataset.noun} to evaluate on; choose another split of the data"
        )
    seen = _Recognised(classifier.bundle.seen_images())
    answered, failed = _classify(
        classifier,
        _sources(dataset, rows, seen),
        mapping=mapping,
        batch_size=batch_size,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    at = np.array([int(one[_ROW]) for part in answered for one in part.metadata])
    # Objects of one image were classified together, wherever their rows stand.
    order = np.argsort(at, kind="stable")
    at = at[order]
    spec = classifier.bundle.spec
    found = concatenate(answered)
    right = found.probabilities.argmax(axis=1)[order] == numbers[at]
    return Evaluation.from_probabilities(
        found.probabilities[order],
        numbers[at],
        _classes(spec.classes, dataset.classes),
        ids=_in_order(found.ids, order),
        groups=list(dataset.groups[at]),
        name=name,
        role=role,
        temperature=spec.temperature,
        unsure_threshold=spec.unsure_threshold,
        set_threshold=spec.set_threshold,
        top_k=tuple(top_k),
        seen_as=tuple(seen.splits.get(row, "") for row in at.tolist()),
        notes=_notes(dataset, left_out) + _marks(found, order, right, dataset.noun),
        failed=tuple(failed),
        noun=dataset.noun,
    )


def leak_warnings(dataset: Dataset) -> list[tuple[str, str]]:
    """Say whether a split puts one group on both sides."""
    leaks = dataset.leaks()
    if not leaks:
        return []
    what = f"{dataset.noun}s"
    sentence = (
        f"{what.capitalize()} of {counted(len(leaks), 'group')} ({dataset.group_column}: "
        f"{_listed(leaks)}) are on both sides of the "
        f"split: the model has seen {what} of the groups that it is tested on, and looks better "
        "than it is."
    )
    return [("error", sentence)]


class _Recognised:
    """Notes, as images are read, which of them the model was trained with."""

    def __init__(self, known: SeenImages) -> None:
        self._known = known
        #: The split of each row that the model has seen.
        self.splits: dict[int, str] = {}

    def read(self, path: str, rows: Mapping[Plane, Sequence[int]], naming: str | None) -> Image:
        """Read the image of some rows, given by their planes."""
        image = read_image(path, naming=naming)
        if self._known.splits:
            for index, some in rows.items():
                split = self._known.split_of(_hashes(image, index))
                if split:
                    self.splits |= dict.fromkeys(some, split)
        return image


def _hashes(image: Image, index: Plane) -> Iterator[str]:
    """Hash a plane of an image, or all of them; nothing of one that it lacks."""
    with suppress(AxesError):
        planes = [image.plane(dict(index))] if index else [plane for _, plane in image.planes()]
        yield from (one for plane in planes for one in pixel_hashes(plane))


def _sources(dataset: Dataset, rows: Sequence[int], seen: _Recognised) -> list[ImageSource]:
    """Make a source of each whole image, and of each other image with planes or objects of rows."""
    of_image: dict[tuple[str, str | None, bool, int], list[int]] = {}
    named: Counter[str] = Counter()
    for row in rows:
        # What several rows name is read for each: a whole image, and a plane of two labels.
        again = 0 if dataset.has_objects else named[dataset.plane_ids[row]]
        named[dataset.plane_ids[row]] += 1
        key = (dataset.paths[row], dataset.masks[row], bool(dataset.planes[row]), again)
        of_image.setdefault(key, []).append(row)
    sources = []
    for (path, mask, _, _), some in of_image.items():
        of_plane: dict[Plane, list[int]] = {}
        for row in some:
            of_plane.setdefault(dataset.planes[row], []).append(row)
        source = ImageSource(
            path,
            {} if dataset.has_objects else {_ROW: some[0]},
            read=partial(seen.read, path, of_plane, dataset.naming),
            planes={plane: {_ROW: own[0]} for plane, own in of_plane.items() if plane},
        )
        objects = ((row, dataset.objects[row]) for row in some)
        chosen = tuple(replace(one, fields={_ROW: row}) for row, one in objects if one is not None)
        sources.append(with_choice(source, ObjectChoice(mask, chosen)) if chosen else source)
    return sources


def _in_order(names: Sequence[str], order: NDArray[np.intp]) -> list[str]:
    return [names[place] for place in order]


def _classify(
    classifier: Classifier, sources: list[ImageSource], *, should_stop: ShouldStop, **how: Any
) -> tuple[list[Predictions], list[tuple[str, str]]]:
    """Return the answers, and the images that could not be classified with the reasons."""
    answered: list[Predictions] = []
    failed: list[tuple[str, str]] = []
    for answer in classifier.predict_sources(sources, should_stop=should_stop, **how):
        if isinstance(answer, Predictions):
            answered.append(answer)
        else:
            failed.append((answer.id, answer.reason))
    # Asked again, since the classifier ends without a word where it was told to stop.
    if should_stop():
        raise CancelledError("the evaluation was stopped as asked; start it again to finish")
    if not answered:
        raise NoImagesError(
            f"none of the {counted(len(sources), 'image')} could be classified; the first: "
            f"{failed[0][1]}"
        )
    return answered, failed


def _match_classes(
    classifier: Classifier, dataset: Dataset, unknown: str
) -> tuple[NDArray[np.int64], set[int]]:
    """Return the model's class number of each row, and the rows that it has none for."""
    numbers = {name: number for number, name in enumerate(classifier.classes)}
    labels = [dataset.class_names[label] for label in dataset.labels]
    left_out = {row for row, label in enumerate(labels) if label not in numbers}
    if left_out and unknown == "error":
        strange = list(dict.fromkeys(labels[row] for row in sorted(left_out)))
        raise DatasetError(
            f"{len(left_out):,} of {counted(len(labels), dataset.noun)} are of classes that "
            f"{classifier.name} does "
            f"not know ({_listed(strange)}; it knows {_listed(classifier.classes)}); choose "
            'another column of labels, or leave them out (unknown="ignore", --ignore-unknown)'
        )
    return np.array([numbers.get(label, -1) for label in labels], np.int64), left_out


def _classes(model: Iterable[ClassSpec], data: Iterable[ClassSpec]) -> list[ClassSpec]:
    """Return the model's classes, on the data's scale where the model does not know of one."""
    known = {spec.name: spec for spec in data}
    return [known.get(one.name, one) if one.value is None else one for one in model]


def _notes(dataset: Dataset, left_out: set[int]) -> tuple[str, ...]:
    if not left_out:
        return ()
    strange = list(dict.fromkeys(dataset.class_names[dataset.labels[r]] for r in sorted(left_out)))
    return (
        f"{counted(len(left_out), dataset.noun)} of classes that the model does not know "
        f"({_listed(strange)}) {'was' if len(left_out) == 1 else 'were'} left out.",
    )


def _marks(
    found: Predictions, order: NDArray[np.intp], right: NDArray[np.bool_], noun: str
) -> tuple[str, ...]:
    """Say how many images are unlike anything in training or have remarks, and how it does there.

    `order`: of the predictions. `right`: which of them, in this order, are right.
    """
    unlike = None if found.unlike is None else found.unlike[order]
    remarked = sum(map(bool, found.remarks))
    marks = marks_in_words(0 if unlike is None else int(unlike.sum()), remarked, len(right), noun)
    parts = [] if unlike is None else [(unlike, "of the unlike ones"), (~unlike, "of the others")]
    accuracies = [f"{which} {right[rows].mean():.1%}" for rows, which in parts if rows.any()]
    if not marks and not accuracies:
        return ()
    marks = marks or f"none of {counted(len(right), noun)} is unlike anything in training"
    told = f"; {', '.join(accuracies)} are predicted right" if len(accuracies) == 2 else ""
    return (f"{marks[:1].upper()}{marks[1:]}{told.replace('%', ' %')}.",)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _MOST_NAMED} more" if len(every) > _MOST_NAMED else ""
    return ", ".join(every[:_MOST_NAMED]) + more
