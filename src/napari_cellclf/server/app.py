"""The ASGI application: routes, and what is around them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Route

from napari_cellclf.server import handlers
from napari_cellclf.server.access import CLIENT_GONE, Door, Watch, failure_response
from napari_cellclf.server.compute import compute
from napari_cellclf.server.failures import ClientGoneError, RequestError
from napari_cellclf.server.page import page
from napari_cellclf.server.predict import predict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from napari_cellclf.server.service import Service

_HEADERS = ["Authorization", "Content-Type", "If-Match"]


def make_app(service: Service) -> Starlette:
    """Make the application that serves a model."""
    settings = service.settings
    around = [Middleware(Watch, metrics=service.metrics)]
    if settings.allow_origins:
        around.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.allow_origins,
                allow_methods=["GET", "POST"],
                allow_headers=_HEADERS,
            )
        )
    around.append(Middleware(Door, settings=settings))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.working():
            yield

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/predict", predict, methods=["GET", "POST"]),
            Route("/api/compute", compute, methods=["POST"]),
            Route("/api/model", handlers.model),
            Route("/healthz", handlers.healthz),
            Route("/readyz", handlers.readyz),
            Route("/metrics", handlers.metrics),
            Route("/openapi.json", handlers.openapi),
        ],
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
    # Nobody reads it; the log and the metrics do.
    return Response(status_code=CLIENT_GONE)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = {
        404: "there is nothing at this address; /openapi.json says what there is",
        405: "this address does not know this method; /openapi.json says what there is",
    }.get(status, status.phrase)
    code = status.phrase.lower().replace(" ", "_")
    return failure_response(RequestError(status, code, detail, dict(error.headers or {})))


async def _broken(request: Request, error: Exception) -> Response:
    detail = "the server failed to answer, and its log says why"
    return failure_response(RequestError(500, "internal", detail))
