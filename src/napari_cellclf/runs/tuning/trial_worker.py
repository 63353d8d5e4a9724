"""One process of a search: trial after trial; also as a child, told what to do on standard input.

A child stops when its standard input ends, be it that its parent closed it or was killed.
"""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.metrics import METRICS
from napari_cellclf.core.progress import ShouldStop
from napari_cellclf.errors import (
    CancelledError,
    CellclfError,
    CheckpointError,
    RunLockedError,
    TrainingError,
)
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.progress_log import read_progress
from napari_cellclf.runs.tuning.search_folder import TuningFolder, is_half_made
from napari_cellclf.runs.tuning.space import Choice, configuration
from napari_cellclf.runs.tuning.study import Store, TakenOverError, choice_of

if TYPE_CHECKING:
    import optuna

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.runs.folder import RunFolder

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
    #: URL of the database with the trials, if they are not in the folder.
    storage: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.time() >= self.deadline


class PrunedError(CancelledError):
    """A trial does so much worse than others that it is ended."""


def work(
    folder: TuningFolder,
    task: Task,
    *,
    on_change: Callable[[], None],
    should_stop: ShouldStop,
) -> None:
    """Train trials until there are enough, or the time is up."""

    def stop() -> bool:
        return should_stop() or task.is_over or folder.stop_file.exists()

    store = Store(folder, task.storage)
    searched = without_test(load_dataset(folder.base))
    while not stop():
        with store.claimed(task.limit, stop) as claimed:
            if claimed is None and not stop():
                return
            if claimed is None:
                continue
            number, trial = claimed
            begin_trial(folder, number, choice_of(trial), searched)
            try:
                train_trial(folder, number, trial, store, on_epoch=on_change, should_stop=stop)
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


def without_test(dataset: Dataset) -> Dataset:
    """Take out what a search must not see."""
    return dataset.subset(dataset.table["split"].isin(("train", "validation")).to_numpy())


def begin_trial(folder: TuningFolder, number: int, choice: Choice, searched: Dataset) -> None:
    """Write the run of a trial down, unless it was before."""
    run = folder.trial(number)
    if run.is_run:
        return
    if is_half_made(run):
        shutil.rmtree(run.path, ignore_errors=True)
    base = folder.base.spec()
    config = configuration(base.config, choice)
    create_run(searched, config, run.path, preset=base.preset)


def train_trial(
    folder: TuningFolder,
    number: int,
    trial: optuna.trial.Trial,
    store: Store,
    *,
    on_epoch: Callable[[], None],
    should_stop: ShouldStop,
) -> None:
    """Train a trial from wherever it stands, and write down what it came to."""
    from napari_cellclf.runs.api import run_training

    run, metric = folder.trial(number), folder.spec().metric
    watch = _Watch(trial, store, run.spec().config, metric, on_epoch)
    try:
        run_training(run.path, on_event=watch, should_stop=should_stop)
    except PrunedError:
        store.prune(trial)
    except (TakenOverError, RunLockedError):
        # Another process trains it, or somebody by hand.
        return
    except CheckpointError:
        # Claimed again, it starts again.
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        return
    except TrainingError as error:
        store.fail(trial, str(error))
    else:
        _conclude(run, trial, store, metric)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    # Networks hold themselves in circles.
    gc.collect()


def deciding_stage(config: TrainingConfig) -> tuple[str, int]:
    """Return the stage whose validation judges a trial: the last one."""
    return ("network", config.epochs) if config.epochs else ("head", config.head_epochs)


def best_value(run: RunFolder, metric: str) -> float | None:
    """Return the best validation of a run's last stage."""
    stage, _ = deciding_stage(run.spec().config)
    records, _ = read_progress(run.log)
    # An epoch that was done again after a kill stands for the one that was lost.
    values = {
        record["epoch"]: record[f"validation_{metric}"]
        for record in records
        if record["event"] == "epoch" and record["stage"] == stage
    }
    numbers = [value for value in values.values() if value is not None and math.isfinite(value)]
    if not numbers:
        return None
    return float(max(numbers) if METRICS.get(metric).higher_is_better else min(numbers))


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


class _Watch:
    """Reports each epoch of the last stage, and ends a trial that is not worth going on with."""

    def __init__(
        self,
        trial: optuna.trial.Trial,
        store: Store,
        config: TrainingConfig,
        metric: str,
        on_epoch: Callable[[], None],
    ) -> None:
        self._trial = trial
        self._store = store
        self._stage, self._epochs = deciding_stage(config)
        self._metric = metric
        self._on_epoch = on_epoch

    def __call__(self, record: Mapping[str, Any]) -> None:
        if record["event"] != "epoch" or record["stage"] != self._stage:
            return
        value = record[f"validation_{self._metric}"]
        worse = self._store.report(self._trial, record["epoch"] - 1, value)
        self._on_epoch()
        if worse and record["epoch"] < self._epochs:
            raise PrunedError(f"ended after epoch {record['epoch']}: other trials do better")


def _conclude(run: RunFolder, trial: optuna.trial.Trial, store: Store, metric: str) -> None:
    value = best_value(run, metric)
    if value is None:
        store.fail(trial, f"{run.log} holds no validation")
    else:
        store.finish(trial, value)


if __name__ == "__main__":
    sys.exit(main())
