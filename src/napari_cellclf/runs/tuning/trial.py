"""One trial: a run on the training images, judged on the validation images after each epoch."""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.metrics import METRICS
from napari_cellclf.core.progress import ShouldStop
from napari_cellclf.errors import (
    CancelledError,
    CheckpointError,
    RunLockedError,
    TrainingError,
)
from napari_cellclf.runs.create import create_run
from napari_cellclf.runs.progress_log import read_progress
from napari_cellclf.runs.tuning.folder import is_half_made
from napari_cellclf.runs.tuning.space import configuration
from napari_cellclf.runs.tuning.store import Store, choice_of

if TYPE_CHECKING:
    import optuna

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.runs.folder import RunFolder
    from napari_cellclf.runs.tuning.folder import TuningFolder


class PrunedError(CancelledError):
    """A trial does so much worse than others that it is ended."""


def without_test(dataset: Dataset) -> Dataset:
    """Take out what a search must not see."""
    return dataset.subset(dataset.table["split"].isin(("train", "validation")).to_numpy())


def begin_trial(folder: TuningFolder, trial: optuna.trial.Trial, searched: Dataset) -> None:
    """Write the run of a trial down, unless it was before."""
    run = folder.trial(trial.number)
    if run.is_run:
        return
    if is_half_made(run):
        shutil.rmtree(run.path, ignore_errors=True)
    base = folder.base.spec()
    config = configuration(base.config, choice_of(trial))
    create_run(searched, config, run.path, preset=base.preset)


def train_trial(
    folder: TuningFolder,
    trial: optuna.trial.Trial,
    store: Store,
    *,
    on_epoch: Callable[[], None],
    should_stop: ShouldStop,
) -> None:
    """Train a trial from wherever it stands, and write down what it came to."""
    from napari_cellclf.runs.training import run_training

    run, metric = folder.trial(trial.number), folder.spec().metric
    watch = _Watch(trial, store, run.spec().config, metric, on_epoch)
    try:
        run_training(run.path, on_event=watch, should_stop=should_stop)
    except PrunedError:
        store.prune(trial)
    except CancelledError:
        store.let_go(trial)
        raise
    except RunLockedError:
        # Somebody trains it by hand.
        return
    except CheckpointError:
        # Claimed again, it begins anew.
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
        store.fail(trial, f"{run.log} tells of no validation")
    else:
        store.finish(trial, value)
