"""Training on planes of stacks: from a table of labels to a model that predicts them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_cellclf.cli import main
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.label_file import write_label_table
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.reports.evaluate import evaluate
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run, load_dataset
from napari_cellclf.runs.cross_validation import create_folds, report_folds

CONFIG = TrainingConfig(
    parameters={"width": 8, "depth": 2},
    normalization={"kind": "scale_linear"},
    size=(32, 32),
    epochs=6,
    batch_size=8,
    learning_rate=1e-2,
    label_smoothing=0,
)
N_MOVIES, N_TIMES = 6, 8


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Movies whose frames are dark or bright, labelled as on the page Label."""
    random = np.random.default_rng(0)
    book = LabelBook("ada")
    for movie in range(N_MOVIES):
        bright = random.permutation(np.arange(N_TIMES) % 2)
        pixels = random.normal(60, 8, (N_TIMES, 40, 40)) + 100 * bright[:, None, None]
        path = tmp_path / f"{movie}.ome.tif"
        tifffile.imwrite(path, pixels.astype(np.uint8), metadata={"axes": "TYX"})
        for time, one in enumerate(bright.tolist()):
            book.label([f"{path}[t={time}]"], ["dark", "bright"][one])
    path = tmp_path / "labels-for-training.csv"
    write_label_table(path, dict(book.items()))
    return path


def test_a_model_of_planes_from_the_labels(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_dataset(table).split(seed=0)
    run = create_run(data, CONFIG, tmp_path / "run")
    result = run_training(run.path)
    assert result.evaluation is not None
    assert result.evaluation.accuracy > 0.95
    assert set(result.evaluation.ids) == set(data.test.ids)
    assert {Path(group).name for group in result.evaluation.groups} < {
        f"{n}.ome.tif" for n in range(N_MOVIES)
    }
    classifier = load_classifier(result.bundle, precision="float32")
    again = evaluate(classifier, load_dataset(run).test)
    np.testing.assert_allclose(again.probabilities, result.evaluation.probabilities, atol=1e-4)
    assert again.ids == result.evaluation.ids
    assert set(again.seen_as) == {"test"}
    assert set(evaluate(classifier, load_dataset(run).train).seen_as) == {"train"}

    out = tmp_path / "predicted.csv"
    assert main(["predict", str(result.bundle), str(table), "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows.keys() == set(data.ids)
    truth = dict(zip(data.ids, data.table["label"], strict=True))
    assert all(rows[name]["label"] == label for name, label in truth.items())
    whole = classifier.predict([data.paths[0]])
    assert [rows[name]["label"] for name in whole.ids] == list(whole.labels)

    report = tmp_path / "report"
    assert main(["evaluate", str(result.bundle), str(table), "--out", str(report)]) == 0
    assert "[t=" in (report / "predictions.csv").read_text()
    assert main(["data", str(table)]) == 0
    assert "kept together by: path (6 groups)" in capsys.readouterr().out


def test_bad_planes_are_left_out_and_named(table: Path, tmp_path: Path) -> None:
    data = read_dataset(table).split(seed=0)
    bundle = run_training(create_run(data, CONFIG.changed(epochs=1), tmp_path / "run").path).bundle
    with table.open("a") as file:
        file.write("0.ome.tif,t=99,dark,ada,\n0.ome.tif,z=1,dark,ada,\n")
    found = evaluate(load_classifier(bundle), read_dataset(table))
    assert len(found) == N_MOVIES * N_TIMES
    (first, why), (second, other) = found.failed
    assert first.endswith("0.ome.tif[t=99]")
    assert "has no plane t=99" in why
    assert second.endswith("0.ome.tif[z=1]")
    assert "has no axis z" in other


def test_cross_validation_leaves_out_whole_stacks(table: Path, tmp_path: Path) -> None:
    data = read_dataset(table)
    folds = [(str(n), fold) for n, fold in enumerate(data.k_fold(2), 1)]
    for path in create_folds(folds, CONFIG.changed(epochs=1), tmp_path / "folds"):
        run_training(path)
    assert set(report_folds(tmp_path / "folds", "k-fold").ids) == set(data.ids)


def test_a_continued_model_keeps_its_sides_of_planes(table: Path, tmp_path: Path) -> None:
    data = read_dataset(table).split(seed=0)
    first = create_run(data, CONFIG.changed(epochs=1), tmp_path / "first")
    bundle = run_training(first.path).bundle
    config = CONFIG.changed(epochs=1, continue_from=str(bundle))
    second = create_run(read_dataset(table).split(seed=3), config, tmp_path / "second")
    run_training(second.path)
    before = pd.Series(data.table["split"].values, index=data.ids)
    after = load_dataset(second)
    assert (before[list(after.ids)].values == after.table["split"].values).all()


def test_a_search_takes_planes(table: Path, tmp_path: Path) -> None:
    arguments = [
        *("tune", str(table), "--out", str(tmp_path / "search"), "--trials", "1"),
        *("--epochs", "1", "--set", "parameters.width=8", "--set", "parameters.depth=2"),
        *("--set", "size=[32,32]"),
    ]
    assert main(arguments) == 0


def test_statistics_are_those_of_the_planes(table: Path, tmp_path: Path) -> None:
    from napari_cellclf.runs.resolve import preprocessing_of

    data = read_dataset(table)
    config = CONFIG.changed(normalization="fixed")
    found = preprocessing_of(data.paths, config, planes=data.planes).normalization
    pixels = np.stack([tifffile.imread(path) for path in sorted(set(data.paths))])
    assert found.mean == pytest.approx((pixels.mean(),), rel=1e-4)
