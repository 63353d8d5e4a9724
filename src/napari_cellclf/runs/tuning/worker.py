"""One process of a search: trial after trial; also as a child, told what to do on standard input.

A child stops when its standard input ends, be it that its parent closed it or was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_cellclf.core.progress import ShouldStop
from napari_cellclf.errors import CancelledError, CellclfError
from napari_cellclf.runs.create import load_dataset
from napari_cellclf.runs.tuning.folder import TuningFolder

_STDIN = 0
#: How a child begins the line that says why it ended.
ERROR = "error: "


@dataclass(frozen=True)
class Task:
    """How long to go on."""

    #: Trials of the search in all.
    limit: int
    #: Unix time after which nothing is trained any more.
    deadline: float | None = None
    #: URL of the data base with the trials, if they are not in the folder.
    storage: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.time() >= self.deadline


def work(
    folder: TuningFolder,
    task: Task,
    *,
    on_change: Callable[[], None],
    should_stop: ShouldStop,
) -> None:
    """Train trials until there are enough, or the time is up."""
    from napari_cellclf.runs.tuning.store import Store
    from napari_cellclf.runs.tuning.trial import begin_trial, train_trial, without_test

    def stop() -> bool:
        return should_stop() or task.is_over or folder.stop_file.exists()

    store = Store(folder, task.storage)
    searched = without_test(load_dataset(folder.base))
    while not stop():
        with store.claimed(task.limit) as trial:
            if trial is None:
                return
            begin_trial(folder, trial, searched)
            try:
                train_trial(folder, trial, store, on_epoch=on_change, should_stop=stop)
            except CancelledError:
                if task.is_over:
                    return
                raise
        on_change()
    if not task.is_over:
        raise CancelledError("the search was stopped")


def main() -> int:
    """Work as a child: the folder is the argument, the task the first line of standard input."""
    # Ctrl-C in a terminal reaches parent and children; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = TuningFolder(Path(sys.argv[1]))
    task = Task(**json.loads(_read_line()))
    ended = threading.Event()
    threading.Thread(target=_await_end, args=(ended,), daemon=True).start()
    try:
        work(folder, task, on_change=_nothing, should_stop=ended.is_set)
    except CancelledError:
        return 130
    except (CellclfError, OSError, MemoryError, ImportError) as error:
        sentence = " ".join(str(error).splitlines()) or type(error).__name__
        sys.stderr.write(f"{ERROR}{sentence}\n")
        return 1
    return 0


def task_line(task: Task) -> bytes:
    """Return what a child reads first.

    Returns one line.
    """
    return json.dumps(asdict(task)).encode() + b"\n"


def _nothing() -> None:
    """Tell nobody: the parent looks at the trials itself."""


def _read_line() -> bytes:
    # Not through Python's own buffer, whose lock a thread would hold at exit.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(_STDIN, 1)
        if not byte:
            raise SystemExit(130)
        line += byte
    return line


def _await_end(ended: threading.Event) -> None:
    while os.read(_STDIN, 4096):
        pass
    ended.set()


if __name__ == "__main__":
    sys.exit(main())
