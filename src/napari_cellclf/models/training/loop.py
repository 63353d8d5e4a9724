"""One stage of a run: epochs of steps, validated and saved; stopped and resumed at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.metrics import METRICS
from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.errors import CancelledError, TrainingError
from napari_cellclf.inference.engine_library import is_exhausted, or_exhausted
from napari_cellclf.models.training.reporter import Keeper, Reporter, StepReport
from napari_cellclf.models.training.trainer import learning_rate
from napari_cellclf.models.training.validation import RECORDED, Validation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.models.training.head_trainer import HeadTrainer
    from napari_cellclf.models.training.minibatches import Batches
    from napari_cellclf.models.training.trainer import Trainer

#: By how much the rate is lowered, once, after a loss that became NaN.
_LOWERED = 0.1


@dataclass
class LoopState:
    """The progress of a stage; with the trainer's arrays, everything the next step depends on."""

    #: Which.
    stage: str
    #: Smaller than configured if the memory did not suffice.
    batch_size: int
    epoch: int = 0
    step: int = 0
    #: 1, or less after a loss that became NaN.
    rate_factor: float = 1.0
    best: float | None = None
    #: 0 for the weights that the stage began with.
    best_epoch: int | None = None
    #: The monitored metric before the first step, where it was measured.
    before: float | None = None
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0
    #: A record of each epoch that was finished.
    history: list[dict[str, Any]] = field(default_factory=list)
    #: Whether no epoch is left.
    finished: bool = False


@dataclass(frozen=True)
class Stage:
    """What one stage does."""

    #: Which.
    name: str
    #: At most.
    epochs: int
    #: The largest.
    learning_rate: float
    #: Whether the network can predict already, so that an epoch has to be better to be kept.
    improves: bool = False


class _NotFinite(Exception):
    """A loss or a weight has become NaN or infinite."""


class TrainingLoop:
    """Trains a network through one stage."""

    def __init__(
        self,
        stage: Stage,
        trainer: Trainer | HeadTrainer,
        make_batches: Callable[[int], Batches],
        validation: Validation | None,
        config: TrainingConfig,
        *,
        keeper: Keeper,
        reporter: Reporter,
        should_stop: ShouldStop = never_stop,
    ) -> None:
        self._stage = stage
        self._trainer = trainer
        self._make_batches = make_batches
        self._validation = validation
        self._config = config
        self._keeper = keeper
        self._reporter = reporter
        self._should_stop = should_stop
        self._state = LoopState(stage.name, config.batch_size)
        self._best: dict[str, NDArray[Any]] | None = None
        self._best_is_new = False
        self._saved_at = 0.0

    def run(self) -> LoopState:
        """Train until the stage is finished, resuming from its last saved state."""
        if not self._restore():
            self._measure_before()
            self._save()
        while not self._state.finished:
            try:
                self._epoch()
            except _NotFinite:
                self._roll_back()
            except or_exhausted(RuntimeError) as error:
                if not is_exhausted(error):
                    raise
                self._halve_batch(error)
        if self._best is None:
            # Only if they were damaged meanwhile: the last weights are the next best.
            with self._trainer.averaged():
                self._best = _weights(self._trainer.network)
        set_weights(self._trainer.network, self._best)
        return self._state

    def _measure_before(self) -> None:
        """Let the weights that a stage begins with be the first that others must be better than."""
        if self._validation is None or not self._stage.improves:
            return
        network, monitor = self._trainer.network, self._config.monitor
        value = self._validation.measure(network, monitor, self._should_stop)[monitor]
        if math.isfinite(value):
            state = self._state
            state.before, state.best, state.best_epoch = value, self._merit(value), 0
            self._best, self._best_is_new = _weights(network), True

    def _merit(self, value: float) -> float:
        """Return the monitored metric so that more is better."""
        return value if METRICS.get(self._config.monitor).higher_is_better else -value

    def _epoch(self) -> None:
        state = self._state
        batches = self._make_batches(state.batch_size)
        for batch in batches.epoch(state.epoch, state.step):
            done = state.epoch * batches.steps + batch.step
            total = self._stage.epochs * batches.steps
            largest = self._stage.learning_rate * state.rate_factor
            rate = learning_rate(self._config, largest, done, total)
            loss, accuracy = self._trainer.step(batch.inputs, batch.targets, rate)
            if not math.isfinite(loss):
                raise _NotFinite
            state.step += 1
            state.loss_sum += loss
            state.accuracy_sum += accuracy
            self._reporter.step(self._report(done + 1, total))
            self._stop_or_save()
        self._finish_epoch(rate=self._rate_at(batches))
        if time.monotonic() - self._saved_at > self._config.checkpoint_seconds or state.finished:
            self._save()

    def _finish_epoch(self, rate: float) -> None:
        """Validate, compare with the best epoch, and record."""
        state = self._state
        record: dict[str, Any] = {
            "stage": state.stage,
            "epoch": state.epoch + 1,
            "epochs": self._stage.epochs,
            "loss": state.loss_sum / max(state.step, 1),
            "accuracy": state.accuracy_sum / max(state.step, 1),
            **dict.fromkeys(f"validation_{name}" for name in RECORDED),
            "learning_rate": rate,
        }
        if self._validation is not None:
            record |= self._validate(self._validation)
        state.history.append(record)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum = state.accuracy_sum = 0.0
        state.finished = state.epoch >= self._stage.epochs or self._has_waited_enough()
        if state.finished and self._best is None:
            # Without validation the last weights are kept.
            with self._trainer.averaged():
                self._best, self._best_is_new = _weights(self._trainer.network), True
            state.best_epoch = state.epoch
        self._reporter.epoch(record)

    def _validate(self, validation: Validation) -> dict[str, float]:
        state, network = self._state, self._trainer.network
        with self._trainer.averaged():
            try:
                # A batch that is too large for training may be too large for validation.
                if state.batch_size < self._config.batch_size:
                    validation = replace(validation, batch_size=state.batch_size)
                values = validation.measure(network, self._config.monitor, self._should_stop)
            except CancelledError:
                stopped = True
            else:
                stopped = False
                value = self._merit(values[self._config.monitor])
                if not math.isfinite(values["loss"]):
                    raise _NotFinite
                # Some metrics have no value where a network predicts one class only.
                if not math.isnan(value) and (state.best is None or value > state.best):
                    state.best, state.best_epoch = value, state.epoch + 1
                    self._best, self._best_is_new = _weights(network), True
        if stopped:
            # With the trained weights, not their means; a resumed run validates the epoch.
            self._stop()
        return {f"validation_{name}": value for name, value in values.items()}

    def _has_waited_enough(self) -> bool:
        state, patience = self._state, self._config.early_stopping
        if not patience or state.best_epoch is None:
            return False
        return state.epoch - state.best_epoch >= patience

    def _stop_or_save(self) -> None:
        if self._should_stop():
            self._stop()
        if time.monotonic() - self._saved_at > self._config.checkpoint_seconds:
            self._save()

    def _stop(self) -> None:
        self._save()
        raise CancelledError(
            f"stopped in epoch {self._state.epoch + 1} of {self._stage.epochs}, after step "
            f"{self._state.step}; start the run again to resume"
        )

    def _save(self) -> None:
        arrays = self._trainer.state()
        if not all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f"):
            raise _NotFinite
        best = self._best if self._best_is_new else None
        self._keeper.save(asdict(self._state), arrays, best)
        self._best_is_new = False
        self._saved_at = time.monotonic()

    def _restore(self) -> bool:
        found = self._keeper.load(self._stage.name)
        if found is None:
            return False
        state, arrays = found
        try:
            self._trainer.restore(arrays)
        except ValueError as error:
            # An earlier version may have trained the same network in another way.
            self._reporter.note(
                f"the saved state does not fit this network ({error}); the stage starts from the "
                "beginning"
            )
            return False
        self._state = LoopState(**state)
        self._best_is_new = False
        self._best = None
        if self._state.best_epoch is not None:
            self._best = self._keeper.load_best(self._stage.name, self._state.best_epoch)
        if self._best is None and not self._state.finished:
            # Were they damaged, the next epoch's are the best there are.
            self._state.best = self._state.best_epoch = None
        self._saved_at = time.monotonic()
        return True

    def _roll_back(self) -> None:
        where = f"epoch {self._state.epoch + 1}"
        lowered = self._state.rate_factor < 1
        self._go_back(self._state.batch_size, _LOWERED)
        rate = self._stage.learning_rate
        if lowered:
            raise TrainingError(
                f"the loss became NaN again in {where}, at a tenth of the learning rate {rate:g}; "
                "lower it further, and look for images with extreme pixels"
            )
        self._reporter.note(
            f"the loss became NaN in {where}; the run went back to epoch {self._state.epoch + 1}, "
            f"step {self._state.step}, and continues at a tenth of the learning rate "
            f"({rate * _LOWERED:g})"
        )

    def _halve_batch(self, error: BaseException) -> None:
        size = self._state.batch_size
        if size == 1:
            raise TrainingError(
                "not even a batch of one image fits into memory; choose a smaller size or crop, "
                "or a smaller architecture"
            ) from error
        self._go_back(size // 2, self._state.rate_factor)
        self._reporter.note(
            f"a batch of {counted(size, 'image')} does not fit into memory; the run continues with "
            f"{self._state.batch_size}"
        )

    def _go_back(self, batch_size: int, rate_factor: float) -> None:
        """Return to the last saved state, with a smaller batch or rate."""
        self._restore()
        state = self._state
        state.rate_factor = rate_factor
        if state.batch_size != batch_size:
            state.batch_size = batch_size
            # Another number of steps makes up the same epoch.
            state.step = 0
            state.loss_sum = state.accuracy_sum = 0.0

    def _rate_at(self, batches: Batches) -> float:
        state = self._state
        total = self._stage.epochs * batches.steps
        done = state.epoch * batches.steps + max(state.step - 1, 0)
        largest = self._stage.learning_rate * state.rate_factor
        return learning_rate(self._config, largest, done, total)

    def _report(self, done: int, total: int) -> StepReport:
        state = self._state
        return StepReport(
            state.stage,
            state.epoch + 1,
            self._stage.epochs,
            done,
            total,
            state.loss_sum / state.step,
            state.accuracy_sum / state.step,
        )


def what_was_kept(state: LoopState, monitor: str) -> str:
    """Say whether a stage made the network better; empty where that was not compared."""
    if state.before is None:
        return ""
    metric = METRICS.get(monitor)
    values = [record[f"validation_{monitor}"] for record in state.history]
    choose = max if metric.higher_is_better else min
    after = choose((value for value in values if math.isfinite(value)), default=math.nan)
    title = f"the {metric.title} of the validation images"
    if state.best_epoch:
        return (
            f"fine-tuning was kept: {title} went from {metric.text(state.before, '')} to "
            f"{metric.text(after, '')} (epoch {state.best_epoch})"
        )
    return (
        f"fine-tuning was not kept: {title} was {metric.text(state.before, '')} before it, and "
        f"{metric.text(after, '')} at best after it"
    )


def set_weights(network: Any, kept: Mapping[str, NDArray[Any]]) -> None:
    """Give a network the weights that a loop saved."""
    network.set_weights([kept[name] for name in sorted(kept)])


def _weights(network: Any) -> dict[str, NDArray[Any]]:
    return {f"{i:05d}": np.array(weight) for i, weight in enumerate(network.get_weights())}
