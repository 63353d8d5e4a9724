"""Several processes that search together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_cellclf.core.progress import ShouldStop
from napari_cellclf.errors import CancelledError, RunError
from napari_cellclf.runs.tuning.folder import TuningFolder
from napari_cellclf.runs.tuning.worker import ERROR, Task, task_line

_MODULE = "napari_cellclf.runs.tuning.worker"
#: Seconds between two looks at the children.
_INTERVAL = 0.2
#: Seconds between two looks at what they have written down.
_LOOK = 1.0
_STOPPED = 130


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def problem(self) -> str | None:
        """Why it ended, if it should not have."""
        code = self.process.returncode
        if code in (0, _STOPPED):
            return None
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = lines[-1] if lines else ""
        if last.startswith(ERROR):
            return last.removeprefix(ERROR)
        return (
            f"a process of the search ended with code {code}, perhaps for want of memory (its last "
            f"words are in {self.log}); use fewer --jobs, and start the same search again, which "
            "goes on where it was"
        )


def work_together(
    folder: TuningFolder,
    task: Task,
    jobs: int,
    *,
    on_change: Callable[[], None],
    should_stop: ShouldStop,
) -> None:
    """Train trials in several processes until there are enough, or the time is up."""
    folder.workers.mkdir(exist_ok=True)
    children: list[_Child] = []
    stopped = False
    try:
        for number in range(1, jobs + 1):
            children.append(_start(folder, task, number))
        next_look = time.monotonic() + _LOOK
        while any(child.process.poll() is None for child in children):
            time.sleep(_INTERVAL)
            if not stopped and should_stop():
                stopped = True
                for child in children:
                    _hang_up(child)
            if time.monotonic() >= next_look:
                on_change()
                next_look = time.monotonic() + _LOOK
    finally:
        for child in children:
            _hang_up(child)
            # Nothing is lost by it: what a trial has not written down is done again.
            child.process.kill()
            child.process.wait()
    problems = [child.problem for child in children if child.problem is not None]
    if stopped or any(child.process.returncode == _STOPPED for child in children):
        raise CancelledError("the search was stopped")
    if problems:
        raise RunError(problems[0])


def _start(folder: TuningFolder, task: Task, number: int) -> _Child:
    log = folder.workers / f"{number}.log"
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(folder.path)],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            env=environment,
        )
    if process.stdin is not None:
        # A child that is gone already says why in its log.
        with suppress(BrokenPipeError):
            process.stdin.write(task_line(task))
            process.stdin.flush()
    return _Child(process, log)


def _hang_up(child: _Child) -> None:
    """Close what the child listens to, which tells it to stop."""
    if child.process.stdin is not None:
        with suppress(BrokenPipeError):
            child.process.stdin.close()
