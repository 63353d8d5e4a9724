"""Trains the head of a frozen backbone on its features, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from threadpoolctl import ThreadpoolController

from napari_cellclf.models.training.head_optimizer import HeadOptimizer, Weights
from napari_cellclf.models.training.trainer import check_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.models.training.config import TrainingConfig

#: Above so many, Keras's operations are long enough to be the faster ones.
MOST_WEIGHTS = 300_000
_KINDS = (("Dense",), ("Dropout", "Dense"), ("Dense", "Dense"), ("Dense", "Dropout", "Dense"))
_TINY = np.float32(1e-7)


def is_small_head(head: keras.Model) -> bool:
    """Whether a head is one that `HeadTrainer` computes, and is faster at."""
    layers = [layer for layer in head.layers if not isinstance(layer, keras.layers.InputLayer)]
    kinds = tuple(type(layer).__name__ for layer in layers)
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    expected = [keras.activations.relu, keras.activations.softmax][-len(dense) :]
    return (
        kinds in _KINDS
        and [layer.activation for layer in dense] == expected
        and all(layer.use_bias and not _is_restrained(layer) for layer in dense)
        and head.count_params() <= MOST_WEIGHTS
    )


def _is_restrained(layer: keras.layers.Dense) -> bool:
    """Whether something besides the loss acts on its weights; an imported network may have that."""
    return any(
        restraint is not None
        for restraint in (
            layer.kernel_regularizer,
            layer.bias_regularizer,
            layer.activity_regularizer,
            layer.kernel_constraint,
            layer.bias_constraint,
        )
    )


class HeadTrainer:
    """Trains a small head as `Trainer` does, at a tenth of the time.

    Dropout draws from the seed and the number of the step, so that a training that goes on draws
    what it would have drawn.
    """

    def __init__(self, head: keras.Model, config: TrainingConfig) -> None:
        self.network = head
        dropouts = [layer.rate for layer in head.layers if isinstance(layer, keras.layers.Dropout)]
        self._kept = np.float32(1 - sum(dropouts))
        self._seed = config.seed
        self._libraries = ThreadpoolController()
        self._weights: Weights = [np.array(weight, np.float32) for weight in head.get_weights()]
        self._optimizer = HeadOptimizer(self._weights, config)

    def step(
        self, inputs: NDArray[np.float32], targets: NDArray[np.float32], rate: float
    ) -> tuple[float, float]:
        """Train on one batch.

        `inputs`: ndarray, shape (N, F), float32; features. `targets`: ndarray, shape (N, K),
        float32; what to answer.
        """
        # Products this small are a hundred times slower where threads of BLAS wait for each other
        # on busy cores. A loss that is NaN is for the loop to notice.
        with (
            self._libraries.limit(limits=1, user_api="blas"),
            np.errstate(over="ignore", invalid="ignore"),
        ):
            gradients, probabilities = self._gradients(inputs, targets)
            self._optimizer.apply(gradients, rate)
            logarithms = np.log(np.maximum(probabilities, _TINY))
            loss = -(targets * logarithms).sum(axis=1).mean()
        same = probabilities.argmax(axis=1) == targets.argmax(axis=1)
        return float(loss), float(same.mean())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on, as arrays by name."""
        return {name: np.array(array) for name, array in self._optimizer.arrays().items()}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        own = self._optimizer.arrays()
        check_state(own, state, "head")
        for name, array in own.items():
            array[...] = state[name]
        self._optimizer.iterations = int(state["iterations"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Return a context in which the head has the weights that are judged and kept."""
        self.network.set_weights(self._optimizer.averages)
        yield

    def _gradients(
        self, inputs: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> tuple[Weights, NDArray[np.float32]]:
        *hidden, kernel, bias = self._weights
        features = np.maximum(inputs @ hidden[0] + hidden[1], 0) if hidden else inputs
        factors = self._dropout(features.shape)
        dropped = features * factors
        probabilities = _softmax(dropped @ kernel + bias)
        # Where a probability is held up, the loss does not change with it.
        counted = np.where(probabilities > _TINY, targets, 0)
        change = probabilities * counted.sum(axis=1, keepdims=True) - counted
        change /= np.float32(len(inputs))
        gradients = [dropped.T @ change, change.sum(axis=0)]
        if hidden:
            before = (change @ kernel.T) * factors * (features > 0)
            gradients = [inputs.T @ before, before.sum(axis=0), *gradients]
        return gradients, probabilities

    def _dropout(self, shape: tuple[int, ...]) -> NDArray[np.float32] | np.float32:
        if self._kept == 1:
            return np.float32(1)
        random = np.random.default_rng([self._seed, self._optimizer.iterations])
        kept: NDArray[np.float32] = (random.random(shape, np.float32) < self._kept).astype(
            np.float32
        )
        return kept / self._kept


def _softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result
