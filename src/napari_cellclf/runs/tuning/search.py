"""Search for good settings from wherever the search stands, in one process or several."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, RunError, TrainingError
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.tuning.search_folder import TuningFolder, TuningSpec, is_half_made
from napari_cellclf.runs.tuning.space import configuration
from napari_cellclf.runs.tuning.trial_records import (
    TrialRecord,
    best_of,
    plot_results,
    read_records,
    write_results,
)
from napari_cellclf.runs.tuning.trial_worker import ERROR, Task, task_line, work

if TYPE_CHECKING:
    from napari_cellclf.runs.tuning.study import Store

OnTrial = Callable[[TrialRecord, TrialRecord | None], None]
_MODULE = "napari_cellclf.runs.tuning.trial_worker"
#: Seconds between two looks at the children.
_INTERVAL = 0.2
#: Seconds between two looks at what they have written down.
_LOOK = 1.0
_STOPPED = 130


def ignore_trial(trial: TrialRecord, best: TrialRecord | None) -> None:
    """Take no notice: the default of every `on_trial`."""


@dataclass(frozen=True)
class TuningResult:
    """What a search came to."""

    #: The search.
    folder: TuningFolder
    #: What was searched.
    spec: TuningSpec
    #: All that were begun.
    trials: tuple[TrialRecord, ...]
    #: The best of them.
    best: TrialRecord


def run_search(
    folder: str | Path,
    *,
    trials: int,
    jobs: int = 1,
    timeout: float | None = None,
    storage: str | None = None,
    on_progress: OnProgress = ignore_progress,
    on_trial: OnTrial = ignore_trial,
    should_stop: ShouldStop = never_stop,
) -> TuningResult:
    """Train trials until there are as many as asked for.

    Other processes may search in the same folder at the same time. Test images are not read.
    """
    from napari_cellclf.runs.tuning.study import Store

    search = TuningFolder(expanded(folder).absolute())
    look = _Look(search, Store(search, storage), trials, on_progress, on_trial)
    search.stop_file.unlink(missing_ok=True)
    deadline = None if timeout is None else time.time() + timeout
    task = Task(trials, deadline, storage)
    try:
        if jobs == 1:
            work(search, task, on_change=look, should_stop=should_stop)
        else:
            work_together(search, task, jobs, on_change=look, should_stop=should_stop)
    except CancelledError as error:
        look()
        raise CancelledError(
            f"stopped with {look.words}; start the same again to resume"
        ) from error
    return look.conclude(in_time=not task.is_over)


def create_best(result: TuningResult) -> RunFolder:
    """Write down a run with the best settings and the same split, test images included."""
    folder, run = result.folder, result.folder.best
    config = configuration(folder.base.spec().config, result.best.choice)
    if not run.is_run:
        if is_half_made(run):
            shutil.rmtree(run.path, ignore_errors=True)
        return create_run(
            load_dataset(folder.base), config, run.path, preset=str(folder.best_preset)
        )
    if run.spec().requested != config:
        raise RunError(
            f"{run.path} was trained with settings that are not the best any more; rename that "
            "folder, then start the same again"
        )
    return run


class _Look:
    """Looks at the trials from time to time, and tells and writes down what is new."""

    def __init__(
        self,
        folder: TuningFolder,
        store: Store,
        limit: int,
        on_progress: OnProgress,
        on_trial: OnTrial,
    ) -> None:
        from napari_cellclf.runs.tuning.trial_worker import deciding_stage

        self._folder = folder
        self._spec = folder.spec()
        self._store = store
        self._limit = limit
        _, self._epochs = deciding_stage(folder.base.spec().config)
        self._on_progress = on_progress
        self._on_trial = on_trial
        self._records = read_records(store, self._spec)
        self._told = {one.number for one in self._records if one.is_over}

    def __call__(self) -> None:
        """Look."""
        self._records = read_records(self._store, self._spec)
        new = [one for one in self._records if one.is_over and one.number not in self._told]
        if new:
            self._write()
        best = best_of(self._records, self._spec)
        for one in new:
            self._told.add(one.number)
            self._on_trial(one, best)
        limit = max(self._limit, len(self._records))
        done = sum(self._epochs if one.is_over else one.epochs for one in self._records)
        self._on_progress(Progress(done, limit * self._epochs, self.words))

    @property
    def words(self) -> str:
        """How far the search is."""
        over = sum(one.is_over for one in self._records)
        return f"{over} of {max(self._limit, len(self._records))} trials"

    def conclude(self, *, in_time: bool) -> TuningResult:
        """Look for the last time, draw, and return what the search came to."""
        self()
        self._write()
        plot_results(self._folder, self._spec, self._records)
        best = best_of(self._records, self._spec)
        if best is None:
            reasons = [one.reason for one in self._records if one.reason]
            if reasons and in_time:
                raise TrainingError(
                    f"none of {len(self._records)} trials could be trained; the first says: "
                    f"{reasons[0]}"
                )
            raise TrainingError("no trial was finished yet; start the same again to resume")
        return TuningResult(self._folder, self._spec, self._records, best)

    def _write(self) -> None:
        # Read again with the lock held, so that of two processes the later writes the newer.
        with self._folder.locked():
            self._records = read_records(self._store, self._spec)
            write_results(self._folder, self._spec, self._records)


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
            f"a process of the search ended with code {code}, perhaps for lack of memory (its "
            f"output is in {self.log}); use fewer --jobs, and start the same search again, which "
            "resumes where it was"
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
