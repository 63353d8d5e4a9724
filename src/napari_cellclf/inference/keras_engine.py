"""Compute a network with Keras, whatever its backend. Keras is imported when this is used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.inference.engine_library import image_too_large, is_exhausted, or_exhausted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle


class KerasEngine:
    """Computes with a Keras network.

    `network`: ``(N, Y, X, C)`` float32 in, ``(N, K)`` probabilities out.

    Examples
    --------
    >>> import keras
    >>> network = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    >>> KerasEngine(network)(np.zeros((3, 8, 8, 1), np.float32)).shape
    (3, 2)
    """

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, bundle: ModelBundle) -> KerasEngine:
        """Rebuild the network of a bundle and give it its weights."""
        # Whatever is wrong with the files is said before Keras is imported, which takes seconds.
        weights, layers = bundle.weights(), bundle.layers()
        import keras

        from napari_cellclf.inference.rebuild import rebuild_bundle

        network = rebuild_bundle(bundle, weights, layers)
        if keras.config.backend() == "tensorflow":
            # XLA would compile again for every image and batch size, for seconds each.
            network.jit_compile = False
        return cls(network)

    @property
    def network(self) -> Any:
        """The Keras model, to be trained on or looked into."""
        return self._network

    @property
    def device(self) -> str:
        """What computes, and where: ``"keras 3.15.1 with tensorflow, cpu:0"``."""
        import keras

        backend = keras.config.backend()
        return f"keras {keras.__version__} with {backend}, {self._place}"

    @property
    def _place(self) -> str:
        """Where the weights lie, such as ``"cpu:0"`` or ``"gpu:0"``."""
        weights = self._network.weights
        place = str(getattr(weights[0].value, "device", "cpu")) if weights else "cpu"
        return place.lower().rsplit("device:", maxsplit=1)[-1]

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute; see `Engine`."""
        try:
            # Not `predict`, which sets up a data pipeline for every call.
            with without_retracing_advice():
                return np.asarray(self._network.predict_on_batch(batch), np.float32)
        except or_exhausted(RuntimeError) as error:
            if not is_exhausted(error):
                raise
            raise image_too_large(batch, self._place) from error


@contextmanager
def without_retracing_advice() -> Iterator[None]:
    """Keep the advice back inside the block."""
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_is_no_advice)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)
