"""The model that is trained: augmentation, the network, and cross-entropy with soft targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.augmentation.layers import build_augmenter
from napari_cellclf.models.training.fused_normalization import with_fused_normalization

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.models.training.config import TrainingConfig

_MOMENTUM = 0.9
_TINY = 1e-7


class Trainer:
    """Trains a network one batch at a time, with a state that can be saved.

    `network`: inputs to probabilities ``(N, K)``; trained in place.
    """

    def __init__(
        self,
        network: keras.Model,
        config: TrainingConfig,
        input_shape: tuple[int, ...],
        augmentation: AugmentationConfig | None = None,
        forward: keras.Model | None = None,
    ) -> None:
        self.network = network
        self._model = self._build(forward or network, config, input_shape, augmentation)
        self._model.compile(
            optimizer=_optimizer(config),
            loss=self._loss,
            metrics=[self._agreement],
            # XLA takes longer to compile than most trainings here gain from it; but without it
            # JAX would compute one operation after the other.
            jit_compile=keras.config.backend() == "jax",
        )
        self._model.optimizer.build(self._model.trainable_variables)
        self._averages = config.ema > 0
        strategy = getattr(self._model, "distribute_strategy", None)
        self._is_mirrored = getattr(strategy, "num_replicas_in_sync", 1) > 1

    def step(
        self, inputs: NDArray[np.float32], targets: NDArray[np.float32], rate: float
    ) -> tuple[float, float]:
        """Train on one batch.

        `inputs`: ndarray, shape (N, ...), float32; images or features. `targets`: ndarray, shape
        (N, K), float32.
        """
        self._model.optimizer.learning_rate = rate
        arrays = [inputs, targets, *self._more_inputs(len(inputs))]
        unused = np.zeros((len(inputs), 1), np.float32)
        if self._is_mirrored:
            # Only `fit` divides a batch among TensorFlow's replicas.
            done = self._model.fit(
                arrays, unused, batch_size=len(inputs), verbose=0, shuffle=False
            ).history
            return float(done["loss"][0]), float(done[self._agreement.__name__][0])
        loss, accuracy = self._model.train_on_batch(arrays, unused)
        return float(loss), float(accuracy)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on, as arrays by name."""
        return {name: np.array(v.numpy()) for name, v in self._variables()}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        variables = dict(self._variables())
        check_state(variables, state, "network")
        for name, variable in variables.items():
            variable.assign(state[name])

    def averaged(self) -> AveragedWeights:
        """Return a context in which the network has the averaged weights, to validate and save."""
        return AveragedWeights(self._model, self._averages)

    def _build(
        self,
        network: keras.Model,
        config: TrainingConfig,
        input_shape: tuple[int, ...],
        augmentation: AugmentationConfig | None,
    ) -> keras.Model:
        """Make the model whose inputs are `step`'s, and whose answers `_loss` compares."""
        inputs, tensor, mixed = labelled_inputs(network, config, input_shape, augmentation)
        answers = with_fused_normalization(network)(tensor)
        both = keras.layers.Concatenate(dtype="float32")([answers, mixed])
        return keras.Model(inputs, both, name="trainer")

    def _more_inputs(self, count: int) -> list[NDArray[np.float32]]:
        """Return what the model takes beside so many images and their targets."""
        return []

    def _loss(self, _: Any, answers: Any) -> Any:
        return cross_entropy(answers)

    def _agreement(self, _: Any, answers: Any) -> Any:
        return agreement(answers)

    def _variables(self) -> list[tuple[str, keras.Variable]]:
        named = [(f"network {i:05d}", v) for i, v in enumerate(self._model.variables)]
        own = self._model.optimizer.variables
        return named + [(f"optimizer {i:05d}", v) for i, v in enumerate(own)]


def check_state(own: Mapping[str, Any], state: Mapping[str, NDArray[Any]], what: str) -> None:
    """Refuse the state of another network or optimizer."""
    wrong = set(own) ^ set(state)
    wrong |= {name for name in set(own) & set(state) if own[name].shape != state[name].shape}
    if wrong:
        raise ValueError(f"{len(wrong)} arrays do not fit the {what}, such as {min(wrong)}")


class AveragedWeights:
    """While entered, trained weights are replaced by their running means, if there are any."""

    def __init__(self, model: keras.Model, averages: bool) -> None:
        self._model = model
        self._averages = averages
        self._kept: list[NDArray[Any]] = []

    def __enter__(self) -> None:
        variables = self._model.trainable_variables
        if self._averages and int(self._model.optimizer.iterations) > 0:
            self._kept = [np.array(v.numpy()) for v in variables]
            self._model.optimizer.finalize_variable_values(variables)
            for variable in variables:
                # A copy: on JAX they would share the means' memory, which a step gives away.
                variable.assign(np.array(variable.numpy()))

    def __exit__(self, *_: object) -> None:
        for variable, value in zip(self._model.trainable_variables, self._kept, strict=False):
            variable.assign(value)


def learning_rate(config: TrainingConfig, largest: float, step: int, total: int) -> float:
    """Return the rate of one step."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return largest * (0.01 + 0.99 * step / warmup)
    if config.schedule == "constant":
        return largest
    passed = (step - warmup) / max(total - warmup, 1)
    return largest * 0.5 * (1 + math.cos(math.pi * min(passed, 1.0)))


def labelled_inputs(
    network: keras.Model,
    config: TrainingConfig,
    input_shape: tuple[int, ...],
    augmentation: AugmentationConfig | None,
) -> tuple[list[keras.KerasTensor], keras.KerasTensor, keras.KerasTensor]:
    """Make the inputs of images and targets, and both as augmentation and mixup change them.

    Targets are an input as well, so that mixup can change both on the device.
    """
    inputs = keras.Input(input_shape, name="inputs", dtype="float32")
    targets = keras.Input((int(network.output_shape[-1]),), name="targets", dtype="float32")
    tensor, mixed = inputs, targets
    if augmentation is not None and augmentation.varies:
        tensor = build_augmenter(augmentation, config.seed)(tensor)
    if augmentation is not None and config.mixup > 0:
        mix = keras.layers.MixUp(config.mixup, seed=config.seed, dtype="float32")
        both = mix({"images": tensor, "labels": targets})
        tensor, mixed = both["images"], both["labels"]
    return [inputs, targets], tensor, mixed


def cross_entropy(answers: Any) -> Any:
    """Cross-entropy of each row, whose first half is probabilities and second half targets."""
    probabilities, targets = ops.split(answers, 2, axis=-1)
    return -ops.sum(targets * ops.log(ops.maximum(probabilities, _TINY)), axis=-1)


def agreement(answers: Any) -> Any:
    """Return 1 for each row whose most probable class is its most likely target, else 0."""
    probabilities, targets = ops.split(answers, 2, axis=-1)
    same = ops.argmax(probabilities, axis=-1) == ops.argmax(targets, axis=-1)
    return ops.cast(same, "float32")


def _optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    shared: dict[str, Any] = {
        "learning_rate": config.learning_rate,
        "global_clipnorm": 1.0,
        "use_ema": config.ema > 0,
        "ema_momentum": config.ema or 0.99,
    }
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=_MOMENTUM, nesterov=True, **shared)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(**shared)
    return keras.optimizers.AdamW(weight_decay=config.weight_decay, **shared)
