"""Work that would hold up the window, in a thread or a process; only the latest result counts."""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakSet

from qtpy.QtCore import QObject, QThreadPool, QTimer, Signal
from superqt.utils import create_worker

from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, CellclfError
from napari_cellclf.inference.process_engine import close_engines
from napari_cellclf.plugin.shared.messages import explain

_POLL_MS = 200
#: So long Python waits, when it ends, for threads to notice it.
_LONGEST_END_MS = 10_000
_LONGEST_WORDS = 500


#: Set to end work that is still being done.
_stops: WeakSet[threading.Event] = WeakSet()


def end_with_python(stop: threading.Event) -> None:
    """Set an event when Python ends, and let the thread that heeds it end before Qt goes.

    A thread that is done when Qt's objects are gone brings the whole process down.
    """
    _stops.add(stop)


@atexit.register
def _end_all() -> None:
    for stop in list(_stops):
        stop.set()
    # A network that is still being loaded would keep its thread for longer than is waited.
    close_engines()
    pool = QThreadPool.globalInstance()
    if pool is not None:
        pool.waitForDone(_LONGEST_END_MS)


@dataclass
class Ticket:
    """What a piece of work is told by, and tells through."""

    #: Set when nobody waits for the result any more.
    stop: threading.Event = field(default_factory=threading.Event)
    #: The latest progress.
    told: Progress | None = None

    def should_stop(self) -> bool:
        """Whether to give up."""
        return self.stop.is_set()

    def on_progress(self, progress: Progress) -> None:
        """Remember how far the work is."""
        self.told = progress


class LatestTask(QObject):
    """Runs one piece of work after the other in threads and hands over the latest result only."""

    #: The result of the latest work.
    done = Signal(object)
    #: One sentence, if it failed.
    failed = Signal(str)
    #: How far it is, a `Progress`, some times a second.
    progress = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._work: _Work | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_timer)

    @property
    def running(self) -> bool:
        """Whether a result is still to come."""
        return self._work is not None

    def start(self, work: Callable[[Ticket], Any]) -> None:
        """Begin; whatever was begun before is told to stop, and its result is dropped."""
        self.stop()
        self._work = _Work(self)
        self._work.start(work)
        self._timer.start()

    def stop(self) -> None:
        """Ask the work to stop; nothing more is heard of it."""
        if self._work is not None:
            self._work.ticket.stop.set()
        self._work = None
        self._timer.stop()

    def end(self, work: _Work, result: Any, error: Exception | None) -> None:
        """Hand over how a piece of work ended, unless a later one was begun."""
        work.deleteLater()
        if work is not self._work:
            return
        self.stop()
        if error is None:
            self.done.emit(result)
        elif not isinstance(error, CancelledError):
            self.failed.emit(explain(error))

    def _on_timer(self) -> None:
        if self._work is not None and self._work.ticket.told is not None:
            self.progress.emit(self._work.ticket.told)


class _Work(QObject):
    """One piece of work; its slots run in the GUI's thread and know which piece they are of."""

    def __init__(self, task: LatestTask) -> None:
        super().__init__(task)
        self.ticket = Ticket()
        self._task = task

    def start(self, work: Callable[[Ticket], Any]) -> None:
        """Begin in a thread."""
        waiting = partial(_beside_others, work)
        end_with_python(self.ticket.stop)
        worker = create_worker(waiting, self.ticket, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(self._on_return)
        worker.errored.connect(self._on_error)
        worker.start()

    def _on_return(self, result: Any) -> None:
        self._task.end(self, result, None)

    def _on_error(self, error: Exception) -> None:
        self._task.end(self, None, error)


def _beside_others(work: Callable[[Ticket], Any], ticket: Ticket) -> Any:
    """Do work that may wait for files or a child process, while other work can still begin.

    Qt begins no more work at a time than there are processors: two pieces that wait on a small
    computer would keep images from being opened.
    """
    pool = QThreadPool.globalInstance()
    if pool is None:
        return work(ticket)
    pool.releaseThread()
    try:
        return work(ticket)
    finally:
        pool.reserveThread()


def run_command(arguments: Sequence[str], ticket: Ticket, module: str = "napari_cellclf") -> None:
    """Run ``cellclf`` in a process of its own, for what needs TensorFlow; to be done in a thread.

    `module`: another one to run.

    TensorFlow's wheels and Mesa's OpenGL drivers crash each other in napari's process.
    """
    # -P keeps modules that happen to lie in the current folder out of the child.
    command = [sys.executable, "-P", "-m", module, *arguments]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):
        while process.poll() is None:
            if ticket.should_stop():
                process.terminate()
                raise CancelledError(f"cellclf {arguments[0]} was stopped")
            time.sleep(_POLL_MS / 1000)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if process.returncode:
        last = said.splitlines()[-1][:_LONGEST_WORDS] if said else "it said nothing"
        raise CellclfError(last.removeprefix("cellclf:").strip().removeprefix("error:").strip())
