import keras
import numpy as np
import pytest

from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.compact_cnn import COMPACT_CNN, MINIMUM_SIZE

PLAIN_LAYERS = {
    "InputLayer",
    "Conv2D",
    "GroupNormalization",
    "BatchNormalization",
    "ReLU",
    "GlobalAveragePooling2D",
    "Dropout",
    "Dense",
}


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("size", [(MINIMUM_SIZE, MINIMUM_SIZE), (33, 70), (128, 96)])
def test_takes_any_size_and_any_number_of_channels(channels, size):
    network = COMPACT_CNN.build((None, None, channels), 3, width=8, depth=3)
    answer = np.asarray(network(np.ones((2, *size, channels), "float32")))
    assert answer.shape == (2, 3)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("normalization", ["group", "batch", "none"])
def test_is_made_of_plain_keras_layers(normalization):
    network = COMPACT_CNN.build((None, None, 2), 2, width=8, normalization=normalization)
    names = {type(layer).__name__ for layer in network.layers}
    assert names <= PLAIN_LAYERS
    assert all(type(layer).__module__.startswith("keras.") for layer in network.layers)


@pytest.mark.parametrize("depth", [2, 5])
def test_depth_counts_convolutions(depth):
    network = COMPACT_CNN.build((None, None, 1), 2, width=8, depth=depth)
    convolutions = [x for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [8 * (i + 1) for i in range(depth)]


def test_same_seed_same_weights_and_other_seed_others():
    first, again, other = (
        COMPACT_CNN.build((None, None, 1), 2, width=8, seed=s) for s in (3, 3, 4)
    )
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_group_normalization_looks_at_each_image_alone():
    network = COMPACT_CNN.build((None, None, 1), 2, width=8, depth=2, normalization="group", seed=0)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
    together = np.asarray(network(images, training=False))
    alone = np.asarray(network(images[:1], training=False))
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)


def test_default_network_for_six_channels_is_small():
    assert COMPACT_CNN.build((None, None, 6), 4).count_params() * 4 < 1_000_000


def test_members_answer_their_mean():
    joined = COMPACT_CNN.build((None, None, 2), 3, width=8, depth=2, members=3, seed=1)
    members = [joined.get_layer(f"member{number}") for number in (1, 2, 3)]
    images = np.random.default_rng(0).normal(size=(2, 40, 33, 2)).astype("float32")
    answers = [np.asarray(member(images, training=False)) for member in members]
    joint = np.asarray(joined(images, training=False))
    np.testing.assert_allclose(joint, np.mean(answers, axis=0), atol=1e-6)
    assert not np.allclose(answers[0], answers[1])
    assert not np.allclose(answers[1], answers[2])
    alone = COMPACT_CNN.build((None, None, 2), 3, width=8, depth=2, seed=1)
    np.testing.assert_array_equal(members[0].get_weights()[0], alone.get_weights()[0])
    assert joined.count_params() == 3 * alone.count_params()


def test_weights_of_members_follow_one_another():
    joined = COMPACT_CNN.build((None, None, 1), 2, width=8, depth=2, members=2)
    first, second = (
        COMPACT_CNN.build((None, None, 1), 2, width=8, depth=2, seed=s) for s in (5, 6)
    )
    joined.set_weights(first.get_weights() + second.get_weights())
    for number, network in enumerate((first, second), start=1):
        found = joined.get_layer(f"member{number}").get_weights()
        for ours, theirs in zip(found, network.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_survives_saving(tmp_path):
    network = COMPACT_CNN.build((None, None, 2), 3, width=8, seed=1)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    image = np.random.default_rng(1).normal(size=(1, 64, 48, 2)).astype("float32")
    np.testing.assert_allclose(
        np.asarray(loaded(image)), np.asarray(network(image, training=False)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("shape", "n_classes", "parameters", "part"),
    [
        ((16, 64, 1), 2, {}, "32 pixels"),
        ((None, None, 1), 1, {}, "n_classes 1"),
        ((None, None, 1), 2, {"width": 10}, "width 10"),
        ((None, None, 1), 2, {"depth": 9}, "depth 9"),
        ((None, None, 1), 2, {"dropout": 1.0}, "dropout 1.0"),
        ((None, None, 1), 2, {"members": 0}, "members 0"),
        ((None, None, 1), 2, {"normalization": "layer"}, "'layer'"),
    ],
)
def test_parameters_out_of_range_are_named(shape, n_classes, parameters, part):
    with pytest.raises(ArchitectureError, match=part):
        COMPACT_CNN.build(shape, n_classes, **parameters)
