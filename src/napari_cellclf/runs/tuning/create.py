"""Begin a search, or find one that was begun before with the same images and settings."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.metrics import METRICS
from napari_cellclf.errors import DatasetError, RunError
from napari_cellclf.io.home import expanded
from napari_cellclf.runs.create import create_run
from napari_cellclf.runs.tuning.folder import TuningFolder, TuningSpec, is_half_made
from napari_cellclf.runs.tuning.space import Range, search_space

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig


def create_search(
    dataset: Dataset,
    config: TrainingConfig,
    folder: str | Path,
    *,
    metric: str | None = None,
    search: Iterable[str] = (),
    preset: str | None = None,
    data: Mapping[str, Any] | None = None,
    storage: str | None = None,
) -> TuningFolder:
    """Write down what is to be searched."""
    if not len(dataset.validation):
        raise DatasetError(
            "there are no validation images to judge settings by; split the images so that there "
            "are, with more groups or --split random"
        )
    if metric is not None:
        METRICS.get(metric)
        config = config.changed(monitor=metric)
    ranges = search_space(config, search, len(dataset.train))
    made = TuningFolder(expanded(folder).absolute())
    try:
        made.path.mkdir(parents=True, exist_ok=True)
        with made.locked():
            if made.is_search:
                _check_same(made, dataset, config, ranges, storage)
            else:
                _begin(made, dataset, config, ranges, preset, data or {}, storage)
    except OSError as error:
        raise RunError(
            f"{made.path} cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return made


def _begin(
    made: TuningFolder,
    dataset: Dataset,
    config: TrainingConfig,
    ranges: tuple[Range, ...],
    preset: str | None,
    data: Mapping[str, Any],
    storage: str | None,
) -> None:
    from napari_cellclf.runs.tuning.store import create_study

    strange = sorted(path.name for path in made.path.iterdir() if not _is_leftover(made, path))
    if strange:
        raise RunError(f"{made.path} holds files already ({strange[0]}); choose a new folder")
    shutil.rmtree(made.base.path, ignore_errors=True)
    create_run(dataset, config, made.base.path, preset=preset)
    spec = TuningSpec(
        study=f"{made.path.name}-{uuid.uuid4().hex[:8]}",
        own_storage=storage is None,
        metric=config.monitor,
        ranges=ranges,
        data=dict(data),
    )
    create_study(made, spec, storage)
    # Last, since it makes the folder a search.
    made.write(made.spec_file, spec.model_dump_json(indent=1) + "\n")


def _is_leftover(made: TuningFolder, path: Path) -> bool:
    """Whether a process that was killed while it began a search left a file, and nobody else."""
    if path == made.base.path:
        return is_half_made(made.base) or made.base.is_run
    known = {"lock", made.journal.name, f"{made.journal.name}.lock"}
    return path.name in known or (path.name.startswith(".") and path.suffix == ".partial")


def _check_same(
    made: TuningFolder,
    dataset: Dataset,
    config: TrainingConfig,
    ranges: tuple[Range, ...],
    storage: str | None,
) -> None:
    spec, base = made.spec(), made.base.spec()
    other = None
    if base.manifest_sha256 != dataset.sha256:
        other = "other images or another split"
    elif spec.metric != config.monitor:
        other = f"the metric {spec.metric}, not {config.monitor}"
    elif base.config != config:
        names = [
            n for n in type(config).model_fields if getattr(base.config, n) != getattr(config, n)
        ]
        other = f"other settings ({', '.join(names)})"
    elif spec.ranges != ranges:
        other = f"a search of {', '.join(one.name for one in spec.ranges)}"
    elif spec.own_storage != (storage is None):
        other = "trials in its own folder" if spec.own_storage else "trials in a data base"
    if other is not None:
        raise RunError(
            f"the search in {made.path} was begun with {other}; give the same again to go on with "
            "it, or choose a new folder"
        )
