"""Images without labels that a run learns from: found, and kept apart from those held out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.grouping import UNKNOWN, columns_from_names
from napari_cellclf.errors import DatasetError
from napari_cellclf.io.dataset_tables import make_frame, make_row, read_dataset_csv
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.sources import collect_sources

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.runs.folder import RunFolder

#: What stands in the column of labels; no class of the network.
UNLABELLED = (ClassSpec(name="unlabelled"),)


def find_unlabelled(dataset: Dataset, config: TrainingConfig) -> Dataset | None:
    """List the images without labels that a configuration names; None if it names none."""
    if config.unlabelled is None:
        return None
    sources = collect_sources([expanded(config.unlabelled)], dataset.naming)
    if (
        dataset.has_objects
        or dataset.has_planes
        or any(one.objects is not None or one.planes for one in sources)
    ):
        raise DatasetError(
            f"{config.semi_supervised} is for whole images, but these data are objects or planes "
            "of stacks; set semi_supervised to none"
        )
    rows = [make_row(source, UNLABELLED[0].name, "train") for source in sources]
    found = Dataset(_with_groups(make_frame(rows), dataset), UNLABELLED, dataset.group_column)
    without_held_out(found, dataset)
    return replace(found, naming=dataset.naming)


def load_unlabelled(run: RunFolder, root: str | Path | None = None) -> Dataset | None:
    """Read the images without labels of a run; None if it has none."""
    if not run.unlabelled_file.is_file():
        return None
    spec = run.spec()
    found = read_dataset_csv(
        run.unlabelled_file,
        root or spec.root,
        classes=UNLABELLED,
        group_column=spec.group_column,
    )
    return replace(found, naming=spec.naming)


def _with_groups(table: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Say of each image what the data set keeps together by, or refuse."""
    column = dataset.group_column
    if column is None:
        return table
    names = [column] if column in dataset.table.columns else column.split("+")
    lower = {str(name).lower(): name for name in table.columns}
    table = table.assign(**{name: table[lower[name]] for name in names if name in lower})
    missing = [name for name in names if name not in table.columns]
    # Together, since one folder alone may be of one plate only.
    said = columns_from_names([*dataset.paths, *table["path"]]) if missing else {}
    for name in missing:
        values = said.get(name, [])
        if values[: len(dataset)] != dataset.table[name].tolist():
            raise DatasetError(
                f"the unlabelled images do not say their {name}, so that those that belong to "
                "validation and test images cannot be left out; name them like the others, or "
                f"list them in a table with columns path and {name}"
            )
        table = table.assign(**{name: values[len(dataset) :]})
    return table


def without_held_out(unlabelled: Dataset, dataset: Dataset) -> tuple[Dataset, str]:
    """Leave out what has a label, and every group of which something is held out.

    Returns the rest, and a sentence about how many there are.
    """
    has_label = {os.path.realpath(path) for path in dataset.paths}
    held_out = {*dataset.validation.groups, *dataset.test.groups}
    grouped = dataset.group_column is not None
    kept: list[int] = []
    why: Counter[str] = Counter()
    for row, (path, group) in enumerate(zip(unlabelled.paths, unlabelled.groups, strict=True)):
        if os.path.realpath(path) in has_label:
            why["in the data set with a label"] += 1
        elif grouped and group == UNKNOWN:
            why[f"of no known {dataset.group_column}"] += 1
        elif grouped and group in held_out:
            why[f"of a {dataset.group_column} that is held out"] += 1
        else:
            kept.append(row)
    rest = unlabelled.subset(np.array(kept, np.intp))
    return rest, _sentence(len(rest), why)


def without_copies(
    hashes: Sequence[Sequence[str]], labelled: Sequence[Sequence[str]]
) -> tuple[NDArray[np.intp], str]:
    """Leave out images with the very pixels of one that has a label, wherever it lies.

    `hashes`: those of the pixels of each image. Returns the numbers of the rest, and a sentence.
    """
    known = {one for image in labelled for one in image}
    kept = [number for number, image in enumerate(hashes) if known.isdisjoint(image)]
    copies = len(hashes) - len(kept)
    why = Counter({"with the pixels of an image that has a label": copies} if copies else {})
    return np.array(kept, np.intp), _sentence(len(kept), why) if copies else ""


def _sentence(count: int, why: Counter[str]) -> str:
    left_out = ", ".join(f"{number:,} {reason}" for reason, number in why.items())
    if not count:
        raise DatasetError(
            f"no image without a label is left ({left_out}); give others, or set "
            "semi_supervised to none"
        )
    used = counted(count, "image without a label is", "images without labels are")
    return f"{used} used" + (f"; left out: {left_out}" if left_out else "")
