"""Starting, stopping and following the one job that may run at a time."""

from __future__ import annotations

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError
from napari_cellclf.plugin.classify.worker import Job, Row, Status, Summary, classify
from napari_cellclf.plugin.shared.explain import explain


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
        """Start a job; the one before must have ended."""
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
