import keras
import numpy as np
import pytest

from napari_cellclf.errors import ArchitectureError, TrainingError
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.training.network import (
    extend_classes,
    in_float32,
    split_head,
    thaw,
    with_learnt_statistics,
)

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")


@pytest.fixture(scope="module")
def lite():
    return build_network(
        "efficientnet-lite0",
        input_shape=(32, 32, 1),
        n_classes=3,
        weights="imagenet",
        hidden_units=8,
        dropout=0.1,
    )


def compact(n_classes=3, members=1):
    return build_network(
        "compact-cnn",
        input_shape=(None, None, 1),
        n_classes=n_classes,
        width=8,
        depth=2,
        members=members,
    )


def answers(network, images=IMAGES):
    return keras.ops.convert_to_numpy(network(images, training=False))


def test_halves_compute_the_whole_and_share_its_weights(lite):
    backbone, head = split_head(lite)
    whole = answers(lite)
    np.testing.assert_allclose(answers(head, answers(backbone)), whole, atol=1e-6)
    last = head.layers[-1]
    kept = last.get_weights()
    last.set_weights([kept[0] * 0, kept[1] * 0])
    np.testing.assert_allclose(answers(lite), 1 / 3, atol=1e-6)
    last.set_weights(kept)


def test_a_network_without_a_head_cannot_be_cut():
    with pytest.raises(TrainingError, match="set head_epochs=0"):
        split_head(compact(members=2))


def test_thaw_changes_the_end_first(lite):
    whole = thaw(lite, 1.0)
    part = thaw(lite, 0.3)
    assert 0 < part < whole
    with_weights = [layer for layer in lite.layers if layer.weights]
    assert [layer.trainable for layer in (with_weights[0], with_weights[-1])] == [False, True]


def test_learnt_statistics_stay_in_training(lite):
    thaw(lite, 1.0)
    fixed = with_learnt_statistics(lite)
    norms = [w for w in lite.non_trainable_weights if "moving" in w.path]
    before = [w.numpy() for w in norms]
    fixed(IMAGES, training=True)
    for old, new in zip(before, norms, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    lite(IMAGES, training=True)
    assert any((old != new.numpy()).any() for old, new in zip(before, norms, strict=True))


@pytest.mark.parametrize("members", [1, 2])
def test_classes_are_added_in_any_order(members):
    old = compact(members=members)
    new = extend_classes(old, ["a", "b", "c"], ["c", "new", "a", "b"])
    before, after = answers(old), answers(new)
    assert after.shape == (2, 4)
    if members == 1:
        # What is known keeps its ratios.
        known = after[:, [2, 3, 0]]
        known = known / known.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(known, before, atol=1e-5)


def test_same_classes_same_network():
    network = compact()
    assert extend_classes(network, ["a", "b", "c"], ["a", "b", "c"]) is network


def test_a_network_that_does_not_end_in_softmax_keeps_its_classes():
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ArchitectureError, match="dense layer with softmax"):
        extend_classes(network, ["a", "b"], ["a", "b", "c"])


def test_mixed_precision_is_saved_as_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = compact()
    finally:
        keras.config.set_dtype_policy(before)
    plain = in_float32(mixed)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    np.testing.assert_allclose(answers(plain), answers(mixed), atol=0.02)
    assert in_float32(plain) is plain
