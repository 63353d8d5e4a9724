"""HTTP on one connection, with limits that uvicorn lacks: on slow headers and idle connections.

A client that opens connections and sends nothing, or a header byte by byte, would keep them
forever. Here a header has to be complete in time, and each address may have a limited number of
idle connections; the oldest is closed for a new one, so that other clients can always connect. A
client that does not read its answer is disconnected after a while as well.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from napari_cellclf.server.settings import Limits


_TOO_LARGE = ("header_too_large", "the header is too large; send a smaller one")


class IdleConnections:
    """The idle connections of a server, the oldest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all: OrderedDict[GuardedProtocol, None] = OrderedDict()
        self._peers: dict[str, OrderedDict[GuardedProtocol, None]] = {}

    def add(self, connection: GuardedProtocol) -> None:
        """Add a connection, and close the oldest if there are too many."""
        self.discard(connection)
        mine = self._peers.setdefault(connection.peer, OrderedDict())
        mine[connection] = self._all[connection] = None
        if len(mine) > self._limits.idle_per_peer:
            self._close(next(iter(mine)))
        if len(self._all) > self._limits.idle:
            self._close(next(iter(self._all)))

    def discard(self, connection: GuardedProtocol) -> None:
        """Remove a connection."""
        self._all.pop(connection, None)
        mine = self._peers.get(connection.peer)
        if mine is not None:
            mine.pop(connection, None)
            if not mine:
                del self._peers[connection.peer]

    def _close(self, connection: GuardedProtocol) -> None:
        self.discard(connection)
        connection.transport.abort()


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits."""

    limits: Limits
    idle: IdleConnections

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.peer = ""
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_body = False
        self._answered = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first header."""
        super().connection_made(transport)
        # To notice any unsent byte, not only 64 kB; with 0, TLS connections never resume.
        transport.set_write_buffer_limits(1)
        self.peer = self.client[0] if self.client else ""
        self.idle.add(self)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._header_is_there()
        self._answer_is_taken()
        self.idle.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse incoming data, unless a header, or a trailer after a body, grows too large."""
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > self.limits.header_bytes:
            self._refuse(431, *_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Start waiting for the header of a request."""
        super().on_message_begin()
        if self._header_timer is None:
            self._expect_header()

    def on_headers_complete(self) -> None:
        """Pass the request to the application."""
        self._header_is_there()
        self._header_bytes = 0
        self.idle.discard(self)
        if self._header_size() > self.limits.header_bytes:
            # It came in one piece, so that it was whole before its bytes were counted.
            self._refuse(431, *_TOO_LARGE)
            return
        super().on_headers_complete()
        self._in_body = True
        self._answered = False
        if self.parser.should_upgrade() and self._brings_body():
            # The parser would treat the body as the other protocol, and never read it.
            self._refuse(400, "upgrade", "this server speaks HTTP/1.1; ask without Upgrade")

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body, whose size is limited where it is read."""
        self._header_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next header."""
        self._header_bytes = 0
        self._in_body = False
        if not self.transport.is_closing():
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for a client to read its answer, for a limited time."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue with a client that has read its answer."""
        self._answer_is_taken()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Wait for another request on this connection."""
        super().on_response_complete()
        # Another request may have come already, and be next.
        self._answered = self.cycle.response_complete
        if self._answered and not self.transport.is_closing():
            self.idle.add(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(400, "bad_request", "this is not an HTTP/1.1 request")

    def _header_size(self) -> int:
        line = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n")
        return line + sum(len(name) + len(value) + 4 for name, value in self.headers) + 2

    def _brings_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )

    def _answer_is_taken(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _expect_header(self) -> None:
        self._header_timer = self.loop.call_later(self.limits.header_seconds, self._header_is_late)

    def _header_is_there(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_is_late(self) -> None:
        self._header_timer = None
        if self._header_bytes or self.parser is None:
            self._refuse(408, "header_timeout", "the header did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer without calling the application, and close."""
        self._header_is_there()
        if self.transport.is_closing():
            return
        if self._answered == self._in_body:
            # The client would mistake it for the answer to another request.
            self.transport.close()
            return
        content = json.dumps({"error": code, "detail": detail}).encode()
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(content)
            + content
        )
        self.transport.close()


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """Make the protocol class of one server, whose connections are counted together."""
    return type("Guarded", (GuardedProtocol,), {"limits": limits, "idle": IdleConnections(limits)})
