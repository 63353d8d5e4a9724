"""What a finished run keeps of its images, to tell later ones that are unlike them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.errors import CancelledError, InputError
from napari_cellclf.inference.keras_engine import KerasEngine

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.models.training.minibatches import Arrays

#: Images of a split whose features are computed, at most: seconds, where training takes minutes.
_MOST = 1000


@dataclass(frozen=True, eq=False)
class KnownSplit:
    """Prepared images of a split, and what each belongs to: its group, or itself."""

    arrays: Arrays
    groups: Sequence[str]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Those that are looked at."""
        every = np.arange(len(self.arrays))
        drawn = np.random.default_rng(0).permutation(every)[:_MOST]
        return np.sort(drawn)


def fit_unlikeness(
    network: keras.Model,
    config: TrainingConfig,
    train: KnownSplit,
    validation: KnownSplit | None,
    should_stop: ShouldStop = never_stop,
) -> tuple[Unlikeness | None, str]:
    """Learn what is usual from the features of training and validation images.

    Features of a network that was fitted to images lie closer together than those of new ones, so
    that only the validation images choose the threshold; with a frozen backbone, all images do.
    Returns None, and why, where nothing can be learnt.
    """
    frozen = config.weights is not None and config.continue_from is None and not config.epochs
    splits = [train] if validation is None else [train, validation]
    if validation is None and not frozen:
        return None, "there are no validation images to tell by what is unlike training"
    engine = KerasEngine(network)
    if "features" not in engine.gives:
        return None, "the network has no last dense layer whose features tell what is unlike"
    features = [_features(engine, split, config.batch_size, should_stop) for split in splits]
    left_out = np.repeat([frozen, True][: len(splits)], [len(one) for one in features])
    groups = [split.groups[row] for split in splits for row in split.rows]
    try:
        return Unlikeness.fit(np.concatenate(features), groups, left_out=left_out), ""
    except InputError as error:
        return None, str(error)


def _features(
    engine: KerasEngine, split: KnownSplit, batch_size: int, should_stop: ShouldStop
) -> NDArray[np.float32]:
    found = []
    for batch in _batches(split, batch_size):
        if should_stop():
            raise CancelledError("the run was stopped")
        computed = engine.compute(batch, features=True).features
        assert computed is not None  # the engine gives them
        found.append(computed)
    return np.concatenate(found)


def _batches(split: KnownSplit, batch_size: int) -> Iterator[NDArray[Any]]:
    """Stack images of one shape that follow one another."""
    batch: list[NDArray[np.float32]] = []
    for row in split.rows.tolist():
        array = split.arrays[row]
        if batch and (len(batch) == batch_size or array.shape != batch[0].shape):
            yield np.stack(batch)
            batch = []
        batch.append(array)
    yield np.stack(batch)
