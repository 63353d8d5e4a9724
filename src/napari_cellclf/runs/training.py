"""Training in one process, from the images of a run to its model and report; loads Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.schema import EvaluationSpec, TrainingSpec, prediction_sets_of
from napari_cellclf.core.calibration import Calibration, apply_temperature, calibrate
from napari_cellclf.core.counting import counted
from napari_cellclf.core.dataset_report import check_bad
from napari_cellclf.core.evaluation import Evaluation
from napari_cellclf.core.progress import OnProgress, ShouldStop
from napari_cellclf.core.sampling import class_weights
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.errors import CancelledError
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.rebuild import weight_names
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.prepared import items_of, prepare_images
from napari_cellclf.io.rows import RowReader
from napari_cellclf.models.devices import spread_over
from napari_cellclf.models.sample_image import make_test_image
from napari_cellclf.models.save import save_bundle
from napari_cellclf.models.training.measured_precision import settled_precision
from napari_cellclf.models.training.minibatches import Subset
from napari_cellclf.models.training.network import InitialNetwork, in_float32, initial_network
from napari_cellclf.models.training.semi_supervised import check_drawable
from napari_cellclf.models.training.stages import (
    LabelledArrays,
    Trained,
    TrainingData,
    train_network,
)
from napari_cellclf.models.training.validation import predict
from napari_cellclf.reports.mistake_maps import MistakeMaps
from napari_cellclf.reports.report import write_report
from napari_cellclf.runs.describe import facts_of, limits_of, warnings_of
from napari_cellclf.runs.known_images import KnownSplit, fit_unlikeness
from napari_cellclf.runs.resolve import resolve, settled_crop, usual_pixel_size
from napari_cellclf.runs.unlabelled import without_copies

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.core.progress import ShouldStop
    from napari_cellclf.core.unlikeness import Unlikeness
    from napari_cellclf.models.training.config import Settled, TrainingConfig
    from napari_cellclf.runs.checkpoints import DiskKeeper
    from napari_cellclf.runs.folder import RunFolder, RunSpec
    from napari_cellclf.runs.progress_log import RunReporter

#: Images of a split that are left out and are named one by one.
_MOST_TOLD = 10
#: Images of a split, at most, on which it is tried whether the network bears 16 bits.
_TYPICAL = 64
#: Part of the images that may be bad before a run refuses to go on without them.


class Session:
    """Does what a run asks for."""

    def __init__(
        self,
        run: RunFolder,
        spec: RunSpec,
        dataset: Dataset,
        device: str,
        keeper: DiskKeeper,
        reporter: RunReporter,
        should_stop: ShouldStop,
        unlabelled: Dataset | None = None,
    ) -> None:
        self._run = run
        self._spec = spec
        self._config = spec.config
        self._dataset = dataset
        self._device = device
        self._keeper = keeper
        self._reporter = reporter
        self._should_stop = should_stop
        self._splits: dict[str, PreparedSplit] = {}
        self._unlabelled = unlabelled
        #: Of those, prepared.
        self._without_labels: PreparedSplit | None = None

    def train(self) -> tuple[Evaluation, ...]:
        """Prepare, train, evaluate, save and report."""
        preprocessing = self._resolve()
        self._prepare(preprocessing)
        self._reporter.stage("build")
        config = self._config
        with spread_over(config.devices) as count:
            if count > 1:
                self._reporter.note(f"each batch is shared among {count} devices")
            computed = config.changed(precision=self._precision(preprocessing))
            self._stop_if_asked()
            beginning = initial_network(computed, preprocessing, self._dataset.classes)
            trained = train_network(
                beginning.network,
                self._material(),
                config,
                features_folder=cache_folder() / "features",
                keeper=self._keeper,
                reporter=self._reporter,
                should_stop=self._should_stop,
            )
        if trained.fine_tuning:
            self._reporter.note(trained.fine_tuning)
        network = in_float32(_on_one_device(beginning.network, config))
        self._reporter.stage("evaluate")
        calibration = self._calibrate(network)
        evaluations = tuple(
            self._evaluate(network, split, calibration)
            for split in ("test", "validation")
            if split in self._splits
        )
        self._stop_if_asked()
        self._reporter.stage("save")
        unlikeness = self._unlikeness(network)
        self._report(evaluations, trained, preprocessing, network)
        self._stop_if_asked()
        # Last, since it makes the run a finished one.
        self._save(network, preprocessing, beginning, evaluations, calibration, unlikeness)
        return evaluations

    def _stop_if_asked(self) -> None:
        if self._should_stop():
            raise CancelledError(
                "stopped between two parts of the run; start it again to go on from here"
            )

    def _resolve(self) -> Preprocessing:
        """Write down what is trained, once, before anything is."""
        train = self._dataset.train
        crop = settled_crop(train, self._config)
        config, preprocessing = resolve(train.paths, self._config, train.naming, crop, train.planes)
        if config != self._config:
            self._config = config
            self._spec = self._spec.model_copy(update={"config": config})
            self._run.write_spec(self._spec)
        sides = (config.crop,) * 2 if config.crop else preprocessing.size
        if config.semi_supervised == "sgan" and sides is not None:
            check_drawable(sides)
        return preprocessing

    def _precision(self, preprocessing: Preprocessing) -> Settled:
        """Settle in which precision is computed, once, and write it down."""
        if self._spec.precision is None:
            arrays = self._splits["train"].arrays
            found = settled_precision(
                self._config,
                preprocessing,
                self._dataset.classes,
                lambda count: np.stack([np.asarray(arrays[row]) for row in range(count)]),
                len(arrays),
                folder=cache_folder() / "precision",
                note=self._reporter.note,
                should_stop=self._should_stop,
            )
            self._spec = self._spec.model_copy(update={"precision": found})
            self._run.write_spec(self._spec)
        return self._spec.precision or "float32"

    def _prepare(self, preprocessing: Preprocessing) -> None:
        self._reporter.stage("prepare")
        done = 0
        for name in ("train", "validation", "test"):
            split = getattr(self._dataset, name)
            rotations = self._config.fixed_rotations if name == "train" else ()
            if not len(split):
                continue
            self._reporter.part(done)
            self._splits[name] = prepare_split(
                split,
                preprocessing,
                self._config,
                rotations=rotations,
                on_progress=self._reporter.progress,
                should_stop=self._should_stop,
            )
            done += len(split) * (1 + len(rotations))
            if self._splits[name].damaged:
                self._reporter.note(
                    f"{counted(self._splits[name].damaged, f'prepared {name} image')} in the cache "
                    "had been changed or damaged; prepared again"
                )
            bad = self._splits[name].bad
            for path, reason in bad[:_MOST_TOLD]:
                # Most reasons begin with the file's name.
                why = reason.removeprefix(f"{path}: ")
                self._reporter.note(f"{path} is left out: {why}")
            if len(bad) > _MOST_TOLD:
                more = len(bad) - _MOST_TOLD
                self._reporter.note(
                    f"{counted(more, f'more {name} image is', f'more {name} images are')} left "
                    "out; "
                    "see the report"
                )
        if self._unlabelled is not None:
            self._reporter.part(done)
            self._without_labels = self._prepare_unlabelled(self._unlabelled, preprocessing)

    def _prepare_unlabelled(
        self, unlabelled: Dataset, preprocessing: Preprocessing
    ) -> PreparedSplit:
        """Prepare images without labels, and leave out those whose pixels have one."""
        found = prepare_split(
            unlabelled,
            preprocessing,
            self._config,
            on_progress=self._reporter.progress,
            should_stop=self._should_stop,
        )
        labelled = [image for images in self._hashes.values() for image in images]
        kept, told = without_copies(found.hashes, labelled)
        if told:
            self._reporter.note(told)
        return replace(
            found,
            arrays=Subset(found.arrays, kept),
            hashes=tuple(found.hashes[number] for number in kept),
        )

    @property
    def _hashes(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        return {name: split.hashes for name, split in self._splits.items()}

    @property
    def _seen(self) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
        """Hashes of all images by what they are for; what is learned without labels trains, too."""
        more = self._without_labels
        return [*self._hashes.items(), *([] if more is None else [("train", more.hashes)])]

    def _material(self) -> TrainingData:
        train, held_out = self._splits["train"], self._splits.get("validation")
        return TrainingData(
            LabelledArrays(train.arrays, train.labels, train.keys),
            None
            if held_out is None
            else LabelledArrays(held_out.arrays, held_out.labels, held_out.keys),
            ordered=self._dataset.is_ordered,
            unlabelled=None if self._without_labels is None else self._without_labels.arrays,
        )

    def _answers(self, network: keras.Model, split: str) -> np.ndarray[Any, Any]:
        arrays = self._splits[split].arrays
        config = self._config
        return predict(network, arrays, config.batch_size, self._should_stop, config.views)

    def _calibrate(self, network: keras.Model) -> Calibration:
        """Fit temperature and thresholds on the validation images, and on nothing else."""
        if "validation" not in self._splits:
            return Calibration()
        answers, weights = self._answers(network, "validation"), None
        if self._config.balance != "none":
            labels = self._splits["train"].labels
            weights = class_weights(labels, len(self._dataset.classes))
        return calibrate(answers, self._splits["validation"].labels, weights)

    def _evaluate(self, network: keras.Model, split: str, calibration: Calibration) -> Evaluation:
        prepared, rows = self._splits[split], getattr(self._dataset, split)
        return Evaluation.from_probabilities(
            apply_temperature(
                self._answers(network, split), calibration.temperature, calibration.class_offsets
            ),
            prepared.labels,
            self._dataset.classes,
            ids=[rows.ids[row] for row in prepared.rows],
            groups=[str(rows.groups[row]) for row in prepared.rows],
            name=f"{split} {rows.noun}s",
            role=split,
            noun=rows.noun,
            temperature=calibration.temperature,
            unsure_threshold=calibration.unsure_threshold,
            set_threshold=calibration.set_threshold,
            top_k=self._config.top_k,
            failed=prepared.bad,
        )

    def _unlikeness(self, network: keras.Model) -> Unlikeness | None:
        """Learn what training images are like, for images that are unlike them."""
        known = {
            name: self._known(name) for name in ("train", "validation") if name in self._splits
        }
        found, why_not = fit_unlikeness(
            network, self._config, known["train"], known.get("validation"), self._should_stop
        )
        if found is not None and self._dataset.group_column is None:
            # Each image was left out by itself.
            found = replace(found, n_groups=0)
        if why_not:
            self._reporter.note(f"images unlike training will not be flagged: {why_not}")
        return found

    def _known(self, name: str) -> KnownSplit:
        split, dataset = self._splits[name], getattr(self._dataset, name)
        # A rotated image belongs to what it was made of.
        groups = [str(dataset.groups[row] or dataset.ids[row]) for row in split.rows]
        return KnownSplit(split.arrays, groups)

    def _typical(self) -> list[NDArray[np.float32]]:
        """Take images from all over those that were held out, or else from those trained on."""
        names = [name for name in self._splits if name != "train"] or ["train"]
        found = []
        for arrays in (self._splits[name].arrays for name in names):
            found += [arrays[i] for i in range(0, len(arrays), 1 + len(arrays) // _TYPICAL)]
        return found

    def _save(
        self,
        network: keras.Model,
        preprocessing: Preprocessing,
        beginning: InitialNetwork,
        evaluations: tuple[Evaluation, ...],
        calibration: Calibration,
        unlikeness: Unlikeness | None,
    ) -> Path:
        dataset = self._dataset
        counts = dataset.counts().to_dict("index")
        bundle = save_bundle(
            network,
            self._run.bundle,
            preprocessing=preprocessing,
            classes=dataset.classes,
            architecture=beginning.architecture,
            test_image=make_test_image(preprocessing, self._splits["train"].arrays[0].shape[:2]),
            typical=self._typical(),
            seen_images=SeenImages.of(
                (one, split) for split, images in self._seen for image in images for one in image
            ),
            training=TrainingSpec(
                source=self._source,
                counts={str(k): {str(s): int(n) for s, n in v.items()} for k, v in counts.items()},
                group_column=dataset.group_column,
                naming=dataset.naming,
                manifest_sha256=dataset.sha256,
                pixel_size=usual_pixel_size(dataset.train, preprocessing),
                seed=self._config.seed,
                device=self._device[:200],
            ),
            unlikeness=unlikeness,
            views=self._config.views,
            name=self._spec.name,
            title=self._spec.name,
            evaluations=[
                EvaluationSpec(name=e.name, role=e.role, n=len(e), metrics=e.headline())
                for e in evaluations
            ],
            temperature=calibration.temperature,
            class_offsets=calibration.class_offsets,
            unsure_threshold=calibration.unsure_threshold,
            prediction_sets=prediction_sets_of(calibration),
            limits=limits_of(dataset, self._hashes),
        )
        return bundle.path

    @property
    def _source(self) -> str:
        """What was trained on, in words."""
        if self._without_labels is None:
            return self._dataset.source
        more = counted(len(self._without_labels.arrays), "image")
        how = f"and {more} without labels, by {self._config.semi_supervised}"
        return f"{self._dataset.source}; {how}" if self._dataset.source else how

    def _report(
        self,
        evaluations: tuple[Evaluation, ...],
        trained: Trained,
        preprocessing: Preprocessing,
        network: keras.Model,
    ) -> None:
        if not evaluations:
            return
        read = RowReader(self._dataset, preprocessing.object_crop)
        write_report(
            self._run.report,
            evaluations,
            title=self._spec.name,
            read=read,
            explain=MistakeMaps(
                KerasEngine(network),
                lambda: dict(zip(weight_names(network), network.get_weights(), strict=True)),
                preprocessing,
                [spec.name for spec in self._dataset.classes],
                read,
            ),
            history=trained.history,
            dataset_counts=self._dataset.counts(),
            warnings=warnings_of(self._dataset, self._hashes),
            settings=self._config.model_dump(mode="json"),
            facts=facts_of(
                self._spec,
                self._dataset,
                preprocessing,
                self._device,
                trained.fine_tuning,
                0 if self._without_labels is None else len(self._without_labels.arrays),
            ),
        )


def _on_one_device(network: keras.Model, config: TrainingConfig) -> keras.Model:
    """Take a network out of the devices that it was mirrored on."""
    if config.devices == "one":
        return network
    copy = type(network).from_config(network.get_config())
    copy.set_weights(network.get_weights())
    return copy


@dataclass(frozen=True)
class PreparedSplit:
    """The images of one split, ready for a network."""

    #: ``(Y, X, C)`` float32 each; every fixed rotation is one of its own.
    arrays: Subset
    #: Their classes.
    labels: NDArray[np.int64]
    #: Their rows in the split's table.
    rows: NDArray[np.int64]
    #: Names each after its files and preprocessing.
    keys: tuple[str, ...]
    #: Those of the pixels of each one's file (`pixel_hashes`).
    hashes: tuple[tuple[str, ...], ...]
    #: Paths that are left out, and why.
    bad: tuple[tuple[str, str], ...]
    #: How many had been prepared before, and were damaged since.
    damaged: int = 0


def prepare_split(
    split: Dataset,
    preprocessing: Preprocessing,
    config: TrainingConfig,
    *,
    rotations: Sequence[float] = (),
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> PreparedSplit:
    """Prepare the images of a split, or find them prepared.

    `preprocessing`: the one way for their pixels.
    """
    items = items_of(split, rotations)
    prepared = prepare_images(
        items,
        preprocessing,
        frame=config.rotation_frame,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    turns = 1 + len(rotations)
    bad = {number // turns: reason for number, reason in prepared.bad.items()}
    check_bad(split, bad)
    kept = np.array([n for n in range(len(items)) if n // turns not in bad], np.int64)
    rows = kept // turns
    return PreparedSplit(
        Subset(prepared, kept),
        split.labels[rows],
        rows,
        tuple(prepared.keys[number] for number in kept),
        tuple(tuple(prepared.notes[number].split()) for number in kept),
        tuple((split.ids[row], reason) for row, reason in sorted(bad.items())),
        prepared.damaged,
    )
