"""From the rows of a run's table to prepared arrays, without the images that are bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.progress import OnProgress, ShouldStop
from napari_cellclf.errors import DatasetError
from napari_cellclf.io.items import Item
from napari_cellclf.io.prepared import prepare_images
from napari_cellclf.models.training.batches import Subset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.models.training.config import TrainingConfig

#: Part of the images that may be bad before a run refuses to go on without them.
MOST_BAD = 0.01


@dataclass(frozen=True)
class PreparedSplit:
    """The images of one split, ready for a network."""

    #: ``(Y, X, C)`` float32 each; every fixed rotation is one of its own.
    arrays: Subset
    #: Their classes.
    labels: NDArray[np.int64]
    #: Their rows in the split's table.
    rows: NDArray[np.int64]
    #: Names each after its files and preprocessing.
    keys: tuple[str, ...]
    #: Paths that are left out, and why.
    bad: tuple[tuple[str, str], ...]


def items_of(split: Dataset, rotations: Sequence[float]) -> list[Item]:
    """List what is prepared of a split."""
    angles = (0.0, *rotations)
    return [Item(path, degrees) for path in split.paths for degrees in angles]


def prepare_split(
    split: Dataset,
    preprocessing: Preprocessing,
    config: TrainingConfig,
    *,
    rotations: Sequence[float] = (),
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> PreparedSplit:
    """Prepare the images of a split, or find them prepared.

    `preprocessing`: the one way for their pixels.
    """
    items = items_of(split, rotations)
    prepared = prepare_images(
        items,
        preprocessing,
        frame=config.rotation_frame,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    turns = 1 + len(rotations)
    bad = {number // turns: reason for number, reason in prepared.bad.items()}
    _check_bad(split, bad)
    kept = np.array([n for n in range(len(items)) if n // turns not in bad], np.int64)
    rows = kept // turns
    return PreparedSplit(
        Subset(prepared, kept),
        split.labels[rows],
        rows,
        tuple(prepared.keys[number] for number in kept),
        tuple((split.paths[row], reason) for row, reason in sorted(bad.items())),
    )


def _check_bad(split: Dataset, bad: dict[int, str]) -> None:
    if not bad:
        return
    first = next(iter(bad.values()))
    if len(bad) > max(1, MOST_BAD * len(split)):
        raise DatasetError(
            f"{len(bad)} of {len(split)} images cannot be used ({first}); mend or remove them"
        )
    good = np.delete(split.labels, list(bad))
    lost = set(split.labels.tolist()) - set(good.tolist())
    if lost:
        names = ", ".join(split.class_names[label] for label in sorted(lost))
        raise DatasetError(
            f"no image of class {names} can be used ({first}); mend them, or leave the class out"
        )
