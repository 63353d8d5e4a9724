"""Batch normalization in one operation is that of Keras, with the same weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from napari_cellclf.models.devices import find_devices
from napari_cellclf.models.training import fused_normalization
from napari_cellclf.models.training.fused_normalization import with_fused_normalization

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow" or find_devices("tensorflow").why_no_gpu is None,
    reason="only TensorFlow on a processor has it",
)

KINDS: dict[str, dict[str, Any]] = {
    "usual": {},
    "without scale": {"scale": False, "momentum": 0.9},
    "without shift": {"center": False, "epsilon": 0.01},
}


def network_of(**settings: Any) -> keras.Model:
    """A small network with a normalization inside, and another inside a network of its own."""
    keras.utils.set_random_seed(0)
    images = keras.Input((9, 8, 3))
    x = keras.layers.Conv2D(6, 3, use_bias=False)(images)
    x = keras.layers.BatchNormalization(**settings)(x)
    x = keras.layers.ReLU()(x)
    inner = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.BatchNormalization()])
    x = keras.layers.GlobalAveragePooling2D()(inner(x))
    return keras.Model(images, keras.layers.Dense(2, dtype="float32")(x))


def batch(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(2, 3, (5, 9, 8, 3)).astype(np.float32)


def trained(network: keras.Model, computed: keras.Model) -> tuple[np.ndarray, list[np.ndarray]]:
    """Take steps with what is computed; return its last answers, and the network's variables."""
    computed.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1]]
    for seed in range(4):
        computed.train_on_batch(batch(seed), targets)
    return np.asarray(computed(batch(9), training=True)), network.get_weights()


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_the_same_steps_as_with_keras(settings: dict[str, Any]) -> None:
    usual = network_of(**settings)
    network = network_of(**settings)
    answers, weights = trained(usual, usual)
    fused_answers, fused_weights = trained(network, with_fused_normalization(network))
    np.testing.assert_allclose(fused_answers, answers, rtol=1e-3, atol=1e-4)
    for one, other in zip(fused_weights, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        network.predict(batch(), verbose=0), usual.predict(batch(), verbose=0), rtol=1e-3, atol=1e-4
    )


def test_the_same_variables_in_the_same_order() -> None:
    network = network_of()
    fused = with_fused_normalization(network)
    assert [id(v) for v in fused.variables] == [id(v) for v in network.variables]
    kinds = [type(layer).__name__ for layer in fused._flatten_layers()]
    assert kinds.count("_FusedNormalization") == 2


def test_in_bfloat16_the_statistics_stay_in_float32() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        usual, network = network_of(), network_of()
    finally:
        keras.config.set_dtype_policy(before)
    answers, weights = trained(usual, usual)
    fused_answers, fused_weights = trained(network, with_fused_normalization(network))
    np.testing.assert_allclose(fused_answers, answers, atol=0.1)
    for one, other in zip(fused_weights, weights, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=0.02, rtol=0.02)


def test_a_frozen_normalization_keeps_its_statistics() -> None:
    network = network_of()
    frozen = network.layers[2]
    frozen.trainable = False
    moving = [np.array(v) for v in frozen.non_trainable_variables]
    other = np.array(network.layers[4].non_trainable_variables[0])
    trained(network, with_fused_normalization(network))
    for before, after in zip(moving, frozen.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(after, before)
    assert not np.array_equal(network.layers[4].non_trainable_variables[0], other)


@pytest.mark.parametrize(
    ("shape", "settings"), [((9, 8, 3), {"axis": 1}), ((9, 3), {}), ((9, 8, 3), {"renorm": True})]
)
def test_other_normalizations_are_left_alone(
    shape: tuple[int, ...], settings: dict[str, Any]
) -> None:
    images = keras.Input(shape)
    network = keras.Model(images, keras.layers.BatchNormalization(**settings)(images))
    fused = with_fused_normalization(network)
    assert type(fused.layers[1]) is keras.layers.BatchNormalization


def test_several_devices_and_other_backends_compute_as_keras_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    with tensorflow.distribute.MirroredStrategy(["CPU:0"]).scope():
        network = network_of()
        assert with_fused_normalization(network) is network
    monkeypatch.setattr(fused_normalization, "chosen_backend", lambda: "jax")
    network = network_of()
    assert with_fused_normalization(network) is network
