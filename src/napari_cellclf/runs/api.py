"""Train from Python in one call, in this process or beside an open window in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.core.sampling import epoch_order
from napari_cellclf.errors import CancelledError, CellclfError, RunError
from napari_cellclf.inference.process_engine import window_is_open
from napari_cellclf.io.dataset_tables import write_dataset_csv
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.notes import read_note
from napari_cellclf.models.training.presets import choose_preset, load_preset
from napari_cellclf.runs.checkpoints import DiskKeeper, remove_partial
from napari_cellclf.runs.continuing import keep_old_sides
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.folder import RunFolder, RunSpec, locked
from napari_cellclf.runs.progress_log import (
    OnEvent,
    ProgressLog,
    RunReporter,
    Workload,
    ignore_event,
    read_progress,
)
from napari_cellclf.runs.unlabelled import load_unlabelled, without_held_out

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.models.training.config import TrainingConfig

#: Seconds between two looks at a child's log.
_LOOK = 0.1


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
        return read_note(self.folder.report / "metrics.json")


def train(
    dataset: Dataset | str | Path,
    config: TrainingConfig | str | None = None,
    folder: str | Path | None = None,
    *,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
    own_process: bool | None = None,
) -> RunResult:
    """Train a classifier, or resume a run.

    Parameters
    ----------
    dataset : Dataset, str or Path
        Split images for a new run; or the folder of a run, alone, to resume it.
    config : TrainingConfig or str, optional
        Every choice, or the name of a preset; by default ``fluorescence``, or ``objects`` where
        rows are objects.
    folder : str or Path, optional
        Where the new run goes; its model gets its name.
    on_progress : callable
        Told of the work done in the whole run.
    should_stop : callable
        Asked after each step, and in between wherever work can be interrupted.
    own_process : bool, optional
        Whether it runs in a child process, as it must beside an OpenGL window on some drivers.
        None decides: in napari yes, elsewhere no. The results are the same.

    Returns
    -------
    RunResult
        The model is in its `bundle`, the evaluation in its `metrics`.

    Raises
    ------
    LeakageError
        If a group is on both sides of the split and that was not allowed.
    DatasetError
        If there is nothing to train on, or too many images cannot be used.
    RunError
        If the folder cannot be used.
    CancelledError
        If `should_stop` answered yes; ``train(folder)`` resumes.
    TrainingError
        If training went wrong in a way that it cannot fix itself.

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


def run_training(
    folder: str | Path,
    *,
    root: str | Path | None = None,
    on_progress: OnProgress = ignore_progress,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
    accept_changes: bool = False,
) -> RunResult:
    """Train in this process, from the start or from the last checkpoint.

    `accept_changes`: go on where ``run.json`` or ``dataset.csv`` was edited, and record that.
    """
    run = RunFolder(expanded(folder).absolute())
    spec = run.spec()
    if run.is_finished:
        return RunResult(run)
    with locked(run):
        # Another process may have ended it since.
        if run.is_finished:
            return RunResult(run)
        return _train_logged(run, spec, root, on_progress, on_event, should_stop, accept_changes)


def workload(dataset: Dataset, config: TrainingConfig, unlabelled: int = 0) -> Workload:
    """Count what a run has to do."""
    turns = 1 + len(config.fixed_rotations)
    train, held_out = len(dataset.train), len(dataset.validation)
    balance = "none" if config.balance == "class-weights" else config.balance
    shown = len(epoch_order(dataset.train.labels, balance=balance)) * turns
    steps = -(-shown // config.batch_size)
    images = train * turns + held_out + len(dataset.test) + unlabelled
    return Workload(
        images=images,
        features=train * turns + held_out if config.head_epochs else 0,
        head_steps=config.head_epochs * steps,
        network_steps=config.epochs * (config.steps_per_epoch or steps),
        batch_size=config.batch_size,
        validation=held_out,
        measured=held_out + len(dataset.test),
    )


def _prepared_run(
    dataset: Dataset | str | Path,
    config: TrainingConfig | str | None,
    folder: str | Path | None,
) -> Path:
    if isinstance(dataset, str | Path):
        if config is not None or folder is not None:
            raise RunError(
                f"to resume the run {dataset}, give it alone; to start one, give a data set "
                "from read_dataset"
            )
        run = RunFolder(expanded(dataset).absolute())
        run.spec()
        return run.path
    if folder is None:
        raise RunError("no folder was given for the new run; name one as the third argument")
    if config is None or isinstance(config, str):
        preset = config or choose_preset(None, None, objects=dataset.has_objects).name
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
                    run.ask_to_stop()
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


def _train_logged(
    run: RunFolder,
    spec: RunSpec,
    root: str | Path | None,
    on_progress: OnProgress,
    on_event: OnEvent,
    should_stop: ShouldStop,
    accept_changes: bool,
) -> RunResult:
    with _logged(run, on_event) as log:
        run.stop_file.unlink(missing_ok=True)
        remove_partial(run.checkpoints)
        wish = str(run.stop_file)

        def stop() -> bool:
            # Two microseconds, since some steps take a tenth of a millisecond.
            return should_stop() or os.path.exists(wish)  # noqa: PTH110

        dataset = load_dataset(run, root)
        unlabelled = load_unlabelled(run, root)
        spec = _with_changes(run, spec, dataset, unlabelled, log, accept_changes)
        return _train(run, spec, dataset, unlabelled, log, on_progress, stop)


def _with_changes(
    run: RunFolder,
    spec: RunSpec,
    dataset: Dataset,
    unlabelled: Dataset | None,
    log: ProgressLog,
    accept: bool,
) -> RunSpec:
    """Refuse what was edited since a program wrote it, or record that it was accepted."""
    changed = [run.spec_file] if run.is_edited(spec) else []
    if dataset.sha256 not in (spec.manifest_sha256, spec.moved_sha256):
        changed.append(run.dataset_file)
    unlabelled_sha256 = "" if unlabelled is None else unlabelled.sha256
    if unlabelled_sha256 != spec.unlabelled_sha256:
        changed.append(run.unlabelled_file)
    if not changed:
        return spec
    if not accept:
        earlier = changed == [run.spec_file] and not spec.spec_sha256
        found = (
            "has no checksum, as those of earlier versions; if nobody has edited it, resume"
            if earlier
            else "is not as it was when the run was made; undo the change, start a new run with "
            "it, or resume"
        )
        raise RunError(f"{changed[0]} {found} with cellclf train {run.path} --accept-changes")
    update = {"manifest_sha256": dataset.sha256, "unlabelled_sha256": unlabelled_sha256}
    spec = spec.model_copy(update=update | {"moved_sha256": "", "changes_accepted": True})
    run.write_spec(spec)
    names = " and ".join(file.name for file in changed)
    log.write("note", message=f"the run goes on with changes that were made in {names}")
    return spec


def _train(
    run: RunFolder,
    spec: RunSpec,
    dataset: Dataset,
    unlabelled: Dataset | None,
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
    from napari_cellclf.runs.training import Session

    set_up(reproducible=spec.config.reproducible)
    if should_stop():
        raise CancelledError("stopped before the first image; start the run again to resume")
    device = describe_device(find_devices(chosen_backend()))
    first = RunReporter(log, on_progress, workload(dataset, spec.config))
    given = dataset
    dataset, changed = keep_old_sides(
        spec, dataset, on_progress=first.progress, should_stop=should_stop
    )
    if dataset is not given:
        # First the hash: a process that is killed in between leaves a table that is still known.
        spec = spec.model_copy(update={"moved_sha256": dataset.sha256})
        run.write_spec(spec)
        write_dataset_csv(dataset, run.dataset_file, spec.root)
    told = ""
    if unlabelled is not None:
        # Last, since a continued model may have moved groups.
        unlabelled, told = without_held_out(unlabelled, dataset)
    work = workload(dataset, spec.config, 0 if unlabelled is None else len(unlabelled))
    resumed = run.checkpoints.is_dir()
    log.write("start", device=device, total=work.total, resumed=resumed)
    reporter = RunReporter(log, on_progress, work)
    for sentence in filter(None, (changed, told)):
        reporter.note(sentence)
    keeper = DiskKeeper(run.checkpoints, reporter.note, reporter.checkpoint)
    session = Session(run, spec, dataset, device, keeper, reporter, should_stop, unlabelled)
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
