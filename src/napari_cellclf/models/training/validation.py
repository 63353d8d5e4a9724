"""Predictions of a network on the validation images, and its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.metrics import METRICS, Outcomes
from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.core.tta import Views, mean_over_views
from napari_cellclf.errors import CancelledError
from napari_cellclf.inference.keras_engine import without_retracing_advice

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from napari_cellclf.models.training.minibatches import Arrays

#: Measured after every epoch, besides the metric that chooses the weights.
RECORDED = ("loss", "accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Validation:
    """Images and their truth."""

    #: Prepared images or features, read batch by batch.
    arrays: Arrays
    #: Their classes.
    labels: NDArray[np.intp]
    #: How many at once.
    batch_size: int = 32

    def measure(
        self, network: keras.Model, monitor: str, should_stop: ShouldStop = never_stop
    ) -> dict[str, float]:
        """Compute `RECORDED` and the metric `monitor` of a network."""
        probabilities = predict(network, self.arrays, self.batch_size, should_stop)
        outcomes = Outcomes(probabilities, self.labels)
        return {
            name: METRICS.get(name).compute(outcomes)
            for name in dict.fromkeys((*RECORDED, monitor))
        }


def predict(
    network: keras.Model,
    arrays: Arrays,
    batch_size: int,
    should_stop: ShouldStop = never_stop,
    views: Views = "one",
) -> NDArray[np.float32]:
    """Predict in batches of one shape.

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
    """Predict one batch.

    `batch`: ndarray, shape (N, ...), float32; what it is fed. Returns in order.
    """
    with without_retracing_advice():
        # Each of TensorFlow's replicas predicts the whole batch: the first rows are all.
        return np.asarray(network.predict_on_batch(batch)[: len(batch)], np.float32)


def _compute(
    network: keras.Model,
    batch: list[NDArray[np.float32]],
    should_stop: ShouldStop,
    views: Views,
) -> NDArray[np.float32]:
    if should_stop():
        raise CancelledError("the run was stopped")
    return mean_over_views(partial(compute_batch, network), np.stack(batch), views)
