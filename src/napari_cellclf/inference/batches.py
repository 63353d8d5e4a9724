"""Rows of one shape computed together, and answers in the order of the rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_cellclf.core.predictions import Predictions
from napari_cellclf.inference.prepare import BadImage, NoObjects, Prepared, PreparedPlane

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A batch is cut short where its pixels would take more memory than this, in bytes.
MAX_BATCH_BYTES = 1 << 27
#: Batches that may wait for others of their shape.
_WAITING = 4


@dataclass(frozen=True, eq=False)
class PlaneAnswer:
    """What a model answers about one plane or object.

    `probabilities`: ndarray, shape (K,), float32.
    """

    probabilities: NDArray[np.float32]
    #: Above 1 it is unlike anything in training; None where the model cannot say.
    unlike_score: float | None = None
    #: What was found by computing it, besides what plain checks of its pixels found.
    remarks: tuple[str, ...] = ()


#: The answer about a row, or why there is none.
PlaneResult: TypeAlias = PlaneAnswer | BadImage
_Result: TypeAlias = PlaneAnswer | BadImage | NoObjects


@dataclass(frozen=True)
class FinishedImages:
    """The predictions for the next images of a stream."""

    #: Of one or more planes that follow one another.
    answer: Predictions | BadImage
    #: Steps of progress (images of a stream) that are finished, these included.
    done: int
    #: Whether it ends with the last plane of an image, so that what was delivered so far is
    #: exactly the answers to `done` images.
    between: bool
    #: The first image in it whose channels have no names and were taken in their order.
    by_order: str | None = None
    #: The plane without objects that the answer, without rows, is for.
    empty: str | None = None

    @property
    def last(self) -> str:
        """The id of the last plane in it."""
        if self.empty is not None:
            return self.empty
        return self.answer.id if isinstance(self.answer, BadImage) else self.answer.ids[-1]


@dataclass
class _Place:
    """A row that waits for its answer, or for those before it."""

    id: str
    metadata: Mapping[str, Any]
    finishes: int
    by_order: str | None
    row: PreparedPlane | None
    answer: _Result | None = None
    remarks: tuple[str, ...] = ()


class Batches:
    """Puts rows into batches of one shape.

    A row waits until there is a batch of its shape, but not longer than for four batches.

    `compute`: answers a list of rows of one shape.
    """

    def __init__(
        self,
        compute: Callable[[list[PreparedPlane]], Sequence[PlaneResult]],
        batch_size: int,
        classes: tuple[str, ...],
        model: str,
        set_threshold: float | None = None,
    ) -> None:
        self._compute = compute
        self._batch_size = batch_size
        self._classes = classes
        self._model = model
        self._set_threshold = set_threshold
        self._places: deque[_Place] = deque()
        self._groups: dict[tuple[int, ...], list[_Place]] = {}
        self._waiting_bytes = 0
        self._done = 0

    def add(self, row: Prepared) -> Iterator[FinishedImages]:
        """Take a row."""
        if isinstance(row, BadImage | NoObjects):
            self._places.append(_Place(row.id, {}, row.finishes, None, None, row))
        else:
            self._put(row)
        # Bad images, too, wait for those before them: however many there are, not for longer.
        if len(self._places) >= _WAITING * self._batch_size and self._places[0].row is not None:
            self._compute_oldest()
        yield from self._deliver()

    def finish(self) -> Iterator[FinishedImages]:
        """Compute what is left."""
        while self._places:
            self._compute_oldest()
            yield from self._deliver()

    def _put(self, row: PreparedPlane) -> None:
        place = _Place(row.id, row.metadata, row.finishes, row.by_order, row, remarks=row.remarks)
        self._places.append(place)
        group = self._groups.setdefault(row.pixels.shape, [])
        group.append(place)
        self._waiting_bytes += row.nbytes
        if len(group) >= self._batch_size or (len(group) + 1) * row.nbytes > MAX_BATCH_BYTES:
            self._answer(row.pixels.shape)
        elif self._waiting_bytes > MAX_BATCH_BYTES:
            self._compute_oldest()

    def _compute_oldest(self) -> None:
        oldest = self._places[0].row
        assert oldest is not None  # those that are answered were delivered
        self._answer(oldest.pixels.shape)

    def _answer(self, shape: tuple[int, ...]) -> None:
        group = self._groups.pop(shape)
        rows = [place.row for place in group if place.row is not None]
        for place, answer in zip(group, self._compute(rows), strict=True):
            # The pixels are not needed any more.
            place.answer, place.row = answer, None
        self._waiting_bytes -= sum(row.nbytes for row in rows)

    def _deliver(self) -> Iterator[FinishedImages]:
        together: list[_Place] = []
        answers: list[PlaneAnswer] = []
        while self._places and self._places[0].answer is not None:
            place = self._places.popleft()
            answer = place.answer
            if isinstance(answer, BadImage):
                yield from self._joined(together, answers)
                together, answers = [], []
                self._done += place.finishes
                yield FinishedImages(answer, self._done, place.finishes > 0)
            elif isinstance(answer, NoObjects):
                yield from self._joined(together, answers)
                together, answers = [], []
                self._done += place.finishes
                nothing = np.zeros((0, len(self._classes)), np.float32)
                none = Predictions(
                    nothing, self._classes, (), (), self._model, set_threshold=self._set_threshold
                )
                yield FinishedImages(none, self._done, place.finishes > 0, empty=answer.id)
            elif answer is not None:
                together.append(place)
                answers.append(answer)
        yield from self._joined(together, answers)

    def _joined(
        self, places: Sequence[_Place], answers: Sequence[PlaneAnswer]
    ) -> Iterator[FinishedImages]:
        if not places:
            return
        self._done += sum(place.finishes for place in places)
        scores = [one.unlike_score for one in answers]
        predictions = Predictions(
            np.stack([one.probabilities for one in answers]),
            self._classes,
            tuple(place.id for place in places),
            tuple(place.metadata for place in places),
            self._model,
            None if None in scores else np.array(scores, np.float32),
            tuple(place.remarks + one.remarks for place, one in zip(places, answers, strict=True)),
            self._set_threshold,
        )
        by_order = next((place.by_order for place in places if place.by_order), None)
        yield FinishedImages(predictions, self._done, places[-1].finishes > 0, by_order)
