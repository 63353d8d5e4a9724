"""Starting, stopping and following the one job that may run at a time."""

from __future__ import annotations

import logging
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, CellclfError
from napari_cellclf.plugin.classify.worker import Job, Row, Status, Summary, classify

_log = logging.getLogger(__name__)


class JobRunner(QObject):
    """Runs a job in a thread and tells of it in the GUI's thread.

    napari's own worker is not used: it also reports to the window that was current when it was
    made, which fails when that window has been closed, and raises once more what a job raised.
    """

    status = Signal(object)
    progress = Signal(object)
    row = Signal(object)
    #: How the job ended, if it ended well or was stopped.
    ended = Signal(object)
    #: One sentence, if it did not.
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None

    @property
    def running(self) -> bool:
        """Whether a job is on."""
        return self._job is not None

    def start(self, job: Job) -> None:
        """Start a job; the one before must have ended.

        Parameters
        ----------
        job : Job
            What to do.
        """
        self._job = job
        worker = create_worker(classify, job, _start_thread=False, _ignore_errors=True)
        worker.yielded.connect(self._on_yield)
        worker.returned.connect(self._on_return)
        worker.errored.connect(self._on_error)
        worker.start()

    def stop(self) -> None:
        """Ask the job to end after the batch in hand; it will still tell how it ended."""
        if self._job is not None:
            self._job.stop.set()

    def _on_yield(self, told: Status | Progress | Row) -> None:
        if isinstance(told, Status):
            self.status.emit(told)
        elif isinstance(told, Progress):
            self.progress.emit(told)
        else:
            self.row.emit(told)

    def _on_return(self, summary: Summary) -> None:
        self._job = None
        self.ended.emit(summary)

    def _on_error(self, error: Exception) -> None:
        self._job = None
        if isinstance(error, CancelledError):
            self.ended.emit(Summary(0, 0, 0, cancelled=True))
            return
        self.failed.emit(explain(error))


def explain(error: BaseException) -> str:
    """Write an error as one line for the widget.

    Parameters
    ----------
    error : Exception
        What was raised.

    Returns
    -------
    str
        Our own errors say what to do; of others the whole is written to the log.
    """
    if isinstance(error, CellclfError):
        return _sentence(str(error))
    _log.error("classification failed", exc_info=error)
    if isinstance(error, MemoryError):
        return "There was not enough memory; close other images or classify a smaller one."
    kind: Any = type(error).__name__
    first = (str(error).splitlines() or [""])[0][:200]
    return f"Something unexpected happened ({kind}: {first}); the log has the details."


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    first = text.split(" ", 1)[0]
    # The name of a file stays as it is.
    start = first.capitalize() if first.isalpha() and first.islower() else first
    return start + text[len(first) :] + ("" if text.endswith((".", "!", "?")) else ".")
