"""Compute the images that wait at the same time in one batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_cellclf.errors import ImageTooLargeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: ``(N, Y, X, C)`` to N answers, one an image.
Compute: TypeAlias = "Callable[[NDArray[np.float32]], Any]"
OnBatch = Callable[[int, int], None]
#: Whose images, of which shape, and how many of them at a time.
_Key = tuple[Hashable, tuple[int, ...], int]

#: A batch is cut short where its pixels would take more memory than this, in bytes.
_MAX_BATCH_BYTES = 1 << 27


@dataclass(eq=False)
class _Job:
    number: int
    pixels: NDArray[np.float32]
    answer: asyncio.Future[Any]


class Batcher:
    """Computes images in the order of arrival, those of equal shape together.

    An image that arrives while the network is idle is computed at once; those that arrive meanwhile
    are the next batch.
    """

    def __init__(self, on_batch: OnBatch) -> None:
        self._on_batch = on_batch
        self._queues: dict[_Key, tuple[Compute, deque[_Job]]] = {}
        self._numbers = count()
        self._wake = asyncio.Event()
        # One thread: Keras networks are not thread-safe.
        self._thread: Executor = ThreadPoolExecutor(1, "cellclf-network")

    @property
    def waiting(self) -> int:
        """Images that wait to be computed."""
        return sum(len(queue) for _, queue in self._queues.values())

    async def compute(
        self, owner: Hashable, compute: Compute, pixels: NDArray[np.float32], most: int
    ) -> Any:
        """Compute one image.

        `owner`: images of one owner and shape may be computed together. `compute`: ``(N, Y, X, C)``
        to N answers; the same for all images of an owner. `pixels`: ndarray, shape (Y, X, C),
        float32; prepared. Returns what `compute` gives for it.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        key = (owner, pixels.shape, most)
        queue = self._queues.setdefault(key, (compute, deque()))[1]
        queue.append(_Job(next(self._numbers), pixels, answer))
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Compute incoming images until this is cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (batch := self._next_batch()) is not None:
                    await self._compute(*batch)
        finally:
            self._thread.shutdown(wait=False)

    def _next_batch(self) -> tuple[Compute, list[_Job]] | None:
        """Take the oldest job and those that can be computed with it."""
        self._drop_unwanted()
        if not self._queues:
            return None
        key = min(self._queues, key=lambda key: self._queues[key][1][0].number)
        compute, queue = self._queues[key]
        room = max(1, _MAX_BATCH_BYTES // queue[0].pixels.nbytes)
        jobs = [queue.popleft() for _ in range(min(len(queue), key[2], room))]
        if not queue:
            del self._queues[key]
        return compute, jobs

    def _drop_unwanted(self) -> None:
        """Drop images whose requests have timed out, or whose clients have gone."""
        for key, (compute, queue) in list(self._queues.items()):
            wanted = deque(job for job in queue if not job.answer.done())
            if wanted:
                self._queues[key] = (compute, wanted)
            else:
                del self._queues[key]

    async def _compute(self, compute: Compute, jobs: list[_Job]) -> None:
        self._on_batch(len(jobs), self.waiting)
        loop = asyncio.get_running_loop()
        pixels = [job.pixels for job in jobs]
        computing = loop.run_in_executor(self._thread, _compute_together, compute, pixels)
        await asyncio.wait([computing])
        error = computing.exception()
        if isinstance(error, MemoryError | ImageTooLargeError) and len(jobs) > 1:
            for job in jobs:
                await self._compute(compute, [job])
            return
        for row, job in enumerate(jobs):
            with contextlib.suppress(asyncio.InvalidStateError):
                if error is None:
                    job.answer.set_result(computing.result()[row])
                else:
                    job.answer.set_exception(_of_one_image(error))


def _compute_together(compute: Compute, pixels: list[NDArray[Any]]) -> Any:
    return compute(pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels))


def _of_one_image(error: BaseException) -> BaseException:
    if isinstance(error, MemoryError):
        return ImageTooLargeError("the image needs more memory than is free; send a smaller one")
    return error
