"""Run a server: listen, answer, reload the model on a signal, stop without dropping requests."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import uvicorn

from napari_cellclf.errors import InputError
from napari_cellclf.server.app import make_app
from napari_cellclf.server.connections import guarded
from napari_cellclf.server.served_model import load_served
from napari_cellclf.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from napari_cellclf.server.settings import Settings

_log = logging.getLogger("napari_cellclf.server")
_BACKLOG = 512
_MAX_FILES = 65536


class Server(uvicorn.Server):
    """A server of one model."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                make_app(service),
                http=guarded(settings.limits),
                ws="none",
                lifespan="on",
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.key,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=int(settings.limits.stop_seconds),
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Report that it is no longer ready, then stop; the second time at once."""
        if self._service.stopping:
            self.force_exit = self.should_exit = True
            return
        self._service.stopping = True
        _log.info("stopping: finishing the requests in progress, accepting no new ones")
        asyncio.get_running_loop().call_later(self._service.settings.drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, and look for a new model on SIGHUP."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        wanted = {signal.SIGINT: self._told_to_stop, signal.SIGTERM: self._told_to_stop}
        if hasattr(signal, "SIGHUP"):
            wanted[signal.SIGHUP] = self._told_to_reload
        before = {number: signal.getsignal(number) for number in wanted}
        for number, do in wanted.items():
            signal.signal(number, lambda *_, do=do: loop.call_soon_threadsafe(do))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _told_to_stop(self) -> None:
        self.handle_exit(signal.SIGTERM, None)

    def _told_to_reload(self) -> None:
        self._reloading = asyncio.create_task(self._service.models.reload())


def allow_many_connections() -> None:
    """Raise the limit of open files of this process to the system's maximum.

    Each connection is one, even before its first byte, for which TLS waits a minute.
    """
    if sys.platform == "win32":
        return
    import resource

    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if most == resource.RLIM_INFINITY else min(most, _MAX_FILES)
    if least != resource.RLIM_INFINITY and least < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def listen(settings: Settings) -> socket.socket:
    """Bind the address to listen at, before anything that takes time."""
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as unless_bound:
            taken = unless_bound.enter_context(socket.socket(family, kind, protocol))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
            unless_bound.pop_all()
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); choose another with "
            "--host and --port"
        ) from error
    return taken


def address_of(listening: socket.socket, settings: Settings) -> str:
    """Return the address of a server for clients."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if settings.certificate is None else 'https'}://{shown}:{port}"


def serve(reference: str, settings: Settings, on_ready: Callable[[str, str], None]) -> None:
    """Serve a model until the process is stopped."""
    with listen(settings) as listening:
        allow_many_connections()
        served = load_served(
            reference,
            settings.limits.batch,
            engine=settings.engine,
            precision=settings.precision,
            single_channel=settings.single_channel,
        )
        asyncio.run(_serve(Service(reference, served, settings), listening, on_ready))


async def _serve(
    service: Service, listening: socket.socket, on_ready: Callable[[str, str], None]
) -> None:
    server = Server(service)
    try:
        server.config.load()
    except OSError as error:
        raise InputError(
            f"the certificate or its key cannot be used ({error.strerror or error}); give PEM files"
        ) from error
    device = service.models.current.classifier.device
    on_ready(address_of(listening, service.settings), device)
    await server.serve(sockets=[listening])
