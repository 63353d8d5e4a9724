"""Train from Python in one call, in this process or beside an open window in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, RunError
from napari_cellclf.inference.process_engine import window_is_open
from napari_cellclf.io.home import expanded
from napari_cellclf.models.training.presets import load_preset
from napari_cellclf.runs.create import create_run
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress
from napari_cellclf.runs.training import RunResult, run_training

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig

#: Seconds between two looks at a child's log.
_LOOK = 0.1


def train(
    dataset: Dataset | str | Path,
    config: TrainingConfig | str | None = None,
    folder: str | Path | None = None,
    *,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
    own_process: bool | None = None,
) -> RunResult:
    """Train a classifier, or go on with a run.

    Parameters
    ----------
    dataset : Dataset, str or Path
        Split images for a new run; or the folder of a run, alone, to go on with it.
    config : TrainingConfig or str, optional
        Every choice, or the name of a preset; ``fluorescence`` by default.
    folder : str or Path, optional
        Where the new run goes; its model gets its name.
    on_progress : callable
        Told of the work done in the whole run.
    should_stop : callable
        Asked after each batch.
    own_process : bool, optional
        Whether it runs in a child process, as it must beside an OpenGL window on some drivers.
        None decides: in napari yes, elsewhere no. The results are the same.

    Returns
    -------
    RunResult
        The model is in its `bundle`, the figures in its `metrics`.

    Raises
    ------
    LeakageError
        If a group is on both sides of the split and that was not allowed.
    DatasetError
        If there is nothing to train on, or too many images cannot be used.
    RunError
        If the folder cannot be used.
    CancelledError
        If `should_stop` answered yes; ``train(folder)`` goes on.
    TrainingError
        If training went wrong in a way that it cannot mend itself.

    Examples
    --------
    >>> import napari_cellclf as cc
    >>> split = cc.read_dataset("rxrx1").split(seed=0)          # doctest: +SKIP
    >>> run = cc.train(split, "fluorescence", "runs/celltype")  # doctest: +SKIP
    >>> classifier = cc.load_classifier(run.bundle)             # doctest: +SKIP
    """
    path = _prepared_run(dataset, config, folder)
    if window_is_open() if own_process is None else own_process:
        return _in_child(RunFolder(path), on_progress, should_stop)
    return run_training(path, on_progress=on_progress, should_stop=should_stop)


def _prepared_run(
    dataset: Dataset | str | Path,
    config: TrainingConfig | str | None,
    folder: str | Path | None,
) -> Path:
    if isinstance(dataset, str | Path):
        if config is not None or folder is not None:
            raise RunError(
                f"to go on with the run {dataset}, give it alone; to start one, give a data set "
                "from read_dataset"
            )
        run = RunFolder(expanded(dataset).absolute())
        run.spec()
        return run.path
    if folder is None:
        raise RunError("no folder was given for the new run; name one as the third argument")
    if config is None or isinstance(config, str):
        preset = config or "fluorescence"
        return create_run(dataset, load_preset(preset), folder, preset=preset).path
    return create_run(dataset, config, folder).path


def _in_child(run: RunFolder, on_progress: OnProgress, should_stop: ShouldStop) -> RunResult:
    command = [sys.executable, "-m", "napari_cellclf", "train", str(run.path)]
    # What it wrote before is not news.
    _, offset = read_progress(run.log)
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while child.poll() is None:
                time.sleep(_LOOK)
                offset = _follow(run, offset, on_progress)
                if should_stop() and not run.stop_file.exists():
                    run.stop_file.touch()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
        _follow(run, offset, on_progress)
        output.seek(0, os.SEEK_SET)
        said = output.read().decode(errors="replace").strip().splitlines()
    if child.returncode:
        last = said[-1] if said else f"it ended with code {child.returncode}"
        kind = CancelledError if should_stop() else RunError
        raise kind(f"the training in {run.path} did not finish: {last}")
    return RunResult(run)


def _follow(run: RunFolder, offset: int, on_progress: OnProgress) -> int:
    records, offset = read_progress(run.log, offset)
    for record in records:
        if record["event"] == "step":
            on_progress(Progress(record["done"], record["total"], record["message"]))
    return offset
