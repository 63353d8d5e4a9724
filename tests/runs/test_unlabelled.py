"""Images without labels in a run: found, kept apart from what is held out, and reported."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from imagecodecs import png_encode

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.seen_images import pixel_hashes
from napari_cellclf.errors import (
    CancelledError,
    DatasetError,
    NoImagesError,
    RunError,
    TrainingError,
)
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.read import read_image
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run
from napari_cellclf.runs.folder import RunFolder
from napari_cellclf.runs.progress_log import read_progress
from napari_cellclf.runs.unlabelled import find_unlabelled, load_unlabelled, without_held_out

CONFIG = TrainingConfig(
    parameters={"width": 8, "depth": 2},
    normalization={"kind": "scale_linear"},
    augmentation=AugmentationConfig.off(flips=True, noise=0.1),
    epochs=2,
    batch_size=4,
    reproducible=True,
    semi_supervised="pseudo-label",
    unlabelled="more",
)


def write(path: Path, level: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).normal(level, 20, (32, 32)).clip(0, 255)
    path.write_bytes(png_encode(pixels.astype(np.uint8)))


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    """Two classes on four plates, and images without labels of the same plates and two more."""
    for number, name in enumerate(("dark", "light")):
        for plate in range(4):
            for well in range(3):
                file = tmp_path / "images" / name / f"plate{plate}" / f"{well}.png"
                write(file, 40 + 90 * number, 100 * number + 10 * plate + well)
    for plate in range(6):
        for well in range(2):
            write(tmp_path / "more" / f"plate{plate}" / f"{well}.png", 80, 500 + 10 * plate + well)
    return tmp_path


def by_plate(folder: Path) -> Dataset:
    data = read_dataset(folder / "images")
    assert data.group_column == "plate"
    sides = {"0": "train", "1": "train", "2": "validation", "3": "test"}
    return data.with_splits([sides[plate] for plate in data.table["plate"]])


def test_images_of_held_out_groups_are_never_learned_from(plates: Path) -> None:
    data = by_plate(plates)
    found = find_unlabelled(data, CONFIG.changed(unlabelled=str(plates / "more")))
    assert found is not None
    assert len(found) == 12
    rest, told = without_held_out(found, data)
    assert set(rest.groups) == {"0", "1", "4", "5"}
    assert told == ("8 images without labels are used; left out: 4 of a plate that is held out")
    everything = find_unlabelled(data, CONFIG.changed(unlabelled=str(plates)))
    assert everything is not None
    rest, told = without_held_out(everything, data)
    assert set(rest.paths).isdisjoint(data.paths)
    assert told.endswith("left out: 24 in the data set with a label, 4 of a plate that is held out")


def test_a_folder_of_one_plate_is_compared_too(plates: Path) -> None:
    data = by_plate(plates)
    with pytest.raises(DatasetError, match=r"no image without a label is left \(2 of a plate"):
        find_unlabelled(data, CONFIG.changed(unlabelled=str(plates / "more" / "plate3")))
    kept = find_unlabelled(data, CONFIG.changed(unlabelled=str(plates / "more" / "plate4")))
    assert kept is not None
    assert set(kept.groups) == {"4"}


def test_images_that_do_not_say_their_group_are_refused_unless_a_table_does(plates: Path) -> None:
    data = by_plate(plates)
    for number in range(3):
        write(plates / "nameless" / f"{number}.png", 80, 900 + number)
    with pytest.raises(DatasetError, match="do not say their plate, so that those that belong"):
        find_unlabelled(data, CONFIG.changed(unlabelled=str(plates / "nameless")))
    table = plates / "table.csv"
    table.write_text("path,Plate\nnameless/0.png,3\nnameless/1.png,7\nnameless/2.png,\n")
    found = find_unlabelled(data, CONFIG.changed(unlabelled=str(table)))
    assert found is not None
    rest, told = without_held_out(found, data)
    assert [Path(path).name for path in rest.paths] == ["1.png"]
    assert "1 of no known plate" in told


def test_what_cannot_be_used_is_refused_before_a_run_is_made(plates: Path, tmp_path: Path) -> None:
    data = by_plate(plates)
    with pytest.raises(NoImagesError, match="does not exist"):
        create_run(data, CONFIG.changed(unlabelled=str(plates / "nowhere")), tmp_path / "run")
    write(plates / "more" / "mask.png", 0, 0)
    objects = data.table.assign(mask=str(plates / "more" / "mask.png"), object="1", y="", x="")
    named = Dataset(objects, data.classes)
    with pytest.raises(DatasetError, match="pseudo-label is for whole images"):
        find_unlabelled(named, CONFIG.changed(unlabelled=str(plates / "more")))
    assert not (tmp_path / "run").exists()


def test_a_list_that_was_edited_or_removed_is_accepted_only_when_told(
    plates: Path, tmp_path: Path
) -> None:
    config = CONFIG.changed(unlabelled=str(plates / "more"))
    run = create_run(by_plate(plates), config, tmp_path / "run")

    def stop() -> bool:
        return True

    with pytest.raises(CancelledError):
        run_training(run.path, should_stop=stop)
    lines = run.unlabelled_file.read_text().splitlines()
    run.unlabelled_file.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(RunError, match=r"unlabelled\.csv is not as it was .* --accept-changes"):
        run_training(run.path, should_stop=stop)
    with pytest.raises(CancelledError):
        run_training(run.path, should_stop=stop, accept_changes=True)
    assert run.spec().changes_accepted
    with pytest.raises(CancelledError):
        run_training(run.path, should_stop=stop)
    run.unlabelled_file.unlink()
    with pytest.raises(RunError, match=r"unlabelled\.csv is not as it was"):
        run_training(run.path, should_stop=stop)


def copy_of_held_out(data: Dataset, folder: Path) -> str:
    """Lay a test image among those without labels, under a name that says nothing."""
    path = data.test.paths[0]
    shutil.copy(path, folder / "copy.png")
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "pseudo-label",
        pytest.param(
            "sgan",
            marks=pytest.mark.skipif(
                keras.config.backend() != "tensorflow", reason="sgan was written for TensorFlow"
            ),
        ),
    ],
)
def test_a_run_that_was_stopped_and_resumed_makes_the_same_model(
    make_images, tmp_path: Path, kind: str
) -> None:
    data = read_dataset(make_images(n=6)).split("random", seed=0)
    for number in range(5):
        write(tmp_path / "more" / f"{number}.png", 80, 700 + number)
    path = copy_of_held_out(data, tmp_path / "more")
    config = CONFIG.changed(unlabelled=str(tmp_path / "more"), semi_supervised=kind)
    whole = create_run(data, config, tmp_path / "whole")
    run_training(whole.path)
    stopped = create_run(data, config, tmp_path / "stopped")
    # What is added later is no part of the run.
    write(tmp_path / "more" / "later.png", 80, 800)
    stops = 0
    # Each time a little later, so that what follows the last checkpoint is reached as well.
    for questions in itertools.count(3, 2):
        left = iter(range(questions))
        try:
            run_training(stopped.path, should_stop=lambda left=left: next(left, None) is None)
        except CancelledError:
            stops += 1
        else:
            break
    assert stops >= 2
    first, second = (ModelBundle.load(one.bundle).weights() for one in (whole, stopped))
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    said_of(whole, kind, path, tmp_path / "more" / "1.png")


def said_of(run: RunFolder, kind: str, held_out: str, other: Path) -> None:
    """Check what log, report, settings and model say of images without labels."""
    notes = [one["message"] for one in read_progress(run.log)[0] if one["event"] == "note"]
    assert "6 images without labels are used" in notes
    left_out = "1 with the pixels of an image that has a label"
    assert f"5 images without labels are used; left out: {left_out}" in notes
    report = json.loads((run.report / "metrics.json").read_text())
    assert report["facts"]["images without labels"] == f"5, used by {kind}"
    assert report["settings"]["semi_supervised"] == kind
    assert run.spec().config.unlabelled == str(other.parent)
    unlabelled = load_unlabelled(run)
    assert unlabelled is not None
    assert len(unlabelled) == 6
    bundle = ModelBundle.load(run.bundle)
    assert bundle.spec.training.source.endswith(f"; and 5 images without labels, by {kind}")
    seen = bundle.seen_images()
    assert seen.split_of(pixel_hashes(read_image(held_out))) == "test"
    assert seen.split_of(pixel_hashes(read_image(str(other)))) == "train"
    # The generator is no part of it.
    assert not any("generator" in name for name in bundle.weights())


def test_images_too_large_to_draw_are_refused_before_any_is_prepared(
    make_images, tmp_path: Path
) -> None:
    root = make_images(n=6)
    config = CONFIG.changed(
        semi_supervised="sgan", unlabelled=str(root / "dark"), size=(160, 150), epochs=1
    )
    data = read_dataset(root)
    half = data.subset(np.arange(len(data)) % 2 == 0).split("random", seed=0)
    run = create_run(half, config, tmp_path / "run")
    with pytest.raises(TrainingError, match="up to 128 x 128 pixels, but these have 160 x 150"):
        run_training(run.path)
    stages = [one for one in read_progress(run.log)[0] if one["event"] == "stage"]
    assert stages == []
