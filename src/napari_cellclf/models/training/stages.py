"""The stages of a run: first the head on cached features, then the whole network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.core.sampling import Balance, class_weights
from napari_cellclf.errors import TrainingError
from napari_cellclf.models.training.features import cached_features, pixel_keys
from napari_cellclf.models.training.head_trainer import HeadTrainer, is_small_head
from napari_cellclf.models.training.loop import (
    LoopState,
    Stage,
    TrainingLoop,
    set_weights,
    what_was_kept,
)
from napari_cellclf.models.training.minibatches import Arrays, Batches, Together, soft_targets
from napari_cellclf.models.training.network import (
    restart_random,
    split_head,
    thaw,
    with_learnt_statistics,
)
from napari_cellclf.models.training.reporter import Keeper, MemoryKeeper, Reporter, Silent
from napari_cellclf.models.training.semi_supervised import SEMI_SUPERVISED, UnlabelledBatches
from napari_cellclf.models.training.trainer import Trainer
from napari_cellclf.models.training.validation import Validation

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    from napari_cellclf.models.augmentation.config import AugmentationConfig
    from napari_cellclf.models.training.config import TrainingConfig

#: Batch size of features in validation: a call of Keras takes as long for one as for this many.
_VALIDATION_BATCH = 1024


@dataclass(frozen=True)
class LabelledArrays:
    """Prepared images and their classes."""

    #: ``(Y, X, C)`` float32 each.
    arrays: Arrays
    #: Class numbers.
    labels: NDArray[np.intp]
    #: Identifies each image by everything that its pixels depend on; by default, the pixels.
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingData:
    """What a network is trained and validated on."""

    #: Each fixed rotation is an image of its own.
    train: LabelledArrays
    validation: LabelledArrays | None = None
    #: Whether the classes are ordered.
    ordered: bool = False
    #: Images without labels, prepared in the same way.
    unlabelled: Arrays | None = None


@dataclass(frozen=True)
class Trained:
    """What training a network was like."""

    #: A record of each epoch.
    history: list[dict[str, Any]]
    #: Whether fine-tuning was kept, in a sentence; empty where there was nothing to compare with.
    fine_tuning: str = ""


def train_network(
    network: keras.Model,
    data: TrainingData,
    config: TrainingConfig,
    *,
    features_folder: Path | None = None,
    keeper: Keeper | None = None,
    reporter: Reporter | None = None,
    should_stop: ShouldStop = never_stop,
) -> Trained:
    """Train a network through its stages.

    `network`: prepared images to probabilities ``(N, K)``; trained in place.
    """
    keeper = MemoryKeeper() if keeper is None else keeper
    reporter = Silent() if reporter is None else reporter
    run = _Stages(network, data, config, keeper, reporter, should_stop)
    history: list[dict[str, Any]] = []
    fine_tuning = ""
    if config.head_epochs:
        history += run.head(features_folder or Path("features")).history
    if config.epochs:
        state = run.whole()
        history += state.history
        fine_tuning = what_was_kept(state, config.monitor)
    return Trained(history, fine_tuning)


class _Stages:
    def __init__(
        self,
        network: keras.Model,
        data: TrainingData,
        config: TrainingConfig,
        keeper: Keeper,
        reporter: Reporter,
        should_stop: ShouldStop,
    ) -> None:
        self._network = network
        self._data = data
        self._config = config
        self._keeper = keeper
        self._reporter = reporter
        self._should_stop = should_stop

    def head(self, folder: Path) -> LoopState:
        backbone, head = split_head(self._network)
        finished = self._finished("head", head)
        if finished is not None:
            return finished
        for layer in head.layers:
            layer.trainable = True
        self._reporter.stage("features")
        features, held_out = self._features(backbone, folder)
        validation = None
        if self._data.validation is not None:
            labels = self._data.validation.labels
            validation = Validation(
                held_out, labels, max(self._config.batch_size, _VALIDATION_BATCH)
            )
        stage = Stage("head", self._config.head_epochs, self._config.head_learning_rate)
        return self._run(stage, head, features, validation)

    def _features(
        self, backbone: keras.Model, folder: Path
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute training and validation together, so that both are computed in the same way."""
        config, train = self._config, self._data.train
        held_out = self._data.validation or LabelledArrays([], train.labels[:0])
        features = cached_features(
            backbone,
            Together(train.arrays, held_out.arrays),
            [key for part in (train, held_out) for key in part.keys or pixel_keys(part.arrays)],
            folder=folder,
            exact=config.reproducible or config.precision == "float32",
            batch_size=config.batch_size,
            note=self._reporter.note,
            on_progress=self._reporter.progress,
            should_stop=self._should_stop,
        )
        return features[: len(train.arrays)], features[len(train.arrays) :]

    def whole(self) -> LoopState:
        config = self._config
        network = self._network
        pretrained = config.weights is not None or config.continue_from is not None
        if pretrained or config.head_epochs:
            thaw(network, config.finetune_depth)
        finished = self._finished("network", network)
        if finished is not None:
            return finished
        restart_random(network)
        validation = None
        if self._data.validation is not None:
            held_out = self._data.validation
            validation = Validation(held_out.arrays, held_out.labels, config.batch_size)
        # Random weights are no model yet that another one would have to be better than.
        improves = config.head_epochs > 0 or config.continue_from is not None
        stage = Stage("network", config.epochs, config.learning_rate, improves)
        return self._run(
            stage,
            network,
            self._data.train.arrays,
            validation,
            steps=config.steps_per_epoch,
            crop=config.crop,
            augmentation=config.augmentation,
            learnt_statistics=pretrained and not config.finetune_statistics,
        )

    def _finished(self, stage: str, network: keras.Model) -> LoopState | None:
        """Restore a stage that was finished before, and return its state; None if it was not."""
        found = self._keeper.load(stage)
        if found is None or not found[0]["finished"]:
            return None
        best = self._keeper.load_best(stage, found[0]["best_epoch"])
        if best is None:
            return None
        set_weights(network, best)
        return LoopState(**found[0])

    def _run(
        self,
        stage: Stage,
        network: keras.Model,
        arrays: Arrays,
        validation: Validation | None,
        *,
        steps: int | None = None,
        crop: int | None = None,
        augmentation: AugmentationConfig | None = None,
        learnt_statistics: bool = False,
    ) -> LoopState:
        self._reporter.stage(stage.name)
        make_batches = partial(self._batches, arrays, steps, crop)
        first = make_batches(self._config.batch_size)
        if stage.name == "head" and is_small_head(network):
            trainer: Trainer | HeadTrainer = HeadTrainer(network, self._config)
        else:
            forward = with_learnt_statistics(network) if learnt_statistics else network
            shape = first.input_shape
            trainer = self._trainer(stage, network, shape, augmentation, forward)
        loop = TrainingLoop(
            stage,
            trainer,
            make_batches,
            validation,
            self._config,
            keeper=self._keeper,
            reporter=self._reporter,
            should_stop=self._should_stop,
        )
        return loop.run()

    def _trainer(
        self,
        stage: Stage,
        network: keras.Model,
        shape: tuple[int, ...],
        augmentation: AugmentationConfig | None,
        forward: keras.Model,
    ) -> Trainer:
        config = self._config
        if config.semi_supervised == "none" or stage.name == "head":
            return Trainer(network, config, shape, augmentation, forward)
        if self._data.unlabelled is None:
            raise TrainingError(f"{config.semi_supervised} was given no images without labels")
        kind = SEMI_SUPERVISED[config.semi_supervised]
        drawn = UnlabelledBatches(self._data.unlabelled, config, shape)
        likely = self._targets(weighted=False)
        return kind(network, config, shape, augmentation, forward, drawn, likely)

    def _batches(
        self,
        arrays: Arrays,
        steps: int | None,
        crop: int | None,
        batch_size: int,
    ) -> Batches:
        config = self._config
        weighted = config.balance == "class-weights"
        balance: Balance = "none" if config.balance == "class-weights" else config.balance
        return Batches(
            arrays,
            self._data.train.labels,
            self._targets(weighted=weighted),
            batch_size,
            balance=balance,
            seed=config.seed,
            steps=steps,
            crop=crop,
        )

    def _targets(self, *, weighted: bool) -> NDArray[np.float32]:
        """Return the target of each class."""
        config, labels = self._config, self._data.train.labels
        n_classes = int(self._network.output_shape[-1])
        return soft_targets(
            n_classes,
            label_smoothing=config.label_smoothing,
            ordinal_smoothing=config.ordinal_smoothing if self._data.ordered else 0.0,
            class_weights=class_weights(labels, n_classes) if weighted else None,
        )
