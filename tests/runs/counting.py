"""A training loop whose trainer is arithmetic, so that hundreds of them run in a second.

Its weights depend on every input, target and rate in order, so that one step too many, too few or
in another place gives other weights.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.loop import LoopState, Stage, TrainingLoop
from napari_cellclf.models.training.minibatches import Batches
from napari_cellclf.models.training.reporter import Silent
from napari_cellclf.models.training.validation import Validation
from napari_cellclf.runs.checkpoints import DiskKeeper

EPOCHS = 3
LABELS = np.arange(12) % 2
IMAGES = [np.full((8, 8, 1), n / 12, np.float32) for n in range(12)]
CONFIG = TrainingConfig(epochs=EPOCHS, batch_size=4, learning_rate=0.1, checkpoint_seconds=1e-9)


class Network:
    """Two numbers, and the two probabilities that they mean."""

    output_shape = (None, 2)

    def __init__(self) -> None:
        self.weights = np.array([0.3, -0.2])

    def get_weights(self) -> list[np.ndarray]:
        return [self.weights.copy()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        (self.weights,) = (np.array(weight) for weight in weights)

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        right = 1 / (1 + np.exp(-images.mean((1, 2, 3)) * self.weights[0] - self.weights[1]))
        return np.stack([1 - right, right], axis=1)


class Trainer:
    """Takes steps; `trouble` may return a loss, or raise, before one."""

    def __init__(self, trouble: Callable[[int, int, float], float | None] | None = None) -> None:
        self.network = Network()
        self.taken = 0
        self._trouble = trouble or (lambda size, taken, rate: None)

    def step(self, inputs: np.ndarray, targets: np.ndarray, rate: float) -> tuple[float, float]:
        self.taken += 1
        loss = self._trouble(len(inputs), self.taken, rate)
        self.network.weights = np.sin(self.network.weights * 1.7 + rate * inputs.mean())
        self.network.weights[1] += rate * targets[0, 0]
        if loss is not None:
            self.network.weights[:] = np.nan
        return 0.5 if loss is None else loss, 0.5

    def state(self) -> dict[str, np.ndarray]:
        return {"weights": self.network.weights.copy(), "taken": np.array(self.taken)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.network.weights = state["weights"].copy()
        self.taken = int(state["taken"])

    def averaged(self) -> AbstractContextManager[None]:
        return nullcontext()


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs: list[dict[str, Any]] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def epoch(self, record: Any) -> None:
        self.epochs.append(dict(record))


def train(
    folder: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    trainer: Trainer | None = None,
    reporter: Notes | None = None,
    keeper: DiskKeeper | None = None,
    config: TrainingConfig = CONFIG,
    validated: bool = True,
) -> tuple[LoopState, np.ndarray]:
    """Train as a new process would; return the last state and the weights that are kept."""
    trainer = trainer or Trainer()
    reporter = reporter or Notes()
    loop = TrainingLoop(
        Stage("network", config.epochs, config.learning_rate),
        trainer,
        lambda size: Batches(IMAGES, LABELS, np.eye(2, dtype=np.float32), size, seed=config.seed),
        Validation(IMAGES[:6], LABELS[:6], 2) if validated else None,
        config,
        keeper=keeper or DiskKeeper(folder, reporter.note),
        reporter=reporter,
        should_stop=should_stop,
    )
    return loop.run(), trainer.network.get_weights()[0]


def stop_at(*calls: int) -> Callable[[], bool]:
    """Say yes at some of the times that it is asked, from 0."""
    asked = iter(range(10_000))
    return lambda: next(asked) in calls
