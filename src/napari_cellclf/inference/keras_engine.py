"""Compute a network with Keras, whatever its backend. Keras is imported when this is used."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import BundleError, ModelError
from napari_cellclf.inference.exhaustion import image_too_large, is_exhausted, or_exhausted
from napari_cellclf.inference.retracing import without_retracing_advice

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle

#: What Keras raises when a configuration or its weights do not fit together.
_BUILD_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    OSError,
    AssertionError,
    ArithmeticError,
    ImportError,
)


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
        """Build the network of a bundle from a private, checked copy of its file."""
        with bundle.private_network() as private:
            # Which takes seconds: what is wrong with the file is said before.
            import keras

            network = load_checked(
                private.checked.config,
                lambda network: network.load_weights(private.path),
                bundle.path.name,
            )
        if keras.config.backend() == "tensorflow":
            # XLA would compile anew for every size of image and of batch, for seconds each.
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


def load_checked(config: dict[str, Any], fill: Callable[[Any], object], name: str) -> Any:
    """Build a network from a configuration that the gate has read, and from nothing else."""
    import keras

    try:
        network = keras.saving.deserialize_keras_object(config, safe_mode=True)
        with warnings.catch_warnings():
            # Keras only warns where it finds no weights for a part of the network.
            warnings.simplefilter("error", UserWarning)
            fill(network)
    except or_exhausted(UserWarning, *_BUILD_ERRORS) as error:
        raise _build_error(name, error) from error
    return network


def _build_error(name: str, error: BaseException) -> ModelError:
    if is_exhausted(error):
        return ModelError(
            f"the network of {name} needs more memory than is free; close other programs, or use a "
            "smaller model"
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BundleError(
        f"Keras cannot build the network of {name} ({first[:200]}); save it again with Keras 3"
    )
