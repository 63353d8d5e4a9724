"""Which model and which labelled images a command line means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.errors import InputError, NoImagesError

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset


def find_trained(model: str) -> Path:
    """Find the bundle of a model or of a training run."""
    from napari_cellclf.bundles.catalogue import find_model
    from napari_cellclf.runs.folder import RunFolder

    run = RunFolder(Path(model))
    if run.is_run and not run.is_finished:
        raise InputError(f"the run {model} has made no model yet; finish it with cellclf train")
    return find_model(run.bundle if run.is_run else model)


def chosen_naming(asked: str | None, model: Path, inputs: Sequence[str]) -> str | None:
    """Return how names are read: as asked, else as in training, if that fits any of them."""
    from napari_cellclf.bundles.bundle import read_spec
    from napari_cellclf.io.named_images import fitting_naming

    if asked is not None:
        return asked
    return fitting_naming(read_spec(model).training.naming, map(Path, inputs))


def read_labelled(
    data: str, *, label: str | None, group: str | None, naming: str | None, model: Path
) -> Dataset:
    """Read labelled images, or those of a training run."""
    from dataclasses import replace

    from napari_cellclf.core.grouping import group_keys
    from napari_cellclf.io.datasets import read_dataset
    from napari_cellclf.runs.create import load_dataset
    from napari_cellclf.runs.folder import RunFolder

    run = RunFolder(Path(data))
    if not run.is_run:
        chosen = chosen_naming(naming, model, [data])
        return read_dataset(data, label=label, group=group, naming=chosen)
    if naming is not None:
        raise InputError("--naming is for new data; a training run says how its files are named")
    if label is not None:
        raise InputError("--label is for new data; a training run says what its classes are")
    dataset = load_dataset(run)
    if group is None:
        return dataset
    # Raises if there is no such column.
    group_keys(dataset.table, group)
    return replace(dataset, group_column=group, group_reason="asked for with --group-by")


def default_split(dataset: Dataset) -> str:
    """Choose what to evaluate on."""
    parts = set(dataset.table["split"])
    return next((one for one in ("test", "validation") if one in parts), "all")


def part_of(dataset: Dataset, split: str) -> Dataset:
    """Return a part of the images."""
    if split == "all":
        return dataset
    part = dataset.subset((dataset.table["split"] == split).to_numpy())
    if not len(part):
        there = [one for one in dict.fromkeys(dataset.table["split"]) if one]
        raise NoImagesError(
            f"the data have no {split} part (they have {', '.join(there) or 'no split at all'}); "
            "choose another --split, such as all"
        )
    return part


def seen_in_training(model: Path, part: Dataset) -> int:
    """Count the images that a model was trained on, where the run that made it is known."""
    from napari_cellclf.runs.create import load_dataset
    from napari_cellclf.runs.folder import RunFolder

    run = RunFolder(model.parent)
    if not run.is_run:
        return 0
    trained = {Path(path).resolve() for path in load_dataset(run).train.paths}
    return sum(Path(path).resolve() in trained for path in part.paths)
