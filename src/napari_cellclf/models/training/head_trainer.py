"""Trains the head of a frozen backbone on its features, in NumPy, step for step as Keras would.

A step of Keras takes 2 ms however small the network is, since each of some hundred operations is
dispatched by itself; here it takes a tenth of that. A test holds both to the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from threadpoolctl import ThreadpoolController

from napari_cellclf.models.training.trainer import check_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.models.training.config import TrainingConfig

#: Above so many, Keras's operations are long enough to be the faster ones.
MOST_WEIGHTS = 300_000
_KINDS = (("Dense",), ("Dropout", "Dense"), ("Dense", "Dense"), ("Dense", "Dropout", "Dense"))
_TINY = np.float32(1e-7)
Weights = list["NDArray[np.float32]"]
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_MOMENTUM = 0.9
_CLIP = 1.0


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


class HeadTrainer:
    """Trains a small head as `Trainer` does, at a tenth of the time.

    Dropout depends on the seed and the number of the step only, so that a resumed run draws the
    same numbers.
    """

    def __init__(self, head: keras.Model, config: TrainingConfig) -> None:
        self.network = head
        dropouts = [layer.rate for layer in head.layers if isinstance(layer, keras.layers.Dropout)]
        self._kept = np.float32(1 - sum(dropouts))
        self._seed = config.seed
        self._libraries = ThreadpoolController()
        self._weights: Weights = [np.array(weight, np.float32) for weight in head.get_weights()]
        self._optimizer = _HeadOptimizer(self._weights, config)

    def step(
        self, inputs: NDArray[np.float32], targets: NDArray[np.float32], rate: float
    ) -> tuple[float, float]:
        """Train on one batch.

        `inputs`: ndarray, shape (N, F), float32; features. `targets`: ndarray, shape (N, K),
        float32.
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
        """Return a context in which the head has the averaged weights, to validate and save."""
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


class _HeadOptimizer:
    """Updates weights along gradients, with a state that can be saved.

    `weights`: list of ndarray of float32; changed in place.
    """

    def __init__(self, weights: Weights, config: TrainingConfig) -> None:
        self._weights = weights
        self._uses_momentum = config.optimizer == "sgd"
        self._decay = config.weight_decay if config.optimizer == "adamw" else 0.0
        self._ema = config.ema
        self.iterations = 0
        self._first = [np.zeros_like(weight) for weight in weights]
        self._second = [] if self._uses_momentum else [np.zeros_like(w) for w in weights]
        self._means = [np.array(weight) for weight in weights] if config.ema else []

    @property
    def averages(self) -> Weights:
        """Running means of the weights; the weights themselves if none are kept yet."""
        return self._means if self._means and self.iterations else self._weights

    def apply(self, gradients: Weights, rate: float) -> None:
        """Take a step.

        `gradients`: list of ndarray of float32; one for each weight.
        """
        norm = np.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in gradients))
        clipped = gradients if norm <= _CLIP else [g * np.float32(_CLIP / norm) for g in gradients]
        step = self._sgd if self._uses_momentum else self._adam
        for number, gradient in enumerate(clipped):
            step(number, gradient, rate)
        self._average()
        self.iterations += 1

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on, by name; not copied."""
        lists = {
            "weight": self._weights,
            "first": self._first,
            "second": self._second,
            "mean": self._means,
        }
        named = {f"{name} {i}": one for name, part in lists.items() for i, one in enumerate(part)}
        return {**named, "iterations": np.array(self.iterations)}

    def _adam(self, number: int, gradient: NDArray[np.float32], rate: float) -> None:
        """Kingma and Ba, ICLR 2015; decay apart from it: Loshchilov and Hutter, ICLR 2019."""
        weight, first, second = self._weights[number], self._first[number], self._second[number]
        steps = self.iterations + 1
        alpha = rate * np.sqrt(1 - _BETA_2**steps) / (1 - _BETA_1**steps)
        if self._decay:
            weight *= np.float32(1 - self._decay * rate)
        first += np.float32(1 - _BETA_1) * (gradient - first)
        second += np.float32(1 - _BETA_2) * (gradient * gradient - second)
        weight -= np.float32(alpha) * first / (np.sqrt(second) + np.float32(_EPSILON))

    def _sgd(self, number: int, gradient: NDArray[np.float32], rate: float) -> None:
        """Sutskever et al., ICML 2013, as Keras writes Nesterov's momentum."""
        first, step = self._first[number], np.float32(rate) * gradient
        first *= np.float32(_MOMENTUM)
        first -= step
        self._weights[number] += np.float32(_MOMENTUM) * first - step

    def _average(self) -> None:
        momentum = np.float32(self._ema if self.iterations else 0)
        for mean, weight in zip(self._means, self._weights, strict=False):
            mean *= momentum
            mean += (1 - momentum) * weight


def _is_restrained(layer: keras.layers.Dense) -> bool:
    """Whether regularizers or constraints act on its weights; an imported network may have some."""
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


def _softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result
