"""A trained model, ready to answer: images in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.calibration import apply_temperature
from napari_cellclf.core.image import Image
from napari_cellclf.core.predictions import Predictions, concatenate
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.core.views import mean_over_views
from napari_cellclf.errors import (
    CancelledError,
    ImageError,
    ImageTooLargeError,
    InputError,
    NoImagesError,
)
from napari_cellclf.inference.engine import Engine
from napari_cellclf.inference.rows import (
    BadImage,
    Item,
    Row,
    distinct,
    image_from_array,
    prepared_rows,
)

if TYPE_CHECKING:
    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.io.sources import ImageSource

Mappings = Mapping[str, str | None]

#: A batch is cut short where its pixels would take more memory than this, in bytes.
_MAX_BATCH_BYTES = 1 << 27
_TOO_LARGE = "needs more memory than is free; give a smaller image, or close other programs"


class Classifier:
    """Answers of each image which class it is.

    Parameters
    ----------
    bundle : ModelBundle
        The trained model.
    engine : Engine
        What computes its network.

    Examples
    --------
    >>> import napari_cellclf as cc
    >>> classifier = cc.load_classifier("rxrx1-celltype")
    >>> classifier.classes
    ('HEPG2', 'HUVEC', 'RPE', 'U2OS')
    >>> prediction = classifier.predict(cc.simulate_site("HUVEC", seed=1, size=64))
    >>> prediction.probabilities.shape, prediction.label in classifier.classes
    ((1, 4), True)
    """

    def __init__(self, bundle: ModelBundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.bundle.spec.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes it tells apart."""
        return self.bundle.spec.class_names

    @property
    def preprocessing(self) -> Preprocessing:
        """How it makes the network's input from an image."""
        return self.bundle.spec.input.preprocessing

    @property
    def device(self) -> str:
        """What computes, and where, such as ``"openvino 2026.4.1, CPU, bfloat16"``."""
        return self.engine.device

    def predict(
        self,
        images: Any,
        *,
        mapping: Mappings | None = None,
        batch_size: int = 16,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Predictions:
        """Classify images.

        Parameters
        ----------
        images : Image, ndarray, str, Path, or a sequence of these
            Every plane of an `Image` becomes a row, with its position in the row's id
            (``"name[t=3]"``). A plain array is ``(Y, X)`` or ``(C, Y, X)`` with the model's
            channels in its order. A path is read with `read_image`.
        mapping : mapping of str to (str or None), optional
            The model's channel to the image's channel, or None to leave it out, where names do
            not decide.
        batch_size : int
            How many planes are computed at once.
        on_progress : callable
            Told after every batch: planes of images in memory, files otherwise.
        should_stop : callable
            Asked before every image and every batch.

        Returns
        -------
        Predictions
            One row for each plane, in order.

        Raises
        ------
        InputError
            If an image cannot be used; `predict_sources` goes on instead.
        CancelledError
            If `should_stop` said so.
        """
        listed = images if isinstance(images, list | tuple) else [images]
        if not listed:
            raise NoImagesError("no image was given to classify; give at least one")
        items = [
            self._item(image, f"image[{i}]" if len(listed) > 1 else "image")
            for i, image in enumerate(listed)
        ]
        items = distinct(items)
        total = sum(item.read().n_planes if item.count_planes else 1 for item in items)
        parts: list[Predictions] = []
        for part in self._run(items, total, mapping, batch_size, on_progress, should_stop):
            if isinstance(part, BadImage):
                named = total == 1 or part.id in part.reason
                raise part.error if named else type(part.error)(f"{part.id}: {part.reason}")
            parts.append(part)
        return concatenate(parts)

    def predict_sources(
        self,
        sources: Sequence[ImageSource],
        *,
        mapping: Mappings | None = None,
        batch_size: int = 16,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Iterator[Predictions | BadImage]:
        """Classify many images one batch after the other, passing over those that are bad.

        Parameters
        ----------
        sources : sequence of ImageSource
            What to read; never more than a batch of it is in memory.
        mapping, batch_size : optional
            As for `predict`.
        on_progress : callable
            Told after every batch how many sources are done.
        should_stop : callable
            Asked before every image and every batch; a stop ends the iteration.

        Yields
        ------
        Predictions or BadImage
            Batches in the order of the sources; a source that cannot be read, or a plane that
            cannot be used, gives a `BadImage` in its place.
        """
        items = [Item(source.id, source.read, source.metadata) for source in sources]
        try:
            yield from self._run(items, len(items), mapping, batch_size, on_progress, should_stop)
        except CancelledError:
            return

    def compute(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Compute the probabilities of prepared images, as `predict` gives them.

        Parameters
        ----------
        pixels : ndarray, shape (N, Y, X, C), float32
            From `preprocessing`.

        Returns
        -------
        ndarray, shape (N, K), float32
            The mean over the model's views, with its temperature.

        Raises
        ------
        ImageTooLargeError
            If the memory does not suffice.
        """
        spec = self.bundle.spec
        probabilities = mean_over_views(self.engine, pixels, spec.input.views)
        if spec.temperature == 1:
            return probabilities
        return apply_temperature(probabilities, spec.temperature)

    def _item(self, image: Any, default: str) -> Item:
        if isinstance(image, Image):
            return Item(image.source or default, lambda: image, count_planes=True)
        if isinstance(image, str | Path):
            return Item(str(image), partial(_read, image))
        if hasattr(image, "shape") and hasattr(image, "dtype"):
            made = image_from_array(image, self.preprocessing)
            return Item(default, lambda: made, count_planes=True)
        raise InputError(
            f"a {type(image).__name__} cannot be classified; give an Image, an array or a path"
        )

    def _run(
        self,
        items: Iterable[Item],
        total: int,
        mapping: Mappings | None,
        batch_size: int,
        on_progress: OnProgress,
        should_stop: ShouldStop,
    ) -> Iterator[Predictions | BadImage]:
        _check_batch_size(batch_size)
        spec = self.bundle.spec
        rows = (row for item in items for row in _rows(item, spec, mapping))
        done = 0
        for batch in _batches(rows, batch_size, should_stop):
            answers = [batch] if isinstance(batch, BadImage) else self._answer(batch)
            finished = [batch] if isinstance(batch, BadImage) else batch
            done += sum(row.finishes for row in finished)
            on_progress(Progress(done, total, f"classified {finished[-1].id}"))
            yield from answers

    def _answer(self, batch: list[Row]) -> list[Predictions | BadImage]:
        try:
            pixels = np.stack([row.pixels for row in batch])
            probabilities = self.compute(pixels)
        except (MemoryError, ImageTooLargeError):
            return self._answer_one_by_one(batch)
        finite = [bool(np.isfinite(answer).all()) for answer in probabilities]
        answers: list[Predictions | BadImage] = []
        if any(finite):
            good = [row for row, is_good in zip(batch, finite, strict=True) if is_good]
            answers.append(self._predictions(good, probabilities[finite]))
        for row, is_good in zip(batch, finite, strict=True):
            if not is_good:
                reason = f"{self.name} has no finite answer to {row.id}; check its pixels"
                answers.append(BadImage(row.id, reason, ImageError(reason)))
        return answers

    def _answer_one_by_one(self, batch: list[Row]) -> list[Predictions | BadImage]:
        """Answer the images of a batch that was too large for the memory."""
        if len(batch) > 1:
            return [answer for row in batch for answer in self._answer([row])]
        (row,) = batch
        height, width = row.pixels.shape[:2]
        reason = f"{row.id} ({height} x {width} pixels) {_TOO_LARGE}"
        return [BadImage(row.id, reason, ImageTooLargeError(reason))]

    def _predictions(self, rows: list[Row], probabilities: np.ndarray[Any, Any]) -> Predictions:
        return Predictions(
            probabilities,
            self.classes,
            tuple(row.id for row in rows),
            tuple(row.metadata for row in rows),
            self.name,
        )


def _rows(item: Item, spec: BundleSpec, mapping: Mappings | None) -> Iterator[Row | BadImage]:
    """Prepare the planes of an image; one that does not fit into memory is a bad image."""
    try:
        yield from prepared_rows(item, spec, mapping)
    except MemoryError:
        reason = f"{item.id} {_TOO_LARGE}"
        yield BadImage(item.id, reason, ImageTooLargeError(reason))


def _check_batch_size(batch_size: Any) -> None:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r} holds no image; give a whole number from 1")


def _batches(
    rows: Iterator[Row | BadImage], batch_size: int, should_stop: Callable[[], bool]
) -> Iterator[list[Row] | BadImage]:
    """Group neighbours of equal shape; a bad image ends a batch, so that the order stays."""
    batch: list[Row] = []
    for row in rows:
        _stop_if(should_stop)
        if batch and (isinstance(row, BadImage) or not _fits(batch, row, batch_size)):
            yield batch
            batch = []
        if isinstance(row, BadImage):
            yield row
        else:
            batch.append(row)
    if batch:
        _stop_if(should_stop)
        yield batch


def _fits(batch: list[Row], row: Row, batch_size: int) -> bool:
    return (
        len(batch) < batch_size
        and batch[0].pixels.shape == row.pixels.shape
        and (len(batch) + 1) * row.pixels.nbytes <= _MAX_BATCH_BYTES
    )


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise CancelledError("the classification was stopped as asked; start it again to finish")


def _read(path: str | Path) -> Image:
    from napari_cellclf.io.read import read_image

    return read_image(path)
