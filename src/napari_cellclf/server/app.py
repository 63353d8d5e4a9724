"""The ASGI application: its addresses, and the answers about the server itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from napari_cellclf.bundles.card import model_card
from napari_cellclf.server.access import CLIENT_GONE, AccessControl, RequestLog, failure_response
from napari_cellclf.server.page import page
from napari_cellclf.server.predict import compute, predict, unlike
from napari_cellclf.server.prometheus import CONTENT_TYPE
from napari_cellclf.server.request_errors import ClientGoneError, RequestError
from napari_cellclf.server.schemas import (
    BINARY,
    Answer,
    ComputeQuery,
    Endpoint,
    ModelAnswer,
    ModelHeaders,
    PredictQuery,
    RequestLimits,
    State,
    describe,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from napari_cellclf.server.service import Service


_JSON = "application/json"
_HEADERS = ["Authorization", "Content-Type", "If-Match"]


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
        gives_features=served.classifier.says_unlike,
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
    if service.is_stuck:
        return _state(State(status="busy"), 503)
    return _state(State(status="ok"))


async def metrics(request: Request) -> Response:
    """Answer ``GET /metrics``."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def openapi(request: Request) -> Response:
    """Answer ``GET /openapi.json``."""
    return JSONResponse(describe(ENDPOINTS))


def _state(state: State, status: int = 200) -> Response:
    return Response(state.model_dump_json(), status, media_type=_JSON)


_IMAGES = ("image/png", "image/jpeg", "image/tiff", "application/octet-stream")
_IMAGE_STATUSES = (400, 401, 408, 413, 415, 422, 503, 504)
_ARRAY = "application/octet-stream"
_LINE = {"type": "string", "examples": ["HEPG2: 0.8455, HUVEC: 0.1040, RPE: 0.0505"]}

ENDPOINTS = (
    Endpoint("/", page, public=True),
    Endpoint(
        "/api/predict",
        predict,
        "Classify images.",
        methods=("GET", "POST"),
        takes=(*_IMAGES, "multipart/form-data"),
        answers={_JSON: Answer, "text/plain": _LINE},
        query=PredictQuery,
        statuses=_IMAGE_STATUSES,
    ),
    Endpoint(
        "/api/compute",
        compute,
        "Compute the network: float32 (N, Y, X, C) in, (N, K) out, as .npy files.",
        methods=("POST",),
        takes=(_ARRAY,),
        answers={_ARRAY: BINARY},
        query=ComputeQuery,
        headers=ModelHeaders,
        statuses=(400, 401, 408, 412, 413, 422, 503, 504),
    ),
    Endpoint(
        "/api/unlike",
        unlike,
        "What tells images that are unlike training, as a safetensors file.",
        answers={_ARRAY: BINARY},
        headers=ModelHeaders,
        statuses=(401, 404, 412),
    ),
    Endpoint(
        "/api/model",
        model,
        "The model and its card.",
        answers={_JSON: ModelAnswer},
        statuses=(401,),
    ),
    Endpoint(
        "/healthz", healthz, "Whether the server is alive.", answers={_JSON: State}, public=True
    ),
    Endpoint(
        "/readyz",
        readyz,
        "Whether the server is ready for requests.",
        answers={_JSON: State},
        statuses=(503,),
        public=True,
    ),
    Endpoint(
        "/metrics",
        metrics,
        "Metrics for Prometheus.",
        answers={"text/plain": {"type": "string"}},
        statuses=(401,),
    ),
    Endpoint("/openapi.json", openapi, public=True),
)


def make_app(service: Service) -> Starlette:
    """Make the application that serves a model."""
    settings = service.settings
    public = [one.path for one in ENDPOINTS if one.public]
    around = [
        Middleware(RequestLog, metrics=service.metrics, paths=[one.path for one in ENDPOINTS])
    ]
    if settings.allow_origins:
        around.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.allow_origins,
                allow_methods=["GET", "POST"],
                allow_headers=_HEADERS,
            )
        )
    around.append(Middleware(AccessControl, settings=settings, public=public))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.working():
            yield

    app = Starlette(
        routes=[Route(one.path, one.handler, methods=one.methods) for one in ENDPOINTS],
        middleware=around,
        exception_handlers={
            RequestError: _failed,
            ClientGoneError: _gone,
            HTTPException: _no_route,
            Exception: _broken,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return failure_response(error)


async def _gone(request: Request, error: Exception) -> Response:
    # Only the log and the metrics see this.
    return Response(status_code=CLIENT_GONE)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = {
        404: "nothing is served at this address; /openapi.json lists what is",
        405: "this address does not support this method; /openapi.json lists what it does",
    }.get(status, status.phrase)
    code = status.phrase.lower().replace(" ", "_")
    return failure_response(RequestError(status, code, detail, dict(error.headers or {})))


async def _broken(request: Request, error: Exception) -> Response:
    detail = "the server failed to answer; see its log"
    return failure_response(RequestError(500, "internal", detail))
