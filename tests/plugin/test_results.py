"""What is said about predictions, without a window."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cellclf.bundles.schema import PredictionSetSpec
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.errors import InputError
from napari_cellclf.plugin.classify.choices import ImageChoice, LayerInfo
from napari_cellclf.plugin.classify.job import ImageResult, Summary, image_results
from napari_cellclf.plugin.classify.request import ClassifyRequest, ModelChoice
from napari_cellclf.plugin.classify.results import (
    Results,
    canvas_text,
    layer_summary,
    may_be,
    percent,
    plane_name,
    save_table,
    summary_message,
)

MODEL = ModelChoice("m", "Model M", (ChannelSpec(name="A"),), ("x", "y"))
ROW = ImageResult(
    {"image": "a.png", "label": "y", "confidence": 0.8, "p_x": 0.2, "p_y": 0.8},
    (("y", 0.8), ("x", 0.2)),
)
BAD = ImageResult({"image": "b.png"}, error="b.png is not an image")


def results_of(shape: tuple[int, ...], axes: str, *rows: ImageResult) -> Results:
    """Make predictions to one layer."""
    layer = LayerInfo(1, "layer", shape)
    image = ImageChoice("title", (layer,), axes, ("layer",))
    return Results(ClassifyRequest(MODEL, image, None, (0,)), list(rows))


def test_single_image() -> None:
    results = results_of((4, 5), "YX", ROW)
    assert not results.is_stack
    assert canvas_text(results, 0) == "y  80.0 %\ntitle"
    summary = layer_summary(results)
    assert summary["label"] == "y"
    assert summary["probabilities"] == {"y": 0.8, "x": 0.2}
    assert summary["channels"] == {"A": "layer"}


def test_a_set_of_an_image_unlike_training_promises_nothing() -> None:
    model = replace(MODEL, prediction_sets=PredictionSetSpec(coverage=0.9, threshold=0.1))
    results = results_of((4, 5), "YX", ROW)
    assert may_be(results, replace(ROW, prediction_set=("y", "x"))) == ""
    results = replace(results, request=replace(results.request, model=model))
    row = replace(ROW, prediction_set=("y", "x"))
    assert may_be(results, row) == "one of: y, x (90 %)"
    unlike = replace(row, record=row.record | {"unlike": True})
    assert may_be(results, unlike) == "one of: y, x (not 90 %: unlike anything in training)"
    assert may_be(results, ROW) == ""


def test_an_answer_below_the_threshold_is_called_unsure(tmp_path: Path) -> None:
    prediction = Predictions(
        np.array([[0.4, 0.6]], np.float32), ("x", "y"), ("a.png",), ({"well": "B02"},)
    )
    (unsure,), (sure,), (silent,) = (image_results(prediction, below) for below in (0.7, 0.5, None))
    assert unsure.is_unsure
    assert not sure.is_unsure
    assert "unsure" not in silent.record
    results = results_of((4, 5), "YX", unsure)
    assert canvas_text(results, 0) == "y  60.0 %, unsure\ntitle"
    assert layer_summary(results)["unsure"] is True
    save_table(results, str(tmp_path / "t.csv"))
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header == "image,label,confidence,p_x,p_y,unsure,remarks,well"


def test_stack_finds_rows_by_position() -> None:
    results = results_of((3, 4, 5), "TYX", ROW, BAD)
    assert results.is_stack
    assert results.at((1,)) == 1
    assert results.at((2,)) is None
    assert results.position(1) == (1,)
    assert canvas_text(results, 0) == "y  80.0 %\ntitle: time 0"
    assert canvas_text(results, 1).startswith("not classified")
    assert layer_summary(results)["rows"] == [ROW.record]


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"well": "B02", "site": 1, "plate": 2, "experiment": "RPE-01"}, "RPE-01 Plate2 B02 s1"),
        ({"well": "B02", "site": 1}, "B02 s1"),
        ({"minute": 60, "embryo": 3}, "60 min, embryo 3"),
        ({"image": "folder/c.tif"}, "c.tif"),
    ],
)
def test_rows_are_named_by_what_is_known(record: dict[str, object], name: str) -> None:
    results = Results(
        ClassifyRequest(MODEL, folder="folder"), [ImageResult({"image": "i", **record})]
    )
    assert plane_name(results, 0) == name


@pytest.mark.parametrize("folder", ["/data/screen", "/data/screen/", r"C:\data\screen"])
def test_files_of_a_folder_are_named_by_their_path_in_it(folder: str) -> None:
    slash = "\\" if "\\" in folder else "/"
    image = slash.join([folder.rstrip("/"), "plate 1", "B02_s1_w1.tif"])
    request = ClassifyRequest(MODEL, folder=folder)
    assert plane_name(Results(request, [ImageResult({"image": image})]), 0) == (
        "plate 1/B02_s1_w1.tif"
    )
    elsewhere = Results(request, [ImageResult({"image": "/other/a.tif"})])
    assert plane_name(elsewhere, 0) == "a.tif"


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "> 99.9 %"), (0.0, "< 0.1 %"), (0.5, "50.0 %"), (0.9994, "99.9 %")]
)
def test_percentages_never_claim_certainty(value: float, text: str) -> None:
    assert percent(value) == text


def test_table_leaves_out_what_failed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    save_table(results_of((2, 4, 5), "TYX", ROW, BAD), str(path))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png"]
    with pytest.raises(InputError, match="no row to write"):
        save_table(results_of((2, 4, 5), "TYX", BAD), str(path))


def test_every_end_has_its_sentence() -> None:
    results = results_of((2, 4, 5), "TYX", ROW, BAD)
    assert "Classified 1 image in 2.0 s on CPU" in summary_message(
        results, Summary(1, 0, 1, False, "cpu"), 2.0
    )
    assert "1 could not be" in summary_message(results, Summary(1, 1, 2, False, "cpu"), 2.0)
    none = summary_message(results, Summary(0, 2, 2, False, "cpu"), 2.0)
    assert none.startswith("None of the 2 images")
    assert summary_message(results, Summary(1, 0, 9, True), 2.0).startswith("Stopped: 1 of 9")
    assert "removed" in summary_message(results, Summary(1, 0, 1, False), 1.0, removed=True)
    single = results_of((4, 5), "YX", BAD)
    assert "b.png is not an image" in summary_message(single, Summary(0, 1, 1, False), 1.0)
