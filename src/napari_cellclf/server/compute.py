"""``/api/compute``: the bare network, for clients that prepare images themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from napari_cellclf.bundles.arrays import dump_array, parse_array
from napari_cellclf.errors import BundleError, ImageTooLargeError
from napari_cellclf.server.failures import RequestError, of_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.requests import Request

    from napari_cellclf.server.served import Served
    from napari_cellclf.server.service import Service


async def compute(request: Request) -> Response:
    """Answer ``POST /api/compute``.

    `request`: its body is the ``.npy`` file of a float32 array ``(N, Y, X, C)`` from the
    preprocessing of the model whose hash stands in ``If-Match``. Returns the ``.npy`` file of ``(N,
    K)`` float32 probabilities, before views and temperature.
    """
    service: Service = request.app.state.service
    with service.receiver.holding() as body:
        content = await body.raw(request)
        served = service.models.current
        _check_model(request, served)
        batch = _batch(content, served, service.limits.batch)
        answer = await service.answer(request, _compute(service, served, batch))
    return Response(dump_array(answer), media_type="application/octet-stream")


async def _compute(
    service: Service, served: Served, batch: NDArray[np.float32]
) -> NDArray[np.float32]:
    engine = served.classifier.engine
    try:
        rows = await asyncio.gather(
            *(
                service.batcher.compute((served, "network"), engine, row, served.batch)
                for row in batch
            )
        )
    except ImageTooLargeError as error:
        raise of_image(error) from error
    return np.stack(rows)


def _check_model(request: Request, served: Served) -> None:
    if request.headers.get("if-match", "").strip('"') != served.sha256:
        raise RequestError(
            412, "another_model",
            f"{served.spec.name} {served.sha256[:12]} answers now, and arrays must be prepared for "
            "it; connect again, and name it in If-Match",
        )  # fmt: skip


def _batch(content: bytes, served: Served, most: int) -> NDArray[np.float32]:
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


def _size(served: Served) -> tuple[int | None, int | None]:
    return served.classifier.preprocessing.size or (None, None)
