"""A batch shared among devices, on two logical processors in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_cellclf.errors import InputError
from napari_cellclf.models import devices

SCRIPT = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from training_patterns import config, labelled, material
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.devices import spread_over
from napari_cellclf.models.training.stages import train_network

def train(devices):
    settings = config(devices=devices, epochs=1, steps_per_epoch=3, crop=None, batch_size=6)
    with spread_over(devices) as count:
        network = build_network(
            "compact-cnn", input_shape=(None, None, 1), n_classes=2, width=8, depth=2,
            normalization="none", dropout=0.0, seed=3,
        )
        history = train_network(network, material(), settings).history
    return count, history

one, alone = train("one")
two, shared = train("all")
assert (one, two) == (1, 2), (one, two)
# The same images and first weights: the same mean loss, until clipping of each half differs.
assert abs(alone[0]["loss"] - shared[0]["loss"]) < 0.1 * alone[0]["loss"], (alone[0], shared[0])
"""


def test_two_devices_train_one_network():
    pytest.importorskip("tensorflow", reason="the virtual devices are TensorFlow's")
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": here, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_one_device_needs_nothing():
    with devices.spread_over("one") as count:
        assert count == 1


def test_torch_cannot_share(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(InputError, match="computes with torch"), devices.spread_over("all"):
        pass
