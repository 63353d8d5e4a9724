from __future__ import annotations

import keras
import numpy as np
import pytest
import tifffile

from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ObjectCrop, objects_in_mask
from napari_cellclf.errors import CancelledError
from napari_cellclf.io.collections import open_collection
from napari_cellclf.models.architectures.registry import default_preprocessing
from napari_cellclf.models.backbone_child import FeatureEngine
from napari_cellclf.models.backbones import (
    Backbone,
    default_backbone,
    row_features,
    start_process,
)
from napari_cellclf.models.keras_backbone import network_of
from napari_cellclf.models.training.network import split_head


class Means:
    """Stands for the child process: the features of an image are its mean and its spread."""

    device = "here"

    def __init__(self, backbone):
        self.images = 0
        self.closed = False

    def wait_until_ready(self):
        pass

    def __call__(self, batch):
        self.images += len(batch)
        return np.stack([batch.mean(axis=(1, 2, 3)), batch.max(axis=(1, 2, 3))], axis=1)

    def close(self):
        self.closed = True


class Starts:
    """Remembers what was started."""

    def __init__(self):
        self.engines = []

    def __call__(self, backbone):
        self.engines.append(Means(backbone))
        return self.engines[-1]

    @property
    def images(self):
        return sum(engine.images for engine in self.engines)


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 60_000, (40, 50), np.uint16)
        tifffile.imwrite(images / f"cell {number}.tif", pixels)
    return images


def test_features_are_computed_once(folder, tmp_path):
    starts = Starts()
    collection = open_collection([folder])
    backbone = default_backbone(collection.read(0))
    first = row_features(collection, backbone, start=starts, folder=tmp_path / "kept")
    assert first.features.shape == (5, 2)
    assert np.isfinite(first.features).all()
    assert all(first.hashes)
    assert len(starts.engines) == 1
    assert starts.engines[0].closed
    again = row_features(
        open_collection([folder]), backbone, start=starts, folder=tmp_path / "kept"
    )
    np.testing.assert_array_equal(again.features, first.features)
    assert again.hashes == first.hashes
    assert len(starts.engines) == 1


def test_damaged_features_are_computed_again_and_counted(folder, tmp_path):
    starts, kept = Starts(), tmp_path / "kept"
    collection = open_collection([folder])
    backbone = default_backbone(collection.read(0))
    first = row_features(collection, backbone, start=starts, folder=kept)
    (numbers,) = kept.glob("*.f32")
    content = bytearray(numbers.read_bytes())
    content[0] ^= 1
    numbers.write_bytes(content)
    again = row_features(open_collection([folder]), backbone, start=starts, folder=kept)
    assert (first.damaged, again.damaged) == (0, 1)
    assert starts.images == 6
    np.testing.assert_array_equal(again.features, first.features)


def test_only_what_changed_is_computed_again(folder, tmp_path):
    starts = Starts()
    collection = open_collection([folder])
    backbone = default_backbone(collection.read(0))
    first = row_features(collection, backbone, start=starts, folder=tmp_path / "kept")
    tifffile.imwrite(folder / "cell 2.tif", np.zeros((41, 50), np.uint16))
    changed = row_features(
        open_collection([folder]), backbone, start=starts, folder=tmp_path / "kept"
    )
    assert starts.images == 6
    assert np.flatnonzero((changed.features != first.features).any(axis=1)).tolist() == [2]
    other = backbone.model_copy(
        update={"preprocessing": backbone.preprocessing.model_copy(update={"centre": 0.5})}
    )
    row_features(open_collection([folder]), other, start=starts, folder=tmp_path / "kept")
    assert starts.images == 11


def test_bad_images_are_reported_and_the_others_computed(folder, tmp_path):
    (folder / "cell 1.tif").write_bytes(b"no image at all")
    collection = open_collection([folder])
    backbone = default_backbone(collection.read(0))
    starts = Starts()
    found = row_features(collection, backbone, start=starts, folder=tmp_path / "kept")
    assert list(found.bad) == [1]
    assert "cell 1.tif" in found.bad[1]
    assert np.isnan(found.features[1]).all()
    assert np.isfinite(np.delete(found.features, 1, axis=0)).all()


def test_what_was_computed_is_kept_when_it_is_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_cellclf.models.backbones._BATCH", 2)
    collection = open_collection([folder])
    backbone = default_backbone(collection.read(0))
    starts = Starts()

    def stop():
        return bool(starts.engines) and starts.engines[0].images >= 2

    with pytest.raises(CancelledError, match="2 of 5"):
        row_features(collection, backbone, start=starts, folder=tmp_path / "kept", should_stop=stop)
    assert starts.engines[0].closed
    told = []
    row_features(
        collection, backbone, start=starts, folder=tmp_path / "kept", on_progress=told.append
    )
    assert starts.images == 5
    assert (told[0].done, told[-1].done, told[-1].total) == (2, 5, 5)


def layer_collection(pixels, mask):
    rows = [Row("a layer", object=one) for one in objects_in_mask(mask)]
    return Collection(rows, lambda row: Image(pixels, "YX", source=row.source))


def test_objects_of_a_layer_are_cut_out_and_known_again(tmp_path):
    random = np.random.default_rng(1)
    pixels = random.normal(size=(60, 60))
    mask = np.zeros((60, 60), int)
    mask[5:15, 5:15], mask[30:44, 30:40] = 1, 2
    collection = layer_collection(pixels, mask)
    backbone = default_backbone(collection.read(0), ObjectCrop(side=16))
    starts = Starts()
    found = row_features(collection, backbone, start=starts, folder=tmp_path)
    prepared = [
        backbone.preprocessing(collection.read(n), region=collection.rows[n].object) for n in (0, 1)
    ]
    np.testing.assert_allclose(found.features[:, 1], [one.max() for one in prepared], rtol=1e-5)
    row_features(layer_collection(pixels, mask), backbone, start=starts, folder=tmp_path)
    assert starts.images == 2
    row_features(layer_collection(pixels + 1, mask), backbone, start=starts, folder=tmp_path)
    assert starts.images == 4


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image(np.zeros((8, 8, 3), np.uint8), "YXS"), "imagenet"),
        (Image(np.zeros((8, 8, 3), np.uint16), "YXS"), "zero_mean_unit_variance"),
        (Image(np.zeros((5, 8, 8), np.uint16), "CYX"), "zero_mean_unit_variance"),
        (Image(np.zeros((8, 8), np.uint8), "YX"), "zero_mean_unit_variance"),
    ],
)
def test_pixels_are_brought_to_the_range_that_fits_them(image, kind):
    preprocessing = default_backbone(image).preprocessing
    assert preprocessing.normalization.kind == kind
    assert len(preprocessing.channels) == image.n_channels
    if kind == "imagenet":
        # As training does, which cannot be asked without importing Keras.
        trained = default_preprocessing("efficientnet-lite0", preprocessing.channels)
        assert trained.normalization == preprocessing.normalization
        assert trained.size == preprocessing.size


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_engine_computes_what_keras_does(channels):
    image = Image(np.zeros((channels, 8, 8), np.uint16), "CYX", [f"c{n}" for n in range(channels)])
    backbone = default_backbone(image)
    batch = np.random.default_rng(2).normal(size=(2, 64, 64, channels)).astype(np.float32)
    computed = FeatureEngine(backbone)(batch)
    network, _ = split_head(network_of(backbone, 2)[0])
    expected = keras.ops.convert_to_numpy(network(batch, training=False))
    assert computed.shape == (2, 1280)
    np.testing.assert_allclose(computed, expected, atol=2e-3)
    # Roots of what is not negative, and the summand below them.
    assert computed.min() >= 0.1 - 1e-3


def test_the_child_process_computes_and_ends(folder, tmp_path):
    collection = open_collection([folder])
    backbone = default_backbone(collection.read(0))
    engines = []

    def start(wanted):
        engines.append(start_process(wanted))
        return engines[0]

    found = row_features(collection, backbone, start=start, folder=tmp_path)
    assert found.features.shape == (5, 1280)
    assert not engines[0].is_alive()
    prepared = backbone.preprocessing(collection.read(0))[np.newaxis]
    np.testing.assert_allclose(found.features[0], FeatureEngine(backbone)(prepared)[0], atol=1e-3)


def test_a_backbone_is_plain_data(folder):
    backbone = default_backbone(open_collection([folder]).read(0))
    assert Backbone.model_validate_json(backbone.model_dump_json()) == backbone
