"""The loop on patterns that it learns within seconds: exact resume, stops, and what goes wrong."""

import itertools

import numpy as np
import pytest
from training_patterns import config, labelled, material, small

from napari_cellclf.errors import CancelledError, TrainingError
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.loop import Stage, TrainingLoop, what_was_kept
from napari_cellclf.models.training.minibatches import Batches, soft_targets
from napari_cellclf.models.training.reporter import MemoryKeeper, Silent
from napari_cellclf.models.training.stages import TrainingData, train_network
from napari_cellclf.models.training.trainer import Trainer, learning_rate
from napari_cellclf.models.training.validation import Validation

VARIED = AugmentationConfig.off(flips="horizontal", noise=0.2, shift=0.1, cutout=0.5)


class Told(Silent):
    def __init__(self):
        self.steps, self.epochs, self.notes = [], [], []

    def step(self, report):
        self.steps.append(report)

    def epoch(self, record):
        self.epochs.append(record)

    def note(self, message):
        self.notes.append(message)


def stop_after(count):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) >= count

    return stop


def same(first, second):
    return all(
        np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True)
    )


def test_learns_two_patterns_and_keeps_the_best():
    network = small()
    told = Told()
    settings = config(epochs=6, steps_per_epoch=8, learning_rate=2e-2, batch_size=8)
    history = train_network(network, material(), settings, reporter=told).history
    held_out = labelled(seed=2)
    answers = network.predict_on_batch(np.stack(held_out.arrays)).argmax(axis=1)
    assert answers.tolist() == held_out.labels.tolist()
    assert history == told.epochs
    assert history[-1]["loss"] < history[0]["loss"]
    assert [(step.done, step.total) for step in told.steps] == [(n + 1, 48) for n in range(48)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.8, "mixup": 0.3, "augmentation": VARIED},
        {"optimizer": "sgd", "balance": "class-weights", "crop": None},
    ],
)
def test_a_training_that_was_stopped_ends_with_the_same_weights(changes):
    settings = config(**changes)
    whole = small()
    history = train_network(whole, material(), settings).history
    keeper, stops = MemoryKeeper(), 0
    while True:
        # A new network each time, as in a new process.
        network = small()
        try:
            again = train_network(
                network, material(), settings, keeper=keeper, should_stop=stop_after(7)
            ).history
            break
        except CancelledError:
            stops += 1
    assert stops >= 2
    assert same(whole, network)
    assert history == again


def test_stops_within_one_batch():
    told = Told()
    with pytest.raises(CancelledError, match="epoch 1 of 3, after step 2"):
        train_network(small(), material(), config(), reporter=told, should_stop=stop_after(2))
    assert len(told.steps) == 2


def test_running_means_are_kept_without_validation():
    networks = small(), small()
    for network, momentum in zip(networks, (0.0, 0.95), strict=True):
        train_network(network, material(validation=False), config(ema=momentum))
    start = small().get_weights()[0]
    moved = [np.abs(network.get_weights()[0] - start).max() for network in networks]
    assert 0 < moved[1] < moved[0]


def test_early_stopping_waits_as_long_as_asked():
    settings = config(epochs=20, steps_per_epoch=1, learning_rate=1e-9, early_stopping=2)
    history = train_network(small(), material(), settings).history
    best = int(np.argmin([record["validation_loss"] for record in history])) + 1
    assert len(history) == min(best + 2, 20)


def test_a_stage_that_only_makes_a_network_worse_leaves_it_as_it_was():
    network = small()
    train_network(network, material(), config(epochs=6, learning_rate=2e-2))
    before = small()
    before.set_weights(network.get_weights())
    loop = improving_loop(network, config(epochs=3, learning_rate=10.0))
    state = loop.run()
    assert state.best_epoch == 0
    assert len(state.history) == 3
    assert same(network, before)
    assert what_was_kept(state, "loss").startswith("fine-tuning was not kept: the")


def test_a_stage_that_makes_a_network_better_is_kept():
    network = small()
    before = network.get_weights()[0].copy()
    state = improving_loop(network, config(epochs=4, learning_rate=2e-2)).run()
    assert state.best_epoch > 0
    assert not np.array_equal(network.get_weights()[0], before)
    losses = [record["validation_loss"] for record in state.history]
    assert min(losses) < state.before
    assert what_was_kept(state, "loss").startswith("fine-tuning was kept: the")


def test_a_stage_from_random_weights_has_nothing_to_be_better_than():
    trained = train_network(small(), material(), config(epochs=1))
    assert trained.fine_tuning == ""


def improving_loop(network, settings):
    labelled_arrays, held_out = material().train, material().validation
    targets = soft_targets(2)

    def batches(size):
        return Batches(labelled_arrays.arrays, labelled_arrays.labels, targets, size, seed=0)

    return TrainingLoop(
        Stage("network", settings.epochs, settings.learning_rate, improves=True),
        Trainer(network, settings, batches(4).input_shape, None, network),
        batches,
        Validation(held_out.arrays, held_out.labels),
        settings,
        keeper=MemoryKeeper(),
        reporter=Silent(),
    )


def not_finite_at(monkeypatch, *calls):
    real, count = Trainer.step, []

    def step(self, inputs, targets, rate):
        count.append(rate)
        loss, accuracy = real(self, inputs, targets, rate)
        return (float("nan"), accuracy) if len(count) in calls else (loss, accuracy)

    monkeypatch.setattr(Trainer, "step", step)
    return count


def test_a_loss_that_is_no_number_is_undone_once_at_a_lower_rate(monkeypatch):
    rates = not_finite_at(monkeypatch, 6)
    told = Told()
    settings = config(schedule="constant", warmup=0.0)
    network = small()
    train_network(network, material(), settings, reporter=told)
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-3)
    assert "tenth of the learning rate" in told.notes[0]
    assert all(np.isfinite(weight).all() for weight in network.get_weights())


def test_a_loss_that_is_no_number_twice_ends_the_training(monkeypatch):
    not_finite_at(monkeypatch, 2, 4)
    keeper = MemoryKeeper()
    with pytest.raises(TrainingError, match="the loss became NaN again in epoch 1"):
        train_network(small(), material(), config(), keeper=keeper)
    _, arrays = keeper.load("network")
    assert all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f")


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    real, sizes = Trainer.step, []

    def step(self, inputs, targets, rate):
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise MemoryError
        return real(self, inputs, targets, rate)

    monkeypatch.setattr(Trainer, "step", step)
    told = Told()
    train_network(small(), material(), config(epochs=1), reporter=told)
    assert sizes == [4, 2, 2, 2, 2]
    assert "continues with 2" in told.notes[0]


def test_not_even_one_image_fits(monkeypatch):
    def step(self, inputs, targets, rate):
        raise MemoryError

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(TrainingError, match="not even a batch of one image"):
        train_network(small(), material(), config())


def test_a_head_needs_a_backbone(tmp_path):
    network = build_network(
        "compact-cnn", input_shape=(None, None, 1), n_classes=2, width=8, depth=2, members=2
    )
    with pytest.raises(TrainingError, match="head_epochs=0"):
        train_network(network, material(), config(head_epochs=1), features_folder=tmp_path)


def test_other_errors_are_not_hidden(monkeypatch):
    def step(self, inputs, targets, rate):
        raise RuntimeError("something else")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(RuntimeError, match="something else"):
        train_network(small(), TrainingData(labelled()), config())


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_rate_rises_then_falls_or_stays(schedule):
    settings = config(schedule=schedule, warmup=0.1)
    rates = [learning_rate(settings, 1.0, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[10] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0 if schedule == "cosine" else 1.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
