"""What compares an exported network with Keras, and bundles to export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.models.export import runtimes
from napari_cellclf.models.export.onnx.convert import to_onnx

#: A network and its images to the largest difference between Keras's answers and ONNX Runtime's,
#: relative to those above 1.
Difference = Callable[..., float]


@pytest.fixture(scope="session")
def run_onnx() -> Callable[..., Any]:
    return runtimes.run_onnx


@pytest.fixture(scope="session")
def difference() -> Difference:
    def measure(network: Any, images: np.ndarray[Any, Any], **options: Any) -> float:
        expected = np.asarray(network(images, training=False))
        found = runtimes.run_onnx(to_onnx(network, **options), images)
        assert found.shape == expected.shape
        return float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())

    return measure


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., ModelBundle]:
    """Save a small network of any size from 4 x 4, with any field of its bundle changed."""

    def save(channels: int = 2, dtype: str = "uint16", **fields: Any) -> ModelBundle:
        from napari_cellclf.models.save import save_bundle

        keras.utils.set_random_seed(0)
        names = [f"stain {number}" for number in range(channels)]
        size = fields.pop("size", None)
        inputs = keras.Input((*(size or (None, None)), channels), name="image")
        value = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
        value = keras.layers.GlobalAveragePooling2D()(value)
        last = keras.layers.Dense(3, "softmax", kernel_initializer="he_normal", name="classes")
        network = keras.Model(inputs, last(value))
        preprocessing = Preprocessing(
            channels=[{"name": name} for name in names],
            size=size,
            **({"normalization": fields.pop("normalization")} if "normalization" in fields else {}),
        )
        rng = np.random.default_rng(5)
        pixels = rng.uniform(0.2, 0.8, (channels, *fields.pop("sides", (24, 24))))
        scale = np.iinfo(dtype).max if dtype.startswith("uint") else 1
        test_image = Image((pixels * scale).astype(dtype), "CYX", names)
        defaults = {
            "preprocessing": preprocessing,
            "classes": ["a", "b", "c"],
            "architecture": "compact-cnn",
            "test_image": test_image,
            "licence": "CC BY 4.0",
            "description": "Made for tests.",
        }
        return save_bundle(network, tmp_path / "small.cellclf", **(defaults | fields))

    return save
