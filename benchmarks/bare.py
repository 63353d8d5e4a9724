"""A network alone, on one batch that lies on the device: what a pipeline is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

#: Trains or predicts for a number of steps, and waits for the device after the last.
Steps = Callable[[int], None]


def bare(
    network: keras.Model,
    inputs: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
    compiled: bool,
) -> tuple[Steps, Steps]:
    """Return the training and the forward pass of a network; `compiled` is by XLA."""
    network.compile("adamw", "categorical_crossentropy", jit_compile=compiled)
    # Builds the optimizer and all else that Keras makes with the first step.
    network.train_on_batch(inputs, targets)
    backends = {"jax": _jax, "torch": _torch, "tensorflow": _tensorflow}
    on_device = keras.ops.convert_to_tensor
    return backends[keras.config.backend()](network, on_device(inputs), on_device(targets))


def _jax(network: Any, inputs: Any, targets: Any) -> tuple[Steps, Steps]:
    """Return both for JAX, whose state is handed from step to step."""
    import jax

    groups = (
        network.trainable_variables,
        network.non_trainable_variables,
        network.optimizer.variables,
        network.metrics_variables,
    )
    # A copy: the step gives the memory of its state away.
    state = [[variable.value.copy() for variable in group] for group in groups]
    weights = [[variable.value for variable in group] for group in groups[:2]]
    step = jax.jit(network.train_step, donate_argnums=0)
    forward = jax.jit(lambda own, x: network.stateless_call(*own, x, training=False)[0])

    def train(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            _, state = step(state, (inputs, targets))
        jax.block_until_ready(state)

    def predict(steps: int) -> None:
        jax.block_until_ready([forward(weights, inputs) for _ in range(steps)])

    return train, predict


def _torch(network: Any, inputs: Any, targets: Any) -> tuple[Steps, Steps]:
    """Return both for PyTorch."""
    import torch

    def wait() -> None:
        if inputs.is_cuda:
            torch.cuda.synchronize()

    def train(steps: int) -> None:
        for _ in range(steps):
            network.train_step((inputs, targets))
        wait()

    def predict(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                network(inputs, training=False)
        wait()

    return train, predict


def _tensorflow(network: Any, inputs: Any, targets: Any) -> tuple[Steps, Steps]:
    """Return both for TensorFlow; the last answer comes when all before it are computed."""
    import tensorflow as tf

    step = tf.function(network.train_step, jit_compile=network.jit_compile)
    forward = tf.function(lambda x: network(x, training=False), jit_compile=network.jit_compile)

    def train(steps: int) -> None:
        logs = [step((inputs, targets)) for _ in range(steps)]
        logs[-1]["loss"].numpy()

    def predict(steps: int) -> None:
        answers = [forward(inputs) for _ in range(steps)]
        answers[-1].numpy()

    return train, predict
