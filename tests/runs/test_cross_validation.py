"""One run for each part that is held out."""

from __future__ import annotations

import json

import pytest

from napari_cellclf.errors import RunError
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.cross_validation import create_folds, report_folds
from napari_cellclf.runs.folder import RunFolder

CONFIG = TrainingConfig(epochs=1)


@pytest.fixture
def folds(make_images):
    dataset = read_dataset(make_images())
    names = ["=plate 1", "größe/ü", "...", "x" * 200]
    return list(zip(names, dataset.k_fold(4, seed=0), strict=True))


def test_every_image_is_held_out_once(tmp_path, folds):
    runs = [RunFolder(path) for path in create_folds(folds, CONFIG, tmp_path / "out")]
    held_out = [path for run in runs for path in load_dataset(run).test.paths]
    assert len(held_out) == len(set(held_out)) == 24
    assert all(run.spec().config == CONFIG for run in runs)


def test_their_names_are_safe(tmp_path, folds):
    names = [path.name for path in create_folds(folds, CONFIG, tmp_path / "out")]
    assert [name[:8] for name in names] == ["01-plate", "02-gr-e", "03-fold", "04-xxxxx"]
    assert max(map(len, names)) <= 100


def test_those_that_were_begun_are_found_again(tmp_path, folds):
    made = create_folds(folds[:2], CONFIG, tmp_path / "out")
    before = [RunFolder(path).spec() for path in made]
    again = create_folds(folds, CONFIG, tmp_path / "out")
    assert again[:2] == made
    assert [RunFolder(path).spec() for path in made] == before


def test_other_settings_or_images_are_refused(tmp_path, folds):
    create_folds(folds, CONFIG, tmp_path / "out")
    with pytest.raises(RunError, match="begun with other images or settings"):
        create_folds(folds, CONFIG.changed(seed=1), tmp_path / "out")
    with pytest.raises(RunError, match="begun with other images or settings"):
        create_folds([("=plate 1", folds[1][1])], CONFIG, tmp_path / "out")


def test_a_model_to_continue_from_by_a_relative_path(tmp_path, make_images, monkeypatch):
    """What is stored is absolute, and still counts as the same setting."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.weights.h5").write_text("")
    config = CONFIG.changed(weights="weights.weights.h5")
    folds = [("a", read_dataset(make_images()).k_fold(2, seed=0)[0])]
    made = create_folds(folds, config, "out")
    assert RunFolder(made[0]).spec().config.weights == str(tmp_path / "weights.weights.h5")
    assert [path.absolute() for path in create_folds(folds, config, "out")] == made


def test_one_report_holds_every_image_once(tmp_path, make_images):
    dataset = read_dataset(make_images())
    config = CONFIG.changed(batch_size=8, parameters={"width": 8, "depth": 2}, size=(32, 32))
    folds = [(f"part {k}", part) for k, part in enumerate(dataset.k_fold(2, seed=0), start=1)]
    for run in create_folds(folds, config, tmp_path / "out"):
        run_training(run)
    together = report_folds(tmp_path / "out", "k-fold")
    assert sorted(together.ids) == sorted(dataset.paths)
    document = json.loads((tmp_path / "out" / "report" / "metrics.json").read_text())
    assert [(one["role"], one["n"]) for one in document["evaluations"]] == [
        ("k-fold", 24),
        ("k-fold", 12),
        ("k-fold", 12),
    ]
    page = (tmp_path / "out" / "report" / "report.html").read_text()
    assert "each fold by a model that had not seen it" in page
    assert "each group" not in page


def test_folds_of_a_continued_model_count_each_image_once(tmp_path, make_images):
    """Its old test images are on the test side of every fold."""
    dataset = read_dataset(make_images())
    config = CONFIG.changed(batch_size=8, parameters={"width": 8, "depth": 2}, size=(32, 32))
    first = run_training(
        create_run(dataset.split("random", seed=0), config, tmp_path / "first").path
    )
    tested = sorted(first.evaluation.ids)
    continued = config.changed(continue_from=str(first.bundle))
    folds = [(f"part {k}", part) for k, part in enumerate(dataset.k_fold(2, seed=0), start=1)]
    for run in create_folds(folds, continued, tmp_path / "out"):
        run_training(run)
    assert sorted(report_folds(tmp_path / "out", "k-fold").ids) == tested
