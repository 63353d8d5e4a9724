"""What request handlers share: the model, the queue of the network, the decoders, the limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from napari_cellclf.core.progress import watched
from napari_cellclf.errors import CancelledError
from napari_cellclf.server.batching import Batcher
from napari_cellclf.server.prometheus import Metrics
from napari_cellclf.server.request_errors import ClientGoneError, RequestError, busy
from napari_cellclf.server.served_model import Models
from napari_cellclf.server.uploads import Receiver

if TYPE_CHECKING:
    from starlette.requests import Request

    from napari_cellclf.server.served_model import ServedModel
    from napari_cellclf.server.settings import Settings

T = TypeVar("T")


class Service:
    """A model being served."""

    def __init__(self, reference: str, served: ServedModel, settings: Settings) -> None:
        limits = settings.limits
        self.settings = settings
        self.limits = limits
        self.metrics = Metrics()
        self.models = Models(reference, served, settings, self.metrics)
        self.batcher = Batcher(self.metrics.batch)
        self.receiver = Receiver(limits)
        self.stopping = False
        self._decoders = ThreadPoolExecutor(settings.decoders, "cellclf-decode")
        self._abandoned: set[Future[Any]] = set()
        self._running = 0

    @property
    def is_stuck(self) -> bool:
        """Whether every thread that decodes is at an image that nobody waits for any more."""
        return len(self._abandoned) >= self.settings.decoders

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Compute batches, and watch the model if configured, while the block runs."""
        work: list[Coroutine[Any, Any, None]] = [self.batcher.run()]
        if self.settings.reload_seconds is not None:
            work.append(self.models.watch(self.settings.reload_seconds))
        tasks = [asyncio.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.models.close()
            self._decoders.shutdown(wait=False, cancel_futures=True)

    async def decode(self, work: Callable[[], T]) -> T:
        """Run work in one of the threads that decode images, as long as somebody waits for it."""
        if self.is_stuck:
            raise busy("images that take too long are still being decoded")
        ended = threading.Event()

        def end_if_asked(what: str, fraction: float) -> None:
            if ended.is_set():
                raise CancelledError("nobody waits for this image any more")

        def watched_work() -> T:
            with watched(end_if_asked):
                return work()

        decoding = self._decoders.submit(watched_work)
        try:
            return await asyncio.wrap_future(decoding)
        except asyncio.CancelledError:
            ended.set()
            if not decoding.done() and not decoding.cancel():
                # What is decoded in one piece ends by itself.
                self._abandoned.add(decoding)
                decoding.add_done_callback(self._abandoned.discard)
            raise

    async def answer(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Run the work of a request whose body has been read, until the client disconnects."""
        if self._running >= self.limits.requests:
            work.close()
            raise busy(f"{self._running} requests are being answered already")
        self._running += 1
        self.metrics.running(self._running)
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                return await _while_connected(request, work)
        except TimeoutError:
            raise RequestError(
                504, "deadline",
                f"the answer was not ready within {self.limits.answer_seconds:g} s; send fewer "
                "images at a time, or try again later",
            ) from None  # fmt: skip
        finally:
            self._running -= 1
            self.metrics.running(self._running)


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        await _end(working)
        await _end(gone)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
