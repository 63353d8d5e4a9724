"""The rules by which a small head learns, in NumPy, step for step those of Keras.

A step of Keras takes 2 ms however small the network is, since each of some hundred operations is
dispatched by itself; here it takes a tenth of that. A test holds both to the same weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.models.training.config import TrainingConfig

Weights = list["NDArray[np.float32]"]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_MOMENTUM = 0.9
_CLIP = 1.0


class HeadOptimizer:
    """Changes weights along gradients; all it remembers can be written down.

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
