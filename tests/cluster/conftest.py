"""A cluster of two processes on this computer, a tiny network, and files for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
import tifffile

from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.load import load_classifier


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Any size, two channels, three classes."""
    import keras

    from napari_cellclf.core.image import Image
    from napari_cellclf.core.unlikeness import Unlikeness
    from napari_cellclf.models.save import save_bundle

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(3, activation="softmax")(x)
    path = tmp_path_factory.mktemp("models") / "tiny.cellclf"
    save_bundle(
        keras.Model(inputs, outputs),
        path,
        preprocessing=Preprocessing(channels=({"name": "DNA"}, {"name": "actin"})),
        classes=("a", "b", "c"),
        architecture="compact-cnn",
        unlikeness=Unlikeness.fit(np.random.default_rng(0).normal(size=(30, 4))),
        test_image=Image(
            np.arange(200, dtype=np.uint8).reshape(2, 10, 10), "CYX", ("DNA", "actin")
        ),
    )
    return path


@pytest.fixture(scope="session")
def local(model: Path) -> Classifier:
    return load_classifier(model)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety files, two of which cannot be classified; one is a stack."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(90):
        shape = (3, 2, 12, 12) if number == 40 else (2, 12, 12)
        pixels = random.integers(0, 255, shape, np.uint8)
        axes = "TCYX" if number == 40 else "CYX"
        _write(folder / f"{number:03}.tif", pixels, axes, ["DNA", "actin"])
    (folder / "010.tif").write_bytes(b"II*\0")
    _write(folder / "050.tif", np.ones((2, 12, 12), np.uint8), "CYX", ["x", "y"])
    return folder


def _write(path: Path, pixels: np.ndarray[Any, Any], axes: str, names: list[str]) -> None:
    described = {"axes": axes, "Channel": {"Name": names}}
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=described, ome=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    # Lost once is enough for a chunk to be suspected, so that the test of it is a short one.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster
