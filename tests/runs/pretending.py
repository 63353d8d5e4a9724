"""Trials that learn nothing, so that a search takes no time: the nearer to a rate, the better.

As a program, it is a child of a search whose trials take an hour after their first epoch.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import napari_cellclf.runs.api as training
from napari_cellclf.core.progress import never_stop
from napari_cellclf.errors import CancelledError
from napari_cellclf.runs.folder import RunFolder, locked
from napari_cellclf.runs.progress_log import ProgressLog, ignore_event

BEST_RATE = 0.02


def loss_of(learning_rate: float, epoch: int) -> float:
    return abs(math.log10(learning_rate / BEST_RATE)) + 1 / epoch


def pretend_training(
    folder, *, on_event=ignore_event, should_stop=never_stop, seconds: float = 0.0, **_
):
    """Do as `run_training` does, but for the training."""
    run = RunFolder(Path(folder))
    config = run.spec().config
    if run.is_finished:
        return
    with locked(run):
        run.checkpoints.mkdir(exist_ok=True)
        log = ProgressLog(run.log, on_event)
        try:
            for epoch in range(1, config.epochs + 1):
                _rest(seconds if epoch > 1 else 0, should_stop)
                loss = loss_of(config.learning_rate, epoch)
                scores = {"validation_loss": loss, "validation_accuracy": 1 / (1 + loss)}
                epochs = {"epoch": epoch, "epochs": config.epochs}
                log.write("epoch", stage="network", **epochs, **scores)
        finally:
            log.close()
        run.bundle.mkdir()


def _rest(seconds: float, should_stop) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if should_stop():
            raise CancelledError("stopped")
        time.sleep(0.02)
    if should_stop():
        raise CancelledError("stopped")


if __name__ == "__main__":
    from napari_cellclf.runs.tuning.trial_worker import main

    training.run_training = lambda folder, **more: pretend_training(folder, seconds=3600, **more)
    sys.exit(main())
