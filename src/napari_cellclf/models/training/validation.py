"""How good a network is on images it does not learn from, computed in batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.metrics import accuracy, balanced_accuracy
from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.core.views import Views, mean_over_views
from napari_cellclf.errors import CancelledError
from napari_cellclf.inference.retracing import without_retracing_advice

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from napari_cellclf.models.training.batches import Arrays

_TINY = 1e-7


@dataclass(frozen=True)
class Scores:
    """What a validation found.

    `accuracy`, `balanced_accuracy`: 0 to 1.
    """

    #: Mean cross-entropy of the truth, without smoothing.
    loss: float
    accuracy: float
    balanced_accuracy: float

    def better_is_larger(self, monitor: str) -> float:
        """Return the number that is compared: one of the three, the loss with its sign changed."""
        value = float(getattr(self, monitor))
        return -value if monitor == "loss" else value


@dataclass(frozen=True)
class Validation:
    """Images and their truth."""

    #: Prepared images or features, read batch by batch.
    arrays: Arrays
    #: Their classes.
    labels: NDArray[np.intp]
    #: How many at once.
    batch_size: int = 32

    def score(self, network: keras.Model, should_stop: ShouldStop = never_stop) -> Scores:
        """Judge a network."""
        answers = predict(network, self.arrays, self.batch_size, should_stop)
        right = answers[np.arange(len(self.labels)), self.labels]
        best = answers.argmax(axis=1)
        return Scores(
            float(-np.log(np.maximum(right, _TINY)).mean()),
            accuracy(self.labels, best),
            balanced_accuracy(self.labels, best),
        )


def predict(
    network: keras.Model,
    arrays: Arrays,
    batch_size: int,
    should_stop: ShouldStop = never_stop,
    views: Views = "one",
) -> NDArray[np.float32]:
    """Compute a network's answers.

    `network`: arrays to outputs ``(N, K)``. Returns in order.
    """
    outputs: list[Any] = []
    batch: list[NDArray[np.float32]] = []
    for number in range(len(arrays)):
        array = arrays[number]
        if batch and (len(batch) == batch_size or array.shape != batch[0].shape):
            outputs.append(_compute(network, batch, should_stop, views))
            batch = []
        batch.append(array)
    if batch:
        outputs.append(_compute(network, batch, should_stop, views))
    return np.concatenate(outputs) if outputs else np.zeros((0, network.output_shape[-1]), "f4")


def compute_batch(network: keras.Model, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute a network's answers to one batch.

    `batch`: ndarray, shape (N, ...), float32; what it is fed. Returns in order.
    """
    with without_retracing_advice():
        # Each of TensorFlow's replicas answers the whole batch: the first answers are all.
        return np.asarray(network.predict_on_batch(batch)[: len(batch)], np.float32)


def _compute(
    network: keras.Model,
    batch: list[NDArray[np.float32]],
    should_stop: ShouldStop,
    views: Views,
) -> NDArray[np.float32]:
    if should_stop():
        raise CancelledError("stopped as asked")
    return mean_over_views(partial(compute_batch, network), np.stack(batch), views)
