"""Who may ask: the Host and Origin that a request names, and its token."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from napari_cellclf.server.request_errors import RequestError, busy, one_line
from napari_cellclf.server.schemas import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from napari_cellclf.server.prometheus import Metrics
    from napari_cellclf.server.settings import Settings

_log = logging.getLogger("napari_cellclf.server")

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
#: A Host header: a name or an address, and a port.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][@/?#\\:\s]+)(?::\d*)?")
#: As nginx has it: the client went away before the answer.
CLIENT_GONE = 499


class RequestLog:
    """Counts and logs each request, in one line without text that the client chose."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Iterable[str]) -> None:
        self._app = app
        self._metrics = metrics
        # Metrics name no other paths: clients could make up any number of them.
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # For an exception that escapes the application.
        began, status, started = time.perf_counter(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            # Shutting down, and the time for finishing requests is over.
            if started:
                raise
            await failure_response(busy("the server is shutting down"))(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - began
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(path, status, seconds)
            client = scope["client"][0] if scope.get("client") else "-"
            asked = f"{scope['method']} {scope['path'][:200]}"
            _log.info("%s %s %d %.0f ms", client, one_line(asked), status, seconds * 1000)


class AccessControl:
    """Refuses requests that name another host, come from other web pages, or lack the token."""

    def __init__(self, app: ASGIApp, settings: Settings, public: Iterable[str]) -> None:
        self._app = app
        self._settings = settings
        self._public = frozenset(public)
        names = {"localhost", settings.host, socket.gethostname(), *settings.allowed_hosts}
        self._hosts = frozenset(name.lower() for name in names)
        self._token = None if settings.token is None else settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            request = Request(scope)
            try:
                self._check_host(request)
                self._check_origin(request)
                self._check_token(request)
            except RequestError as error:
                await failure_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check_host(self, request: Request) -> None:
        """Refuse an unknown name: a web page may have made its own name point here."""
        named = request.headers.getlist("host")
        # Of several, what stands between could have taken another one.
        host = _host_name(named[0]) if len(named) == 1 else ""
        # Addresses cannot be made to point elsewhere.
        if not (_is_address(host) or host in self._hosts):
            raise RequestError(
                400, "host_not_allowed",
                f"{one_line(host)[:100]!r} is not a name of this server; start it with "
                "--allowed-host and that name",
            )  # fmt: skip

    def _check_origin(self, request: Request) -> None:
        origin = request.headers.get("origin")
        if origin is None or origin in self._settings.allow_origins:
            return
        if _netloc(origin) != request.headers.get("host", "").lower():
            raise RequestError(
                403, "origin_not_allowed",
                "requests from web pages of other origins are refused; start the server with "
                "--allow-origin and that origin",
            )  # fmt: skip

    def _check_token(self, request: Request) -> None:
        path, method = request.scope["path"], request.method
        if self._token is None or path in self._public or method == "OPTIONS":
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._token)
        if scheme.lower() != "bearer" or not right:
            raise RequestError(
                401, "token",
                "this server requires a token; send it as 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": 'Bearer realm="cellclf"', "Connection": "close"},
            )  # fmt: skip


def failure_response(error: RequestError) -> Response:
    """Make the response for an error."""
    content = Failure(error=error.code, detail=error.detail).model_dump()
    return JSONResponse(content, error.status, error.headers)


def _host_name(header: str) -> str:
    """Remove the port from a Host header; nothing is left of one that is more than a host."""
    found = _HOST.fullmatch(header.lower())
    return found[1].strip("[]").rstrip(".") if found else ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
