"""A head on the frozen features of a backbone, from a table to a calibrated, measured model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagecodecs import png_encode

import napari_cellclf as cc
from napari_cellclf.bundles.backbone_files import file_of
from napari_cellclf.cli import main
from napari_cellclf.core.image import Image
from napari_cellclf.errors import CancelledError, ModelNotFoundError
from napari_cellclf.models.backbones import Backbone, add_backbone, default_backbone
from napari_cellclf.runs.on_backbone import train_on_backbone
from tiny_vit import tiny_vit


@pytest.fixture(autouse=True)
def vit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small attention network that was added as a backbone."""
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))
    path = tmp_path / "vit.onnx"
    path.write_bytes(tiny_vit())
    return add_backbone(path, "vit", source="https://example.org")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Stripes and spots of eight plates; one file cannot be read."""
    random = np.random.default_rng(0)
    lines = ["path,label,plate"]
    for number in range(96):
        y, x = np.mgrid[:40, :40] + random.uniform(0, 20)
        pixels = np.sin(y / 2) > 0 if number % 2 else np.sin(y / 3) * np.sin(x / 3) > 0.3
        noisy = 50 + 150 * pixels + random.normal(0, 8, (40, 40))
        path = tmp_path / f"cell{number:02}.png"
        path.write_bytes(png_encode(noisy.clip(0, 255).astype(np.uint8)))
        lines.append(f"{path.name},{('spots', 'stripes')[number % 2]},P{number // 12}")
    (tmp_path / "cell01.png").write_bytes(b"no image")
    file = tmp_path / "table.csv"
    file.write_text("\n".join(lines))
    return file


def test_the_command_line_trains_measures_and_calibrates(
    table: Path, vit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ["--backbone", "vit", "--group-by", "plate", "--out", str(run)]
    assert main(["train", str(table), *options]) == 0
    said = capsys.readouterr()
    assert "cell01.png is left out" in said.err
    assert "model.cellclf" in said.out
    bundle = cc.ModelBundle.load(run / "model.cellclf")
    spec = bundle.spec
    assert (spec.name, spec.backbone, spec.training.group_column) == ("run", vit, "plate")
    assert [one.role for one in spec.evaluations] == ["test", "validation"]
    assert spec.temperature != 1
    assert spec.unlike is not None
    assert bundle.size_bytes < file_of(vit).stat().st_size
    assert "backbone" in (run / "report" / "report.html").read_text(encoding="utf-8")

    # Whole plates were left out, and what was measured there is what the model predicts.
    with (run / "dataset.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sides = {(row["plate"], row["split"]) for row in rows}
    assert len(sides) == len({plate for plate, _ in sides}) == 8
    test = [row for row in rows if row["split"] == "test"]
    classifier = cc.load_classifier(bundle.path)
    found = classifier.predict([tmp_path / row["path"] for row in test])
    right = np.mean([a == row["label"] for a, row in zip(found.labels, test, strict=True)])
    metrics = json.loads((run / "report" / "metrics.json").read_text())
    told = metrics["evaluations"][0]
    assert told["role"] == "test"
    assert spec.evaluations[0].metrics["accuracy"] == pytest.approx(right)
    assert right > 0.8
    with (run / "report" / "predictions.csv").open(newline="") as file:
        reported = {row["image"]: row for row in csv.DictReader(file) if row["role"] == "test"}
    for row, probabilities in zip(test, found.probabilities, strict=True):
        there = reported[str(tmp_path / row["path"])]
        assert float(there["p_spots"]) == pytest.approx(probabilities[0], abs=1e-3)
    image = cc.read_image(tmp_path / test[0]["path"])
    assert bundle.seen_images().split_of(_hashes(image)) == "test"

    # What is kept of the images is found again, and a folder is not written over.
    assert main(["train", str(table), *options]) == 1
    assert "holds files already" in capsys.readouterr().err


def _hashes(image: Image) -> Any:
    from napari_cellclf.core.seen_images import pixel_hashes

    return pixel_hashes(image)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--epochs", "3"], "--epochs is for training a network, but --backbone trains a head"),
        (["--preset", "fluorescence", "--set", "seed=1"], "--preset, --set is for training a net"),
        (["--split", "leave-one-out"], "--split leave-one-out cannot be used with --backbone"),
        (["--backbone", "dinov2-vits14"], "the backbone dinov2-vits14 is not here; export it"),
        (["--backbone", "compact-cnn"], "compact-cnn has no pretrained weights, so that it is no"),
        (["--backbone", "nobodys"], "there is no backbone 'nobodys' (here: vit); add one with"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str], told: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(
        ["train", str(table), "--backbone", "vit", "--out", str(tmp_path / "run"), *options]
    )
    assert told in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run" / "model.cellclf").exists()


def test_an_architecture_is_trained_from_the_console(table: Path, tmp_path: Path) -> None:
    split = cc.read_dataset(table, group="plate").split(seed=0)
    image = cc.read_image(split.train.paths[0])
    small = default_backbone(image).preprocessing.model_copy(update={"size": (32, 32)})
    backbone = Backbone(
        preprocessing=small, architecture="compact-cnn", parameters={"width": 8}, weights=None
    )
    told: list[str] = []
    done: list[float] = []
    result = train_on_backbone(
        split,
        backbone,
        tmp_path / "run",
        on_note=told.append,
        on_progress=lambda one: done.append(one.done / one.total),
    )
    assert result.evaluation is not None
    assert result.metrics is not None
    assert done[-1] == 1
    assert sum("cell01.png is left out" in one for one in told) == 1
    bundle = cc.ModelBundle.load(result.bundle)
    assert (bundle.spec.architecture.name, bundle.spec.backbone) == ("compact-cnn", None)
    assert cc.load_classifier(result.bundle).predict(image).probabilities.shape == (1, 2)


def test_it_can_be_stopped(table: Path, tmp_path: Path) -> None:
    split = cc.read_dataset(table, group="plate").split(seed=0)
    with pytest.raises(CancelledError):
        train_on_backbone(split, "vit", tmp_path / "run", should_stop=lambda: True)
    with pytest.raises(ModelNotFoundError):
        train_on_backbone(split, "nobodys", tmp_path / "run")
    assert train_on_backbone(split, "vit", tmp_path / "run").bundle.exists()
