"""A small head trained in NumPy: step for step what Keras would make of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.models.architectures.transfer import add_head
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.head_trainer import HeadTrainer, is_small_head
from napari_cellclf.models.training.network import split_head
from napari_cellclf.models.training.trainer import Trainer

WIDTH, CLASSES = 7, 3


def make_head(hidden=None, dropout=0.0, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, WIDTH))
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    whole = add_head(
        backbone, CLASSES, name="t", hidden_units=hidden, dropout=dropout, train_backbone=False
    )
    head = split_head(whole)[1]
    for layer in head.layers:
        layer.trainable = True
    return head


def batches(count, seed=0):
    """Features, and targets of which some weigh more than others."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        features = random.normal(0, 3, (8, WIDTH)).astype("f4")
        targets = random.dirichlet(np.ones(CLASSES), 8) * random.uniform(0.2, 3, (8, 1))
        yield features, targets.astype("f4"), float(random.uniform(1e-4, 3e-2))


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("hidden", [None, 5])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_weights_and_losses_are_those_of_keras(optimizer, hidden, ema):
    config = TrainingConfig(optimizer=optimizer, ema=ema, weight_decay=0.05)
    ours = HeadTrainer(make_head(hidden), config)
    theirs = Trainer(make_head(hidden), config, (WIDTH,))
    for batch in batches(25):
        np.testing.assert_allclose(ours.step(*batch), theirs.step(*batch), rtol=2e-4, atol=1e-6)
    found, expected = [], []
    with ours.averaged():
        found = ours.network.get_weights()
    with theirs.averaged():
        expected = theirs.network.get_weights()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)


def test_the_loss_of_a_certain_mistake_is_that_of_keras():
    ours, theirs = (make(make_head(), TrainingConfig(), *shape) for make, shape in KINDS)
    features = np.full((2, WIDTH), 40, "f4") * np.array([[1], [-1]], "f4")
    targets = np.eye(CLASSES, dtype="f4")[[0, 0]]
    for _ in range(3):
        found, expected = (one.step(features, targets, 1e-2) for one in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


KINDS = ((HeadTrainer, ()), (Trainer, ((WIDTH,),)))


@settings(deadline=None, max_examples=20)
@given(at=st.integers(0, 8), dropout=st.sampled_from([0.0, 0.4]), ema=st.sampled_from([0.0, 0.8]))
def test_it_goes_on_from_any_state(at, dropout, ema):
    config = TrainingConfig(ema=ema)
    steps = list(batches(8))

    def train(trainer, part):
        for batch in part:
            trainer.step(*batch)
        return trainer.state()

    whole = train(HeadTrainer(make_head(5, dropout), config), steps)
    begun = train(HeadTrainer(make_head(5, dropout), config), steps[:at])
    other = HeadTrainer(make_head(5, dropout, seed=1), config)
    other.restore(begun)
    for name, array in train(other, steps[at:]).items():
        np.testing.assert_array_equal(array, whole[name])


def test_states_of_another_head_are_refused():
    trainer = HeadTrainer(make_head(), TrainingConfig())
    with pytest.raises(ValueError, match="do not fit the head"):
        trainer.restore(HeadTrainer(make_head(4), TrainingConfig()).state())


def test_dropout_keeps_the_mean_and_drops_its_share():
    trainer = HeadTrainer(make_head(dropout=0.25), TrainingConfig())
    factors = trainer._dropout((400, 500))
    assert set(np.unique(factors)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(factors.mean() - 1) < 0.01


@pytest.mark.parametrize(
    ("hidden", "dropout"), [(None, 0.0), (None, 0.2), (4, 0.0), (4, 0.2)], ids=str
)
def test_heads_that_it_knows(hidden, dropout):
    assert is_small_head(make_head(hidden, dropout))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_heads_that_it_leaves_to_keras(activation, monkeypatch):
    last = keras.layers.Dense(CLASSES, "softmax" if activation == "gelu" else "sigmoid")
    layers = [keras.Input((WIDTH,)), keras.layers.Dense(4, activation), last]
    assert not is_small_head(keras.Sequential(layers))
    monkeypatch.setattr("napari_cellclf.models.training.head_trainer.MOST_WEIGHTS", 10)
    assert not is_small_head(make_head())


@pytest.mark.parametrize(
    "restraint",
    [{"kernel_regularizer": "l2"}, {"activity_regularizer": "l1"}, {"bias_constraint": "max_norm"}],
)
def test_what_else_acts_on_weights_is_left_to_keras(restraint):
    def head(**options):
        inputs = keras.Input((WIDTH,))
        dense = keras.layers.Dense(CLASSES, activation="softmax", **options)
        return keras.Model(inputs, dense(inputs))

    assert is_small_head(head())
    assert not is_small_head(head(**restraint))
