"""Training on objects: from a table to a model that predicts them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.objects import ImageObject, ObjectCrop
from napari_cellclf.errors import DatasetError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.reports.evaluate import evaluate
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.cross_validation import create_folds, report_folds
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.resolve import crop_around, measured_crop, settled_crop

CONFIG = TrainingConfig(
    parameters={"width": 8, "depth": 2},
    normalization={"kind": "scale_linear"},
    epochs=6,
    batch_size=16,
    learning_rate=1e-2,
    label_smoothing=0,
)
SIDE = 160


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Bright and dark discs in eight images."""
    random = np.random.default_rng(0)
    rows = ["path,mask,object,label"]
    yy, xx = np.mgrid[:SIDE, :SIDE]
    for image in range(8):
        pixels = random.normal(90, 8, (SIDE, SIDE))
        mask = np.zeros((SIDE, SIDE), np.uint16)
        for number in range(1, 17):
            y, x = 20 + 40 * ((number - 1) // 4), 20 + 40 * ((number - 1) % 4)
            disc = (yy - y) ** 2 + (xx - x) ** 2 <= (8 + number % 5) ** 2
            bright = int(random.integers(2))
            pixels[disc] += 120 * bright - 60
            mask[disc] = number
            rows.append(f"{image}.png,{image}_masks.png,{number},{['dark', 'bright'][bright]}")
        Pillow.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{image}.png")
        Pillow.fromarray(mask).save(tmp_path / f"{image}_masks.png")
    path = tmp_path / "objects.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_model_of_objects_from_a_table(table: Path, tmp_path: Path) -> None:
    data = read_dataset(table).split(seed=0)
    run = create_run(data, CONFIG, tmp_path / "run")
    result = run_training(run.path)
    crop = ObjectCrop(side=42.0)
    spec = ModelBundle.load(result.bundle).spec
    assert spec.input.preprocessing.object_crop == crop
    assert spec.input.preprocessing.size == (42, 42)
    assert RunFolder(run.path).spec().config.object_crop == crop
    assert result.evaluation is not None
    assert result.evaluation.accuracy > 0.95
    assert result.evaluation.ids[0].endswith("[object=1]")
    assert result.evaluation.groups[0].endswith(".png")
    page = (run.report / "report.html").read_text()
    assert "a square of 42 pixels around its centre" in page
    classifier = load_classifier(result.bundle, precision="float32")
    again = evaluate(classifier, load_dataset(run).test)
    np.testing.assert_allclose(again.probabilities, result.evaluation.probabilities, atol=1e-4)
    assert again.ids == result.evaluation.ids
    assert set(evaluate(classifier, load_dataset(run).train).seen_as) == {"train"}
    assert set(again.seen_as) == {"test"}


def test_objects_in_any_order_are_evaluated_in_that_order(table: Path, tmp_path: Path) -> None:
    data = read_dataset(table)
    mixed = data.subset(np.random.default_rng(0).permutation(len(data))).split(seed=0)
    run = create_run(mixed, CONFIG.changed(epochs=1), tmp_path / "run")
    classifier = load_classifier(run_training(run.path).bundle)
    found = evaluate(classifier, mixed)
    assert found.ids == mixed.ids
    assert found.truth.tolist() == mixed.labels.tolist()


def test_cross_validation_leaves_out_whole_images(table: Path, tmp_path: Path) -> None:
    data = read_dataset(table)
    folds = [(str(n), fold) for n, fold in enumerate(data.k_fold(2), 1)]
    for path in create_folds(folds, CONFIG.changed(epochs=1), tmp_path / "folds"):
        run_training(path)
    together = report_folds(tmp_path / "folds", "k-fold")
    assert len(together) == len(data)


def test_a_continued_model_keeps_its_rule_and_sides(table: Path, tmp_path: Path) -> None:
    data = read_dataset(table).split(seed=0)
    first = create_run(
        data, CONFIG.changed(epochs=1, object_crop={"side": 32.0}), tmp_path / "first"
    )
    bundle = run_training(first.path).bundle
    other = read_dataset(table).split(seed=3)
    config = CONFIG.changed(epochs=1, continue_from=str(bundle))
    second = create_run(other, config, tmp_path / "second")
    run_training(second.path)
    before = pd.Series(data.table["split"].values, index=data.ids)
    after = load_dataset(second)
    assert (before[list(after.ids)].values == after.table["split"].values).all()
    assert RunFolder(second.path).spec().config.object_crop == ObjectCrop(side=32.0)


def test_what_does_not_go_together_is_refused_at_once(table: Path, tmp_path: Path) -> None:
    objects = read_dataset(table).split(seed=0)
    whole = tmp_path / "whole.csv"
    whole.write_text("path,label\n" + "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(8)))
    images = read_dataset(whole).split(seed=0)
    with pytest.raises(DatasetError, match="object_crop is for objects"):
        create_run(images, CONFIG.changed(object_crop={"side": 32}), tmp_path / "run")
    with pytest.raises(DatasetError, match="centre and fixed_rotations are for whole images"):
        create_run(objects, CONFIG.changed(centre=0.5), tmp_path / "run")
    with pytest.raises(DatasetError, match="object_crop is off"):
        create_run(objects, CONFIG.changed(object_crop=None), tmp_path / "run")
    run = create_run(images, CONFIG.changed(epochs=1), tmp_path / "images")
    bundle = run_training(run.path).bundle
    assert RunFolder(run.path).spec().config.object_crop is None
    with pytest.raises(DatasetError, match="classifies whole images, but these data are objects"):
        create_run(objects, CONFIG.changed(continue_from=str(bundle)), tmp_path / "run")


def test_a_crop_is_twice_the_usual_object_or_the_distance_of_centres(
    table: Path, tmp_path: Path
) -> None:
    data = read_dataset(table)
    assert measured_crop(data) == ObjectCrop(side=42.0)
    points = tmp_path / "points.csv"
    rows = [f"0.png,{20 + 40 * (n // 4)},{20 + 40 * (n % 4)},a" for n in range(16)]
    points.write_text("path,y,x,label\n" + "\n".join(rows) + "\n")
    assert measured_crop(read_dataset(points)) == ObjectCrop(side=140.0)
    mask = np.zeros((SIDE, SIDE), np.uint16)
    for n in range(16):
        mask[18 + 40 * (n // 4) : 22 + 40 * (n // 4), 18 + 40 * (n % 4) : 22 + 40 * (n % 4)] = n + 1
    Pillow.fromarray(mask).save(tmp_path / "0_masks.png")
    drawn = data.subset(np.arange(16))
    assert measured_crop(drawn) == ObjectCrop(side=140.0)
    assert settled_crop(data, CONFIG.changed(object_crop={"side": 9})) == ObjectCrop(side=9)


def _square(number: int, side: int) -> ImageObject:
    """Return an object of one side, 40 pixels from the one before."""
    centre = (50.0, 40.0 * number)
    return ImageObject(number, centre, (0, 0, side, side))


def test_discs_that_overlap_were_drawn_too() -> None:
    # A third is cut by a neighbour or the border; of a segmentation, the largest is one alone.
    discs = [_square(n, 14 if n % 3 == 0 else 17 + n % 2) for n in range(60)]
    assert crop_around([discs]) == ObjectCrop(side=140.0)
    segmented = [_square(n, 16 + n % 3) for n in range(60)]
    assert crop_around([[*segmented, _square(60, 30)]]) == ObjectCrop(side=34.0)


def test_a_rule_that_cannot_be_with_others_is_refused() -> None:
    with pytest.raises(ValueError, match="leave centre at 1"):
        TrainingConfig(object_crop={"side": 9}, centre=0.5)
    with pytest.raises(ValueError, match=r"use augmentation\.rotation"):
        TrainingConfig(object_crop={"side": 9}, fixed_rotations=(45,))


def test_a_preview_shows_objects_as_the_network_sees_them(table: Path) -> None:
    from napari_cellclf.runs.augmentation_preview import preview_augmentation

    data = read_dataset(table).split(seed=0).train.subset([0, 1, 2])
    found = preview_augmentation(data, CONFIG.changed(object_crop={"side": 40}), count=2)
    assert found.prepared.shape == (3, 40, 40, 1)
    assert found.augmented.shape == (3, 2, 40, 40, 1)


def test_a_search_takes_objects(table: Path, tmp_path: Path) -> None:
    from napari_cellclf.cli import main

    arguments = [
        *("tune", str(table), "--out", str(tmp_path / "search"), "--trials", "1"),
        *("--epochs", "1", "--set", "parameters.width=8", "--set", "parameters.depth=2"),
    ]
    assert main(arguments) == 0
