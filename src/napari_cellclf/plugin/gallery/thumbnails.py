"""Thumbnails of rows, drawn in the background: what was asked for last comes first."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtGui import QImage, QPixmap

from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.image import Image
from napari_cellclf.core.thumbnails import PlaneView, plane_view
from napari_cellclf.errors import CellclfError
from napari_cellclf.plugin.napari_layers import colormap_of

_THREADS = 2
_POLL_MS = 25
#: More are not handed over at a time, so that the window stays free.
_AT_ONCE = 48
#: What was asked for before so many others has been scrolled past.
_MOST_WAITING = 400
_JOIN_SECONDS = 5.0


class ThumbnailLoader(QObject):
    """Draws rows of a collection in threads and keeps what was shown last."""

    #: There are new thumbnails; to be painted again.
    ready = Signal()

    def __init__(
        self,
        side: int = 112,
        *,
        most_bytes: int = 128 * 2**20,
        plane_bytes: int = 256 * 2**20,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[int, QPixmap] = OrderedDict()
        #: Why rows cannot be drawn; never forgotten for want of memory, since it decides on labels.
        self._problems: dict[int, str] = {}
        self._side = side
        self._plane_bytes = plane_bytes
        self._work: _Work | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._take)

    @property
    def side(self) -> int:
        """Width and height of a thumbnail in pixels."""
        return self._side

    @property
    def kept_bytes(self) -> int:
        """How much memory the thumbnails take."""
        return self._bytes

    @property
    def n_waiting(self) -> int:
        """How many rows are still to be drawn."""
        return 0 if self._work is None else self._work.n_waiting

    def set_collection(self, collection: Collection | None, side: int | None = None) -> None:
        """Draw the rows of another collection from now on, or in another size."""
        self.close()
        self._side = side or self._side
        if collection is not None:
            self._work = _Work(collection, self._side, self._plane_bytes)
            # Threads must not outlive the window, however it is closed.
            self.destroyed.connect(self._work.stop)

    def get(self, number: int) -> QPixmap | str | None:
        """Return the thumbnail of a row, why there is none, or None if it is still to come."""
        problem = self._problems.get(number)
        if problem is not None:
            return problem
        found = self._kept.get(number)
        if found is not None:
            self._kept.move_to_end(number)
        elif self._work is not None:
            self._work.ask(number)
            if not self._timer.isActive():
                self._timer.start()
        return found

    def problem(self, number: int) -> str:
        """Return why a row has no thumbnail; empty where it has one, or none yet."""
        return self._problems.get(number, "")

    def close(self) -> None:
        """Stop the threads and forget all thumbnails."""
        self._timer.stop()
        if self._work is not None:
            self.destroyed.disconnect(self._work.stop)
            self._work.stop()
            self._work.join()
        self._work = None
        self._kept.clear()
        self._problems.clear()
        self._bytes = 0

    def _take(self) -> None:
        work = self._work
        if work is None:
            return
        # Looked at before taking, since a thread may hand over and be idle in between.
        idle = work.n_waiting == 0
        taken = 0
        while taken < _AT_ONCE:
            try:
                number, drawn = work.done.get_nowait()
            except Empty:
                break
            self._keep(number, drawn)
            taken += 1
        if taken:
            self.ready.emit()
        elif idle:
            self._timer.stop()

    def _keep(self, number: int, drawn: QImage | str) -> None:
        if isinstance(drawn, str):
            self._problems[number] = drawn
            return
        self._forget(number)
        kept = self._kept[number] = QPixmap.fromImage(drawn)
        self._bytes += _size(kept)
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, number: int) -> None:
        old = self._kept.pop(number, None)
        if old is not None:
            self._bytes -= _size(old)


def _size(kept: QPixmap) -> int:
    return kept.width() * kept.height() * 4


class _Work:
    """What the threads share; knows nothing of widgets, so that it can outlive them."""

    def __init__(self, collection: Collection, side: int, plane_bytes: int) -> None:
        self.done: SimpleQueue[tuple[int, QImage | str]] = SimpleQueue()
        self._rows = collection.rows
        self._side = side
        self._object_side = _object_side(collection)
        self._planes = _Planes(collection.read, plane_bytes)
        self._changed = threading.Condition()
        #: In the order in which rows were asked for.
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._drawing: set[int] = set()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._run, name="thumbnails", daemon=True)
            for _ in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def n_waiting(self) -> int:
        with self._changed:
            return len(self._waiting) + len(self._drawing)

    def ask(self, number: int) -> None:
        with self._changed:
            if number in self._drawing:
                return
            self._waiting[number] = None
            self._waiting.move_to_end(number)
            while len(self._waiting) > _MOST_WAITING:
                self._waiting.popitem(last=False)
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        _be_patient()
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                number, _ = self._waiting.popitem()
                self._drawing.add(number)
            drawn = self._draw(number)
            self.done.put((number, drawn))
            with self._changed:
                self._drawing.discard(number)

    def _draw(self, number: int) -> QImage | str:
        row = self._rows[number]
        try:
            pixels = self._planes.of(number, row).thumbnail(
                self._side, row.object, self._object_side
            )
        except (CellclfError, OSError, MemoryError, ValueError) as error:
            return str(error) or type(error).__name__
        height, width = pixels.shape[:2]
        data = pixels.tobytes()
        picture = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
        # A copy of its own, in the form that is painted fastest.
        return picture.convertToFormat(QImage.Format.Format_RGB32)


def _be_patient() -> None:
    """Let the window's own thread go first where there is not enough of the processor for all."""
    if sys.platform.startswith("linux"):
        # On Linux, and only there, it is of this thread and not of the whole process.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


class _Planes:
    """The planes that objects were last cut from; reading is what takes the time."""

    def __init__(self, read: Callable[[int], Image], most_bytes: int) -> None:
        self._read = read
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], PlaneView] = OrderedDict()

    def of(self, number: int, row: Row) -> PlaneView:
        key = (row.source, row.plane)
        with self._lock:
            view = self._kept.get(key)
            if view is not None:
                self._kept.move_to_end(key)
                return view
        image = self._read(number)
        colours = [colormap_of(channel, at) for at, channel in enumerate(image.channels)]
        view = plane_view(image, colours)
        # An image that is a row of its own is not needed again.
        if row.object is not None:
            with self._lock:
                self._kept[key] = view
                while len(self._kept) > 1 and self._n_bytes() > self._most_bytes:
                    self._kept.popitem(last=False)
        return view

    def _n_bytes(self) -> int:
        return sum(view.n_bytes for view in self._kept.values())


def _object_side(collection: Collection) -> float | None:
    """Choose one scale for all objects, by which nearly all of them are shown whole."""
    boxes = [row.object.box for row in collection.rows if row.object and row.object.box]
    if not boxes:
        return None
    sides = sorted(max(bottom - top, right - left) for top, left, bottom, right in boxes)
    return 1.3 * sides[int(0.9 * (len(sides) - 1))]
