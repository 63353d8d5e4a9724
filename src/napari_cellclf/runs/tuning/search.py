"""Search for good settings, from wherever the search stands."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
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
from napari_cellclf.io.home import expanded
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.tuning.folder import TuningFolder, TuningSpec, is_half_made
from napari_cellclf.runs.tuning.jobs import work_together
from napari_cellclf.runs.tuning.results import (
    TrialRecord,
    best_of,
    plot_results,
    read_records,
    write_results,
)
from napari_cellclf.runs.tuning.space import configuration
from napari_cellclf.runs.tuning.worker import Task, work

if TYPE_CHECKING:
    from napari_cellclf.runs.tuning.store import Store

OnTrial = Callable[[TrialRecord, TrialRecord | None], None]


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
    from napari_cellclf.runs.tuning.store import Store

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
        raise CancelledError(f"stopped with {look.words}; start the same again to go on") from error
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
    if run.spec().config != config:
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
        from napari_cellclf.runs.tuning.trial import deciding_stage

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
            raise TrainingError("no trial was finished yet; start the same again to go on")
        return TuningResult(self._folder, self._spec, self._records, best)

    def _write(self) -> None:
        # Read again with the lock held, so that of two processes the later writes the newer.
        with self._folder.locked():
            self._records = read_records(self._store, self._spec)
            write_results(self._folder, self._spec, self._records)
