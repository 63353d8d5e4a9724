"""Train a head on the frozen features of a backbone, and measure it; loads no Keras here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.bundles.schema import EvaluationSpec, TrainingSpec, prediction_sets_of
from napari_cellclf.core.calibration import Calibration, apply_temperature, calibrate
from napari_cellclf.core.dataset_report import check_bad
from napari_cellclf.core.evaluation import Evaluation
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.core.splitting import SPLITS
from napari_cellclf.core.suggesting import Head, Suggester
from napari_cellclf.errors import DatasetError, InputError, RunError
from napari_cellclf.io.array_cache import damaged_in_words
from napari_cellclf.io.dataset_tables import write_dataset_csv
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.prepared import items_of, prepare_images
from napari_cellclf.io.rows import RowReader
from napari_cellclf.models.backbones import (
    CHILD,
    Backbone,
    Prepared,
    RowFeatures,
    compute_features,
    default_backbone,
)
from napari_cellclf.models.suggested_model import SuggestedModel, known_images, write_request
from napari_cellclf.reports.report import write_report
from napari_cellclf.runs.api import RunResult
from napari_cellclf.runs.create import check_classes, check_free, common_folder, model_name
from napari_cellclf.runs.describe import limits_of, warnings_of
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.resolve import measured_crop, usual_pixel_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.unlikeness import Unlikeness

OnNote = Callable[[str], None]
#: Images that are tried, to see what channels there are.
_TRIES = 20
#: Images that are left out and are named one by one.
_MOST_TOLD = 10


def train_on_backbone(
    dataset: Dataset,
    backbone: str | Backbone,
    folder: str | Path,
    *,
    on_progress: OnProgress = ignore_progress,
    on_note: OnNote = lambda sentence: None,
    should_stop: ShouldStop = never_stop,
) -> RunResult:
    """Train a head on frozen features: in seconds, once the features are computed.

    The head is fitted to the training images, temperature and thresholds to the validation images,
    and the test images only measure.

    Parameters
    ----------
    dataset : Dataset
        Split images.
    backbone : str or Backbone
        An ONNX file that was added, or an architecture with pretrained weights, by its name; or
        what `default_backbone` returned.
    folder : str or Path
        Where model, report and table of images go; new or empty. The model gets its name.
    on_progress : callable
        Told of the images that were prepared and computed.
    on_note : callable
        Told what else is worth a sentence, such as an image that is left out.
    should_stop : callable
        Asked between images. The features that are computed by then are kept.

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
    ModelNotFoundError
        If the backbone is not on this computer.
    RunError
        If the folder cannot be used.
    CancelledError
        If `should_stop` answered yes.
    """
    run = RunFolder(expanded(folder).absolute())
    dataset.check_leakage()
    check_classes(dataset)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        check_free(run)
        used = dataset.subset(np.flatnonzero(np.isin(dataset.table["split"], SPLITS)).tolist())
        found = _look_at(used, backbone, on_progress, should_stop)
        for name in SPLITS:
            _tell_bad(found, name, on_note)
        if found.features.damaged:
            on_note(damaged_in_words(found.features.damaged))
        _finish(run, dataset, found, on_note)
    except OSError as error:
        raise RunError(
            f"{run.path} cannot be written ({error.strerror or error}); free some space, or choose "
            "another folder"
        ) from error
    return RunResult(run, found.evaluations)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Images, what a backbone made of them, and the head that was fitted to some."""

    dataset: Dataset
    backbone: Backbone
    features: RowFeatures

    def rows(self, split: str) -> NDArray[np.int64]:
        """Those of a split that can be used."""
        good = np.isfinite(self.features.features).all(axis=1)
        return np.flatnonzero(good & (np.asarray(self.dataset.table["split"]) == split))

    def hashes(self) -> dict[str, list[tuple[str, ...]]]:
        return {
            name: [self.features.hashes[row] for row in self.rows(name).tolist()] for name in SPLITS
        }

    @cached_property
    def head(self) -> Head:
        rows = self.rows("train")
        labels = dict(enumerate(self.dataset.labels[rows].tolist()))
        suggester = Suggester(self.features.features[rows])
        return suggester.head(labels, len(self.dataset.classes))

    @cached_property
    def calibration(self) -> Calibration:
        """By the validation images, and nothing else."""
        rows = self.rows("validation")
        if not len(rows):
            return Calibration()
        return calibrate(self.head(self.features.features[rows]), self.dataset.labels[rows])

    @cached_property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(
            self._evaluation(name) for name in ("test", "validation") if len(self.rows(name))
        )

    def _evaluation(self, split: str) -> Evaluation:
        dataset, rows, fitted = self.dataset, self.rows(split).tolist(), self.calibration
        return Evaluation.from_probabilities(
            apply_temperature(self.head(self.features.features[rows]), fitted.temperature),
            dataset.labels[rows],
            dataset.classes,
            ids=[dataset.ids[row] for row in rows],
            groups=[str(dataset.groups[row]) for row in rows],
            name=f"{split} {dataset.noun}s",
            role=split,
            noun=dataset.noun,
            temperature=fitted.temperature,
            unsure_threshold=fitted.unsure_threshold,
            set_threshold=fitted.set_threshold,
            failed=self.bad(split),
        )

    def bad(self, split: str) -> tuple[tuple[str, str], ...]:
        """Those of a split that cannot be used, and why."""
        splits = list(self.dataset.table["split"])
        return tuple(
            (self.dataset.ids[row], reason)
            for row, reason in sorted(self.features.bad.items())
            if splits[row] == split
        )


def _look_at(
    used: Dataset, backbone: str | Backbone, on_progress: OnProgress, should_stop: ShouldStop
) -> _Fitted:
    """Prepare all images, and compute their features."""
    if isinstance(backbone, str):
        backbone = _backbone_for(used.train, backbone)
    count = len(used)

    def half(first: int) -> OnProgress:
        return lambda one: on_progress(Progress(first + one.done, 2 * count, one.message))

    kept = prepare_images(
        items_of(used), backbone.preprocessing, on_progress=half(0), should_stop=should_stop
    )

    def prepared(row: int) -> Prepared | str:
        return kept.bad[row] if row in kept.bad else (kept[row], kept.notes[row])

    features = compute_features(
        backbone,
        [f"{backbone.key}-{key}" for key in kept.keys],
        prepared,
        on_progress=half(count),
        should_stop=should_stop,
    )
    for name in SPLITS:
        rows = np.flatnonzero(np.asarray(used.table["split"]) == name).tolist()
        bad = {n: features.bad[row] for n, row in enumerate(rows) if row in features.bad}
        check_bad(used.subset(rows), bad)
    return _Fitted(used, backbone, features)


def _backbone_for(train: Dataset, name: str) -> Backbone:
    """Choose how images are looked at by the first that can be read."""
    crop = measured_crop(train) if train.has_objects else None
    read, reason = RowReader(train, None), "there are none"
    for one in train.ids[:_TRIES]:
        try:
            image = read(one)
        except (InputError, OSError) as error:
            reason = str(error)
        else:
            return default_backbone(image, crop, name)
    raise DatasetError(f"the first images cannot be read ({reason}); fix or remove them")


def _tell_bad(found: _Fitted, split: str, on_note: OnNote) -> None:
    bad = found.bad(split)
    for name, reason in bad[:_MOST_TOLD]:
        why = reason.removeprefix(f"{name}: ")
        on_note(f"{name} is left out: {why}")
    if len(bad) > _MOST_TOLD:
        on_note(f"{len(bad) - _MOST_TOLD} more {split} images are left out; see the report")


def _finish(run: RunFolder, dataset: Dataset, found: _Fitted, on_note: OnNote) -> None:
    """Write the report and the table of images, and then the model."""
    preprocessing = found.backbone.preprocessing
    if found.evaluations:
        write_report(
            run.report,
            found.evaluations,
            title=model_name(run.path.name),
            read=RowReader(dataset, preprocessing.object_crop),
            dataset_counts=dataset.counts(),
            warnings=warnings_of(dataset, found.hashes()),
            facts=_facts(dataset, found.backbone),
        )
    write_dataset_csv(dataset, run.dataset_file, common_folder(dataset))
    with tempfile.TemporaryDirectory(prefix="cellclf-") as private:
        seen = SeenImages.of(
            (one, split)
            for split, images in found.hashes().items()
            for image in images
            for one in image
        )
        described = _described(model_name(run.path.name), dataset, found)
        known = _known(dataset, found, on_note)
        write_request(Path(private), described, found.head, seen, known)
        _save(private, run.bundle)


def _save(request: str, place: Path) -> None:
    """Make the bundle in a process of its own, since Keras does not go with an open window."""
    command = [sys.executable, "-m", CHILD, "save", request, str(place)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RunError(said[-1] if said else f"saving ended with code {done.returncode}")


def _described(name: str, dataset: Dataset, found: _Fitted) -> SuggestedModel:
    counts = dataset.counts().to_dict("index")
    calibration = found.calibration
    return SuggestedModel(
        name=name,
        backbone=found.backbone,
        classes=dataset.class_names,
        training=TrainingSpec(
            source=dataset.source,
            counts={str(k): {str(s): int(n) for s, n in v.items()} for k, v in counts.items()},
            group_column=dataset.group_column,
            naming=dataset.naming,
            manifest_sha256=dataset.sha256,
            pixel_size=usual_pixel_size(dataset.train, found.backbone.preprocessing),
        ),
        evaluations=tuple(
            EvaluationSpec(name=e.name, role=e.role, n=len(e), metrics=e.headline())
            for e in found.evaluations
        ),
        temperature=calibration.temperature,
        unsure_threshold=calibration.unsure_threshold,
        prediction_sets=prediction_sets_of(calibration),
        limits=limits_of(dataset, found.hashes()),
    )


def _known(dataset: Dataset, found: _Fitted, on_note: OnNote) -> Unlikeness | None:
    """Learn what is usual from training and validation images, whose features are frozen alike."""
    rows = np.concatenate([found.rows("train"), found.rows("validation")])
    groups = None
    if dataset.group_column is not None:
        groups = [str(found.dataset.groups[row]) for row in rows.tolist()]
    known = known_images(found.features.features[rows], groups)
    if known is None:
        on_note("images unlike training will not be flagged: there are too few to tell by")
    return known


def _facts(dataset: Dataset, backbone: Backbone) -> dict[str, str]:
    preprocessing = backbone.preprocessing
    file = backbone.file
    return {
        "data": dataset.source,
        "kept together": dataset.group_column or "nothing (random split)",
        "backbone": backbone.name if file is None else f"{file.name}, SHA-256 {file.sha256}",
        "head": "linear discriminant on frozen features",
        "channels": ", ".join(channel.name for channel in preprocessing.channels),
        "normalisation": preprocessing.normalization.kind,
    }
