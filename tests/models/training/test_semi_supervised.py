"""Images without labels in a step: the losses by hand, exact resume, and what is refused."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from pydantic import ValidationError
from training_patterns import config, material, small, stripes

from napari_cellclf.errors import CancelledError, TrainingError
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.minibatches import soft_targets
from napari_cellclf.models.training.reporter import MemoryKeeper
from napari_cellclf.models.training.semi_supervised import (
    GanTrainer,
    PseudoLabelTrainer,
    UnlabelledBatches,
    feature_distance,
)
from napari_cellclf.models.training.stages import train_network

VARIED = AugmentationConfig.off(flips=True, noise=0.1)
SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype("float32")
LIKELY = soft_targets(3, label_smoothing=0.2)
needs_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="sgan was written for TensorFlow"
)
KINDS = ["pseudo-label", pytest.param("sgan", marks=needs_tensorflow)]


def asked(kind, **changes):
    return config(semi_supervised=kind, unlabelled="more", augmentation=VARIED, **changes)


def plain_network():
    """A network without anything that differs between training and prediction."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(SHAPE)
    features = keras.layers.Dense(5, "tanh")(keras.layers.Flatten()(inputs))
    outputs = keras.layers.Dense(3, "softmax", kernel_initializer="he_normal")(features)
    return keras.Model(inputs, outputs)


def trainer_of(kind, network):
    settings = asked("pseudo-label" if kind is PseudoLabelTrainer else "sgan", crop=None)
    drawn = UnlabelledBatches(IMAGES[2:], settings, SHAPE)
    # Without augmentation, so that the loss can be computed by hand.
    return kind(network, settings, SHAPE, None, network, drawn, LIKELY), drawn.draw(2, 0)


def cross_entropy(probabilities, targets):
    return -(targets * np.log(probabilities)).sum(axis=1)


def test_only_confident_predictions_are_pseudo_labels():
    network = plain_network()
    weights = network.get_weights()
    drawn = UnlabelledBatches(IMAGES[2:], asked("pseudo-label", crop=None), SHAPE).draw(2, 0)
    # Logits so large that the first drawn image is sure and the second is not.
    logits = network.layers[-2](network.layers[1](drawn)) @ weights[2]
    logits = np.asarray(logits)
    order = np.sort(logits, axis=1)
    assert abs((order[:, -1] - order[:, -2]) @ [1, -1]) > 0.1
    scale = 3.0 / (order[:, -1] - order[:, -2]).max()
    network.set_weights([*weights[:2], weights[2] * scale, weights[3]])
    trainer, drawn = trainer_of(PseudoLabelTrainer, network)
    before = network.predict_on_batch(drawn)
    labelled = network.predict_on_batch(IMAGES[:2])
    targets = LIKELY[[0, 2]]
    pseudo = LIKELY[before.argmax(axis=1)]
    confident = before.max(axis=1) >= 0.95 * LIKELY.max()
    assert sorted(confident.tolist()) == [False, True]
    expected = cross_entropy(labelled, targets) + confident * cross_entropy(before, pseudo)
    loss, accuracy = trainer.step(IMAGES[:2], targets, 1e-3)
    assert loss == pytest.approx(expected.mean(), rel=1e-5)
    assert accuracy == (labelled.argmax(axis=1) == [0, 2]).mean()


@needs_tensorflow
def test_the_discriminator_loss_is_that_of_its_logits():
    network = plain_network()
    trainer, drawn = trainer_of(GanTrainer, network)
    noise = np.random.default_rng([3, 0]).standard_normal((2, 100), np.float32)
    fake = trainer._generator.predict_on_batch(noise)
    assert fake.shape == (2, *SHAPE)

    def summed(images):
        kernel, bias = network.layers[-1].get_weights()
        features = keras.Model(network.input, network.layers[-1].input).predict_on_batch(images)
        return np.log(np.exp(features @ kernel + bias).sum(axis=1))

    def softplus(x):
        return np.log1p(np.exp(x))

    targets = LIKELY[[0, 2]]
    expected = cross_entropy(network.predict_on_batch(IMAGES[:2]), targets).mean()
    real = summed(drawn)
    expected += 0.5 * (softplus(real) - real).mean() + 0.5 * softplus(summed(fake)).mean()
    loss, _ = trainer.step(IMAGES[:2], targets, 1e-3)
    assert loss == pytest.approx(expected, rel=1e-5)


@needs_tensorflow
def test_the_generator_follows_the_features_and_leaves_the_network_alone():
    network = plain_network()
    trainer, drawn = trainer_of(GanTrainer, network)
    player, before = trainer._player, network.get_weights()
    noise = np.random.default_rng(0).normal(size=(2, 100)).astype("float32")
    player.optimizer.learning_rate = 2e-3
    unused = np.zeros((2, 1), "float32")
    distances = [float(player.train_on_batch([drawn, noise], unused)) for _ in range(40)]
    assert distances[-1] < 0.5 * distances[0]
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    features = np.array([[1.0, 2, 0, 5], [3.0, 2, 1, 1]], "float32")
    found = np.asarray(feature_distance(None, features))
    np.testing.assert_allclose(found, [(2 - 0.5) ** 2, (2 - 3.0) ** 2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_stopped_ends_with_the_same_weights(kind):
    settings = asked(kind, ema=0.8, mixup=0.3)
    data = replace(material(), unlabelled=stripes(count=5, seed=5)[0])
    whole = small()
    history = train_network(whole, data, settings).history
    keeper, stops = MemoryKeeper(), 0
    while True:
        network, questions = small(), iter(range(5))
        try:
            again = train_network(
                network,
                data,
                settings,
                keeper=keeper,
                should_stop=lambda numbers=questions: next(numbers, None) is None,
            ).history
            break
        except CancelledError:
            stops += 1
    assert stops >= 2
    assert history == again
    for one, other in zip(whole.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    held_out = data.validation
    answers = network.predict_on_batch(np.stack(held_out.arrays)).argmax(axis=1)
    assert answers.tolist() == held_out.labels.tolist()


def test_each_image_without_a_label_is_drawn_once_in_a_pass():
    arrays = np.arange(6, dtype="float32")[:, None, None, None] * np.ones(SHAPE, "float32")
    drawn = UnlabelledBatches(arrays, asked("sgan", crop=None, batch_size=2), SHAPE)
    passes = [[drawn.draw(2, 3 * n + step)[:, 0, 0, 0] for step in range(3)] for n in range(2)]
    first, second = (np.concatenate(one).tolist() for one in passes)
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second
    np.testing.assert_array_equal(drawn.draw(2, 1), drawn.draw(2, 1))
    assert len(drawn.draw(1, 0)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlabelled": None}, "set unlabelled to their folder"),
        ({"semi_supervised": "none"}, "only if semi_supervised says how"),
        ({"epochs": 0, "head_epochs": 3}, "set epochs to 1 or more"),
        ({"augmentation": AugmentationConfig.off()}, "at least one augmentation"),
        ({"semi_supervised": "sgan", "weights": "imagenet"}, "random weights on one device"),
        ({"semi_supervised": "sgan", "continue_from": "mine"}, "continue no model"),
        ({"semi_supervised": "sgan", "head_epochs": 2}, "head_epochs to 0"),
        ({"semi_supervised": "sgan", "devices": "all"}, "devices to one"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    fields = {"semi_supervised": "pseudo-label", "unlabelled": "more", "augmentation": VARIED}
    TrainingConfig(**fields)
    with pytest.raises(ValidationError, match=message):
        TrainingConfig(**(fields | changes))


@needs_tensorflow
def test_networks_and_images_that_sgan_cannot_do_are_refused():
    data = replace(material(), unlabelled=stripes(count=3)[0])
    mean = build_network("compact-cnn", input_shape=(None, None, 1), n_classes=2, members=2)
    with pytest.raises(TrainingError, match="one dense layer with softmax"):
        train_network(mean, data, asked("sgan"))
    images = stripes(size=136)[0]
    large = replace(data.train, arrays=images)
    with pytest.raises(TrainingError, match="up to 128 x 128 pixels, but these have 136 x 136"):
        train_network(
            small(), replace(data, train=large, unlabelled=images), asked("sgan", crop=None)
        )


def test_images_without_labels_of_another_size_or_none_are_refused():
    data = replace(material(), unlabelled=stripes(size=40)[0])
    with pytest.raises(TrainingError, match=r"have \(40, 40, 1\) pixels and channels, but those"):
        train_network(small(), data, asked("pseudo-label", crop=None))
    with pytest.raises(TrainingError, match="was given no images without labels"):
        train_network(small(), material(), asked("pseudo-label"))
