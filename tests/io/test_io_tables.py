from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_cellclf.core.predictions import Predictions
from napari_cellclf.errors import InputError
from napari_cellclf.io.csv_tables import safe_cell
from napari_cellclf.io.tables import (
    PredictionWriter,
    row_sums,
    write_predictions,
)


def predictions(n: int = 3, **metadata: object) -> Predictions:
    raw = np.random.default_rng(0).random((n, 2)).astype(np.float32)
    return Predictions(
        raw / raw.sum(1, keepdims=True),
        ("RPE", "U2OS"),
        tuple(f"{index}.png" for index in range(n)),
        tuple({**metadata} for _ in range(n)),
    )


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    mine = predictions(20, plate=1, well="B02")
    write_predictions(mine, path)
    read = pd.read_csv(path)
    assert list(read.columns) == [
        "image",
        "label",
        "confidence",
        "p_RPE",
        "p_U2OS",
        "plate",
        "well",
    ]
    np.testing.assert_array_equal(
        read[["p_RPE", "p_U2OS"]].to_numpy(np.float32), mine.probabilities
    )
    expected = mine.to_dataframe()
    pd.testing.assert_frame_equal(read, expected, check_dtype=False, check_exact=True)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_comes_back_and_is_no_formula(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    with PredictionWriter(path, ["a"], ["note"]) as writer:
        writer.write({"image": text, "note": text})
    with path.open(newline="", encoding="utf-8") as file:
        row = list(csv.reader(file))[1]
    assert row[0] in (text, f"'{text}")
    assert row[-1] == row[0]
    # Signs and digits alone cannot call anything.
    assert not re.match(r"[=@\t\r\n]|[+-].*[^-+/\d.eE]", row[0])


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_escaped(start: str) -> None:
    assert safe_cell(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"


def test_column_names_are_escaped_too(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(predictions(1, **{"=A1": 1}), path)
    assert path.read_text().splitlines()[0].endswith(",'=A1")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (0.1, "0.1"),
        (-3, "-3"),
        (np.float32(0.1), "0.10000000149011612"),
        (np.int64(7), "7"),
        (True, "True"),
        (None, ""),
        (["w5", "w6"], "w5; w6"),
        ({"a": 1}, '{"a": 1}'),
        (Path("x/y"), "x/y"),
    ],
)
def test_cells(value: object, cell: str) -> None:
    assert safe_cell(value) == cell


def test_rows_are_on_the_disk_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with PredictionWriter(path, ["a"]) as writer:
        for count in range(1, 4):
            writer.write({"image": "x", "label": "a", "confidence": 1.0, "p_a": 1.0})
            assert len(path.read_text().splitlines()) == count + 1


def test_rows_survive_an_error(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"

    def fail() -> None:
        with PredictionWriter(path, ["a"]) as writer:
            writer.write({"image": "x"})
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text().splitlines()[1].startswith("x,")


def test_later_rows_may_bring_columns(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with PredictionWriter(path, ["a"]) as writer:
        writer.write({"image": "=one\nline", "plate": 1})
        writer.write({"image": "two", "minute": 60})
        writer.write({"image": "three", "plate": 2, "minute": 61})
    read = pd.read_csv(path)
    assert read["image"].tolist() == ["'=one\nline", "two", "three"]
    assert read["plate"].fillna(-1).tolist() == [1, -1, 2]
    assert read["minute"].fillna(-1).tolist() == [-1, 60, 61]
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"]


def test_a_name_that_is_not_unicode_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with PredictionWriter(path, ["a"]) as writer:
        writer.write({"image": "x\udcff.png"})
    assert "x\\udcff.png" in path.read_text()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "p.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            write_predictions(predictions(), path)


def test_a_closed_table_takes_no_rows(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "p.csv", ["a"]) as writer:
        pass
    with pytest.raises(InputError, match="closed"):
        writer.write({"image": "x"})


def test_a_table_is_gone_on_with_after_the_rows_that_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with PredictionWriter(path, ["a"], ["note"]) as writer:
        for number in range(4):
            writer.write({"image": f"=line {number}\nof two", "p_a": 0.5, "note": number})
    path.write_bytes(path.read_bytes()[:-9])
    assert len(row_sums(path)) == 3
    kept = row_sums(path)[:2]
    with PredictionWriter(path, ["a"], ["other"], kept_rows=2) as writer:
        writer.write({"image": "new", "p_a": 1.0, "note": "n"})
        # Columns that are added change no sum.
        writer.write({"image": "wide", "p_a": None, "more": "\udcff\r"})
        assert row_sums(path)[:2] == kept
        assert row_sums(path)[3] == writer.sum
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["'=line 0\nof two", "'=line 1\nof two", "new", "wide"]
    assert [row["note"] for row in rows] == ["0", "1", "n", ""]


def test_whole_rows_of_a_table_that_is_not_there_are_none(tmp_path: Path) -> None:
    assert row_sums(tmp_path / "p.csv") == []
    (tmp_path / "p.csv").write_bytes(b"")
    assert row_sums(tmp_path / "p.csv") == []
