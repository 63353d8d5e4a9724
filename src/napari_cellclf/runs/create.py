"""Write a new run down, before anything is trained; needs no Keras."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import combining, normalize

import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.errors import DatasetError, RunError
from napari_cellclf.io.dataset_tables import read_dataset_csv, write_dataset_csv
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.runs.folder import RunFolder, RunSpec
from napari_cellclf.runs.progress_log import read_progress
from napari_cellclf.runs.unlabelled import find_unlabelled

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig

#: A run that is being made; the name tells that what lies beside it is not somebody else's.
_BEGUN = ".run.json.partial"
#: Of a model, in characters.
_LONGEST_NAME = 100


def create_run(
    dataset: Dataset,
    config: TrainingConfig,
    folder: str | Path,
    *,
    preset: str | None = None,
) -> RunFolder:
    """Write down what is to be trained on what."""
    run = RunFolder(expanded(folder).absolute())
    config = with_absolute_paths(config)
    dataset.check_leakage()
    _check_objects(dataset, config)
    if config.continue_from is not None:
        dataset = _with_known_classes(dataset, config.continue_from)
    else:
        check_classes(dataset)
    unlabelled = find_unlabelled(dataset, config)
    root = common_folder(dataset)
    spec = RunSpec(
        name=model_name(run.path.name),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config,
        requested=config,
        preset=preset,
        classes=dataset.classes,
        root=str(root),
        group_column=dataset.group_column,
        group_reason=dataset.group_reason,
        source=dataset.source,
        leakage_allowed=dataset.leakage_allowed,
        naming=dataset.naming,
        manifest_sha256=dataset.sha256,
        unlabelled_sha256="" if unlabelled is None else unlabelled.sha256,
        versions={"napari-cellclf": version("napari-cellclf")},
    )
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        check_free(run)
        # Of a run that failed before it trained anything.
        run.log.unlink(missing_ok=True)
        beside = run.path / _BEGUN
        beside.write_text(spec.text(), encoding="utf-8")
        write_dataset_csv(dataset, run.dataset_file, root)
        if unlabelled is not None:
            write_dataset_csv(unlabelled, run.unlabelled_file, root)
        # Last, since it makes the folder a run.
        beside.replace(run.spec_file)
    except OSError as error:
        raise RunError(
            f"{run.path} cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return run


def load_dataset(run: RunFolder, root: str | Path | None = None) -> Dataset:
    """Read the images of a run."""
    spec = run.spec()
    dataset = read_dataset_csv(
        run.dataset_file,
        root or spec.root,
        classes=spec.classes,
        group_column=spec.group_column,
        group_reason=spec.group_reason,
        source=spec.source,
        leakage_allowed=spec.leakage_allowed,
    )
    return replace(dataset, naming=spec.naming)


def with_absolute_paths(config: TrainingConfig) -> TrainingConfig:
    """Let a configuration name its files in a way that holds from every folder."""
    changes = {}
    for field in ("continue_from", "weights", "unlabelled"):
        path = expanded(getattr(config, field) or "")
        # A bundle may be a folder; weights are a file, and "imagenet" might name a folder.
        if path.is_file() or (field != "weights" and path.name and path.is_dir()):
            changes[field] = str(path.absolute())
    return config.changed(**changes) if changes else config


def model_name(folder: str) -> str:
    """Name a model after the folder of its run, which may have any name.

    Examples
    --------
    >>> model_name("Zellzyklus, 2. Versuch"), model_name("=größe"), model_name("試験")
    ('Zellzyklus-2.-Versuch', 'gro-e', 'run')
    """
    letters = "".join(one for one in normalize("NFKD", folder) if not combining(one))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")[:_LONGEST_NAME] or "run"


def _with_known_classes(dataset: Dataset, model: str) -> Dataset:
    """Put the classes that a model knows in front; new ones follow in their order."""
    known = ModelBundle.load(find_model(model)).spec.classes
    names = {spec.name for spec in known}
    new = tuple(spec for spec in dataset.classes if spec.name not in names)
    if not len(dataset.train):
        raise DatasetError("no image is for training; split the images first, or hold fewer out")
    dataset = replace(dataset, classes=known + new)
    _check_shown(dataset, {spec.name for spec in new})
    return dataset


def _check_objects(dataset: Dataset, config: TrainingConfig) -> None:
    """Refuse at once what the run would refuse; only the size of a crop is measured later."""
    from napari_cellclf.runs.resolve import settled_crop

    settled_crop(dataset.subset([]) if dataset.has_objects else dataset, config)


def check_classes(dataset: Dataset) -> None:
    """Refuse less than two classes, and any without a training image."""
    if len(dataset.classes) < 2:
        raise DatasetError(
            f"{len(dataset.classes)} class was found; a classifier needs at least 2: give a folder "
            "for each class, or another column of labels"
        )
    _check_shown(dataset, set(dataset.class_names))


def _check_shown(dataset: Dataset, names: set[str]) -> None:
    """Refuse classes that no training image shows."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    counted = zip(dataset.class_names, counts, strict=True)
    empty = [name for name, n in counted if name in names and not n]
    if empty:
        raise DatasetError(
            f"no training image is of class {', '.join(empty[:5])}; split the images first, hold "
            "fewer out, or leave the class out"
        )


def common_folder(dataset: Dataset) -> Path:
    """Return the folder that all files of a data set are below."""
    paths = (*dataset.paths, *filter(None, dataset.masks))
    parents = [str(Path(path).parent) for path in paths]
    try:
        return Path(os.path.commonpath(parents))
    except ValueError:
        # On Windows, images on two drives have no folder in common.
        return Path(parents[0])


def check_free(run: RunFolder) -> None:
    """Refuse a folder that holds anything."""
    if not _is_free(run):
        raise RunError(
            f"{run.path} holds files already; choose a new folder, or resume the run in it "
            "by naming it alone"
        )


def _is_free(run: RunFolder) -> bool:
    """Whether nothing is in a folder, or only what was begun here by a process that was killed."""
    names = {path.name for path in run.path.iterdir()}
    begun = {_BEGUN, run.dataset_file.name, run.unlabelled_file.name}
    if not names or (_BEGUN in names and all(name in begun or name[0] == "." for name in names)):
        return True
    return _has_trained_nothing(run, names)


def _has_trained_nothing(run: RunFolder, names: set[str]) -> bool:
    """Whether a run ended with an error before its first step, such as by a wrong parameter."""
    files = (run.spec_file, run.dataset_file, run.unlabelled_file, run.log, run.lock_file)
    recorded = {file.name for file in files}
    if run.log.name not in names or not names <= recorded:
        return False
    records, _ = read_progress(run.log)
    return bool(records) and records[-1]["event"] == "error"
