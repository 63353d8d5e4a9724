"""``/api/predict``: images in, classes out, as ``cellclf predict`` answers for the same files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from starlette.responses import PlainTextResponse, Response

from napari_cellclf.core.channels import name_overrides
from napari_cellclf.errors import ImageError, InputError
from napari_cellclf.inference.prepare import BadImage, Item, Row, distinct, prepared_rows
from napari_cellclf.io.sent import sent_sources
from napari_cellclf.server.asking import Asked, read_query
from napari_cellclf.server.failures import RequestError, of_image
from napari_cellclf.server.meant import MeantImage
from napari_cellclf.server.schemas import Answer, ImageAnswer, ImageFailure, ModelName

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.requests import Request

    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.io.memory import MemoryFile
    from napari_cellclf.server.served import Served
    from napari_cellclf.server.service import Service

_Prepared: TypeAlias = tuple[MeantImage, Row | BadImage]

#: Planes of a request that are prepared ahead of the network.
_AHEAD = 16
_AHEAD_BYTES = 1 << 25
_JSON = "application/json"


async def predict(request: Request) -> Response:
    """Answer ``GET`` and ``POST /api/predict``."""
    service: Service = request.app.state.service
    asked = read_query(request)
    with service.receiver.holding() as body:
        files = await body.files(request, any_type=request.method == "GET")
        served = service.models.current
        answer = await service.answer(request, classify(service, served, files, asked))
    if asked.as_text:
        return PlainTextResponse(as_text(answer))
    return Response(answer.model_dump_json(exclude_none=True), media_type=_JSON)


async def classify(
    service: Service, served: Served, files: Sequence[MemoryFile], asked: Asked
) -> Answer:
    """Classify images."""
    try:
        name_overrides(served.classifier.preprocessing.channels, asked.mapping or {})
        sources = sent_sources(
            files, channels=asked.channels, limit_bytes=service.limits.pixel_bytes
        )
    except InputError as error:
        raise of_image(error) from error
    preprocessing = served.classifier.preprocessing
    images = [
        MeantImage(source, preprocessing, service.limits, asked.mapping) for source in sources
    ]
    rows = _rows(images, served.spec)
    predictions: list[ImageAnswer | ImageFailure] = []
    failed: list[BadImage] = []
    while part := await service.decode(partial(_take, rows)):
        answers = await asyncio.gather(*(_answer(service, served, *one) for one in part))
        failed += [answer for answer in answers if isinstance(answer, BadImage)]
        predictions += [_failure(a) if isinstance(a, BadImage) else a for a in answers]
    if len(failed) == len(predictions):
        raise of_image(failed[0].error)
    return Answer(
        model=ModelName(name=served.spec.name, sha256=served.sha256), predictions=tuple(predictions)
    )


def as_text(answer: Answer) -> str:
    """Write answers as the first version of this service did."""
    lines = [(one.image, _line(one)) for one in answer.predictions]
    if len(lines) == 1:
        return lines[0][1]
    return "\n".join(f"{image}\t{line}" for image, line in lines)


def _line(one: ImageAnswer | ImageFailure) -> str:
    if isinstance(one, ImageFailure):
        return f"error: {one.detail}"
    return ", ".join(f"{name}: {value:.4f}" for name, value in one.probabilities.items())


def _rows(images: Sequence[MeantImage], spec: BundleSpec) -> Iterator[_Prepared]:
    items = [Item(meant.source.id, meant.read, meant.source.metadata) for meant in images]
    for meant, item in zip(images, distinct(items), strict=True):
        for row in prepared_rows(item, spec, meant.mapping):
            yield meant, row


def _take(rows: Iterator[_Prepared]) -> list[_Prepared]:
    """Prepare some of a request's images, not all: a stack would fill the memory."""
    taken: list[_Prepared] = []
    size = 0
    try:
        for meant, row in rows:
            taken.append((meant, row))
            size += row.pixels.nbytes if isinstance(row, Row) else 0
            if len(taken) >= _AHEAD or size >= _AHEAD_BYTES:
                break
    except MemoryError:
        detail = "the images need more memory than is free; send smaller ones, or fewer"
        raise RequestError(413, "image_too_large", detail) from None
    return taken


async def _answer(
    service: Service, served: Served, meant: MeantImage, row: Row | BadImage
) -> ImageAnswer | BadImage:
    if isinstance(row, BadImage):
        return row
    try:
        probabilities = await service.batcher.compute(
            served, served.classifier.compute, row.pixels, served.batch
        )
        return _checked(served, meant, row, probabilities)
    except ImageError as error:
        return BadImage(row.id, str(error), error)


def _checked(
    served: Served, meant: MeantImage, row: Row, probabilities: NDArray[np.float32]
) -> ImageAnswer:
    if not np.isfinite(probabilities).all():
        raise ImageError(f"{served.spec.name} has no finite answer to {row.id}; check its pixels")
    best = int(probabilities.argmax())
    confidence = float(probabilities[best])
    threshold = served.spec.unsure_threshold
    return ImageAnswer(
        image=row.id,
        label=served.classifier.classes[best],
        confidence=confidence,
        unsure=None if threshold is None else confidence < threshold,
        probabilities=dict(zip(served.classifier.classes, map(float, probabilities), strict=True)),
        warnings=tuple(meant.warnings),
        metadata=dict(row.metadata),
    )


def _failure(bad: BadImage) -> ImageFailure:
    error = of_image(bad.error)
    return ImageFailure(image=bad.id, error=error.code, detail=error.detail)
