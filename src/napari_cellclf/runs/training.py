"""Train what a run folder asks for, from wherever it stands, to its model and its report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.progress import (
    OnProgress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.core.sampling import epoch_order
from napari_cellclf.errors import CancelledError, CellclfError, RunError
from napari_cellclf.io.home import expanded
from napari_cellclf.runs.checkpoints import DiskKeeper, remove_partial
from napari_cellclf.runs.create import load_dataset
from napari_cellclf.runs.folder import RunFolder, RunSpec
from napari_cellclf.runs.lock import locked
from napari_cellclf.runs.progress_log import OnEvent, ProgressLog, ignore_event
from napari_cellclf.runs.reporter import RunReporter, Workload

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.models.training.config import TrainingConfig


@dataclass(frozen=True)
class RunResult:
    """What a run made.

    Parameters
    ----------
    folder : RunFolder
        The run.
    evaluations : tuple of Evaluation
        On the test images, then on the validation images, as far as there are any.
    """

    folder: RunFolder
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def bundle(self) -> Path:
        """The trained model."""
        return self.folder.bundle

    @property
    def evaluation(self) -> Evaluation | None:
        """The chief evaluation; None if nothing was held out, or another process trained."""
        return self.evaluations[0] if self.evaluations else None

    @property
    def metrics(self) -> dict[str, Any] | None:
        """What ``report/metrics.json`` says; None if nothing was held out."""
        file = self.folder.report / "metrics.json"
        if not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


def run_training(
    folder: str | Path,
    *,
    root: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> RunResult:
    """Train in this process, from the start or from the last checkpoint."""
    run = RunFolder(expanded(folder).absolute())
    spec = run.spec()
    if run.is_finished:
        return RunResult(run)
    with locked(run):
        # Another process may have ended it since.
        if run.is_finished:
            return RunResult(run)
        return _train_logged(run, spec, root, on_progress, on_event, should_stop)


def _train_logged(
    run: RunFolder,
    spec: RunSpec,
    root: str | Path | None,
    on_progress: OnProgress,
    on_event: OnEvent,
    should_stop: ShouldStop,
) -> RunResult:
    with _logged(run, on_event) as log:
        run.stop_file.unlink(missing_ok=True)
        remove_partial(run.checkpoints)

        def stop() -> bool:
            return should_stop() or run.stop_file.exists()

        dataset = load_dataset(run, root)
        return _train(run, spec, dataset, log, on_progress, stop)


def workload(dataset: Dataset, config: TrainingConfig) -> Workload:
    """Count what a run has to do."""
    turns = 1 + len(config.fixed_rotations)
    train, held_out = len(dataset.train), len(dataset.validation)
    balance = "none" if config.balance == "class-weights" else config.balance
    shown = len(epoch_order(dataset.train.labels, balance=balance)) * turns
    steps = -(-shown // config.batch_size)
    images = train * turns + held_out + len(dataset.test)
    return Workload(
        images=images,
        features=train * turns + held_out if config.head_epochs else 0,
        head_steps=config.head_epochs * steps,
        network_steps=config.epochs * (config.steps_per_epoch or steps),
        batch_size=config.batch_size,
    )


def _train(
    run: RunFolder,
    spec: RunSpec,
    dataset: Dataset,
    log: ProgressLog,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> RunResult:
    from napari_cellclf.models.devices import (
        chosen_backend,
        describe_device,
        find_devices,
        set_up,
    )
    from napari_cellclf.runs.session import Session

    set_up(reproducible=spec.config.reproducible)
    device = describe_device(find_devices(chosen_backend()))
    work = workload(dataset, spec.config)
    resumed = run.checkpoints.is_dir()
    log.write("start", device=device, total=work.total, resumed=resumed)
    reporter = RunReporter(log, on_progress, work)
    keeper = DiskKeeper(run.checkpoints, reporter.note, reporter.checkpoint)
    session = Session(run, spec, dataset, device, keeper, reporter, should_stop)
    evaluations = session.train()
    log.write("done", bundle=run.bundle.name, report=f"{run.report.name}/report.html")
    return RunResult(run, evaluations)


@contextmanager
def _logged(run: RunFolder, on_event: OnEvent) -> Iterator[ProgressLog]:
    """Write how a run ended into its log, as far as there is room on the disk."""
    log = ProgressLog(run.log, on_event)
    try:
        yield log
    except CancelledError as error:
        _write_last(log, "stopped", str(error))
        raise
    except (CellclfError, OSError, MemoryError) as error:
        _write_last(log, "error", str(error))
        raise
    except KeyboardInterrupt:
        _write_last(log, "stopped", "interrupted")
        raise
    finally:
        log.close()


def _write_last(log: ProgressLog, event: str, message: str) -> None:
    # What ended the run is told by the error that is on its way.
    with suppress(RunError):
        log.write(event, message=message)
