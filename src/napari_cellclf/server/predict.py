"""``/api/predict``, images to classes, and ``/api/compute``, prepared arrays to probabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from starlette.responses import PlainTextResponse, Response

from napari_cellclf.bundles.arrays import dump_array, parse_array
from napari_cellclf.core.calibration import is_unsure
from napari_cellclf.core.channels import name_overrides
from napari_cellclf.core.predictions import Predictions, is_unlike
from napari_cellclf.errors import BundleError, ImageError, ImageTooLargeError, InputError
from napari_cellclf.inference.batches import PlaneAnswer
from napari_cellclf.inference.prepare import (
    BadImage,
    NoObjects,
    PreparedPlane,
    UnreadImage,
    distinct,
    prepared_rows,
)
from napari_cellclf.io.naming import usable_naming
from napari_cellclf.io.uploaded_files import upload_sources
from napari_cellclf.server.request_errors import RequestError, of_image
from napari_cellclf.server.schemas import Answer, ImageAnswer, ImageFailure, ModelName, PredictQuery
from napari_cellclf.server.uploads import UploadedImage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.requests import Request

    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.inference.channel_order import ChannelOrders
    from napari_cellclf.io.memory import MemoryFile
    from napari_cellclf.server.served_model import ServedModel
    from napari_cellclf.server.service import Service

_Prepared: TypeAlias = tuple[UploadedImage, PreparedPlane | BadImage]
#: Planes of a request that are prepared ahead of the network.
_AHEAD = 16
_AHEAD_BYTES = 1 << 25
#: Letters; a proxy may refuse longer ones.
_LONGEST_HEADER = 2000
_JSON, _TEXT = "application/json", "text/plain"


async def predict(request: Request) -> Response:
    """Answer ``GET`` and ``POST /api/predict``."""
    service: Service = request.app.state.service
    options = read_options(request)
    with service.receiver.holding() as body:
        files = await body.files(request, any_type=request.method == "GET")
        served = service.models.current
        answer = await service.answer(request, classify(service, served, files, options))
    if options.as_text:
        return PlainTextResponse(as_text(answer), headers=warnings_header(answer))
    return Response(answer.model_dump_json(exclude_none=True), media_type=_JSON)


async def classify(
    service: Service, served: ServedModel, files: Sequence[MemoryFile], options: PredictOptions
) -> Answer:
    """Classify images."""
    try:
        name_overrides(served.classifier.preprocessing.channels, options.mapping or {})
        sources = upload_sources(
            files,
            channels=options.channels,
            naming=usable_naming(served.spec.training.naming),
            limit_bytes=service.limits.pixel_bytes,
        )
    except InputError as error:
        raise of_image(error) from error
    preprocessing = served.classifier.preprocessing
    images = [
        UploadedImage(source, preprocessing, service.limits, options.mapping, served.single_channel)
        for source in sources
    ]
    rows = _rows(images, served.spec)
    orders = served.classifier.channel_orders()
    predictions: list[ImageAnswer | ImageFailure] = []
    failed: list[BadImage] = []
    while part := await service.decode(partial(_take, rows)):
        answers = await asyncio.gather(*(_answer(service, served, orders, *one) for one in part))
        failed += [answer for answer in answers if isinstance(answer, BadImage)]
        predictions += [_failure(a) if isinstance(a, BadImage) else a for a in answers]
    if len(failed) == len(predictions):
        raise of_image(failed[0].error)
    return Answer(
        model=ModelName(name=served.spec.name, sha256=served.sha256), predictions=tuple(predictions)
    )


def as_text(answer: Answer) -> str:
    """Format predictions as the first version of this service did."""
    lines = [(one.image, _line(one)) for one in answer.predictions]
    if len(lines) == 1:
        return lines[0][1]
    return "\n".join(f"{image}\t{line}" for image, line in lines)


def warnings_header(answer: Answer) -> dict[str, str]:
    """Say in a header what JSON says as warnings: the lines of text are read by old programs."""
    said = dict.fromkeys(
        warning
        for one in answer.predictions
        if isinstance(one, ImageAnswer)
        for warning in one.warnings
    )
    # Names of channels may hold anything; a header may not.
    text = "".join(letter for letter in "; ".join(said) if letter.isprintable())
    text = text.encode("ascii", "backslashreplace").decode()[:_LONGEST_HEADER]
    return {"X-Warnings": text} if text else {}


@dataclass(frozen=True)
class PredictOptions:
    """What a request asks for besides its images."""

    #: From the model's channels to those of the images.
    mapping: Mapping[str, str | None] | None
    #: The channel that each file shows.
    channels: tuple[str, ...]
    #: Whether to answer with lines of text.
    as_text: bool


def read_options(request: Request) -> PredictOptions:
    """Read the query parameters and the Accept header."""
    unknown = set(request.query_params) - set(PredictQuery.model_fields)
    if unknown:
        raise RequestError(
            400, "unknown_parameter",
            f"there is no parameter {min(unknown)!r}; there are channels=MODEL=IMAGE,... and "
            "channel=NAME",
        )  # fmt: skip
    pairs = [
        pair
        for text in request.query_params.getlist("channels")
        for pair in text.split(",")
        if pair.strip()
    ]
    mapping: dict[str, str | None] = {}
    for pair in pairs:
        expected, equals, source = (part.strip() for part in pair.partition("="))
        if not (expected and equals) or expected in mapping:
            raise RequestError(
                400, "channels",
                f"channels={pair!r} is not of the form MODEL=IMAGE, or names a channel twice",
            )  # fmt: skip
        mapping[expected] = source or None
    accept = request.headers.get("accept", "")
    wants_text, wants_json = _TEXT in accept, _JSON in accept
    as_text = wants_text if request.method == "POST" else not wants_json
    channels = tuple(name.strip() for name in request.query_params.getlist("channel"))
    return PredictOptions(mapping or None, channels, as_text and not (wants_text and wants_json))


def _line(one: ImageAnswer | ImageFailure) -> str:
    if isinstance(one, ImageFailure):
        return f"error: {one.detail}"
    return ", ".join(f"{name}: {value:.4f}" for name, value in one.probabilities.items())


def _rows(images: Sequence[UploadedImage], spec: BundleSpec) -> Iterator[_Prepared]:
    items = [
        UnreadImage(uploaded.source.id, uploaded.read, uploaded.source.metadata)
        for uploaded in images
    ]
    for uploaded, item in zip(images, distinct(items), strict=True):
        for row in prepared_rows(item, spec, uploaded.mapping):
            # An upload has no objects.
            if not isinstance(row, NoObjects):
                yield uploaded, row


def _take(rows: Iterator[_Prepared]) -> list[_Prepared]:
    """Prepare some of a request's images, not all: a stack could fill the memory."""
    taken: list[_Prepared] = []
    size = 0
    try:
        for uploaded, row in rows:
            taken.append((uploaded, row))
            size += row.pixels.nbytes if isinstance(row, PreparedPlane) else 0
            if len(taken) >= _AHEAD or size >= _AHEAD_BYTES:
                break
    except MemoryError:
        detail = "the images need more memory than is free; send smaller ones, or fewer"
        raise RequestError(413, "image_too_large", detail) from None
    return taken


async def _answer(
    service: Service,
    served: ServedModel,
    orders: ChannelOrders | None,
    uploaded: UploadedImage,
    row: PreparedPlane | BadImage,
) -> ImageAnswer | BadImage:
    if isinstance(row, BadImage):
        return row
    try:
        answer = await service.batcher.compute(
            served, served.classifier.answers, row.pixels, served.batch
        )
        score = answer.unlike_score
        if orders is not None and score is not None and is_unlike(score):
            tried = partial(_in_other_orders, orders, score)
            # In the network's own thread, after the images that wait.
            found = await service.batcher.compute((orders, row.id), tried, row.pixels, 1)
            answer = replace(answer, remarks=found)
        return _checked(served, uploaded, row, answer)
    except ImageError as error:
        return BadImage(row.id, str(error), error)


def _in_other_orders(
    orders: ChannelOrders, score: float, pixels: NDArray[np.float32]
) -> list[tuple[str, ...]]:
    return [orders.remarks(pixels[0], score)]


def _checked(
    served: ServedModel,
    uploaded: UploadedImage,
    row: PreparedPlane,
    answer: PlaneAnswer,
) -> ImageAnswer:
    probabilities = answer.probabilities
    if not np.isfinite(probabilities).all():
        raise ImageError(f"{served.spec.name} predicts NaN for {row.id}; check its pixels")
    best = int(probabilities.argmax())
    confidence = float(probabilities[best])
    threshold = served.spec.unsure_threshold
    score = answer.unlike_score
    sets = Predictions(
        probabilities[None],
        served.classifier.classes,
        (row.id,),
        set_threshold=served.spec.set_threshold,
    ).sets
    return ImageAnswer(
        image=row.id,
        label=served.classifier.classes[best],
        confidence=confidence,
        unsure=None if threshold is None else bool(is_unsure(confidence, threshold)),
        prediction_set=None if sets is None else sets[0],
        unlike=None if score is None else is_unlike(score),
        unlike_score=score if score is not None and np.isfinite(score) else None,
        remarks=(*row.remarks, *answer.remarks),
        probabilities=dict(zip(served.classifier.classes, map(float, probabilities), strict=True)),
        warnings=tuple(uploaded.warnings),
        metadata=dict(row.metadata),
    )


def _failure(bad: BadImage) -> ImageFailure:
    error = of_image(bad.error)
    return ImageFailure(image=bad.id, error=error.code, detail=error.detail)


async def compute(request: Request) -> Response:
    """Answer ``POST /api/compute``.

    `request`: its body is the ``.npy`` file of a float32 array ``(N, Y, X, C)`` from the
    preprocessing of the model whose hash stands in ``If-Match``. Returns the ``.npy`` file of ``(N,
    K)`` float32 probabilities, before views and temperature; with ``features=true`` of ``(N, K +
    F)``, the features after them.
    """
    service: Service = request.app.state.service
    with service.receiver.holding() as body:
        content = await body.raw(request)
        served = service.models.current
        _check_model(request, served)
        features = _wants_features(request, served)
        batch = _batch(content, served, service.limits.batch)
        answer = await service.answer(request, _compute(service, served, batch, features))
    return Response(dump_array(answer), media_type="application/octet-stream")


async def unlike(request: Request) -> Response:
    """Answer ``GET /api/unlike``: the file that tells what is unlike training."""
    service: Service = request.app.state.service
    served = service.models.current
    _check_model(request, served)
    if served.spec.unlike is None:
        raise RequestError(
            404, "not_known", f"{served.spec.name} cannot say which images are unlike training"
        )
    content = await asyncio.to_thread(served.classifier.bundle.unlike_file)
    return Response(content, media_type="application/octet-stream")


async def _compute(
    service: Service, served: ServedModel, batch: NDArray[np.float32], features: bool
) -> NDArray[np.float32]:
    engine = served.classifier.engine

    def together(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if not features:
            return engine(pixels)
        computed = engine.compute(pixels, features=True)
        assert computed.features is not None  # the engine gives them
        return np.concatenate([computed.probabilities, computed.features], axis=1)

    owner = (served, "features" if features else "network")
    try:
        rows = await asyncio.gather(
            *(service.batcher.compute(owner, together, row, served.batch) for row in batch)
        )
    except ImageTooLargeError as error:
        raise of_image(error) from error
    return np.stack(rows)


def _wants_features(request: Request, served: ServedModel) -> bool:
    wanted = request.query_params.get("features", "false").lower()
    if wanted not in ("true", "false"):
        raise RequestError(400, "features", f"features={wanted!r} is neither true nor false")
    if wanted == "true" and "features" not in served.classifier.engine.gives:
        raise RequestError(
            422, "features", f"{served.spec.name} gives no features here; leave features out"
        )
    return wanted == "true"


def _check_model(request: Request, served: ServedModel) -> None:
    if request.headers.get("if-match", "").strip('"') != served.sha256:
        raise RequestError(
            412, "another_model",
            f"the server now has {served.spec.name} {served.sha256[:12]}; arrays must be prepared "
            "for it; connect again, and name it in If-Match",
        )  # fmt: skip


def _batch(content: bytes, served: ServedModel, most: int) -> NDArray[np.float32]:
    try:
        array: NDArray[Any] = parse_array(content, "the body")
    except BundleError as error:
        raise RequestError(400, "array", f"{error}; send the .npy file of an array") from error
    expected = (None, *_size(served), len(served.spec.input.channels))
    fits = array.ndim == 4 and all(
        side in (None, found) for side, found in zip(expected, array.shape, strict=True)
    )
    smallest = served.spec.input.minimum_size or (1, 1)
    large_enough = fits and array.shape[1] >= smallest[0] and array.shape[2] >= smallest[1]
    if array.dtype != np.float32 or not large_enough or not 1 <= array.shape[0] <= most:
        raise RequestError(
            422, "array",
            f"an array {array.dtype} {array.shape} was sent, but {served.spec.name} takes float32 "
            f"(1 to {most}, Y, X, {expected[3]}) from its preprocessing",
        )  # fmt: skip
    return array


def _size(served: ServedModel) -> tuple[int | None, int | None]:
    return served.classifier.preprocessing.size or (None, None)
