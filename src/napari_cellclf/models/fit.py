"""Train a network on images that fit in memory: random crops, a cosine schedule, averaged weights.

Everything random is drawn from the configuration's seed, and only Keras is used, so that each
backend repeats its own result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, InputError, ModelError
from napari_cellclf.models.augmentation import AugmentationConfig, build_augmenter

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FitConfig(BaseModel):
    """How to train.

    Parameters
    ----------
    steps : int
        Number of batches.
    batch_size : int
        Crops in a batch; as many of each class, up to chance.
    crop : int
        Height and width of the crops in pixels; smaller images give what they have.
    learning_rate : float
        Largest rate: reached after `warmup` of the steps, then falling to zero as a cosine.
    warmup : float
        Part of the steps.
    weight_decay : float
        Of AdamW (Loshchilov and Hutter, ICLR 2019).
    label_smoothing : float
        Part of the truth that is shared among all classes, against overconfidence.
    ema_momentum : float
        The weights that are kept are a running mean of those of the last steps; 0 keeps the last.
    seed : int
        Start of all random numbers here. The network's own (initial weights, dropout) belong to
        whoever builds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=250, ge=1)
    batch_size: int = Field(default=32, ge=1)
    crop: int = Field(default=192, ge=8)
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=1e-3, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    ema_momentum: float = Field(default=0.98, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class FitResult:
    """What happened.

    Parameters
    ----------
    losses : tuple of float
        Cross-entropy of each batch, augmented and smoothed.
    """

    losses: tuple[float, ...]


def fit(
    network: keras.Model,
    images: Sequence[NDArray[np.float32]],
    labels: Sequence[int],
    config: FitConfig | None = None,
    augmentation: AugmentationConfig | None = None,
    *,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> FitResult:
    """Train a network in place.

    Parameters
    ----------
    network : keras.Model
        float32 ``(N, Y, X, C)`` to probabilities ``(N, K)``.
    images : sequence of ndarray, shape (Y, X, C), float32
        As `Preprocessing` prepares them, so that training sees what prediction will see.
    labels : sequence of int
        The class of each image, 0 to K - 1.
    config : FitConfig, optional
        How to train.
    augmentation : AugmentationConfig, optional
        How to vary the crops; None leaves them as they are.
    on_progress, should_stop : callable
        Told and asked after each batch.

    Returns
    -------
    FitResult
        The losses.

    Raises
    ------
    InputError
        If images, labels and network do not fit together.
    ModelError
        If the loss becomes NaN or infinite; the network is back at its initial weights then.
    CancelledError
        If `should_stop` answered yes; the network is at the weights of the last batch then.
    """
    config = config or FitConfig()
    targets = _check(network, images, labels)
    sampler = CropSampler(images, labels, config)
    initial = network.get_weights()
    trainer = _compile(network, config, augmentation)
    losses: list[float] = []
    for step in range(config.steps):
        pixels, classes = sampler.draw()
        losses.append(float(trainer.train_on_batch(pixels, targets[classes])))
        if not math.isfinite(losses[-1]):
            network.set_weights(initial)
            raise ModelError(
                f"the loss became {losses[-1]} in step {step + 1} of {config.steps}; lower the "
                f"learning rate (now {config.learning_rate:g})"
            )
        on_progress(Progress(step + 1, config.steps, f"training, loss {losses[-1]:.3f}"))
        if should_stop():
            raise CancelledError(f"training was stopped after step {step + 1} of {config.steps}")
    trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
    return FitResult(tuple(losses))


class CropSampler:
    """Draws random crops, each class as often as the others.

    Parameters
    ----------
    images : sequence of ndarray, shape (Y, X, C), float32
        Prepared images.
    labels : sequence of int
        Their classes.
    config : FitConfig
        Size of crops and batches, and the seed.

    Examples
    --------
    >>> images = [np.zeros((40, 50, 1), "float32"), np.ones((40, 50, 1), "float32")]
    >>> pixels, classes = CropSampler(images, [0, 1], FitConfig(crop=16, batch_size=4)).draw()
    >>> pixels.shape, sorted(classes.tolist())
    ((4, 16, 16, 1), [0, 0, 1, 1])
    """

    def __init__(
        self, images: Sequence[NDArray[np.float32]], labels: Sequence[int], config: FitConfig
    ) -> None:
        self._images = images
        self._of_class = {
            label: np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))
        }
        sides = [min(image.shape[:2]) for image in images]
        self._crop = min(config.crop, *sides) if sides else config.crop
        self._batch = config.batch_size
        self._random = np.random.default_rng(config.seed)

    def draw(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Draw a batch.

        Returns
        -------
        pixels : ndarray, shape (batch_size, crop, crop, C), float32
            The crops.
        classes : ndarray of int, shape (batch_size,)
            Their classes.
        """
        present = list(self._of_class)
        # Shuffled rounds of all classes: equal numbers in each batch, up to the remainder.
        rounds = -(-self._batch // len(present))
        order = np.concatenate([self._random.permutation(present) for _ in range(rounds)])
        classes = order[: self._batch].astype(np.intp)
        return np.stack([self._crop_of(int(label)) for label in classes]), classes

    def _crop_of(self, label: int) -> NDArray[np.float32]:
        image = self._images[int(self._random.choice(self._of_class[label]))]
        top, left = (
            int(self._random.integers(0, side - self._crop + 1)) for side in image.shape[:2]
        )
        return image[top : top + self._crop, left : left + self._crop]


def _compile(
    network: keras.Model, config: FitConfig, augmentation: AugmentationConfig | None
) -> keras.Model:
    """Put the augmenter in front of the network and give both an optimiser."""
    layers = [] if augmentation is None else [build_augmenter(augmentation, config.seed)]
    trainer = keras.Sequential([*layers, network])
    warmup = round(config.warmup * config.steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 100 if warmup else config.learning_rate,
        max(config.steps - warmup, 1),
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        global_clipnorm=1.0,
        use_ema=config.ema_momentum > 0,
        ema_momentum=config.ema_momentum,
    )
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    # Compiling kernels takes longer than so short a training gains from it.
    trainer.compile(optimizer, loss, jit_compile=False)
    return trainer


def _check(
    network: keras.Model, images: Sequence[NDArray[np.float32]], labels: Sequence[int]
) -> NDArray[np.float32]:
    """Return one-hot targets, one row a class, if everything fits."""
    n_classes = int(network.output_shape[-1])
    if not images or len(images) != len(labels):
        raise InputError(
            f"{len(images)} images and {len(labels)} labels were received; "
            "give one label for each image, and at least one image"
        )
    wrong = sorted({label for label in labels if not 0 <= label < n_classes})
    if wrong:
        raise InputError(
            f"labels {wrong} are not classes of a network with {n_classes} outputs; "
            f"use 0 to {n_classes - 1}"
        )
    channels = int(network.input_shape[-1])
    shapes = {image.shape for image in images if image.ndim != 3 or image.shape[-1] != channels}
    if shapes:
        raise InputError(
            f"images of shape {sorted(shapes)[0]} do not fit a network of {channels} channels; "
            f"give arrays (Y, X, {channels})"
        )
    return np.eye(n_classes, dtype=np.float32)
