"""Images read and prepared in threads while the network computes, handed over in order.

Reading a file waits for a disk, and what takes long in decoding, resizing and normalising is
compiled code that lets go of Python's lock, so that threads do. How far they run ahead is bounded
by the bytes that lie ready, however many files there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from napari_cellclf.errors import ImageTooLargeError
from napari_cellclf.inference.rows import (
    TOO_LARGE,
    BadImage,
    Item,
    Row,
    finishes,
    prepare_plane,
    read_item,
)

if TYPE_CHECKING:
    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.core.image import Image

#: About a tenth of the work on a file is Python's own (opening it, its name, its header) and holds
#: Python's lock, so that more threads than this would wait for it.
_MOST_THREADS = 16
#: Bytes that may lie ready, and be under way: a batch.
_MOST_BYTES = 1 << 27

Mappings = Mapping[str, str | None]


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


@dataclass(frozen=True)
class _Stack:
    """An image of several planes, none of which is prepared yet."""

    item: Item
    image: Image

    @property
    def nbytes(self) -> int:
        return int(self.image.data.nbytes)


def default_threads() -> int:
    """Return how many threads prepare images: one for each processor, 16 at most.

    The work is computing, not waiting, so that more threads than processors would only take turns.
    The network's own threads are not subtracted: on a processor both share the cores, whoever is
    behind, and with a GPU the cores are free.
    """
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable is not None else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def prepared_ahead(
    items: Iterable[Item],
    spec: BundleSpec,
    mapping: Mappings | None,
    *,
    batch_size: int,
    threads: int | None = None,
) -> Generator[Row | BadImage]:
    """Read and prepare images in threads."""
    count = threads or default_threads()
    most = batch_size + count
    pool = ThreadPoolExecutor(count, "cellclf-prepare")
    try:
        tasks = (partial(_open, item, spec, mapping) for item in items)
        for opened in in_order(pool, tasks, most):
            if isinstance(opened, _Stack):
                yield from in_order(pool, _planes(opened, spec, mapping), most)
            else:
                yield opened
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    pool: ThreadPoolExecutor,
    tasks: Iterable[Callable[[], T]],
    most: int,
    most_bytes: int = _MOST_BYTES,
) -> Iterator[T]:
    """Carry tasks out in threads, and yield what they return in the order of the tasks."""
    waiting: deque[Future[T]] = deque()
    sizes: deque[int] = deque(maxlen=most)
    remaining = iter(tasks)

    def fill() -> None:
        room = max(1, min(most, most_bytes // max(sizes))) if sizes else 1
        while len(waiting) < room and (task := next(remaining, None)) is not None:
            waiting.append(pool.submit(task))

    fill()
    while waiting:
        result = waiting.popleft().result()
        sizes.append(max(1, result.nbytes))
        # Before the result is used, so that the threads have work meanwhile.
        fill()
        yield result


def _open(item: Item, spec: BundleSpec, mapping: Mappings | None) -> Row | BadImage | _Stack:
    """Read an image; prepare it, too, if it is one plane."""
    try:
        image = read_item(item)
        if isinstance(image, BadImage):
            return image
        if image.n_planes > 1:
            return _Stack(item, image)
        ((index, plane),) = image.planes()
        return prepare_plane(item, image, index, plane, spec, mapping, 1)
    except MemoryError:
        return _does_not_fit(item.id, 1)


def _planes(
    stack: _Stack, spec: BundleSpec, mapping: Mappings | None
) -> Iterator[Callable[[], Row | BadImage]]:
    for number, (index, plane) in enumerate(stack.image.planes()):
        last = finishes(stack.item, stack.image, number)
        yield partial(_plane, stack, index, plane, spec, mapping, last)


def _plane(stack: _Stack, *how: Any) -> Row | BadImage:
    try:
        return prepare_plane(stack.item, stack.image, *how)
    except MemoryError:
        return _does_not_fit(stack.item.id, how[-1])


def _does_not_fit(name: str, finishes: int) -> BadImage:
    reason = f"{name} {TOO_LARGE}"
    return BadImage(name, reason, ImageTooLargeError(reason), finishes)
