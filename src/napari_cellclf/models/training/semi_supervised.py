"""Learning from images without labels as well: pseudo-labels, or a generator to tell from them.

``pseudo-label`` is FixMatch with one unlabelled image for each labelled one. ``sgan`` makes the
classifier the discriminator: its logits also say whether an image is real, and the generator learns
to draw images with the features of real ones. What is drawn depends on seed and step only.

References
----------
.. [1] Sohn et al., FixMatch, NeurIPS 2020.
.. [2] Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from napari_cellclf.errors import TrainingError
from napari_cellclf.models.augmentation.layers import build_augmenter
from napari_cellclf.models.training.fused_normalization import with_fused_normalization
from napari_cellclf.models.training.minibatches import Batches
from napari_cellclf.models.training.trainer import (
    Trainer,
    agreement,
    cross_entropy,
    labelled_inputs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.models.augmentation.config import AugmentationConfig
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.models.training.minibatches import Arrays

#: A prediction is a label from this fraction of its target's probability on, as in FixMatch.
CONFIDENT = 0.95
#: Largest side of the images that the generator draws, in pixels.
MOST_DRAWN = 128
#: Random numbers that a drawn image is made from, and channels of its first feature map.
_NOISE, _FIRST = 100, 64
#: Each layer of the generator doubles the sides; the last one draws the image.
_WIDTHS = (32, 16)
_SCALE = 8
#: Of the network's rate: 2e-4 where that is 1e-3, as in DCGAN (Radford et al., ICLR 2016).
_SLOWER = 0.2


class UnlabelledBatches:
    """Draws the unlabelled images of each step."""

    def __init__(
        self, arrays: Arrays, config: TrainingConfig, input_shape: tuple[int, ...]
    ) -> None:
        self._arrays = arrays
        self._config = config
        # Anew where the loop has halved the batch.
        self._of_size = lru_cache(1)(self._batches)
        found = self._of_size(config.batch_size).input_shape
        if found != input_shape:
            raise TrainingError(
                f"the unlabelled images have {found} pixels and channels, but those with labels "
                f"{input_shape}; set a size or a smaller crop"
            )

    def draw(self, count: int, step: int) -> NDArray[np.float32]:
        """Return so many images for a step, counted from the begin of the stage."""
        return self._of_size(count).batch(step).inputs

    def _batches(self, count: int) -> Batches:
        no_labels, no_targets = np.zeros(len(self._arrays), np.intp), np.ones((1, 1), np.float32)
        config = self._config
        return Batches(
            self._arrays, no_labels, no_targets, count, seed=config.seed, crop=config.crop
        )


class SemiSupervisedTrainer(Trainer):
    """A trainer that draws unlabelled images for each step.

    `likely`: ndarray, shape (K, K), float32; the target of each class.
    """

    def __init__(
        self,
        network: keras.Model,
        config: TrainingConfig,
        input_shape: tuple[int, ...],
        augmentation: AugmentationConfig | None,
        forward: keras.Model,
        unlabelled: UnlabelledBatches,
        likely: NDArray[np.float32],
    ) -> None:
        self._seed = config.seed
        self._unlabelled = unlabelled
        self._likely = likely
        super().__init__(network, config, input_shape, augmentation, forward)

    @property
    def _step(self) -> int:
        return int(self._model.optimizer.iterations)

    def _more_inputs(self, count: int) -> list[NDArray[np.float32]]:
        return [self._unlabelled.draw(count, self._step)]


class PseudoLabelTrainer(SemiSupervisedTrainer):
    """Takes a confident prediction as the label of the same image's augmented view."""

    def _build(
        self,
        network: keras.Model,
        config: TrainingConfig,
        input_shape: tuple[int, ...],
        augmentation: AugmentationConfig | None,
    ) -> keras.Model:
        inputs, tensor, mixed = labelled_inputs(network, config, input_shape, augmentation)
        unlabelled = keras.Input(input_shape, name="unlabelled", dtype="float32")
        varied = unlabelled
        if augmentation is not None:
            augment = build_augmenter(augmentation, config.seed + 1)
            augment.name = "augmentation_of_unlabelled"
            varied = augment(unlabelled)
        join = keras.layers.Concatenate(axis=0, dtype="float32")
        # In one pass, so that batch normalisation sees all of them together.
        answers = with_fused_normalization(network)(join([tensor, varied, unlabelled]))
        both = _PseudoLabels(self._likely)([answers, mixed])
        return keras.Model([*inputs, unlabelled], both, name="trainer")

    def _loss(self, _: Any, answers: Any) -> Any:
        labelled, unlabelled = ops.split(answers, 2, axis=-1)
        return cross_entropy(labelled) + cross_entropy(unlabelled)

    def _agreement(self, _: Any, answers: Any) -> Any:
        return agreement(ops.split(answers, 2, axis=-1)[0])


class GanTrainer(SemiSupervisedTrainer):
    """Trains the network as discriminator, then the generator by feature matching, in each step."""

    def _build(
        self,
        network: keras.Model,
        config: TrainingConfig,
        input_shape: tuple[int, ...],
        augmentation: AugmentationConfig | None,
    ) -> keras.Model:
        last = _last_layer(network)
        features = with_fused_normalization(
            keras.Model(network.inputs[0], last.input, name="features")
        )
        self._generator = build_generator(input_shape, config.seed)
        self._player = _player(features, self._generator, input_shape)
        inputs, tensor, mixed = labelled_inputs(network, config, input_shape, augmentation)
        unlabelled = keras.Input(input_shape, name="unlabelled", dtype="float32")
        noise = keras.Input((_NOISE,), name="noise", dtype="float32")
        join = keras.layers.Concatenate(axis=0, dtype="float32")
        logits = _Logits(last)
        real = logits(features(join([tensor, unlabelled])))
        # As in prediction: the statistics of batch normalisation are those of real images.
        drawn = logits(features(_Untrained(self._generator)(noise), training=False))
        answers = _Discriminated()([real, drawn, mixed])
        return keras.Model([*inputs, unlabelled, noise], answers, name="trainer")

    def step(
        self, inputs: NDArray[np.float32], targets: NDArray[np.float32], rate: float
    ) -> tuple[float, float]:
        """Train the network on one batch, then the generator."""
        more = self._more_inputs(len(inputs))
        loss, accuracy = super().step(inputs, targets, rate)
        self._player.optimizer.learning_rate = _SLOWER * rate
        self._player.train_on_batch(more, np.zeros((len(inputs), 1), np.float32))
        return loss, accuracy

    def _more_inputs(self, count: int) -> list[NDArray[np.float32]]:
        random = np.random.default_rng([self._seed, self._step])
        noise = random.standard_normal((count, _NOISE), np.float32)
        return [*super()._more_inputs(count), noise]

    def _variables(self) -> list[tuple[str, keras.Variable]]:
        own = [*self._generator.variables, *self._player.optimizer.variables]
        return super()._variables() + [(f"generator {i:05d}", v) for i, v in enumerate(own)]

    def _loss(self, _: Any, answers: Any) -> Any:
        return cross_entropy(answers[:, :-1]) + answers[:, -1]

    def _agreement(self, _: Any, answers: Any) -> Any:
        return agreement(answers[:, :-1])


#: By the names that the configuration has for them.
SEMI_SUPERVISED: Mapping[str, type[SemiSupervisedTrainer]] = {
    "pseudo-label": PseudoLabelTrainer,
    "sgan": GanTrainer,
}


def check_drawable(input_shape: tuple[int, ...]) -> None:
    """Refuse images that are too large for the generator."""
    height, width = input_shape[:2]
    if max(height, width) > MOST_DRAWN:
        raise TrainingError(
            f"sgan learns to draw images of up to {MOST_DRAWN} x {MOST_DRAWN} pixels, but these "
            f"have {height} x {width}; set size or crop to less, or use pseudo-label"
        )


def build_generator(input_shape: tuple[int, ...], seed: int) -> keras.Model:
    """Build the network that draws prepared images from noise."""
    check_drawable(input_shape)
    height, width, channels = input_shape
    sides = (-(-height // _SCALE), -(-width // _SCALE))
    seeds = iter(range(seed, seed + 10))

    def initial() -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(next(seeds))

    noise = keras.Input((_NOISE,), name="noise", dtype="float32")
    units = sides[0] * sides[1] * _FIRST
    tensor = keras.layers.Dense(units, kernel_initializer=initial())(noise)
    tensor = keras.layers.Reshape((*sides, _FIRST))(tensor)
    for count in _WIDTHS:
        tensor = keras.layers.GroupNormalization(8)(tensor)
        tensor = keras.layers.UpSampling2D(2)(keras.layers.ReLU()(tensor))
        tensor = keras.layers.Conv2D(count, 3, padding="same", kernel_initializer=initial())(tensor)
    tensor = keras.layers.GroupNormalization(8)(tensor)
    tensor = keras.layers.UpSampling2D(2)(keras.layers.ReLU()(tensor))
    # Prepared pixels have no bounds, so that nothing follows.
    tensor = keras.layers.Conv2D(channels, 5, padding="same", kernel_initializer=initial())(tensor)
    return keras.Model(noise, keras.layers.CenterCrop(height, width)(tensor), name="generator")


def _last_layer(network: keras.Model) -> keras.layers.Dense:
    last = network.layers[-1]
    is_dense = isinstance(last, keras.layers.Dense)
    if not is_dense or last.activation is not keras.activations.softmax:
        raise TrainingError(
            f"sgan needs a network that ends in one dense layer with softmax, which {network.name} "
            "does not; choose another architecture or parameters, or use pseudo-label"
        )
    if keras.config.backend() != "tensorflow":
        raise TrainingError(
            f"sgan was tested with TensorFlow only, not with {keras.config.backend()}; set "
            "KERAS_BACKEND=tensorflow, or use pseudo-label"
        )
    return last


def _player(
    features: keras.Model, generator: keras.Model, input_shape: tuple[int, ...]
) -> keras.Model:
    """Make the model that trains the generator, and nothing else."""
    unlabelled = keras.Input(input_shape, name="unlabelled", dtype="float32")
    noise = keras.Input((_NOISE,), name="noise", dtype="float32")
    seen = _Untrained(features)
    join = keras.layers.Concatenate(dtype="float32")
    model = keras.Model([unlabelled, noise], join([seen(generator(noise)), seen(unlabelled)]))
    model.compile(keras.optimizers.Adam(beta_1=0.5), loss=feature_distance, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def feature_distance(_: Any, answers: Any) -> Any:
    """Squared differences between mean features: of drawn images, the first half, and of real."""
    drawn, real = ops.split(ops.mean(answers, axis=0), 2)
    return ops.square(drawn - real)


class _PseudoLabels(keras.layers.Layer):
    """Puts beside each probability its target; zeros where the network is not confident."""

    def __init__(self, likely: NDArray[np.float32]) -> None:
        super().__init__(name="pseudo_labels", dtype="float32")
        self._likely = likely

    def call(self, inputs: Any) -> Any:
        """Take probabilities of labelled, varied and plain images, and the targets of the first."""
        labelled, varied, plain = ops.split(inputs[0], 3, axis=0)
        plain = ops.stop_gradient(plain)
        likely = ops.convert_to_tensor(self._likely)
        targets = ops.take(likely, ops.argmax(plain, axis=-1), axis=0)
        enough = ops.max(plain, axis=-1) >= CONFIDENT * ops.max(targets, axis=-1)
        targets = targets * ops.cast(enough, "float32")[:, None]
        return ops.concatenate([labelled, inputs[1], varied, targets], axis=-1)


class _Discriminated(keras.layers.Layer):
    """Puts beside probabilities and targets the loss of telling real images from drawn ones."""

    def call(self, inputs: Any) -> Any:
        """Take logits of labelled and then unlabelled images, of drawn ones, and targets.

        An image is real with the probability Z / (Z + 1), Z the sum of the exponentials.
        """
        labelled, unlabelled = ops.split(inputs[0], 2, axis=0)
        real, drawn = (ops.logsumexp(one, axis=-1) for one in (unlabelled, inputs[1]))
        told = 0.5 * (ops.softplus(real) - real) + 0.5 * ops.softplus(drawn)
        return ops.concatenate([ops.softmax(labelled), inputs[2], told[:, None]], axis=-1)


class _Logits(keras.layers.Layer):
    """Computes the last dense layer without its softmax."""

    def __init__(self, dense: keras.layers.Dense) -> None:
        super().__init__(name="logits", dtype="float32")
        self._dense = dense

    def call(self, features: Any) -> Any:
        """Compute."""
        kernel, bias = (ops.cast(one, "float32") for one in self._dense.weights)
        return ops.matmul(features, kernel) + bias


class _Untrained(keras.layers.Layer):
    """Computes a network as in prediction, and does not train it."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__(dtype="float32")
        # Keras would take the weights of an attribute that is a network for this layer's own.
        self._compute: Callable[[Any], Any] = lambda inputs: network(inputs, training=False)

    def call(self, inputs: Any) -> Any:
        """Compute."""
        return self._compute(inputs)
