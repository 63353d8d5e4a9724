"""A trained model, ready to answer: images in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.calibration import apply_temperature
from napari_cellclf.core.foreign_arrays import axes_and_channels, has_named_axes, plain_array
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
from napari_cellclf.core.tta import Compute, mean_over_views
from napari_cellclf.errors import (
    AxesError,
    CancelledError,
    EngineError,
    ImageError,
    ImageTooLargeError,
    InputError,
    NoImagesError,
)
from napari_cellclf.inference.batches import Batches, FinishedImages, PlaneAnswer, PlaneResult
from napari_cellclf.inference.channel_order import ChannelOrders
from napari_cellclf.inference.engine import Engine
from napari_cellclf.inference.prepare import (
    TOO_LARGE,
    BadImage,
    NoObjects,
    Prepared,
    PreparedPlane,
    UnreadImage,
    distinct,
    prepared_ahead,
)

if TYPE_CHECKING:
    from napari_cellclf.inference.explain import Explanation, Method
    from napari_cellclf.io.sources import ImageSource

Mappings = Mapping[str, str | None]

_RGB = ("red", "green", "blue")


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

    @property
    def says_unlike(self) -> bool:
        """Whether it says which images are unlike anything in training."""
        return self.bundle.spec.unlike is not None and "features" in self.engine.gives

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
            (``"name[t=3]"``); for a model of objects, every one of its `objects`
            (``"name[object=12]"``). A plain array or tensor is ``(Y, X)`` or ``(C, Y, X)`` with the
            model's channels in its order; an array of xarray says itself what its axes and
            channels are. A path is read with `read_image`.
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
            One row for each plane or object, in order; metadata of objects are ``object`` (the
            number in the mask), ``y``, ``x``, ``area`` and ``touches_border``.

        Raises
        ------
        InputError
            If an image cannot be used; `predict_sources` goes on instead.
        CancelledError
            If `should_stop` said so.
        """
        items = self._items(images)
        total = sum(item.read().n_planes if item.count_planes else 1 for item in items)
        parts: list[Predictions] = []
        for delivered in self._run(items, total, mapping, batch_size, on_progress, should_stop):
            part = delivered.answer
            if isinstance(part, BadImage):
                raise _named(part, total == 1)
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
            What to read, in threads ahead of the network; a few batches are in memory.
        mapping, batch_size : optional
            As for `predict`.
        on_progress : callable
            Told after every batch how many sources are done.
        should_stop : callable
            Asked before every image and every batch; a stop ends the iteration.

        Yields
        ------
        Predictions or BadImage
            In the order of the sources, as soon as they are known; a source that cannot be read,
            or a plane that cannot be used, gives a `BadImage` in its place.
        """
        stream = self.stream(
            sources,
            mapping=mapping,
            batch_size=batch_size,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        with closing(stream):
            for delivered in stream:
                yield delivered.answer

    def stream(
        self,
        sources: Sequence[ImageSource],
        *,
        mapping: Mappings | None = None,
        batch_size: int = 16,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
        threads: int | None = None,
    ) -> Generator[FinishedImages]:
        """Classify many images as `predict_sources` does, and say how far each answer goes.

        Parameters
        ----------
        sources, mapping, batch_size, on_progress, should_stop : optional
            As for `predict_sources`.
        threads : int, optional
            How many read and prepare images; by default one for each processor, 16 at most.

        Yields
        ------
        FinishedImages
            Answers, in the order of the sources, with how many sources are finished.
        """
        items = [
            UnreadImage(source.id, source.read, source.metadata, planes=source.planes)
            for source in sources
        ]
        try:
            yield from self._run(
                items, len(items), mapping, batch_size, on_progress, should_stop, threads
            )
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
        return self._computed(self.engine, pixels)

    def answers(self, pixels: np.ndarray[Any, Any]) -> list[PlaneAnswer]:
        """Compute the probabilities of prepared images, and how unlike training they are.

        Parameters
        ----------
        pixels : ndarray, shape (N, Y, X, C), float32
            From `preprocessing`.

        Returns
        -------
        list of PlaneAnswer
            Probabilities as from `compute`; unlike scores where the model and its engine give
            them, of the images as they are, not of other views.

        Raises
        ------
        ImageTooLargeError
            If the memory does not suffice.
        """
        unlikeness = self.bundle.unlikeness if self.says_unlike else None
        if unlikeness is None:
            return [PlaneAnswer(one) for one in self.compute(pixels)]
        scores: list[float] = []

        def compute(view: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            # The first view is the image as it is.
            if view is not pixels:
                return self.engine(view)
            computed = self.engine.compute(view, features=True)
            assert computed.features is not None  # the engine gives them
            scores.extend(unlikeness.scores(computed.features).tolist())
            return computed.probabilities

        probabilities = self._computed(compute, pixels)
        return list(map(PlaneAnswer, probabilities, scores))

    def channel_orders(self) -> ChannelOrders | None:
        """Return what finds swapped channels in unlike images; None where that cannot be known."""
        unlikeness = self.bundle.unlikeness if self.says_unlike else None
        if unlikeness is None:
            return None
        names = [channel.name for channel in self.preprocessing.channels]
        return ChannelOrders(self.engine, unlikeness, names)

    def features(
        self,
        images: Any,
        *,
        mapping: Mappings | None = None,
        batch_size: int = 16,
        should_stop: ShouldStop = never_stop,
    ) -> np.ndarray[Any, Any]:
        """Compute the features of images: the numbers from which the network decides.

        They are the input of its last dense layer; a network of several members has those of each,
        one after the other.

        Parameters
        ----------
        images, mapping, batch_size : optional
            As for `predict`.
        should_stop : callable
            Asked before every image and every batch.

        Returns
        -------
        ndarray, shape (N, F), float32
            One row for each plane or object, in the order of `predict`.

        Raises
        ------
        EngineError
            If the network has no last dense layer, or its engine does not give what goes into it.
        InputError
            If an image cannot be used.
        CancelledError
            If `should_stop` said so.

        Examples
        --------
        >>> import napari_cellclf as cc
        >>> classifier = cc.load_classifier("rxrx1-celltype")
        >>> classifier.features(cc.simulate_site("HUVEC", seed=1, size=64)).shape
        (1, 128)
        """
        _check_batch_size(batch_size)
        if "features" not in self.engine.gives:
            raise EngineError(
                f"{self.device} gives no features of {self.name}; use another engine, such as "
                "keras, and a network that ends in a dense layer"
            )
        parts: list[np.ndarray[Any, Any]] = []
        rows = prepared_ahead(self._items(images), self.bundle.spec, mapping, batch_size=batch_size)
        with closing(rows):
            for batch in _together(rows, batch_size):
                _stop_if(should_stop)
                computed = self.engine.compute(np.stack(batch), features=True)
                assert computed.features is not None  # the engine gives them
                parts.append(computed.features)
        return np.concatenate(parts)

    def explain(
        self,
        image: Any,
        *,
        class_name: str | None = None,
        method: Method = "auto",
        plane: Mapping[str, int] | None = None,
        number: int | None = None,
        mapping: Mappings | None = None,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Explanation:
        """Show where in an image the evidence for a class lies.

        Parameters
        ----------
        image : Image, ndarray, str or Path
            As for `predict`; one plane, or one object, of it is explained.
        class_name : str, optional
            Evidence for which class; by default for the predicted one.
        method : {'auto', 'cam', 'occlusion'}
            ``cam``: HiRes-CAM [1]_, at the cost of one prediction; the network must end in an
            average over the image and one dense layer. ``occlusion`` [2]_: cover one patch after
            the other, about 250 predictions, with any network. ``auto``: ``cam`` where it can be.
        plane : mapping of str to int, optional
            Which plane of a stack, such as ``{"T": 3}``.
        number : int, optional
            Which object, for a model of objects.
        mapping : mapping, optional
            As for `predict`.
        on_progress, should_stop : callable
            Told, and asked, while patches are covered.

        Returns
        -------
        Explanation
            A map on the image's own pixels.

        Raises
        ------
        EngineError
            If `method` is ``cam`` and the network or its engine does not allow it.
        InputError
            If the image cannot be used, or there is no such class, plane or object.
        CancelledError
            If `should_stop` said so.

        References
        ----------
        .. [1] Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of
           convolutional neural networks, arXiv:2011.08891, 2020.
        .. [2] Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.

        Examples
        --------
        >>> import napari_cellclf as cc
        >>> classifier = cc.load_classifier("rxrx1-celltype")
        >>> why = classifier.explain(cc.simulate_site("HUVEC", seed=1, size=64))
        >>> why.heat.shape, why.method
        ((64, 64), 'cam')
        """
        # Predicting does without.
        from napari_cellclf.inference.explain import explain

        (item,) = self._items([image])
        question = (class_name, method, plane, number, mapping)
        return explain(self, item, *question, on_progress=on_progress, should_stop=should_stop)

    def _computed(self, compute: Compute, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        spec = self.bundle.spec
        probabilities = mean_over_views(compute, pixels, spec.input.views)
        if spec.temperature == 1 and not spec.class_offsets:
            return probabilities
        return apply_temperature(probabilities, spec.temperature, spec.class_offsets)

    def _items(self, images: Any) -> list[UnreadImage]:
        listed = images if isinstance(images, list | tuple) else [images]
        if not listed:
            raise NoImagesError("no image was given to classify; give at least one")
        items = [
            self._item(image, f"image[{i}]" if len(listed) > 1 else "image")
            for i, image in enumerate(listed)
        ]
        return distinct(items)

    def _item(self, image: Any, default: str) -> UnreadImage:
        if isinstance(image, Image):
            return UnreadImage(image.source or default, lambda: image, count_planes=True)
        if isinstance(image, str | Path):
            return UnreadImage(str(image), partial(_read, image))
        if hasattr(image, "shape") and hasattr(image, "dtype"):
            made = image_from_array(image, self.preprocessing)
            return UnreadImage(default, lambda: made, count_planes=True)
        raise InputError(
            f"a {type(image).__name__} cannot be classified; give an Image, an array or a path"
        )

    def _run(
        self,
        items: Iterable[UnreadImage],
        total: int,
        mapping: Mappings | None,
        batch_size: int,
        on_progress: OnProgress,
        should_stop: ShouldStop,
        threads: int | None = None,
    ) -> Iterator[FinishedImages]:
        _check_batch_size(batch_size)
        orders = self.channel_orders()

        def compute(rows: list[PreparedPlane]) -> list[PlaneResult]:
            _stop_if(should_stop)
            return self._with_orders(rows, self._answer(rows), orders)

        done = 0

        def on_wait(doing: str, part: float) -> None:
            _stop_if(should_stop)
            if doing:
                on_progress(Progress(done, total, doing, part))

        threshold = self.bundle.spec.set_threshold
        batches = Batches(compute, batch_size, self.classes, self.name, threshold)
        prepared = prepared_ahead(
            items,
            self.bundle.spec,
            mapping,
            batch_size=batch_size,
            threads=threads,
            on_wait=on_wait,
        )
        with closing(prepared):
            for delivered in _delivered(prepared, batches, should_stop):
                done = delivered.done
                on_progress(Progress(delivered.done, total, f"classified {delivered.last}"))
                yield delivered

    def _answer(self, batch: list[PreparedPlane]) -> list[PlaneResult]:
        try:
            answers = self.answers(np.stack([row.pixels for row in batch]))
        except (MemoryError, ImageTooLargeError):
            return self._answer_one_by_one(batch)
        return [
            answer if np.isfinite(answer.probabilities).all() else self._not_finite(row)
            for row, answer in zip(batch, answers, strict=True)
        ]

    def _with_orders(
        self,
        batch: list[PreparedPlane],
        answers: list[PlaneResult],
        orders: ChannelOrders | None,
    ) -> list[PlaneResult]:
        """Say of images that are unlike training whether two of their channels are swapped."""
        if orders is None:
            return answers
        return [
            replace(answer, remarks=orders.remarks(row.pixels, answer.unlike_score))
            if isinstance(answer, PlaneAnswer) and answer.unlike_score is not None
            else answer
            for row, answer in zip(batch, answers, strict=True)
        ]

    def _not_finite(self, row: PreparedPlane) -> BadImage:
        reason = f"{self.name} predicts NaN for {row.id}; check its pixels"
        return BadImage(row.id, reason, ImageError(reason), row.finishes)

    def _answer_one_by_one(self, batch: list[PreparedPlane]) -> list[PlaneResult]:
        """Compute the images of a batch that was too large for memory one by one."""
        if len(batch) > 1:
            return [answer for row in batch for answer in self._answer([row])]
        (row,) = batch
        height, width = row.pixels.shape[:2]
        reason = f"{row.id} ({height} x {width} pixels) {TOO_LARGE}"
        return [BadImage(row.id, reason, ImageTooLargeError(reason), row.finishes)]


def _named(bad: BadImage, alone: bool) -> InputError:
    """Return why an image is bad, with its name where there are others."""
    named = alone or bad.id in bad.reason
    return bad.error if named else type(bad.error)(f"{bad.id}: {bad.reason}")


def _together(rows: Iterable[Prepared], batch_size: int) -> Iterator[list[np.ndarray[Any, Any]]]:
    """Put rows of one shape that follow one another into batches; a bad image raises."""
    batch: list[np.ndarray[Any, Any]] = []
    for row in rows:
        if isinstance(row, BadImage):
            raise _named(row, alone=False)
        if isinstance(row, NoObjects):
            continue
        if batch and (len(batch) == batch_size or batch[0].shape != row.pixels.shape):
            yield batch
            batch = []
        batch.append(row.pixels)
    if batch:
        yield batch


def _check_batch_size(batch_size: Any) -> None:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r} holds no image; give a whole number from 1")


def _delivered(
    rows: Iterable[Prepared], batches: Batches, should_stop: ShouldStop
) -> Iterator[FinishedImages]:
    for row in rows:
        _stop_if(should_stop)
        yield from batches.add(row)
    yield from batches.finish()


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise CancelledError("the classification was stopped as asked; start it again to finish")


def _read(path: str | Path) -> Image:
    from napari_cellclf.io.read import read_image

    return read_image(path)


def image_from_array(array: Any, preprocessing: Preprocessing) -> Image:
    """Take an array whose axes can only mean one thing to a model.

    `array`: ndarray, shape (Y, X) or (C, Y, X), or (Y, X, C) for a model of red, green and blue;
    with the model's channels, in its order. Dimensions and channels of xarray's arrays are what
    they are called.
    """
    names = tuple(channel.name for channel in preprocessing.channels)
    if has_named_axes(array):
        axes, channels = axes_and_channels(array)
        return Image(array, axes, channels, source=getattr(array, "name", None))
    array = plain_array(array)
    count, shape = len(names), tuple(array.shape)
    if len(shape) == 2 and count == 1:
        return Image(array, "YX", names)
    first = len(shape) == 3 and shape[0] == count
    is_rgb = tuple(name.lower() for name in names) == _RGB
    last = len(shape) == 3 and shape[-1] == count and is_rgb
    if first and not last:
        return Image(array, "CYX", names)
    if last and not first:
        return Image(array, "YXS", names)
    raise AxesError(
        f"an array of shape {shape} does not say where its {count} channels "
        f"({', '.join(names)}) are; {_remedy(shape, names)}"
    )


def _remedy(shape: tuple[int, ...], names: tuple[str, ...]) -> str:
    """Say what to write instead, with as many axes and channels as the array has."""
    if len(shape) == 2:
        return (
            f"stack the channels as ({len(names)}, Y, X), or say which one it is with "
            f"Image(array, axes='YX', channels=[{names[0]!r}])"
        )
    if not 3 <= len(shape) <= 6:
        return f"give an array ({len(names)}, Y, X) for each image"
    axes = _likely_axes(shape, len(names))
    letter = next((letter for letter in "CS" if letter in axes), None)
    size = 1 if letter is None else shape[axes.index(letter)]
    if letter == "S":
        listed = ""
    elif size == len(names):
        listed = f", channels={list(names)}"
    else:
        listed = f", channels=[its {size} names]"
    return f"say so with Image(array, axes={axes!r}{listed}) if that is what its axes are"


def _likely_axes(shape: tuple[int, ...], count: int) -> str:
    """Guess axes for a message; nothing is classified by them."""
    places = [len(shape) - 3, *range(len(shape) - 3), len(shape) - 1]
    place = next((place for place in places if shape[place] == count), None)
    if place is None and count == 1:
        return ["T", "TZ", "PTZ", "PTZQ"][len(shape) - 3] + "YX"
    letter = "C"
    if place is None and shape[-1] in (3, 4):
        letter, place = "S", len(shape) - 1
    others = ["", "T", "TZ", "PTZ"][len(shape) - 3] + "YX"
    place = len(shape) - 3 if place is None else place
    return others[:place] + letter + others[place:]
