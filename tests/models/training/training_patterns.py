"""Small patterns that a network tells apart within seconds."""

from __future__ import annotations

import keras
import numpy as np

from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.stages import LabelledArrays, TrainingData


def stripes(count=3, size=32, seed=0):
    """Two classes: stripes along X, and along Y."""
    random = np.random.default_rng(seed)
    wave = np.sin(np.arange(size) * 0.8)
    images, labels = [], []
    for label in (0, 1):
        for _ in range(count):
            plane = np.broadcast_to(wave if label else wave[:, None], (size, size))
            noisy = plane + 0.3 * random.normal(size=(size, size))
            images.append(noisy[..., None].astype("float32"))
            labels.append(label)
    return images, np.array(labels)


def labelled(**kwargs):
    images, labels = stripes(**kwargs)
    return LabelledArrays(images, labels)


def material(validation=True):
    return TrainingData(labelled(), labelled(seed=1, count=2) if validation else None)


def small(seed=3, n_classes=2):
    keras.utils.set_random_seed(seed)
    return build_network(
        "compact-cnn", input_shape=(None, None, 1), n_classes=n_classes, width=8, depth=2, seed=seed
    )


def config(**changes):
    fields = {"epochs": 3, "steps_per_epoch": 4, "batch_size": 4, "crop": 24, "learning_rate": 1e-2}
    return TrainingConfig(**(fields | {"seed": 3} | changes))
