"""A published network of an older Keras, on cells cut from the field it is meant for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import regionprops
from skimage.segmentation import watershed
from skimage.transform import resize

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.foreign import ForeignNetwork, look_at
from napari_cellclf.core.image import Image
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.read import read_image
from napari_cellclf.models.importing import import_network

MARGIN, SIDE = 5, 50


@pytest.fixture(scope="module")
def file(real_data: Path) -> Path:
    return real_data / "keras-models" / "dna_only_cellcycle_model.keras"


@pytest.fixture(scope="module")
def bundle(file: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    described = ForeignNetwork(
        name="aureus-cell-cycle",
        classes=[{"name": f"Phase {number}"} for number in (1, 2, 3)],
        preprocessing={
            "channels": [{"name": "DNA"}],
            "size": (100, 100),
            "normalization": {"kind": "percentile", "low": 0, "high": 100},
        },
        licence="BSD-3-Clause",
    )
    return import_network(file, described, path=tmp_path_factory.mktemp("m") / "cells.cellclf")


@pytest.fixture(scope="module")
def cells(file: Path) -> list[Image]:
    """Return each cell alone: its bounding box and a margin, nothing of others, on 50 x 50."""
    pixels = np.asarray(read_image(file.with_name("test_dna.tif")).data)
    smooth = gaussian(pixels, 1, preserve_range=True)
    mask = smooth > threshold_otsu(smooth)
    inside = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(inside, min_distance=4, labels=mask.astype(int))
    seeds = np.zeros(mask.shape, int)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = np.pad(watershed(-inside, seeds, mask=mask), MARGIN)
    padded = np.pad(pixels, MARGIN)
    found = []
    for region in regionprops(labels):
        top, left, bottom, right = region.bbox
        box = np.s_[top - MARGIN : bottom + MARGIN, left - MARGIN : right + MARGIN]
        crop = np.where(labels[box] == region.label, padded[box], 0)
        if region.area > 60 and max(crop.shape) <= SIDE:
            edges = [((SIDE - side) // 2, (SIDE - side + 1) // 2) for side in crop.shape]
            found.append(Image(np.pad(crop, edges), "YX", source=f"cell {region.label}"))
    return found


def test_what_its_file_says(file: Path) -> None:
    found = look_at(file)
    assert (found.kind, found.keras_version) == ("Keras 2", "2.9.0")
    assert (found.input_shape, found.n_outputs) == ((100, 100, 1), 3)
    assert (found.last_activation, found.n_parameters) == ("softmax", 498_387)


def _by_hand(file: Path) -> keras.Model:
    """Build the same layers from its publication, and fill them from the file with h5py."""
    convolutions = [
        part
        for index, filters in enumerate((16, 16, 16, 32, 32, 32, 32))
        for part in (
            keras.layers.Conv2D(filters, 3, padding="same", activation="relu"),
            *([keras.layers.MaxPooling2D(2)] if index < 3 else []),
        )
    ]
    network = keras.Sequential(
        [
            keras.Input((100, 100, 1)),
            *convolutions,
            keras.layers.Flatten(),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    names = ["conv2d", *(f"conv2d_{index}" for index in range(1, 7)), "dense", "dense_1"]
    with h5py.File(file) as h5:
        groups = [h5[f"model_weights/{name}/{name}"] for name in names]
        weights = [group[f"{kind}:0"][()] for group in groups for kind in ("kernel", "bias")]
    network.set_weights(weights)
    return network


def test_cells_of_the_field_are_of_all_three_phases(
    bundle: ModelBundle, cells: list[Image], file: Path
) -> None:
    answer = load_classifier(bundle.path, precision="float32").predict(cells, batch_size=64)
    shares = np.bincount(answer.probabilities.argmax(axis=1), minlength=3) / len(cells)
    assert len(cells) > 150
    assert (shares > 0.1).all()
    assert answer.confidences.mean() > 0.8

    network = _by_hand(file)
    prepared = [resize(cell.data.astype("f4"), (100, 100), preserve_range=True) for cell in cells]
    batch: Any = np.stack([(one - one.min()) / (one.max() - one.min()) for one in prepared])
    expected = network.predict_on_batch(batch[..., np.newaxis])
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-4)


def test_it_survives_being_shared(bundle: ModelBundle, cells: list[Image], tmp_path: Path) -> None:
    from napari_cellclf.bundles.write import share_model

    shared = share_model(bundle.path, tmp_path / "shared.cellclf")
    one, other = (load_classifier(path).predict(cells[:8]) for path in (bundle.path, shared.path))
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("fast", 1e-2)])
def test_every_engine_says_of_every_cell_what_keras_says(
    engine: Any, precision: Any, tolerance: float, bundle: ModelBundle, cells: list[Image]
) -> None:
    if not find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    expected, found = (
        load_classifier(bundle.path, **options).predict(cells, batch_size=64)
        for options in ({"engine": "keras"}, {"engine": engine, "precision": precision})
    )
    difference = np.abs(found.probabilities - expected.probabilities)
    assert (found.probabilities.argmax(axis=1) == expected.probabilities.argmax(axis=1)).all()
    assert difference.max() <= tolerance
