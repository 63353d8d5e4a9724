"""A frozen backbone on cached features, then fine-tuning."""

import keras
import numpy as np
import pytest
from training_patterns import config, material

from napari_cellclf.errors import CancelledError
from napari_cellclf.models.architectures.head import add_head
from napari_cellclf.models.training import features
from napari_cellclf.models.training.reporter import MemoryKeeper
from napari_cellclf.models.training.stages import train_network
from napari_cellclf.models.training.surgery import split_head


def tiny():
    """A backbone of one convolution with the head of pretrained networks."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    tensor = keras.layers.Conv2D(4, 5, strides=2)(inputs)
    tensor = keras.layers.ReLU()(keras.layers.BatchNormalization()(tensor))
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(tensor))
    return add_head(backbone, 2, name="tiny", hidden_units=None, dropout=0.2, train_backbone=False)


HEAD = {"head_epochs": 4, "head_learning_rate": 3e-3, "weights": "imagenet", "crop": None}


def test_only_the_head_learns_and_the_backbone_computes_once(tmp_path, monkeypatch):
    network, computed = tiny(), []
    real = features.predict
    monkeypatch.setattr(
        features,
        "predict",
        lambda net, arrays, *rest: computed.append(len(arrays)) or real(net, arrays, *rest),
    )
    before = network.get_weights()
    settings = config(**HEAD, epochs=0)
    train_network(network, material(), settings, features_folder=tmp_path)
    changed = [(a != b).any() for a, b in zip(before, network.get_weights(), strict=True)]
    # Kernel and bias of the last layer.
    assert changed[-2:] == [True, True]
    assert not any(changed[:-2])
    assert computed == [6, 4]
    train_network(tiny(), material(), settings, features_folder=tmp_path)
    assert computed == [6, 4]


def test_features_of_other_weights_are_computed_again(tmp_path):
    backbone, _ = split_head(tiny())
    images = [np.zeros((32, 32, 1), "float32")]
    features.cached_features(backbone, images, folder=tmp_path, key="a")
    features.cached_features(backbone, images, folder=tmp_path, key="b")
    weights = backbone.get_weights()
    backbone.set_weights([weights[0] + 1, *weights[1:]])
    features.cached_features(backbone, images, folder=tmp_path, key="a")
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_damaged_features_are_computed_again(tmp_path):
    backbone, _ = split_head(tiny())
    images = [np.ones((32, 32, 1), "float32")]
    first = features.cached_features(backbone, images, folder=tmp_path, key="a")
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:-8])
    again = features.cached_features(backbone, images, folder=tmp_path, key="a")
    np.testing.assert_array_equal(first, again)


def test_both_stages_are_taken_up_anywhere(tmp_path):
    settings = config(**HEAD, epochs=1, steps_per_epoch=2, finetune_statistics=False)
    whole = tiny()
    history = train_network(whole, material(), settings, features_folder=tmp_path)
    assert [record["stage"] for record in history] == ["head"] * 4 + ["network"]
    keeper, stops = MemoryKeeper(), 0
    while True:
        network, asked = tiny(), []
        try:
            again = train_network(
                network,
                material(),
                settings,
                features_folder=tmp_path,
                keeper=keeper,
                should_stop=lambda asked=asked: asked.append(1) or len(asked) >= 6,
            )
            break
        except CancelledError:
            stops += 1
    assert stops >= 2
    assert history == again
    for one, other in zip(whole.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_is_kept_of_features_that_were_stopped(tmp_path):
    with pytest.raises(CancelledError):
        train_network(
            tiny(),
            material(),
            config(**HEAD, epochs=0),
            features_folder=tmp_path,
            should_stop=lambda: True,
        )
    assert not list(tmp_path.glob("*"))
