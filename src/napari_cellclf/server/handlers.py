"""The answers about the server itself: its model, its state, its numbers, its description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from napari_cellclf.bundles.card import model_card
from napari_cellclf.server.metrics import CONTENT_TYPE
from napari_cellclf.server.openapi import description
from napari_cellclf.server.schemas import ModelAnswer, RequestLimits, State

if TYPE_CHECKING:
    from starlette.requests import Request

    from napari_cellclf.server.service import Service

_JSON = "application/json"


async def model(request: Request) -> Response:
    """Answer ``GET /api/model``."""
    from napari_cellclf import __version__

    service: Service = request.app.state.service
    served, limits = service.models.current, service.limits
    answer = ModelAnswer(
        name=served.spec.name,
        sha256=served.sha256,
        device=served.classifier.device,
        version=__version__,
        card=model_card(served.spec),
        spec=served.spec,
        limits=RequestLimits(
            body_bytes=limits.body_bytes,
            pixel_bytes=limits.pixel_bytes,
            files=limits.files,
            planes=limits.planes,
            batch=limits.batch,
        ),
    )
    return Response(answer.model_dump_json(), media_type=_JSON)


async def healthz(request: Request) -> Response:
    """Answer ``GET /healthz``: the process is alive."""
    return _state(State(status="ok"))


async def readyz(request: Request) -> Response:
    """Answer ``GET /readyz``: whether to send requests here."""
    service: Service = request.app.state.service
    if service.stopping:
        return _state(State(status="stopping"), 503)
    return _state(State(status="ok"))


async def metrics(request: Request) -> Response:
    """Answer ``GET /metrics``."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def openapi(request: Request) -> Response:
    """Answer ``GET /openapi.json``."""
    return JSONResponse(description())


def _state(state: State, status: int = 200) -> Response:
    return Response(state.model_dump_json(), status, media_type=_JSON)
