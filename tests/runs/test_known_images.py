"""What a run keeps of its images, so that later ones that are unlike them are flagged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.card import model_card
from napari_cellclf.core.image import Image
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run
from napari_cellclf.runs.known_images import KnownSplit, fit_unlikeness

CONFIG = TrainingConfig(
    parameters={"width": 8, "depth": 2},
    normalization={"kind": "scale_linear"},
    augmentation=AugmentationConfig.off(),
    size="own",
    epochs=2,
    batch_size=8,
)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build_network(
        "compact-cnn", input_shape=(None, None, 1), n_classes=2, width=8, depth=2, seed=0
    )


def split(n: int, seed: int, groups: list[str] | None = None) -> KnownSplit:
    arrays = np.random.default_rng(seed).normal(size=(n, 20, 20, 1)).astype(np.float32)
    return KnownSplit(list(arrays), groups or [f"{seed}-{row}" for row in range(n)])


def test_a_run_flags_noise_and_says_in_its_card_what_it_knows(
    make_images: Callable[..., Path], tmp_path: Path
) -> None:
    data = read_dataset(make_images(n=30)).split(seed=0)
    run = create_run(data, CONFIG, tmp_path / "run")
    classifier = load_classifier(run_training(run.path).bundle, own_process=False)
    spec = classifier.bundle.spec
    assert spec.unlike is not None
    n_validation = len(data.validation)
    assert (spec.unlike.n_groups, spec.unlike.n_images) == (0, len(data.train) + n_validation)
    assert spec.unlike.level == pytest.approx(1 / (n_validation + 1))
    card = model_card(spec)
    assert f"{len(data.train) + n_validation} known images" in card
    assert "support a smaller fraction" in card
    assert "## Unlike training\n\nAn image is flagged as unlike training if" in card
    stripes = 255 * (np.indices((32, 32))[1] // 4 % 2)
    usual = list(data.test.paths)
    name = spec.input.preprocessing.channels[0].name
    odd = Image(stripes.astype(np.uint8), "YX", [name])
    flagged = classifier.predict([*usual, odd]).unlike
    assert flagged is not None
    assert flagged[-1]
    assert flagged[:-1].mean() <= 0.5


def test_only_validation_images_choose_the_threshold_of_a_trained_network(
    network: keras.Model,
) -> None:
    groups = ["plate 1"] * 5 + ["plate 2"] * 7
    found, why_not = fit_unlikeness(network, CONFIG, split(30, 0), split(12, 1, groups))
    assert found is not None
    assert not why_not
    assert (found.n_groups, found.n_images, found.level) == (2, 42, pytest.approx(1 / 3))


def test_all_images_choose_the_threshold_of_a_frozen_network(network: keras.Model) -> None:
    frozen = CONFIG.changed(epochs=0, head_epochs=1, weights="imagenet")
    rotated = [f"image {row // 2}" for row in range(30)]
    found, _ = fit_unlikeness(network, frozen, split(30, 0, rotated), None)
    assert found is not None
    assert (found.n_groups, found.n_images) == (15, 30)


def test_without_validation_images_a_trained_network_cannot_tell(network: keras.Model) -> None:
    found, why_not = fit_unlikeness(network, CONFIG, split(30, 0), None)
    assert found is None
    assert "no validation images" in why_not


def test_without_features_it_cannot_tell() -> None:
    inputs = keras.Input((20, 20, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
    network = keras.Model(inputs, keras.layers.Softmax()(pooled))
    found, why_not = fit_unlikeness(network, CONFIG, split(30, 0), split(9, 1))
    assert found is None
    assert "no last dense layer" in why_not


def test_a_network_to_which_all_images_are_the_same_is_saved_all_the_same(
    network: keras.Model,
) -> None:
    black = KnownSplit([np.zeros((20, 20, 1), np.float32)] * 9, [str(row) for row in range(9)])
    found, why_not = fit_unlikeness(network, CONFIG, black, black)
    assert found is None
    assert "same features" in why_not


def test_images_of_several_sizes_are_computed(network: keras.Model) -> None:
    sizes: list[Any] = [np.full((20 + row % 3, 20, 1), row, np.float32) for row in range(12)]
    train = KnownSplit(sizes, [f"train {row}" for row in range(12)])
    found, _ = fit_unlikeness(network, CONFIG, train, split(12, 1))
    assert found is not None
    assert found.n_images == 24


def test_groups_of_a_table_are_left_out_whole(
    make_images: Callable[..., Path], tmp_path: Path
) -> None:
    paths = sorted(make_images(n=24).rglob("*.png"))
    table = pd.DataFrame(
        {
            "path": [str(path) for path in paths],
            "label": [path.parent.name for path in paths],
            "group": [f"plate {int(path.stem) // 4}" for path in paths],
            "split": ["test" if int(path.stem) < 4 else "train" for path in paths],
        }
    )
    table.loc[table["group"].isin(["plate 1", "plate 2", "plate 3"]), "split"] = "validation"
    table.to_csv(tmp_path / "table.csv", index=False)
    data = read_dataset(tmp_path / "table.csv")
    run = create_run(data, CONFIG, tmp_path / "run")
    unlike = ModelBundle.load(run_training(run.path).bundle).spec.unlike
    assert unlike is not None
    assert (unlike.n_groups, unlike.level) == (3, 0.25)
