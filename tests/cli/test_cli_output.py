from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from napari_cellclf.cli.output import JsonLines, Screen, plain
from napari_cellclf.cli.prediction_table import TableFile
from napari_cellclf.core.predictions import Predictions

PREDICTIONS = Predictions(
    np.array([[0.25, 0.75], [1.0, 0.0]], np.float32),
    ("RPE", "HEPG2"),
    ("a.png", "b\n.png"),
    ({"plate": np.int64(1), "minute": float("nan")}, {}),
)


def test_one_json_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines(top_k=1)
    lines.write(PREDICTIONS)
    lines.write_bad("c.png", "damaged")
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "image": "a.png",
        "label": "HEPG2",
        "confidence": 0.75,
        "remarks": [],
        "top": [{"label": "HEPG2", "probability": 0.75}],
        "probabilities": {"RPE": 0.25, "HEPG2": 0.75},
        "metadata": {"plate": 1, "minute": None},
    }
    assert second["image"] == "b\n.png"
    assert third == {"image": "c.png", "error": "damaged"}


def test_the_screen_shows_the_best_classes_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(top_k=3, image_width=8)
    screen.write(PREDICTIONS)
    assert capsys.readouterr().out.splitlines() == [
        "image     1.             2.",
        "a.png     HEPG2   75.0%  RPE     25.0%",
        "b\\n.png   RPE    100.0%  HEPG2    0.0%",
    ]


def test_plain_values() -> None:
    value = {"n": np.float32(2), "a": np.array([1, 2]), "p": Path("x"), "d": date(2023, 8, 11)}
    assert plain(value) == {"n": 2.0, "a": [1, 2], "p": "x", "d": "2023-08-11"}
    assert plain([np.inf, None, True]) == [None, None, True]


def test_unsure_answers_are_marked_if_the_model_has_a_threshold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Screen(top_k=1, image_width=8, unsure_below=0.8).write(PREDICTIONS)
    JsonLines(top_k=1, unsure_below=0.75).write(PREDICTIONS)
    _, first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first.endswith("75.0%  unsure")
    assert second.endswith("100.0%")
    # A confidence at the threshold is sure.
    assert [json.loads(line)["unsure"] for line in (third, fourth)] == [False, False]


def test_the_table_has_a_column_for_unsure_answers(tmp_path: Path) -> None:
    with TableFile(tmp_path / "p.csv", PREDICTIONS.classes, ["plate"], print, 0.8) as table:
        table.write(PREDICTIONS)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:6] == ["image", "label", "confidence", "p_RPE", "p_HEPG2", "unsure"]
    assert [row["unsure"] for row in rows] == ["True", "False"]


def test_prediction_sets_are_written_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions = replace(PREDICTIONS, set_threshold=0.2)
    JsonLines(top_k=1, sets=True).write(predictions)
    JsonLines(top_k=1).write(predictions)
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one.get("prediction_set") for one in documents] == [
        ["HEPG2", "RPE"],
        ["RPE"],
        None,
        None,
    ]
    with TableFile(tmp_path / "p.csv", PREDICTIONS.classes, [], print, sets=True) as table:
        table.write(predictions)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction_set"] for row in rows] == ["HEPG2; RPE", "RPE"]
