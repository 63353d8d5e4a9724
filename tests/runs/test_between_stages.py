"""A process that is killed when the head is trained, and the whole network not yet begun."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from napari_cellclf.models.architectures.transfer import add_head
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training import stages
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.stages import LabelledArrays, TrainingData, train_network
from napari_cellclf.runs.checkpoints import DiskKeeper

CONFIG = TrainingConfig(
    head_epochs=1,
    epochs=1,
    batch_size=4,
    mixup=0.2,
    ema=0.5,
    augmentation=AugmentationConfig.off(noise=0.2, flips=True),
)


def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    features = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    features = keras.layers.GlobalAveragePooling2D()(features)
    # Its dropout draws in both stages.
    return add_head(
        keras.Model(inputs, features),
        2,
        name="small",
        hidden_units=4,
        dropout=0.4,
        train_backbone=False,
    )


def test_the_next_stage_draws_the_same_random_numbers(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    labels = np.arange(8) % 2
    images = [random.normal(label, 1, (8, 8, 1)).astype(np.float32) for label in labels]
    material = TrainingData(LabelledArrays(images, labels))

    def train(folder):
        made, notes = network(), []
        keeper = DiskKeeper(tmp_path / folder, notes.append)
        train_network(made, material, CONFIG, features_folder=tmp_path / "features", keeper=keeper)
        assert notes == []
        return made.get_weights()

    def die(*_):
        raise KeyboardInterrupt

    whole = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(stages, "thaw", die)
        with pytest.raises(KeyboardInterrupt):
            train("killed")
    for found, expected in zip(train("killed"), whole, strict=True):
        np.testing.assert_array_equal(found, expected)
