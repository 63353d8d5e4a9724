"""Tiny real Keras networks and bundles made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.load import load_classifier

CHANNELS = ("DNA", "actin")
CLASSES = ("a", "b", "c")
PREPROCESSING = Preprocessing(channels=({"name": "DNA"}, {"name": "actin"}))

MakeImage = Callable[..., Image]


@pytest.fixture(scope="session")
def network() -> Any:
    """Any size from 4 x 4, two channels, three classes."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(3, activation="softmax", kernel_initializer="he_normal")(x)
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="session")
def make_image() -> MakeImage:
    def make(seed: int = 0, size: tuple[int, int] = (20, 24), **fields: Any) -> Image:
        pixels = np.random.default_rng(seed).integers(0, 65535, (2, *size), dtype=np.uint16)
        return Image(pixels, "CYX", CHANNELS, **fields)

    return make


@pytest.fixture(scope="session")
def save(network: Any, make_image: MakeImage) -> Callable[..., ModelBundle]:
    """Save the tiny network, or another, with any field changed."""

    def save(path: Path, **fields: Any) -> ModelBundle:
        from napari_cellclf.models.save import save_bundle

        defaults = {
            "preprocessing": PREPROCESSING,
            "classes": CLASSES,
            "architecture": "compact-cnn",
            "test_image": make_image(99),
        }
        return save_bundle(fields.pop("network", network), path, **(defaults | fields))

    return save


@pytest.fixture(scope="session")
def bundle(
    save: Callable[..., ModelBundle], tmp_path_factory: pytest.TempPathFactory
) -> ModelBundle:
    return save(tmp_path_factory.mktemp("models") / "tiny.cellclf")


@pytest.fixture(scope="session")
def classifier(bundle: ModelBundle) -> Classifier:
    return load_classifier(bundle.path, precision="float32")
