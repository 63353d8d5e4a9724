"""The demo's training: read, hold out wells, train, evaluate, save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.metrics import METRICS, Outcomes
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.stains import CELL_TYPES, STAINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image
    from napari_cellclf.core.progress import OnProgress, ShouldStop

ARCHITECTURE = "compact-cnn"
#: Enough for simulated cells; real ones need a larger network and longer training.
PARAMETERS: Mapping[str, Any] = {"width": 24, "depth": 4}
STEPS, BATCH, CROP = 120, 16, 128
SEED = 0
HELD_OUT = 0.25


@dataclass(frozen=True, eq=False)
class Sites:
    """Sites as read from files, all of one split."""

    #: ``"CYX"``, with RxRx1's columns as metadata.
    images: list[Image]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def truth(self) -> NDArray[np.intp]:
        """Class number of each."""
        types = [CELL_TYPES.index(image.metadata["cell_type"]) for image in self.images]
        return np.asarray(types, np.intp)

    @property
    def wells(self) -> list[str]:
        """Well of each, with experiment and plate."""
        return [image.metadata["well_id"] for image in self.images]


def read_sites(folder: Path) -> Sites:
    """Read a plate's sites through the package's readers."""
    from napari_cellclf.io.rxrx1 import find_sites, read_site

    return Sites([read_site(site) for site in find_sites(folder / "images")])


def hold_out_wells(sites: Sites) -> tuple[Sites, Sites]:
    """Set wells of each cell type aside; a well's sites stay together."""
    rng = np.random.default_rng(SEED)
    aside: set[str] = set()
    for cell_type in CELL_TYPES:
        of_type = {
            well
            for well, image in zip(sites.wells, sites.images, strict=True)
            if image.metadata["cell_type"] == cell_type
        }
        wells = rng.permutation(sorted(of_type))
        aside.update(str(well) for well in wells[: round(HELD_OUT * len(wells))])
    held = [image.metadata["well_id"] in aside for image in sites.images]
    pairs = list(zip(sites.images, held, strict=True))
    return Sites([i for i, out in pairs if not out]), Sites([i for i, out in pairs if out])


def make_preprocessing() -> Preprocessing:
    """Say how images become the network's input: all stains, each of zero mean and variance 1."""
    return Preprocessing(channels=tuple(ChannelSpec(name=name) for name in STAINS))


def train_network(sites: Sites, on_progress: OnProgress, should_stop: ShouldStop) -> Any:
    """Train a small network."""
    from napari_cellclf.models.architectures.registry import build_network
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.models.training.reporter import ProgressOnly
    from napari_cellclf.models.training.stages import LabelledArrays, Material
    from napari_cellclf.models.training.stages import train_network as train

    network = build_network(
        ARCHITECTURE,
        input_shape=(None, None, len(STAINS)),
        n_classes=len(CELL_TYPES),
        seed=SEED,
        **PARAMETERS,
    )
    prepare = make_preprocessing()
    config = TrainingConfig(
        epochs=1,
        steps_per_epoch=STEPS,
        batch_size=BATCH,
        crop=CROP,
        balance="oversample",
        learning_rate=2e-3,
        ema=0.9,
        seed=SEED,
    )
    images = [prepare(image) for image in sites.images]
    train(
        network,
        Material(LabelledArrays(images, sites.truth)),
        config,
        reporter=ProgressOnly(on_progress),
        should_stop=should_stop,
    )
    return network


def predict_sites(network: Any, sites: Sites) -> Predictions:
    """Ask the network for each site."""
    from napari_cellclf.inference.keras_engine import KerasEngine

    prepare, engine = make_preprocessing(), KerasEngine(network)
    batches = [sites.images[start : start + BATCH] for start in range(0, len(sites), BATCH)]
    rows = [engine(np.stack([prepare(image) for image in batch])) for batch in batches]
    ids = tuple(image.source or "" for image in sites.images)
    return Predictions(np.concatenate(rows), CELL_TYPES, ids)


def figures(truth: NDArray[np.intp], predictions: Predictions) -> dict[str, float]:
    """Measure answers.

    `truth`: ndarray of int, shape (N,); class numbers.
    """
    outcomes = Outcomes(predictions.probabilities, truth)
    names = ("accuracy", "balanced_accuracy")
    return {name: METRICS.get(name).compute(outcomes) for name in names}


def save_model(
    network: Any, path: Path, training: Sites, held_out: Sites, measured: dict[str, float]
) -> None:
    """Save the network as a bundle that says what it is, and what it is not."""
    from napari_cellclf.bundles.schema import ArchitectureSpec, EvaluationSpec, TrainingSpec
    from napari_cellclf.models.save import save_bundle

    n_wells = len(set(held_out.wells))
    save_bundle(
        network,
        path,
        preprocessing=make_preprocessing(),
        classes=CELL_TYPES,
        architecture=ArchitectureSpec(name=ARCHITECTURE, parameters=dict(PARAMETERS)),
        test_image=training.images[0],
        typical=[make_preprocessing()(image) for image in held_out.images],
        training=TrainingSpec(
            source="simulated by cellclf demo",
            counts=_counts(training=training, held_out=held_out),
            group_column="well_id",
            seed=SEED,
        ),
        evaluations=[
            EvaluationSpec(
                name=f"{n_wells} held-out wells of the same simulated plate",
                role="test",
                n=len(held_out),
                metrics=measured,
            )
        ],
        title="Demo: cell types of simulated images",
        limits=["It was trained on simulated images and knows nothing of real cells."],
        as_zip=True,
    )


def _counts(training: Sites, held_out: Sites) -> dict[str, dict[str, int]]:
    def number(sites: Sites, which: int) -> int:
        return int((sites.truth == which).sum())

    return {
        name: {"train": number(training, which), "test": number(held_out, which)}
        for which, name in enumerate(CELL_TYPES)
    }
